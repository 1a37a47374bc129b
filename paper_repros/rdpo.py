"""Provably robust DPO: learning from labels that are flipped at a known rate."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros._flip_experiments import LinearTask, flip_experiment, linear_task
from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.analysis.loglinear import (
    difference_covariance,
    estimate_covariance,
    estimation_bound,
    policy_covariance,
    relative_condition_number,
)
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.losses import PairLogps
from prefsim.numerics import sigmoid, softplus
from prefsim.papers import Claim, Paper, Reproduction, Run, Verdict
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit
from prefsim.testing.bandits import betas, flip_rates, pair_logps

PAPER = Paper(
    slug="rdpo",
    title="Provably Robust DPO: Aligning Language Models with Noisy Feedback",
    arxiv="2403.00409",
    year=2024,
    family="robust",
    summary=(
        "Where labels are flipped at a known rate, a loss with the flips' bias taken out recovers"
        " what clean labels would have taught; plain DPO is biased towards a flat policy and label"
        " smoothing makes that worse."
    ),
    implements=(
        "prefsim.losses.rdpo",
        "prefsim.losses.dpo",
        "prefsim.raters.noise.flip_labels",
        "prefsim.analysis.loglinear.estimate_covariance",
        "prefsim.analysis.loglinear.relative_condition_number",
    ),
)


# --- identities of the loss
# ----------------------------------------------------------------------------------------------------------


class NoisyPairs(NamedTuple):
    """Pairs whose labels are flipped at one rate and corrected for another."""

    logps: PairLogps
    beta: float
    flip_rate: float
    assumed_rate: float


def _noisy_pairs(assumed_is_true: bool) -> st.SearchStrategy[NoisyPairs]:
    def build(logps: PairLogps, beta: float, rate: float, other: float) -> NoisyPairs:
        return NoisyPairs(logps, beta, rate, rate if assumed_is_true else other)

    return st.builds(build, pair_logps(), betas(), flip_rates(), flip_rates())


def _swapped(logps: PairLogps) -> PairLogps:
    return PairLogps(logps.rejected, logps.chosen, logps.ref_rejected, logps.ref_chosen)


def _worst(difference: Any, scale: Any = 1.0) -> float:
    return float(np.max(np.abs(difference) / scale))


def _check_unbiased(pairs: NoisyPairs) -> Verdict:
    logps, beta, rate, assumed = pairs
    loss = functools.partial(losses.rdpo, beta=beta, flip_rate=assumed)
    expected = (1 - rate) * loss(logps) + rate * loss(_swapped(logps))
    scale = 1 + np.abs(beta * losses.reward_margin(logps)) / (1 - 2 * assumed)
    return Verdict(
        _worst(expected - losses.dpo(logps, beta=beta), scale),
        f"rate {rate:.3g} corrected for {assumed:.3g}",
    )


def _check_gradient_weights(pairs: NoisyPairs) -> Verdict:
    import torch

    logps, beta, rate, assumed = pairs
    away = sigmoid(-beta * losses.reward_margin(logps))
    stated = {
        "DPO": (functools.partial(losses.dpo, beta=beta), away),
        "rDPO": (
            functools.partial(losses.rdpo, beta=beta, flip_rate=assumed),
            away + rate / (1 - 2 * rate),
        ),
        "rDPO as a mixture": (
            functools.partial(losses.rdpo, beta=beta, flip_rate=assumed),
            ((1 - rate) * away + rate * (1 - away)) / (1 - 2 * rate),
        ),
        "cDPO": (functools.partial(losses.dpo, beta=beta, label_smoothing=assumed), away - rate),
    }
    error = 0.0
    for loss, weight in stated.values():
        moved = PairLogps(*(torch.tensor(x, dtype=torch.float64) for x in logps[:4]))
        parts = (moved.chosen.requires_grad_(), moved.rejected.requires_grad_())
        chosen, rejected = (to_numpy(g) for g in torch.autograd.grad(loss(moved).sum(), parts))
        error = max(
            error,
            _worst(chosen / -beta - weight, 1 + np.abs(weight)),
            _worst(rejected / beta - weight, 1 + np.abs(weight)),
        )
    return Verdict(error)


class Limits(NamedTuple):
    """Pairs, a rate that should be zero, and how far from one half the other end is taken."""

    logps: PairLogps
    beta: float
    flip_rate: float
    gap: float


def _check_limits(case: Limits) -> Verdict:
    logps, beta, rate, gap = case
    margin = beta * losses.reward_margin(logps)
    plain = losses.dpo(logps, beta=beta)
    robust = losses.rdpo(logps, beta=beta, flip_rate=rate)
    conservative = losses.dpo(logps, beta=beta, label_smoothing=rate)
    equal = max(
        _worst(robust - plain, 1 + np.abs(margin)), _worst(conservative - plain, 1 + np.abs(margin))
    )
    # 1 − 2ε = gap: what is left of gap · L is −βm/2, up to a term that the loss itself bounds.
    near_half = gap * losses.rdpo(logps, beta=beta, flip_rate=(1 - gap) / 2)
    allowed = gap * (softplus(-margin) + 0.5 * np.abs(margin)) + 1e-12 * (1 + np.abs(margin))
    excess = float(np.max(np.maximum(np.abs(near_half + 0.5 * margin) - allowed, 0)))
    return Verdict(
        max(equal, excess), f"equality {equal:.2e}, divergence beyond its bound {excess:.2e}"
    )


class Depth(NamedTuple):
    """How low the loss of one pair is asked to go, and the largest margin that a policy may take."""

    beta: float
    flip_rate: float
    level: float
    largest_margin: float


def _check_unbounded(case: Depth) -> Verdict:
    beta, rate, level, largest = case
    slope = rate / (1 - 2 * rate)
    margin = np.asarray([min((level + 1) / (slope * beta), largest)])
    pair = PairLogps(np.zeros(1), -margin, np.zeros(1), np.zeros(1))
    robust, plain = (
        float(x[0])
        for x in (losses.rdpo(pair, beta=beta, flip_rate=rate), losses.dpo(pair, beta=beta))
    )
    return Verdict(
        max(0.0, robust + level, -plain),
        f"rDPO {robust:.4g}, DPO {plain:.2g} at margin {margin[0]:.3g}",
    )


class Shift(NamedTuple):
    """Pairs and what is added to the policy's log-probability of each response."""

    logps: PairLogps
    beta: float
    flip_rate: float
    chosen: float
    rejected: float


def _check_invariance(case: Shift) -> Verdict:
    logps, beta, rate, chosen, rejected = case
    moved = logps._replace(chosen=logps.chosen + chosen, rejected=logps.rejected + rejected)
    scale = (
        1 + np.abs(beta * losses.reward_margin(logps)) + beta * (abs(chosen) + abs(rejected))
    ) / (1 - 2 * rate)
    robust = functools.partial(losses.rdpo, beta=beta, flip_rate=rate)
    shifted = max(
        _worst(loss(moved) - loss(logps), scale)
        for loss in (robust, functools.partial(losses.dpo, beta=beta))
    )
    mirrored = losses.soft_logistic(
        beta * losses.reward_margin(_swapped(logps)), rate / (2 * rate - 1)
    )  # target (1 − ε)/(1 − 2ε) at 1 − ε
    return Verdict(max(shifted, _worst(mirrored - robust(logps), scale)))


# --- log-linear policies: what the population and a sample teach
# ---------------------------------------------------------------------


def _check_minimiser(task: LinearTask) -> Verdict:
    rate = task.flip_rate
    recovered = _worst(task.fit("rDPO", task.population(rate)).parameters - task.weights)
    # Two responses to each prompt and every margin free: there, flipped labels are still those of
    # some Bradley–Terry rater.
    pair = task._replace(
        features=task.features[:, :2], sampling=TabularPolicy.uniform(task.features.shape[0], 2)
    )
    p, q = pair.population().prob, pair.population(rate).prob
    error, sizes = 0.0, []
    for name, target in {"rDPO": p, "DPO": q, "cDPO": q * (1 - rate) + (1 - q) * rate}.items():
        policy = fit(
            pair.sampling, pair.loss(name), pair.population(rate), reference=pair.sampling
        ).policy
        chosen, rejected = pair.population().log_probs(policy)
        error = max(
            error, _worst(task.beta * (chosen - rejected) - (np.log(target) - np.log1p(-target)))
        )
        sizes.append(np.abs(chosen - rejected))
    grown = max(float(np.max(small - large)) for large, small in itertools.pairwise(sizes))
    return Verdict(
        max(recovered, error, grown),
        f"theta* missed by {recovered:.2e}, free margins by {error:.2e}",
    )


class Sampling(NamedTuple):
    """A task, the size of each data set and their number."""

    task: LinearTask
    n: int
    repeats: int


def _check_sandwich(case: Sampling) -> Verdict:
    task, n, repeats = case
    found = task.fit("rDPO", task.samples(n, repeats, seed=1)).parameters
    measured = n * np.mean(np.sum((found - task.weights) ** 2, axis=-1))
    stated = np.trace(
        estimate_covariance(
            task.population(), task.features, beta=task.beta, flip_rate=task.flip_rate
        )
    )
    return Verdict(
        float(abs(measured / stated - 1)),
        f"n·MSE {measured:.1f}, asymptotic {stated:.1f} at rate {task.flip_rate}",
    )


SIZES = (4000, 16000, 64000)


def _bound_ratios(
    task: LinearTask, n: int, data: Comparisons, policy: LogLinearPolicy, gap: np.ndarray
) -> tuple[float, float]:
    """Return how much of the two bounds is used by the worst data set: of the estimation error, and of the reward gap."""
    ridge, ball = 1 / n, 2 * float(np.linalg.norm(task.weights))
    if (np.linalg.norm(policy.parameters, axis=-1) > ball).any():
        return math.inf, math.inf
    delta = policy.parameters - task.weights
    sigma = difference_covariance(data, task.features) + ridge * np.eye(delta.shape[-1])
    distance = np.sqrt(np.einsum("...i,...ij,...j->...", delta, sigma, delta))
    steepest = np.asarray(2 * task.beta * ball * np.linalg.norm(task.features, axis=-1).max())
    bound = estimation_bound(
        n,
        delta.shape[-1],
        beta=task.beta,
        flip_rate=task.flip_rate,
        curvature=float(sigmoid(steepest) * sigmoid(-steepest)),
        radius=ball,
        ridge=ridge,
        chance=0.01,
    )
    segment = [
        policy.with_parameters(task.weights + s * delta).log_probs for s in np.linspace(0, 1, 6)
    ]
    kappa = np.max(
        [
            relative_condition_number(policy_covariance(table, task.features), sigma)
            for table in segment
        ],
        axis=0,
    )
    span = float(np.ptp(task.features @ task.weights * task.beta, axis=-1).max())
    return float(distance.max() / bound), float(
        (gap / (0.5 * span * np.sqrt(kappa) * distance)).max()
    )


def _check_rate(task: LinearTask) -> Verdict:
    errors, gaps, used = [], [], []
    for n in SIZES:
        data = task.samples(n, 100, seed=n)
        policy = task.fit("rDPO", data)
        gap = suboptimality(policy.log_probs, task.world(), comparator=task.optimum.log_probs)
        used.append(_bound_ratios(task, n, data, policy, gap))
        errors.append(np.mean(np.linalg.norm(policy.parameters - task.weights, axis=-1)))
        gaps.append(np.mean(np.abs(gap)))
    slopes = [float(np.polyfit(np.log(SIZES), np.log(y), 1)[0]) for y in (errors, gaps)]
    outside = max(max(abs(slope + 0.5) - 0.1, 0.0) for slope in slopes)
    shares = np.max(used, axis=0)
    detail = (
        f"error {np.round(errors, 4)}, slope {slopes[0]:.3f}; gap {np.round(gaps, 5)}, slope"
        f" {slopes[1]:.3f}; share of bounds {shares}"
    )
    return Verdict(max(outside, float(np.max(shares)) - 1, 0.0), detail)


def _tasks(**options: Any) -> st.SearchStrategy[LinearTask]:
    return st.builds(
        functools.partial(linear_task, **options),
        st.integers(0, 10_000),
        flip_rates(0.05, 0.4),
        betas(0.3, 2.0),
    )


SPANNING_TASKS = _tasks(scale=0.7)
CLAIMS = (
    Claim(
        "R1",
        "identity",
        "The robust loss is unbiased: (1 − ε) L_ε(m) + ε L_ε(−m) is the plain loss, for every"
        " margin and every pair",
        "Lemma 3.1",
        _noisy_pairs(assumed_is_true=True),
        _check_unbiased,
        1e-12,
        breaks=_noisy_pairs(assumed_is_true=False),
    ),
    Claim(
        "R2",
        "identity",
        "Gradients are −βζ∇m with ζ = σ(−βm) for DPO, σ(−βm) + ε/(1−2ε) = ((1−ε)σ(−βm) +"
        " εσ(βm))/(1−2ε) for rDPO and σ(−βm) − ε for cDPO",
        "section 3.2",
        _noisy_pairs(assumed_is_true=True),
        _check_gradient_weights,
        1e-12,
        breaks=_noisy_pairs(assumed_is_true=False),
    ),
    Claim(
        "R3",
        "minimiser",
        "On the population of flipped labels rDPO recovers θ* exactly; with free margins DPO ends"
        " at logit q and cDPO at logit(q(1−ε) + (1−q)ε), each flatter than the one before",
        "section 3.2",
        SPANNING_TASKS,
        _check_minimiser,
        1e-8,
        breaks=st.one_of(_tasks(offset=0.5), _tasks(covered=False)),
        examples=6,
    ),
    Claim(
        "R4",
        "limit",
        "At ε = 0 rDPO, cDPO and DPO are one loss; as ε → ½, (1 − 2ε) L_ε → −βm/2, so the loss"
        " itself diverges",
        "definition of the robust loss",
        st.builds(
            Limits,
            pair_logps(),
            betas(),
            st.just(0.0),
            st.sampled_from([2.0**-10, 2.0**-20, 2.0**-30]),
        ),
        _check_limits,
        1e-12,
        breaks=st.builds(Limits, pair_logps(), betas(), flip_rates(0.05), st.just(2.0**-10)),
    ),
    Claim(
        "R5",
        "counterexample",
        "For ε > 0 the robust loss of a single pair falls below every level as the margin grows,"
        " while DPO stays at or above zero",
        "definition of the robust loss",
        st.builds(Depth, betas(), flip_rates(0.01), st.floats(1.0, 1e4), st.just(math.inf)),
        _check_unbounded,
        0.0,
        breaks=st.builds(Depth, betas(), flip_rates(0.01), st.just(1e4), st.floats(1.0, 10.0)),
    ),
    Claim(
        "R6",
        "statistical",
        "n Cov(θ̂) tends to the sandwich H⁻¹VH⁻¹, so errors grow as 1/((1 − 2ε)√n): n·MSE over 400"
        " data sets of n = 20000 within 15 %",
        "asymptotics behind theorem 4.2",
        st.sampled_from([0.0, 0.2, 0.4]).map(
            lambda rate: Sampling(linear_task(0, rate), 20_000, 400)
        ),
        _check_sandwich,
        0.15,
        breaks=st.just(Sampling(linear_task(0, 0.2), 200, 400)),
        examples=3,
    ),
    Claim(
        "R7",
        "rate",
        "The error of θ̂ and the reward gap fall as n^(−½) (slopes in [−0.6, −0.4]); the error in"
        " the norm of Σ̂ + λI stays below √((d + 2√(d log 1/δ) + 2 log 1/δ)/n)/(γβ(1−2ε)) + 2B√λ,"
        " and the gap below ½ span(r) √κ times the error. The paper's form; these constants are"
        " derived here, its own are unverified",
        "theorems 4.2 and 4.4 (form)",
        st.sampled_from([0.1, 0.3]).map(lambda rate: linear_task(0, rate, scale=0.5)),
        _check_rate,
        0.0,
        breaks=st.just(linear_task(0, 0.3, scale=0.5, covered=False)),
        examples=2,
    ),
    Claim(
        "R8",
        "invariance",
        "DPO and rDPO see log-ratios only through the margin: a constant added to both"
        " log-probabilities of a prompt changes nothing, nor does swapping the pair together with ε"
        " → 1 − ε",
        "definition of the robust loss",
        st.builds(
            lambda logps, beta, rate, c: Shift(logps, beta, rate, c, c),
            pair_logps(),
            betas(),
            flip_rates(),
            st.floats(-20, 20),
        ),
        _check_invariance,
        1e-12,
        breaks=st.builds(
            Shift, pair_logps(), betas(), flip_rates(), st.floats(-20, 20), st.floats(-20, 20)
        ),
    ),
)


def reproduce(run: Run) -> Reproduction:
    return flip_experiment(run)
