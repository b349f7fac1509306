"""What the keys of a LoRA file say: for which module, and which part of which formula; no torch.

    "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"  ->  base "lora_unet_mid…", part "up"

A part has one name here, however a trainer spells it. Which module a base means is left to `names`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from darkroom.weights.header import Header
from darkroom.weights.layouts.entry import Component

Parts = Mapping[str, str]  # part -> key in the file

# Endings of keys. `_lora.up` is diffusers' of old, `_lora_up` of converters that lost a dot; after
# A and B PEFT may put the name of the adapter.
_LORA = r"[._]lora(?:_linear)?(?:_layer)?[._]"
_LYCORIS = "|".join((
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1_a", "lokr_w1_b", "lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_w2", "lokr_t2",
    "oft_blocks", "oft_diag", "rescale", "w_norm", "b_norm", "diff_b", "diff", "on_input",
))  # fmt: skip
ENDINGS = (
    (_LORA + r"(?:up|B)(?:\.\w+)??\.bias", "up_b"),
    (_LORA + r"(?:up|B)(?:\.\w+)??(?:\.weight)?", "up"),
    (_LORA + r"(?:down|A)(?:\.\w+)??(?:\.weight)?", "down"),
    (_LORA + r"mid\.weight", "mid"),
    (r"\.lora_magnitude_vector(?:\.\w+)??(?:\.weight)?", "dora"),
    (r"\.dora_scale", "dora"),
    (r"(?:[._]lora)?\.alpha", "alpha"),
    (r"\.scale", "scale"),
    (rf"\.(?P<same>{_LYCORIS})(?:\.default)?", ""),
    (r"\.(?P<glora>a1|a2|b1|b2|bm)\.weight", ""),
    (r"\.weight", "ia3"),
)
REFUSED = (  # endings of what does not run here -> what it is
    (r"\.(?:reshape_weight|set_weight)", "replace whole weights (set_weight, reshape_weight)"),
    (r"\.(?:oft|boft)_[RrSs](?:\.\w+)*", "are of PEFT's own OFT, packed another way"),
    (
        r"\.(?:vera_lambda_[bd]|hra_u|ia3_l|lora_embedding_[AB])(?:\.\w+)*",
        "are of a kind of PEFT's",
    ),
    (r"\.bias_(?:indices|values|size)", "add single numbers (bias_values)"),
)
_ROWS = ENDINGS + REFUSED
_ENDING = re.compile(f"(?:{'|'.join(f'(?P<e{i}>{row[0]})' for i, row in enumerate(_ROWS))})$")

BUNDLED = re.compile(
    r"bundle_emb\.(?P<name>.+?)\.(?P<vector>string_to_param\.\*|emb_params|clip_[lg])$"
)
LEARNED = re.compile(r"<[^<>]+>$")  # a token of cloneofsimo's files
COUNTED = re.compile(r"(?P<part>unet|text_encoder):(?P<index>\d{1,4}):(?P<side>up|down)$")
LISTED = re.compile(r"\d{1,5}$")  # up and down by turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of a file, sorted."""

    modules: dict[str, dict[str, str]] = field(default_factory=dict)  # base -> its parts
    counted: dict[Component, dict[int, dict[str, str]]] = field(default_factory=dict)
    listed: dict[int, dict[str, str]] = field(default_factory=dict)  # as counted; which is not said
    embeddings: dict[str, dict[str, str]] = field(default_factory=dict)  # word -> vector -> key
    refused: dict[str, str] = field(default_factory=dict)  # key -> why
    unknown: list[str] = field(default_factory=list)


def sort_keys(header: Header) -> Keys:
    """Every tensor of the file under what it is; numbers kept beside pickled tensors count too."""
    keys = Keys()
    for key in header.tensors:
        _sort(key, keys)
    for key in header.metadata:  # `alpha` of a pickle may be a plain number
        found = split_key(key) if key.endswith((".alpha", ".scale")) else None
        if found and found[0] in keys.modules:
            keys.modules[found[0]].setdefault(found[1], key)
    return keys


def split_key(key: str) -> tuple[str, str] | None:
    """Base and part; None if the ending says nothing, or that it does not run here."""
    found = _ending(key)
    return None if found is None or _reason(found) else (key[: found.start()], _part(found))


def _ending(key: str) -> re.Match[str] | None:
    found = _ENDING.search(key)
    return found if found and found.start() else None


def _part(found: re.Match[str]) -> str:
    return found["same"] or found["glora"] or _row(found)[1]


def _reason(found: re.Match[str]) -> str:
    row = _row(found)
    return row[1] if row in REFUSED else ""


def _row(found: re.Match[str]) -> tuple[str, str]:
    return _ROWS[int(str(found.lastgroup)[1:])]


def _sort(key: str, keys: Keys) -> None:
    if found := COUNTED.match(key):
        component: Component = "unet" if found["part"] == "unet" else "text"
        pairs = keys.counted.setdefault(component, {})
        pairs.setdefault(int(found["index"]), {})[found["side"]] = key
    elif LISTED.match(key):
        index, down = divmod(int(key), 2)
        keys.listed.setdefault(index, {})["down" if down else "up"] = key
    elif found := BUNDLED.match(key):
        keys.embeddings.setdefault(found["name"], {})[found["vector"]] = key
    elif LEARNED.match(key):
        keys.embeddings.setdefault(key, {})["emb_params"] = key
    elif (ending := _ending(key)) is None:
        keys.unknown.append(key)
    elif reason := _reason(ending):
        keys.refused[key] = reason
    else:
        keys.modules.setdefault(key[: ending.start()], {})[_part(ending)] = key
