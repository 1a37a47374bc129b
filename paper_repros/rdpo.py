"""Provably robust DPO: learning from labels that are flipped at a known rate."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.counts import sample_counts
from prefsim.losses import PairLogps
from prefsim.numerics import sigmoid, softplus
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit
from prefsim.testing.bandits import betas, flip_rates, pair_logps
from prefsim.worlds import ContextualBandit

PAPER = Paper(
    slug="rdpo",
    title="Provably Robust DPO: Aligning Language Models with Noisy Feedback",
    arxiv="2403.00409",
    year=2024,
    family="robust",
    summary="Where labels are flipped at a known rate, a loss with the flips' bias taken out recovers what clean labels would have taught; "
    "plain DPO is biased towards a flat policy and label smoothing makes that worse.",
    implements=("prefsim.losses.rdpo", "prefsim.losses.dpo", "prefsim.raters.noise.flip_labels"),
)


# --- identities of the loss ----------------------------------------------------------------------------------------------------------


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
    return Verdict(_worst(expected - losses.dpo(logps, beta=beta), scale), f"rate {rate:.3g} corrected for {assumed:.3g}")


def _check_gradient_weights(pairs: NoisyPairs) -> Verdict:
    import torch

    logps, beta, rate, assumed = pairs
    away = sigmoid(-beta * losses.reward_margin(logps))
    stated = {
        "DPO": (functools.partial(losses.dpo, beta=beta), away),
        "rDPO": (functools.partial(losses.rdpo, beta=beta, flip_rate=assumed), away + rate / (1 - 2 * rate)),
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
        error = max(error, _worst(chosen / -beta - weight, 1 + np.abs(weight)), _worst(rejected / beta - weight, 1 + np.abs(weight)))
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
    equal = max(_worst(robust - plain, 1 + np.abs(margin)), _worst(conservative - plain, 1 + np.abs(margin)))
    # 1 − 2ε = gap: what is left of gap · L is −βm/2, up to a term that the loss itself bounds.
    near_half = gap * losses.rdpo(logps, beta=beta, flip_rate=(1 - gap) / 2)
    allowed = gap * (softplus(-margin) + 0.5 * np.abs(margin)) + 1e-9 * (1 + np.abs(margin))
    excess = float(np.max(np.maximum(np.abs(near_half + 0.5 * margin) - allowed, 0)))
    return Verdict(max(equal, excess), f"equality {equal:.2e}, divergence beyond its bound {excess:.2e}")


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
    robust, plain = (float(x[0]) for x in (losses.rdpo(pair, beta=beta, flip_rate=rate), losses.dpo(pair, beta=beta)))
    return Verdict(max(0.0, robust + level, -plain), f"rDPO {robust:.4g}, DPO {plain:.2g} at margin {margin[0]:.3g}")


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
    scale = (1 + np.abs(beta * losses.reward_margin(logps)) + beta * (abs(chosen) + abs(rejected))) / (1 - 2 * rate)
    robust = functools.partial(losses.rdpo, beta=beta, flip_rate=rate)
    shifted = max(_worst(loss(moved) - loss(logps), scale) for loss in (robust, functools.partial(losses.dpo, beta=beta)))
    mirrored = losses.soft_logistic(beta * losses.reward_margin(_swapped(logps)), rate / (2 * rate - 1))  # target (1 − ε)/(1 − 2ε) at 1 − ε
    return Verdict(max(shifted, _worst(mirrored - robust(logps), scale)))


# --- log-linear policies: what the population and a sample teach ---------------------------------------------------------------------


class LinearTask(NamedTuple):
    """Rewards ``β⟨φ, θ*⟩`` (plus an offset outside the class), labels flipped at a rate, pairs of the responses that are covered."""

    features: np.ndarray
    weights: np.ndarray
    beta: float
    flip_rate: float
    offset: float = 0.0
    covered: bool = True

    @property
    def world(self) -> ContextualBandit:
        reward = self.beta * (self.features @ self.weights)
        return ContextualBandit(reward=reward + self.offset * np.cos(np.arange(reward.size)).reshape(reward.shape), features=self.features)

    @property
    def start(self) -> LogLinearPolicy:
        return LogLinearPolicy.from_features(self.features)

    @property
    def clean(self) -> Comparisons:
        x, y, _ = self.features.shape
        seen = np.ones((x, y)) if self.covered else np.ones((x, y)) - np.eye(y)[-1]
        return Comparisons.population(self.world, TabularPolicy.from_probs(seen / seen.sum(axis=-1, keepdims=True)), distinct=True)

    @property
    def noisy(self) -> Comparisons:
        clean = self.clean
        return clean.relabelled(flip_labels(clean.prob, self.flip_rate))

    @property
    def robust(self) -> functools.partial[Any]:
        return functools.partial(losses.rdpo, beta=self.beta, flip_rate=self.flip_rate)

    @property
    def differences(self) -> np.ndarray:
        """Feature differences of the pairs, ``(rows, d)``."""
        data = self.clean
        return self.features[data.prompt, data.chosen] - self.features[data.prompt, data.rejected]


def _task(seed: int, rate: float, beta: float = 0.5, offset: float = 0.0, covered: bool = True, sizes: tuple[int, ...] = (5, 4, 3)) -> LinearTask:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal(sizes) / math.sqrt(sizes[-1])
    if not covered:
        # Only the last response, which is never compared, says anything about the last weight.
        features[:, :-1, -1] = 0.0
    return LinearTask(features, rng.standard_normal(sizes[-1]) / beta, beta, rate, offset, covered)


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def _check_minimiser(task: LinearTask) -> Verdict:
    found = fit(task.start, task.robust, task.noisy, reference=task.start).policy.parameters
    recovered = _worst(found - task.weights)
    # Two responses to each prompt, every margin free: here flipped labels are still the labels of some Bradley–Terry rater.
    pair = task._replace(features=task.features[:, :2])
    data, reference = pair.noisy, TabularPolicy.uniform(pair.features.shape[0], 2)
    p, q, rate = pair.clean.prob, data.prob, task.flip_rate
    stated = {
        "rDPO": (pair.robust, _logit(p)),
        "DPO": (functools.partial(losses.dpo, beta=task.beta), _logit(q)),
        "cDPO": (functools.partial(losses.dpo, beta=task.beta, label_smoothing=rate), _logit(q * (1 - rate) + (1 - q) * rate)),
    }
    tabular, sizes = 0.0, []
    for loss, margin in stated.values():
        chosen, rejected = data.log_probs(fit(reference, loss, data, reference=reference).policy)
        tabular = max(tabular, _worst(task.beta * (chosen - rejected) - margin))
        sizes.append(np.abs(margin))
    shrunk = float(np.max(np.maximum(sizes[1] - sizes[0], sizes[2] - sizes[1])))
    return Verdict(max(recovered, tabular, shrunk), f"theta* missed by {recovered:.2e}, free margins by {tabular:.2e}")


class Sampling(NamedTuple):
    """A task, the size of each data set and their number."""

    task: LinearTask
    n: int
    repeats: int


def _covariances(task: LinearTask) -> np.ndarray:
    """Return the sandwich covariance of the minimiser times n, ``H⁻¹ V H⁻¹``."""
    data, x = task.clean, task.differences
    p, q = data.prob, task.noisy.prob
    curvature = task.beta**2 * np.einsum("n,ni,nj->ij", data.weight * p * (1 - p), x, x)
    spread = task.beta**2 * np.einsum("n,ni,nj->ij", data.weight * q * (1 - q), x, x) / (1 - 2 * task.flip_rate) ** 2
    bread = np.linalg.inv(curvature)
    return bread @ spread @ bread


def _check_sandwich(case: Sampling) -> Verdict:
    task, n, repeats = case
    found = fit(task.start, task.robust, sample_counts(task.noisy, n, repeats=repeats, seed=0), reference=task.start).policy.parameters
    measured = n * np.mean(np.sum((found - task.weights) ** 2, axis=-1))
    stated = np.trace(_covariances(task))
    return Verdict(abs(measured / stated - 1), f"n·MSE {measured:.1f}, asymptotic {stated:.1f} at rate {task.flip_rate}")


SIZES = (4000, 16000, 64000)


def _check_rate(task: LinearTask) -> Verdict:
    from prefsim.analysis.bandit import expected_reward

    optimum = task.start.with_parameters(task.weights)
    errors, gaps, broken = [], [], []
    for n in SIZES:
        data = sample_counts(task.noisy, n, repeats=100, seed=n)
        policy = fit(task.start, task.robust, data, reference=task.start).policy
        delta = policy.parameters - task.weights
        gap = suboptimality(policy.log_probs, task.world, comparator=optimum.log_probs)
        broken.append(max(_bound_violations(task, n, data.weight, policy.parameters, gap)))
        errors.append(np.mean(np.linalg.norm(delta, axis=-1)))
        gaps.append(np.mean(np.abs(gap)))
    assert expected_reward is not None
    slopes = [float(np.polyfit(np.log(SIZES), np.log(y), 1)[0]) for y in (errors, gaps)]
    outside = max(max(abs(slope + 0.5) - 0.1, 0.0) for slope in slopes)
    return Verdict(max(outside, *broken), f"slopes {slopes[0]:.3f} of the error {np.round(errors, 4)}, {slopes[1]:.3f} of the gap; bounds {broken}")
