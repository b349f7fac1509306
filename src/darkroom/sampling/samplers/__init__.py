"""Samplers: generators that yield a Step per noise level.

    sampler(denoise, x, sigmas, noise) -> Iterator[Step]

`x` (B, C, H, W) is the clean latent plus `sigmas[0]` times noise; `sigmas` (n + 1,) falls, mostly
to 0. They are generators so that the caller owns progress, previews and stopping. Nothing here
takes a callback, and all of them do any number of steps, one included.

Arithmetic on noise levels is done in Python floats (double precision), on latents in their own
dtype. What can be set is keyword-only; `sampler_for` sets it from `SamplerOptions`.
"""

import math
from functools import partial

from darkroom.core.sampler_options import SamplerOptions, given
from darkroom.core.sampler_table import SamplerSpec
from darkroom.sampling.samplers.adams import deis, gradient_estimation, ipndm, ipndm_v, lms, plms
from darkroom.sampling.samplers.dpm_solver import dpm_adaptive, dpm_fast
from darkroom.sampling.samplers.euler import ddim, euler, euler_ancestral, lcm, tcd
from darkroom.sampling.samplers.exponential import (
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2m_sde_heun,
    dpmpp_3m,
    dpmpp_3m_sde,
    er_sde,
    res_multistep,
    sa_solver,
)
from darkroom.sampling.samplers.heun import dpm_2, dpm_2_ancestral, heun, heunpp2, restart
from darkroom.sampling.samplers.singlestep import (
    dpmpp_2s,
    dpmpp_2s_ancestral,
    dpmpp_sde,
    seeds_2,
    seeds_3,
)
from darkroom.sampling.samplers.step import Churn, Sampler, Step
from darkroom.sampling.samplers.unipc import unipc

__all__ = ["SAMPLERS", "Sampler", "Step", "sampler_for"]

SAMPLERS: dict[str, Sampler] = {
    function.__name__: function
    for function in (
        *(ddim, euler, euler_ancestral, lcm, tcd),
        *(dpm_2, dpm_2_ancestral, heun, heunpp2, restart),
        *(deis, gradient_estimation, ipndm, ipndm_v, lms, plms),
        *(dpmpp_2s, dpmpp_2s_ancestral, dpmpp_sde, seeds_2, seeds_3),
        *(dpmpp_2m, dpmpp_2m_sde, dpmpp_2m_sde_heun, dpmpp_3m, dpmpp_3m_sde, res_multistep),
        *(er_sde, sa_solver, unipc),
        *(dpm_adaptive, dpm_fast),
    )
}


def sampler_for(spec: SamplerSpec, options: SamplerOptions | None = None) -> Sampler:
    """The sampler of a row, with those `options` set that it takes.

    The others have no effect; `core.sampler_options.notes` says so to the user.
    """
    wanted = given(options or SamplerOptions())
    taken = {name: value for name, value in wanted.items() if name in spec.takes}
    if "order" in taken and spec.most_order is not None:
        taken["order"] = min(options.order or 1, spec.most_order) if options else 1
    if "s_churn" in spec.takes:
        taken = {"churn": _churn(options or SamplerOptions())}
    return partial(SAMPLERS[spec.function], **taken)


def _churn(options: SamplerOptions) -> Churn:
    scale = options.s_noise
    return Churn(
        amount=options.s_churn or 0.0,
        low=options.s_tmin or 0.0,
        high=options.s_tmax or math.inf,
        scale=1.0 if scale is None else scale,
    )
