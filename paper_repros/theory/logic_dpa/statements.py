"""What losses say: those of the paper's tables, and all of two predictions with their optima."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.logic import (
    NAMED_STRUCTURES,
    Formula,
    PreferenceStructure,
    all_structures,
    atoms,
    decompile,
    log_count_ratio,
    log_count_ratios,
    named_structure,
    truth_values,
)
from prefsim.losses import PairLogps
from prefsim.losses.links import linked
from prefsim.numerics import log_sigmoid, sigmoid

Polynomial = Callable[..., Any]

DPO_ATOMS = ("W", "L", "Rw", "Rl")
DPOP_ATOMS = ("W", "W2", "L", "Rw", "Rw2", "Rl")


class Row(NamedTuple):
    """One loss: the two polynomials of its score, and what it says.

    Attributes
    ----------
    numerator, denominator
        Of the probabilities of the atoms.
    says
        The structure that the paper reads in it.
    """

    numerator: Polynomial
    denominator: Polynomial
    says: PreferenceStructure


def _says(core: Formula, given: Formula, additive: Formula) -> PreferenceStructure:
    return PreferenceStructure.of(core, given=given, additive=additive)


def _of_pairs() -> dict[str, Row]:
    w, r = atoms("W", "L")
    always, never = w | ~w, w & ~w
    implies = r.implies(w)
    return {
        "CE": Row(lambda p, q: p, lambda p, q: 1 - p, _says(w, always, never)),
        "CEUnl": Row(
            lambda p, q: p * (1 - q), lambda p, q: 1 - p * (1 - q), _says(w & ~r, always, never)
        ),
        "CPO": Row(lambda p, q: p, lambda p, q: q, _says(implies, w | r, w & r)),
        "ORPO": Row(
            lambda p, q: p * (1 - q), lambda p, q: q * (1 - p), _says(implies, w ^ r, never)
        ),
        "unCPO": Row(
            lambda p, q: 1 - q + q * p, lambda p, q: q * (1 - p), _says(implies, always, never)
        ),
        "cCPO": Row(lambda p, q: p, lambda p, q: q * (1 - p), _says(implies, w | r, never)),
        "cUNL": Row(lambda p, q: p * (1 - q), lambda p, q: q, _says(~r, w | r, never)),
        "fUNL": Row(lambda p, q: 1 - q, lambda p, q: q, _says(~r, always, never)),
        "cfUNL": Row(lambda p, q: 1 - q, lambda p, q: q * (1 - p), _says(implies, ~(w & r), never)),
        "qfUNL": Row(lambda p, q: 1 - q, lambda p, q: 1 - p, _says(implies, ~(w & r), ~w & ~r)),
    }


def _of_references() -> dict[str, Row]:
    w, r, rw, rl = atoms(*DPO_ATOMS)
    for_, against = w & rl, rw & r
    dpo = _says(against.implies(for_), against | for_, against & for_)
    one_hot = _says((rw & r).implies(w), (w & ~r & rl) | (r & ~w & rw), w & ~w)
    return {
        "DPO": Row(lambda p, q, a, b: p * b, lambda p, q, a, b: a * q, dpo),
        "DPO of one valid response": Row(
            lambda p, q, a, b: p * (1 - q) * b, lambda p, q, a, b: q * (1 - p) * a, one_hot
        ),
    }


def _dpop() -> Row:
    w, w2, r, rw, rw2, rl = atoms(*DPOP_ATOMS)
    for_, against = w & w2 & rl, rw & rw2 & r
    return Row(
        lambda p, p2, q, a, a2, b: p * p2 * b,
        lambda p, p2, q, a, a2, b: a * a2 * q,
        _says(against.implies(for_), against | for_, against & for_),
    )


OF_PAIRS = _of_pairs()
"""Losses of the two predictions of a model."""

OF_REFERENCES = _of_references()
"""Losses of the two predictions and those of a reference."""

DPOP = _dpop()
"""DPO that also penalises the fall of the chosen response, where the penalty is active."""


def reference_cores() -> dict[str, Formula]:
    """Return what the sixteen losses say relative to a reference, as the paper writes it."""
    w, r, rw, rl = atoms(*DPO_ATOMS)
    valid_or_not = rw & (r | ~rl)
    cores = {
        "CEUnl": rw.implies(w & ~r),
        "CE": rw.implies(w),
        "l3": rw.implies(w),
        "cUNL": rw.implies(~r),
        "fUNL": rw.implies(~r),
        "l20": valid_or_not.implies(w & ~r),
        "qfUNL": valid_or_not.implies(w),
        "bCPO": valid_or_not.implies(w),
        "sCE": (rw & (~w | ~rl)).implies(w & ~r),
        "l5": (valid_or_not & (~w | ~rl)).implies(w & ~r),
        "CPO": (rw & r).implies(w & rl),
        "l14": (rw & r).implies(w & rl),
    }
    return cores | {name: (r & rw).implies(w) for name in ("ORPO", "cfUNL", "cCPO", "unCPO")}


def core_is_as_written(name: str, lift: str) -> bool:
    """Return whether a loss says relative to a reference what the paper writes, where it decides.

    Worlds that count neither way, or both ways, are no part of what it says.
    """
    lifted = named_structure(name).with_reference(lift)
    return ((reference_cores()[name] ^ lifted.core) & lifted.decided).is_contradiction


# --- the same losses by other routes ---


def count_of(formula: Formula, *probs: Fraction, power: int = 1) -> Fraction:
    """Return a formula's weighted model count exactly, of a first prediction raised to a power."""
    powered = probs[0] ** power, *probs[1:]
    total = Fraction(0)
    for world, true in zip(truth_values(len(probs)), formula.table, strict=True):
        weight = math.prod(p if holds else 1 - p for holds, p in zip(world, powered, strict=True))
        total += int(true) * weight
    return total


@functools.cache
def read_off() -> tuple[PreferenceStructure, ...]:
    """Return the structures of the tables' losses, decompiled from their polynomials."""
    return (
        *(decompile(row.numerator, row.denominator) for row in OF_PAIRS.values()),
        *(decompile(row.numerator, row.denominator, DPO_ATOMS) for row in OF_REFERENCES.values()),
        decompile(DPOP.numerator, DPOP.denominator, DPOP_ATOMS),
    )


def closed_form_scores(log_probs: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the scores of the tables' losses, of their structures and of their polynomials.

    Parameters
    ----------
    log_probs
        Of chosen, rejected, and both under the reference, ``(4, n)``.
    """
    # The first of each response is its copy as well.
    places = {2: [0, 1], 4: [0, 1, 2, 3], 6: [0, 0, 1, 2, 2, 3]}
    rows = (*OF_PAIRS.values(), *OF_REFERENCES.values(), DPOP)
    found, stated = [], []
    for row, structure in zip(rows, read_off(), strict=True):
        own = log_probs[places[len(structure.atoms)]]
        found.append(np.asarray(log_count_ratio(structure, np.moveaxis(own, 0, -1))))
        stated.append(np.log(row.numerator(*np.exp(own)) / row.denominator(*np.exp(own))))
    return found, stated


def merged(structure: PreferenceStructure) -> PreferenceStructure:
    """Return a structure relative to a reference whose predictions are taken for the model's."""
    w, r = atoms("W", "L")
    return PreferenceStructure(structure.numerator & r, structure.denominator & w)


def twins(pair: PairLogps[np.ndarray]) -> tuple[tuple[str, dict[str, Any], Any], ...]:
    """Return structures, options and values of the losses of other papers that they are."""
    relative, mean = {"reference": "log_ratio"}, {"average": True}
    own = pair.chosen / np.asarray(pair.chosen_length)
    return (
        ("CPO", {}, losses.cpo(pair, beta=1.0, alpha=0.0)),
        ("CPO", {"link": "hinge"}, losses.slic(pair, delta=1.0, lambda_=0.0)),
        ("CPO", {"link": "perceptron", **mean}, losses.rrhf(pair, lambda_=0.0)),
        ("CPO", mean, losses.simpo(pair, beta=1.0, gamma=0.0)),
        ("CPO", relative, losses.dpo(pair, beta=1.0)),
        ("CPO", {"link": "squared", **relative}, losses.ipo(pair, tau=1.0)),
        ("CPO", {"link": "hinge", **relative}, losses.hinge(pair, beta=1.0)),
        ("ORPO", mean, losses.orpo(pair, lambda_=1.0) + own),
        ("CEUnl", mean, losses.asft(pair, sft_weight=0.0)),
        ("CE", {}, losses.sft(pair)),
    )


# --- all losses of two predictions ---

PUBLISHED = ("CE", "CEUnl", "CPO", "ORPO", "fUNL")
"""Likelihood, likelihood with unlikelihood (ASFT), CPO, ORPO, unlikelihood: used before."""

LARGEST_LOGIT = 30.0
"""Of the optimum: beyond, it is at the end."""


@functools.cache
def scored_structures() -> tuple[PreferenceStructure, ...]:
    """Return the structures over two atoms that have a score."""
    return tuple(each for each in all_structures() if each.has_score)


@functools.cache
def distinct_structures() -> tuple[PreferenceStructure, ...]:
    """Return one structure for each score that differs as a function, and is not 0 everywhere.

    The named ones stand for theirs.
    """
    kept: dict[bytes, PreferenceStructure] = {}
    for each in (*NAMED_STRUCTURES.values(), *scored_structures()):
        if each.numerator != each.denominator:
            kept.setdefault(fingerprint(each), each)
    return tuple(kept.values())


def fingerprint(structure: PreferenceStructure, points: np.ndarray | None = None) -> bytes:
    """Return a structure's score at some points, to nine digits, as a key."""
    at = drawn_points(np.random.default_rng(0), 6) if points is None else points
    score = log_count_ratios([structure], at[:, None, :])[:, 0]
    # No negative zero, which has other bytes.
    return (np.round(score, 9) + 0.0).tobytes()


def drawn_points(rng: np.random.Generator, n: int, *, spread: float = 2.0) -> np.ndarray:
    """Return log-probabilities of two predictions, ``(n, 2)``, of normal logits."""
    return np.asarray(log_sigmoid(spread * rng.standard_normal((n, 2))))


def name_of(structure: PreferenceStructure) -> str:
    """Return a structure's name, or its labels where it has none."""
    names = {each: name for name, each in NAMED_STRUCTURES.items()}
    return names.get(structure, structure.labels)


def orders(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return which scores are below which, and which structures entail which, ``(225, 225)`` each.

    At all of some points ``(n, 2)``; and the places of the sixteen.
    """
    every = list(scored_structures())
    scores = np.asarray(log_count_ratios(every, points[:, None, :])).T
    below = np.array([(one <= scores + 1e-9).all(axis=-1) for one in scores])
    entailed = np.array([[one.entails(other) for other in every] for one in every])
    return below, entailed, [every.index(each) for each in NAMED_STRUCTURES.values()]


def bend_of_count(name: str, log_reference: np.ndarray) -> float:
    """Return how far σ of a score is from linear in p_w: its largest second difference.

    Relative to a reference with log-probabilities ``(2,)``; the weighted model count of one formula
    has none.
    """
    structure, bends = NAMED_STRUCTURES[name].with_reference(), []
    for rejected in (0.2, 0.6):
        pair = np.array([[0.2, rejected], [0.5, rejected], [0.8, rejected]])
        point = np.concatenate([np.log(pair), np.tile(log_reference, (3, 1))], axis=-1)
        count = sigmoid(np.asarray(log_count_ratio(structure, point)))
        bends.append(abs(float(count[0] - 2 * count[1] + count[2])))
    return max(bends)


def two_response_optima(structures: Sequence[PreferenceStructure], preference: float) -> np.ndarray:
    """Return the exact minimisers where there are two responses, ``(S,)``.

    The probability of the first response that is least in
    ``P ℓ(ρ(p, 1 − p)) + (1 − P) ℓ(ρ(1 − p, p))``, ℓ the logistic loss; 0 or 1 where it runs to the
    end, and NaN where both ends are as good.

    Parameters
    ----------
    structures
        S of them.
    preference
        Share P of comparisons that the first response wins.
    """
    logits = np.linspace(-LARGEST_LOGIT - 1, LARGEST_LOGIT + 1, 1241)
    place = np.broadcast_to(logits[:, None], (logits.size, len(structures)))
    best = place[_risk(structures, place, preference).argmin(axis=0), np.arange(len(structures))]
    width = logits[1] - logits[0]
    low, high = best - width, best + width
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        inner = np.stack([high - ratio * (high - low), low + ratio * (high - low)])
        left, right = _risk(structures, inner, preference)
        low, high = np.where(left <= right, low, inner[0]), np.where(left <= right, inner[1], high)
    found = (low + high) / 2
    # Where a risk only falls towards an end, rounding ends its fall before.
    ends = np.stack([np.full(found.shape, sign * 2 * LARGEST_LOGIT) for sign in (-1, 1)])
    at_ends = _risk(structures, ends, preference)
    runs = at_ends <= _risk(structures, found[None], preference) + 1e-12
    optimum = np.where(runs[1], 1.0, np.where(runs[0], 0.0, sigmoid(found)))
    return np.where(runs.all(axis=0), np.nan, optimum)


def _risk(
    structures: Sequence[PreferenceStructure], logits: np.ndarray, preference: float
) -> np.ndarray:
    """Return the risk where p has these logits, ``(..., S)``."""
    pair = np.stack([log_sigmoid(logits), log_sigmoid(-logits)], axis=-1)
    won, lost = (
        linked(log_count_ratios(structures, each), "logistic", 1.0)
        for each in (pair, pair[..., ::-1])
    )
    return np.asarray(preference * won + (1 - preference) * lost)
