"""A small world of thumbs up and down, whose prompts come from different clusters."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons, Feedback
from prefsim.gradients import gradient
from prefsim.papers import Run
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import gradient_descent, objective, optimal_policy

Array = np.ndarray
PROMPTS, RESPONSES, DRAWS, BETA = 10, 4, 400, 0.5
RECORDS = 40  # of each path, for the figure
UNSHIFTED = "BCE (δ = 0)"


class World(NamedTuple):
    """Rewards and embeddings of the prompts, prompt laws of both classes, and a policy to start."""

    reward: Array
    embedding: Array
    up: Array
    down: Array
    start: LogLinearPolicy

    @classmethod
    def draw(cls, seed: int) -> World:
        """Draw two clusters of five prompts.

        Thumbs up come from them with weights .8 and .2, thumbs down with .2 and .8.
        """
        rng = np.random.default_rng(seed)
        cluster = np.repeat([0, 1], PROMPTS // 2)
        centre = np.where(cluster[:, None] == 0, 1.0, -1.0)
        embedding = centre + rng.standard_normal((PROMPTS, 2))
        # Weights shared over prompts, and for each cluster a bias of every response.
        shared = rng.standard_normal((PROMPTS, RESPONSES, 3))
        bias = np.einsum("xc,yz->xycz", np.eye(2)[cluster], np.eye(RESPONSES))
        features = np.concatenate([shared, bias.reshape(PROMPTS, RESPONSES, -1)], axis=-1)
        up, down = (
            np.asarray(weights)[cluster] / (PROMPTS // 2) for weights in ((0.8, 0.2), (0.2, 0.8))
        )
        reward = 1.5 * rng.standard_normal((PROMPTS, RESPONSES))
        return cls(reward, embedding, up, down, LogLinearPolicy.from_features(features))


class Choices(NamedTuple):
    """Prompts, winners and losers, each of one shape."""

    prompt: Array
    winner: Array
    loser: Array

    @classmethod
    def draw(
        cls, world: World, law: Array, shape: tuple[int, ...], rng: np.random.Generator
    ) -> Choices:
        """Draw prompts from ``law`` and two different uniform responses to each."""
        prompt = rng.choice(PROMPTS, shape, p=law)
        first = rng.integers(RESPONSES, size=shape)
        second = (first + rng.integers(1, RESPONSES, size=shape)) % RESPONSES
        margin = world.reward[prompt, first] - world.reward[prompt, second]
        wins = rng.random(shape) < expit(margin)
        return cls(prompt, np.where(wins, first, second), np.where(wins, second, first))


def prompt_classifier(embedding: Array, up: Array, down: Array) -> Array:
    """Return P(thumb up | prompt) by logistic regression on the embedding, ``(B, prompts)``.

    ``up`` and ``down`` are the prompts of both classes, ``(B, n)``.
    """
    counts = np.stack(
        [(part[..., None] == np.arange(PROMPTS)).mean(axis=-2) for part in (up, down)], axis=-1
    )
    total = counts.sum(axis=-1)
    inputs = np.concatenate([embedding, np.ones((PROMPTS, 1))], axis=1)
    theta = np.zeros((*up.shape[:-1], inputs.shape[1]))
    ridge = 1e-3  # keeps the weights of separable classes finite
    for _ in range(30):  # Newton steps, many more than it takes
        p = expit(theta @ inputs.T)
        slope = (p * total - counts[..., 0]) @ inputs + ridge * theta
        curvature = np.einsum("bx,xi,xj->bij", p * (1 - p) * total, inputs, inputs)
        curvature = curvature + ridge * np.eye(inputs.shape[1])
        theta = theta - np.linalg.solve(curvature, slope[..., None])[..., 0]
    return expit(theta @ inputs.T)


class Path(NamedTuple):
    """What was recorded along training, each ``(T, seeds)`` but ``steps`` ``(T,)``.

    Mean rewards of thumbs up and down, the shift δ, the mean losses of the classifier and of DPO on
    the pairs behind the thumbs, KL(π*‖π) and the expected reward.
    """

    steps: Array
    up: Array
    down: Array
    shift: Array
    classifier_loss: Array
    dpo_loss: Array
    kl: Array
    reward: Array


def train(seeds: int, steps: int, run: Run) -> dict[str, Path]:
    """Train every method on the same data sets, all seeds in one batch."""
    world, rng = World.draw(run.seed), np.random.default_rng([run.seed, 1])
    up = Choices.draw(world, world.up, (seeds, DRAWS), rng)
    down = Choices.draw(world, world.down, (seeds, DRAWS), rng)
    every = max(steps // RECORDS, 1)
    paths = {}
    for name, (loss, data) in run.progress(_methods(world, up, down).items(), "methods"):
        _, recorded = gradient_descent(
            world.start,
            loss,
            data,
            reference=world.start,
            step=2.0,
            iterations=steps,
            record_every=every,
            record=_log_probs,
        )
        log_probs = np.stack([np.broadcast_to(p, (seeds, PROMPTS, RESPONSES)) for p in recorded])
        at = np.arange(len(recorded)) * every
        paths[name] = _path(world, up, down, at, log_probs, shifted=name != UNSHIFTED)
    return paths


def _methods(
    world: World, up: Choices, down: Choices
) -> dict[str, tuple[Any, Feedback | Comparisons]]:
    """Return loss and data of every method: a thumb for one response of each pair, or the pair."""
    pairs = _both(up, down)
    thumbed = np.concatenate([up.winner, down.loser], axis=-1)
    thumbs = Feedback(pairs.prompt, thumbed, np.repeat([1.0, 0.0], DRAWS))
    exact = (world.up / world.down)[pairs.prompt]
    probs = prompt_classifier(world.embedding, up.prompt, down.prompt)
    learned = losses.density_ratio_weights(np.take_along_axis(probs, pairs.prompt, axis=-1))
    bco: Any = functools.partial(losses.bco_unpaired, beta=BETA)
    return {
        UNSHIFTED: (functools.partial(bco, shift=0.0), thumbs),
        "BCO": (bco, thumbs),
        "BCO, exact weights": (functools.partial(bco, density_ratio=exact), thumbs),
        "BCO, learned weights": (functools.partial(bco, density_ratio=learned), thumbs),
        "KTO": (functools.partial(losses.kto, beta=BETA), thumbs),
        "DPO on the pairs": (functools.partial(losses.dpo, beta=BETA), Comparisons(*pairs)),
    }


def _both(up: Choices, down: Choices) -> Choices:
    return Choices(
        *(np.concatenate(parts, axis=-1) for parts in zip(up, down, strict=True)),
    )


def _log_probs(policy: LogLinearPolicy) -> Array:
    return to_numpy(policy.log_probs)


def _path(
    world: World, up: Choices, down: Choices, steps: Array, log_probs: Array, *, shifted: bool
) -> Path:
    """Return what policies ``(T, seeds, prompts, responses)`` along training amount to."""
    rewards = BETA * (log_probs + np.log(RESPONSES))  # the reference is uniform

    def of(prompt: Array, response: Array) -> Array:
        return rewards[:, np.arange(len(prompt))[:, None], prompt, response]

    mean_up = of(up.prompt, up.winner).mean(axis=-1)
    mean_down = of(down.prompt, down.loser).mean(axis=-1)
    shift = (mean_up + mean_down) / 2 if shifted else np.zeros_like(mean_up)
    pairs = _both(up, down)
    chosen, rejected = (
        of(pairs.prompt, response) - shift[..., None] for response in (pairs.winner, pairs.loser)
    )
    # Rewards in the place of log-ratios, at β = 1; DPO does not see the shift.
    logps = losses.PairLogps(chosen, rejected, np.zeros_like(chosen), np.zeros_like(rejected))
    best = optimal_policy(world.reward, to_numpy(world.start.probs), beta=BETA)
    return Path(
        steps=steps,
        up=mean_up,
        down=mean_down,
        shift=shift,
        classifier_loss=losses.bco_pair(logps, beta=1.0).mean(axis=-1),
        dpo_loss=losses.dpo(logps, beta=1.0).mean(axis=-1),
        kl=(best * (np.log(best) - log_probs)).sum(axis=-1).mean(axis=-1),
        reward=(np.exp(log_probs) * world.reward).sum(axis=-1).mean(axis=-1),
    )


def matching_gradients(seed: int) -> dict[str, Array]:
    """Return population gradients of BCO at a random policy.

    Of negatives weighted exactly (``matched``), not weighted (``unmatched``), and drawn with the
    positives' prompts (``target``).
    """
    world = World.draw(seed)
    theta = np.random.default_rng([seed, 2]).standard_normal(world.start.parameters.shape)
    margins = world.reward[:, :, None] - world.reward[:, None, :]
    chance = expit(margins) * (1 - np.eye(RESPONSES)) / (RESPONSES * (RESPONSES - 1) / 2)
    wins, falls = chance.sum(axis=2), chance.sum(axis=1)
    prompt, response = np.indices((PROMPTS, RESPONSES)).reshape(2, -1)
    label = np.repeat([1.0, 0.0], prompt.size)

    def slope(law: Array, ratio: Array) -> Array:
        """Return the gradient with negatives' prompts from ``law``, weighted by ``ratio``."""
        positives, negatives = world.up[:, None] * wins, law[:, None] * falls
        weight = np.concatenate([positives.ravel(), negatives.ravel()]) / 2
        data = Feedback(np.tile(prompt, 2), np.tile(response, 2), label, weight)
        loss = functools.partial(
            losses.bco_unpaired, beta=BETA, shift=0.1, density_ratio=np.tile(ratio[prompt], 2)
        )

        def value(parameters: Any) -> Any:
            policy = world.start.with_parameters(parameters)
            return objective(policy, loss, data, reference=world.start)

        return gradient(value, theta)

    one = np.ones(PROMPTS)
    return {
        "matched": slope(world.down, world.up / world.down),
        "unmatched": slope(world.down, one),
        "target": slope(world.up, one),
    }
