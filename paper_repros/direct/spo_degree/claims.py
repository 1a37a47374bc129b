"""Key phrases and their removal, the degree loss, and what any head can tell."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.special import expit

from paper_repros.direct.spo_degree.graded_texts import (
    CLASSES,
    LEVELS,
    by_definition,
    graded,
    sentences,
    tree_degrees,
    word_counts,
    word_counts_with_others,
)
from prefsim import losses
from prefsim.backend import like
from prefsim.data.degradation import degrade, key_phrases
from prefsim.gradients import gradient, loss_gradient
from prefsim.numerics import softmax
from prefsim.papers import Verdict, above, apart, claim, outside, rises, worst
from prefsim.policies import TokenTreePolicy
from prefsim.testing import tables, token_tree_policies
from prefsim.worlds import TokenTree

# --- key phrases and their removal ---


@claim(
    "G1",
    "identity",
    source="key phrases (RAKE) and their removal",
    stated="paper",
    given={"tokens": st.lists(st.integers(0, 6), min_size=1, max_size=25)},
)
def removal_follows_the_definition(tokens: list[int]) -> Verdict:
    """Scores and order are RAKE's definition, and version k lacks the first ⌈kP/K⌉ phrases: each
    keeps a subset of the one before, from the whole text to the stop tokens alone.
    """
    stop = range(2)
    phrases, keep = key_phrases(tokens, stop=stop), degrade(tokens, stop=stop, levels=LEVELS).keep
    scores, order = by_definition(tokens, stop)
    rank = np.full(len(tokens), -1)
    for place, positions in enumerate(order):
        rank[positions] = place
    defined = np.ones((CLASSES, len(tokens)))
    for level in range(CLASSES):
        for positions in order[: math.ceil(Fraction(level * len(order), LEVELS))]:
            defined[level, positions] = 0.0
    return worst(
        apart(phrases.score, [float(score) for score in scores]),
        apart(phrases.rank, rank),
        above(keep[1:], keep[:-1]),
        apart(keep, defined),
        apart(keep[0], 1.0),
        apart(keep[-1], np.isin(tokens, stop)),
        detail=f"order {phrases.rank}, defined {rank}",
    )


@claim(
    "G2",
    "monotone",
    source="the premise of the degrees",
    stated="derived",
    tolerance=0.0,
    examples=20,
    given={
        "tree": st.builds(
            TokenTree, st.just(4), st.integers(4, 6), end_token=st.sampled_from([None, 3])
        ),
        "worth": tables((4,), low=0.05, high=2.0),
        "missing_phrases": st.just(0),
    },
    breaks=({"worth": tables((4,), low=-1.0, high=2.0)}, {"missing_phrases": st.just(1)}),
)
def every_step_lowers_the_reward(
    tree: TokenTree, worth: np.ndarray, missing_phrases: int
) -> Verdict:
    """With an additive reward, positive on content and 0 on stop tokens, every step of removal
    lowers the reward of every sequence with at least K phrases.
    """
    levels, stop = 2, [0] if tree.end_token is None else [0, tree.end_token]
    worth = np.where(np.isin(np.arange(4), stop), 0.0, worth)
    phrases = key_phrases(tree.sequences, stop=stop).n_phrases
    keep = degrade(tree.sequences, stop=stop, levels=levels).keep
    reward = (keep * worth[np.maximum(tree.sequences, 0)][:, None]).sum(axis=-1)
    steps = np.diff(reward, axis=1)[phrases >= levels - missing_phrases]
    largest = float(steps.max())
    # A reward that stays is no fall either.
    return Verdict(
        0.0 if largest < 0 else 1.0 + largest,
        f"largest change of reward in a step {largest:.3g} over {len(steps)} sequences",
    )


# --- the loss of two pairs, whose hidden states a linear head reads ---

IPO = functools.partial(losses.ipo, tau=0.3)
STATES = tables((2, 2, CLASSES, 3), low=-2.0, high=2.0)
LOGPS = tables((4, 2), low=-6.0, high=-0.1)
HEADS = tables((4, CLASSES), low=-2.0, high=2.0)
WEIGHTS = st.floats(0.0, 1.0)


def logits_of(states: Any, head: np.ndarray) -> Any:
    """Return what a head ``(d + 1, C)``, its bias last, makes of states ``(..., d)``."""
    weights: Any = like(head, states)
    return states @ weights[:-1] + weights[-1]


def graded_pairs(logps: np.ndarray, logits: Any) -> losses.DegreePairLogps:
    """Return two pairs with the logits ``(2, 2, K + 1, C)`` of chosen and rejected versions."""
    of_pairs: Any = like(logps, logits)
    chosen, rejected, ref_chosen, ref_rejected = of_pairs
    degree: Any = like(np.tile(np.arange(CLASSES), (2, 1)), logits, integer=True)
    return losses.DegreePairLogps(
        chosen=chosen,
        rejected=rejected,
        ref_chosen=ref_chosen,
        ref_rejected=ref_rejected,
        chosen_logits=logits[0],
        chosen_degree=degree,
        rejected_logits=logits[1],
        rejected_degree=degree,
    )


def degree_losses(pairs: losses.DegreePairLogps) -> tuple[np.ndarray, np.ndarray]:
    """Return the degree losses of the chosen and of the rejected versions, each ``(n,)``."""
    chosen = losses.DegreeLogits(pairs.chosen_logits, pairs.chosen_degree)
    rejected = losses.DegreeLogits(pairs.rejected_logits, pairs.rejected_degree)
    return losses.preference_degree(chosen), losses.preference_degree(rejected)


def combined(gamma: float) -> functools.partial[Any]:
    """Return IPO with the degree losses, that of the rejected versions at double weight."""
    return functools.partial(
        losses.spo_degree, align=IPO, gamma_chosen=gamma, gamma_rejected=2 * gamma
    )


@claim(
    "G3",
    "identity",
    source="preference degree loss and combined loss",
    stated="derived",
    tolerance=1e-15,
    given={
        "logps": LOGPS,
        "states": STATES,
        "head": HEADS,
        "gamma": WEIGHTS,
        "initial_head": st.just(np.zeros((4, CLASSES))),
        "no_weight": st.just(0.0),
    },
    breaks=({"initial_head": HEADS}, {"no_weight": st.floats(0.1, 1.0)}),
)
def is_silent_without_weight_or_head(
    logps: np.ndarray,
    states: np.ndarray,
    head: np.ndarray,
    gamma: float,
    initial_head: np.ndarray,
    no_weight: float,
) -> Verdict:
    """With weight 0 the alignment loss is left exactly; a zero head costs log(K + 1) and sends no
    gradient into the trunk.
    """

    def trunk_gradient(any_head: np.ndarray, weight: float) -> np.ndarray:
        return gradient(
            lambda moved: combined(weight)(graded_pairs(logps, logits_of(moved, any_head))), states
        )

    trained = graded_pairs(logps, logits_of(states, head))
    initial = graded_pairs(logps, logits_of(states, initial_head))
    return worst(
        apart(combined(no_weight)(trained), IPO(trained.pair()), detail="alignment loss"),
        apart(trunk_gradient(head, no_weight), 0.0),
        apart(degree_losses(initial), np.log(CLASSES), detail="cost of the initial head"),
        apart(trunk_gradient(initial_head, gamma), 0.0),
    )


@claim(
    "G4",
    "invariance",
    source="preference degree loss; cumulative logits as an alternative",
    stated="derived",
    given={
        "states": STATES.map(lambda states: states[0]),
        "head": HEADS,
        # Renamings other than the identity.
        "names": st.permutations(range(CLASSES)).map(
            lambda p: (*p[1:], p[0]) if list(p) == sorted(p) else tuple(p)
        ),
        "kind": st.just("free columns"),
    },
    breaks={"head": tables((4, CLASSES), low=0.1, high=2.0), "kind": st.just("cumulative logits")},
)
def does_not_know_that_degrees_are_ordered(
    states: np.ndarray, head: np.ndarray, names: tuple[int, ...], kind: str
) -> Verdict:
    """Renaming the degrees together with the head's columns changes nothing: the loss does not know
    that degrees are ordered. A cumulative-logit head does.
    """
    renaming = np.asarray(names)
    if kind == "free columns":
        before = logits_of(states, head)
        after = before[..., np.argsort(renaming)]
    else:
        # Thresholds in the place of columns keep their order.
        thresholds = np.cumsum(0.5 + np.abs(head[-1, :LEVELS]))
        before = after = losses.ordinal_logits(states @ head[:-1, 0], thresholds)
    degree = np.broadcast_to(np.arange(CLASSES), before.shape[:-1])
    plain = losses.preference_degree(losses.DegreeLogits(before, degree))
    renamed = losses.preference_degree(losses.DegreeLogits(after, renaming[degree]))
    return apart(renamed, plain, detail=f"{plain} and {renamed}")


@claim(
    "G10",
    "identity",
    source="cumulative logits as an alternative",
    stated="derived",
    given={
        "scores": tables((6,), low=-8.0, high=8.0),
        "first": st.floats(-4.0, 4.0),
        "steps": tables((LEVELS - 1,), low=0.1, high=3.0),
        "kind": st.just("cumulative logits"),
    },
    breaks={"kind": st.just("free columns")},
)
def a_cumulative_logit_head_is_ordered(
    scores: np.ndarray, first: float, steps: np.ndarray, kind: str
) -> Verdict:
    """With cumulative logits P(k ≥ j) = σ(s − c_j), and a higher score shifts odds to the higher of
    any two degrees.
    """
    thresholds = first + np.concatenate([[0.0], np.cumsum(steps)])
    scores = np.sort(scores)
    if kind == "cumulative logits":
        logits = losses.ordinal_logits(scores, thresholds)
    else:
        logits = scores[:, None] * np.cos(np.arange(CLASSES)) - np.insert(thresholds, 0, 0.0)
    at_least = np.exp(logits)[:, ::-1].cumsum(axis=-1)[:, ::-1]
    return worst(
        apart(at_least[:, 0], 1.0),
        apart(at_least[:, 1:], expit(scores[:, None] - thresholds)),
        rises(np.diff(logits, axis=-1)),
        detail=f"thresholds {thresholds.round(3)}",
    )


@claim(
    "G5",
    "identity",
    source="preference degree loss and combined loss",
    stated="derived",
    given={"logps": LOGPS, "states": STATES, "head": HEADS, "gamma": WEIGHTS},
)
def parts_add_up(logps: np.ndarray, states: np.ndarray, head: np.ndarray, gamma: float) -> Verdict:
    """The gradient in the logits is γ(softmax(o) − e_k)/(K + 1); value and gradient are the sums of
    the two parts.
    """
    pairs = graded_pairs(logps, logits_of(states, head))
    chosen, rejected = degree_losses(pairs)
    slopes, alone = loss_gradient(combined(gamma), pairs), loss_gradient(IPO, pairs.pair())

    def formula(logits: np.ndarray) -> np.ndarray:
        return gamma * (softmax(logits) - np.eye(CLASSES)) / CLASSES

    return worst(
        apart(combined(gamma)(pairs), IPO(pairs.pair()) + gamma * chosen + 2 * gamma * rejected),
        apart(slopes.chosen_logits, formula(pairs.chosen_logits)),
        apart(slopes.rejected_logits, 2 * formula(pairs.rejected_logits)),
        *(
            apart(getattr(slopes, name), getattr(alone, name))
            for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")
        ),
    )


# --- what a head can tell ---


@claim(
    "G6",
    "statistical",
    source="small analogue",
    stated="chosen",
    tolerance=0.0,
    examples=1,
    given={"seed": st.integers(0, 10**6), "key_phrases_are": st.just("removed")},
    breaks={"key_phrases_are": st.just("replaced by other words")},
)
def word_counts_tell_the_degree(seed: int, key_phrases_are: str) -> Verdict:
    """A head on word counts tells the degree of unseen sentences in more than three of four cases
    (chance is one of five), and is at most one off in nearly all.
    """
    data = graded(sentences(600, seed=seed))
    if key_phrases_are == "removed":
        scores = word_counts(data)
    else:
        scores = word_counts_with_others(data, seed=seed)
    return worst(
        outside(scores.accuracy, 0.75, 1.0),
        outside(scores.within_one, 0.98, 1.0),
        detail=f"accuracy {scores.accuracy:.3f}, cross-entropy {scores.cross_entropy:.3f}",
    )


TREES = {
    "policy": token_tree_policies(TokenTree(3, 4, end_token=2)),
    "levels": st.integers(2, 3),
    # Of an arbitrary head, by the text that it reads.
    "logits": tables((7, 4), low=-3.0, high=3.0),
}


def logits_by_text(logits: np.ndarray, version: np.ndarray, levels: int) -> np.ndarray:
    """Return logits ``(N, K + 1, K + 1)`` that depend on the degraded text alone."""
    return logits[version % len(logits)][..., : levels + 1]


@claim(
    "G8",
    "inequality",
    source="derivation",
    stated="derived",
    examples=25,
    given=TREES | {"head_reads": st.just("the degraded text")},
    breaks={"head_reads": st.just("the whole text too")},
)
def no_head_is_below_the_entropy(
    policy: TokenTreePolicy, levels: int, logits: np.ndarray, head_reads: str
) -> Verdict:
    """Over all sequences of a tree no head on the degraded text has a loss below H(degree | text),
    which the posterior attains.
    """
    degrees = tree_degrees(policy, stop=[0], levels=levels)
    best, entropy = degrees.posterior(degrees.version)
    tried = logits_by_text(logits, degrees.version, levels)
    if head_reads == "the whole text too":
        tried, _ = degrees.posterior(np.arange(degrees.version.size).reshape(degrees.version.shape))
    attained, loss = degrees.expected_loss(best), degrees.expected_loss(tried)
    # A head not far from the posterior comes near the bound.
    near = degrees.expected_loss(best + 0.3 * logits_by_text(logits, degrees.version, levels))
    return worst(
        apart(attained, entropy),
        above(entropy, [loss, near]),
        detail=f"head {loss:.6g}, entropy {entropy:.6g}, at the posterior {attained:.6g}",
    )


@claim(
    "G9",
    "consistency",
    source="algorithm, sampled degree",
    stated="derived",
    examples=25,
    given=TREES | {"drawn_among": st.just("distinct versions")},
    breaks={"drawn_among": st.just("all degrees")},
)
def one_drawn_version_is_unbiased(
    policy: TokenTreePolicy, levels: int, logits: np.ndarray, drawn_among: str
) -> Verdict:
    """The loss of one version, drawn uniformly among the distinct ones, is the loss of all on
    average.
    """
    degrees = tree_degrees(policy, stop=[0], levels=levels)
    scores = logits_by_text(logits, degrees.version, levels)
    loss = losses.preference_degree(losses.DegreeLogits(scores, degrees.degree))
    degree = degrees.degree
    if drawn_among == "all degrees":
        degree = np.broadcast_to(np.arange(levels + 1), degree.shape)
    one = losses.preference_degree(losses.DegreeLogits(scores[:, :, None], degree[..., None]))
    drawn = one.sum(axis=1) / np.maximum((degree >= 0).sum(axis=1), 1)
    return apart(drawn, loss, detail=f"{len(loss)} sequences")


UNSEEN = {
    ("prefsim.data.degradation.degrade", ""): (
        "its results are truth values and degrees, which these mutants leave alone; claim G1 holds"
        " them against the definition in exact fractions, and the tests break it in two ways of"
        " its own"
    ),
}
