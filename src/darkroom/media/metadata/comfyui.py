"""ComfyUI: the settings are not written down, they are found by walking its graph.

The walk starts at the sampler that comes first: the one whose latent no other sampler made. From
there links lead to the prompts, the models and the size. No walk visits a node twice.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.media.metadata.carried import Carried
from darkroom.media.metadata.comfyui_graph import Graph, Link, Node, graph_of
from darkroom.media.metadata.comfyui_hires import enlarging, run
from darkroom.media.metadata.comfyui_table import (
    CHOICES,
    LOADED,
    NO_FILE,
    PARTS,
    SETTINGS,
    TEXT_WEIGHTS,
    VALUES,
    WEIGHTS,
)
from darkroom.media.metadata.comfyui_text import Prompt
from darkroom.media.metadata.found import Found, FoundModel, as_text, renamed

_MAX_SAMPLERS = 30
_MAX_PARTS = 50  # of one sampler
_MAX_HOPS = 100  # nodes that only pass a value on
_FILE = re.compile(r"(.+_name)(_\d{1,2}|\d)?")


def read(carried: Carried) -> Found | None:
    """What the graph says that made the picture; one that was run goes over one that was drawn."""
    documents = carried.documents
    ordered = sorted(documents, key=lambda name: {"prompt": 0, "workflow": 2}.get(name, 1))
    graphs = (graph_of(documents[name]) for name in ordered)
    graph = next((each for each in graphs if each is not None), None)
    return None if graph is None else of_graph(graph)


def of_graph(graph: Graph) -> Found:
    """The settings of the first sampler in `graph`."""
    samplers = [name for name, node in graph.items() if _is_sampler(node)][:_MAX_SAMPLERS]
    if not samplers:
        return Found(source="comfyui", settings={}, remarks=("a graph without a known sampler",))
    first = _first(graph, samplers)
    facts = _facts(graph, first)
    above = ancestors(graph, [first])
    models = list(_models(graph, above))
    started = any("LoadImage" in graph[name].kind for name in _latents(graph, facts))
    settings = _settings(graph, facts, above)
    positive, negative = _prompts(graph, facts)
    others = [name for name in samplers if name != first]
    second = _second_run(graph, first, others, settings=settings)
    remarks = [] if second else [f"a further pass ({graph[name].kind})" for name in others]
    return Found(
        source="comfyui",
        prompt=positive,
        negative_prompt=negative,
        settings=settings | second,
        models=(*models, *_refiners(graph, samplers, models)),
        remarks=(*(["it starts from an image"] if started else []), *remarks),
    )


def _prompts(graph: Graph, facts: Mapping[str, Any]) -> tuple[str, str]:
    positive = facts.get("positive", facts.get("conditioning"))
    return (
        Prompt(graph, "positive").text(positive),
        Prompt(graph, "negative").text(facts.get("negative")),
    )


def _second_run(
    graph: Graph, first: str, others: list[str], *, settings: Mapping[str, str]
) -> dict[str, str]:
    """The settings of a second run: one sampler more, and the way to it is plain."""
    if len(others) != 1 or "Denoising strength" in settings:
        return {}
    found = enlarging(graph, first, others[0])
    if found is None:
        return {}
    facts = _facts(graph, others[0])
    found |= dict(run(settings, _settings(graph, facts, [])))
    prompts = zip(
        ("Hires prompt", "Hires negative prompt"),
        _prompts(graph, _facts(graph, first)),
        _prompts(graph, facts),
        strict=True,
    )
    return found | {key: after for key, before, after in prompts if after not in ("", before)}


def _is_sampler(node: Node) -> bool:
    has = node.inputs.keys()
    return bool(has & {"steps", "sigmas"}) and bool(has & {"positive", "guider", "conditioning"})


def _first(graph: Graph, samplers: list[str]) -> str:
    """The sampler that stands on no other; if possible one that a saved picture comes from."""
    saved = [name for name, node in graph.items() if "Save" in node.kind]
    shown = [name for name, node in graph.items() if "Preview" in node.kind]
    reached = set(ancestors(graph, saved or shown))

    def rank(name: str) -> tuple[bool, bool, bool]:
        others = set(samplers) - {name}
        stands_alone = others.isdisjoint(ancestors(graph, [name]))
        return name in reached, stands_alone, "latent_image" in graph[name].inputs

    return max(samplers, key=rank)


def ancestors(graph: Graph, starts: list[str]) -> list[str]:
    """The nodes that `starts` are made from, nearest first, with themselves."""
    seen = dict.fromkeys(name for name in starts if name in graph)
    queue = deque(seen)
    while queue:
        for name in graph[queue.popleft()].links():
            if name in graph and name not in seen:
                seen[name] = None
                queue.append(name)
    return list(seen)


def _facts(graph: Graph, sampler: str) -> dict[str, Any]:
    """The inputs of a sampler, and of the parts that it is put together from."""
    facts: dict[str, Any] = {}
    names = [sampler]
    for name in names:
        node = graph[name]
        found = {**CHOICES.get(node.kind, {}), **node.inputs}
        facts = found | facts
        parts = [link.node for part in PARTS if isinstance(link := found.get(part), Link)]
        names += [each for each in parts if each in graph and each not in names]
        if len(names) > _MAX_PARTS:
            break
    return facts


def _settings(graph: Graph, facts: Mapping[str, Any], above: list[str]) -> dict[str, str]:
    plain = {key: _value(graph, facts.get(key), key) for key in SETTINGS}
    settings = renamed({key: each for key, each in plain.items() if _is_plain(each)}, SETTINGS)
    if settings.get("Denoising strength") in ("1", "1.0"):
        del settings["Denoising strength"]
    if size := _size(graph, facts):
        settings["Size"] = size
    for name in above:
        inputs = graph[name].inputs
        layer = inputs.get("stop_at_clip_layer")
        if isinstance(layer, int) and layer < -1:
            settings.setdefault("Clip skip", str(-layer))
        if isinstance(inputs.get("guidance"), int | float):
            settings.setdefault("Distilled CFG Scale", as_text(inputs["guidance"]))
    return settings


def _latents(graph: Graph, facts: Mapping[str, Any]) -> list[str]:
    latent = facts.get("latent_image")
    return ancestors(graph, [latent.node]) if isinstance(latent, Link) else []


def _size(graph: Graph, facts: Mapping[str, Any]) -> str | None:
    for name in _latents(graph, facts):
        for prefix in ("", "empty_latent_"):
            sides = [graph[name].inputs.get(f"{prefix}{side}") for side in ("width", "height")]
            sides = [_value(graph, side, "value") for side in sides]
            if all(isinstance(side, int) and side > 0 for side in sides):
                return "x".join(map(str, sides))
    return None


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def _value(graph: Graph, value: object, key: str) -> object:
    """A plain value, also where it comes from a node that only holds or passes on one."""
    for _ in range(_MAX_HOPS):
        if not isinstance(value, Link):
            return value
        node = graph.get(value.node)
        if node is None:
            return None
        inputs = node.inputs
        names = (name for name in (key, *VALUES) if name in inputs)
        value = inputs[next(names, next(iter(inputs), ""))] if inputs else None
    return None


def _models(graph: Graph, above: list[str]) -> Iterator[FoundModel]:
    """The files that the nodes `above` load; the VAE is often loaded elsewhere."""
    loaders = [name for name, node in graph.items() if node.kind == "VAELoader"]
    for name in dict.fromkeys([*above, *loaders]):
        inputs = graph[name].inputs
        for key, given in inputs.items():
            if (found := _FILE.fullmatch(key[:60])) and (role := LOADED.get(found[1])):
                value = _value(graph, given, key)
                if isinstance(value, str) and value not in NO_FILE:
                    weights = _weights(graph[name], found[2] or "") if role == "lora" else {}
                    yield FoundModel.of(role, value, **weights)
            elif isinstance(given, dict) and isinstance(given.get("lora"), str) and given.get("on"):
                weight, text = given.get("strength"), given.get("strengthTwo")
                yield FoundModel.of("lora", given["lora"], weight=weight, text_weight=text)


def _weights(node: Node, number: str) -> dict[str, object]:
    """How strong the LoRA of that number is on the network and on the text encoders.

    Of one alone the number is empty.
    """
    weight, text = (
        next((w for key in keys if (w := node.inputs.get(f"{key}{number}")) is not None), None)
        for keys in (WEIGHTS, TEXT_WEIGHTS)
    )
    text = 0 if text is None and "ModelOnly" in node.kind else text
    return {"weight": weight, "text_weight": text}


def _refiners(graph: Graph, samplers: list[str], models: list[FoundModel]) -> Iterator[FoundModel]:
    """The checkpoints of the other samplers."""
    known = {(each.role, each.name) for each in models}
    for each in _models(graph, ancestors(graph, samplers)):
        if each.role == "checkpoint" and (each.role, each.name) not in known:
            known.add((each.role, each.name))
            yield FoundModel.of("refiner", each.name)
