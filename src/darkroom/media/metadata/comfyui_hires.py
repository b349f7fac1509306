"""ComfyUI: a second sampler on the enlarged latent of the first is our second run (hires).

    KSampler ─ LatentUpscale(By) ─────────────────────────────────────── KSampler
           └── VAEDecode ─ [ImageUpscaleWithModel] ─ [ImageScale(By)] ─ VAEEncode ─┘

Any other way from the first to the second is not simple, and is left to a remark.
"""

import re
from collections.abc import Iterator, Mapping

from darkroom.media.metadata.comfyui_graph import Graph, Link, Node

_MOST_NODES = 12  # between the two
_FROM = ("samples", "pixels", "image")  # the inputs by which such a node is reached
_PASSING = ("VAEDecode", "VAEDecodeTiled", "VAEEncode", "VAEEncodeTiled", "Reroute")
_LATENT = {
    "nearest-exact": "Latent (nearest-exact)",
    "bilinear": "Latent",
    "bicubic": "Latent (bicubic)",
}
_PIXELS = {"lanczos": "Lanczos", "nearest-exact": "Nearest"}
_METHODS = {
    "LatentUpscale": _LATENT,
    "LatentUpscaleBy": _LATENT,
    "ImageScale": _PIXELS,
    "ImageScaleBy": _PIXELS,
}
_FACTOR = re.compile(r"(?:^|[^\d])(\d)x|x(\d)(?:[^\d]|$)", re.IGNORECASE)  # in a model's name


def enlarging(graph: Graph, first: str, second: str) -> dict[str, str] | None:
    """How the second sampler's latent was made of the first's, by A1111's names; None if not so."""
    nodes = list(_between(graph, first, second))
    if not nodes or nodes[-1] is not graph[first]:
        return None
    found: dict[str, str] = {}
    factor = 1.0
    for node in reversed(nodes[:-1]):  # from the first on
        if node.kind == "ImageUpscaleWithModel":
            name = _model_of(graph, node)
            found["Hires upscaler"] = name
            known = _FACTOR.search(name)
            factor = float(known[1] or known[2]) if known else 0.0
        elif node.kind in _METHODS:
            upscaler = _METHODS[node.kind].get(str(node.inputs.get("upscale_method")))
            if upscaler is None:
                return None
            found.setdefault("Hires upscaler", upscaler)
            sides = [node.inputs.get(side) for side in ("width", "height")]
            by = node.inputs.get("scale_by")
            if isinstance(by, int | float):
                factor *= by
            elif all(isinstance(side, int) for side in sides):
                found["Hires resize"] = "x".join(map(str, sides))
            else:
                return None
        elif node.kind not in _PASSING:
            return None
    if "Hires resize" not in found and factor > 1:
        found["Hires upscale"] = f"{factor:g}"
    return found if len(found) == 2 else None


def run(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What the second sampler sets, by A1111's names for it; what is as in the first is left out.

    Both are the settings of a sampler by A1111's names.
    """
    yield "Denoising strength", second.get("Denoising strength", "1")
    if "Steps" in second:
        yield "Hires steps", second["Steps"]
    for key, name in _OWN.items():
        if key in second and second[key] != first.get(key):
            yield name, second[key]


_OWN = {
    "Sampler": "Hires sampler",
    "Schedule type": "Hires schedule type",
    "CFG scale": "Hires CFG Scale",
}


def _between(graph: Graph, first: str, second: str) -> Iterator[Node]:
    """The nodes from the second sampler's latent back to the first, that included."""
    link = graph[second].inputs.get("latent_image")
    for _ in range(_MOST_NODES):
        if not isinstance(link, Link) or link.node not in graph:
            return
        node = graph[link.node]
        yield node
        if link.node == first:
            return
        links = [each for each in node.inputs.values() if isinstance(each, Link)]
        named = (each for key in _FROM if isinstance(each := node.inputs.get(key), Link))
        link = next(named, links[0] if node.kind == "Reroute" and links else None)


def _model_of(graph: Graph, node: Node) -> str:
    link = node.inputs.get("upscale_model")
    loader = graph.get(link.node) if isinstance(link, Link) else None
    name = "" if loader is None else str(loader.inputs.get("model_name", ""))
    return re.sub(r"\.(pth|pt|safetensors|ckpt)$", "", re.split(r"[\\/]", name)[-1])
