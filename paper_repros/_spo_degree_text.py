"""Random sentences with graded versions, and linear heads that tell the degree: the self-supervised half of arXiv:2409.17791."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import Seed, random_generator
from prefsim.data.degradation import degrade, kept_tokens
from prefsim.policies import TokenTreePolicy
from prefsim.worlds import TokenTree

VOCABULARY, STOPS, LEVELS, PHRASES = 30, 10, 4, 8
RIDGE = 1e-4


def sentences(n: int, *, seed: Seed, shared: bool = False) -> np.ndarray:
    """Return ``(n, 32)`` tokens: 8 phrases of 1 to 3 content tokens, each followed by one stop token (the ids below 10).

    With ``shared`` every id is drawn for every place, so that being a stop word is not written in
    the token.
    """
    rng = random_generator(seed)
    length = rng.integers(1, 4, (n, PHRASES, 1))
    slot = np.arange(4)
    content = rng.integers(0 if shared else STOPS, VOCABULARY, (n, PHRASES, 4))
    stop = rng.integers(0, VOCABULARY if shared else STOPS, (n, PHRASES, 4))
    tokens = np.where(slot < length, content, np.where(slot == length, stop, -1)).reshape(n, -1)
    return kept_tokens(tokens, (tokens >= 0)[:, None])[:, 0]


def counts(tokens: np.ndarray) -> np.ndarray:
    """Return how often each id occurs, ``(..., V)``."""
    return (tokens[..., None] == np.arange(VOCABULARY)).sum(axis=-2)


def by_definition(
    tokens: Sequence[Any], stop: Collection[Any]
) -> tuple[list[Fraction], list[list[int]]]:
    """Return the score of the phrase at each position (0 elsewhere) and the phrases' positions in order of removal, word by word."""
    phrases: list[list[int]] = []
    for position, token in enumerate(tokens):
        if token in stop:
            continue
        if phrases and phrases[-1][-1] == position - 1:
            phrases[-1].append(position)
        else:
            phrases.append([position])
    frequency: dict[Any, int] = defaultdict(int)
    degree: dict[Any, int] = defaultdict(int)
    for phrase in phrases:
        for position in phrase:
            frequency[tokens[position]] += 1
            degree[tokens[position]] += len(phrase)
    totals = [
        sum((Fraction(degree[tokens[i]], frequency[tokens[i]]) for i in phrase), Fraction(0))
        for phrase in phrases
    ]
    scores = [Fraction(0)] * len(tokens)
    for phrase, total in zip(phrases, totals, strict=True):
        for position in phrase:
            scores[position] = total
    order = sorted(range(len(phrases)), key=lambda i: (-totals[i], phrases[i][0]))
    return scores, [phrases[i] for i in order]


class Head(NamedTuple):
    """A linear head ``(d + 1, C)``, its bias last."""

    weights: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        return features @ self.weights[:-1] + self.weights[-1]


def fit_head(features: np.ndarray, degree: np.ndarray) -> Head:
    """Minimise the mean preference degree loss of features ``(n, V, d)`` with a small ridge, by L-BFGS."""
    import torch
    from scipy.optimize import minimize

    x, k = torch.as_tensor(features), torch.as_tensor(degree)
    shape = (features.shape[-1] + 1, LEVELS + 1)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.tensor(flat.reshape(shape), requires_grad=True)
        value = (
            losses.preference_degree(losses.DegreeLogits(x @ w[:-1] + w[-1], k)).mean()
            + RIDGE * (w[:-1] ** 2).sum()
        )
        value.backward()
        assert w.grad is not None
        return float(value.detach()), w.grad.numpy().ravel()

    found = minimize(
        objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500}
    )
    return Head(found.x.reshape(shape))


class Scores(NamedTuple):
    """How well a head tells the degree on held-out sentences; rows of the confusion matrix are the true degrees."""

    accuracy: float
    cross_entropy: float
    within_one: float
    confusion: np.ndarray


def evaluate(head: Head, features: np.ndarray, degree: np.ndarray) -> Scores:
    """Score a head on features ``(n, V, d)``."""
    logits = head.logits(features)
    predicted = logits.argmax(axis=-1)
    confusion = np.bincount(
        (degree * (LEVELS + 1) + predicted).ravel(), minlength=(LEVELS + 1) ** 2
    ).reshape(LEVELS + 1, -1)
    loss = float(losses.preference_degree(losses.DegreeLogits(logits, degree)).mean())
    near = float((np.abs(predicted - degree) <= 1).mean())
    return Scores(
        float((predicted == degree).mean()),
        loss,
        near,
        confusion / confusion.sum(axis=1, keepdims=True),
    )


def held_out(features: np.ndarray, degree: np.ndarray) -> Scores:
    """Fit a head on the first four fifths of the sentences and score it on the rest."""
    cut = 4 * len(features) // 5
    return evaluate(fit_head(features[:cut], degree[:cut]), features[cut:], degree[cut:])


def bag_of_words(seed: int, *, shared: bool = False) -> Scores:
    """Score a head on word counts, for 600 sentences and their graded versions.

    With ``shared`` ids the function words of a sentence are known to the degrading alone, which
    keeps the last token of every phrase.
    """
    text = sentences(600, seed=seed, shared=shared)
    if shared:
        marked = np.where(
            sentences(600, seed=seed) >= STOPS, 1, 0
        )  # the same layout, since the draws come in the same order
        removed = degrade(
            np.where(text < 0, -1, text + VOCABULARY * marked),
            stop=range(VOCABULARY),
            levels=LEVELS,
        )
    else:
        removed = degrade(text, stop=range(STOPS), levels=LEVELS)
    return held_out(counts(kept_tokens(text, removed.keep)) / 10, removed.degree)


def length_alone(seed: int) -> Scores:
    """Score a head that sees how many words a version has and nothing else."""
    text = sentences(600, seed=seed)
    removed = degrade(text, stop=range(STOPS), levels=LEVELS)
    return held_out(removed.keep.sum(axis=-1, keepdims=True) / 10, removed.degree)


def embedded(seed: int, dimension: int, embedding_seed: int) -> Scores:
    """Score a head on a fixed random embedding of the word counts."""
    text = sentences(600, seed=seed)
    removed = degrade(text, stop=range(STOPS), levels=LEVELS)
    vectors = np.random.default_rng(embedding_seed).standard_normal((VOCABULARY, dimension))
    return held_out(counts(kept_tokens(text, removed.keep)) / 10 @ vectors, removed.degree)


class TreeDegrees(NamedTuple):
    """All sequences of a tree with their graded versions.

    Attributes
    ----------
    tokens, keep, degree
        ``(N, T)``, ``(N, K + 1, T)``, ``(N, K + 1)``.
    version
        Number of the degraded text, equal texts alike, ``(N, K + 1)``.
    law
        Probability of each sequence, ``(N,)``.
    """

    tokens: np.ndarray
    keep: np.ndarray
    degree: np.ndarray
    version: np.ndarray
    law: np.ndarray

    @property
    def phrases(self) -> np.ndarray:
        """Number of distinct versions beyond the whole text, ``(N,)``: the number of phrases up to K."""
        return (self.degree > 0).sum(axis=1)


def tree_degrees(policy: TokenTreePolicy, *, stop: Collection[int], levels: int) -> TreeDegrees:
    """Degrade every sequence of the policy's tree; the end token is a stop token."""
    tree: TokenTree = policy.tree
    stops = {*stop, *([] if tree.end_token is None else [tree.end_token])}
    removed = degrade(tree.sequences, stop=stops, levels=levels)
    texts = kept_tokens(tree.sequences, removed.keep)
    _, version = np.unique(texts.reshape(-1, texts.shape[-1]), axis=0, return_inverse=True)
    return TreeDegrees(
        tree.sequences,
        removed.keep,
        removed.degree,
        version.reshape(removed.degree.shape),
        policy.probs[0],
    )


def expected_loss(degrees: TreeDegrees, logits: np.ndarray) -> float:
    """Return the mean preference degree loss over the sequences that have a phrase, exactly; logits ``(N, K + 1, C)``."""
    each = losses.preference_degree(losses.DegreeLogits(logits, degrees.degree))
    law = np.where(degrees.phrases > 0, degrees.law, 0.0)
    return float(law @ each / law.sum())


def posterior(degrees: TreeDegrees, group: np.ndarray) -> tuple[np.ndarray, float]:
    """Return log P(degree | group) at each version ``(N, K + 1, C)`` and the conditional entropy H(degree | group) in nats."""
    classes = degrees.degree.shape[1]
    present = degrees.degree >= 0
    law = np.where(degrees.phrases > 0, degrees.law, 0.0)
    weight = (
        present * law[:, None] / np.maximum(present.sum(axis=1, keepdims=True), 1)
    ) / law.sum()
    cells = group[present] * classes + degrees.degree[present]
    mass = np.bincount(
        cells, weights=weight[present], minlength=(group.max() + 1) * classes
    ).reshape(-1, classes)
    total = mass.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.where(total > 0, np.log(mass / total), -np.log(classes))
        entropy = -np.where(mass > 0, mass * table, 0.0).sum()
    return np.where(present[..., None], table[group], 0.0), float(entropy)
