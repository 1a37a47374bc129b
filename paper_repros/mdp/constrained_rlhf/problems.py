"""Random constrained problems, and what the claims look at in them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paper_repros.mdp.constrained_rlhf.overoptimised import World
from prefsim.analysis.proxy_points import RewardPath
from prefsim.backend import to_numpy
from prefsim.losses.multipliers import (
    Multipliers,
    mixed_advantage,
    mixture_weights,
    multiplier_step,
)
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.solvers.closed_forms.constrained import (
    ConstrainedOptimum,
    DualPoint,
    constrained_dual,
    constrained_optimum,
)
from prefsim.solvers.closed_forms.regularised import gibbs_log_policy

BATCH, PROMPTS, RESPONSES = 12, 2, 7
# Of the descent of multipliers: a sigmoid is at most a quarter as steep as a hyperbolic tangent.
RATES = {"sigmoid": 4.0, "tanh": 0.5}
SIGNS = {"at_least": 1.0, "at_most": -1.0, "equal": 0.0}


class Drawn(NamedTuple):
    """Constrained problems ``(B,)`` of m rewards on two prompts, and a policy of each."""

    rewards: np.ndarray
    log_reference: np.ndarray
    log_policy: np.ndarray
    beta: np.ndarray

    @classmethod
    def of(cls, seed: int, m: int = 2, batch: int = BATCH) -> Drawn:
        """Return problems with rewards of unit variance."""
        rng = np.random.default_rng(seed)
        return cls(
            rng.standard_normal((batch, m, PROMPTS, RESPONSES)),
            log_softmax(rng.standard_normal((batch, PROMPTS, RESPONSES))),
            log_softmax(1.5 * rng.standard_normal((batch, PROMPTS, RESPONSES))),
            rng.uniform(0.2, 1.5, batch),
        )

    def where(self, rows: Any) -> Drawn:
        """Return some of the problems."""
        return Drawn(*(each[rows] for each in self))

    def achieved(self, log_policy: Any) -> np.ndarray:
        """Return the expected rewards of policies, ``(B, m)``."""
        return np.einsum("bxy,bmxy->bm", np.exp(log_policy), self.rewards) / PROMPTS

    def between(self, share: float) -> np.ndarray:
        """Return thresholds that share of the way from the reference's rewards to the policy's."""
        reference, policy = self.achieved(self.log_reference), self.achieved(self.log_policy)
        return (1 - share) * reference + share * policy

    def farthest(self, direction: np.ndarray) -> np.ndarray:
        """Return the expected rewards of the responses farthest along ``(B, m)``."""
        along = np.einsum("bm,bmxy->bxy", direction, self.rewards)
        place = along.argmax(axis=-1)[:, None, :, None]
        return np.take_along_axis(self.rewards, place, axis=-1)[..., 0].mean(axis=-1)

    def best(self, direction: Any) -> np.ndarray:
        """Return the largest weighted reward of any policy, ``(B,)``."""
        along = np.einsum("bm,bmxy->bxy", direction, self.rewards)
        return along.max(axis=-1).mean(axis=-1)

    def worth(self, log_policy: Any, weights: np.ndarray) -> np.ndarray:
        """Return weighted rewards less the penalty, ``(B,)``."""
        kl = categorical_kl(log_policy, self.log_reference).mean(axis=-1)
        return self.achieved(log_policy) @ weights - self.beta * kl

    def dual(self, multipliers: np.ndarray, thresholds: np.ndarray, **options: Any) -> DualPoint:
        """Return the dual at multipliers ``(B, m)``."""
        tables = multipliers, self.rewards, self.log_reference, thresholds
        return constrained_dual(*tables, beta=self.beta, **options)

    def optimum(self, thresholds: np.ndarray, **options: Any) -> ConstrainedOptimum:
        """Return the best policies that keep the constraints, where there are any."""
        tables = self.rewards, self.log_reference, thresholds
        return constrained_optimum(*tables, beta=self.beta, infeasible="report", **options)

    def tilted(self, weights: np.ndarray) -> np.ndarray:
        """Return the policies that are best for weights ``(B, m)`` of the rewards."""
        total = np.einsum("bm,bmxy->bxy", weights, self.rewards)
        found, _ = gibbs_log_policy(total, self.log_reference, beta=self.beta[:, None])
        return to_numpy(found)

    def advantages(self, log_policy: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the advantages of the penalty ``(B, X, Y)`` and of the rewards."""
        paid = -self.beta[:, None, None] * (log_policy - self.log_reference)
        each = np.concatenate([paid[:, None], self.rewards], axis=1)
        each = each - np.einsum("bxy,bmxy->bmx", np.exp(log_policy), each)[..., None]
        return each[:, 0], each[:, 1:]

    def covariance(self, log_policy: Any) -> np.ndarray:
        """Return the covariance of the rewards within prompts, ``(B, m, m)``."""
        _, centred = self.advantages(log_policy)
        products = np.einsum("bxy,bmxy,bkxy->bmk", np.exp(log_policy), centred, centred)
        return products / PROMPTS

    def inner_radius(self) -> np.ndarray:
        """Return how far two rewards reach beyond the reference's in the worst direction."""
        angle = np.linspace(0.0, 2 * np.pi, 361)
        around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        along = np.einsum("am,bmxy->baxy", around, self.rewards).max(axis=-1).mean(axis=-1)
        return (along - self.achieved(self.log_reference) @ around.T).min(axis=-1)

    def with_twins(self, own: float) -> Drawn:
        """Return the problems with a second reward that is twice the first, but for its own."""
        first, second = self.rewards[:, 0], self.rewards[:, 1]
        return self._replace(rewards=np.stack([first, 2 * first + own * second], axis=1))

    def learned(
        self, thresholds: np.ndarray, *, kind: str, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return policies and raw multipliers after steps that each see the best policy."""
        multipliers = Multipliers.starting(np.zeros_like(thresholds))
        for _ in range(steps):
            achieved = self.achieved(self.tilted(ratios_of(multipliers.raw, kind)))
            multipliers = multiplier_step(
                multipliers, achieved, thresholds, kind=kind, learning_rate=RATES[kind]
            )
        return self.tilted(ratios_of(multipliers.raw, kind)), to_numpy(multipliers.raw)


def ratios_of(raw: Any, kind: str) -> np.ndarray:
    """Return what rewards count against the penalty, ``(B, m)``: the multipliers of the dual."""
    weights = mixture_weights(raw, kind=kind)
    return to_numpy(weights.rewards) / to_numpy(weights.penalty)[..., None]


def mixed(penalty: np.ndarray, rewards: np.ndarray, raw: np.ndarray, **options: Any) -> np.ndarray:
    """Return mixed advantages."""
    return to_numpy(mixed_advantage(penalty, rewards, raw, **options))


def slopes(drawn: Drawn, at: np.ndarray, thresholds: np.ndarray, **options: Any) -> DualPoint:
    """Return the derivatives of the dual by finite differences, in the place of its own."""
    small, m = 1e-5, at.shape[-1]
    pairs = [
        [drawn.dual(at + s * small * np.eye(m)[i], thresholds, **options) for s in (1, -1)]
        for i in range(m)
    ]
    here = drawn.dual(at, thresholds, **options)
    return here._replace(
        gradient=np.stack([a.value - b.value for a, b in pairs], axis=-1) / (2 * small),
        hessian=np.stack([a.gradient - b.gradient for a, b in pairs], axis=-1) / (2 * small),
    )


def against(seed: int, found: ConstrainedOptimum, senses: list[str]) -> np.ndarray:
    """Return other multipliers that the constraints admit, ``(B, m)``."""
    moved = np.random.default_rng(seed).standard_normal(found.multipliers.shape)
    moved = moved + found.multipliers
    return np.where([each == "equal" for each in senses], moved, np.abs(moved))


def violations(found: ConstrainedOptimum, thresholds: np.ndarray, senses: list[str]) -> np.ndarray:
    """Return by how much rewards miss thresholds, or multipliers their sign, ``(B, m)``."""
    beyond, sign = found.achieved - thresholds, np.array([SIGNS[each] for each in senses])
    missed = np.where(sign == 0, np.abs(beyond), np.maximum(-sign * beyond, 0.0))
    return missed + np.where(sign == 0, 0.0, np.maximum(-found.multipliers, 0.0))


def squashable(seed: int, m: int, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of which the first is ``largest``, and the ratios that they make, ``(B, m)``.

    They are below m together, so that the penalty counts.
    """
    others = np.random.default_rng(seed).uniform(0.0, 0.4, (BATCH, m - 1))
    weights = np.concatenate([np.full((BATCH, 1), largest), others], axis=-1)
    return weights, weights / (m - weights.sum(axis=-1, keepdims=True))


def nearest_squashed(weights: np.ndarray) -> np.ndarray:
    """Return the raw multipliers whose sigmoids are weights, or the nearest that a sigmoid has."""
    inside = np.clip(weights, 1e-12, 1 - 1e-12)
    return np.log(inside) - np.log1p(-inside)


def normalised(values: np.ndarray) -> np.ndarray:
    """Return tables ``(B, X, Y)`` less their mean, in units of their standard deviation."""
    axes = (-2, -1)
    centred = values - values.mean(axis=axes, keepdims=True)
    return centred / np.std(values, axis=axes, ddof=1, keepdims=True)


def along_path(world: World, path: RewardPath) -> tuple[np.ndarray, ...]:
    """Return the mean reward along a path, its slope, what that should be, and the divergence's.

    The slope should be the variance, that of the divergence the strength times the variance.
    """
    mean, strength = path.achieved[0].mean(axis=-1), 2 * path.weights[:, 0]
    policy, reward = np.exp(path.log_policy[0, :, 0]), world.rewards[0].mean(axis=0)[0]
    variance = (policy @ reward**2 - (policy @ reward) ** 2)[1:-1]
    width = strength[2:] - strength[:-2]
    slope, kl_slope = ((each[2:] - each[:-2]) / width for each in (mean, path.kl[0]))
    return mean, slope, np.stack([variance, strength[1:-1] * variance]), kl_slope
