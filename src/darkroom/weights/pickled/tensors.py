"""What pickles call to rebuild tensors, as places in the file.

    tensor_of(made, spans) -> TensorInfo, or None where `made` is no tensor

The names are those of `torch._utils` and `torch.storage`; a tensor is a storage, an offset, a shape
and strides, all in elements. All of it is checked against the bytes that are there. Tensors without
plain numbers (quantised, sparse, meta) keep their name as a type, so that a model that needs them
can say so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from darkroom.weights.pickled.fault import damage
from darkroom.weights.pickled.machine import Made, Name, Stored
from darkroom.weights.table import BITS, MOST_DIMS, TensorInfo, contiguous_strides, naturals

WRAPPED = 8  # times, at most: a parameter of a parameter of a tensor

WIDTHS = {name: bits // 8 for name, bits in (BITS | {"C128": 128}).items() if bits >= 8}  # bytes

# The last word of a storage's class -> type of its elements.
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL", "UntypedStorage": "U8",
    "ComplexFloatStorage": "C64", "ComplexDoubleStorage": "C128",
}  # fmt: skip

# torch's dtypes, which newer files name beside an untyped storage.
DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
    "complex64": "C64", "complex128": "C128",
}  # fmt: skip

# Tensors that are no plain numbers: what to call them, which argument is their shape.
OTHERS = {
    "torch._utils._rebuild_qtensor": ("QUANTIZED", 2),
    "torch._utils._rebuild_meta_tensor_no_storage": ("META", 1),
    "torch._utils._rebuild_sparse_tensor": ("SPARSE", None),
    "torch._utils._rebuild_sparse_csr_tensor": ("SPARSE", None),
    "torch._utils._rebuild_nested_tensor": ("NESTED", None),
    "torch._utils._rebuild_device_tensor_from_numpy": ("NUMPY", None),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": ("DEVICE", None),
}

PLAIN = frozenset(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes of one storage."""

    start: int  # bytes from the start of the file
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Storage:
    """What a pickle says of a storage."""

    dtype: str
    key: str
    count: int  # elements
    skip: int  # elements before the first, where it is a view of a larger storage


def storage_of(stored: object) -> Storage:
    """The storage that a persistent reference means; Fault if it means anything else."""
    match stored:
        case Stored(reference=("storage", Name(name=kind), str(key), _, int(count), *view)) if (
            naturals([count])
        ):
            skip = 0
            if view and isinstance(view[0], tuple) and len(view[0]) == 3:
                _, skip, count = view[0]
            dtype = STORAGES.get(kind.rpartition(".")[2])
            if dtype is not None and naturals((skip, count)):
                return Storage(dtype, key, count, skip)
    raise damage("its pickle refers to something that is no storage")


def tensor_of(made: Made, spans: Mapping[str, Span]) -> TensorInfo | None:
    """The tensor that `made` stands for, or None if it stands for something else."""
    made = _unwrap(made)
    if made.maker in OTHERS:
        label, at = OTHERS[made.maker]
        shape = made.args[at] if at is not None and at < len(made.args) else ()
        return TensorInfo(label, _shape(shape), 0, 0)
    if made.maker not in PLAIN:
        return None
    match made.args:
        case (Stored() as stored, int(offset), tuple(shape), tuple(strides), *more):
            storage = storage_of(stored)
            dtype = _dtype(more) if made.maker.endswith("_v3") else storage.dtype
            if dtype not in WIDTHS:
                return TensorInfo(dtype, _shape(shape), 0, 0)
            view = _View(dtype, _shape(shape), _naturals(strides, "stride"), offset)
            return _place(view, storage, spans)
    raise damage("a tensor in it is not described by storage, offset, shape and strides")


@dataclass(frozen=True, slots=True)
class _View:
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements
    offset: int  # elements


def _unwrap(made: Made) -> Made:
    """The call that makes the tensor, without those that make a parameter or a subclass of it."""
    for _ in range(WRAPPED):
        match made.maker, made.args:
            case (
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
                (Made() as inner, *_),
            ):
                made = inner
            case (
                "torch._tensor._rebuild_from_type_v2",
                (Name(name=maker), _, tuple(args), *_),
            ):
                made = Made(maker, args)
            case _:
                break
    return made


def _dtype(more: list[object]) -> str:
    """The dtype that `_rebuild_tensor_v3` is told after requires_grad and hooks."""
    name = more[2].name if len(more) > 2 and isinstance(more[2], Name) else ""
    word = name.rpartition(".")[2]
    return DTYPES.get(word, word.upper())


def _shape(value: object) -> tuple[int, ...]:
    shape = _naturals(value, "shape")
    if len(shape) > MOST_DIMS:
        raise damage("a tensor in it has an impossible shape")
    return shape


def _naturals(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not naturals(value):
        raise damage(f"a tensor in it has an impossible {what}")
    return value


def _place(view: _View, storage: Storage, spans: Mapping[str, Span]) -> TensorInfo:
    """Where the elements of a view lie in the file, once it is sure that they do."""
    if storage.key not in spans:
        raise damage(f"its storage {storage.key[:20]!r} is missing")
    span, width, stored = spans[storage.key], WIDTHS[view.dtype], WIDTHS[storage.dtype]  # bytes
    if (storage.skip + storage.count) * stored > span.size:
        raise damage("a storage in it is smaller than it says")
    if len(view.strides) != len(view.shape) or not naturals([view.offset]):
        raise damage("a tensor in it has an impossible offset or stride")
    elements = math.prod(view.shape)
    if elements == 0:
        return TensorInfo(view.dtype, view.shape, span.start, span.start)
    reach = 1 + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
    if (view.offset + max(reach, elements)) * width > storage.count * stored:
        raise damage("a tensor in it lies outside its storage")
    usual = contiguous_strides(view.shape)
    steps = zip(view.shape, view.strides, usual, strict=True)
    strides = None if all(n == 1 or a == b for n, a, b in steps) else view.strides
    start = span.start + storage.skip * stored + view.offset * width
    return TensorInfo(view.dtype, view.shape, start, start + reach * width, strides=strides)
