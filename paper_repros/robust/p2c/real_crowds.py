"""Crowds of real data: listeners who judged pairs of recordings, and sets with drawn annotators."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paper_repros.robust.p2c.crowds import Crowd, of_two
from prefsim.data.labelled_sets import labelled_set, split_set
from prefsim.data.paired import PairedJudgements, read_paired
from prefsim.raters.class_noise import instance_flips

LISTENERS, TRAINED = 7, 56  # judgements of each example that a classifier sees, and examples
ANNOTATORS, FLIPPED = 7, 0.35
N_TRAIN = {"breast_cancer": 150, "digits": 300, "wine": 80}


def sound_crowd(folder: Path, seeds: range) -> Crowd | None:
    """Return splits of what listeners said of pairs of recordings; None without the judgements.

    An example is two recordings of one piece, and its class the one that sounds better. A
    classifier sees a few judgements of half of the examples, and is tested on all of the others'.
    """
    path = folder / "paired" / "sound_quality.csv.gz"
    if not path.is_file():
        return None
    sound = read_paired(path)
    place, inputs = examples_of(sound)
    # Of the recording that is named first in the alphabet.
    prob = np.where(sound.first < sound.second, sound.prob, 1 - sound.prob)
    share = np.bincount(place, prob) / np.bincount(place)
    splits = [split_of(inputs, share, place, prob, np.random.default_rng([7, s])) for s in seeds]
    return Crowd(*(np.stack(part) for part in zip(*splits, strict=True)))


def examples_of(sound: PairedJudgements) -> tuple[np.ndarray, np.ndarray]:
    """Return of which example each judgement is, and the features ``(examples, d)`` of these.

    Which recording is which, for all pieces together and for each piece, and the piece.
    """
    low, high = np.minimum(sound.first, sound.second), np.maximum(sound.first, sound.second)
    pieces, piece = np.unique(sound.about["progmat"], return_inverse=True)
    keys, place = np.unique(np.stack([piece, low, high], axis=1), axis=0, return_inverse=True)
    items = np.eye(len(sound.items))
    recordings, pieces_of = items[keys[:, 1]] - items[keys[:, 2]], np.eye(pieces.size)[keys[:, 0]]
    each = pieces_of[:, :, None] * recordings[:, None, :]
    return place.reshape(-1), np.concatenate(
        [recordings, pieces_of, each.reshape(len(keys), -1)], axis=1
    )


def split_of(
    inputs: np.ndarray,
    share: np.ndarray,
    place: np.ndarray,
    prob: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs and few votes to train on, and other inputs and all their votes."""
    # In random order, of which each example takes its first few judgements.
    shuffled = rng.permutation(place.size)
    grouped = shuffled[np.argsort(place[shuffled], kind="stable")]
    start = np.searchsorted(place[grouped], np.arange(share.size))
    few = prob[grouped[start[:, None] + np.arange(LISTENERS)]].mean(axis=1)
    order = rng.permutation(share.size)
    train, test = order[:TRAINED], order[TRAINED:]
    return inputs[train], of_two(few[train]), inputs[test], of_two(share[test])


def drawn_annotators(name: str, seeds: range) -> Crowd | None:
    """Return splits of a set of scikit-learn with drawn annotators; None where it is missing.

    They mistake inputs that look alike for the same class. Tested is on the true classes.
    """
    data = labelled_set(name)
    if data is None:
        return None
    splits = []
    for seed in seeds:
        split = split_set(data, N_TRAIN[name], seed=seed)
        rng = np.random.default_rng([11, seed])
        law = instance_flips(split.inputs, split.label, FLIPPED, n_classes=data.n_classes, seed=rng)
        votes = rng.multinomial(ANNOTATORS, law) / ANNOTATORS
        splits.append(
            (split.inputs, votes, split.test_inputs, np.eye(data.n_classes)[split.test_label])
        )
    return Crowd(*(np.stack(part) for part in zip(*splits, strict=True)))
