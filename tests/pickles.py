"""Pickles written by hand, honest and hostile: opcodes in, files out. Nothing here is ever run.

call("os.system", "echo x")              the opcodes of a call, to be put anywhere
bare(body), legacy(body), torch_zip(body)    the containers that models come in
"""

import pickle
import struct
import zipfile
from io import BytesIO

MAGIC = 0x1950A86A20F9469CFC6C


def text(value: str) -> bytes:
    """Push a text (protocol 1)."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def value(plain: object) -> bytes:
    """Push any plain value."""
    return pickle.dumps(plain, 2)[2:-1]


def named(name: str, how: str = "c") -> bytes:
    """Push a name: `c` GLOBAL or `s` STACK_GLOBAL (protocol 4)."""
    module, _, attribute = name.rpartition(".")
    if how == "s":
        return text(module) + text(attribute) + b"\x93"
    return f"c{module}\n{attribute}\n".encode()


def call(name: str, *args: object, how: str = "c") -> bytes:
    """Call a name: by REDUCE, or with `i` INST, `o` OBJ, `n` NEWOBJ, `s` STACK_GLOBAL."""
    values = b"".join(value(arg) for arg in args)
    module, _, attribute = name.rpartition(".")
    match how:
        case "i":
            return b"(" + values + f"i{module}\n{attribute}\n".encode()
        case "o":
            return b"(" + named(name) + values + b"o"
        case "n":
            return named(name) + b"(" + values + b"t\x81"
        case _:
            return named(name, how) + b"(" + values + b"tR"


def dictionary(**values: bytes) -> bytes:
    """Push a dictionary of what its values push."""
    return b"}(" + b"".join(text(key) + each for key, each in values.items()) + b"u"


def storage(key: str = "0", count: int = 6, kind: str = "FloatStorage", more: bytes = b"") -> bytes:
    """Push a reference to a storage; old files say more."""
    return (
        (b"(" + text("storage") + named(f"torch.{kind}") + text(key) + text("cpu") + value(count))
        + more
        + b"tQ"
    )


def tensor(
    stored: bytes | None = None,
    *,
    offset: object = 0,
    shape: object = (2, 3),
    strides: object = (3, 1),
) -> bytes:
    """Push a tensor."""
    parts = (stored or storage(), value(offset), value(shape), value(strides))
    return (
        named("torch._utils._rebuild_tensor_v2") + b"(" + b"".join(parts) + b"\x89"
        + call("collections.OrderedDict") + b"tR"
    )  # fmt: skip


def bare(body: bytes, protocol: int = 2) -> bytes:
    """A pickle as Python writes it."""
    return (bytes([0x80, protocol]) if protocol > 1 else b"") + body + b"."


def legacy(body: bytes, storages: dict[str, bytes] | None = None, width: int = 4) -> bytes:
    """A file of torch before 1.6: five pickles, then the storages."""
    storages = {"0": bytes(24)} if storages is None else storages
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = b"".join(pickle.dumps(each, 2) for each in (MAGIC, 1001, system))
    data = b"".join(struct.pack("<q", len(raw) // width) + raw for raw in storages.values())
    return head + bare(body) + pickle.dumps(list(storages), 2) + data


def torch_zip(
    body: bytes,
    members: dict[str, bytes] | None = None,
    *,
    root: str = "archive/",
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """A file of torch since 1.6."""
    members = {"data/0": bytes(24)} if members is None else members
    file = BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(f"{root}data.pkl", bare(body))
        for name, raw in {"version": b"3\n", **members}.items():
            archive.writestr(f"{root}{name}", raw)
    return file.getvalue()


CONTAINERS = {"bare": bare, "legacy": legacy, "zip": torch_zip}
