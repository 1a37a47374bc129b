"""Whose labels help whom: listeners who judged pairs of recordings, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from paper_repros.robust.hybrid_routing.pool import ridge_weights
from prefsim.data.paired import PairedJudgements, read_paired
from prefsim.data.routing import route_top, routed_labels
from prefsim.solvers.performance_model import learn_performance

SOUND = "people, quality of sound"
OTHERS, OWN, RANDOM_HALF, ROUTED_HALF = (
    "labels of others",
    "own labels",
    "own labels for a random half",
    "own labels for the half of largest gains",
)
LEVEL = 1e-9  # of two weights that differ by rounding alone
ROUTINGS = 60  # that are scored for each listener


class Listeners(NamedTuple):
    """How well the later judgements of listeners are predicted from earlier labels.

    Attributes
    ----------
    helped
        Share of later judgements that earlier labels predict right, ``(listeners, listeners)``: the
        row is whose judgements are predicted, the column who labelled.
    pooled
        The same from what most of all others said, ``(listeners,)``.
    accuracy
        On the later judgements that no routing was scored on, by where the labels come from,
        ``(listeners,)`` each.
    """

    helped: np.ndarray
    pooled: np.ndarray
    accuracy: dict[str, np.ndarray]


def listen(folder: Path, *, every: int, seed: int) -> Listeners | None:
    """Return whose labels help whom; None without the judgements.

    Every so many-th listener has its labels routed.
    """
    path = folder / "paired" / "sound_quality.csv.gz"
    if not path.is_file():
        return None
    sound = read_paired(path)
    before, after = sound.where(time="before"), sound.where(time="after")
    names = sorted({*before.about["rater"]} & {*after.about["rater"]})
    earlier = [before.where(rater=name) for name in names]
    later = [after.where(rater=name) for name in names]
    weights = np.stack([ridge_weights(own.indicators(), own.prob) for own in earlier])
    helped = np.stack([predicted_right(weights, own) for own in later])
    shares = np.stack(
        [labels_by_most(before, own, name) for own, name in zip(earlier, names, strict=True)]
    )
    by_others = np.stack(
        [ridge_weights(own.indicators(), share) for own, share in zip(earlier, shares, strict=True)]
    )
    pooled = np.array(
        [predicted_right(w[None], own)[0] for w, own in zip(by_others, later, strict=True)]
    )
    rng = np.random.default_rng(seed)
    routed = [
        route_labels(earlier[i], later[i], shares[i], rng) for i in range(0, len(names), every)
    ]
    accuracy = {name: np.array([each[name] for each in routed]) for name in routed[0]}
    return Listeners(helped, pooled, accuracy)


def predicted_right(weights: np.ndarray, judged: PairedJudgements) -> np.ndarray:
    """Return the share of judgements that weights ``(m, items)`` order as they are, ``(m,)``.

    Items of equal weight, which are no rarity, are half right: rounding has no say in it.
    """
    ahead = weights @ judged.indicators().T
    right = (ahead > 0) == (judged.prob > 0.5)
    return np.asarray(np.where(np.abs(ahead) < LEVEL, 0.5, right).mean(axis=-1))


def labels_by_most(before: PairedJudgements, own: PairedJudgements, name: str) -> np.ndarray:
    """Return for each judgement what the most of all others said of that pair and piece."""
    others = before.take(before.about["rater"] != name)

    def keys(judged: PairedJudgements) -> np.ndarray:
        k = len(judged.items)
        pieces = np.searchsorted(np.unique(before.about["progmat"]), judged.about["progmat"])
        return np.asarray((pieces * k + judged.first) * k + judged.second)

    size = int(keys(before).max()) + 1
    count = np.bincount(keys(others), minlength=size)
    share = np.bincount(keys(others), others.prob, minlength=size) / np.maximum(count, 1)
    return np.asarray((share[keys(own)] > 0.5) * 1.0)


def route_labels(
    own: PairedJudgements, later: PairedJudgements, others: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Return how well each source of labels predicts later judgements of one listener.

    Routings are scored on a random half of these, and what comes of them is tested on the rest.
    """
    x = own.indicators()
    pieces = np.unique(own.about["progmat"])
    features = np.concatenate([np.abs(x), own.about["progmat"][:, None] == pieces], axis=1) * 1.0
    scored = rng.permutation(later.first.size) < later.first.size // 2
    to_score, to_test = later.take(scored), later.take(~scored)
    learned = learn_performance(
        features,
        own.prob,
        others,
        lambda labels: predicted_right(ridge_weights(x, labels), to_score),
        candidates=ROUTINGS,
        held_out=0.0,
        seed=rng,
    )
    n = own.first.size
    routings = {
        OTHERS: np.zeros(n, dtype=bool),
        RANDOM_HALF: rng.permutation(n) < n // 2,
        ROUTED_HALF: route_top(learned.model.gains(features), n // 2),
        OWN: np.ones(n, dtype=bool),
    }
    labels = routed_labels(own.prob, others, np.stack(list(routings.values())))
    right = predicted_right(ridge_weights(x, labels), to_test)
    return dict(zip(routings, right.tolist(), strict=True))
