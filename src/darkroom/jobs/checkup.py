"""What `darkroom doctor` finds out by trying: versions and devices."""

from darkroom.core.settings import Settings
from darkroom.engine.device import available_devices, choose_device, self_test
from darkroom.engine.versions import versions

Row = tuple[str, str, str]  # level, text, hint


def checkup(settings: Settings) -> list[Row]:
    """Run every device's self-test; StudioError when the chosen device is not there."""
    rows: list[Row] = [("ok", ", ".join(f"{n} {v}" for n, v in versions().items()), "")]
    chosen = choose_device(settings.device)
    for device in available_devices():
        memory = device.memory()
        mark = ", used" if device.name == chosen.name else ""
        size = f"{memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
        rows.append(("ok", f"{device.name}: {device.title} ({size}{mark})", ""))
        rows += [(finding.level, finding.text, finding.hint) for finding in self_test(device)]
    return rows
