"""For which family a LoRA, an embedding, a ControlNet … was made, from its names and shapes.

The text states tell: a cross-attention takes 768 numbers in SD1, 1024 in SD2, 2048 in SDXL and 1280
in its refiner. Every look returns the label it was given, more exact, and the family.
"""

from collections.abc import Callable, Iterator, Mapping

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch
from darkroom.weights import claims
from darkroom.weights.header import Header
from darkroom.weights.names import Names
from darkroom.weights.preview import latent_channels, preview_arch
from darkroom.weights.topology import LATENT, OTHER_LATENTS
from darkroom.weights.upscaler_measure import measure_upscaler

Look = tuple[str, Arch]  # label, family

CONTEXT = {768: Arch.SD1, 1024: Arch.SD2, 2048: Arch.SDXL, 1280: Arch.SDXL_REFINER}
FULL_WIDTH = 320  # of the first level of every UNet but that of small models
STATES = (768, 1024, 2048)  # 1280 is a width inside the UNet too
TOKEN = {768: Arch.SD1, 1024: Arch.SD2, 1280: Arch.SDXL}  # widths of token vectors
EMBEDDING = "a textual inversion embedding"
MOST_TOKENS = 64  # in one file of embeddings
EITHER = "SD1 or SDXL"  # what the text encoder that both have cannot tell apart


def by_context(names: Names) -> Arch:
    """The family by the width of what its first cross-attention reads."""
    name = names.first("attn2.to_k.weight")
    return CONTEXT.get(names.size(name, -1), Arch.OTHER) if name else Arch.OTHER


def named(label: str, arch: Arch) -> Look:
    """The label with its family, where that is known."""
    return (label if arch is Arch.OTHER else f"{label} for {arch}"), arch


# LoRA

DOWN = (  # (r, in …)
    "lora_down.weight", "lora.down.weight", "lora_A.weight", "lora_A.default.weight",
    "hada_w1_b", "hada_w2_b", "lora_linear_layer.down.weight", ":down", ".down",
)  # fmt: skip
WHOLE = (".diff", ".a1.weight")  # (out, in …), (in, r)
ALGORITHMS = (  # the first whose names are there
    ("LoHa", ("*.hada_w1_a",)),
    ("LoKr", ("*.lokr_w1", "*.lokr_w1_a", "*.lokr_w2")),
    ("OFT", ("*.oft_blocks", "*.oft_diag", "*.oft_R.*", "oft_unet_*")),
    ("GLoRA", ("*.a1.weight",)),
    ("IA3", ("*.on_input", "*.ia3_l*")),
    ("DoRA", ("*.dora_scale", "*lora_magnitude_vector*")),
)
PLAIN = ("*lora_up.weight", "*lora.up.weight", "*lora_B*", "*.up.weight")
FULL = ("*.diff", "*.w_norm")
FOREIGN = (  # LoRAs for what this version does not run
    ("Flux", Arch.FLUX, ("*single_blocks*", "*single_transformer_blocks*", "*double_blocks*")),
    ("Stable Diffusion 3", Arch.SD3, ("*joint_blocks*",)),
    ("Qwen-Image", Arch.OTHER, ("*img_mod*", "*txt_mlp*")),
    ("Wan", Arch.OTHER, ("*blocks.*.cross_attn.*", "lora_unet_blocks_*_cross_attn_*")),
    ("Stable Cascade", Arch.OTHER, ("lora_prior_*",)),
    (
        "another transformer", Arch.OTHER,
        (
            "transformer.*", "lora_transformer_*", "diffusion_model.blocks.*",
            "diffusion_model.layers.*", "diffusion_model.transformer_blocks.*",
        ),
    ),
)  # fmt: skip
TOP_ATTENTION = (  # SD1 and SD2 attend at full resolution, SDXL does not
    "down_blocks_0_attentions", "down_blocks.0.attentions",
    "input_blocks_1_1_", "input_blocks.1.1.",
)  # fmt: skip
SDXL_ALONE = (  # has a second text encoder, and more than one transformer in a block
    "lora_te1_", "lora_te2_", "text_encoder_2.", "transformer_blocks_1_", "transformer_blocks.1.",
)  # fmt: skip


def lora(label: str, names: Names) -> Look:
    """A LoRA's algorithm, and what it was trained on."""
    found = [name for name, patterns in ALGORITHMS if names.some(patterns)]
    kinds = found or (["LoCon"] if _convolves(names) else [])
    if not kinds and names.some(FULL) and not names.some(PLAIN):
        kinds = ["full difference"]
    if kinds == ["OFT"] and names.rank(names.first(".oft_blocks") or "") == 4:
        kinds = ["BOFT"]
    label = f"{label} ({', '.join(kinds)})" if kinds else label
    base, arch = lora_base(names)
    return (f"{label} for {base}" if base else label), arch


def lora_base(names: Names) -> Look:
    """What a LoRA was trained on; an empty name if nothing tells."""
    for name, arch, patterns in FOREIGN:
        if names.some(patterns):
            return name, arch
    arch = _by_unet(names)
    if arch is Arch.OTHER:
        arch = claims.base(names.header)
    if arch is not Arch.OTHER:
        return str(arch), arch
    text, arch = _by_text(names)
    if arch is Arch.OTHER and any(map(names.first, TOP_ATTENTION)):
        return (str(Arch.SD1), Arch.SD1) if text == EITHER else (f"{Arch.SD1} or {Arch.SD2}", arch)
    return text, arch


def full_size(names: Names) -> bool:
    """Whether a LoRA's attention is as wide as in the models that are published."""
    wide = (_into(names, n) >= FULL_WIDTH for n in names.header.tensors if "attn" in n)
    return _context(names) in STATES or any(wide)


def is_foreign(names: Names) -> bool:
    """Whether a LoRA is for a family that this version does not run."""
    return any(names.some(patterns) for _, _, patterns in FOREIGN)


def _by_unet(names: Names) -> Arch:
    if arch := CONTEXT.get(_context(names)):
        return arch
    return Arch.SDXL if any(map(names.first, SDXL_ALONE)) else Arch.OTHER


def _context(names: Names) -> int:
    """What the cross-attention reads, from the factor that reads it; 0 if no factor says.

    Lists of factors have no names, but no other layer of a UNet is as wide as a text state.
    """
    for name, info in names.header.tensors.items():
        if "attn2" in name and ("to_k" in name or "to_v" in name):
            size = _into(names, name)
        elif name.isdecimal() or name.endswith(":down"):
            size = info.shape[1] if len(info.shape) == 2 and info.shape[1] in STATES else 0
        else:
            continue
        if size:
            return size
    return 0


def _into(names: Names, name: str) -> int:
    """The input width of the layer that a factor of this name changes; 0 if it does not say."""
    if name.endswith(DOWN):
        return names.size(name, 1)
    if name.endswith(WHOLE):
        return names.size(name, 1 if name.endswith(".diff") else 0)
    if name.endswith((".lokr_w1", ".lokr_w1_b")):  # a Kronecker product: widths multiply
        stem = name.rpartition(".lokr_w1")[0]
        other = names.size(f"{stem}.lokr_w2", 1) or names.size(f"{stem}.lokr_w2_b", 1)
        return names.size(name, 1) * other
    return 0


def _by_text(names: Names) -> Look:
    name = next((n for n in names.header.tensors if "self_attn" in n and n.endswith(DOWN)), "")
    width = names.size(name, 1)
    if width == 768 and not name.startswith("lora_te_"):
        return EITHER, Arch.OTHER
    arch = TOKEN.get(width, Arch.OTHER)
    return ("" if arch is Arch.OTHER else str(arch)), arch


def _convolves(names: Names) -> bool:
    """Whether a factor is a real convolution: 3 numbers wide."""
    infos = names.header.tensors.items()
    return any(
        len(info.shape) == 4 and info.shape[-1] > 1 and name.endswith((*DOWN, "lora_mid.weight"))
        for name, info in infos
    )


# Embeddings and hypernetworks


def embedding(label: str, names: Names) -> Look:
    """For which text encoders the vectors are, by their width."""
    widths = set(_widths(names))
    if widths == {768, 1280}:
        return named(label, Arch.SDXL)
    if len(widths) != 1:
        return label, Arch.OTHER
    (width,) = widths
    if width in TOKEN:
        return named(label, TOKEN[width])
    return f"{label} for a text encoder {width} wide", Arch.OTHER


def _widths(names: Names) -> Iterator[int]:
    """Widths of what may be vectors of tokens: few tensors, of one dimension or two."""
    tensors = names.header.tensors
    if len(tensors) > MOST_TOKENS:
        return
    for name, info in tensors.items():
        if 0 < len(info.shape) < 3 and not name.startswith("string_to_token"):
            yield info.shape[-1]


def hypernetwork(label: str, names: Names) -> Look:
    """By the widths of its modules."""
    widths = (768, 1024, 2048, 1280)
    found = (w for w in widths if names.first(f"{w}.0.linear"))
    return named(label, CONTEXT.get(next(found, 0), Arch.OTHER))


# ControlNets, adapters, motion


def controlnet(label: str, names: Names) -> Look:
    """Which sort of ControlNet, and for which family."""
    sorts = (
        ("a Control-LoRA", ("lora_controlnet",)),
        ("a ControlNet LLLite", ("lllite_unet_*",)),
        ("a union ControlNet", ("*task_embedding*", "*control_add_embedding*")),
    )
    label = next((sort for sort, patterns in sorts if names.some(patterns)), label)
    foreign = ("*double_blocks*", "*single_transformer_blocks*", "*transformer_blocks.*.attn.add*")
    if names.some(foreign):
        return f"{label} for Flux or Stable Diffusion 3", Arch.OTHER
    if "LLLite" in label:
        return named(label, Arch.SD1 if names.first("input_blocks_1_1_") else Arch.SDXL)
    if (arch := by_context(names)) is not Arch.OTHER:
        return named(label, arch)
    return named(label, CONTEXT.get(_context(names), claims.base(names.header)))


def t2i_adapter(label: str, names: Names) -> Look:
    """An SDXL adapter looks at pictures at a 16th of their size, the others at an 8th."""
    first = names.first("conv_in.weight") or ""
    channels = names.size(first, 1)
    shrunk = {64: Arch.SD1, 192: Arch.SD1, 256: Arch.SDXL, 768: Arch.SDXL}
    return named(label, shrunk.get(channels, Arch.OTHER))


def ip_adapter(label: str, names: Names) -> Look:
    """Plain, plus or face, and the family by the width of its keys' input."""
    sorts = (
        ("FaceID Plus", ("image_proj.perceiver_resampler.*",)),
        ("FaceID", ("*.to_q_lora.*",)),
        ("Plus", ("image_proj.latents",)),
        ("Full Face", ("image_proj.proj.3.*", "image_proj.proj.0.*")),
    )
    sort = next((sort for sort, patterns in sorts if names.some(patterns)), "")
    if sort == "Plus" and "face" in claims.words_of(names.header.path.stem):
        sort = "Plus Face"
    name = names.first("to_k_ip")
    arch = CONTEXT.get(names.size(name, -1), Arch.OTHER) if name else Arch.OTHER
    return named(f"{label} {sort}".strip(), arch)


def motion(label: str, names: Names) -> Look:
    """Generations of AnimateDiff, told by the table of positions and by which blocks are there."""
    if names.first("pos_encoder.positional_encoding"):
        return named("a HotshotXL motion module", Arch.SDXL)
    arch = Arch.SD1 if names.first("down_blocks.3.") else Arch.SDXL  # has one level less
    pe = names.first("pos_encoder.pe") or names.first("pos_embed.pe")
    if pe is None:
        return named("an AnimateLCM motion module", arch)
    if arch is Arch.SDXL:
        return named(f"{label} (SDXL beta)", arch)
    if names.has("*mid_block.motion_modules*"):
        return named(f"{label} (v2)", arch)
    return named(f"{label} ({'v1' if names.size(pe, 1) == 24 else 'v3'})", arch)


# Parts


def unet(label: str, names: Names) -> Look:
    """A UNet without the rest."""
    arch = by_context(names)
    return (label if arch is Arch.OTHER else f"{label} ({arch})"), arch


def vae(label: str, names: Names) -> Look:
    """A VAE by its latents; those of SD1 and SDXL have equal shapes, so that words decide."""
    name = names.first("decoder.conv_in.weight") or ""
    latent = names.size(name, 1)
    if latent != LATENT:
        what = OTHER_LATENTS.get(latent, f"another family ({latent} channels)")
        return f"a VAE of {what}", Arch.OTHER
    return label, vae_arch(names.header)


def preview(label: str, names: Names) -> Look:
    """A decoder for previews, by its latents and its words."""
    channels = latent_channels(names.header)
    if channels not in (0, LATENT):
        what = OTHER_LATENTS.get(channels, f"another family ({channels} channels)")
        return f"{label} of {what}", Arch.OTHER
    return named(label, preview_arch(names.header))


def vae_arch(header: Header) -> Arch:
    """SDXL where the file's scale, base or name say so, else SD1 (whose VAE SD2 shares)."""
    for key in ("config.json", "vae/config.json"):
        if scale := claims.table(header, key).get("scaling_factor"):
            return Arch.SDXL if scale == 0.13025 else Arch.SD1
    if claims.base(header) is Arch.SDXL or {"sdxl", "xl"} & set(claims.words_of(header.path.stem)):
        return Arch.SDXL
    return Arch.SD1


def text_encoder(label: str, names: Names) -> Look:
    """CLIP's by their widths."""
    width = names.size(names.first("token_embedding.weight") or "", 1)
    sorts = {768: "CLIP-L", 1024: "OpenCLIP-H", 1280: "OpenCLIP-bigG"}
    return f"{label} ({sorts[width]})" if width in sorts else label, Arch.OTHER


def upscaler(label: str, names: Names) -> Look:
    """How many times larger, where the file tells it."""
    try:
        measured = measure_upscaler(names.header)
    except BadFile:
        measured = None
    return (f"{label[:-1]}, {measured.dims.scale}x)" if measured else label), Arch.OTHER


LOOKS: Mapping[str, Callable[[str, Names], Look]] = {
    "a LoRA": lora,
    "a hypernetwork": hypernetwork,
    EMBEDDING: embedding,
    "a ControlNet": controlnet,
    "a T2I-Adapter": t2i_adapter,
    "an IP-Adapter": ip_adapter,
    "an AnimateDiff motion module": motion,
    "a UNet alone": unet,
    "a VAE alone": vae,
    "a preview decoder (TAESD)": preview,
    "a preview decoder (VAE-approx)": preview,
    "a text encoder alone": text_encoder,
    "an upscaler (ESRGAN)": upscaler,
    "an upscaler (compact ESRGAN)": upscaler,
}
