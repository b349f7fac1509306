"""Which module a name in a LoRA file means; no torch.

Trainers write the path of a module with dots or with underscores, under a prefix, in diffusers'
names or in LDM's. Underscores cannot be undone ("to_out_0" has two readings), so that nothing is
taken apart here: all spellings of the modules that a checkpoint has are tabled, and looked up.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from darkroom.weights.layouts.entry import Component

Place = tuple[Component, str]  # which network, and the module's path in it

WRAPPERS = ("base_model_model_", "module_", "_orig_mod_")  # PEFT, data parallel, torch.compile
SPELLINGS: tuple[tuple[str, tuple[Component, ...]], ...] = (
    ("lora_unet_unet_", ("unet",)),  # of converters that took all keys for the UNet's,
    ("lora_unet_text_encoder_2_", ("text_2",)),  # with prefixes that were there before
    ("lora_unet_text_encoder_", ("text",)),
    ("lora_unet_", ("unet",)),  # kohya
    ("oft_unet_", ("unet",)),
    ("lycoris_unet_", ("unet",)),
    ("lycoris_", ("unet",)),  # SimpleTuner
    ("model_diffusion_model_", ("unet",)),
    ("diffusion_model_", ("unet",)),  # ComfyUI, ai-toolkit
    ("unet_", ("unet",)),  # diffusers
    ("lora_te1_", ("text",)),
    ("lora_te2_", ("text_2",)),
    ("lora_te_", ("text",)),
    ("lycoris_te1_", ("text",)),
    ("lycoris_te2_", ("text_2",)),
    ("lycoris_te_", ("text",)),
    ("text_encoder_2_", ("text_2",)),
    ("text_encoder_", ("text",)),
    ("text_encoders_clip_l_transformer_", ("text",)),  # ComfyUI
    ("text_encoders_clip_h_transformer_", ("text",)),
    ("text_encoders_clip_g_transformer_", ("text_2",)),
    ("clip_l_transformer_", ("text",)),
    ("clip_g_transformer_", ("text_2",)),
    ("clip_l_", ("text",)),
    ("clip_g_", ("text_2",)),
    ("", ("unet", "text")),  # diffusers of old, and PEFT for one network alone
)

# Names of the time when diffusers kept the adapters in its attention processors.
OLDER = tuple(
    (re.compile(pattern), spellings)
    for pattern, spellings in (
        (r"_(attn[12])_(to_[qkv])$", (r"_\1_processor_\2",)),
        (r"_(attn[12])_to_out_0$", (r"_\1_to_out", r"_\1_processor_to_out")),
        (r"_self_attn_([qkv])_proj$", (r"_self_attn_to_\1",)),
        (r"_self_attn_out_proj$", (r"_self_attn_to_out",)),
    )
)


# What the names of other families' modules, with underscores, are for: the first that fits.
FOREIGN = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"^lora_te3_|^text_encoder_3_", "are for SD3's third text encoder"),
        (r"^lora_te2_|^text_encoder_2_|clip_g_", "are for SDXL's second text encoder"),
        (r"double_blocks|single_blocks|single_transformer_blocks", "are for Flux"),
        (r"joint_blocks|context_embedder", "are for SD3"),
        (r"prior_unet", "are for Stable Cascade"),
        (r"motion_modules|temporal_transformer", "are for AnimateDiff"),
        (r"lllite|control_model|controlnet", "are for a ControlNet"),
        (r"^(lora_)?transformer_|^diffusion_model_(blocks|layers)_", "are for a transformer"),
        (r"^lora_vae_|first_stage_model|^vae_", "are for the VAE"),
    )
)
ABSENT = "are not in this model"


def flat(name: str) -> str:
    """A path with underscores for dots."""
    return name.replace(".", "_")


class Index:
    """The modules of a checkpoint under all their names."""

    def __init__(self, places: Iterable[Place], ldm: Mapping[str, str]) -> None:
        self._modules: dict[Component, dict[str, str]] = {"unet": {}, "text": {}, "text_2": {}}
        for component, module in places:
            for name in _spellings(component, module):
                self._modules[component].setdefault(name, module)
        known = self._modules["unet"]
        for source, module in ldm.items():
            for name in _spellings("unet", source):
                if flat(module) in known:
                    known.setdefault(name, module)

    def find(self, base: str) -> Place | None:
        """The module that `base`, a key without its ending, stands for; None if there is none."""
        name = flat(base)
        for wrapper in WRAPPERS:
            name = name.removeprefix(wrapper)
        for prefix, components in SPELLINGS:
            if name.startswith(prefix):
                rest = name[len(prefix) :]
                for component in components:
                    if module := self._modules[component].get(rest):
                        return component, module
        return None


def _spellings(component: Component, module: str) -> Iterator[str]:
    name = flat(module)
    for prefix in ("",) if component == "unet" else ("", "text_model_"):
        yield prefix + name
        for pattern, older in OLDER:
            if pattern.search(name):
                yield from (prefix + pattern.sub(spelling, name) for spelling in older)


def meant(base: str) -> str:
    """What a name is for that no module of a checkpoint has."""
    name = flat(base)
    return next((reason for pattern, reason in FOREIGN if pattern.search(name)), ABSENT)
