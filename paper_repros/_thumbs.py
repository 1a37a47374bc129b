"""Thumbs up and down whose prompts come from different clusters: the small world of the study of arXiv:2404.04656."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons, Feedback
from prefsim.papers import Run
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import gradient_descent, objective, optimal_policy

Array = np.ndarray
PROMPTS, RESPONSES, DRAWS, BETA = 10, 4, 400, 0.5


class World(NamedTuple):
    """Reward and embeddings of the prompts, prompt laws of both classes and the policy class, at its start."""

    reward: Array
    embedding: Array
    up: Array
    down: Array
    start: LogLinearPolicy


def draw_world(seed: int) -> World:
    """Draw two clusters of five prompts; thumbs up come from them with weights .8 and .2, thumbs down with .2 and .8."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat([0, 1], PROMPTS // 2)
    embedding = np.where(cluster[:, None] == 0, 1.0, -1.0) + rng.standard_normal((PROMPTS, 2))
    # Weights shared over prompts, and for each cluster a bias of every response.
    shared = rng.standard_normal((PROMPTS, RESPONSES, 3))
    bias = np.einsum("xc,yz->xycz", np.eye(2)[cluster], np.eye(RESPONSES)).reshape(
        PROMPTS, RESPONSES, -1
    )
    up, down = (
        np.asarray(weights)[cluster] / (PROMPTS // 2) for weights in ((0.8, 0.2), (0.2, 0.8))
    )
    start = LogLinearPolicy.from_features(np.concatenate([shared, bias], axis=-1))
    return World(1.5 * rng.standard_normal((PROMPTS, RESPONSES)), embedding, up, down, start)


def _labelled_pairs(
    world: World, law: Array, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return prompts from ``law``, winners and losers of two different uniform responses, each of ``shape``."""
    prompt = rng.choice(PROMPTS, shape, p=law)
    first = rng.integers(RESPONSES, size=shape)
    second = (first + rng.integers(1, RESPONSES, size=shape)) % RESPONSES
    wins = rng.random(shape) < expit(world.reward[prompt, first] - world.reward[prompt, second])
    return prompt, np.where(wins, first, second), np.where(wins, second, first)


def prompt_classifier(embedding: Array, up: Array, down: Array) -> Array:
    """Return P(thumb up | prompt) by logistic regression on the embedding, from prompts ``(B, n)`` of both classes: ``(B, prompts)``."""
    counts = np.stack(
        [(part[..., None] == np.arange(PROMPTS)).mean(axis=-2) for part in (up, down)], axis=-1
    )
    inputs = np.concatenate([embedding, np.ones((PROMPTS, 1))], axis=1)
    theta = np.zeros((*up.shape[:-1], inputs.shape[1]))
    for _ in range(30):  # Newton, with a ridge that keeps separable classes finite
        p = expit(theta @ inputs.T)
        slope = (p * counts.sum(axis=-1) - counts[..., 0]) @ inputs + 1e-3 * theta
        curvature = np.einsum(
            "bx,xi,xj->bij", p * (1 - p) * counts.sum(axis=-1), inputs, inputs
        ) + 1e-3 * np.eye(inputs.shape[1])
        theta = theta - np.linalg.solve(curvature, slope[..., None])[..., 0]
    return expit(theta @ inputs.T)


class Path(NamedTuple):
    """What was recorded along training, each ``(T, seeds)``: mean rewards, δ, bound on DPO, KL from the optimum and expected reward."""

    steps: Array
    up: Array
    down: Array
    shift: Array
    gap: Array
    kl: Array
    reward: Array


def train(seeds: int, steps: int, run: Run) -> dict[str, Path]:
    """Train every method on the same data sets, all seeds in one batch."""
    world, rng = draw_world(run.seed), np.random.default_rng([run.seed, 1])
    x_up, y_up, rest_up = _labelled_pairs(world, world.up, (seeds, DRAWS), rng)
    x_down, rest_down, y_down = _labelled_pairs(world, world.down, (seeds, DRAWS), rng)
    prompt, response = (
        np.concatenate([x_up, x_down], axis=-1),
        np.concatenate([y_up, y_down], axis=-1),
    )
    data = Feedback(prompt, response, np.repeat([1.0, 0.0], DRAWS))
    pairs = Comparisons(
        prompt,
        np.concatenate([y_up, rest_down], axis=-1),
        np.concatenate([rest_up, y_down], axis=-1),
    )
    probs = prompt_classifier(world.embedding, x_up, x_down)
    learned = losses.density_ratio_weights(np.take_along_axis(probs, prompt, axis=-1))
    bco: Any = functools.partial(losses.bco_unpaired, beta=BETA)
    methods: dict[str, tuple[Any, Feedback | Comparisons]] = {
        "BCE (δ = 0)": (functools.partial(bco, shift=0.0), data),
        "BCO": (bco, data),
        "BCO, exact weights": (
            functools.partial(bco, density_ratio=(world.up / world.down)[prompt]),
            data,
        ),
        "BCO, learned weights": (functools.partial(bco, density_ratio=learned), data),
        "KTO": (functools.partial(losses.kto, beta=BETA), data),
        "DPO on the pairs": (functools.partial(losses.dpo, beta=BETA), pairs),
    }
    best = optimal_policy(world.reward, to_numpy(world.start.probs), beta=BETA)
    found = {}
    for name in run.progress(list(methods), "methods"):
        loss, source = methods[name]
        every = max(steps // 40, 1)
        _, path = gradient_descent(
            world.start,
            loss,
            source,
            reference=world.start,
            step=2.0,
            iterations=steps,
            record_every=every,
            record=_log_probs,
        )
        log_probs = np.stack([np.broadcast_to(p, (seeds, PROMPTS, RESPONSES)) for p in path])
        reward = BETA * (log_probs + np.log(RESPONSES))

        def of(x: Array, y: Array, table: Array = reward) -> Array:
            return table[:, np.arange(seeds)[:, None], x, y]

        up, down = of(x_up, y_up).mean(axis=-1), of(x_down, y_down).mean(axis=-1)
        shift = np.zeros_like(up) if name.startswith("BCE") else (up + down) / 2
        w, lose = (
            of(prompt, pairs.chosen) - shift[..., None],
            of(prompt, pairs.rejected) - shift[..., None],
        )
        gap = (np.logaddexp(0, -w) + np.logaddexp(0, lose) - np.logaddexp(0, lose - w)).mean(
            axis=-1
        )
        kl = (best * (np.log(best) - log_probs)).sum(axis=-1).mean(axis=-1)
        value = (np.exp(log_probs) * world.reward).sum(axis=-1).mean(axis=-1)
        found[name] = Path(np.arange(len(path)) * every, up, down, shift, gap, kl, value)
    return found


def _log_probs(policy: LogLinearPolicy) -> Array:
    return to_numpy(policy.log_probs)


def matching_gradients(seed: int) -> dict[str, Array]:
    """Return population gradients of BCO: negatives weighted exactly, not weighted, and drawn with the positives' prompts (``target``)."""
    import torch

    world = draw_world(seed)
    theta = torch.tensor(
        np.random.default_rng([seed, 2]).standard_normal(to_numpy(world.start.parameters).shape),
        requires_grad=True,
    )
    margins = world.reward[:, :, None] - world.reward[:, None, :]
    chance = expit(margins) * (1 - np.eye(RESPONSES)) / (RESPONSES * (RESPONSES - 1) / 2)
    wins, falls = chance.sum(axis=2), chance.sum(axis=1)
    prompt, response = np.indices((PROMPTS, RESPONSES)).reshape(2, -1)
    label = np.repeat([1.0, 0.0], prompt.size)

    def gradient(law: Array, ratio: Array) -> Array:
        weight = (
            np.concatenate([(world.up[:, None] * wins).ravel(), (law[:, None] * falls).ravel()]) / 2
        )
        data = Feedback(np.tile(prompt, 2), np.tile(response, 2), label, weight)
        loss = functools.partial(
            losses.bco_unpaired, beta=BETA, shift=0.1, density_ratio=np.tile(ratio[prompt], 2)
        )
        value = objective(world.start.with_parameters(theta), loss, data, reference=world.start)
        return to_numpy(torch.autograd.grad(value, theta)[0])

    one = np.ones(PROMPTS)
    return {
        "matched": gradient(world.down, world.up / world.down),
        "unmatched": gradient(world.down, one),
        "target": gradient(world.up, one),
    }
