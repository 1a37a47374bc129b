"""Pairs trained one by one, pairs that share parameters, and all pairs of a table.

A pair is given by c, the log-ratio of the reference against its chosen response.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from prefsim import losses
from prefsim.analysis import ranking_accuracy
from prefsim.gradients import logit_gradient, loss_gradient
from prefsim.losses import PairLogps
from prefsim.numerics import log_softmax, sigmoid
from prefsim.solvers.flow import gradient_flow

BETA = 0.1
MEAN, DEVIATION = 5.0, 30.0
"""Of c over the pairs of the paper's simulation."""


def pair_logps(margin: Any, against: Any) -> PairLogps[Any]:
    """Return what losses take of pairs with log-ratio m = ``margin`` and reference −c."""
    nothing = 0 * margin
    return PairLogps(margin, nothing, -against + nothing, nothing)


def mid_quantiles(n: int) -> np.ndarray:
    """Return the n middle quantiles of c, a sample without chance."""
    return np.asarray(MEAN + DEVIATION * ndtri((np.arange(n) + 0.5) / n))


class Trained(NamedTuple):
    """Independent pairs when their mean loss has fallen to a level.

    Attributes
    ----------
    margins
        log π(y_w) − log π(y_l), ``(n,)``.
    losses
        Of each pair, ``(n,)``.
    """

    margins: np.ndarray
    losses: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of pairs ranked as labelled."""
        return float(ranking_accuracy(self.margins, 0 * self.margins))

    def turned(self, against: np.ndarray) -> float:
        """Return the share of pairs turned among those that the reference ranked wrongly."""
        wrong = against > 0
        return float(ranking_accuracy(self.margins[wrong], 0 * self.margins[wrong]))


def train_alone(against: np.ndarray, levels: Sequence[float], beta: float = BETA) -> list[Trained]:
    """Follow the gradient flow of DPO on each pair's own log-ratio, down to levels of the loss."""
    loss = functools.partial(losses.dpo, beta=beta)

    def objective(margin: Any) -> Any:
        return loss(pair_logps(margin, margin.new_tensor(against)))

    def left(level: float, margin: np.ndarray) -> float:
        return float(np.asarray(loss(pair_logps(margin, against))).mean()) - level

    margins, trained = -against, []
    for level in levels:
        until = functools.partial(left, level)
        flow = gradient_flow(objective, margins, duration=1e9, until=until)
        margins = flow.at(flow.end)
        trained.append(Trained(margins, np.asarray(loss(pair_logps(margins, against)))))
    return trained


def train_ipo(against: np.ndarray, tau: float) -> np.ndarray:
    """Return the log-ratios that the gradient flow of IPO on each pair ends at, ``(n,)``."""

    def objective(margin: Any) -> Any:
        return losses.ipo(pair_logps(margin, margin.new_tensor(against)), tau=tau)

    # What is left of the way falls like e^{−2t}.
    return gradient_flow(objective, -against, duration=16.0).at(16.0)


# --- pairs that share parameters ---


class Features(NamedTuple):
    """Pairs of responses under a log-linear policy: what they share is the parameters.

    Attributes
    ----------
    differences
        Features of the chosen less those of the rejected response, ``(n, d)``.
    start
        Parameters of the reference, ``(d,)``.
    """

    differences: np.ndarray
    start: np.ndarray

    @property
    def against(self) -> np.ndarray:
        """The log-ratio c of each pair, ``(n,)``."""
        return np.asarray(-self.differences @ self.start)

    @classmethod
    def draw(
        cls, rng: np.random.Generator, *, prompts: int = 30, responses: int = 8, width: int = 24
    ) -> Features:
        """Draw three pairs of each prompt, labelled by a linear reward."""
        features = rng.standard_normal((prompts, responses, width)) / np.sqrt(width)
        reward = features @ (3 * rng.standard_normal(width))
        start = 4 * rng.standard_normal(width)
        order = np.argsort(rng.random((prompts, 3, responses)), axis=-1)[..., :2]
        rows = np.arange(prompts)[:, None]
        first, second = (features[rows, order[..., k]] for k in (0, 1))
        sign = np.sign(reward[rows, order[..., 0]] - reward[rows, order[..., 1]])
        return cls((sign[..., None] * (first - second)).reshape(-1, width), start)

    def descend(
        self, *, pull: float = 1.0, beta: float = BETA, rate: float, steps: int
    ) -> np.ndarray:
        """Return the log-ratios ``(n,)`` after plain steps down DPO.

        ``pull`` is how much of the reference's log-ratio counts: 1 is DPO, 0 has no reference.
        """
        loss = functools.partial(losses.dpo, beta=beta)
        theta, against = self.start, pull * self.against
        for _ in range(steps):
            slopes = loss_gradient(loss, pair_logps(self.differences @ theta, against))
            theta = theta - rate * np.asarray(slopes.chosen) @ self.differences / against.size
        return np.asarray(self.differences @ theta)

    def loss(self, margins: np.ndarray, *, pull: float = 1.0, beta: float = BETA) -> float:
        """Return the mean loss at log-ratios."""
        return float(losses.dpo(pair_logps(margins, pull * self.against), beta=beta).mean())


# --- all pairs of a table ---


class Table(NamedTuple):
    """Worlds of X prompts and Y responses with a Bradley–Terry rater.

    Attributes
    ----------
    log_reference, reward
        ``(..., X, Y)``.
    weights
        How often the first of two different responses is drawn with the second, in either order,
        and preferred to it, ``(..., X, Y, Y)``.
    """

    log_reference: np.ndarray
    reward: np.ndarray
    weights: np.ndarray

    @classmethod
    def draw(cls, seeds: Sequence[int], prompts: int = 10, responses: int = 8) -> Table:
        """Draw one world for each seed."""
        generators = [np.random.default_rng(seed) for seed in seeds]
        shape = prompts, responses
        log_reference = log_softmax(
            np.stack([3 * rng.standard_normal(shape) for rng in generators])
        )
        reward = np.stack([2 * rng.standard_normal(shape) for rng in generators])
        drawn = np.exp(log_reference[..., :, None] + log_reference[..., None, :])
        drawn = np.where(np.eye(responses, dtype=bool), 0.0, drawn)
        drawn = drawn / drawn.sum(axis=(-2, -1), keepdims=True)
        preferred = sigmoid(reward[..., :, None] - reward[..., None, :])
        return cls(log_reference, reward, 2 * drawn * preferred)

    @property
    def optimum(self) -> np.ndarray:
        """Log π* of the regularised reward and of DPO on all pairs, ``(..., X, Y)``."""
        return np.asarray(log_softmax(self.log_reference + self.reward / BETA))

    def pairs(self, log_policy: np.ndarray) -> PairLogps[np.ndarray]:
        """Return what losses take of every ordered pair, ``(..., X, Y, Y)``."""
        shape = self.weights.shape
        tables = (log_policy, self.log_reference)
        return PairLogps(
            *(
                np.broadcast_to(entry, shape)
                for table in tables
                for entry in (table[..., :, None], table[..., None, :])
            )
        )

    def losses(self, log_policy: np.ndarray) -> np.ndarray:
        """Return DPO's loss on the pairs of each prompt, ``(..., X)``."""
        value = losses.dpo(self.pairs(log_policy), beta=BETA)
        return np.asarray((self.weights * value).sum(axis=(-2, -1)))

    def slope(self, log_policy: np.ndarray) -> np.ndarray:
        """Return the gradient of each prompt's loss in its logits, ``(..., X, Y)``."""

        def loss(pair: PairLogps[Any]) -> Any:
            return pair.chosen.new_tensor(self.weights) * losses.dpo(pair, beta=BETA)

        slopes = loss_gradient(loss, self.pairs(log_policy))
        in_log_policy = slopes.chosen.sum(axis=-1) + slopes.rejected.sum(axis=-2)
        return logit_gradient(in_log_policy, log_policy)

    def descend(self, steps: Sequence[int], *, rate: float = 25.0) -> list[np.ndarray]:
        """Return log π after some numbers of plain steps from the reference, in rising order."""
        log_policy, found = self.log_reference, []
        for step in range(steps[-1] + 1):
            if step in steps:
                found.append(log_policy)
            if step < steps[-1]:
                log_policy = log_softmax(log_policy - rate * self.slope(log_policy))
        return found

    def ordered(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a table at the better and the worse response of each pair, ``(..., pairs)``."""
        order = np.argsort(-self.reward, axis=-1)
        better, worse = np.triu_indices(self.reward.shape[-1], 1)
        ranked = np.take_along_axis(table, order, axis=-1)
        first, second = (
            ranked[..., index].reshape(*ranked.shape[:-2], -1) for index in (better, worse)
        )
        return first, second

    def accuracy(self, log_policy: np.ndarray) -> np.ndarray:
        """Return the ranking accuracy over all pairs, ``(...)``."""
        return np.asarray(ranking_accuracy(*self.ordered(log_policy)))
