"""Three responses of which the reference hardly ever gives one: what can be learned about it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import kl_to_reference, regularised_value
from prefsim.analysis.coverage import (
    concentrability,
    global_coverage,
    in_distribution_reward_error,
    kl_ball_coverage,
)
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import gibbs_log_policy, gradient_descent
from prefsim.solvers.optimisers.penalties import Penalty, kl_penalty, online_kl_penalty
from prefsim.worlds import ContextualBandit

REWARD = np.array([[1.0, 0.0, 0.0]])
WORLD = ContextualBandit(reward=REWARD)
DELTAS = np.logspace(-1, -8, 15)
STEP = 0.5  # of gradient descent in the full run, and the unit of time of the figure


class Measures(NamedTuple):
    """Of a policy, or of the reward that it is the best policy for.

    Attributes
    ----------
    error
        In-distribution error of the reward.
    gap
        J* − J.
    coverage
        Largest ratio of the policy to the reference.
    """

    error: np.ndarray
    gap: np.ndarray
    coverage: np.ndarray


def gap_bound(learned: Any, best: Any, error: Any) -> np.ndarray:
    """Return the most that an error on the data costs, from the coverage of two policies.

    (√(C_π̂ − 1) + √(C_π* − 1)) √(ε_r / 2). Among policies that the data cover C times the
    likelihood ratio has at most variance C − 1.
    """
    # Rounding may leave a coverage of one a hair below it.
    roots = [np.sqrt(np.maximum(np.asarray(coverage) - 1, 0.0)) for coverage in (learned, best)]
    return sum(roots) * np.sqrt(np.asarray(error) / 2)


def pairwise_error(
    estimate: np.ndarray, world: ContextualBandit, policy: TabularPolicy
) -> np.ndarray:
    """Return the mean squared error of reward differences over the policy's pairs, one by one."""
    pairs = Comparisons.population(world, policy)
    off = estimate - np.asarray(world.reward)
    differences = off[pairs.prompt, pairs.chosen] - off[pairs.prompt, pairs.rejected]
    return np.asarray(pairs.weight @ differences**2)


class Rare(NamedTuple):
    """A reference with mass δ on the third response, and half of the rest on each other one."""

    delta: float
    beta: float = 0.1

    @property
    def reference(self) -> TabularPolicy:
        """The reference policy."""
        return TabularPolicy.from_probs([[(1 - self.delta) / 2, (1 - self.delta) / 2, self.delta]])

    @property
    def log_reference(self) -> np.ndarray:
        """The reference's log-probabilities, ``(1, 3)``."""
        return to_numpy(self.reference.log_probs)

    def optimal_value(self) -> float:
        """Return J*."""
        _, log_partition = gibbs_log_policy(REWARD, self.log_reference, beta=self.beta)
        return float(self.beta * log_partition[0])

    def gap(self, log_policy: Any) -> np.ndarray:
        """Return J* − J of policies ``(..., 1, 3)``."""
        value = functools.partial(
            regularised_value, log_reference=self.log_reference, world=WORLD, beta=self.beta
        )
        best, _ = gibbs_log_policy(REWARD, self.log_reference, beta=self.beta)
        return np.asarray(value(best) - value(log_policy))

    def policy(self, mass: Any) -> TabularPolicy:
        """Put ``mass`` on the third response and divide the rest as the optimum does."""
        mass = np.asarray(mass, dtype=float)[..., None, None]
        split, _ = gibbs_log_policy(REWARD[:, :2], np.log([[0.5, 0.5]]), beta=self.beta)
        return TabularPolicy.from_probs(np.concatenate([(1 - mass) * np.exp(split), mass], axis=-1))

    def implicit_reward(self, mass: Any) -> np.ndarray:
        """Return β log π/π_ref of :meth:`policy`."""
        # Where the reference has no mass there is no implicit reward, and no data either.
        with np.errstate(invalid="ignore"):
            return self.beta * (to_numpy(self.policy(mass).log_probs) - self.log_reference)

    def measured(self, log_policy: np.ndarray, estimate: np.ndarray) -> Measures:
        """Return the measures of a policy and of its reward."""
        return Measures(
            error=in_distribution_reward_error(estimate, REWARD, self.log_reference),
            gap=self.gap(log_policy),
            coverage=concentrability(log_policy, self.log_reference),
        )

    def measure(self, mass: Any) -> Measures:
        """Return the measures of :meth:`policy` and of its implicit reward."""
        return self.measured(to_numpy(self.policy(mass).log_probs), self.implicit_reward(mass))

    def bounded(self, error: float) -> Measures:
        """Return the measures of RLHF whose reward has this error on the data, kept in [0, 1]."""
        wrong = np.sqrt(error / (2 * self.delta * (1 - self.delta)))
        estimate = np.array([[1.0, 0.0, min(1.0, float(wrong))]])
        learned, _ = gibbs_log_policy(estimate, self.log_reference, beta=self.beta)
        return self.measured(np.asarray(learned), estimate)

    def optimal_coverage(self) -> float:
        """Return the coverage of π*."""
        best, _ = gibbs_log_policy(REWARD, self.log_reference, beta=self.beta)
        return float(concentrability(best, self.log_reference))

    def ball_around(self, mass: float) -> float:
        """Return the coverage of a KL ball.

        On its edge lies the policy with ``mass`` on the third response and the rest as divided by
        the reference.
        """
        edge = TabularPolicy.from_probs([[(1 - mass) / 2, (1 - mass) / 2, mass]])
        spent = kl_to_reference(edge.log_probs, self.log_reference, WORLD)
        return float(kl_ball_coverage(self.log_reference, spent).value)


# --- DPO with an online KL penalty, from a policy with half of its mass on the rare response ---

LEVELS = (0.0, 1e-4, 1e-3, 1e-2)
"""Weights λ of the penalty; 0 is DPO."""

PROMPTS = 16
"""Prompts of a step where the penalty is sampled, with two responses to each."""


class Paths(NamedTuple):
    """Gradient descent on HyPO's objective for every λ, in one or several runs.

    Attributes
    ----------
    steps
        ``(records,)``.
    mass, gap, divergence
        On the third response, J* − J, and KL to the reference, each ``(records, ..., λ)``.
    """

    steps: np.ndarray
    mass: np.ndarray
    gap: np.ndarray
    divergence: np.ndarray

    def mean(self) -> Paths:
        """Return the means over the runs, ``(records, λ)``."""
        return Paths(self.steps, *(part.mean(axis=1) for part in self[1:]))


def exact_divergence(case: Rare) -> Penalty:
    """Return λ KL by enumeration, for all λ at once."""
    return kl_penalty(case.reference, weight=np.array(LEVELS))


def sampled_divergence(
    case: Rare, *, runs: int, seed: int, sampler: TabularPolicy | None = None
) -> Penalty:
    """Return λ KL as HyPO knows it, from responses drawn at every step, for all λ and runs."""
    return online_kl_penalty(
        case.reference,
        weight=np.tile(LEVELS, (runs, 1)),
        prompts=PROMPTS,
        seed=seed,
        sampler=sampler,
    )


def hybrid_paths(case: Rare, penalty: Penalty, *, step: float, iterations: int) -> Paths:
    """Descend DPO's population loss and the penalty."""
    every = iterations // 100
    _, path = gradient_descent(
        TabularPolicy.from_probs([[0.25, 0.25, 0.5]]),
        functools.partial(losses.dpo, beta=case.beta),
        Comparisons.population(WORLD, case.reference),
        reference=case.reference,
        penalty=penalty,
        step=step,
        iterations=iterations,
        record=lambda policy: to_numpy(policy.log_probs),
        record_every=every,
    )
    log_policies = np.stack(path)
    return Paths(
        steps=np.arange(len(path)) * every,
        mass=np.exp(log_policies[..., 0, 2]),
        gap=case.gap(log_policies),
        divergence=kl_to_reference(log_policies, case.log_reference, WORLD),
    )


# --- HyPO: the divergence by enumeration, from its own samples, from the reference's ---

ONLINE, OFFLINE = "samples of the policy", "samples of the reference"


def hybrid(run: Run) -> dict[str, Paths]:
    """Return the descent for every λ, by how the divergence is known; means over runs."""
    case, runs = Rare(1e-4), 8
    # The same time along the gradient flow, in longer steps: 4,000 of them, or 400.
    longer = 50 if run.quick else 5
    penalties = {
        "enumeration": exact_divergence(case),
        ONLINE: sampled_divergence(case, runs=runs, seed=run.seed),
        OFFLINE: sampled_divergence(case, runs=runs, seed=run.seed, sampler=case.reference),
    }
    paths = {}
    for name in run.progress(penalties, "divergences"):
        found = hybrid_paths(case, penalties[name], step=longer * STEP, iterations=20_000 // longer)
        mean = found if name == "enumeration" else found.mean()
        paths[name] = mean._replace(steps=longer * mean.steps)
    return paths


# --- the worst that DPO may do, and RLHF with a reward as wrong ---


class WorstCase(NamedTuple):
    """For every δ, DPO with half of its mass on the rare response against a bounded reward.

    Attributes
    ----------
    dpo, rlhf
        Measures of the two, ``(δ,)`` each.
    bounds
        The most that the error on the data may cost them, ``(2, δ)``.
    by_pairs
        DPO's error, pair by pair, ``(δ,)``.
    every, ball
        Coverage of all policies, and of the KL ball on whose edge lies a policy with half of its
        mass on the rare response, ``(δ,)``.
    """

    dpo: Measures
    rlhf: Measures
    bounds: np.ndarray
    by_pairs: np.ndarray
    every: np.ndarray
    ball: np.ndarray


def worst_case() -> WorstCase:
    cases = [Rare(delta) for delta in DELTAS]
    dpo = joined([case.measure(0.5) for case in cases])
    pairs = zip(cases, dpo.error, strict=True)
    rlhf = joined([case.bounded(float(error)) for case, error in pairs])
    best = np.array([case.optimal_coverage() for case in cases])
    return WorstCase(
        dpo,
        rlhf,
        np.stack([gap_bound(found.coverage, best, found.error) for found in (dpo, rlhf)]),
        np.array([pairwise_error(c.implicit_reward(0.5), WORLD, c.reference) for c in cases]),
        np.array([global_coverage(case.log_reference) for case in cases]),
        np.array([case.ball_around(0.5) for case in cases]),
    )


def joined(measures: list[Measures]) -> Measures:
    return Measures(*(np.array(column, dtype=float) for column in zip(*measures, strict=True)))
