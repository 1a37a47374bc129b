"""How far each way of unlearning one response of a log-linear policy disturbs the others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import expit

from prefsim import losses
from prefsim.data import Negatives
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import objective

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

    def velocity(self, method: str, theta: np.ndarray) -> np.ndarray:
        """Return minus the gradient in θ of GA, NPO or D²O with its exact anchor."""
        log_probs = log_softmax(self.features @ theta)
        mean = np.exp(log_probs) @ self.features
        away = mean - self.features[self.rejected]
        log_ratio = log_probs - self.log_ref
        if method == "GA":
            return away
        if method == "NPO":
            return 2 * expit(self.beta * log_ratio[self.rejected]) * away
        shares = np.exp(self.log_ref)
        margin = self.beta * shares @ log_ratio - self.alpha * log_ratio[self.rejected]
        return expit(-margin) * (self.beta * (shares @ self.features - mean) + self.alpha * away)

    def flow(self, method: str, lowest: float) -> Path:
        """Follow the gradient flow until log π(y_l)/π_ref(y_l) has fallen to ``lowest``."""

        def arrived(_: float, theta: np.ndarray) -> float:
            return self.log_ratio(theta) - lowest

        arrived.terminal = True  # type: ignore[attr-defined]
        solution = solve_ivp(
            lambda _, theta: self.velocity(method, theta),
            (0.0, 1e5),
            self.start,
            method="LSODA",
            events=arrived,
            dense_output=True,
            rtol=1e-9,
            atol=1e-11,
        )
        return Path(solution.sol, float(solution.t[-1]))

    def straight(self, shares: np.ndarray | None = None) -> Path:
        """Return D²O's path where α = β.

        Its inner term is linear in θ, so that the flow never turns.
        """
        shares = np.exp(self.log_ref) if shares is None else shares
        direction = shares @ self.features - self.features[self.rejected]
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

        ends = 2.0 ** np.arange(-4, 12) if np.isinf(path.end) else (path.end,)
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

    def sampled_gradients(self, theta: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return the gradient in θ of the loss itself for each set of samples, ``(repeats, d)``."""
        policy = LogLinearPolicy.from_features(self.features[None], weights=theta)
        reference = policy.with_parameters(self.start)
        everything = np.arange(self.log_ref.size)
        data = Negatives([0], [self.rejected], everything[None], shares[:, None, :])
        loss = functools.partial(losses.d2o, beta=self.beta, alpha=self.alpha)

        def values(parameters: Any) -> Any:
            moved = policy.with_parameters(parameters)
            return objective(moved, loss, data, reference=reference)

        return gradient(values, np.tile(theta, (len(shares), 1)))
