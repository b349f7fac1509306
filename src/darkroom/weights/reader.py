"""Tensors of a model as views over its mapped files: nothing is copied.

    with open_tensors(header) as file:
        weight = file.tensor("model.diffusion_model.out.2.weight")

The mapping is private: writing to a view changes the process's own page and never the file. It is
closed at the end of the block, or, if views were kept, when the last of them is gone.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.weights import foreign
from darkroom.weights.header import Header, TensorInfo

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "BOOL": torch.bool,
}  # fmt: skip


class MappedFile:
    """The tensors of one model, its files mapped. Made by `open_tensors`."""

    def __init__(self, header: Header) -> None:
        self.header = header
        try:
            self._maps = [_map(path) for path in header.files]
        except ValueError:  # an empty file
            self._maps = []
        if sum(map(len, self._maps)) != header.size:
            raise BadFile(f"{header.path} changed while it was read", hint="Try again.")
        # torch keeps whatever object it is given alive, but only a memoryview keeps the map open
        self._views = [memoryview(each) for each in self._maps]

    def tensor(self, name: str) -> Tensor:
        """A view of one tensor in the file's own dtype and shape."""
        info = self.header.tensors[name]
        if info.dtype not in DTYPES:
            raise BadFile(f"{self.header.path}: torch has no type {info.dtype}, as {name} needs")
        flat = self._flat(info)
        if info.strides is None:
            return flat.view(info.shape)
        return flat.as_strided(info.shape, info.strides)

    def release(self, name: str) -> None:
        """Give back the pages that lie wholly in this tensor; reading it again loads them again."""
        info = self.header.tensors[name]
        start = -(-info.start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = info.end // mmap.PAGESIZE * mmap.PAGESIZE - start
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._maps[info.file].madvise(mmap.MADV_DONTNEED, start, length)

    def close(self) -> None:
        """Unmap, unless views are still alive: then the last of them does it."""
        del self._views
        for each in self._maps:
            with suppress(BufferError):
                each.close()

    def _flat(self, info: TensorInfo) -> Tensor:
        """The elements from the tensor's first to its last, in the order of the file."""
        dtype, view = DTYPES[info.dtype], self._views[info.file]
        if info.bytes == 0:
            return torch.empty(0, dtype=dtype)
        if info.start % dtype.itemsize == 0:
            count = info.bytes // dtype.itemsize
            return torch.frombuffer(view, dtype=dtype, count=count, offset=info.start)
        flat = torch.frombuffer(view, dtype=torch.uint8, count=info.bytes, offset=info.start)
        return flat.clone().view(dtype)  # misaligned: the one case that is copied


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


@contextmanager
def open_tensors(header: Header) -> Iterator[MappedFile]:
    """Map the file for the length of a block."""
    try:
        file = MappedFile(header)
    except OSError as error:
        raise foreign.unreadable(header.path, error) from error
    try:
        yield file
    finally:
        file.close()
