"""What losses say, how that is read off them, and what follows of their values."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros.theory.logic_dpa.statements import (
    DPO_ATOMS,
    OF_PAIRS,
    bend_of_count,
    closed_form_scores,
    core_is_as_written,
    count_of,
    drawn_points,
    merged,
    orders,
    scored_structures,
    twins,
)
from prefsim import losses
from prefsim.logic import (
    NAMED_STRUCTURES,
    Formula,
    PreferenceStructure,
    all_structures,
    covering_pairs,
    decompile,
    log_count_ratio,
    log_count_ratios,
)
from prefsim.losses import PairLogps, from_structure
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.testing.bandits import tables

NO_NUMBERS = "its result is made of truth values, of which none is negated or halved"
UNSEEN = {
    ("prefsim.logic.decompile.decompile", ""): NO_NUMBERS,
    ("prefsim.logic.structures.covering_pairs", ""): NO_NUMBERS,
}

# Log-probabilities of chosen and rejected, and the reference's.
PAIRS = tables((4, 5), low=-6.0, high=-0.05)
NAMES = st.sampled_from(sorted(NAMED_STRUCTURES))
SEEDS = st.integers(0, 2**32 - 1)


def _pair(log_probs: np.ndarray) -> PairLogps[np.ndarray]:
    tokens = np.arange(1.0, 6.0)
    return PairLogps(*log_probs)._replace(chosen_length=tokens, rejected_length=tokens[::-1])


def _score(structure: PreferenceStructure, log_probs: np.ndarray) -> np.ndarray:
    return np.asarray(log_count_ratio(structure, np.moveaxis(log_probs, 0, -1)))


# --- from a loss to what it says, and back ---


@claim(
    "C1",
    "identity",
    source="the semantic loss",
    stated="paper",
    given={"log_probs": PAIRS, "beta": st.just(1.0)},
    breaks={"beta": st.floats(0.1, 0.9)},
)
def cross_entropy_is_the_semantic_loss_of_one_prediction(
    log_probs: np.ndarray, beta: float
) -> Verdict:
    """−log σ(log p/(1 − p)) is −log p, the negative log-likelihood."""
    found = losses.semantic(_pair(log_probs), structure="CE", beta=beta)
    return apart(found, -log_probs[0], relative=True)


@st.composite
def structures(draw: Any) -> PreferenceStructure:
    """Draw structures over two or four predictions."""
    names = draw(st.sampled_from([DPO_ATOMS[:2], DPO_ATOMS]))
    bits = st.integers(1, 2**2 ** len(names) - 1)
    return PreferenceStructure(Formula(names, draw(bits)), Formula(names, draw(bits)))


@claim(
    "C2",
    "identity",
    source="algorithm 1, compilation and decompilation",
    stated="paper",
    given={"structure": structures(), "power": st.just(1), "seed": SEEDS},
    breaks={"power": st.just(2)},
)
def a_loss_and_what_it_says_are_one(
    structure: PreferenceStructure, power: int, seed: int
) -> Verdict:
    """From a structure to the polynomials of its loss and back is the same structure, and its score
    is the logarithm of their ratio.
    """
    sides = structure.numerator, structure.denominator
    top, bottom = (functools.partial(count_of, side, power=power) for side in sides)
    try:
        found = decompile(top, bottom, structure.atoms)
    except ValueError as error:
        return Verdict(1.0, str(error))
    draws = np.random.default_rng(seed).integers(1, 1000, size=len(structure.atoms))
    point = [Fraction(int(each), 1000) for each in draws]
    ratio = top(*point) / bottom(*point)
    score = log_count_ratio(found, np.log(draws / 1000))
    return worst(
        0.0 if found == structure else 1.0,
        apart(score, np.log(float(ratio)), relative=True),
    )


@claim(
    "C2-refused",
    "counterexample",
    source="algorithm 1, assumptions",
    stated="derived",
    tolerance=0.0,
    given={
        "name": st.sampled_from(sorted(OF_PAIRS)),
        "factor_and_power": st.sampled_from([(2, 1), (-1, 1), (1, 2), (1, 3)]),
    },
    breaks={"factor_and_power": st.just((1, 1))},
)
def what_is_no_count_says_nothing(name: str, factor_and_power: tuple[int, int]) -> Verdict:
    """Where a polynomial of a loss is multiplied by a number, or by itself, there is no structure:
    2p_w and p_w² are refused.
    """
    (factor, power), row = factor_and_power, OF_PAIRS[name]
    try:
        found = decompile(lambda p, q: factor * row.numerator(p, q) ** power, row.denominator)
    except ValueError:
        return Verdict(0.0)
    return Verdict(1.0, detail=found.labels)


@claim(
    "C6",
    "identity",
    source="tables of losses",
    stated="paper",
    examples=10,
    given={"log_probs": PAIRS, "own_reference": st.just(False)},
    breaks={"own_reference": st.just(True)},
)
def every_loss_is_what_it_says(log_probs: np.ndarray, own_reference: bool) -> Verdict:
    """Each loss of the tables, decompiled, has its own score; and relative to a reference whose
    predictions are others than the model's, each of the sixteen has its score less log q_w/q_l.
    """
    found, stated = closed_form_scores(log_probs)
    sixteen = list(NAMED_STRUCTURES.values())
    against = log_probs[:2] if own_reference else log_probs[2:]
    plain = log_count_ratios(sixteen, log_probs[:2].T[:, None, :]).T
    for structure, score in zip(sixteen, plain, strict=True):
        lifted = merged(structure) if own_reference else structure.with_reference()
        if lifted.has_score:
            found.append(_score(lifted, log_probs[: len(lifted.atoms)]))
            stated.append(score - against[0] + against[1])
    return apart(np.array(found), np.array(stated), relative=True)


@claim(
    "C6-library",
    "identity",
    source="tables of losses",
    stated="paper",
    examples=10,
    given={"log_probs": PAIRS, "beta": st.just(1.0)},
    breaks={"beta": st.floats(1.5, 3.0)},
)
def losses_of_many_papers_are_structures(log_probs: np.ndarray, beta: float) -> Verdict:
    """CPO, SLiC, RRHF and SimPO say one thing, DPO, IPO and the hinge the same of a reference; the
    odds-ratio term of ORPO, ASFT and supervised fine-tuning are CE's and CEUnl's neighbours.
    """
    pair = _pair(log_probs)
    both = twins(pair)
    found = [from_structure(name, beta=beta, **options)(pair) for name, options, _ in both]
    return apart(np.array(found), np.array([value for *_, value in both]), relative=True)


@claim(
    "C7",
    "identity",
    source="the lattice with a reference",
    stated="paper",
    tolerance=0.0,
    given={"name": NAMES, "lift": st.just("log_ratio")},
    breaks={"lift": st.just("full")},
)
def relative_to_a_reference_each_says_what_is_written(name: str, lift: str) -> Verdict:
    """The formula that the paper writes for each of the sixteen losses relative to a reference is
    what its score less log q_w/q_l says.
    """
    return Verdict(float(not core_is_as_written(name, lift)), detail=f"{name}, {lift}")


# --- how many, and in what order ---


@claim(
    "C3",
    "identity",
    source="the space of losses",
    stated="paper",
    tolerance=0.0,
    examples=3,
    given={"seed": SEEDS, "alike": st.just(False)},
    breaks={"alike": st.just(True)},
)
def there_are_so_many(seed: int, alike: bool) -> Verdict:
    """Of two predictions there are 4⁴ = 256 structures; 225 have a score, of which 187 differ as
    functions, and 15 are 0 everywhere.
    """
    points = drawn_points(np.random.default_rng(seed), 6)
    if alike:
        points[:, 1] = points[:, 0]
    scored = scored_structures()
    scores = np.round(log_count_ratios(scored, points[:, None, :]).T, 9)
    different = len(np.unique(scores, axis=0))
    nothing = int((scores == 0).all(axis=-1).sum())
    found = [len(set(all_structures())), len(scored), different, nothing]
    return apart(found, [256, 225, 187, 15], detail=f"found {found}")


@claim(
    "C4",
    "inequality",
    source="monotonicity of losses in entailment",
    stated="paper",
    examples=12,
    given={
        "bits": st.tuples(*[st.integers(1, 15)] * 4),
        "log_probs": PAIRS,
        "link": st.sampled_from(["logistic", "hinge", "perceptron"]),
        "entails": st.just(True),
    },
    breaks=({"link": st.just("squared")}, {"entails": st.just(False)}),
)
def the_stronger_has_the_larger_loss(
    bits: tuple[int, ...], log_probs: np.ndarray, link: str, entails: bool
) -> Verdict:
    """If one structure entails another its score is at most the other's, and its loss at least as
    large, for every link that does not rise.
    """
    one, other = (
        PreferenceStructure(*(Formula(("W", "L"), each) for each in half))
        for half in (bits[:2], bits[2:])
    )
    stronger = one.meet(other) if entails else other
    assume(stronger.has_score)
    both = (one, stronger)
    value = [from_structure(each, link=link, beta=0.7)(_pair(log_probs)) for each in both]
    score = [_score(each, log_probs[:2]) for each in both]
    return worst(above(*value, relative=True), above(*score[::-1], relative=True))


@claim(
    "C4-strict",
    "inequality",
    source="the lattice",
    stated="derived",
    tolerance=0.0,
    given={"log_probs": PAIRS},
    breaks={"log_probs": st.just(np.full((4, 5), -800.0))},
)
def along_the_arrows_scores_rise_strictly(log_probs: np.ndarray) -> Verdict:
    """Along each of the 32 arrows between the sixteen the score rises, wherever the probabilities
    are inside (0, 1); of sequences so unlikely that 1 − p is 1, it does not to any digit.
    """
    arrows = covering_pairs(NAMED_STRUCTURES)
    scores = log_count_ratios(list(NAMED_STRUCTURES.values()), log_probs[:2].T[:, None, :])
    at = dict(zip(NAMED_STRUCTURES, scores.T, strict=True))
    level = [bool((at[low] >= at[high]).any()) for low, high in arrows]
    return Verdict(float(any(level)) + abs(len(arrows) - 32.0))


@claim(
    "C5",
    "equivalence",
    source="the lattice, and the space of losses",
    stated="derived",
    tolerance=0.0,
    examples=2,
    given={"seed": SEEDS, "ranked": st.just(False)},
    breaks={"ranked": st.just(True)},
)
def the_order_is_that_of_scores(seed: int, ranked: bool) -> Verdict:
    """Among the sixteen one score is below another at all probabilities exactly if it entails it
    (81 pairs, 65 of different ones); among the 225 entailment is sufficient only, for 4225 of 8951.
    """
    points = drawn_points(np.random.default_rng(seed), 600, spread=4.0)
    if ranked:
        points = -np.sort(-points, axis=-1)
    below, entailed, named = orders(points)
    among = np.ix_(named, named)
    found = [int(below[among].sum()), int(entailed.sum()), int(below.sum())]
    disagree = (below[among] != entailed[among]).sum() + (entailed & ~below).sum()
    return worst(float(disagree), apart(found, [81, 4225, 8951]), detail=f"found {found}")


@claim(
    "C8",
    "monotone",
    source="preference losses",
    stated="derived",
    given={
        "labels": NAMES.map(lambda name: NAMED_STRUCTURES[name].labels),
        "log_probs": PAIRS,
        "more": st.floats(0.05, 0.95),
    },
    breaks={"labels": st.sampled_from(["n-+n", "+n-+", "bn-b"])},
)
def each_prefers_the_chosen(labels: str, log_probs: np.ndarray, more: float) -> Verdict:
    """The score of each of the sixteen, which count "only the chosen is valid" for and "only the
    rejected is" against, never falls with p_w and never rises with p_l.
    """
    structure = PreferenceStructure.from_labels(labels)
    chosen, rejected = log_probs[:2]
    here = _score(structure, log_probs[:2])
    likelier = _score(structure, np.stack([more * chosen, rejected]))
    other = _score(structure, np.stack([chosen, more * rejected]))
    return worst(above(here, likelier, relative=True), above(other, here, relative=True))


@claim(
    "C9",
    "counterexample",
    source="limits of the semantic loss",
    stated="paper",
    tolerance=0.0,
    given={
        "reference": st.tuples(st.floats(-3.0, -0.1), st.floats(-3.0, -0.1)),
        "name": st.sampled_from(["CPO", "ORPO", "DPO"]),
    },
    breaks={"name": st.sampled_from(["CE", "CEUnl"])},
)
def no_single_formula_says_it(reference: tuple[float, float], name: str) -> Verdict:
    """CPO, ORPO and DPO are the semantic loss of no formula: σ of their score, its count, would be
    linear in p_w, and is not.
    """
    against = np.array(reference) if name == "DPO" else np.full(2, -1.0)
    curvature = bend_of_count("CPO" if name == "DPO" else name, against)
    return Verdict(float(curvature < 1e-6), detail=f"second difference {curvature:.3g}")
