"""Losses and laws of pairs as their definitions say, entry by entry, and instances of claims."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom

from prefsim.containers import ClassPairs
from prefsim.data.class_pairs import (
    annealed_law,
    disagreement_law,
    inconsistency_law,
    random_partner_law,
)
from prefsim.losses import p2c
from prefsim.losses.pair_fields import needed
from prefsim.losses.paired_classes import (
    FORMS,
    head_diversity,
    head_preference,
    preference_consistency,
    preference_probability,
    vote_consistency,
)
from prefsim.numerics import sigmoid


def soft_cost(chance: np.ndarray, prob: np.ndarray | float) -> np.ndarray:
    """Return the cross-entropy of coins with these chances against a probability."""
    return np.asarray(-prob * np.log(chance) - (1 - prob) * np.log(1 - chance))


def chances_of(margins: np.ndarray) -> np.ndarray:
    """Return the probabilities 1/(1 + e^−m) of margins."""
    return np.asarray(1 / (1 + np.exp(-margins)))


class Diversity(NamedTuple):
    """Of T heads: their mean cross-entropy, its two parts, and the slope in each margin."""

    cross_entropy: float
    kl: float
    entropy: float
    slope: np.ndarray


def divergence_of_heads(margins: np.ndarray) -> Diversity:
    """Return how much heads ``(T,)`` disagree."""
    chance = chances_of(margins)
    heads = range(chance.size)
    pairs = [(i, j) for i in heads for j in heads if i != j]
    cross = [float(soft_cost(chance[j], chance[i])) for i, j in pairs]
    own = [float(soft_cost(chance[i], chance[i])) for i, _ in pairs]
    slope = [sum(chance[j] - chance[i] for i in heads) / len(pairs) for j in heads]
    mean, entropy = sum(cross) / len(pairs), sum(own) / len(pairs)
    return Diversity(mean, mean - entropy, entropy, np.asarray(slope))


def attached_diversity(margins: Any) -> Any:
    """Return the cross-entropies of all heads against each, nothing held constant."""
    others = [[j for j in range(margins.shape[-1]) if j != i] for i in range(margins.shape[-1])]
    costs = [
        head_preference(margins[..., rest], sigmoid(margins[..., i]))
        for i, rest in enumerate(others)
    ]
    return sum(costs) / len(costs)


def drawn_pairs(seed: int) -> ClassPairs[np.ndarray]:
    """Return four pairs with the votes of three annotators, which often tie for some class."""
    pairs = ClassPairs.example(4, seed=seed)
    classes, every = pairs.chosen_logits.shape[-1], np.arange(4)
    law = np.full((4, classes), 0.5 / (classes - 1))
    law[every, pairs.label] = 0.5
    votes = np.random.default_rng(seed).multinomial(3, law, size=(2, 4)) / 3
    scores = votes[:, every, pairs.label]
    return pairs._replace(
        chosen_votes=votes[0],
        rejected_votes=votes[1],
        chosen_score=scores[0],
        rejected_score=scores[1],
    )


def gaps_of(rows: np.ndarray) -> np.ndarray:
    """Return gaps of class shares in quarters, which sum to zero."""
    whole = np.round(rows * 4) / 4
    return np.concatenate([whole, -whole.sum(axis=-1, keepdims=True)], axis=-1)


def lead_of_preference(high: float, low: float, annotators: int, label: int) -> float:
    """Return by how much more often the first is preferred, both with a majority for ``label``."""
    chances = (high, low) if label == 1 else (1 - low, 1 - high)
    votes = np.arange(annotators // 2 + 1, annotators + 1)
    laws = [binom.pmf(votes, annotators, chance) for chance in chances]
    both = np.outer(*(law / law.sum() for law in laws))
    ahead = np.sign(votes[:, None] - votes)
    judgement = np.select([ahead > 0, ahead < 0], [1, 0], 2)
    return float(np.sum(both * (2 * preference_probability(judgement) - 1)))


def total(
    pairs: ClassPairs[np.ndarray],
    *,
    consistency_weight: float,
    preference_weight: float,
    diversity_weight: float,
    consistency: str = "preference",
) -> np.ndarray:
    """Return the loss ``(n,)`` of pairs."""
    values = []
    weights = [np.exp(f) for f in (pairs.chosen_logits, pairs.rejected_logits)]
    laws = [w / w.sum(axis=-1, keepdims=True) for w in weights]
    for i, label in enumerate(np.asarray(pairs.label).tolist()):
        own = [float(law[i, label]) for law in laws]
        first, second = float(pairs.chosen_score[i]), float(pairs.rejected_score[i])
        gap = own[0] - own[1]
        if first > second:
            prob, against = 1.0, max(0.0, -gap)
        elif first < second:
            prob, against = 0.0, max(0.0, gap)
        else:
            prob, against = 0.5, abs(gap)
        if consistency == "votes":
            votes = [needed(v, "votes")[i] for v in (pairs.chosen_votes, pairs.rejected_votes)]
            against = shortfall(laws[0][i] - laws[1][i], votes[0] - votes[1])
        margins = pairs.chosen_rewards[i] - pairs.rejected_rewards[i]
        values.append(
            -(math.log(own[0]) + math.log(own[1])) / 2
            + consistency_weight * against
            + preference_weight * float(soft_cost(chances_of(margins), prob).mean())
            - diversity_weight * divergence_of_heads(margins).cross_entropy
        )
    return np.asarray(values)


def shortfall(prob_gap: np.ndarray, vote_gap: np.ndarray) -> float:
    """Return by how much the gaps ``(K,)`` of probabilities fall short of those of votes."""
    return sum(
        max(0.0, v - p) if v >= 0 else max(0.0, p - v)
        for p, v in zip(prob_gap.tolist(), vote_gap.tolist(), strict=True)
    )


def laws_of_partners(
    label: np.ndarray, rewards: np.ndarray, cost: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the random, the disagreement and the inconsistency law of one set, ``(n, n)`` each."""
    n, heads = rewards.shape
    laws = np.zeros((3, n, n))
    for i in range(n):
        partners = [j for j in range(n) if j != i and label[j] == label[i]]
        unlike = [
            sum(
                np.sign(rewards[i, a] - rewards[j, a]) != np.sign(rewards[i, b] - rewards[j, b])
                for a, b in itertools.combinations(range(heads), 2)
            )
            for j in partners
        ]
        costs = cost[i, partners]
        spread = costs - costs.min()
        laws[0, i, partners] = 1 / len(partners)
        laws[1, i, partners] = (np.asarray(unlike) == max(unlike)) / unlike.count(max(unlike))
        laws[2, i, partners] = spread / spread.sum()
    return laws[0], laws[1], laws[2]


def distances(seed: int) -> dict[str, float]:
    """Return how far each function of the library is from its definition, on drawn entries."""
    rng = np.random.default_rng(seed)
    margins = rng.uniform(-2, 2, (5, 3))
    judgement = rng.permutation([1, 0, 2, 1, 2])
    prob = np.asarray([{1: 1.0, 0: 0.0, 2: 0.5}[code] for code in judgement.tolist()])
    gaps = [rng.uniform(-0.5, 0.5, (8, 8, 3)) for _ in range(2)]
    pairs = drawn_pairs(seed)
    weights = {"consistency_weight": 0.7, "preference_weight": 0.6, "diversity_weight": 0.4}
    label = rng.permutation(np.repeat([0, 1], 4))
    rewards = rng.integers(0, 3, (8, 3)) * 0.25
    cost = np.asarray(
        [[shortfall(p, v) for p, v in zip(*rows, strict=True)] for rows in zip(*gaps, strict=True)]
    )
    laws = laws_of_partners(label, rewards, cost)
    gap = margins[:, 0]
    ordered = np.where(prob == 0.5, abs(gap), np.maximum(0, (1 - 2 * prob) * gap))
    found_and_stated = {
        "preference_probability": (preference_probability(judgement), prob),
        "head_preference": (
            head_preference(margins, prob),
            soft_cost(chances_of(margins), prob[:, None]).mean(axis=-1),
        ),
        "head_diversity": (
            head_diversity(margins),
            [divergence_of_heads(row).cross_entropy for row in margins],
        ),
        "preference_consistency": (preference_consistency(gap, prob), ordered),
        "vote_consistency": (vote_consistency(*gaps), cost),
        "p2c": tuple(
            np.stack([loss(pairs, **weights, consistency=form) for form in FORMS])
            for loss in (p2c, total)
        ),
        "random_partner_law": (random_partner_law(label), laws[0]),
        "disagreement_law": (disagreement_law(rewards, label), laws[1]),
        "inconsistency_law": (inconsistency_law(cost, label), laws[2]),
        "annealed_law": (annealed_law(laws[2], label, progress=0.3), 0.7 * laws[0] + 0.3 * laws[2]),
    }
    return {
        name: float(np.abs(found - np.asarray(stated)).max())
        for name, (found, stated) in found_and_stated.items()
    }
