"""What one step does to both log-probabilities, when both fall, and what avoids it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros.theory.gradient_entanglement.shared_head import (
    Pair,
    Response,
    normalised,
    suffix_that_drags,
    with_suffix,
)
from paper_repros.theory.gradient_entanglement.slopes import EXPLICIT, TABLE, Margins, by_hand
from prefsim.analysis import (
    PairDerivatives,
    both_fall_above,
    entanglement,
    pair_derivatives,
    pulls_of_losses,
)
from prefsim.losses import PairLogps, loss_functions
from prefsim.papers import Verdict, above, apart, claim, rises, worst
from prefsim.testing.bandits import tables

V, D = 5, 4
SLOPES = st.floats(0.01, 3.0)


@st.composite
def pairs(draw: Any, tokens: int | None = None) -> tuple[Pair, np.ndarray]:
    """Pairs of responses of one length with contexts of their own, and weights."""
    length = tokens or draw(st.integers(1, 4))
    responses = [
        Response(
            np.array(draw(st.lists(st.integers(0, V - 1), min_size=length, max_size=length))),
            draw(tables((length, D), low=-2.0, high=2.0)),
        )
        for _ in range(2)
    ]
    return Pair(*responses), draw(tables((V, D), low=-2.0, high=2.0))


def _moved(pair: Pair, weights: np.ndarray, slopes: PairDerivatives, step: float) -> np.ndarray:
    """Return the log-probabilities of both after a step that pulls with these slopes."""
    chosen, rejected = pair.gradients(weights)
    direction = slopes.chosen * chosen - slopes.rejected * rejected
    return np.array(pair.log_probs(weights + step * direction))


# --- one step ---


@claim(
    "C1",
    "limit",
    source="section 3.1",
    stated="paper",
    tolerance=1e-8,
    given={
        "instance": pairs(),
        "chosen_slope": SLOPES,
        "rejected_slope": SLOPES,
        "step": st.just(1e-5),
    },
    breaks={"step": st.just(1.0)},
)
def a_step_moves_both_by_norms_and_inner_product(
    instance: tuple[Pair, np.ndarray], chosen_slope: float, rejected_slope: float, step: float
) -> Verdict:
    """To first order a step η changes log π_w by η(d_w‖g_w‖² − d_l⟨g_w, g_l⟩) and log π_l by
    η(d_w⟨g_w, g_l⟩ − d_l‖g_l‖²).
    """
    pair, weights = instance
    slopes = PairDerivatives(np.asarray(chosen_slope), np.asarray(rejected_slope))
    found = pair.entangled(weights, slopes)
    # From both sides, so that the second order cancels.
    change = _moved(pair, weights, slopes, step) - _moved(pair, weights, slopes, -step)
    rates = np.array([found.chosen_rate, found.rejected_rate])
    return apart(change / (2 * step), rates, scale=1 + np.abs(rates).max() ** 1.5)


@claim(
    "C3",
    "inequality",
    source="section 3.1",
    stated="derived",
    given={"instance": pairs(), "slope": SLOPES},
    breaks={"slope": st.floats(-3.0, -0.1)},
)
def the_margin_grows_where_both_pull_alike(
    instance: tuple[Pair, np.ndarray], slope: float
) -> Verdict:
    """Where d_w = d_l = d ≥ 0 the margin grows by η d‖g_w − g_l‖² ≥ 0, so the inner product never
    exceeds both squared norms.
    """
    pair, weights = instance
    found = pair.entangled(weights, PairDerivatives(np.asarray(slope), np.asarray(slope)))
    chosen, rejected = pair.gradients(weights)
    growth = found.chosen_rate - found.rejected_rate
    size = 1 + (chosen**2).sum() + (rejected**2).sum()
    return worst(
        above(-growth, 0.0, scale=size),
        apart(growth, slope * ((chosen - rejected) ** 2).sum(), scale=size),
    )


# --- how hard losses pull ---

LOG_PROBS = tables((4, 3), low=-40.0, high=-0.1)


def for_every_loss(check: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """Make one claim for each row of the table."""
    for name in TABLE:
        check = claim(
            f"C2-{name}",
            "identity",
            source="table 1",
            stated="paper",
            given={
                "name": st.just(name),
                "log_probs": LOG_PROBS,
                "lengths": tables((2, 3), low=1.0, high=30.0).map(np.round),
            },
        )(check)
    return check


@for_every_loss
def slopes_of_the_table(name: str, log_probs: np.ndarray, lengths: np.ndarray) -> Verdict:
    """The loss pulls the chosen response and pushes the rejected one as hard as the table says."""
    pair = PairLogps(*log_probs, *lengths)
    # A hinge has no slope at its kink.
    assume(Margins.of(pair).distance_from_kinks > 1e-6)
    found, expected = pair_derivatives(TABLE[name].loss, pair), by_hand(name, pair)
    return worst(*map(apart, found, expected), detail=name)


@claim(
    "C2-sft",
    "inequality",
    source="section 3.2",
    stated="paper",
    given={
        "name": st.sampled_from(EXPLICIT),
        "log_probs": LOG_PROBS.map(lambda table: np.concatenate([table[:2], table[:2] + 0.5])),
        "lengths": st.just(np.full((2, 3), 7.0)),
    },
    breaks={"name": st.just("SimPO"), "lengths": st.just(np.array([[9.0] * 3, [4.0] * 3]))},
)
def a_term_of_its_own_pulls_the_chosen_response_harder(
    name: str, log_probs: np.ndarray, lengths: np.ndarray
) -> Verdict:
    """Losses with a likelihood term, or a penalty on its fall, pull the chosen response harder than
    they push the rejected one.
    """
    found = pair_derivatives(TABLE[name].loss, PairLogps(*log_probs, *lengths))
    return above(found.rejected, found.chosen, detail=name)


# --- when both fall ---


@claim(
    "C4",
    "inequality",
    source="section 4.1, single tokens",
    stated="paper",
    given={"instance": pairs(tokens=1), "same_context": st.just(True)},
    breaks={"same_context": st.just(False)},
)
def a_single_token_is_never_dragged(
    instance: tuple[Pair, np.ndarray], same_context: bool
) -> Verdict:
    """Two single tokens from one context meet the gradient condition: the chosen one rises and the
    rejected one falls.
    """
    pair, weights = instance
    if same_context:
        pair = Pair(pair.chosen, pair.rejected._replace(contexts=pair.chosen.contexts))
    found = pair.entangled(weights)
    return worst(above(-found.chosen_rate, 0.0), above(found.rejected_rate, 0.0))


@claim(
    "C5",
    "counterexample",
    source="section 4.2, shared suffixes",
    stated="derived",
    tolerance=0.0,
    given={
        "likely": st.floats(2.5, 3.5),
        "unlikely": st.floats(-10.0, -8.0),
        "alike": st.just(True),
    },
    breaks={"alike": st.just(False)},
)
def a_shared_suffix_drags_both_down(likely: float, unlikely: float, alike: bool) -> Verdict:
    """Where a shared suffix is likely after the chosen token and unlikely after the rejected one,
    in contexts alike, DPO lowers both from its first step.
    """
    pair, weights = suffix_that_drags()
    weights[2] = 0.0, likely, unlikely
    if not alike:
        contexts = pair.rejected.contexts.copy()
        contexts[1] = 0.0, 0.0, 1.0
        pair = Pair(pair.chosen, pair.rejected._replace(contexts=contexts))
    found = pair.entangled(weights)
    return worst(
        above(found.chosen_rate, 0.0),
        above(found.rejected_rate, 0.0),
        detail=f"inner product over the smaller squared norm {float(found.ratio):.3g}",
    )


@claim(
    "C7",
    "identity",
    source="section 4.2, shared suffixes",
    stated="derived",
    given={"instance": pairs(tokens=3), "place": st.integers(0, 2), "shared": st.just(True)},
    breaks={"shared": st.just(False)},
)
def what_is_shared_cancels(instance: tuple[Pair, np.ndarray], place: int, shared: bool) -> Verdict:
    """If the responses differ at one position and all contexts are the same, the difference of
    their gradients is that of this position alone.
    """
    pair, weights = instance
    tokens = pair.chosen.tokens.copy()
    tokens[place] = pair.rejected.tokens[place]
    contexts = pair.chosen.contexts if shared else pair.rejected.contexts
    pair = Pair(pair.chosen, Response(tokens, contexts))
    chosen, rejected = pair.gradients(weights)
    # All but the differing position is the same in both gradients.
    apart_there = (np.eye(V)[pair.chosen.tokens[place]] - np.eye(V)[tokens[place]])[:, None]
    expected = apart_there * pair.chosen.contexts[place]
    return apart(chosen - rejected, expected)


@claim(
    "C8",
    "monotone",
    source="section 5.1, the sentiment data",
    stated="derived",
    tolerance=0.0,
    examples=5,
    given={"seed": st.integers(0, 10**6), "correlation": st.just(0.8)},
    breaks={"correlation": st.just(0.0)},
)
def longer_suffixes_entangle_more(seed: int, correlation: float) -> Verdict:
    """The mean inner product over ‖g_w‖² grows with the length of a suffix that both share, where
    contexts are correlated.
    """
    means = []
    for length in (0, 2, 8):
        pair, weights = with_suffix(
            np.random.default_rng(seed), length, draws=300, correlation=correlation
        )
        chosen, _ = pair.gradients(weights)
        means.append((pair.entangled(weights).inner / (chosen**2).sum(axis=(-2, -1))).mean())
    steps = np.diff(means)
    # Without correlation nothing grows but by chance.
    return worst(rises(means), above(0.05, steps.min()), detail=f"means {np.round(means, 3)}")


@claim(
    "C9",
    "equivalence",
    source="section 3.1, the conditions solved for the cosine",
    stated="derived",
    tolerance=1e-11,
    given={"chosen_slope": SLOPES, "rejected_slope": SLOPES, "norm_ratio": st.floats(0.1, 10.0)},
    breaks={"rejected_slope": st.floats(-3.0, -0.1)},
)
def both_fall_above_one_cosine(
    chosen_slope: float, rejected_slope: float, norm_ratio: float
) -> Verdict:
    """Where a loss pulls and pushes both log-probabilities fall exactly where the cosine of their
    gradients exceeds d_w‖g_w‖/(d_l‖g_l‖): there the chosen one stands still and the other falls.
    """
    share = chosen_slope / (rejected_slope * norm_ratio)
    found = both_fall_above(np.asarray(chosen_slope), rejected_slope, norm_ratio=norm_ratio)
    cosine = min(share, 1.0)
    rates = entanglement(
        np.asarray(1.0),
        np.asarray(norm_ratio**2),
        np.asarray(cosine * norm_ratio),
        chosen_slope=chosen_slope,
        rejected_slope=rejected_slope,
    )
    falling = share < 1
    still = apart(rates.chosen_rate if falling else 0.0, 0.0, scale=1 + chosen_slope)
    return worst(
        apart(found, share, relative=True), still, above(rates.rejected_rate * falling, 0.0)
    )


@claim(
    "C9-losses",
    "identity",
    source="table 1",
    stated="derived",
    examples=3,
    given={"seed": st.integers(0, 1000), "norm_ratio": st.floats(0.2, 5.0)},
)
def every_loss_has_its_cosine(seed: int, norm_ratio: float) -> Verdict:
    """The table of all pairwise losses holds how hard each pulls and pushes, and its cosine."""
    pair, parts = PairLogps.example(1, seed=seed), []
    for row in pulls_of_losses(pair, norm_ratio=norm_ratio):
        up, down = pair_derivatives(loss_functions()[row.name], pair)
        parts.append(apart([row.chosen, row.rejected], [up[0], down[0]], detail=row.name))
        if row.chosen > 0 and row.rejected > 0:
            share = row.chosen / (row.rejected * norm_ratio)
            parts.append(apart(row.both_fall_above, share, relative=True, detail=row.name))
    return max(parts, key=lambda verdict: verdict.error)


# --- the remedy ---


@claim(
    "C6",
    "monotone",
    source="section 6, pairwise normalised gradients",
    stated="paper",
    given={"instance": pairs(), "length_one": st.just(True)},
    breaks={"length_one": st.just(False)},
)
def gradients_of_length_one_part_the_two(
    instance: tuple[Pair, np.ndarray], length_one: bool
) -> Verdict:
    """Along g_w/‖g_w‖ − g_l/‖g_l‖ the chosen log-probability grows by ‖g_w‖(1 − cos) and the
    rejected one falls by ‖g_l‖(1 − cos).
    """
    pair, weights = instance
    chosen, rejected = pair.gradients(weights)
    assume(min(np.linalg.norm(chosen), np.linalg.norm(rejected)) > 1e-3)
    direction = normalised(chosen, rejected) if length_one else chosen - rejected
    cosine = float(pair.entangled(weights).cosine)
    rates = [float((gradient * direction).sum()) for gradient in (chosen, rejected)]
    norms = [float(np.linalg.norm(gradient)) for gradient in (chosen, rejected)]
    expected = [norms[0] * (1 - cosine), -norms[1] * (1 - cosine)]
    return apart(rates, expected, scale=1 + max(norms))
