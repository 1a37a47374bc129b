"""How far each way of unlearning one response of a log-linear policy disturbs the others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from prefsim import losses
from prefsim.data import Comparisons, Negatives
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import gradient_flow, objective

LEVELS = np.log([0.1, 0.01])  # of π(y_l)/π_ref(y_l), at which the methods are compared


class Path(NamedTuple):
    """Parameters by time ``t -> (d,)``, and the last time there is, infinite for a line."""

    at: Callable[[float], np.ndarray]
    end: float = np.inf


class World(NamedTuple):
    """A log-linear policy with a response to unlearn.

    Attributes
    ----------
    features
        ``(Y, d)``.
    start
        Parameters θ₀ of the reference, ``(d,)``.
    log_ref
        log π_ref, ``(Y,)``.
    rejected
        The response to unlearn.
    beta, alpha
        Of the loss.
    """

    features: np.ndarray
    start: np.ndarray
    log_ref: np.ndarray
    rejected: int
    beta: float = 0.1
    alpha: float = 0.1

    @classmethod
    def draw(cls, seed: int, responses: int = 20, dimension: int = 6) -> World:
        """Draw normal features and a start half as large; the third likeliest response is to go."""
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((responses, dimension))
        start = 0.5 * rng.standard_normal(dimension)
        log_ref = log_softmax(features @ start)
        return cls(features, start, log_ref, int(np.argsort(-log_ref)[2]))

    def log_ratio(self, theta: np.ndarray) -> float:
        """Return log π_θ(y_l)/π_ref(y_l)."""
        return float(
            log_softmax(self.features @ theta)[self.rejected] - self.log_ref[self.rejected]
        )

    def disturbance(self, theta: np.ndarray) -> float:
        """Return KL(π_ref‖π_θ) on the other responses, both renormalised, in nats."""
        rest = np.arange(self.log_ref.size) != self.rejected
        before, after = log_softmax(self.log_ref[rest]), log_softmax((self.features @ theta)[rest])
        return float(np.exp(before) @ (before - after))

    def loss(self, method: str, shares: np.ndarray | None = None) -> Callable[[Any], Any]:
        """Return the loss of GA, NPO or D²O: a function of parameters ``(*batch, d)``.

        D²O stands against samples with these ``shares`` ``(*batch, Y)``, the whole reference unless
        given.
        """
        start = LogLinearPolicy.from_features(self.features[None], weights=self.start)
        loss: Callable[[Any], Any] = losses.gradient_ascent
        if method == "NPO":
            loss = functools.partial(losses.npo, beta=self.beta)
        # Neither of these reads the chosen response.
        data: Comparisons | Negatives = Comparisons([0], [self.rejected], [self.rejected])
        if method == "D²O":
            loss = functools.partial(losses.d2o, beta=self.beta, alpha=self.alpha)
            data = Negatives.population([0], [self.rejected], start)
            if shares is not None:
                data = Negatives([0], [self.rejected], data.samples, shares[..., None, :])
        return lambda theta: objective(start.with_parameters(theta), loss, data, reference=start)

    def flow(self, method: str, lowest: float, shares: np.ndarray | None = None) -> Path:
        """Follow the gradient flow until log π(y_l)/π_ref(y_l) has fallen to ``lowest``."""
        found = gradient_flow(
            self.loss(method, shares),
            self.start,
            duration=1e5,
            until=lambda theta: self.log_ratio(theta) - lowest,
        )
        return Path(found.at, found.end)

    def gradients(self, theta: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return the gradient of D²O in θ for each set of samples ``(repeats, Y)``."""
        places = np.tile(theta, (len(shares), 1))
        return gradient(self.loss("D²O", shares), places)

    def lines(self, shares: np.ndarray) -> list[Path]:
        """Return D²O's path for each set of samples where α = β.

        Its inner term is linear in θ, so that the flow never turns from where it sets out to.
        """
        return [self._line(-slope) for slope in self.gradients(self.start, shares)]

    def straight(self, shares: np.ndarray | None = None) -> Path:
        """Return that path in closed form, against the whole reference unless given samples."""
        shares = np.exp(self.log_ref) if shares is None else shares
        return self._line(shares @ self.features - self.features[self.rejected])

    def _line(self, direction: np.ndarray) -> Path:
        return Path(lambda time: self.start + time * direction)

    def disturbances(self, path: Path, levels: np.ndarray) -> np.ndarray:
        """Return the disturbance where a path meets each level of the log-ratio.

        NaN where it never does.
        """
        times = [self.meeting(path, level) for level in levels]
        return np.array([np.nan if t is None else self.disturbance(path.at(t)) for t in times])

    def meeting(self, path: Path, level: float) -> float | None:
        """Return the time at which the log-ratio first meets a level; None where it never does."""

        def remaining(time: float) -> float:
            return self.log_ratio(path.at(time)) - level

        ends = 2.0 ** np.arange(-4, 20) if np.isinf(path.end) else (path.end,)
        # A path that was stopped at the lowest level meets it up to rounding.
        end = next((time for time in ends if remaining(time) <= 1e-7), None)
        if end is None or remaining(end) >= 0:
            return end
        return float(brentq(remaining, 0.0, end, xtol=1e-13))

    def sampled_shares(self, k: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
        """Return the share of each response among ``k`` samples of the reference, ``(repeats, Y)``.

        ``repeats`` sets of samples are drawn.
        """
        return rng.multinomial(k, np.exp(self.log_ref), size=repeats) / k

    def variance_at_the_start(self, k: int) -> float:
        """Return the variance of the gradient from ``k`` samples at θ₀, summed over its entries.

        There every log-ratio is 0, and the gradient is −½ (β Σ_i φ(y_i)/k + …).
        """
        probs = np.exp(self.log_ref)
        centred = self.features - probs @ self.features
        return float(self.beta**2 / 4 * probs @ (centred**2).sum(axis=1) / k)
