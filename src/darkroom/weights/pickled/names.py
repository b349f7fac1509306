"""The names that pickles import: which we know, which are harmless, and which would run code.

    judge("os.system") -> "code"    judge("torch.FloatStorage") -> "known"    else "inert"

Nothing is ever imported, so this decides only what the user is told: a file that names code was
made to attack whoever opens it with something else, and is refused. A list of dangerous names is
never complete, so it is turned around: Python's own library, torch, numpy and programs that install
or call others are closed, and what is not known there as data counts as code. Elsewhere a name is
inert unless a word in it tells.
"""

import re
import sys
from collections.abc import Iterable
from typing import Literal

Judgement = Literal["known", "inert", "code"]


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


# What `tensors` and `contents` understand, and plain data of Python and numpy.
KNOWN = _any_of(
    (
        r"builtins\.(set|frozenset|dict|list|tuple|int|float|bool|str|bytes|bytearray|complex"
        r"|slice|range|object)",
        r"collections\.(OrderedDict|defaultdict|Counter|deque|User(Dict|List|String))",
        r"copyreg\.(_reconstructor|__newobj__|__newobj_ex__)",
        r"_codecs\.encode",
        r"torch\.(cuda\.|storage\.)?\w+Storage",
        r"torch\.(Tensor|Size|device|layout|memory_format|strided|contiguous_format)",
        r"torch\.(b?float\d+\w*|u?int\d+|q?u?int\d+|complex\d+|bool|half|double|long)",
        r"torch\._utils\._rebuild_\w+",
        r"torch\._tensor\._rebuild_from_type_v2",
        r"torch\.serialization\._get_layout",
        r"torch\.nn\.parameter\.\w+",
        r"torch\.nn\.modules\.container\.Parameter(Dict|List)",
        r"numpy\.(ndarray|dtype|bool_?|u?int\d*|float\d*|complex\d*|str_|bytes_|object_|void)",
        r"numpy\._?core\.multiarray\.(scalar|_reconstruct)",
        r"numpy\._?core\.numeric\._frombuffer",
        r"numpy\.dtypes\.\w+DType",
        r"numpy\.random\.(_pickle\.__(randomstate|generator|bit_generator)|__RandomState)_ctor",
    )
)

# Data in places that are otherwise closed; nothing in a model needs it.
INERT = _any_of(
    (
        r"argparse\.Namespace",
        r"types\.SimpleNamespace",
        r"pathlib\.(_local\.)?\w*Path",
        r"datetime\.(datetime|date|time|timedelta|timezone)",
        r"decimal\.Decimal",
        r"fractions\.Fraction",
        r"uuid\.(UUID|SafeUUID)",
        r"enum\.\w+",
        r"typing\.\w+",
        r"time\.struct_time",
        r"re\._compile",
        r"random\.Random",
        r"builtins\.(\w+Error|\w+Exception|Exception|Ellipsis|NoneType|type)",
        r"torch\.(relu|tanh|sigmoid|softmax|Generator|default_generator)",
        r"torch\.nn\.(modules|functional|init|parallel)\.[\w.]+",
        r"torch\._C\._nn\.\w+",
        r"torch\.optim\.[\w.]+",
        r"torch\.torch_version\.TorchVersion",
        r"torch\.distributions\.[\w.]+",
        r"torch\.(cuda\.amp|amp)\.grad_scaler\.\w+",
    )
)

CLOSED = sys.stdlib_module_names | {
    # of other versions of Python
    "__builtin__", "commands", "distutils", "imp", "lib2to3", "popen2", "urllib2", "httplib",
    "asynchat", "asyncore", "smtpd", "telnetlib", "nntplib", "pipes", "crypt", "cgi", "cgitb",
    "_pyrepl",
    # of other people, running, calling or unpacking
    "numpy", "torch", "pip", "setuptools", "pkg_resources", "dill", "cloudpickle", "joblib",
    "IPython", "pexpect", "paramiko", "fabric", "invoke", "requests", "urllib3", "httpx",
    "aiohttp", "cffi", "numba",
}  # fmt: skip

# Of a name with dots, any one of these words is enough.
WORDS = frozenset({
    "os", "sys", "posix", "nt", "builtins", "subprocess", "importlib", "runpy", "socket", "shutil",
    "ctypes", "pickle", "marshal", "pty", "eval", "exec", "execfile", "compile", "system", "popen",
    "Popen", "spawn", "getattr", "open", "load", "loads", "import_module", "load_module",
    "run_module", "run_path", "runstring", "attrgetter", "methodcaller", "partial", "globals",
})  # fmt: skip

MOVED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # by Python 3; protocol 2 has the old


def judge(name: str) -> Judgement:
    """What a dotted name stands for."""
    root, _, rest = name.partition(".")
    root = MOVED.get(root, root)
    full = f"{root}.{rest}"
    if KNOWN.fullmatch(full):
        return "known"
    words = rest.split(".")
    told = any(word in WORDS or word.startswith("__") for word in words)
    closed = root in CLOSED and not INERT.fullmatch(full)
    return "code" if told or closed else "inert"
