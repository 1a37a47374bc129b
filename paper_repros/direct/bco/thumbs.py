"""A small world of thumbs up and down, whose prompts come from different clusters."""

from __future__ import annotations

import functools
from collections.abc import Sequence
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
PROMPTS, RESPONSES, BETA = 10, 4, 0.5
DRAWS = 400  # thumbs of each class
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
    def draw(cls, seed: Any) -> World:
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

    def ratio(self) -> Array:
        """Return how much oftener a prompt gets a thumb up than down, ``(prompts,)``."""
        chance = self.up / (self.up + self.down)
        return np.asarray(losses.density_ratio_weights(chance, low=0.0, high=1e9))


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
    """What was recorded along training, each ``(T, worlds, sets)`` but ``steps`` ``(T,)``.

    Mean rewards of thumbs up and down, the shift δ, how far the classifier's loss of the pairs
    behind the thumbs exceeds DPO's, and by theorem 1, KL(π*‖π) and the expected reward.
    """

    steps: Array
    up: Array
    down: Array
    shift: Array
    excess: dict[str, Array]
    stated_excess: Array
    kl: Array
    reward: Array

    @classmethod
    def of_worlds(cls, paths: Sequence[Path]) -> Path:
        """Return the paths of several worlds as one."""

        def joined(name: str) -> Array:
            return np.stack([getattr(path, name) for path in paths], axis=1)

        excess = {
            loss: np.stack([path.excess[loss] for path in paths], axis=1)
            for loss in paths[0].excess
        }
        rest = {name: joined(name) for name in cls._fields if name not in ("steps", "excess")}
        return cls(steps=paths[0].steps, excess=excess, **rest)

    def per_world(self, name: str) -> Array:
        """Return the last values of a field, means over the data sets, ``(worlds,)``."""
        return np.asarray(getattr(self, name)[-1].mean(axis=-1))


Paths = dict[str, Path]


def train(worlds: int, sets: int, steps: int, run: Run) -> tuple[Paths, Paths, Array]:
    """Train every method in some worlds on the same data sets of each, all sets in one batch.

    Returns the paths by method where both responses of every pair get their thumb, those where
    thumbs up and down come from different prompts, and the expected reward of the reference
    ``(worlds,)``.
    """
    paired: dict[str, list[Path]] = {}
    parted: dict[str, list[Path]] = {}
    before = []
    for k in run.progress(range(worlds), "worlds"):
        world, rng = World.draw((run.seed, k)), np.random.default_rng([run.seed, k, 1])
        before.append(world.reward.mean())
        pairs = Choices.draw(world, np.full(PROMPTS, 1 / PROMPTS), (sets, 2 * DRAWS), rng)
        for name, (loss, data) in _on_pairs(pairs).items():
            path = _descend(world, loss, data, steps, pairs, pairs, name)
            paired.setdefault(name, []).append(path)
        up = Choices.draw(world, world.up, (sets, DRAWS), rng)
        down = Choices.draw(world, world.down, (sets, DRAWS), rng)
        for name, (loss, data) in _on_parted_prompts(world, up, down).items():
            path = _descend(world, loss, data, steps, up, down, name)
            parted.setdefault(name, []).append(path)
    return _joined(paired), _joined(parted), np.asarray(before)


def _joined(paths: dict[str, list[Path]]) -> Paths:
    return {name: Path.of_worlds(found) for name, found in paths.items()}


def _on_pairs(pairs: Choices) -> dict[str, tuple[Any, Feedback | Comparisons]]:
    """Return loss and data of every method: a thumb for both responses, or the pair."""
    n = pairs.prompt.shape[-1]
    thumbs = Feedback(
        np.concatenate([pairs.prompt] * 2, axis=-1),
        np.concatenate([pairs.winner, pairs.loser], axis=-1),
        np.repeat([1.0, 0.0], n),
    )
    return {
        UNSHIFTED: (functools.partial(losses.bco_unpaired, beta=BETA, shift=0.0), thumbs),
        "BCO": (functools.partial(losses.bco_unpaired, beta=BETA), thumbs),
        "KTO": (functools.partial(losses.kto, beta=BETA), thumbs),
        "DPO": (functools.partial(losses.dpo, beta=BETA), Comparisons(*pairs)),
    }


def _on_parted_prompts(
    world: World, up: Choices, down: Choices
) -> dict[str, tuple[Any, Feedback | Comparisons]]:
    """Return loss and data of every method: a thumb for one response of each pair, or the pair."""
    pairs = _both(up, down)
    thumbed = np.concatenate([up.winner, down.loser], axis=-1)
    thumbs = Feedback(pairs.prompt, thumbed, np.repeat([1.0, 0.0], DRAWS))
    exact = world.ratio()[pairs.prompt]
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


def _descend(
    world: World,
    loss: Any,
    data: Feedback | Comparisons,
    steps: int,
    up: Choices,
    down: Choices,
    name: str,
) -> Path:
    """Return the path of a method whose thumbs up and down are those of these pairs."""
    every = max(steps // RECORDS, 1)
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
    sets = len(up.prompt)
    log_probs = np.stack([np.broadcast_to(p, (sets, PROMPTS, RESPONSES)) for p in recorded])
    at = np.arange(len(recorded)) * every
    return _path(world, up, down, at, log_probs, shifted=name != UNSHIFTED)


def _log_probs(policy: LogLinearPolicy) -> Array:
    return to_numpy(policy.log_probs)


def _path(
    world: World, up: Choices, down: Choices, steps: Array, log_probs: Array, *, shifted: bool
) -> Path:
    """Return what policies ``(T, sets, prompts, responses)`` along training amount to."""
    rewards = BETA * (log_probs + np.log(RESPONSES))  # the reference is uniform

    def of(prompt: Array, response: Array) -> Array:
        return rewards[:, np.arange(len(prompt))[:, None], prompt, response]

    mean_up = of(up.prompt, up.winner).mean(axis=-1)
    mean_down = of(down.prompt, down.loser).mean(axis=-1)
    shift = (mean_up + mean_down) / 2 if shifted else np.zeros_like(mean_up)
    pairs = up if up is down else _both(up, down)
    chosen, rejected = (of(pairs.prompt, response) for response in (pairs.winner, pairs.loser))
    excess, stated = excess_over_dpo(chosen, rejected, shift[..., None])
    best = optimal_policy(world.reward, to_numpy(world.start.probs), beta=BETA)
    return Path(
        steps=steps,
        up=mean_up,
        down=mean_down,
        shift=shift,
        excess=excess,
        stated_excess=stated,
        kl=(best * (np.log(best) - log_probs)).sum(axis=-1).mean(axis=-1),
        reward=(np.exp(log_probs) * world.reward).sum(axis=-1).mean(axis=-1),
    )


def excess_over_dpo(chosen: Array, rejected: Array, shift: Array) -> tuple[dict[str, Array], Array]:
    """Return how far losses of the classifier exceed DPO's on pairs, in the mean ``(...,)``.

    By the loss of thumbs, by that of pairs, by that of pairs with their own mean as the shift, if
    δ is that; and what theorem 1 states. Rewards are ``(..., n)``, shifts ``(..., 1)``.
    """
    zero = np.zeros_like(chosen)
    # Rewards in the place of log-ratios, at β = 1; DPO does not see a shift.
    pairs = losses.PairLogps(chosen, rejected, zero, zero)
    shifted = pairs._replace(chosen=chosen - shift, rejected=rejected - shift)
    thumbs = losses.UnpairedLogps(
        np.concatenate([chosen, rejected], axis=-1),
        np.concatenate([zero, zero], axis=-1),
        np.concatenate([zero == 0, zero != 0], axis=-1),
    )
    dpo = losses.dpo(pairs, beta=1.0).mean(axis=-1)
    found = {
        # A pair is two thumbs.
        "bco_unpaired": 2 * losses.bco_unpaired(thumbs, beta=1.0, shift=shift).mean(axis=-1),
        "bco_pair": losses.bco_pair(shifted, beta=1.0).mean(axis=-1),
    }
    mean = (chosen + rejected).mean(axis=-1, keepdims=True) / 2
    if np.allclose(shift, mean, rtol=0, atol=1e-12):
        found["bco"] = losses.bco(pairs, beta=1.0).mean(axis=-1)
    odds = np.exp(shift - chosen) + np.exp(rejected - shift)
    stated = np.log1p(odds / (1 + np.exp(rejected - chosen))).mean(axis=-1)
    return {name: value - dpo for name, value in found.items()}, stated


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
        "matched": slope(world.down, world.ratio()),
        "unmatched": slope(world.down, one),
        "target": slope(world.up, one),
    }
