"""What `darkroom doctor` finds out by trying: versions, and devices as a job would use them."""

from dataclasses import replace

import torch

from darkroom.core.errors import StudioError
from darkroom.core.settings import Settings
from darkroom.engine.device import Device, available_devices, choose_device, self_test
from darkroom.engine.versions import versions

Row = tuple[str, str, str]  # level, text, hint


def checkup(settings: Settings) -> list[Row]:
    """Run every device's self-test; a device that is not there or fails is a row among the rows."""
    rows: list[Row] = [("ok", ", ".join(f"{n} {v}" for n, v in versions().items()), "")]
    chosen = None
    try:
        chosen = device_for(settings)
    except StudioError as error:
        rows.append(("error", str(error), error.hint))
    for device in available_devices():
        used = chosen is not None and device.name == chosen.name
        try:
            rows += _examine(chosen if chosen and used else device, used=used)
        except StudioError as error:
            rows.append(("error", f"{device.name}: {error}", error.hint))
    return rows


def device_for(settings: Settings) -> Device:
    """The device that the settings choose, in their number format and with their CPU threads."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    if settings.dtype != "auto":
        device = replace(device, dtype=getattr(torch, settings.dtype))
    return device


def _examine(device: Device, *, used: bool) -> list[Row]:
    with device.guard():
        memory = device.memory()
        size = f"{memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
        dtype = str(device.dtype).removeprefix("torch.")
        mark = ", used" if used else ""
        found: list[Row] = [("ok", f"{device.name}: {device.title} ({dtype}, {size}{mark})", "")]
        return found + [
            (finding.level, finding.text, finding.hint) for finding in self_test(device)
        ]
