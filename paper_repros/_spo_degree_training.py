"""A small autoregressive policy trained by DPO with and without the degree loss, and what its implicit rewards then order."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr

from paper_repros._spo_degree_text import LEVELS, STOPS, VOCABULARY, counts, held_out, sentences
from prefsim import losses
from prefsim.data.degradation import degrade, kept_tokens
from prefsim.numerics import log_softmax, to_numpy

Array = Any
WIDTH = 16
BETA = 0.1
RATE = 0.01


class Model(NamedTuple):
    """Trunk (embedding, two mixing matrices), next-token layer and degree head, each with a leading axis of independent runs."""

    embedding: Array
    mean: Array
    last: Array
    token: Array
    head: Array
    bias: Array


def initial(runs: int, seed: int) -> Model:
    """Draw the parameters; the head starts at zero."""
    import torch

    rng = np.random.default_rng(seed)

    def drawn(rows: int, columns: int, scale: float) -> Array:
        return torch.tensor(scale * rng.standard_normal((1, rows, columns))).repeat(runs, 1, 1)

    mix = 1 / np.sqrt(WIDTH)
    return Model(
        embedding=drawn(VOCABULARY + 1, WIDTH, 1.0),
        mean=drawn(WIDTH, WIDTH, mix),
        last=drawn(WIDTH, WIDTH, mix),
        token=drawn(WIDTH, VOCABULARY, mix),
        head=drawn(WIDTH, LEVELS + 1, 0.0),
        bias=drawn(1, LEVELS + 1, 0.0),
    )


def hidden(model: Model, tokens: Array) -> Array:
    """Return the hidden state after each of the tokens ``(n, T)``, from that token and the mean so far, ``(runs, n, T, width)``."""
    import torch

    index = torch.as_tensor(np.where(tokens < 0, VOCABULARY, tokens))
    present = torch.as_tensor(tokens >= 0).double()[..., None]
    vectors = model.embedding[:, index] * present
    mean = vectors.cumsum(dim=-2) / present.cumsum(dim=-2).clamp_min(1.0)
    return torch.tanh(mean @ model.mean[:, None] + vectors @ model.last[:, None])


def sequence_logp(model: Model, tokens: np.ndarray) -> Array:
    """Return the log-probability of each sentence, ``(runs, n)`` in nats, given its first token."""
    import torch

    states = hidden(model, tokens)[:, :, :-1]
    table = log_softmax(states @ model.token[:, None])
    target = torch.as_tensor(np.where(tokens[:, 1:] < 0, 0, tokens[:, 1:]))
    taken = table.gather(-1, target.expand(table.shape[0], -1, -1)[..., None])[..., 0]
    return (taken * torch.as_tensor(tokens[:, 1:] >= 0)).sum(dim=-1)


def last_state(model: Model, versions: np.ndarray) -> Array:
    """Return the hidden state at the last token of each version ``(..., T)``, ``(runs, ..., width)``."""
    import torch

    total = (versions >= 0).sum(axis=-1, keepdims=True)
    share = torch.as_tensor(counts(versions) / np.maximum(total, 1))
    last = np.take_along_axis(versions, np.maximum(total - 1, 0), axis=-1)[..., 0]
    mix = (-1, *[1] * (versions.ndim - 2), WIDTH, WIDTH)  # one matrix for each run
    mean = share @ model.embedding[:, :VOCABULARY].reshape(-1, *mix[1:-2], VOCABULARY, WIDTH)
    final = model.embedding[:, torch.as_tensor(last)]
    return torch.tanh(mean @ model.mean.reshape(mix) + final @ model.last.reshape(mix))


class Trained(NamedTuple):
    """Per weight of the degree loss and seed: what the trained policies do on held-out sentences.

    Attributes
    ----------
    degree_accuracy
        Of a fresh linear head on the trunk's states.
    pair_accuracy
        Share of whole held-out pairs whose implicit margin has the sign of the true reward gap.
    rank_correlation
        Spearman's, of implicit margin and true gap, over two versions of one held-out sentence that
        differ in degree.
    """

    gammas: tuple[float, ...]
    degree_accuracy: np.ndarray
    pair_accuracy: np.ndarray
    rank_correlation: np.ndarray


def study(
    seed: int, gammas: tuple[float, ...], *, pairs: int, steps: int, tests: int = 150
) -> Trained:
    """Train one policy for each weight on the same pairs, from one reference, all in one batch."""
    import torch

    rng = np.random.default_rng(seed)
    worth = np.concatenate([np.zeros(STOPS), rng.uniform(0.1, 1.0, VOCABULARY - STOPS), [0.0]])
    text = sentences(2 * pairs + tests, seed=rng)
    removed = degrade(text, stop=range(STOPS), levels=LEVELS)
    versions = kept_tokens(text, removed.keep)
    reward = worth[text].sum(axis=-1)
    train, test = np.arange(2 * pairs), np.arange(2 * pairs, len(text))
    first, second = np.split(rng.permutation(train), 2)
    better = rng.random(pairs) < expit(reward[first] - reward[second])
    chosen, rejected = np.where(better, first, second), np.where(better, second, first)

    reference = initial(1, seed)
    reference = _descend(reference, lambda m: -sequence_logp(m, text[train]).mean(dim=-1), steps)
    with torch.no_grad():
        ref = sequence_logp(reference, text)
    start = Model(*(p.repeat(len(gammas), 1, 1) for p in reference))
    degree = torch.as_tensor(removed.degree)
    both = np.concatenate([chosen, rejected])

    def objective(model: Model) -> Array:
        logp = sequence_logp(model, text[both])
        logits = last_state(model, versions[both]) @ model.head[:, None] + model.bias[:, None]
        policy, old = logp.split(pairs, dim=-1), ref[0, both].split(pairs)
        values = []
        for run, gamma in enumerate(gammas):
            data = losses.DegreePairLogps(
                chosen=policy[0][run],
                rejected=policy[1][run],
                ref_chosen=old[0],
                ref_rejected=old[1],
                chosen_logits=logits[run, :pairs],
                chosen_degree=degree[chosen],
                rejected_logits=logits[run, pairs:],
                rejected_degree=degree[rejected],
            )
            align = functools.partial(losses.dpo, beta=BETA)
            values.append(
                losses.spo_degree(
                    data, align=align, gamma_chosen=gamma, gamma_rejected=gamma
                ).mean()
            )
        return torch.stack(values)

    model = _descend(start, objective, steps)
    with torch.no_grad():
        margin = to_numpy(sequence_logp(model, text) - ref)
        states = to_numpy(last_state(model, versions))
        graded = versions[test].reshape(-1, versions.shape[-1])
        gain = to_numpy(sequence_logp(model, graded) - sequence_logp(reference, graded)).reshape(
            len(gammas), tests, -1
        )
    left, right = np.split(rng.permutation(test), 2)
    right_sign = np.sign(margin[:, left] - margin[:, right]) == np.sign(
        reward[left] - reward[right]
    )
    low, high = np.triu_indices(LEVELS + 1, 1)
    gap = worth[versions[test]].sum(axis=-1)
    true_gap = (gap[:, low] - gap[:, high]).ravel()
    implicit = (gain[..., low] - gain[..., high]).reshape(len(gammas), -1)
    return Trained(
        gammas,
        np.asarray([held_out(state, removed.degree).accuracy for state in states]),
        right_sign.mean(axis=1),
        np.asarray([spearmanr(row, true_gap).statistic for row in implicit]),
    )


def _descend(model: Model, objective: Any, steps: int) -> Model:
    """Adam on the sum over independent runs."""
    import torch

    leaves = Model(*(p.detach().clone().requires_grad_() for p in model))
    optimiser = torch.optim.Adam(leaves, lr=RATE)
    for _ in range(steps):
        optimiser.zero_grad()
        objective(leaves).sum().backward()
        optimiser.step()
    return Model(*(p.detach() for p in leaves))
