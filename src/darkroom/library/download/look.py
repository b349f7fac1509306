"""What is arriving, said from its first bytes: before six gigabytes are fetched for nothing.

A safetensors file says in front what it holds, so it can be judged as soon as its header is here.
A zip or pickle has its table at the end and is judged then. Anything else is no model.
"""

import os
import tempfile
from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.core.model import Kind
from darkroom.weights import foreign
from darkroom.weights.detect import Identity, detect, identify
from darkroom.weights.header import LENGTH, MAX_HEADER, Header, read_header

_PICTURES = (b"\x89PNG", b"RIFF")


class Look:
    """Judges the file arriving at `part`, which messages call `name`."""

    def __init__(self, part: Path, name: str, kind: Kind | None) -> None:
        self._part, self._name = part, name
        self._kind = kind  # as the user or the page says
        self.done = False
        self.identity: Identity | None = None
        self.form = ""  # of the container: "safetensors", "pickle"
        self.problem = ""  # why this version cannot run the model, if it cannot

    @property
    def kind(self) -> Kind:
        """What the file is used as: as it was said to be, else as it looks."""
        return self._kind or (self.identity.kind if self.identity else Kind.UNKNOWN)

    @property
    def knows_kind(self) -> bool:
        """Whether `kind` is certain by now; of a pickle it is not before the end."""
        return self._kind is not None or self.identity is not None

    @property
    def label(self) -> str:
        """What it is called: "an SDXL checkpoint"."""
        return self.identity.label if self.identity else ""

    def early(self, done: int, total: int | None) -> None:
        """Judge by the first `done` of `total` bytes, if they are enough; BadFile if no model."""
        if self.done or done < min(foreign.HEAD if total is None else total, foreign.HEAD):
            return
        head = self._head()
        if foreign.is_pickle(head) or self._is_picture(head):
            self.done = True  # until the end
            return
        length = int.from_bytes(head[:LENGTH], "little")
        if head[LENGTH : LENGTH + 1] != b"{" or length >= 2**40:
            raise foreign.not_a_model(Path(self._name), head, done if total is None else total)
        if total is not None and done >= min(total, LENGTH + min(length, MAX_HEADER)):
            self._judge_sparse(min(done, LENGTH + length), total)

    def late(self) -> None:
        """Judge the whole file or folder; BadFile if it is no model."""
        if self._part.is_dir() or not self._is_picture(self._head()):
            self._judge(self._part)

    def _head(self) -> bytes:
        with self._part.open("rb") as file:
            return file.read(foreign.HEAD)

    def _is_picture(self, head: bytes) -> bool:
        return self._kind is Kind.EMBEDDING and head.startswith(_PICTURES)

    def _judge_sparse(self, length: int, total: int) -> None:
        """Judge a file that has the header and, behind it, a hole as long as the data."""
        with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
            copy = Path(folder, "header")
            try:
                with self._part.open("rb") as file:
                    copy.write_bytes(file.read(length))
                os.truncate(copy, total)
            except OSError:  # a disk without holes, and without room
                self.done = True
                return
            self._judge(copy)

    def _judge(self, path: Path) -> None:
        self.done = True
        try:
            header = read_header(path)
        except BadFile as error:
            raise BadFile(str(error).replace(str(path), self._name), hint=error.hint) from None
        self.form, self.identity = header.form, identify(header)
        if self.identity.kind is Kind.CHECKPOINT:
            self.problem = self._refusal(header)

    def _refusal(self, header: Header) -> str:
        try:
            detect(header)
        except BadFile as error:
            return error.sentence().replace(str(header.path), self._name)
        return ""
