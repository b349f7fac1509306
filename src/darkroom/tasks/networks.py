"""The networks that a prompt's tags name, on the model for the length of a job.

    with worn(engine, model, files=files, shelf=shelf) as networks:
        networks.wear(prompt)                    LoRAs into the weights, their words onto the shelf
        denoise = networks.over_time(denoise)    windows: start= and end=

The text encoders' part of a LoRA holds for the whole run, since prompts are encoded before it; a
window is about the UNet's part. Every `wear` brings the weights to exactly those of the prompt, so
that a picture does not depend on the ones before it.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor

from darkroom.core.errors import OutOfMemory
from darkroom.core.model import ModelCard
from darkroom.core.prompt import Role, Wish, networks, wishes
from darkroom.core.recipe import UsedModel
from darkroom.engine.engine import Engine
from darkroom.engine.hypernetwork import attached, contexts_of
from darkroom.engine.models import Model
from darkroom.engine.patch import Patcher, Strengths
from darkroom.engine.shelf import Shelf
from darkroom.sampling import At, Denoiser
from darkroom.weights.hypernetwork import Hypernetwork
from darkroom.weights.lora import Network

Files = Mapping[tuple[Role, str], ModelCard]  # by kind and the name in the prompt
WHOLE = (0.0, 1.0)


@contextmanager
def worn(engine: Engine, model: Model, *, files: Files, shelf: Shelf) -> Iterator["Networks"]:
    """Networks for `model`; at the end of the block it has its own weights, by identity."""
    networks = Networks(engine, model, files=files, shelf=shelf)
    try:
        yield networks
    finally:
        networks.take_off()


@dataclass(frozen=True, slots=True)
class _Lora:
    wish: Wish
    card: ModelCard
    network: Network

    def strengths(self, progress: float) -> Strengths:
        """How strong it is at a share of the run, from 0 to below 1."""
        start, end = self.wish.window
        unet = self.wish.unet if start <= progress < end else 0.0
        return Strengths(text=self.wish.text, unet=unet, rank=self.wish.rank)

    @property
    def reach(self) -> str:
        """How much of the model it changes, and what of its file has no effect."""
        wish, places = self.wish, self.network.adapters
        most = self.strengths(wish.window[0])
        acting = sum(bool(most.on(part)) for part, _ in places)
        told = f"<lora:{wish.name}> {acting} modules"
        if acting < len(places):
            told = f"<lora:{wish.name}> {acting} of {len(places)} modules, the others at strength 0"
        return "; ".join((told, *self.network.notes))

    @property
    def on_text(self) -> bool:
        """Whether it changes what prompts are encoded to."""
        return bool(self.wish.text) and any(part != "unet" for part, _ in self.network.adapters)


class Networks:
    """What is on one model. `used` are its files, for the recipe; `said` how far they reach."""

    def __init__(self, engine: Engine, model: Model, *, files: Files, shelf: Shelf) -> None:
        self._engine, self._model, self._files = engine, model, files
        self._patcher = Patcher(model.networks.modules)
        self._own_weights = model.text.weights
        self._own_shelf = self.shelf = shelf
        self._asked: tuple[Wish, ...] = ()
        self._loras: list[_Lora] = []
        self._hypernetworks = ExitStack()
        self.used: tuple[UsedModel, ...] = ()
        self.said: tuple[str, ...] = ()

    def wear(self, prompt: str) -> None:
        """Put on what `prompt` asks for, and take off everything else; nothing if it is on."""
        asked, _ = wishes(networks(prompt)[1])
        if asked != self._asked:
            self.take_off()
            self._put_on(asked)
            self._asked = asked
        try:
            self._patch()
        except OutOfMemory:
            self._engine.make_room(self._model)
            self._patch()

    def take_off(self) -> None:
        """Leave the model as it was."""
        self._patcher.undo()
        self._hypernetworks.close()
        self._model.text.weights = self._own_weights
        self.shelf, self._loras, self._asked = self._own_shelf, [], ()
        self.used = self.said = ()

    def over_time(self, inner: Denoiser) -> Denoiser:
        """`inner`, with every LoRA on inside its window only."""
        if all(lora.wish.window == WHOLE for lora in self._loras):
            return inner
        now = self._strengths(0.0)

        def denoise(x: Tensor, at: At) -> Tensor:
            nonlocal now
            if (then := self._strengths(at.progress)) != now:
                self._patcher.adjust(list(zip(self._stack, then, strict=True)))
                now = then
            return inner(x, at)

        return denoise

    def _put_on(self, asked: tuple[Wish, ...]) -> None:
        """All but the weights."""
        adapters, files = self._engine.adapters, self._files
        cards = [(wish, files[wish.role, wish.name]) for wish in asked]
        self._loras = [
            _Lora(wish, card, adapters.lora(card, self._model))
            for wish, card in cards
            if wish.role == "lora"
        ]
        bent = [(w, adapters.hypernetwork(c)) for w, c in cards if w.role == "hypernetwork"]
        if bent:
            pairs = [(network, wish.unet) for wish, network in bent]
            self._hypernetworks.enter_context(attached(self._model.networks.unet, pairs))
        words = {
            name: vectors
            for lora in self._loras
            for name, vectors in lora.network.embeddings.items()
        }
        self.shelf = self._own_shelf.with_extra(words) if words else self._own_shelf
        on_text = (
            f"{lora.card.sha256} {lora.wish.text} {lora.wish.rank}"
            for lora in self._loras
            if lora.on_text
        )
        self._model.text.weights = "\n".join((self._own_weights, *on_text))
        self.used = tuple(dict.fromkeys(_used(wish, card) for wish, card in cards))
        reaches = [self._reach(wish, network) for wish, network in bent]
        self.said = (*(lora.reach for lora in self._loras), *reaches)

    def _reach(self, wish: Wish, network: Hypernetwork) -> str:
        """How much of the model a hypernetwork bends."""
        contexts = contexts_of(self._model.networks.unet)
        count = sum(len(contexts.get(width, ())) for width in network.pairs)
        return f"<hypernet:{wish.name}> {count} attentions"

    @property
    def _stack(self) -> list[Network]:
        return [lora.network for lora in self._loras]

    def _strengths(self, progress: float) -> list[Strengths]:
        return [lora.strengths(progress) for lora in self._loras]

    def _patch(self) -> None:
        with self._engine.device.guard():
            self._patcher.apply(list(zip(self._stack, self._strengths(0.0), strict=True)))


def _used(wish: Wish, card: ModelCard) -> UsedModel:
    return UsedModel(role=wish.role, name=wish.name, sha256=card.sha256, autov3=card.autov3)
