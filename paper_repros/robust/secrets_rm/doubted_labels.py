"""Pairs with wrong labels, an ensemble that doubts some of them, and what treating these does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.containers import PairRewards
from prefsim.data.properties import compare_responses
from prefsim.data.strength import (
    LabelTreatment,
    half_samples,
    preference_strength,
    strength_groups,
    treat_labels,
)
from prefsim.lm.command.dialogues import read_compared
from prefsim.losses import bradley_terry
from prefsim.numerics import sigmoid
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward

MEMBERS = 10
RIDGE = 1e-2
LOOSE_RIDGE = 1e-4  # of a model that can follow wrong labels
SCALE = 3.0  # log-odds of a pair that is apart by one in the direction of the reward
FLIP_RATE = 0.25
DECILES = tuple(np.arange(1, 10) / 10)
RECIPES = ("flip", "margin", "flip+margin", "soft+margin")


class Pairs(NamedTuple):
    """Differences of chosen and rejected responses.

    Attributes
    ----------
    train
        ``(n, d)``, as labelled.
    test
        ``(m, d)``, the better response first.
    wrong
        Which labels are against the true reward, ``(n,)``; None for people.
    """

    train: np.ndarray
    test: np.ndarray
    wrong: np.ndarray | None = None


def labelled(log_odds: np.ndarray, flip_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Return 1 where the first response is called better and −1 elsewhere, some of them flipped."""
    first = rng.random(log_odds.shape) < sigmoid(log_odds)
    return np.where(first ^ (rng.random(log_odds.shape) < flip_rate), 1.0, -1.0)


def linear_pairs(
    seed: int, *, n: int = 600, d: int = 8, flip_rate: float = FLIP_RATE, scale: float = SCALE
) -> Pairs:
    """Return pairs whose reward is linear in their features, and 4,000 to be tested on."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    x, test = rng.standard_normal((n, d)), rng.standard_normal((4000, d))
    sign = labelled(scale * x @ direction, flip_rate, rng)
    ordered = np.sign(test @ direction)[:, None] * test
    return Pairs(sign[:, None] * x, ordered, sign * (x @ direction) < 0)


def wide_pairs(seed: int, *, n: int = 240, width: int = 120, d: int = 8) -> Pairs:
    """Return pairs of the same kind seen through random waves, whose many weights fit any label."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    frequency, phase = 0.5 * rng.standard_normal((d, width)), rng.uniform(0, 2 * np.pi, width)

    def seen(responses: np.ndarray) -> np.ndarray:
        return np.sqrt(2 / width) * np.cos(responses @ frequency + phase)

    # Differences of two responses have the variance that those above have.
    responses, tested = (rng.standard_normal((2, m, d)) / np.sqrt(2) for m in (n, 2000))
    ahead, ahead_there = ((pair[0] - pair[1]) @ direction for pair in (responses, tested))
    sign = labelled(SCALE * ahead, FLIP_RATE, rng)
    x, test = (seen(pair[0]) - seen(pair[1]) for pair in (responses, tested))
    return Pairs(sign[:, None] * x, np.sign(ahead_there)[:, None] * test, sign * ahead < 0)


def human_features(folder: Path) -> np.ndarray | None:
    """Return how the more harmless answer compares with the other, ``(n, p)``; None without any."""
    path = folder / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.is_file():
        return None
    answers = read_compared(path)
    return compare_responses(answers.chosen, answers.rejected)


def human_pairs(features: np.ndarray, rng: np.random.Generator) -> Pairs:
    """Return a random split of human pairs: two thirds to train on."""
    order = rng.permutation(len(features))
    n = 2 * len(features) // 3
    return Pairs(features[order[:n]], features[order[n:]])


def relabelled(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """Return the same pairs, labelled by a Bradley–Terry rater with the reward fitted to them.

    No label is wrong but by the rater's own chance.
    """
    everything = np.concatenate([pairs.train, pairs.test])
    weights = fit_linear_reward(everything, ridge=1e-6).weights
    drawn = labelled(everything @ weights, 0.0, rng)[:, None] * everything
    n = len(pairs.train)
    return Pairs(drawn[:n], drawn[n:])


def accuracy(weights: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Return the share of test pairs that rewards ``(..., d)`` order rightly, half of a tie."""
    return np.asarray((0.5 + 0.5 * np.sign(pairs.test @ weights.T)).mean(axis=0))


def held_out_strength(
    pairs: Pairs, rng: np.random.Generator, *, ridge: float = RIDGE
) -> np.ndarray:
    """Return the mean margin ``(n,)`` of the five of ten models that a pair was not shown to."""
    fitted_to = half_samples(len(pairs.train), MEMBERS, seed=rng)
    models = fit_linear_reward(pairs.train, weight=fitted_to.astype(float), ridge=ridge)
    margins = models.weights @ pairs.train.T
    return preference_strength(margins, fitted_to=fitted_to).mean


def own_strength(pairs: Pairs) -> np.ndarray:
    """Return the margins ``(n,)`` that a model with next to no ridge gives its own pairs."""
    return pairs.train @ fit_linear_reward(pairs.train, ridge=1e-7, tolerance=1e-6).weights


def wrong_share(pairs: Pairs, strength: np.ndarray) -> float:
    """Return the share of wrong labels among the fifth of least strength."""
    assert pairs.wrong is not None
    return float(pairs.wrong[strength_groups(strength) == 0].mean())


def decile_accuracy(pairs: Pairs, strength: np.ndarray, *, ridge: float = RIDGE) -> np.ndarray:
    """Return the accuracy ``(10,)`` of models fitted to one decile of strength each."""
    own = strength_groups(strength, ends=DECILES) == np.arange(10)[:, None]
    fits = fit_linear_reward(pairs.train, weight=own.astype(float), ridge=ridge)
    return accuracy(fits.weights, pairs)


class Study(NamedTuple):
    """What an ensemble says of one set of pairs, and what follows.

    Attributes
    ----------
    strength
        Held-out mean margins, ``(n,)``.
    deciles
        Accuracy of models of one decile each, ``(10,)``.
    plain
        Accuracy of a model of all labels as they are.
    treated
        Accuracy by what was done to the labels.
    """

    strength: np.ndarray
    deciles: np.ndarray
    plain: float
    treated: dict[str, float]

    def gain(self, recipe: str) -> float:
        """Return by how much a treatment changes the accuracy."""
        return self.treated[recipe] - self.plain


def study(pairs: Pairs, rng: np.random.Generator, *, ridge: float = RIDGE) -> Study:
    """Measure the strength of pairs, and fit to deciles of it and after each treatment."""
    strength = held_out_strength(pairs, rng, ridge=ridge)

    none = LabelTreatment(strength > np.inf, 0 * strength, 0 * strength)
    each = [none, *(treat_labels(strength, recipe) for recipe in RECIPES)]
    together = LabelTreatment(*(np.stack(part) for part in zip(*each, strict=True)))
    fits = fit_linear_reward(pairs.train, treatment=together, ridge=ridge)
    plain, *treated = accuracy(fits.weights, pairs).tolist()
    return Study(
        strength,
        decile_accuracy(pairs, strength, ridge=ridge),
        plain,
        dict(zip(RECIPES, treated, strict=True)),
    )


# --- one pair whose margin is free ---


def best_margin(
    win_rate: float, *, margins: tuple[float, float] = (0.0, 0.0), label_smoothing: float = 0.0
) -> float:
    """Return the margin Δ of a response that is called chosen at a rate, and else rejected.

    ``margins`` are those of the labels for it and for the other one. A reward of one feature is
    fitted to both orders, with next to no ridge.
    """
    treatment = LabelTreatment(
        np.array([False, False]), np.asarray(margins), np.full(2, label_smoothing)
    )
    weight = [win_rate, 1 - win_rate]
    found = fit_linear_reward([[1.0], [-1.0]], ridge=1e-14, weight=weight, treatment=treatment)
    return float(found.weights[0])


def best_with_margin_of_both(win_rate: float, margin: float) -> float:
    """Return log t of the positive root of (1−p)e^(−m)t² + (1−2p)t − pe^(−m) = 0."""
    if win_rate < 0.5:
        # The other response is the first one: the root that no difference spoils.
        return -best_with_margin_of_both(1 - win_rate, margin)
    half = 0.5 * (2 * win_rate - 1)
    root = half + math.sqrt(half**2 + win_rate * (1 - win_rate) * math.exp(-2 * margin))
    return math.log(root / (1 - win_rate)) + margin


# --- the functions, written out once more ---


def neg_log_sigmoid(z: Any) -> Any:
    return np.logaddexp(0, -z)


def soft_loss(z: Any, alpha: Any) -> Any:
    return (1 - alpha) * neg_log_sigmoid(z) + alpha * neg_log_sigmoid(-z)


def missed_by_labels(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return by how much losses, strengths and fits of drawn labels miss what is written."""
    margins, delta = rng.normal(0, 1, (4, 12)), rng.normal(0, 1, 12)
    found = preference_strength(margins)
    mean = np.array([sum(column) / 4 for column in margins.T])
    spread = np.array([np.sqrt(sum((c - sum(c) / 4) ** 2) / 4) for c in margins.T])
    pairs = PairRewards(delta, 0 * delta)

    def loss(recipe: str) -> np.ndarray:
        treatment = treat_labels(found.mean, recipe, label_smoothing=0.3)
        return bradley_terry(treatment.apply(pairs), label_smoothing=treatment.label_smoothing)

    doubted = mean < 0
    written = {
        "flip": neg_log_sigmoid(np.where(doubted, -delta, delta)),
        "margin": neg_log_sigmoid(delta - mean),
        "flip+margin": neg_log_sigmoid(np.where(doubted, -delta, delta) - np.abs(mean)),
        "soft+margin": soft_loss(delta - mean, np.where(doubted, 0.3, 0.0)),
    }
    x = rng.standard_normal((30, 3))
    fit = fit_linear_reward(x, ridge=0.1)
    slope = 0.2 * fit.weights - x.T @ (1 / (1 + np.exp(x @ fit.weights))) / 30
    return {
        "strength": np.concatenate([found.mean - mean, found.deviation - spread]),
        "treated losses": np.concatenate([loss(recipe) - written[recipe] for recipe in written]),
        "slope at the fitted reward": slope,
    }
