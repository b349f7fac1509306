"""No file runs code, however it is made: it is refused by the names it holds, and nothing happens.

The corpus is written here, opcode by opcode, in every container, and read in a child process under
an audit hook: nothing is opened but the file itself, nothing imported, compiled, started, connected.
"""

import json
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile

import pytest
import torch

from darkroom.core.errors import BadFile
from darkroom.weights.header import read_header
from darkroom.weights.pickled.names import judge
from pickles import (
    CONTAINERS,
    bare,
    call,
    dictionary,
    legacy,
    named,
    storage,
    tensor,
    text,
    torch_zip,
    value,
)

CODE = [
    "os.system", "posix.system", "nt.system", "os.popen", "os.execv", "os.remove", "sys.exit",
    "subprocess.Popen", "subprocess.check_output", "builtins.eval", "builtins.exec",
    "builtins.compile", "builtins.getattr", "builtins.setattr", "builtins.__import__",
    "builtins.open", "builtins.globals", "builtins.breakpoint", "builtins.map", "builtins.apply",
    "__builtin__.eval", "__builtin__.exec", "__builtin__.getattr", "importlib.import_module",
    "runpy.run_path", "runpy._run_code", "operator.attrgetter", "operator.methodcaller",
    "functools.partial", "functools.reduce", "pydoc.pipepager", "pydoc.locate", "timeit.timeit",
    "cProfile.run", "profile.run", "pdb.run", "bdb.Bdb", "code.InteractiveInterpreter",
    "socket.create_connection", "socket.socket", "shutil.rmtree", "shutil.move", "io.open",
    "io.FileIO", "_io.FileIO", "codecs.open", "pathlib.os.system", "webbrowser.open",
    "logging.FileHandler", "logging.config.fileConfig", "pip.main", "pip._internal.main",
    "asyncio.unix_events._UnixSubprocessTransport", "ctypes.CDLL", "_ctypes.dlopen", "pty.spawn",
    "multiprocessing.util.spawnv_passfds", "marshal.loads", "pickle.loads", "_pickle.loads",
    "dill.loads", "cloudpickle.loads", "joblib.load", "types.FunctionType", "types.CodeType",
    "uuid._get_command_stdout", "imaplib.IMAP4_stream", "_pyrepl.pager.pipe_pager",
    "_osx_support._read_output", "_aix_support._read_cmd_output", "urllib.request.urlopen",
    "http.client.HTTPSConnection", "smtplib.SMTP", "ftplib.FTP", "telnetlib.Telnet", "ssl.wrap",
    "requests.get", "httplib2.system", "commands.getoutput", "distutils.spawn.spawn", "imp.load",
    "lib2to3.pgen2.pgen.ParserGenerator", "ensurepip._run_pip", "venv.create", "zipimport.zipimporter",
    "doctest.debug_script", "trace.Trace.run", "idlelib.run.Executive",
    "tempfile.mktemp", "threading.Thread", "signal.signal", "gc.get_objects", "inspect.getsource",
    "linecache.getlines", "sqlite3.connect", "ast.literal_eval", "platform.popen", "glob.glob",
    "torch.load", "torch.save", "torch.compile", "torch.hub.load", "torch.hub.load_state_dict_from_url",
    "torch.jit.load", "torch.jit.unsupported_tensor_ops.execWrapper", "torch.serialization.load",
    "torch.utils.bottleneck.__main__.run_cprofile", "torch.utils.collect_env.run",
    "torch.utils._config_module.load_config", "torch._dynamo.guards.GuardBuilder.get",
    "torch._inductor.codecache.compile_file", "torch.fx.experimental.symbolic_shapes.ShapeEnv",
    "torch.nn.functional.os.system", "torch.optim.__builtins__.eval", "torch.ops.load_library",
    "numpy.load", "numpy.fromfile", "numpy.testing._private.utils.runstring", "numpy.core.os.system",
    "numpy.f2py.crackfortran.getlincoef", "numpy.f2py.crackfortran.myeval", "numpy.distutils.exec",
    "collections._sys.exit", "collections.namedtuple", "datetime.sys.exit", "argparse._os.system",
    "pytorch_lightning.os.system", "anything.at.all.subprocess.run", "mylib.loader.eval",
    "copyreg.add_extension", "copyreg.__builtins__.eval", "weakref.finalize", "atexit.register",
]  # fmt: skip

HONEST = [
    "collections.OrderedDict", "__builtin__.set", "builtins.set", "_codecs.encode", "torch.Size",
    "torch.FloatStorage", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray._reconstruct", "numpy.dtype",
    "numpy.dtypes.Float64DType", "numpy.random._pickle.__randomstate_ctor", "copy_reg._reconstructor",
    "torch.float8_e4m3fn", "torch.device", "torch.nn.parameter.Parameter", "torch.bfloat16",
]  # fmt: skip

INERT = [
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", "argparse.Namespace",
    "pathlib.PosixPath", "pathlib._local.PosixPath", "datetime.datetime", "uuid.UUID",
    "torch.nn.modules.linear.Linear", "torch.optim.adam.Adam", "torch._C._nn.gelu",
    "omegaconf.dictconfig.DictConfig", "ldm.models.diffusion.ddpm.LatentDiffusion", "__main__.Net",
    "open_clip.model.CLIP", "lightning.pytorch.callbacks.ModelCheckpoint", "typing.Any",
    "torch.torch_version.TorchVersion",
]  # fmt: skip


def refusal(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        read_header(path)
    sentence = caught.value.sentence()
    assert caught.value.hint and "\n" not in sentence and len(sentence) < 900
    return sentence


@pytest.mark.parametrize("name", CODE)
def test_names_that_run_code_are_told(name):
    assert judge(name) == "code"


@pytest.mark.parametrize(("names", "verdict"), [(HONEST, "known"), (INERT, "inert")])
def test_names_of_data_are_not(names, verdict):
    assert [judge(name) for name in names] == [verdict] * len(names)


def test_nothing_of_pythons_own_library_is_taken_for_data_by_mistake():
    """Every function that its public modules offer, but those of types that hold data."""
    for module in sorted(sys.stdlib_module_names):
        if module not in ("builtins", "enum", "typing", "collections"):
            assert judge(f"{module}.anything") == "code"


# ---- the corpus ---------------------------------------------------------------------------------

CANARY = "touch canary"
DEEP = 200_000
USED = tensor() + b"0"  # a tensor that is thrown away: old files need their storages used


def corpus() -> dict[str, tuple[bytes, str]]:
    """Hostile files by name, and what is said of each."""
    files: dict[str, tuple[bytes, str]] = {}
    for container, make in CONTAINERS.items():
        for how in "cions":
            body = dictionary(w=tensor(), evil=call("posix.system", CANARY, how=how))
            files[f"{container} {how}"] = make(body), "holds code (posix.system)"
        for name in CODE:
            made = make(dictionary(w=tensor(), evil=call(name, CANARY)))
            files[f"{container} {name}"] = made, f"holds code ({name})"
        broken = make(call("os.system", CANARY) + b"0" + tensor() + b"\xff")
        files[f"{container} broken after it"] = broken, "holds code (os.system)"
        deep = make(USED + b"]" * DEEP + b"a" * (DEEP - 1))
        files[f"{container} deep"] = deep, "a pickle that holds no tensors"
        deeper = make(USED + b")" + b"\x85" * DEEP)
        files[f"{container} deep tuples"] = deeper, "a pickle that holds no tensors"
        keyed = make(USED + b"}" + b")" + b"\x85" * DEEP + b"Ns")
        files[f"{container} a deep key"] = keyed, "a pickle that holds no tensors"
        several = make(dictionary(a=call("os.system", CANARY), b=call("builtins.eval", "1")))
        files[f"{container} several"] = several, "holds code (builtins.eval, os.system)"
    for protocol in range(6):
        evil = bare(call("os.system", CANARY), protocol)
        files[f"protocol {protocol}"] = evil, "holds code (os.system); it was not run. Get the"
        class_ = pickle.dumps(Evil(), protocol)
        files[f"class {protocol}"] = (
            class_,
            "holds code (posix.system)" if os.name == "posix" else "",
        )
    chained = call("builtins.getattr", 1) + call("importlib.import_module", "os") + b"0"
    files["chained"] = torch_zip(chained), "holds code (builtins.getattr, importlib.import_module)"
    escaped = b"V\\u006fs\nV\\u0073ystem\n\x93)R"
    files["escaped"] = bare(escaped, 4), "holds code (os.system)"
    state = named("ldm.Thing") + b")\x81" + dictionary(__setstate__=value(CANARY)) + b"b"
    files["state"] = torch_zip(state), "a pickle that holds no tensors"
    packed = torch_zip(call("os.system", CANARY), method=zipfile.ZIP_DEFLATED)
    files["compressed"] = packed, "compressed or encrypted"
    return files


class Evil:
    def __reduce__(self):
        return os.system, (CANARY,)


def test_the_corpus_is_refused_by_name(tmp_path):
    for name, (content, says) in corpus().items():
        assert says in (said := refusal(tmp_path / "m.ckpt", content)), f"{name}: {said}"
    assert not (tmp_path / "canary").exists()


CHILD = """
import json, pathlib, sys, warnings
from darkroom.core.errors import BadFile
from darkroom.weights.header import read_header

folder, seen, reading = pathlib.Path(sys.argv[1]), [], []

def audit(event, args):
    if not reading or event in ("object.__getattr__",):
        return
    if event == "mmap.__new__" or (event == "open" and args[0] in reading and args[1] == "r"):
        return
    if event == "open" and str(args[0]) == str(reading[0]) and "r" in str(args[1]):
        return
    seen.append((str(reading[0]), event, repr(args)[:200]))

sys.addaudithook(audit)
for path in sorted(folder.iterdir()):
    reading.append(path)
    try:
        read_header(path)
    except BadFile:
        pass
    reading.clear()
assert "torch" not in sys.modules and "pickle" not in sys.modules
print(json.dumps(seen))
"""


def test_reading_them_opens_imports_and_starts_nothing(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for n, (content, _) in enumerate(corpus().values()):
        (folder / f"{n}.ckpt").write_bytes(content)
    honest = {"a": torch.ones(3), "callbacks": {Evil: 1}}
    for n, zipped in enumerate((True, False)):
        torch.save(honest, folder / f"h{n}.ckpt", _use_new_zipfile_serialization=zipped)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], cwd=tmp_path, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == []
    assert [each.name for each in tmp_path.iterdir()] == ["corpus"]


# ---- bombs --------------------------------------------------------------------------------------


def number(form: str, value: int) -> bytes:
    return struct.pack(form, value)


BOMBS = {
    "a memo of 2**31 places": b"Nr" + number("<I", 0x7FFFFFFF),
    "a frame of 2**63 bytes": b"\x95" + number("<Q", 2**63) + b"N",
    "bytes that are not there": b"\x8e" + number("<Q", 2**62),
    "text that is not there": b"X" + number("<I", 0xFFFFFFFF),
    "a negative length": b"T" + number("<i", -5),
    "a number without end": b"\x8b" + number("<i", 2**31 - 1),
    "digits without end": b"I" + b"9" * 100_000 + b"\n",
    "a call for memory": call("builtins.bytearray", 10**12),
    "a long text by multiplication": call("builtins.str", "x") + value(10**12) + b"\x86R",
    "laughs": b"]q\0" + b"N" * 10 + b"".join(b"((" + b"2" * 20 + b"tt" for _ in range(2000)),
    "lists of lists": b"](Nlq\0" + b"".join(b"(" + b"h\0" * 30 + b"lq\0" for _ in range(60)) + b"a",
    "a list in itself": b"]q\0(" + b"h\0" * 5000 + b"e",
    "a dictionary in itself": b"}q\0(" + (b"Nh\0" + text("a") + b"h\0") * 3000 + b"u",
    "registry": b"\x82\x01",
    "buffers": b"\x97",
    "keys that collide": b"}(" + b"".join(value(n * (2**61 - 1)) + b"N" for n in range(20_000)) + b"u",
    "marks": b"(" * 200_000,
    "names": b"".join(named(f"mod{n}.name") for n in range(20_000)),
    "a long name": named("a" * 3000 + ".b"),
    "an endless line": b"c" + b"x" * 1_000_000,
    "expanded": tensor(shape=(10**6, 10**6), strides=(0, 0)),
    "negative": tensor(strides=(-3, 1)),
    "huge": tensor(shape=(2**40,) * 16, strides=(1,) * 16),
    "axes": tensor(shape=(1,) * 17, strides=(1,) * 17),
    "outside": tensor(offset=1),
    "before": tensor(offset=-1),
    "true": tensor(offset=True),
    "strides of another rank": tensor(strides=(1,)),
    "no storage": tensor(value("storage") + b"Q"),
    "a storage of text": tensor(b"(" + value("storage") * 5 + b"tQ"),
    "an unknown storage": tensor(storage(kind="QuietStorage")),
    "a storage too large": tensor(storage(count=7)),
    "a storage that is missing": tensor(storage(key="1")),
    "a storage of another folder": tensor(storage(key="../data/0")),
    "a tensor without arguments": call("torch._utils._rebuild_tensor_v2"),
    "parameters of parameters": (
        (named("torch._utils._rebuild_parameter") + b"(") * 20_000 + tensor() + b"tR" * 20_000
    ),
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_quick_small_and_refused(tmp_path, name, container):
    path = tmp_path / "m.ckpt"
    content = CONTAINERS[container](BOMBS[name])
    path.write_bytes(content)
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(BadFile) as caught:
            read_header(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(caught.value.sentence()) < 900 and caught.value.hint
    assert time.process_time() - started < 20  # traced; the slowest takes 2 s
    assert peak < 250 * len(content) + 2_000_000  # bytes


# ---- containers that lie ------------------------------------------------------------------------

GOOD = dictionary(w=tensor())


def patched(content: bytes, old: bytes, new: bytes, nth: int = 0) -> bytes:
    """The content with the nth occurrence of `old` replaced."""
    at = -1
    for _ in range(nth + 1):
        at = content.index(old, at + 1)
    return content[:at] + new + content[at + len(old) :]


def flagged(content: bytes, flags: int) -> bytes:
    """All members marked as encrypted, in one of two places or in both."""
    return content.replace(b"PK\1\2\x14\x03\x14\0\0\0", b"PK\1\2\x14\x03\x14\0" + bytes([flags, 0]))


def two_pickles() -> bytes:
    return torch_zip(GOOD, {"data/0": bytes(24), "more/data.pkl": bare(call("os.system", "x"))})


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return torch_zip(GOOD, {"data/0": bytes(24), "data.pkl": bare(call("os.system", "x"))})


LIES = {
    "two pickles": (two_pickles, "more than one pickle"),
    "a name twice": (twice, "two records named"),
    "another name in the record": (
        lambda: patched(torch_zip(GOOD), b"archive/data.pkl", b"archive/evil.pkl"),
        "contradict each other",
    ),
    "another name in the directory": (
        lambda: patched(torch_zip(GOOD), b"archive/data.pkl", b"archive/data.xyz", 1),
        "contradict each other",
    ),
    "an encrypted flag": (lambda: flagged(torch_zip(GOOD), 1), "contradict each other"),
    "another CRC": (
        lambda: patched(torch_zip(GOOD), b"torch\nFloatStorage", b"torch\nCloatStorage"), "(CRC)",
    ),
    "compressed": (lambda: torch_zip(GOOD, method=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "big-endian": (
        lambda: torch_zip(GOOD, {"data/0": bytes(24), "byteorder": b"big"}), "big-endian machine",
    ),
    "an old one, big-endian": (
        lambda: legacy(GOOD).replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
        "big-endian machine",
    ),
    "TorchScript": (
        lambda: torch_zip(GOOD, {"data/0": bytes(24), "code/__torch__.py": b"import os"}),
        "a TorchScript program",
    ),
    "cut off": (lambda: torch_zip(GOOD)[:-30], "is truncated: the end of its archive"),
    "an old one, cut off": (lambda: legacy(GOOD)[:-10], "is truncated: at least 10 bytes"),
    "an old one, cut in a pickle": (lambda: legacy(GOOD)[:150], "is truncated"),
    "an old one of another version": (
        lambda: legacy(GOOD).replace(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xea\x03."), "never was",
    ),
    "storages that nobody uses": (
        lambda: legacy(GOOD, {"0": bytes(24), "1": bytes(8)}), "does not fit its tensors",
    ),
    "more behind the end": (lambda: torch_zip(GOOD) + b"tail", "torch does not write"),
    "more before the start": (lambda: b"PK\3\4" + torch_zip(GOOD), "directory is not where"),
    "a preview and a LoRA": (
        lambda: zipped({"lora.safetensors": b"x", "lora.png": b"x"}), "holds lora.safetensors. Unpack",
    ),
    "no model": (lambda: zipped({"readme.txt": b"x"}), "a zip archive without a model"),
}  # fmt: skip


def zipped(members: dict[str, bytes]) -> bytes:
    import io

    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return file.getvalue()


@pytest.mark.parametrize("name", LIES)
def test_archives_that_lie(tmp_path, name):
    make, says = LIES[name]
    assert says in refusal(tmp_path / "m.ckpt", make())


def test_a_name_that_leaves_the_folder_goes_nowhere(tmp_path):
    path = tmp_path / "in" / "m.ckpt"
    path.parent.mkdir()
    path.write_bytes(torch_zip(GOOD, root="../../evil/"))
    assert read_header(path).tensors.keys() == {"w"}
    assert [each.name for each in tmp_path.rglob("*")] == ["in", "m.ckpt"]


def test_members_over_each_other(tmp_path):
    content = torch_zip(GOOD, {"data/0": bytes(24), "data/1": bytes(24)})
    size = content.rindex(struct.pack("<II", 24, 24))
    grown = content[:size] + struct.pack("<II", 4096, 4096) + content[size + 8 :]
    assert "records lie outside the file" in refusal(tmp_path / "m.ckpt", grown)
    first = content.rindex(struct.pack("<II", 24, 24), 0, size)
    grown = content[:first] + struct.pack("<II", 90, 90) + content[first + 8 :]
    assert "records overlap" in refusal(tmp_path / "m.ckpt", grown)


def test_no_switch_turns_it_off(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    assert "holds code" in refusal(tmp_path / "m.ckpt", torch_zip(call("os.system", CANARY)))


METHOD = named("__builtin__.getattr") + b"(" + named("ultralytics.nn.modules.Detect")


def test_a_name_within_a_name_is_judged_as_one(tmp_path):
    """Detectors of 2023 hold the method of a class, which Python writes as a call of getattr."""
    path = tmp_path / "person.pt"
    path.write_bytes(torch_zip(dictionary(method=METHOD + text("forward") + b"tR", a=tensor())))
    header = read_header(path)
    assert list(header.tensors) == ["a"]
    assert "ultralytics.nn.modules.Detect.forward" in header.ignored


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (METHOD.replace(b"ultralytics.nn.modules", b"os") + text("system") + b"tR", "os.Detect"),
        (METHOD + text("__globals__") + b"tR", "__globals__"),
        (METHOD + text("forward") + b"tR0" + call("builtins.getattr", 1, "x"), "getattr"),
        (named("builtins.getattr"), "getattr"),
    ],
)
def test_any_other_use_of_getattr_is_code(tmp_path, body, told):
    path = tmp_path / "bad.pt"
    path.write_bytes(torch_zip(dictionary(method=body, a=tensor())))
    with pytest.raises(BadFile, match="holds code") as caught:
        read_header(path)
    assert told in str(caught.value)
