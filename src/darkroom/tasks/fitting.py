"""A plan that shrinks when memory runs out, and what to tell the user about it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from torch import Tensor

from darkroom.core.errors import OutOfMemory
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.engine.plan import MIB, Plan

T = TypeVar("T")


Use = tuple[str, int, int, str]  # what a plan is for: checkpoint (sha256), width, height, tiling


@dataclass(slots=True)
class Fitting:
    """How one job runs on its device; smaller after each time that memory ran out."""

    engine: Engine
    model: Model
    plans: dict[Use, Plan]  # of the job
    use: Use
    notes: list[str] = field(default_factory=list)  # for the user

    @property
    def plan(self) -> Plan:
        """The one that fits, as far as is known."""
        return self.plans[self.use]

    @plan.setter
    def plan(self, plan: Plan) -> None:
        self.plans[self.use] = plan

    def check(self) -> None:
        """Say so when even the smallest plan wants more memory than is free; refuse the absurd."""
        memory = self.engine.device.memory()
        wanted = self.plan.working_bytes
        if wanted > 2 * memory.total:
            raise OutOfMemory(
                f"this needs about {wanted / MIB:,.0f} MiB, and {self.engine.device.title} has"
                f" {memory.total / MIB:,.0f}",
                hint=CURE,
            )
        if wanted > memory.free:
            self.notes.append(
                f"this needs about {wanted / MIB:,.0f} MiB, and {memory.free / MIB:,.0f} are free:"
                " memory may run out"
            )

    def decode(self, latent: Tensor) -> Tensor:
        """A latent (C, H, W) to a picture (8H, 8W, 3) uint8, in tiles if it must be."""
        while True:
            try:
                return self.engine.decode(self.model, latent, plan=self.plan, say=self.notes.append)
            except OutOfMemory as error:
                self.shrink(error, self.plan.smaller_decoding())

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (1, 3, 8H, 8W) in [-1, 1] to a latent (1, C, H, W), in tiles if it must be."""
        while True:
            try:
                return self.engine.encode(self.model, pixels, plan=self.plan, say=self.notes.append)
            except OutOfMemory as error:
                self.shrink(error, self.plan.smaller_decoding())

    def shrink(self, error: OutOfMemory, plan: Plan | None) -> None:
        """Go on with a smaller `plan`.

        Without one it is tried once more with nothing else in memory, then the error is final.
        """
        if plan is None and self.plan.alone:
            error.hint = CURE
            raise error
        self.plan = replace(plan or self.plan, alone=True)
        self.engine.make_room(self.model)
        self.notes.append(f"memory ran out; trying again with {self.plan.describe()}")


def with_room(
    engine: Engine, work: Callable[[], T], *, model: Model | None = None, say: Callable[[str], None]
) -> T:
    """What `work` makes; where memory runs out it is tried again with only `model` in memory.

    For what has no smaller way to be done. `say` is told in words.
    """
    try:
        with engine.device.guard():
            return work()
    except OutOfMemory:
        engine.make_room(model)
        say("memory ran out; trying again with nothing else in it")
    with engine.device.guard():
        return work()


CURE = "Choose a smaller width and height, or close other programs."
