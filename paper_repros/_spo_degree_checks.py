"""The claims of arXiv:2409.17791 as measurements: instances, strategies and checks."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros._spo_degree_text import (
    LEVELS,
    TreeDegrees,
    bag_of_words,
    by_definition,
    expected_loss,
    posterior,
    tree_degrees,
)
from prefsim import losses
from prefsim.data.degradation import degrade, key_phrases
from prefsim.numerics import softmax
from prefsim.papers import Verdict
from prefsim.policies import TokenTreePolicy
from prefsim.testing import tables, token_tree_policies
from prefsim.worlds import TokenTree

CLASSES = LEVELS + 1
PAGE_ACCURACY = 0.855


def extraction(tokens: list[int]) -> Verdict:
    """Compare scores and order with the definition in exact fractions, and look at what the versions keep."""
    found, removed = (
        key_phrases(tokens, stop=range(2)),
        degrade(tokens, stop=range(2), levels=LEVELS),
    )
    scores, order = by_definition(tokens, range(2))
    rank = np.full(len(tokens), -1)
    for place, positions in enumerate(order):
        rank[positions] = place
    nested = bool((removed.keep[:-1] | ~removed.keep[1:]).all())
    ends = bool(removed.keep[0].all()) and bool(
        (removed.keep[-1] == (np.asarray(tokens) < 2)).all()
    )
    wrong = 0.0 if nested and ends and (found.rank == rank).all() else 1.0
    return Verdict(
        max(wrong, float(np.abs(found.score - np.asarray(scores, dtype=float)).max())),
        f"order {found.rank}, defined {rank}",
    )


class Worths(NamedTuple):
    """A tree with stop token 0, the worth of its tokens, and the number K of steps of removal."""

    tree: TokenTree
    worth: np.ndarray
    levels: int
    enough: bool = True


def falling_reward(case: Worths) -> Verdict:
    """Look at every sequence of the tree with at least K phrases (or, to break the claim, with fewer) and at each of its steps."""
    tokens = case.tree.sequences
    stop = [0] if case.tree.end_token is None else [0, case.tree.end_token]
    phrases = key_phrases(tokens, stop=stop).n_phrases
    keep = degrade(tokens, stop=stop, levels=case.levels).keep
    reward = (keep * case.worth[np.maximum(tokens, 0)][:, None]).sum(axis=-1)
    step = np.diff(reward, axis=1)[
        phrases >= case.levels if case.enough else (phrases < case.levels) & (phrases > 0)
    ]
    rise = float(step.max())
    return Verdict(
        0.0 if rise < 0 else 1.0 + rise,
        f"largest change of reward in a step {rise:.3g} over {len(step)} sequences",
    )


def worths(low: float, *, enough: bool = True) -> st.SearchStrategy[Worths]:
    """Trees with worths of their content tokens in [low, 2] and K = 2; without ``enough`` K is 3 or 4, more than most have phrases."""
    trees = st.builds(
        TokenTree, st.just(4), st.integers(4, 6), end_token=st.sampled_from([None, 3])
    )
    levels = st.just(2) if enough else st.integers(3, 4)

    def valued(worth: np.ndarray, tree: TokenTree) -> np.ndarray:
        stop = [0] if tree.end_token is None else [0, tree.end_token]
        return np.where(np.isin(np.arange(4), stop), 0.0, worth)

    def build(tree: TokenTree, worth: np.ndarray, steps: int) -> Worths:
        return Worths(tree, valued(worth, tree), steps, enough)

    return st.builds(build, trees, tables((4,), low=low, high=2.0), levels)


class Example(NamedTuple):
    """Two pairs of log-probabilities, hidden states ``(2, 2, K + 1, d)`` of the graded versions, a head, and the degree weight."""

    logps: np.ndarray
    states: np.ndarray
    head: np.ndarray
    gamma: float
    relabel: tuple[int, ...] = tuple(range(CLASSES))
    ordinal: bool = False


def _evaluate(
    case: Example, *, head: np.ndarray | None = None, gamma: float | None = None
) -> dict[str, Any]:
    """Return the loss, its parts, and the gradients in log-probabilities and hidden states (the trunk)."""
    import torch

    logps = torch.tensor(case.logps, requires_grad=True)
    states = torch.tensor(case.states, requires_grad=True)
    weights = torch.tensor(case.head if head is None else head)
    logits = states @ weights[:-1] + weights[-1]
    logits.retain_grad()
    degree = torch.arange(CLASSES).expand(2, CLASSES)
    size = case.gamma if gamma is None else gamma
    data = losses.DegreePairLogps(
        logps[0], logps[1], logps[2], logps[3], logits[0], degree, logits[1], degree
    )
    value = losses.spo_degree(
        data,
        align=functools.partial(losses.ipo, tau=0.3),
        gamma_chosen=size,
        gamma_rejected=2 * size,
    )
    value.sum().backward()
    alone = torch.tensor(case.logps, requires_grad=True)
    align = losses.ipo(losses.PairLogps(*alone), tau=0.3)
    align.sum().backward()
    parts = [
        losses.preference_degree(losses.DegreeLogits(part.detach(), degree)).numpy()
        for part in logits
    ]
    assert all(part.grad is not None for part in (logps, alone, states, logits))
    return {
        "value": value.detach().numpy(),
        "align": align.detach().numpy(),
        "parts": parts,
        "logits": logits.detach().numpy(),
        **{
            f"at_{name}": part.grad
            for name, part in {
                "logits": logits,
                "trunk": states,
                "logps": logps,
                "alone": alone,
            }.items()
        },
    }


def limits(case: Example) -> Verdict:
    """With weight 0 the alignment loss is left; a zero head costs log(K + 1) a response and sends no gradient into the trunk."""
    off = _evaluate(case, gamma=0.0)
    zero = _evaluate(case, head=case.head if case.ordinal else np.zeros_like(case.head))
    cost = max(float(np.abs(part - np.log(CLASSES)).max()) for part in zero["parts"])
    left = max(
        float(np.abs(off["value"] - off["align"]).max()), float(np.abs(off["at_trunk"]).max())
    )
    return Verdict(
        max(left, cost, float(np.abs(zero["at_trunk"]).max())),
        f"left {left:.3g}, cost off by {cost:.3g}",
    )


def gradients(case: Example) -> Verdict:
    """Compare the gradient in the logits with its formula, that in the log-probabilities with the alignment loss's own."""
    found = _evaluate(case)
    expected = (
        (softmax(found["logits"]) - np.eye(CLASSES))
        / CLASSES
        * np.asarray([case.gamma, 2 * case.gamma])[:, None, None, None]
    )
    total = found["align"] + case.gamma * found["parts"][0] + 2 * case.gamma * found["parts"][1]
    errors = (
        found["at_logits"].numpy() - expected,
        found["value"] - total,
        (found["at_logps"] - found["at_alone"]).numpy(),
    )
    return Verdict(max(float(np.abs(error).max()) for error in errors))


def blind_to_order(case: Example) -> Verdict:
    """Rename the degrees, and the head's columns with them; an ordinal head has thresholds in place of columns, which keep their order."""
    states, names = case.states[0], np.asarray(case.relabel)
    if case.ordinal:
        thresholds = np.cumsum(0.5 + np.abs(case.head[-1, :LEVELS]))
        before = after = losses.ordinal_logits(states @ case.head[:-1, 0], thresholds)
    else:
        before = states @ case.head[:-1] + case.head[-1]
        after = before[..., np.argsort(names)]
    degree = np.broadcast_to(np.arange(CLASSES), before.shape[:-1])
    plain = losses.preference_degree(losses.DegreeLogits(before, degree))
    renamed = losses.preference_degree(losses.DegreeLogits(after, names[degree]))
    return Verdict(float(np.abs(plain - renamed).max()), f"{plain} and {renamed}")


def examples(*, ordinal: bool = False) -> st.SearchStrategy[Example]:
    """Two pairs with their graded versions, a head and a renaming of the degrees that is not the identity."""
    return st.builds(
        Example,
        tables((4, 2), low=-6.0, high=-0.1),
        tables((2, 2, CLASSES, 3), low=-2.0, high=2.0),
        tables((4, CLASSES), low=0.1 if ordinal else -2.0, high=2.0),
        st.floats(0.0, 1.0),
        st.permutations(range(CLASSES)).map(
            lambda p: (*p[1:], p[0]) if list(p) == sorted(p) else tuple(p)
        ),
        st.just(ordinal),
    )


class Graded(NamedTuple):
    """A policy over a tree, how many steps, the logits of an arbitrary head by degraded text, and whether it sees the whole text too."""

    policy: TokenTreePolicy
    levels: int
    logits: np.ndarray
    sees_whole: bool = False

    @property
    def degrees(self) -> TreeDegrees:
        """All sequences of the policy with their graded versions."""
        return tree_degrees(self.policy, stop=[0], levels=self.levels)


def bayes_bound(case: Graded) -> Verdict:
    """No head on the degraded text is below the conditional entropy of the degree, and the posterior is at it, over all sequences."""
    degrees = case.degrees
    best, entropy = posterior(degrees, degrees.version)
    attained = abs(expected_loss(degrees, best) - entropy)
    if case.sees_whole:
        logits = posterior(degrees, np.arange(degrees.version.size).reshape(degrees.version.shape))[
            0
        ]
    else:
        logits = case.logits[degrees.version % len(case.logits)][..., : case.levels + 1]
    value = expected_loss(degrees, logits)
    return Verdict(
        max(attained, entropy - value),
        f"head {value:.6g}, entropy {entropy:.6g}, at the posterior off by {attained:.2g}",
    )


def sampled_degree(case: Graded) -> Verdict:
    """Average the loss of one version, drawn uniformly from the distinct ones (or, to break it, from all that bear a name)."""
    degrees = case.degrees
    logits = case.logits[degrees.version % len(case.logits)][..., : case.levels + 1]
    full = losses.preference_degree(losses.DegreeLogits(logits, degrees.degree))
    degree = (
        np.broadcast_to(np.arange(case.levels + 1), degrees.degree.shape)
        if case.sees_whole
        else degrees.degree
    )
    one = losses.preference_degree(losses.DegreeLogits(logits[:, :, None], degree[..., None]))
    drawn = one.sum(axis=1) / np.maximum((degree >= 0).sum(axis=1), 1)
    return Verdict(float(np.abs(drawn - full).max()), f"{len(full)} sequences")


def graded(*, broken: bool = False) -> st.SearchStrategy[Graded]:
    """Policies over a tree with stop token 0 and an end token, and a head's logits by text."""
    tree = TokenTree(3, 4, end_token=2)
    return st.builds(
        Graded,
        token_tree_policies(tree),
        st.integers(2, 3),
        tables((7, 4), low=-3.0, high=3.0),
        st.just(broken),
    )


def signal(shared: bool) -> Verdict:
    """Accuracy of a head on word counts, on held-out sentences; with ``shared`` ids no token is by itself content or stop."""
    scores = bag_of_words(0, shared=shared)
    return Verdict(
        abs(scores.accuracy - PAGE_ACCURACY),
        f"accuracy {scores.accuracy:.3f}, cross-entropy {scores.cross_entropy:.3f}",
    )
