"""What NPO is to gradient ascent and to DPO, and how fast each of them moves."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq

from prefsim import losses
from prefsim.analysis import log_log_slope
from prefsim.backend import like
from prefsim.gradients import loss_gradient
from prefsim.numerics import log_sigmoid, log_softmax
from prefsim.papers import Verdict, above, apart, claim, outside, worst
from prefsim.solvers import gradient_flow
from prefsim.testing import betas, margins, tables

# --- the loss ---


def forget(log_ratio: Any, ref_logp: Any = -1.0) -> losses.PairLogps:
    """Return examples to forget with these log-ratios u: rejected responses without a chosen."""
    reference = 0 * log_ratio + ref_logp
    return losses.PairLogps(reference, reference + log_ratio, reference, reference)


def weights(logps: losses.PairLogps, beta: float) -> np.ndarray:
    """Return the derivative of NPO in log π of each example, ``(n,)``."""
    return loss_gradient(functools.partial(losses.npo, beta=beta), logps).rejected


@claim(
    "N1",
    "limit",
    source="proposition 1, quantitative form derived",
    stated="derived",
    given={"log_ratios": margins(8.0), "beta": st.sampled_from([1.0, 0.1, 0.01])},
)
def tends_to_gradient_ascent(log_ratios: np.ndarray, beta: float) -> Verdict:
    """NPO − (2/β) log 2 exceeds gradient ascent (E u) by at most (β/4) E u², and its gradient by at
    most β|u|/2.
    """
    logps = forget(log_ratios)
    ascent = np.mean(losses.gradient_ascent(logps) - logps.ref_rejected)
    excess = np.mean(losses.npo(logps, beta=beta)) - 2 / beta * np.log(2) - ascent
    bound = beta / 4 * np.mean(log_ratios**2)
    return worst(
        outside(excess, 0.0, bound),
        above(np.abs(weights(logps, beta) - 1), beta * np.abs(log_ratios) / 2),
        detail=f"excess {excess:.3g}, bound {bound:.3g}",
    )


@claim(
    "N2",
    "identity",
    source="section 3, eq. 4",
    stated="paper",
    given={"log_ratios": margins(20.0), "beta": betas(0.05, 2.0)},
)
def weighs_by_how_likely_the_response_still_is(log_ratios: np.ndarray, beta: float) -> Verdict:
    """NPO weighs ∇ log π by 2π^β/(π^β + π_ref^β) in (0, 2), which is 1 at the start."""
    logps = forget(np.append(log_ratios, 0.0))
    policy, reference = np.exp(beta * logps.rejected), np.exp(beta * logps.ref_rejected)
    found = weights(logps, beta)
    return worst(
        apart(found, 2 * policy / (policy + reference)),
        outside(found, 0.0, 2.0),
        apart(found[-1], 1.0),
    )


@claim(
    "N3",
    "inequality",
    source="section 3",
    stated="paper",
    tolerance=0.0,
    given={
        "loss": st.just("npo"),
        "log_ratio": st.floats(-1e3, 1e3),
        "beta": betas(0.05, 0.5),
    },
    breaks={"loss": st.just("gradient_ascent")},
)
def is_bounded_below(loss: str, log_ratio: float, beta: float) -> Verdict:
    """NPO is bounded below by 0."""
    options = {"beta": beta} if loss == "npo" else {}
    value = getattr(losses, loss)(forget(np.asarray([log_ratio]), 0.0), **options)[0]
    return outside(value, 0.0, math.inf, detail=f"{loss} at u = {log_ratio:.4g}: {value:.6g}")


@claim(
    "N7",
    "identity",
    source="section 3, eq. 3",
    stated="paper",
    given={
        "log_ratios": tables((4,), low=-30.0, high=30.0),
        "ref_logps": tables((4,), low=-20.0, high=0.0),
        "beta": betas(0.05, 2.0),
    },
)
def is_dpo_with_a_silent_chosen_response(
    log_ratios: np.ndarray, ref_logps: np.ndarray, beta: float
) -> Verdict:
    """NPO is 2/β times DPO with the chosen log-ratio at 0."""
    logps = forget(log_ratios, ref_logps)
    silent = losses.dpo(logps._replace(chosen=ref_logps, ref_chosen=ref_logps), beta=beta)
    return apart(losses.npo(logps, beta=beta), 2 / beta * silent, relative=True)


# --- how fast it moves ---


def scalar_path(time: float, beta: float) -> float:
    """Return u(t) of the flow u' = −2σ(βu) from 0: the root of u − e^{−βu}/β = −2t − 1/β."""
    target = 1 + 2 * beta * time
    # With v = −βu the equation is v + e^v = 1 + 2βt.
    return -brentq(lambda v: v + np.exp(v) - target, 0.0, np.log(target) + 1e-9, xtol=1e-14) / beta


@claim(
    "N4",
    "identity",
    source="derivation",
    stated="derived",
    tolerance=1e-6,
    examples=10,
    given={"time": betas(1.0, 1000.0), "beta": betas(0.1, 2.0)},
)
def a_single_log_ratio_falls_like_a_logarithm(time: float, beta: float) -> Verdict:
    """NPO's flow of a single log-ratio, u' = −2σ(βu) from 0, solves u − e^{−βu}/β = −2t − 1/β: u
    falls like −log(2βt)/β.
    """
    flow = gradient_flow(lambda u: losses.npo(forget(u), beta=beta), [0.0], duration=time)
    end, stated = flow.at(time)[0], scalar_path(time, beta)
    return apart(
        end,
        stated,
        detail=(
            f"flow {end:.9g}, closed form {stated:.9g},"
            f" −log(2βt)/β = {-np.log(2 * beta * time) / beta:.5g}"
        ),
    )


LOSSES: dict[str, Callable[[Any], Any]] = {
    "GA": losses.gradient_ascent,
    "NPO": functools.partial(losses.npo, beta=1.0),
}


def distances(
    method: str, times: tuple[float, ...], *, n: int, dimension: int, seed: int
) -> np.ndarray:
    """Return ‖θ_t − θ_0‖ in the norm of XᵀX along the flow of GA or NPO at ``times``, ``(T,)``.

    Of a binary logistic model on n unit inputs with random labels, from θ_0 = 0.
    """
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((n, dimension))
    lengths = np.linalg.norm(inputs, axis=-1, keepdims=True)
    labelled = inputs * rng.choice([-1.0, 1.0], (n, 1)) / lengths
    # θ stays in the span of the inputs: a basis of that leaves few numbers to follow.
    labelled = np.linalg.qr(labelled.T).R.T

    def mean_loss(theta: Any) -> Any:
        log_prob = log_sigmoid(like(labelled, theta) @ theta)
        return LOSSES[method](forget(log_prob + np.log(2), -np.log(2))).mean()

    flow = gradient_flow(mean_loss, np.zeros(labelled.shape[1]), duration=times[-1])
    return np.asarray([np.linalg.norm(labelled @ flow.at(time)) for time in times])


@claim(
    "N5",
    "rate",
    source="theorem 2, as the step of gradient descent tends to 0",
    stated="paper",
    tolerance=0.0,
    examples=4,
    given={
        "n": st.integers(3, 6),
        "dimension": st.integers(40, 80),
        "seed": st.integers(0, 10**6),
    },
    breaks={"n": st.just(20), "dimension": st.just(4)},
)
def ascent_moves_like_t_and_npo_like_log_t(n: int, dimension: int, seed: int) -> Verdict:
    """On a logistic model with nearly orthogonal inputs, gradient ascent moves like t (log–log
    slope 1 ± 0.03), NPO like log t (equal increments per half decade ± 8 %).
    """
    times = tuple(500 * np.sqrt([1.0, 10.0, 100.0]))
    ga, npo = (distances(method, times, n=n, dimension=dimension, seed=seed) for method in LOSSES)
    slope = log_log_slope(times, ga)
    first, second = np.diff(npo)
    return worst(
        outside(slope, 0.97, 1.03),
        outside(second / first, 0.92, 1.08),
        detail=(
            f"GA {ga.round(2)} (slope {slope:.3f}),"
            f" NPO {npo.round(2)} (per half decade {first:.3f}, {second:.3f})"
        ),
    )


def log_ratios(features: np.ndarray, theta: Any) -> Any:
    """Return log π_θ/π_ref of the responses to one prompt, for a uniform reference, θ_0 = 0."""
    return log_softmax(like(features, theta) @ theta) + np.log(len(features))


def unlearned(features: np.ndarray, forgotten: int, method: str) -> np.ndarray:
    """Return where the flow of GA or NPO from θ = 0 leaves a tenth of what is to be forgotten.

    The geometric mean of the probabilities of the first ``forgotten`` responses.
    """

    def mean_loss(theta: Any) -> Any:
        return LOSSES[method](forget(log_ratios(features, theta)[:forgotten])).mean()

    def remaining(theta: np.ndarray) -> float:
        return float(log_ratios(features, theta)[:forgotten].mean() - np.log(0.1))

    start = np.zeros(features.shape[1])
    flow = gradient_flow(mean_loss, start, duration=1e4, until=remaining)
    return flow.at(flow.end)


def divergence(features: np.ndarray, theta: np.ndarray) -> float:
    """Return KL(π_ref‖π_θ) of the prompt in nats, for a uniform reference."""
    return float(-log_ratios(features, theta).mean())


@claim(
    "N6",
    "equivalence",
    source="derivation",
    stated="derived",
    tolerance=1e-6,
    examples=8,
    given={"seed": st.integers(0, 10**6), "forgotten": st.just(1)},
    breaks={"forgotten": st.just(3)},
)
def one_example_leaves_one_path(seed: int, forgotten: int) -> Verdict:
    """On one forget example GA and NPO follow one path and differ in speed alone."""
    features = np.random.default_rng(seed).standard_normal((20, 6))
    ga, npo = (unlearned(features, forgotten, method) for method in LOSSES)
    return apart(
        npo,
        ga,
        detail=(
            f"KL at π = π_ref/10: GA {divergence(features, ga):.6f},"
            f" NPO {divergence(features, npo):.6f}"
        ),
    )
