"""Four prompts with ten responses each: a table of logits, and a small network that shares weights.

To each prompt one response is chosen and another rejected; the other eight are never seen. Whether
the two are on policy, that is likely at first, says the reference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis import PairDerivatives, pair_derivatives
from prefsim.losses import PairLogps
from prefsim.numerics import log_softmax, softmax
from prefsim.solvers.optimisers.updates import adam

PROMPTS, RESPONSES, WIDTH = 4, 10, 32
CHOSEN, REJECTED = np.arange(PROMPTS), np.arange(PROMPTS) + PROMPTS
BETA, SFT = 0.1, 0.05
LIKELY, UNLIKELY = 12.0, 0.3
"""Weights of on-policy and of off-policy responses beside those of weight 1 that are not seen."""
SCENARIOS = {
    "on, on": (LIKELY, LIKELY),
    "on, off": (LIKELY, UNLIKELY),
    "off, on": (UNLIKELY, LIKELY),
    "off, off": (UNLIKELY, UNLIKELY),
}
"""Chosen and rejected responses, on or off policy."""
FIT_RATE, FIT_STEPS, RATE = 1e-2, 1500, 0.5

PairLoss = Callable[[PairLogps[Any]], Any]
METHODS: dict[str, PairLoss] = {
    "DPO": functools.partial(losses.dpo, beta=BETA),
    "Flex-DPO, β⁻ = .08": functools.partial(losses.flex_dpo, beta=BETA, beta_rejected=0.08),
    "Flex-DPO, β⁻ = .02": functools.partial(losses.flex_dpo, beta=BETA, beta_rejected=0.02),
    "DPO + SFT": functools.partial(losses.rpo, beta=BETA, eta=SFT, scale_by_beta=False),
}


# --- what a loss does to logits ---


def logps_of(
    log_probs: np.ndarray,
    reference: np.ndarray,
    chosen: np.ndarray = CHOSEN,
    rejected: np.ndarray = REJECTED,
) -> PairLogps[np.ndarray]:
    """Return what losses take of one pair for each prompt, ``(..., X)`` each."""
    places = np.arange(len(chosen))
    parts = (table[..., places, y] for table in (log_probs, reference) for y in (chosen, rejected))
    return PairLogps(*parts)


def ascent(
    log_probs: np.ndarray,
    slopes: PairDerivatives,
    chosen: np.ndarray = CHOSEN,
    rejected: np.ndarray = REJECTED,
) -> np.ndarray:
    """Return the direction in which a loss moves the logits, d_w(1_w − π) − d_l(1_l − π)."""
    up, down = (slope[..., None] for slope in slopes)
    picked = np.eye(log_probs.shape[-1])
    moved = up * picked[chosen] - down * picked[rejected]
    return np.asarray(moved - (up - down) * np.exp(log_probs))


def rates(log_probs: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return how fast log-probabilities move along a direction of the logits."""
    return np.asarray(direction - (np.exp(log_probs) * direction).sum(axis=-1, keepdims=True))


def descend_table(
    start: np.ndarray, loss: PairLoss, *, rate: float, steps: int
) -> Iterator[np.ndarray]:
    """Yield log-probabilities of a table ``(X, Y)``, whose pair is responses 0 and 1.

    Of the start, which is the reference, and after each step.
    """
    first, second = (np.full(start.shape[-2], y) for y in (0, 1))
    logits = start
    yield start
    for _ in range(steps):
        log_probs = log_softmax(logits)
        slopes = pair_derivatives(loss, logps_of(log_probs, start, first, second))
        logits = logits + rate * ascent(log_probs, slopes, first, second)
        yield log_softmax(logits)


# --- a network ---

SHAPES = ((PROMPTS, WIDTH), (WIDTH,), (WIDTH, WIDTH), (WIDTH,), (WIDTH, RESPONSES), (RESPONSES,))
ENDS = np.cumsum([int(np.prod(shape)) for shape in SHAPES])


def drawn_network(seed: int) -> np.ndarray:
    """Return the parameters of a network, one vector."""
    rng = np.random.default_rng(seed)
    fan_in = (PROMPTS, PROMPTS, WIDTH, WIDTH, WIDTH, WIDTH)
    return np.concatenate(
        [
            rng.uniform(-1, 1, shape).ravel() / np.sqrt(width)
            for shape, width in zip(SHAPES, fan_in, strict=True)
        ]
    )


class Activations(NamedTuple):
    """What the layers say of each prompt, ``(..., X, width)`` each."""

    first: np.ndarray
    second: np.ndarray
    logits: np.ndarray


def _layers(parameters: np.ndarray) -> list[np.ndarray]:
    parts = np.split(parameters, ENDS[:-1], axis=-1)
    lead = parameters.shape[:-1]
    return [part.reshape(*lead, *shape) for part, shape in zip(parts, SHAPES, strict=True)]


def forward(parameters: np.ndarray) -> Activations:
    """Return what networks ``(..., D)`` say; the prompts are the rows of the identity."""
    w1, b1, w2, b2, w3, b3 = _layers(parameters)
    first = np.maximum(w1 + b1[..., None, :], 0.0)
    second = np.maximum(first @ w2 + b2[..., None, :], 0.0)
    return Activations(first, second, second @ w3 + b3[..., None, :])


def backward(parameters: np.ndarray, found: Activations, slopes: np.ndarray) -> np.ndarray:
    """Return the gradient in the parameters from that in the logits ``(..., X, Y)``."""
    _, _, w2, _, w3, _ = _layers(parameters)
    turned = [np.swapaxes(each, -1, -2) for each in (found.first, found.second, w2, w3)]
    third = slopes @ turned[3] * (found.second > 0)
    lowest = third @ turned[2] * (found.first > 0)
    parts = (
        lowest,
        lowest.sum(axis=-2),
        turned[0] @ third,
        third.sum(axis=-2),
        turned[1] @ slopes,
        slopes.sum(axis=-2),
    )
    lead = parameters.shape[:-1]
    return np.concatenate([part.reshape(*lead, -1) for part in parts], axis=-1)


def targets() -> np.ndarray:
    """Return the laws that networks are fitted to at first, ``(scenarios, X, Y)``."""
    weights = np.ones((len(SCENARIOS), PROMPTS, RESPONSES))
    for index, (chosen, rejected) in enumerate(SCENARIOS.values()):
        weights[index, np.arange(PROMPTS), CHOSEN] = chosen
        weights[index, np.arange(PROMPTS), REJECTED] = rejected
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def fitted(seeds: range) -> np.ndarray:
    """Return networks at the targets of all scenarios, ``(scenarios, seeds, D)``, by Adam."""
    start = np.stack([drawn_network(seed) for seed in seeds])
    parameters = np.broadcast_to(start, (len(SCENARIOS), *start.shape))
    wanted, update = targets()[:, None], adam(FIT_RATE)
    for _ in range(FIT_STEPS):
        found = forward(parameters)
        slopes = (softmax(found.logits) - wanted) / PROMPTS
        parameters = parameters - update(backward(parameters, found, slopes))
    return np.asarray(parameters)


class Path(NamedTuple):
    """Mean probabilities over the prompts after each step, ``(steps + 1, scenarios, seeds)``.

    ``gradient_ratio`` is how many times as steep the loss is in the probability of the rejected
    response as in that of the chosen one, the geometric mean over the prompts, as a logarithm.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    unseen: np.ndarray
    log_gradient_ratio: np.ndarray


def trained(parameters: np.ndarray, loss: PairLoss, steps: int) -> Path:
    """Descend the mean loss over the prompts; the reference is the start."""
    reference, rows = log_softmax(forward(parameters).logits), []
    for step in range(steps + 1):
        found = forward(parameters)
        log_probs = log_softmax(found.logits)
        logps = logps_of(log_probs, reference)
        slopes = pair_derivatives(loss, logps)
        probs = np.exp(log_probs)
        places = np.arange(PROMPTS)
        both = probs[..., places, CHOSEN], probs[..., places, REJECTED]
        # ∂L/∂π is that in log π over π.
        ratio = np.log(np.abs(slopes.rejected / slopes.chosen)) + logps.chosen - logps.rejected
        unseen = 1 - both[0] - both[1]
        rows.append([each.mean(axis=-1) for each in (*both, unseen, ratio)])
        if step < steps:
            moved = ascent(log_probs, slopes) / PROMPTS
            parameters = parameters + RATE * backward(parameters, found, moved)
    return Path(*np.moveaxis(np.array(rows), 1, 0))
