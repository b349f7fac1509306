"""What is wrong with a pickle, before anybody knows its file: `read` makes a BadFile of it."""

from darkroom.weights.foreign import AGAIN


class Fault(ValueError):
    """`what` goes on from the file's name: "is damaged: its records overlap"."""

    def __init__(self, what: str, *, hint: str = AGAIN) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def damage(why: str) -> Fault:
    """The file is not what was once written."""
    return Fault(f"is damaged: {why}")
