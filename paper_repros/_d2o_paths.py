"""How far each way of unlearning one response of a log-linear policy disturbs the other responses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import expit

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Negatives
from prefsim.numerics import log_softmax
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import objective

Path = Callable[[float], np.ndarray]


class Unlearning(NamedTuple):
    """Features ``(Y, d)``, start θ_0 ``(d,)`` and its log-probabilities ``(Y,)``, the reference; the response to unlearn; β and α."""

    features: np.ndarray
    start: np.ndarray
    log_ref: np.ndarray
    rejected: int
    beta: float = 0.1
    alpha: float = 0.1


def draw(seed: int, n: int = 20, d: int = 6) -> Unlearning:
    """Return the experiment's world: normal features, θ_0 half as large, and the third most likely response to unlearn."""
    rng = np.random.default_rng(seed)
    features, start = rng.standard_normal((n, d)), 0.5 * rng.standard_normal(d)
    log_ref = log_softmax(features @ start)
    return Unlearning(features, start, log_ref, int(np.argsort(-log_ref)[2]))


def log_ratio(case: Unlearning, theta: np.ndarray) -> float:
    """Return log π_θ(y_l)/π_ref(y_l)."""
    return float(log_softmax(case.features @ theta)[case.rejected] - case.log_ref[case.rejected])


def disturbance(case: Unlearning, theta: np.ndarray) -> float:
    """Return the KL divergence of the reference from the policy on the other responses, both renormalised, in nats."""
    rest = np.arange(case.log_ref.size) != case.rejected
    before, after = (
        log_softmax(log_probs[rest]) for log_probs in (case.log_ref, case.features @ theta)
    )
    return float(np.exp(before) @ (before - after))


def velocity(
    case: Unlearning, method: str, theta: np.ndarray, shares: np.ndarray | None = None
) -> np.ndarray:
    """Return minus the gradient of GA, NPO or D²O in θ; ``shares`` are the weights of D²O's samples (those of π_ref unless given)."""
    log_probs = log_softmax(case.features @ theta)
    mean = np.exp(log_probs) @ case.features
    pushed = case.features[case.rejected] - mean
    u = log_probs - case.log_ref
    if method == "GA":
        return -pushed
    if method == "NPO":
        return -2 * expit(case.beta * u[case.rejected]) * pushed
    shares = np.exp(case.log_ref) if shares is None else shares
    weight = expit(-(case.beta * shares @ u - case.alpha * u[case.rejected]))
    return weight * (case.beta * (shares @ case.features - mean) - case.alpha * pushed)


def flow(case: Unlearning, method: str, lowest: float) -> tuple[Path, float]:
    """Follow the gradient flow until log π(y_l)/π_ref(y_l) has fallen to ``lowest``; return the path and its last time."""

    def there(_: float, theta: np.ndarray) -> float:
        return log_ratio(case, theta) - lowest

    there.terminal = True  # type: ignore[attr-defined]
    found = solve_ivp(
        lambda _, theta: velocity(case, method, theta),
        (0.0, 1e5),
        case.start,
        method="LSODA",
        events=there,
        dense_output=True,
        rtol=1e-9,
        atol=1e-11,
    )
    return found.sol, float(found.t[-1])


def line(case: Unlearning, shares: np.ndarray | None = None) -> Path:
    """Return D²O's path where α = β: its inner term is linear in θ, so that the flow never turns."""
    shares = np.exp(case.log_ref) if shares is None else shares
    direction = shares @ case.features - case.features[case.rejected]
    return lambda time: case.start + time * direction


def disturbances(
    case: Unlearning, path: Path, last: float | None, levels: np.ndarray
) -> np.ndarray:
    """Return the disturbance at each level of log π(y_l)/π_ref(y_l) < 0 of a path that ends at ``last`` (None: never); NaN if not met."""

    def above(time: float, level: float) -> float:
        return log_ratio(case, path(time)) - level

    found = np.full(levels.shape, np.nan)
    for k, level in enumerate(levels):
        ends = 2.0 ** np.arange(-4, 12) if last is None else (last,)
        # A path that was stopped at the lowest level meets it up to rounding.
        end = next((t for t in ends if above(t, level) <= 1e-7), None)
        if end is not None:
            time = (
                end
                if above(end, level) >= 0
                else brentq(above, 0.0, end, args=(level,), xtol=1e-13)
            )
            found[k] = disturbance(case, path(time))
    return found


def sampled_shares(case: Unlearning, k: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each response is among ``k`` samples of the reference, over k, ``(repeats, Y)``."""
    return rng.multinomial(k, np.exp(case.log_ref), size=repeats) / k


def sample_gradients(case: Unlearning, theta: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the gradient in θ of the library's loss for each set of samples, ``(repeats, d)``."""
    import torch

    repeats, y = shares.shape
    policy = LogLinearPolicy.from_features(case.features[None], weights=theta)
    reference = policy.with_parameters(np.asarray(case.start))
    data = Negatives([0], [case.rejected], np.arange(y)[None], shares[:, None, :])
    moved = policy.with_parameters(torch.tensor(np.tile(theta, (repeats, 1)), requires_grad=True))
    loss = functools.partial(losses.d2o, beta=case.beta, alpha=case.alpha)
    value: Any = objective(moved, loss, data, reference=reference)
    (gradient,) = torch.autograd.grad(value.sum(), moved.parameters)
    return to_numpy(gradient)
