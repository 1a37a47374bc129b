"""The bandit learned from samples: geometries are drawn, and a batch may serve many steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from paper_repros.theory.suboptimal_on_policy.didactic import (
    BINS,
    PUSH,
    SAMPLES,
    Bandit,
    bump,
    squashed_cauchy,
    sums_at,
)
from prefsim import losses
from prefsim.gradients import logit_gradient, loss_gradient
from prefsim.losses import PairLogps
from prefsim.numerics import log_softmax

PROMPTS = 10
"""Prompts of a batch."""
STEPS = 300


def drawn(rng: np.random.Generator, worlds: int) -> Bandit:
    """Return worlds whose peak lies where the data are thin, ``(worlds, BINS)``."""
    log_data = squashed_cauchy(rng.uniform(-0.8, -0.6, worlds), rng.uniform(0.3, 0.5, worlds))
    reward = bump(rng.uniform(60.0, 80.0, worlds), rng.uniform(8.0, 12.0, worlds))
    return Bandit(log_data, reward)


class Learner(NamedTuple):
    """A method on samples.

    Attributes
    ----------
    pairs_of
        Makes of sampled responses, best first, ``(..., N)``, the chosen and the rejected ones, each
        ``(..., P)``.
    loss
        Of the pairs.
    rate
        Step size.
    """

    pairs_of: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    loss: Callable[[PairLogps[Any]], Any]
    rate: float


def _best_and_worst(responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return responses[..., :1], responses[..., -1:]


def _all_pairs(responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    better, worse = np.triu_indices(responses.shape[-1], 1)
    return responses[..., better], responses[..., worse]


def _pushing(pair: PairLogps[Any]) -> Any:
    return losses.sft(pair) + PUSH * losses.gradient_ascent(pair)


BEST = Learner(_best_and_worst, losses.sft, 1.0)
BEST_AND_WORST = Learner(_best_and_worst, _pushing, 1.0)
DPO = Learner(_all_pairs, functools.partial(losses.dpo, beta=1.0), 20.0)


def learn(
    world: Bandit, learner: Learner, rng: np.random.Generator, *, reuse: int | None, steps: int
) -> np.ndarray:
    """Return the expected reward after ``steps`` steps, ``(worlds,)``.

    A batch sampled from the policy is used for ``reuse`` steps; None samples from the data at each
    step.
    """
    logits = log_softmax(world.log_data)
    for step in range(steps):
        if reuse is None or step % reuse == 0:
            samples = world.log_data if reuse is None else logits
            chosen, rejected = learner.pairs_of(ranked(world, samples, rng))
            chosen, rejected = (x.reshape(x.shape[0], -1) for x in (chosen, rejected))
        places = (chosen, rejected)
        tables = (logits, world.log_data)
        pair = PairLogps(*(np.take_along_axis(t, x, axis=-1) for t in tables for x in places))
        slopes = loss_gradient(learner.loss, pair)
        sums = map(sums_at, places, (slopes.chosen, slopes.rejected))
        in_log_policy = sum(sums) / chosen.shape[-1]
        logits = log_softmax(logits - learner.rate * logit_gradient(in_log_policy, logits))
    return np.asarray((np.exp(logits) * world.reward).sum(axis=-1))


def ranked(
    world: Bandit, log_samples: np.ndarray, rng: np.random.Generator, prompts: int = PROMPTS
) -> np.ndarray:
    """Return sampled responses to each prompt, best first, ``(worlds, prompts, SAMPLES)``."""
    below = np.cumsum(np.exp(log_samples), axis=-1)
    uniform = rng.random((log_samples.shape[0], prompts * SAMPLES))
    index = np.stack([np.searchsorted(b / b[-1], u) for b, u in zip(below, uniform, strict=True)])
    score = np.take_along_axis(world.reward, index, axis=-1)
    responses, scores = (x.reshape(-1, prompts, SAMPLES) for x in (index, score))
    order = np.argsort(-scores, axis=-1, kind="stable")
    return np.take_along_axis(np.minimum(responses, BINS - 1), order, axis=-1)
