"""Estimates of the policy gradient from pairs and from ratios, and how far they scatter."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.p3o.training import BETA, Setting, ppo_clip
from prefsim import losses
from prefsim.backend import like, to_numpy
from prefsim.gradients import gradient, loss_gradient
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers.optimisers.policy_gradient import pairwise_variance
from prefsim.testing import Contrast


def ratio_descent(contrast: Contrast) -> np.ndarray:
    """Return minus the gradient of PPO's unclipped surrogate over pairs, halved.

    The advantage of each response is its regularised reward less that of the other:
    ½ E[(R_β(y) − R_β(y')) ∇(ρ(y) − ρ(y'))] with the ratio ρ of each to its own law.
    """
    first, second = contrast.log_first, contrast.log_second
    prob = np.exp(first[:, :, None] + second[:, None, :])
    ahead = contrast.advantage()[:, :, None] - contrast.advantage()[:, None, :]

    def value(logits: Any) -> Any:
        own = log_softmax(logits)
        surrogate = ppo_clip(
            own[:, :, None], like(first[:, :, None], own), like(ahead, own), epsilon=math.inf
        ) + ppo_clip(
            own[:, None, :], like(second[:, None, :], own), like(-ahead, own), epsilon=math.inf
        )
        return 0.5 * (like(prob, own) * surrogate).sum((-2, -1)).mean()

    return -gradient(value, contrast.log_policy)


def with_behaviour(
    logps: losses.PairLogps, first: np.ndarray, second: np.ndarray
) -> losses.PairLogps:
    """Return pairs whose responses were likelier by so much when they were drawn, in nats."""
    return logps._replace(old_chosen=logps.chosen + first, old_rejected=logps.rejected + second)


def fresh(logps: losses.PairLogps) -> losses.PairLogps:
    """Return pairs as if they were drawn just now."""
    return with_behaviour(logps, np.zeros(4), np.zeros(4))


def ppo_slopes(logp: np.ndarray, old: np.ndarray, advantage: np.ndarray) -> np.ndarray:
    """Return the derivatives of PPO's surrogate in the log-probabilities of samples."""
    return gradient(lambda own: ppo_clip(own, like(old, own), like(advantage, own)), logp)


def enumerated_variance(estimates: np.ndarray, prob: np.ndarray) -> float:
    """Return the trace of the covariance of estimates ``(m, n)`` with probabilities ``(m,)``."""
    mean = prob @ estimates
    return float(prob @ (estimates**2).sum(axis=-1) - mean @ mean)


class PairVariance(NamedTuple):
    """Mean variance (trace) of the gradient from one pair, ``(scales,)``: sampled, and exact."""

    sampled: np.ndarray
    exact: np.ndarray


def variance_of_pairs(setting: Setting, n: int, seed: int) -> PairVariance:
    """Sample the loss's gradients in the logits from ``n`` fresh pairs a prompt, at the start.

    The exact variance is that of the rewards, since the log-ratios are zero there.
    """
    table, seen = to_numpy(setting.log_reference), to_numpy(setting.seen)
    drawn = TabularPolicy(table).sample(np.arange(table.shape[2]), 2 * n, seed)
    logp, reward = (np.take_along_axis(x, to_numpy(drawn), axis=-1) for x in (table, seen))
    first, second = logp[..., :n], logp[..., n:]
    pairs = losses.PairLogps(
        first,
        second,
        first,
        second,
        chosen_score=reward[..., :n],
        rejected_score=reward[..., n:],
    )
    slopes = loss_gradient(functools.partial(losses.p3o, beta=BETA), pairs)
    unit = np.eye(table.shape[-1])[drawn]
    # The probabilities of the responses, which every log-probability has in its gradient, cancel.
    gradients = (
        np.asarray(slopes.chosen)[..., None] * unit[..., :n, :]
        + np.asarray(slopes.rejected)[..., None] * unit[..., n:, :]
    )
    sampled = gradients.var(axis=-2, ddof=1).sum(axis=-1).mean(axis=(1, 2))
    return PairVariance(sampled, pairwise_variance(seen, table).mean(axis=(1, 2)))
