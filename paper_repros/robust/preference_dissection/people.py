"""Judgements by people taken apart: harmless answers, the sound of music, and business schools."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from prefsim.analysis import judge_similarity
from prefsim.data.paired import PairedJudgements, read_paired
from prefsim.data.properties import TAGGERS, compare_responses
from prefsim.lm.command.dialogues import read_compared
from prefsim.numerics import softplus
from prefsim.solvers.likelihood.logistic_posterior import logistic_posterior
from prefsim.solvers.likelihood.sparse_logistic import fit_sparse_logistic

HARMLESS = "people, harmless answers (hh-rlhf)"
SOUND = "people, quality of sound"
SCHOOLS = "people, business schools"
SPOKEN = {"french": "Paris", "italian": "Milano", "spanish": "Barcelona"}

# Of weights of few properties of many pairs, and of items, which differ by more.
NARROW, WIDE = 0.1, 1.0


class Weights(NamedTuple):
    """Means of a posterior and the ends of its 95 % intervals, by the name of the weight."""

    names: tuple[str, ...]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Harmless(NamedTuple):
    """What people look at who choose the more harmless of two answers.

    Attributes
    ----------
    pairs
        Number of pairs.
    weights
        Of each property.
    halves
        Correlation of the weights of two halves of the pairs, one for each of some splits.
    losses
        Cross-entropy of the half that weights were not fitted on, nats, for the same splits.
    """

    pairs: int
    weights: Weights
    halves: np.ndarray
    losses: np.ndarray


def dissect_harmless(folder: Path, *, splits: int, seed: int) -> Harmless | None:
    """Return what code can read from the answers and people look at; None without the pairs."""
    path = folder / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.is_file():
        return None
    answers = read_compared(path)
    features = compare_responses(answers.chosen, answers.rejected)
    first = np.ones(len(features))
    halves, losses = [], []
    rng = np.random.default_rng(seed)
    for _ in range(splits):
        half = rng.permutation(len(features)) < len(features) // 2
        fits = fit_sparse_logistic(features, first, scale=NARROW, weight=np.stack([half, ~half]))
        halves.append(float(judge_similarity(fits.weights)[0, 1]))
        # Every pair is chosen against rejected: its loss is that of the first.
        held_out = [
            softplus(-features[side] @ w)
            for side, w in zip((~half, half), fits.weights, strict=True)
        ]
        losses.append(float(np.concatenate(held_out).mean()))
    weights = weights_of(features, first, tuple(TAGGERS), scale=NARROW, seed=seed)
    return Harmless(len(features), weights, np.array(halves), np.array(losses))


def weights_of(
    features: np.ndarray, prob: np.ndarray, names: tuple[str, ...], *, scale: float, seed: int
) -> Weights:
    posterior = logistic_posterior(features, prob, scale=scale, draws=2**12, seed=seed)
    return Weights(names, posterior.mean, *posterior.interval())


class Raters(NamedTuple):
    """How alike the raters of sound are to themselves and to each other.

    Attributes
    ----------
    own
        Correlation of the weights of each rater before and after, ``(raters,)``.
    others
        Mean correlation of the weights of one rater before and another after.
    chance
        Share of random pairings of raters that are at least as alike in the mean as each with
        themselves.
    """

    own: np.ndarray
    others: float
    chance: float


def dissect_raters(folder: Path, *, pairings: int, seed: int) -> Raters | None:
    """Return whether a rater's weights tell the rater; None without the judgements."""
    path = folder / "paired" / "sound_quality.csv.gz"
    if not path.is_file():
        return None
    sound = read_paired(path)
    by_time = {time: set(sound.where(time=time).about["rater"]) for time in ("before", "after")}
    raters = sorted(by_time["before"] & by_time["after"])
    weights = np.stack([weights_at(sound, time, raters) for time in by_time])
    n = len(raters)
    alike = judge_similarity(weights.reshape(2 * n, -1))[:n, n:]
    own = np.diagonal(alike)
    rng = np.random.default_rng(seed)
    paired = [alike[np.arange(n), rng.permutation(n)].mean() for _ in range(pairings)]
    return Raters(own, (alike.sum() - own.sum()) / (n * (n - 1)), np.mean(paired >= own.mean()))


def weights_at(sound: PairedJudgements, time: str, raters: list[str]) -> np.ndarray:
    """Return what each rater thought of each format at one time, ``(raters, formats)``."""
    judged = sound.where(time=time)
    by_rater = [judged.where(rater=rater) for rater in raters]
    return np.stack(
        [fit_sparse_logistic(own.indicators(), own.prob, scale=WIDE).weights for own in by_rater]
    )


def dissect_schools(folder: Path, *, seed: int) -> dict[str, Weights] | None:
    """Return by language how much more its speakers think of each school; None without any."""
    path = folder / "paired" / "cems_choice.csv.gz"
    if not path.is_file():
        return None
    schools = read_paired(path)
    found = {}
    for language in SPOKEN:
        speaks = np.where(schools.about[language] == "good", 0.5, -0.5)[:, None]
        shared = schools.indicators()
        features = np.concatenate([shared, speaks * shared], axis=1)
        posterior = logistic_posterior(features, schools.prob, scale=WIDE, draws=2**12, seed=seed)
        k = len(schools.items)
        # Choices tell schools from each other: weights are above the mean of all schools.
        contrast = np.eye(k) - 1 / k
        more = posterior.of(np.concatenate([np.zeros((k, k)), contrast], axis=1))
        found[language] = Weights(schools.items, more.mean, *more.interval())
    return found
