"""A bandit of three arms, sampled by a poor behaviour policy: where five policy gradients end."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Rankings, ScoredPairs
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import gibbs_log_policy, gradient_descent
from prefsim.solvers.optimisers.policy_gradient import (
    contrastive_gradient,
    off_policy_limit,
    regularised_reward,
    score_gradient,
)
from prefsim.worlds import ContextualBandit

RIGHT = ("CoPG", "b = E_μ R_β", "b = V^π")
WRONG = ("no baseline", "b = E_μ R")
METHODS = (*RIGHT, *WRONG)


class Toy(NamedTuple):
    """A bandit with a behaviour policy.

    Attributes
    ----------
    reward
        ``(n,)``.
    log_behaviour, log_reference
        ``(n,)``, nats.
    beta
        Strength of the KL penalty.
    """

    reward: np.ndarray
    log_behaviour: np.ndarray
    log_reference: np.ndarray
    beta: float

    def optimum(self) -> np.ndarray:
        """Return the probabilities of the regularised optimum."""
        return np.exp(gibbs_log_policy(self.reward, self.log_reference, beta=self.beta)[0])

    def distance(self, probs: np.ndarray) -> np.ndarray:
        """Return the total variation distance to the optimum, ``(...)``."""
        return np.asarray(np.abs(probs - self.optimum()).sum(axis=-1) / 2)

    def wrong_limit(self, name: str) -> np.ndarray:
        """Return the closed form of where one of the methods of :data:`WRONG` ends."""
        mean = self.reward @ np.exp(self.log_behaviour)
        baseline = mean if name == "b = E_μ R" else 0.0
        policies = self.reward, self.log_behaviour, self.log_reference
        return np.exp(off_policy_limit(*policies, beta=self.beta, baseline=baseline))

    def ascent(self, log_policy: np.ndarray, fresh: float = 0.0) -> np.ndarray:
        """Return the directions of all :data:`METHODS` at their policies, both ``(methods, n)``.

        A share ``fresh`` of the samples is from each policy itself.
        """
        policy = np.exp(log_policy)
        samples = (1 - fresh) * np.exp(self.log_behaviour) + fresh * policy
        advantage = regularised_reward(self.reward, log_policy, self.log_reference, beta=self.beta)
        contrast = contrastive_gradient(advantage[:1], np.log(samples[:1]))
        # The other four rows are the methods with a baseline, in their order.
        baselines = [
            samples[1] @ advantage[1],
            policy[2] @ advantage[2],
            0.0,
            samples[4] @ self.reward,
        ]
        centred = advantage[1:] - np.array(baselines)[:, None]
        single = score_gradient(centred, log_policy[1:], np.log(samples[1:]))
        return np.concatenate([contrast, single])

    def ends(self, fresh: float = 0.0) -> dict[str, np.ndarray]:
        """Return the probabilities at which each method ends that starts at the reference."""
        log_policy = np.tile(self.log_reference, (len(METHODS), 1))
        for _ in range(5000):
            direction = self.ascent(log_policy, fresh)
            if np.abs(direction).max() < 1e-13:
                break
            log_policy = log_softmax(log_policy + direction)
        return dict(zip(METHODS, np.exp(log_policy), strict=True))


TOY = Toy(np.asarray([1.0, 0.5, 0.0]), np.log([0.1, 0.2, 0.7]), np.log(np.full(3, 1 / 3)), 0.5)


def drawn_toy(seed: int) -> Toy:
    """Return a bandit of four arms with standard normal rewards and logits."""
    reward, behaviour, reference = np.random.default_rng(seed).standard_normal((3, 4))
    return Toy(reward, log_softmax(behaviour), log_softmax(reference), 0.5)


# --- the loss itself, step by step ---

GROUP = 3  # samples of a prompt that are contrasted together


def ascended(toy: Toy, *, step: float, steps: int) -> np.ndarray:
    """Return what ascent of the enumerated contrast passes from the reference, ``(steps + 1, n)``.

    Log-probabilities.
    """
    passed = [toy.log_reference]
    for _ in range(steps):
        advantage = regularised_reward(toy.reward, passed[-1], toy.log_reference, beta=toy.beta)
        direction = contrastive_gradient(advantage, toy.log_behaviour)
        passed.append(log_softmax(passed[-1] + step * direction))
    return np.stack(passed)


def descended(toy: Toy, *, step: float, steps: int) -> dict[str, np.ndarray]:
    """Return what descent of the losses passes, on all pairs and on all groups of the behaviour."""
    behaviour = TabularPolicy(toy.log_behaviour[None])
    pairs = ScoredPairs.population(ContextualBandit(reward=toy.reward[None]), behaviour)
    groups = np.array(list(itertools.product(range(toy.reward.size), repeat=GROUP)))
    lists = Rankings(
        np.zeros(len(groups), dtype=int),
        groups,
        toy.reward[groups],
        np.exp(toy.log_behaviour)[groups].prod(axis=1),
    )
    reference, passed = TabularPolicy(toy.log_reference[None]), {}
    for name, loss, data in (("pairs", losses.copg, pairs), ("groups", losses.copg_group, lists)):
        for form in ("square", "gradient"):
            _, records = gradient_descent(
                reference,
                functools.partial(loss, beta=toy.beta, form=form),
                data,
                reference=reference,
                step=step,
                iterations=steps,
                record=lambda policy: to_numpy(policy.log_probs)[0],
            )
            passed[f"{name}, {form}"] = np.stack(records)
    return passed


# --- five directions ---


class Path(NamedTuple):
    """What gradient ascent passes.

    Attributes
    ----------
    step
        Numbers of steps taken, ``(t,)``.
    distance
        Total variation distance to the optimum after them, ``(t,)``.
    end
        Probabilities after the last of them, ``(n,)``.
    """

    step: np.ndarray
    distance: np.ndarray
    end: np.ndarray


def paths(
    toy: Toy, *, step: float, steps: int, progress: Callable[[Iterable[Any], str], Iterable[Any]]
) -> dict[str, Path]:
    """Ascend the direction of every method from the uniform policy."""
    marks = np.unique(np.geomspace(1, steps, 120).astype(int))
    log_policy = log_softmax(np.zeros((len(METHODS), toy.reward.size)))
    distances, done = [], 0
    for mark in progress(marks, "gradient steps"):
        for _ in range(mark - done):
            log_policy = log_softmax(log_policy + step * toy.ascent(log_policy))
        done = mark
        distances.append(toy.distance(np.exp(log_policy)))
    columns = zip(METHODS, np.stack(distances, axis=-1), np.exp(log_policy), strict=True)
    return {name: Path(marks, distance, end) for name, distance, end in columns}
