"""A small autoregressive policy trained by DPO with and without the degree loss.

And what its hidden states and its implicit rewards then tell.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr

from paper_repros.direct.spo_degree.graded_texts import (
    CLASSES,
    STOPS,
    VOCABULARY,
    GradedSentences,
    counts,
    cross_entropy,
    graded,
    held_out,
    sentences,
)
from prefsim import losses
from prefsim.backend import Seed, to_numpy
from prefsim.numerics import log_softmax

Tensor = Any
WIDTH = 16
BETA = 0.1
RATE = 0.01
TESTS = 150

# --- the policy ---


class Model(NamedTuple):
    """Parameters, each with a leading axis of independent runs.

    A trunk (embedding and two mixing matrices), a next-token layer, and a degree head.
    """

    embedding: Tensor
    mean: Tensor
    last: Tensor
    token: Tensor
    head: Tensor
    bias: Tensor


def initial(seed: Seed) -> Model:
    """Draw the parameters of one run; the head starts at zero."""
    import torch

    rng = np.random.default_rng(seed)

    def drawn(rows: int, columns: int, scale: float) -> Tensor:
        return torch.tensor(scale * rng.standard_normal((1, rows, columns)))

    mix = 1 / np.sqrt(WIDTH)
    return Model(
        embedding=drawn(VOCABULARY + 1, WIDTH, 1.0),
        mean=drawn(WIDTH, WIDTH, mix),
        last=drawn(WIDTH, WIDTH, mix),
        token=drawn(WIDTH, VOCABULARY, mix),
        head=drawn(WIDTH, CLASSES, 0.0),
        bias=drawn(1, CLASSES, 0.0),
    )


def sequence_logp(model: Model, tokens: np.ndarray) -> Tensor:
    """Return the log-probability of each sentence given its first token, ``(runs, n)`` in nats."""
    import torch

    # The state after each token comes from that token and the mean so far.
    index = torch.as_tensor(np.where(tokens < 0, VOCABULARY, tokens))
    present = torch.as_tensor(tokens >= 0).double()[..., None]
    vectors = model.embedding[:, index] * present
    mean = vectors.cumsum(dim=-2) / present.cumsum(dim=-2).clamp_min(1.0)
    states = torch.tanh(mean @ model.mean[:, None] + vectors @ model.last[:, None])[:, :, :-1]
    table = log_softmax(states @ model.token[:, None])
    target = torch.as_tensor(np.where(tokens[:, 1:] < 0, 0, tokens[:, 1:]))
    taken = table.gather(-1, target.expand(table.shape[0], -1, -1)[..., None])[..., 0]
    return (taken * torch.as_tensor(tokens[:, 1:] >= 0)).sum(dim=-1)


def last_state(model: Model, versions: np.ndarray) -> Tensor:
    """Return the state at the last token of each version ``(..., T)``, ``(runs, ..., width)``."""
    import torch

    total = (versions >= 0).sum(axis=-1, keepdims=True)
    share = torch.as_tensor(counts(versions) / np.maximum(total, 1))
    last = np.take_along_axis(versions, np.maximum(total - 1, 0), axis=-1)[..., 0]
    # One matrix for each run.
    runs = (-1, *[1] * (versions.ndim - 2))
    mean = share @ model.embedding[:, :VOCABULARY].reshape(*runs, VOCABULARY, WIDTH)
    final = model.embedding[:, torch.as_tensor(last)]
    mix, keep = (part.reshape(*runs, WIDTH, WIDTH) for part in (model.mean, model.last))
    return torch.tanh(mean @ mix + final @ keep)


def adam(model: Model, objective: Callable[[Model], Tensor], steps: int) -> Model:
    """Minimise the sum of an objective ``(runs,)`` over independent runs."""
    import torch

    leaves = Model(*(part.detach().clone().requires_grad_() for part in model))
    optimiser = torch.optim.Adam(leaves, lr=RATE)
    for _ in range(steps):
        optimiser.zero_grad()
        objective(leaves).sum().backward()
        optimiser.step()
    return Model(*(part.detach() for part in leaves))


# --- what it learns from, and what is asked of it ---


class Corpus(NamedTuple):
    """Sentences to train on and to test on.

    Attributes
    ----------
    data
        All sentences with their graded versions.
    worth
        Of each token, ``(V + 1,)``; 0 for stop tokens and padding.
    chosen, rejected
        Numbers of the sentences of each training pair.
    first, second
        Numbers of the sentences of each test pair.
    """

    data: GradedSentences
    worth: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def draw(cls, pairs: int, *, seed: Seed) -> Corpus:
        """Draw sentences with an additive reward, and Bradley–Terry labels of training pairs."""
        rng = np.random.default_rng(seed)
        worth = np.concatenate([np.zeros(STOPS), rng.uniform(0.1, 1.0, VOCABULARY - STOPS), [0.0]])
        text = sentences(2 * pairs + TESTS, seed=rng)
        reward = worth[text].sum(axis=-1)
        train, test = np.split(np.arange(len(text)), [2 * pairs])
        one, other = np.split(rng.permutation(train), 2)
        better = rng.random(pairs) < expit(reward[one] - reward[other])
        first, second = np.split(rng.permutation(test), 2)
        return cls(
            graded(text),
            worth,
            np.where(better, one, other),
            np.where(better, other, one),
            first,
            second,
        )


def outputs(model: Model, corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Return log-probabilities ``(runs, 2 n)`` and degree logits ``(runs, 2 n, K + 1, C)``.

    Of the training pairs, the chosen sentences first.
    """
    both = np.concatenate([corpus.chosen, corpus.rejected])
    logp = sequence_logp(model, corpus.data.text[both])
    states = last_state(model, corpus.data.versions[both])
    return logp, states @ model.head[:, None] + model.bias[:, None]


def loss_by_parts(
    model: Model, corpus: Corpus, ref: Tensor, gammas: tuple[float, ...]
) -> np.ndarray:
    """Return what :func:`combined_loss` should be, from its definition, ``(runs,)``."""
    logp, logits = (to_numpy(part) for part in outputs(model, corpus))
    pairs, known = len(corpus.chosen), to_numpy(ref)
    ratio = logp - known[np.concatenate([corpus.chosen, corpus.rejected])]
    margin = BETA * (ratio[:, :pairs] - ratio[:, pairs:])
    costs = []
    for gamma, own in zip(gammas, logits, strict=True):
        chosen = cross_entropy(own[:pairs], corpus.data.degree[corpus.chosen])
        rejected = cross_entropy(own[pairs:], corpus.data.degree[corpus.rejected])
        costs.append(gamma * (chosen + rejected))
    return np.logaddexp(0, -margin).mean(axis=1) + np.asarray(costs)


def combined_loss(model: Model, corpus: Corpus, ref: Tensor, gammas: tuple[float, ...]) -> Tensor:
    """Return the mean of DPO and the degree loss with each run's own weight γ, ``(runs,)``."""
    import torch

    pairs = len(corpus.chosen)
    logp, logits = outputs(model, corpus)
    degree = torch.as_tensor(corpus.data.degree)
    align = functools.partial(losses.dpo, beta=BETA)
    values = []
    for run, gamma in enumerate(gammas):
        graded_pairs = losses.DegreePairLogps(
            chosen=logp[run, :pairs],
            rejected=logp[run, pairs:],
            ref_chosen=ref[corpus.chosen],
            ref_rejected=ref[corpus.rejected],
            chosen_logits=logits[run, :pairs],
            chosen_degree=degree[corpus.chosen],
            rejected_logits=logits[run, pairs:],
            rejected_degree=degree[corpus.rejected],
        )
        each = losses.spo_degree(
            graded_pairs, align=align, gamma_chosen=gamma, gamma_rejected=gamma
        )
        values.append(each.mean())
    return torch.stack(values)


class Study(NamedTuple):
    """What the policies of one seed do on held-out sentences, for each weight γ: ``(weights,)``.

    Attributes
    ----------
    loss, by_parts
        The loss trained on, at the end; and what it is by its definition.
    degree_accuracy
        Of a fresh linear head on the trunk's states.
    pair_accuracy
        Share of whole held-out pairs whose implicit margin has the sign of the true reward gap.
    rank_correlation
        Spearman's, of implicit margin and true gap, over two versions of one held-out sentence that
        differ in degree.
    """

    loss: np.ndarray
    by_parts: np.ndarray
    degree_accuracy: np.ndarray
    pair_accuracy: np.ndarray
    rank_correlation: np.ndarray


def study(seed: int, gammas: tuple[float, ...], *, pairs: int, steps: int) -> Study:
    """Train one policy for each weight on the same pairs, from one reference, all in one batch."""
    rng = np.random.default_rng(seed)
    corpus = Corpus.draw(pairs, seed=rng)
    text = corpus.data.text
    to_imitate = text[: 2 * pairs]
    reference = adam(
        initial(rng), lambda model: -sequence_logp(model, to_imitate).mean(dim=-1), steps
    )
    ref = sequence_logp(reference, text)[0]
    start = Model(*(part.repeat(len(gammas), 1, 1) for part in reference))
    trained = adam(start, lambda model: combined_loss(model, corpus, ref, gammas), steps)
    by_parts = loss_by_parts(trained, corpus, ref, gammas)
    loss = to_numpy(combined_loss(trained, corpus, ref, gammas))
    return Study(loss, by_parts, *examine(trained, reference, corpus))


def examine(
    model: Model, reference: Model, corpus: Corpus
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return accuracies and correlations of trained policies on the held-out sentences."""
    data, first, second = corpus.data, corpus.first, corpus.second

    def implicit_reward(tokens: np.ndarray) -> np.ndarray:
        return to_numpy(sequence_logp(model, tokens) - sequence_logp(reference, tokens))

    states = to_numpy(last_state(model, data.versions))
    whole, reward = implicit_reward(data.text), corpus.worth[data.text].sum(axis=-1)
    gap = reward[first] - reward[second]
    ranked_right = np.sign(whole[:, first] - whole[:, second]) == np.sign(gap)

    versions = data.versions[-TESTS:]
    low, high = np.triu_indices(CLASSES, 1)
    worth = corpus.worth[versions].sum(axis=-1)
    true_gap = (worth[:, low] - worth[:, high]).ravel()
    implicit = implicit_reward(versions.reshape(-1, versions.shape[-1]))
    implicit = implicit.reshape(-1, TESTS, CLASSES)
    margin = (implicit[..., low] - implicit[..., high]).reshape(len(implicit), -1)
    return (
        np.asarray([held_out(state, data.degree).accuracy for state in states]),
        ranked_right.mean(axis=1),
        np.asarray([spearmanr(row, true_gap).statistic for row in margin]),
    )
