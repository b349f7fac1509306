"""Train the denoiser and the text encoder together: eps prediction, balanced loss, EMA.

The loss at a timestep is weighted by SNR^-0.5, which makes every noise level count the same: plain
and min-SNR losses were measured at 0.18 (t = 50) to 0.005 (t = 980), so that at 16 x 16 latents the
layout, which is decided where noise is strong, was hardly learned.

Resumable from any kill: `train_state.pt` (weights, EMA, optimizer, counters) is replaced every
five minutes and on SIGTERM; `ema.safetensors` holds the averaged weights alone, with prefixes
`unet.` and `text.`, and `progress.json` the counters. Where only these two are there (pieces.py
carries no more to another machine) the run goes on from the averages with a new optimizer.
`plan.json` ({"samples": N, "rate": R}) overrides the recipe and is read again at every checkpoint,
so a run can be lengthened while it runs.
"""

import json
import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from starter.encode import Pool
from starter.networks import (
    autocast,
    build_text,
    build_unet,
    device,
    load_state,
    save_state,
    save_weights,
)
from starter.recipe import WORK, Recipe, chosen, stop_for_now, time_left
from starter.tokens import Live, Table, Writer

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

STATE = WORK / "train_state.pt"
EMA = WORK / "ema.safetensors"
PROGRESS = WORK / "progress.json"
DONE = WORK / "train.done"  # nobody needs the pool any more
SAVE_EVERY = 300  # seconds
SAY_EVERY = 60  # seconds
SAVING = 5  # seconds it takes
NEAR = 36  # tokens; the longest captions end before
AVERAGE_EVERY = 5  # steps
TRIED = 20  # steps by which plain and compiled networks are compared
WORTH = 150  # seconds that must be left for compiling to pay
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # latents, tokens, times, noise


def alphas_bar() -> Tensor:
    """Return SD's cumulative alphas, (1000,) float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def start_quietly(unet: "UNet2DConditionModel") -> None:
    """Zero the last layer of every residual branch, as the original LDM does."""
    for name, module in unet.named_modules():
        if name.endswith(("conv2", "proj_out")) or name == "conv_out":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


class Run:
    """Networks, averages and counters of one training run."""

    def __init__(self, recipe: Recipe) -> None:
        """Build, and load the state where there is one."""
        self.recipe, self.where = recipe, device()
        self.writer = Writer()
        torch.manual_seed(21)
        self.unet = build_unet(recipe)
        start_quietly(self.unet)
        self.text = build_text(recipe, len(self.writer.vocabulary))
        self._begin()
        self.unet.to(self.where, memory_format=torch.channels_last)
        self.network: Callable[..., tuple[Tensor]] = self.unet  # compiled, it may be another
        self.text.to(self.where)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(self.unet.parameters()), "share": 1.0},
                {"params": list(self.text.parameters()), "share": 0.4},
            ],
            betas=(0.9, 0.99),
            weight_decay=0.01,
            fused=True,
        )
        self.step, self.seen, self.seconds = 0, 0, 0.0
        self.warm_from = 0  # step at which the optimizer was new
        self.plan = {"samples": recipe.samples, "rate": recipe.rate}
        self.average = {key: value.clone() for key, value in self.weights().items()}
        self._resume()
        now = self.weights()  # views of the live tensors
        self._live = [now[name] for name in self.average]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.workers = torch.get_num_threads() if self.where.type == "cpu" else 1
        if self.where.type == "cpu":
            torch.set_num_threads(1)
        self.team = ThreadPoolExecutor(self.workers)
        bar = alphas_bar().float().to(self.where)
        self.signal, self.noise = bar.sqrt(), (1 - bar).sqrt()
        self.weight = (bar / (1 - bar)) ** -recipe.balance

    def _begin(self) -> None:
        """Start from the warmed-up text encoder, or from what was carried here."""
        if EMA.exists():
            carried = load_file(EMA)
            for name, network in (("unet.", self.unet), ("text.", self.text)):
                state = {k.removeprefix(name): v for k, v in carried.items() if k.startswith(name)}
                network.load_state_dict(state)
        else:
            self.text.load_state_dict(load_file(WORK / "text.safetensors"))

    def weights(self) -> dict[str, Tensor]:
        """Return every trained tensor under the prefixes of `ema.safetensors`."""
        unet = {f"unet.{key}": value for key, value in self.unet.state_dict().items()}
        return unet | {f"text.{key}": value for key, value in self.text.state_dict().items()}

    def _resume(self) -> None:
        self.read_plan()
        if (state := load_state(STATE)) is None:
            if PROGRESS.exists() and EMA.exists():
                state = json.loads(PROGRESS.read_text())
                self.step, self.seen, self.seconds = state["step"], state["seen"], state["seconds"]
                self.warm_from = self.step
            return
        self.unet.load_state_dict(state["unet"])
        self.text.load_state_dict(state["text"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {key: value.to(self.where) for key, value in state["average"].items()}
        self.step, self.seen, self.seconds = state["step"], state["seen"], state["seconds"]

    def read_plan(self) -> None:
        """Take overrides from `plan.json`."""
        if (path := WORK / "plan.json").exists():
            self.plan |= json.loads(path.read_text())

    def save(self) -> None:
        """Write the state and the averaged weights."""
        state = {
            "unet": self.unet.state_dict(),
            "text": self.text.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "seen": self.seen,
            "seconds": self.seconds,
        }
        save_state(STATE, state)
        save_weights(EMA, self.average)
        PROGRESS.write_text(
            json.dumps({"step": self.step, "seen": self.seen, "seconds": round(self.seconds, 1)})
        )

    def share(self) -> float:
        """Return how much of the run is done, 1 at its end."""
        if self.recipe.train_seconds:
            return self.seconds / self.recipe.train_seconds
        return self.seen / self.plan["samples"]

    def batch_size(self) -> int:
        """Return the pictures of the next step."""
        return self.recipe.first_batch if self.share() < 0.5 else self.recipe.batch

    def rate(self) -> float:
        """Return the learning rate: warm-up, level, then linear to 4 % over the last 40 %."""
        fall = min(1.0, max(0.04, 1 - 0.96 * (self.share() - 0.6) / 0.4))
        warm = min(1, (self.step - self.warm_from + 1) / self.recipe.warmup)
        return float(self.plan["rate"]) * warm * fall

    def _gradients(self, part: Batch) -> tuple[float, tuple[Tensor, ...]]:
        """Return the loss of a part of the batch and its gradients."""
        latents, tokens, times, eps = part
        noisy = self.signal[times].view(-1, 1, 1, 1) * latents
        noisy += self.noise[times].view(-1, 1, 1, 1) * eps
        with autocast(self.where):
            states = self._states(tokens)
            noisy = noisy.contiguous(memory_format=torch.channels_last)
            guess = self.network(noisy, times, states, return_dict=False)[0]
        each = (guess.float() - eps).square().mean((1, 2, 3))
        loss = (each * self.weight[times]).mean()
        return float(loss.item()), torch.autograd.grad(loss, self.parameters)

    def draw_times(self, count: int) -> Tensor:
        """Return timesteps (count,), those below 200 half as often: little is decided there."""
        times = torch.randint(0, 1000, (count,))
        again = (times < 200) & (torch.rand(count) < 0.5)
        return torch.where(again, torch.randint(200, 1000, (count,)), times).to(self.where)

    def _states(self, tokens: Tensor) -> Tensor:
        """Return text states (B, 77, width); mostly the far padding is copied, not computed.

        Attention is causal, so what stands before is exact either way; every fourth step is whole.
        """
        if self.step % 4 == 0:
            return self._read(tokens)
        states = self._read(tokens[:, :NEAR])
        far = states[:, -1:].expand(-1, tokens.shape[1] - NEAR, -1)
        return torch.cat([states, far], 1)

    def _read(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.text(tokens)
        return states

    def learn(self, latents: Tensor, tokens: Tensor) -> float:
        """Take one step on latents (B, 4, h, w) and token rows (B, 77); return the loss.

        On the CPU every core takes a part of the batch with one thread: cores that meet once a
        step lose far less to other work on the machine than threads that meet in every layer.
        """
        times = self.draw_times(len(latents))
        batch = (latents, tokens, times, torch.randn_like(latents))
        parts = list(zip(*(tensor.chunk(self.workers) for tensor in batch), strict=True))
        results = list(self.team.map(self._gradients, parts))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        total = list(results[0][1])
        for _, more in results[1:]:
            torch._foreach_add_(total, list(more))
        torch._foreach_div_(total, len(results))
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average()
        self.step += 1
        self.seen += len(latents)
        return sum(loss for loss, _ in results) / len(results)

    @torch.no_grad()
    def _average(self) -> None:
        """Move the average; its horizon is a tenth of the steps so far, 2000 at most."""
        if self.step % AVERAGE_EVERY:
            return
        keep = min(0.9995, (1 + self.step) / (10 + self.step)) ** AVERAGE_EVERY
        torch._foreach_lerp_(list(self.average.values()), self._live, 1 - keep)


class Stop:
    """Set by SIGTERM or SIGINT; the loop saves and leaves."""

    def __init__(self) -> None:
        """Listen for both signals."""
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def report(run: Run, losses: list[float], speed: float) -> None:
    """Print a line and append it to `train_log.jsonl`."""
    if run.recipe.train_seconds:
        left = run.recipe.train_seconds - run.seconds
    else:
        left = (run.plan["samples"] - run.seen) / max(speed, 1e-6)
    line = {
        "at": time.strftime("%H:%M:%S"),
        "step": run.step,
        "seen": run.seen,
        "loss": round(float(np.mean(losses)), 5),
        "rate": round(run.rate(), 7),
        "per_second": round(speed, 2),
        "minutes_left": round(left / 60),
    }
    print(json.dumps(line), flush=True)
    with (WORK / "train_log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


class Lesson:
    """One training step after another, from the pool."""

    def __init__(self, run: Run) -> None:
        """Read the pool; on a GPU write all captions beforehand."""
        self.run, self.pool = run, Pool(run.where)
        cuda = run.where.type == "cuda"
        self.texts = Table(self.pool.scenes, run.where) if cuda else Live(run.writer, run.where)
        self.rng = np.random.default_rng(100_000 + run.step)

    def __call__(self) -> float:
        """Take a step; return the loss."""
        run, pool, began = self.run, self.pool, time.monotonic()
        easy = 0.85 if run.share() < 0.6 else 0.0
        index = pool.rows(self.rng, run.batch_size(), plain_share=easy)
        latents = pool.latents[torch.from_numpy(index).to(run.where)].float()
        loss = run.learn(latents, self.texts.rows(pool.scenes, index, self.rng))
        run.seconds += time.monotonic() - began
        return loss


def compiled_if_faster(run: Run, lesson: Lesson) -> None:
    """Compile the denoiser, keep that if it is faster; every step taken here is a real one."""

    def speed() -> float:
        began, seen = time.monotonic(), run.seen
        for _ in range(TRIED):
            lesson()
        return (run.seen - seen) / (time.monotonic() - began)

    lesson()
    plain, began = speed(), time.monotonic()
    try:
        run.network = torch.compile(run.unet)
        lesson()
        took, faster = time.monotonic() - began, speed()
    except Exception as error:  # noqa: BLE001 - whatever a compiler does not like; plain works
        print(f"not compiled: {type(error).__name__}: {str(error)[:200]}", flush=True)
        faster, took = 0.0, time.monotonic() - began
    print(f"{plain:.0f} pictures/s, compiled {faster:.0f} (after {took:.0f} s)", flush=True)
    if faster <= plain:
        run.network = run.unet


def train(recipe: Recipe) -> None:
    """Train until the planned pictures are seen, or for the planned time."""
    run, stop = Run(recipe), Stop()
    DONE.unlink(missing_ok=True)
    if run.share() >= 1:
        DONE.touch()
        return
    lesson = Lesson(run)
    torch.manual_seed(100_000 + run.step)
    if recipe.compile and run.where.type == "cuda" and time_left() > WORTH:
        compiled_if_faster(run, lesson)
    losses: list[float] = []
    said = saved = time.monotonic()
    since = run.seen
    while run.share() < 1 and not stop.asked and time_left() > SAVING:
        losses.append(lesson())
        if not math.isfinite(losses[-1]):
            raise SystemExit("the loss is not finite; the last checkpoint is good, lower the rate")
        now = time.monotonic()
        if now - said > SAY_EVERY:
            report(run, losses, (run.seen - since) / (now - said))
            said, since, losses = now, run.seen, []
        if now - saved > SAVE_EVERY:
            run.save()
            run.read_plan()
            lesson.pool.refresh()
            saved = now
    if losses:
        report(run, losses, (run.seen - since) / (time.monotonic() - said))
    run.save()
    if run.share() < 1:
        stop_for_now("train")
    DONE.touch()


def main() -> None:
    """Train, or do nothing where that is done already."""
    train(chosen())


if __name__ == "__main__":
    main()
