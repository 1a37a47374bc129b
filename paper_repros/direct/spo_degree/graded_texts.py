"""Texts with graded versions, and heads that tell the degree.

Random sentences are told apart by fitted heads, all sequences of a tree exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from prefsim import losses
from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.data.degradation import degrade, kept_tokens
from prefsim.policies import TokenTreePolicy
from prefsim.worlds import TokenTree

VOCABULARY, STOPS, PHRASES = 30, 10, 8
LEVELS = 4
CLASSES = LEVELS + 1

# --- the definition of key phrases ---


def by_definition(
    tokens: Sequence[Any], stop: Collection[Any]
) -> tuple[list[Fraction], list[list[int]]]:
    """Return scores and order of the key phrases, word by word and in exact fractions.

    Returns
    -------
    The score of the phrase at each position, 0 elsewhere; and the positions of each phrase, in the
    order of removal.
    """
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


# --- random sentences ---


class GradedSentences(NamedTuple):
    """Sentences with their graded versions.

    Attributes
    ----------
    text
        Tokens ``(n, T)``, −1 behind the end.
    keep
        Which tokens each version keeps, ``(n, K + 1, T)``.
    degree
        Of each version, ``(n, K + 1)``.
    """

    text: np.ndarray
    keep: np.ndarray
    degree: np.ndarray

    @property
    def versions(self) -> np.ndarray:
        """The tokens of each version, ``(n, K + 1, T)``."""
        return kept_tokens(self.text, self.keep)

    def rewards(self, worth: np.ndarray) -> np.ndarray:
        """Return the sum of the worths ``(V,)`` of the tokens of each version, ``(n, K + 1)``."""
        # Token 0, in the place of padding, is kept nowhere.
        return (self.keep * worth[np.maximum(self.text, 0)][:, None]).sum(axis=-1)


def sentences(n: int, *, seed: Seed) -> np.ndarray:
    """Return ``(n, 32)`` tokens: 8 phrases of 1 to 3 content tokens, a stop token after each.

    Stop tokens have the ids below 10.
    """
    rng = random_generator(seed)
    length = rng.integers(1, 4, (n, PHRASES, 1))
    slot = np.arange(4)
    content = rng.integers(STOPS, VOCABULARY, (n, PHRASES, 4))
    stop = rng.integers(0, STOPS, (n, PHRASES, 4))
    tokens = np.where(slot < length, content, np.where(slot == length, stop, -1)).reshape(n, -1)
    return kept_tokens(tokens, (tokens >= 0)[:, None])[:, 0]


def graded(text: np.ndarray) -> GradedSentences:
    """Degrade sentences whose stop tokens are the ids below 10."""
    return GradedSentences(text, *degrade(text, stop=range(STOPS), levels=LEVELS))


def counts(tokens: np.ndarray) -> np.ndarray:
    """Return how often each id occurs, ``(..., V)``."""
    return (tokens[..., None] == np.arange(VOCABULARY)).sum(axis=-2)


# --- heads on features of the versions ---


class Head(NamedTuple):
    """What makes of its parameters and of features ``(..., d)`` logits ``(..., C)``."""

    logits: Callable[[Any, Any], Any]
    start: Callable[[int], np.ndarray]


def _free_columns(head: Any, features: Any) -> Any:
    return features @ head[:-1] + head[-1]


def _thresholds(head: Any) -> Any:
    """Return rising thresholds of a tensor: the first, and the logarithms of the steps beyond."""
    import torch

    steps = torch.cat([head.new_zeros(1), head[1 - LEVELS :].exp()])
    return head[-LEVELS] + steps.cumsum(dim=0)


def _ordinal(head: Any, features: Any) -> Any:
    return losses.ordinal_logits(features @ head[:-LEVELS], _thresholds(head))


FREE = Head(_free_columns, lambda d: np.zeros((d + 1, CLASSES)))
"""A column of weights for each degree, and a bias, which comes last."""
ORDINAL = Head(_ordinal, lambda d: np.concatenate([np.zeros(d), [-1.0, 0.0, 0.0, 0.0]]))
"""One column of weights, and the thresholds of cumulative logits."""


def fit_head(
    features: np.ndarray, degree: np.ndarray, *, head: Head = FREE, ridge: float = 1e-4
) -> np.ndarray:
    """Return the parameters of a head on features ``(n, K + 1, d)``.

    They minimise the mean preference degree loss and a small ridge on the weights.
    """
    import torch
    from scipy.optimize import minimize

    x, k = torch.as_tensor(features), torch.as_tensor(degree)
    start, d = head.start(features.shape[-1]), features.shape[-1]

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.tensor(flat.reshape(start.shape), requires_grad=True)
        loss = losses.preference_degree(losses.DegreeLogits(head.logits(w, x), k)).mean()
        value = loss + ridge * (w[:d] ** 2).sum()
        (slope,) = torch.autograd.grad(value, w)
        return float(value.detach()), slope.numpy().ravel()

    options = {"maxiter": 500}
    result = minimize(value_and_slope, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return result.x.reshape(start.shape)


class Scores(NamedTuple):
    """How well a head tells the degree on held-out sentences.

    Attributes
    ----------
    accuracy, within_one
        Shares of versions whose degree is told exactly, or at most one off.
    cross_entropy
        Mean preference degree loss, nats.
    by_definition
        The same, −log softmax(o)_k averaged over all versions, without the library.
    confusion
        Shares of the predicted degrees, ``(C, C)``; rows are the true degrees.
    """

    accuracy: float
    cross_entropy: float
    by_definition: float
    within_one: float
    confusion: np.ndarray


def cross_entropy(logits: np.ndarray, degree: np.ndarray) -> float:
    """Return the mean of −log softmax(o)_k over all versions, nats."""
    taken = np.take_along_axis(logits, degree[..., None], axis=-1)[..., 0]
    return float((np.log(np.exp(logits).sum(axis=-1)) - taken).mean())


def evaluate(logits: np.ndarray, degree: np.ndarray) -> Scores:
    """Score the logits ``(n, K + 1, C)`` of a head."""
    predicted = logits.argmax(axis=-1)
    cells = (degree * CLASSES + predicted).ravel()
    confusion = np.bincount(cells, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    loss = losses.preference_degree(losses.DegreeLogits(logits, degree))
    return Scores(
        accuracy=float((predicted == degree).mean()),
        cross_entropy=float(loss.mean()),
        by_definition=cross_entropy(logits, degree),
        within_one=float((np.abs(predicted - degree) <= 1).mean()),
        confusion=confusion / confusion.sum(axis=1, keepdims=True),
    )


def held_out(features: np.ndarray, degree: np.ndarray) -> Scores:
    """Fit a head on the first four fifths of the sentences and score it on the rest."""
    cut = 4 * len(features) // 5
    head = fit_head(features[:cut], degree[:cut])
    return evaluate(FREE.logits(head, features[cut:]), degree[cut:])


def word_counts(data: GradedSentences) -> Scores:
    """Score a head on word counts."""
    return held_out(counts(data.versions) / 10, data.degree)


def word_counts_with_others(data: GradedSentences, *, seed: int) -> Scores:
    """Score a head on word counts where other content words stand for those that were removed."""
    removed = (data.text >= 0).sum(axis=-1, keepdims=True) - data.keep.sum(axis=-1)
    content = np.full(VOCABULARY - STOPS, 1 / (VOCABULARY - STOPS))
    others = np.random.default_rng(seed).multinomial(removed, content)
    features = counts(data.versions).astype(float)
    features[..., STOPS:] += others
    return held_out(features / 10, data.degree)


def ordered_word_counts(data: GradedSentences) -> tuple[Scores, float]:
    """Score a head on word counts that knows the order of the degrees.

    Returns the scores, and the largest error of ``P(k ≥ j) = σ(s − c_j)`` on held-out versions.
    """
    import torch

    features, cut = counts(data.versions) / 10, 4 * len(data.text) // 5
    head = torch.as_tensor(fit_head(features[:cut], data.degree[:cut], head=ORDINAL))
    unseen = torch.as_tensor(features[cut:])
    logits = to_numpy(ORDINAL.logits(head, unseen))
    stated = expit(to_numpy((unseen @ head[:-LEVELS])[..., None] - _thresholds(head)))
    at_least = np.exp(logits)[..., ::-1].cumsum(axis=-1)[..., ::-1]
    # That some degree is at least 0 is certain.
    error = np.abs(at_least - np.insert(stated, 0, 1.0, axis=-1)).max()
    return evaluate(logits, data.degree[cut:]), float(error)


def length_alone(data: GradedSentences) -> Scores:
    """Score a head that sees how many words a version has and nothing else."""
    return held_out(data.keep.sum(axis=-1, keepdims=True) / 10, data.degree)


def random_embedding(data: GradedSentences, dimension: int, *, seed: Any) -> Scores:
    """Score a head on a fixed random embedding of the word counts."""
    vectors = np.random.default_rng(seed).standard_normal((VOCABULARY, dimension))
    return held_out(counts(data.versions) / 10 @ vectors, data.degree)


# --- all sequences of a tree ---


class TreeDegrees(NamedTuple):
    """All sequences of a tree with their graded versions.

    Attributes
    ----------
    keep, degree
        As in :class:`GradedSentences`, ``(N, K + 1, T)`` and ``(N, K + 1)``.
    version
        Number of the degraded text, equal texts alike, ``(N, K + 1)``.
    law
        Probability of each sequence, ``(N,)``.
    """

    keep: np.ndarray
    degree: np.ndarray
    version: np.ndarray
    law: np.ndarray

    @property
    def phrases(self) -> np.ndarray:
        """Number of phrases up to K, ``(N,)``: of distinct versions beyond the whole text."""
        return (self.degree > 0).sum(axis=1)

    @property
    def law_with_phrases(self) -> np.ndarray:
        """Probability of each sequence given that it has a phrase, ``(N,)``."""
        law = np.where(self.phrases > 0, self.law, 0.0)
        return law / law.sum()

    def expected_loss(self, logits: np.ndarray) -> float:
        """Return the exact mean preference degree loss of logits ``(N, K + 1, C)``.

        Over the sequences that have a phrase.
        """
        each = losses.preference_degree(losses.DegreeLogits(logits, self.degree))
        return float(self.law_with_phrases @ each)

    def posterior(self, group: np.ndarray) -> tuple[np.ndarray, float]:
        """Return what a group ``(N, K + 1)`` of versions says about the degree.

        Returns
        -------
        log P(degree | group) at each version, ``(N, K + 1, C)``, and the conditional entropy
        H(degree | group), both in nats.
        """
        classes = self.degree.shape[1]
        present = self.degree >= 0
        share = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
        weight = share * self.law_with_phrases[:, None]
        cells = group[present] * classes + self.degree[present]
        size = (group.max() + 1) * classes
        mass = np.bincount(cells, weights=weight[present], minlength=size).reshape(-1, classes)
        total = mass.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            table = np.where(total > 0, np.log(mass / total), -np.log(classes))
            entropy = -np.where(mass > 0, mass * table, 0.0).sum()
        return np.where(present[..., None], table[group], 0.0), float(entropy)


def tree_degrees(policy: TokenTreePolicy, *, stop: Collection[int], levels: int) -> TreeDegrees:
    """Degrade every sequence of the policy's tree; the end token is a stop token."""
    tree: TokenTree = policy.tree
    stops = {*stop} if tree.end_token is None else {*stop, tree.end_token}
    removed = degrade(tree.sequences, stop=stops, levels=levels)
    texts = kept_tokens(tree.sequences, removed.keep)
    _, version = np.unique(texts.reshape(-1, texts.shape[-1]), axis=0, return_inverse=True)
    return TreeDegrees(
        keep=removed.keep,
        degree=removed.degree,
        version=version.reshape(removed.degree.shape),
        law=policy.probs[0],
    )
