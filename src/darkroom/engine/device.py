"""What each kind of device can do, in one table, and a test that it really does it.

    ROWS                         one row per kind, best first
    choose_device(name)          "cuda:1", "cpu", None for the best there is -> Device
    with device.guard(): ...     torch's errors become OutOfMemory and DeviceError
    self_test(device)            small computations, compared with float64 on the CPU

A row holds what differs between kinds; nothing else in the project asks which kind a device is, but
to say so. Attention is torch's `scaled_dot_product_attention` everywhere: it chooses the kernel
itself. Memory is in bytes (`host_memory.py` has the machine's own).
"""

import errno
import math
import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from darkroom.core.errors import DeviceError, OutOfMemory, StudioError, UnknownName, shorten
from darkroom.engine.host_memory import GIB, Memory, host_memory

Kind = Literal["cuda", "rocm", "mps", "xpu", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one kind of device can do. The functions take the device's index."""

    kind: Kind
    torch_type: str  # ROCm calls itself "cuda" in torch
    count: Callable[[], int]
    title: Callable[[int], str]
    dtype: Callable[[int], torch.dtype]  # weights and computation
    channels_last: bool  # convolutions run faster on channels-last tensors
    memory: Callable[[int], Memory]
    empty_cache: Callable[[], None]
    cure: str  # when it is asked for and not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device of this machine and what it can do."""

    kind: Kind
    title: str  # for people: "NVIDIA H200"
    dtype: torch.dtype  # weights and computation
    channels_last: bool  # convolutions run faster on channels-last tensors
    torch: torch.device  # what tensors are moved to; last, since its name hides the module's

    @property
    def name(self) -> str:
        """What `choose_device` takes: "cpu", "cuda:0"."""
        return self.kind + str(self.torch).removeprefix(self.torch.type)

    def memory(self) -> Memory:
        """Free and total memory now."""
        return _row(self.kind).memory(self.torch.index or 0)

    def empty_cache(self) -> None:
        """Hand memory that torch holds but does not use back to the system."""
        _row(self.kind).empty_cache()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn what torch raises inside the block into OutOfMemory and DeviceError.

        After an out-of-memory, the error keeps no tensor of the failed computation alive: what it
        had allocated is free for a smaller plan.
        """
        try:
            yield
        except (RuntimeError, MemoryError, OSError) as error:
            if (known := self._translate(error)) is None:
                raise
            raise known from error

    def _translate(self, error: Exception) -> StudioError | None:
        if is_out_of_memory(error):
            traceback.clear_frames(error.__traceback__)
            return OutOfMemory(
                f"{self.title} ran out of memory",
                hint="Choose a smaller size or fewer images at once, or close other programs.",
            )
        if is_device_failure(error):
            return DeviceError(
                f"{self.title} failed: {_first_line(error)}",
                hint='Start again; if it stays, run "darkroom doctor", or use the CPU.',
            )
        return None


# ---- the kinds -----------------------------------------------------------------------------------


def _cuda_count() -> int:
    return torch.cuda.device_count() if _quiet(torch.cuda.is_available) else 0


def _cuda_dtype(index: int) -> torch.dtype:
    # GTX 16xx multiplies half precision to NaN (known since 2019: its fp16 unit has no fp32 sums).
    broken = re.search(r"GTX 16\d\d", torch.cuda.get_device_name(index))
    return torch.float32 if broken else torch.float16


def _cuda_memory(index: int) -> Memory:
    free, total = torch.cuda.mem_get_info(index)
    unused = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
    return Memory(free + unused, total)


def _xpu_memory(index: int) -> Memory:
    free, total = torch.xpu.mem_get_info(index)
    unused = torch.xpu.memory_reserved(index) - torch.xpu.memory_allocated(index)
    return Memory(free + unused, total)


def _mps_memory(index: int) -> Memory:
    # Memory is shared with the processor: what Metal recommends, and not more than there is.
    total = torch.mps.recommended_max_memory()
    mine = torch.mps.driver_allocated_memory()
    used = torch.mps.current_allocated_memory()
    return Memory(max(0, min(total - used, host_memory().free + mine - used)), total)


def _cpu_title(index: int) -> str:
    level, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}, {level}"


ROWS: tuple[Row, ...] = (
    Row(
        kind="cuda",
        torch_type="cuda",
        count=lambda: 0 if torch.version.hip else _cuda_count(),
        title=torch.cuda.get_device_name,
        dtype=_cuda_dtype,
        channels_last=True,
        memory=_cuda_memory,
        empty_cache=torch.cuda.empty_cache,
        cure="Install NVIDIA's driver and torch's CUDA build (pytorch.org), or use the CPU.",
    ),
    Row(
        kind="rocm",
        torch_type="cuda",
        count=lambda: _cuda_count() if torch.version.hip else 0,
        title=torch.cuda.get_device_name,
        dtype=lambda index: torch.float16,
        channels_last=False,  # MIOpen has its fast convolutions in NCHW
        memory=_cuda_memory,
        empty_cache=torch.cuda.empty_cache,
        cure="Install AMD's driver and torch's ROCm build (pytorch.org), or use the CPU.",
    ),
    Row(
        kind="xpu",
        torch_type="xpu",
        count=lambda: torch.xpu.device_count() if _quiet(torch.xpu.is_available) else 0,
        title=torch.xpu.get_device_name,
        dtype=lambda index: torch.float16,
        channels_last=True,
        memory=_xpu_memory,
        empty_cache=torch.xpu.empty_cache,
        cure="Install Intel's driver and torch's XPU build (pytorch.org), or use the CPU.",
    ),
    Row(
        kind="mps",
        torch_type="mps",
        count=lambda: int(_quiet(torch.backends.mps.is_available)),
        title=lambda index: "Apple GPU",
        dtype=lambda index: torch.float16,
        channels_last=False,
        memory=_mps_memory,
        empty_cache=torch.mps.empty_cache,
        cure="It needs a Mac with Apple silicon and macOS 14 or later; use the CPU here.",
    ),
    Row(
        kind="cpu",
        torch_type="cpu",
        count=lambda: 1,
        title=_cpu_title,
        # Half precision never by default: without AMX or AVX512-BF16, bf16 is 80 times slower.
        dtype=lambda index: torch.float32,
        channels_last=True,  # VAE x1.12, UNet x1.00 to 1.03 (measured)
        memory=lambda index: host_memory(),
        empty_cache=lambda: None,
        cure="",
    ),
)


def _quiet(there: Callable[[], bool]) -> bool:
    """Ask, without the warning that a broken driver is worth to torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return there()


def _row(kind: Kind) -> Row:
    return next(row for row in ROWS if row.kind == kind)


# ---- choosing ------------------------------------------------------------------------------------


def available_devices() -> list[Device]:
    """Devices of this machine, best first; the CPU is always there, and last."""
    return [_device(row, index) for row in ROWS for index in range(row.count())]


def choose_device(name: str | None = None) -> Device:
    """The device called `name` ("cuda", "cuda:1", "cpu"), or the best one for None and "auto"."""
    wanted = (name or "auto").strip().lower()
    if wanted == "auto":
        return available_devices()[0]
    kind, colon, number = wanted.partition(":")
    row = next((row for row in ROWS if row.kind == kind), None)
    if row is None or (colon and not number.isdecimal()):
        here = ", ".join(device.name for device in available_devices())
        known = ["auto", *(row.kind for row in ROWS)]
        raise UnknownName("device", wanted, known, hint=f"This machine has: {here}.")
    count, index = row.count(), int(number[:9] or 0)
    if count == 0:
        raise DeviceError(f"this machine has no {kind} device", hint=row.cure)
    if index >= count:
        plural = "device" if count == 1 else "devices"
        hint = f"It has {count} {kind} {plural}, counted from 0."
        raise DeviceError(f"this machine has no device {shorten(wanted)!r}", hint=hint)
    return _device(row, index)


def _device(row: Row, index: int) -> Device:
    # torch numbers GPUs; there is one CPU and one Apple GPU, without a number.
    numbered = row.kind in ("cuda", "rocm", "xpu")
    return Device(
        kind=row.kind,
        torch=torch.device(row.torch_type, index) if numbered else torch.device(row.torch_type),
        title=row.title(index),
        dtype=row.dtype(index),
        channels_last=row.channels_last,
    )


# ---- errors --------------------------------------------------------------------------------------

_OUT_OF_MEMORY = re.compile(
    "out of memory"  # CUDA, HIP, XPU, MPS
    "|can't allocate memory|not enough memory|cannot allocate memory"  # CPU: Linux and Mac, Windows
    "|failed to allocate|invalid buffer size|total bytes of NDArray"  # Metal
    "|ALLOC_FAILED|OUT_OF_(HOST|DEVICE)_MEMORY|OUT_OF_RESOURCES"  # cuBLAS, cuDNN, Level Zero
    "|storage size calculation overflowed",
    re.IGNORECASE,
)
_DEVICE_FAILURE = re.compile(
    "(CUDA|HIP|XPU|MPS|cuDNN|MIOpen)( backend)? error|CUBLAS_STATUS|CUDNN_STATUS|UR_RESULT_ERROR"
    "|no NVIDIA driver",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on any kind of device."""
    match error:
        case MemoryError() | torch.OutOfMemoryError():
            return True
        case OSError(errno=errno.ENOMEM):
            return True
        case RuntimeError():
            return _OUT_OF_MEMORY.search(str(error)) is not None
    return False


def is_device_failure(error: BaseException) -> bool:
    """Whether `error` comes from the device or its driver rather than from the computation."""
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and _DEVICE_FAILURE.search(str(error)) is not None


def _first_line(error: BaseException) -> str:
    return shorten(next(iter(str(error).splitlines()), "") or type(error).__name__, 160)


# ---- self-test -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `darkroom doctor`."""

    level: Literal["ok", "warning", "error"]
    text: str
    hint: str = ""


# Largest relative error (2-norm) that rounding explains; float32 may be TF32 on a GPU.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}
_LITTLE = 4 * GIB  # SD1.5 in half precision, a picture of 512 px, and air


def self_test(device: Device) -> list[Finding]:
    """Run what a picture needs on `device` and compare it with float64 on the CPU.

    A matrix product, a convolution (channels last too) and attention in the device's own number
    format, then a matrix product in the others. Takes under a second on a CPU.
    """
    findings = [_memory_finding(device.memory())]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    a, b, image, kernel = draw(256, 256), draw(256, 256), draw(1, 32, 24, 24), draw(32, 32, 3, 3)
    query, key, value = draw(3, 1, 4, 128, 40)
    attend = functional.scaled_dot_product_attention
    checks: list[tuple[str, Callable[..., Tensor], tuple[Tensor, ...]]] = [
        ("matrix product", torch.matmul, (a, b)),
        ("convolution", _convolve, (image, kernel)),
        ("convolution, channels last", _convolve, (_last(image), _last(kernel))),
        ("attention", attend, (query, key, value)),
    ]
    findings += [_check(device, device.dtype, name=n, run=r, args=a) for n, r, a in checks]
    others = [dtype for dtype in _TOLERANCE if dtype != device.dtype]
    name, run, args = checks[0]
    return findings + [
        _optional(_check(device, dtype, name=name, run=run, args=args)) for dtype in others
    ]


def _convolve(image: Tensor, kernel: Tensor) -> Tensor:
    return functional.conv2d(image, kernel, padding=1)


def _last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _optional(finding: Finding) -> Finding:
    """A number format that is not used by default may fail: that is worth knowing, no more."""
    if finding.level == "ok":
        return finding
    return Finding("warning", finding.text, "Do not choose this number format.")


def _check(
    device: Device,
    dtype: torch.dtype,
    *,
    name: str,
    run: Callable[..., Tensor],
    args: tuple[Tensor, ...],
) -> Finding:
    """Whether `run` gives the right numbers in `dtype`, and how fast (the better of two)."""
    label = f"{name} in {str(dtype).removeprefix('torch.')}"
    # What goes in is rounded first: the test is of the computation, not of the number format.
    rounded = [arg.to(dtype) for arg in args]
    truth = run(*(arg.double() for arg in rounded))
    seconds = math.inf
    try:
        there = [arg.to(device.torch) for arg in rounded]
        for _ in range(2):
            start = time.perf_counter()
            out = run(*there).cpu()  # the copy waits until the device is done
            seconds = min(seconds, time.perf_counter() - start)
    except (RuntimeError, TypeError) as error:
        return Finding("error", f"{label} fails: {_first_line(error)}", _ROTTEN)
    off = float((out.double() - truth).norm() / truth.norm())
    if not math.isfinite(off):
        return Finding("error", f"{label} gives no numbers", _ROTTEN)
    if off > _TOLERANCE[dtype]:
        return Finding("error", f"{label} is wrong by {off:.1%}", _ROTTEN)
    return Finding("ok", f"{label}: right to {off:.0e}, {seconds * 1e3:.2f} ms")


_ROTTEN = "Update the driver and torch, or use the CPU."


def _memory_finding(memory: Memory) -> Finding:
    text = f"{memory.free / GIB:.1f} of {memory.total / GIB:.1f} GiB of memory free"
    if memory.free >= _LITTLE:
        return Finding("ok", text)
    return Finding("warning", text, "Close other programs; large pictures may not fit.")
