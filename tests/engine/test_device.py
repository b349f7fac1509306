"""The device table, its errors, memory in containers, and the self-test."""

import errno
import time
import weakref
from dataclasses import replace

import pytest
import torch

from darkroom.core.errors import BadRequest, DeviceError, OutOfMemory, UnknownName
from darkroom.engine import device as device_module
from darkroom.engine.device import (
    ROWS,
    available_devices,
    choose_device,
    is_device_failure,
    is_out_of_memory,
    self_test,
)
from darkroom.engine.host_memory import GIB, Memory

torch.set_num_threads(1)


@pytest.fixture
def cpu():
    return choose_device("cpu")


@pytest.fixture
def fake_cuda(monkeypatch):
    """A machine with two graphics cards, as far as choosing goes."""
    rows = [
        replace(
            row,
            count=lambda: 2,
            title=lambda index: ("NVIDIA H200", "NVIDIA GeForce GTX 1660")[index],
            memory=lambda index: Memory((index + 1) * GIB, 8 * GIB),
        )
        if row.kind == "cuda"
        else row
        for row in ROWS
    ]
    monkeypatch.setattr(device_module, "ROWS", tuple(rows))
    names = ("NVIDIA H200", "NVIDIA GeForce GTX 1660")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])


# ---- choosing ------------------------------------------------------------------------------------


def test_every_kind_has_a_row_and_the_cpu_comes_last():
    assert [row.kind for row in ROWS] == ["cuda", "rocm", "xpu", "mps", "cpu"]
    assert all(row.cure for row in ROWS[:-1])
    assert available_devices()[-1].name == "cpu"


def test_the_cpu_computes_in_float32(cpu):
    assert (cpu.name, cpu.torch, cpu.dtype) == ("cpu", torch.device("cpu"), torch.float32)
    assert cpu == choose_device(" CPU:0 ")
    cpu.empty_cache()


@pytest.mark.usefixtures("fake_cuda")
def test_the_best_device_is_the_default():
    best = choose_device()
    assert best == choose_device("auto") == choose_device("cuda") == choose_device("cuda:0")
    assert (best.name, str(best.torch), best.dtype) == ("cuda:0", "cuda:0", torch.float16)
    assert [device.name for device in available_devices()] == ["cuda:0", "cuda:1", "cpu"]
    assert choose_device("cuda:1").memory() == Memory(2 * GIB, 8 * GIB)


@pytest.mark.usefixtures("fake_cuda")
def test_cards_that_cannot_do_half_precision_get_float32():
    assert choose_device("cuda:1").dtype == torch.float32


@pytest.mark.parametrize("name", ["gpuu", "cuda:x", "cuda:", "cuda:-1", "x" * 10_000, "cpu:1.5"])
def test_unknown_names_say_what_there_is(name):
    with pytest.raises(UnknownName, match="unknown device") as caught:
        choose_device(name)
    assert "This machine has: " in caught.value.hint
    assert isinstance(caught.value, BadRequest)
    assert len(caught.value.sentence()) < 300


@pytest.mark.parametrize("kind", ["cuda", "rocm", "xpu", "mps"])
def test_absent_devices_come_with_a_cure(kind, monkeypatch):
    rows = [replace(row, count=lambda: 0) if row.kind == kind else row for row in ROWS]
    monkeypatch.setattr(device_module, "ROWS", tuple(rows))
    with pytest.raises(DeviceError, match=f"no {kind} device") as caught:
        choose_device(kind)
    assert "CPU" in caught.value.hint


@pytest.mark.parametrize("name", ["cpu:1", "cpu:" + "9" * 5000])
def test_numbers_beyond_the_last_device(name):
    with pytest.raises(DeviceError, match="no device 'cpu:") as caught:
        choose_device(name)
    assert "It has 1 cpu device" in caught.value.hint


# ---- errors --------------------------------------------------------------------------------------


def test_a_real_out_of_memory_on_the_cpu(cpu):
    with pytest.raises(OutOfMemory, match="ran out of memory") as caught, cpu.guard():
        torch.empty(1 << 50)
    assert "smaller" in caught.value.hint


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("XPU out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB, other allocations: …)"),
        RuntimeError("Failed to allocate private MTLBuffer for size 12884901888"),
        RuntimeError("Invalid buffer size: 16.00 GB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
        ),
        RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904, 4]"),
    ],
)
def test_every_way_to_run_out_of_memory(cpu, error):
    assert is_out_of_memory(error)
    with pytest.raises(OutOfMemory), cpu.guard():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("HIP error: invalid device function"),
        RuntimeError("Found no NVIDIA driver on your system."),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_failures_of_the_device(cpu, error):
    assert is_device_failure(error)
    assert not is_out_of_memory(error)
    with pytest.raises(DeviceError, match="failed: ") as caught, cpu.guard():
        raise error
    assert "doctor" in caught.value.hint


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "out of memory"),
        ValueError("out of memory"),
        OutOfMemory("already said"),
    ],
)
def test_other_errors_pass_the_guard_unchanged(cpu, error):
    with pytest.raises(type(error)) as caught, cpu.guard():
        raise error
    assert caught.value is error


def test_after_running_out_nothing_of_the_failed_computation_is_held(cpu):
    kept = []

    def network():
        activations = torch.ones(1000)
        kept.append(weakref.ref(activations))
        torch.empty(1 << 50)

    with pytest.raises(OutOfMemory) as caught, cpu.guard():
        network()
    assert caught.value is not None  # the error lives, the tensor does not
    assert kept[0]() is None


# ---- self-test -----------------------------------------------------------------------------------


def test_self_test_passes_here_in_under_a_second(cpu):
    start = time.process_time()
    findings = self_test(cpu)
    assert time.process_time() - start < 1
    assert [finding for finding in findings[1:] if finding.level == "error"] == []
    text = "\n".join(finding.text for finding in findings)
    for part in ("of memory free", "matrix product in float32", "channels last", "attention"):
        assert part in text
    assert "float16" in text
    assert "bfloat16" in text


@pytest.mark.parametrize(
    ("function", "name"),
    [("scaled_dot_product_attention", "attention"), ("conv2d", "convolution")],
)
@pytest.mark.parametrize(
    ("factor", "says"), [(torch.nan, "gives no numbers"), (1.5, "wrong by 50.0%")]
)
def test_self_test_finds_wrong_numbers(cpu, monkeypatch, function, name, factor, says):
    right = getattr(device_module.functional, function)

    def run(first, *rest, **options):
        return right(first, *rest, **options) * (factor if first.dtype == torch.float32 else 1)

    monkeypatch.setattr(device_module.functional, function, run)
    errors = [finding for finding in self_test(cpu) if finding.level == "error"]
    assert errors[0].text.startswith(f"{name} in float32")
    assert all(says in finding.text for finding in errors)
    assert all(finding.hint for finding in errors)


def test_self_test_reports_what_does_not_run(cpu, monkeypatch):
    right = torch.matmul

    def run(a, b):
        if a.dtype == torch.bfloat16:
            raise RuntimeError('"addmm_impl" not implemented for BFloat16\nmore')
        return right(a, b)

    monkeypatch.setattr(torch, "matmul", run)
    odd = [finding for finding in self_test(cpu)[1:] if finding.level != "ok"]
    assert [finding.level for finding in odd] == ["warning"]
    assert "bfloat16 fails" in odd[0].text
    assert "more" not in odd[0].text


def test_little_memory_is_a_warning():
    finding = device_module._memory_finding(Memory(GIB, 8 * GIB))
    assert (finding.level, finding.text) == ("warning", "1.0 of 8.0 GiB of memory free")
    assert finding.hint
