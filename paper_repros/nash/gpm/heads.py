"""Vectors, a gate of prompts and a temperature, learnt by gradients from some of the labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from paper_repros.nash.gpm.cycles import on_circle
from prefsim.backend import like, to_numpy
from prefsim.containers import PairRewards
from prefsim.gradients import gradient
from prefsim.losses import bradley_terry
from prefsim.numerics import array_namespace, softmax
from prefsim.raters import (
    embedding_preference,
    learned_temperature,
    prompt_scales,
    score_matrix,
    skew_score,
)
from prefsim.solvers import fit_bradley_terry

N_PROMPTS, WIDTH, RESPONSES, PLANES = 8, 4, 6, 2
TEMPERATURE = 0.3
SHOWN = 0.7  # share of a prompt's pairs whose labels are learnt from
# A softplus of this is one tenth: where the authors start.
RAW_START = -2.25


class Prompts(NamedTuple):
    """Prompts of which each weighs two cycles of the same responses in its own way.

    Attributes
    ----------
    hidden
        What a gate sees of a prompt, ``(X, d)``.
    preference
        ``(X, n, n)``.
    shown
        Which pairs of different responses are learnt from, in both orders, ``(X, n, n)``.
    """

    hidden: np.ndarray
    preference: np.ndarray
    shown: np.ndarray

    @property
    def held_out(self) -> np.ndarray:
        """The other pairs, ``(X, n, n)``."""
        return ~self.shown & ~np.eye(RESPONSES, dtype=bool)

    def mean_loss(self, head: Head) -> Any:
        """Return the mean loss of a label that is shown, in nats."""
        prompt, first, second = np.nonzero(self.shown)
        scores = skew_score(
            head.vectors[first], head.vectors[second], scales=head.scales(self.hidden)[prompt]
        )
        logits = scores / learned_temperature(head.raw)
        chance = like(self.preference[self.shown], logits)
        loss = bradley_terry(PairRewards(logits, 0 * logits))
        return (chance * loss).sum() / (0.5 * len(prompt))

    @property
    def entropy(self) -> float:
        """The least mean loss that any model of the shown labels can have, in nats."""
        chance = self.preference[self.shown]
        return float(-np.sum(chance * np.log(chance)) / (0.5 * chance.size))

    def accuracy(self, scores: np.ndarray) -> float:
        """Return the share of pairs held out whose likelier winner has the better score."""
        certain = self.held_out & (np.abs(self.preference - 0.5) > 0.01)
        right = (scores > 0) == (self.preference > 0.5)
        return float(right[certain].mean())


class Head(NamedTuple):
    """Unit vectors ``(n, 2k)``, a gate ``(d, k)`` and what the temperature is made of."""

    vectors: Any
    gate: Any
    raw: Any

    @classmethod
    def of(cls, parameters: Any) -> Head:
        """Return what these numbers hold."""
        xp = array_namespace(parameters)
        vectors = xp.reshape(parameters[: RESPONSES * 2 * PLANES], (RESPONSES, 2 * PLANES))
        length = xp.sqrt(xp.sum(vectors**2, axis=-1, keepdims=True))
        gate = xp.reshape(parameters[RESPONSES * 2 * PLANES : -1], (WIDTH, PLANES))
        return cls(vectors / length, gate, parameters[-1])

    def scales(self, hidden: np.ndarray) -> Any:
        """Return how much the prompts weigh the planes, ``(X, k)``."""
        return prompt_scales(like(hidden, self.gate) @ self.gate, width=WIDTH)

    def score_table(self, hidden: np.ndarray) -> np.ndarray:
        """Return the scores of all pairs for the prompts, ``(X, n, n)``."""
        return to_numpy(score_matrix(self.vectors, scales=self.scales(hidden)))


def drawn_prompts(rng: np.random.Generator) -> Prompts:
    """Return prompts whose labels unit vectors and a gate make, two cycles in different orders."""
    turn = 2 * np.pi * np.arange(RESPONSES) / RESPONSES
    orders = [turn, turn[rng.permutation(RESPONSES)]]
    circles = [on_circle(order + 0.3 * rng.standard_normal(RESPONSES)) for order in orders]
    vectors = np.concatenate(circles, axis=-1) / np.sqrt(PLANES)
    hidden = rng.standard_normal((N_PROMPTS, WIDTH))
    scales = PLANES * softmax(hidden @ rng.standard_normal((WIDTH, PLANES)))
    drawn = np.triu(rng.random((N_PROMPTS, RESPONSES, RESPONSES)) < SHOWN, 1)
    return Prompts(
        hidden,
        embedding_preference(vectors, scales=scales, temperature=TEMPERATURE),
        drawn | np.swapaxes(drawn, -1, -2),
    )


def learn(prompts: Prompts, *, starts: int, rng: np.random.Generator) -> Head:
    """Return the best head of several descents on the mean loss."""

    def lost(parameters: Any) -> Any:
        return prompts.mean_loss(Head.of(parameters))

    def start() -> np.ndarray:
        drawn = rng.standard_normal(2 * PLANES * RESPONSES + WIDTH * PLANES + 1)
        drawn[-1] = RAW_START
        return drawn

    found = [
        minimize(
            lambda parameters: float(lost(parameters)),
            start(),
            jac=lambda parameters: gradient(lost, parameters),
            method="L-BFGS-B",
            options={"maxiter": 400, "ftol": 1e-15, "gtol": 1e-9},
        )
        for _ in range(starts)
    ]
    return Head.of(min(found, key=lambda result: result.fun).x)


def reward_scores(prompts: Prompts) -> np.ndarray:
    """Return the scores ``(X, n, n)`` of rewards fitted to each prompt's labels."""
    reward = to_numpy(fit_bradley_terry(prompts.preference * prompts.shown, ridge=1e-6).reward)
    return reward[:, :, None] - reward[:, None, :]
