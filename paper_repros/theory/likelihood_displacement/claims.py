"""What a step on a pair does to both responses and to all others, and what its cause is."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from scipy.stats import ortho_group, spearmanr

from paper_repros.theory.likelihood_displacement.drawn_pairs import (
    LONGEST,
    drawn,
    edit_distances,
)
from paper_repros.theory.likelihood_displacement.unconstrained import (
    BETA,
    NEVER,
    NO,
    YES,
    Model,
    five_words,
    over,
    probabilities,
    step,
    trained,
)
from prefsim import losses
from prefsim.analysis import (
    ches_score,
    displacement,
    entanglement,
    feature_gram,
    token_rates,
)
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.testing.bandits import tables

V, D, T = 5, 4, 3
Pair = tuple[int, int]
WEIGHTS = tables((V, D), low=-2.0, high=2.0)
STATE = tables((D,), low=-2.0, high=2.0)
TWO_TOKENS = st.permutations(range(V)).map(lambda order: tuple(order[:2]))
SINGLE = {"weights": WEIGHTS, "state": STATE, "tokens": TWO_TOKENS}
LOSSES: dict[str, Any] = {
    "DPO": (functools.partial(losses.dpo, beta=BETA), BETA / 2, BETA / 2),
    "IPO": (functools.partial(losses.ipo, tau=BETA), 1 / BETA, 1 / BETA),
    "likelihood": (losses.sft, 1.0, 0.0),
}
"""Losses, and how hard each pulls the chosen and pushes the rejected response at its reference."""


# --- one token each ---


@claim(
    "C1",
    "limit",
    source="theorem 1 (number not confirmed)",
    stated="paper",
    tolerance=1e-6,
    given=SINGLE | {"rate_of_states": st.just(1.0)},
    breaks={"rate_of_states": st.floats(0.0, 0.5)},
)
def a_small_step_moves_all_tokens_at_these_rates(
    weights: np.ndarray, state: np.ndarray, tokens: Pair, rate_of_states: float
) -> Verdict:
    """To first order a step on W and h changes the log-probability of y⁺ by g times ‖h‖²(1 − π⁺ +
    π⁻) + (1 − π⁺)⟨W⁺, Δ⟩ − Σ π_z⟨W_z, Δ⟩ for losses of the margin, Δ = W⁺ − W⁻, and those of all
    tokens accordingly.
    """
    model, pair = Model(weights, state[None, None], state[None, None]), over(*tokens)
    start, parts = pair.log_probs(model), []
    for name, (loss, up, down) in LOSSES.items():
        ahead, back = (
            np.log(probabilities(step(model, pair, start, loss, rate=rate, states=rate_of_states)))
            for rate in (1e-5 / up, -1e-5 / up)
        )
        rates = token_rates(weights, state, *tokens, chosen_slope=up, rejected_slope=down)
        expected = (rates.unembedding + rates.state) / up
        parts.append(apart((ahead - back) / 2e-5, expected, relative=True, detail=name))
        if up == down:
            parts.append(apart(expected[tokens[0]], _by_hand(weights, state, *tokens)))
    return worst(*parts)


def _by_hand(weights: np.ndarray, state: np.ndarray, chosen: int, rejected: int) -> float:
    """Return the rate of the chosen token over g, as the theorem writes it."""
    probs = np.exp(log_softmax(weights @ state))
    aligned = weights @ (weights[chosen] - weights[rejected])
    others = probs @ aligned - probs[chosen] * aligned[chosen]
    mass = 1 - probs[chosen] + probs[rejected]
    return float(state @ state * mass + (1 - probs[chosen]) * aligned[chosen] - others)


@claim(
    "C2",
    "identity",
    source="theorem 2 (number not confirmed)",
    stated="paper",
    given=SINGLE | {"slope": st.floats(0.05, 2.0), "pushed": st.just(1.0)},
    breaks={"pushed": st.floats(0.0, 0.5)},
)
def mass_goes_where_the_difference_of_embeddings_points(
    weights: np.ndarray, state: np.ndarray, tokens: Pair, slope: float, pushed: float
) -> Verdict:
    """Of two tokens beside the pair the one more aligned with W⁺ − W⁻ gains more: their rates
    differ by g⟨W_z − W_z', W⁺ − W⁻⟩, where the loss pulls and pushes alike.
    """
    rates = token_rates(weights, state, *tokens, chosen_slope=slope, rejected_slope=slope * pushed)
    others = np.delete(np.arange(V), tokens)
    found = (rates.unembedding + rates.state)[others]
    aligned = weights[others] @ (weights[tokens[0]] - weights[tokens[1]])
    return apart(found - found[0], slope * (aligned - aligned[0]))


@claim(
    "C4",
    "inequality",
    source="theorem 1 (number not confirmed)",
    stated="derived",
    given=SINGLE | {"frozen": st.just(True)},
    breaks={"frozen": st.just(False)},
)
def a_frozen_state_never_lowers_the_chosen_token(
    weights: np.ndarray, state: np.ndarray, tokens: Pair, frozen: bool
) -> Verdict:
    """Where W alone is trained the chosen token gains g‖h‖²(1 − π⁺ + π⁻), never less than 0."""
    rates = token_rates(weights, state, *tokens)
    found = rates.unembedding if frozen else rates.unembedding + rates.state
    probs = np.exp(log_softmax(weights @ state))
    gain = state @ state * (1 - probs[tokens[0]] + probs[tokens[1]])
    return worst(apart(found[tokens[0]], gain), above(-found[tokens[0]], 0.0))


@claim(
    "C5-orthogonal",
    "identity",
    source="theorem 1 (number not confirmed)",
    stated="derived",
    tolerance=1e-11,
    given={
        "seed": st.integers(0, 10**6),
        "size": st.floats(0.1, 3.0),
        "state": tables((V,), low=-2.0, high=2.0),
        "tokens": TWO_TOKENS,
        "shear": st.just(0.0),
    },
    breaks={"shear": st.floats(0.5, 1.0)},
)
def orthogonal_embeddings_displace_nothing(
    seed: int, size: float, state: np.ndarray, tokens: Pair, shear: float
) -> Verdict:
    """Where embeddings are orthogonal and of one length w the chosen token gains
    g(‖h‖² + w²)(1 − π⁺ + π⁻) > 0.
    """
    weights = size * ortho_group.rvs(V, random_state=seed)
    weights[0] *= 1 + shear
    rates = token_rates(weights, state, *tokens)
    probs = np.exp(log_softmax(weights @ state))
    gain = (state @ state + size**2) * (1 - probs[tokens[0]] + probs[tokens[1]])
    return apart((rates.unembedding + rates.state)[tokens[0]], gain)


@claim(
    "C5",
    "counterexample",
    source="section on catastrophic displacement, single tokens",
    stated="paper",
    tolerance=0.0,
    examples=5,
    given={
        "shift": tables((5, 3), low=-0.05, high=0.05),
        "name": st.sampled_from(["DPO", "IPO"]),
        "similar": st.just(True),
    },
    breaks={"similar": st.just(False)},
)
def no_over_never_teaches_yes(shift: np.ndarray, name: str, similar: bool) -> Verdict:
    """There are embeddings at which training on "No" over "Never" makes "No" less likely while its
    margin grows, and "Yes" at least twice as likely; where both have orthogonal ones it does not.
    """
    model = five_words()
    if similar:
        model = model._replace(unembedding=model.unembedding + shift)
    else:
        model = Model(2 * np.eye(5)[:, :5], *(np.full((1, 1, 5), 0.1) for _ in range(2)))
    pair, loss = over(NO, NEVER), LOSSES[name][0]
    rate, steps = (0.1, 150) if name == "DPO" else (0.005, 50)
    start = pair.log_probs(model)
    *_, end = trained(model, pair, loss, rate=rate, steps=steps)
    drift = displacement(*pair.log_probs(end), *start)
    before, after = (float(probabilities(each)[YES]) for each in (model, end))
    return worst(
        apart(drift.displaced, 1.0),
        above(2 * before, after),
        detail=f"{name}: π(Yes) {before:.3f} to {after:.3f}, log π(No) by {drift.chosen:.3f}",
    )


# --- responses of several tokens ---


@st.composite
def instances(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """W, states and tokens of two responses of T tokens at most that may begin alike, lengths."""
    tokens = np.array(draw(st.lists(st.integers(0, 1), min_size=2 * T, max_size=2 * T)))
    states, tokens = draw(tables((2, T, D), low=-2.0, high=2.0)), tokens.reshape(2, T)
    states[1, _shared(tokens)] = states[0, _shared(tokens)]
    lengths = st.lists(st.integers(1, T), min_size=2, max_size=2)
    return draw(WEIGHTS), states, tokens, draw(lengths)


def _shared(tokens: np.ndarray) -> np.ndarray:
    """Return at which places the tokens before are the same."""
    same = np.append(True, tokens[0, :-1] == tokens[1, :-1])
    return np.logical_and.accumulate(same)


@claim(
    "C3",
    "identity",
    source="theorem 3 (number not confirmed)",
    stated="paper",
    tolerance=1e-11,
    given={"instance": instances(), "slope": st.floats(0.05, 2.0), "tied": st.just(True)},
    breaks={"tied": st.just(False)},
)
def a_response_moves_by_inner_products_of_hidden_states(
    instance: tuple[np.ndarray, np.ndarray, np.ndarray, list[int]], slope: float, tied: bool
) -> Verdict:
    """The chosen log-probability moves by g(Σ⟨e⁺_k, e⁺_k'⟩⟨h⁺_k, h⁺_k'⟩ − Σ⟨e⁺_k, e⁻_k'⟩⟨h⁺_k,
    h⁻_k'⟩ + Σ‖Wᵀe⁺_k‖² − Σ⟨Wᵀe⁺_k, Wᵀe⁻_k⟩), the last sum over shared prefixes, whose states are
    one parameter; e_k is one less the prediction at the token, less it elsewhere.
    """
    weights, states, tokens, lengths = instance
    masks = np.arange(T) < np.array(lengths)[:, None]
    gram = feature_gram(weights, states[0], states[1], tokens[0], tokens[1], *masks)
    found = entanglement(*gram.total, chosen_slope=slope, rejected_slope=slope).chosen_rate
    one, other = (
        (np.eye(V)[own] - np.exp(log_softmax(h @ weights.T)))[:n]
        for h, own, n in zip(states, tokens, lengths, strict=True)
    )
    chosen, rejected = (h[:n] for h, n in zip(states, lengths, strict=True))
    places = np.flatnonzero(_shared(tokens)[: min(lengths)] & tied)
    squared = ((one @ one.T) * (chosen @ chosen.T)).sum() + ((one @ weights) ** 2).sum()
    inner = ((one @ other.T) * (chosen @ rejected.T)).sum()
    inner += ((one[places] @ weights) * (other[places] @ weights)).sum()
    return apart(found, slope * (squared - inner), scale=1 + squared)


@claim(
    "C3-ches",
    "identity",
    source="definition of the CHES score",
    stated="derived",
    tolerance=1e-10,
    given={
        "weights": tables((3, 6), low=-2.0, high=2.0),
        "states": tables((T, 6), low=-2.0, high=2.0),
        "lengths": st.tuples(st.integers(1, T), st.integers(1, T)),
        "alike": st.just(True),
    },
    breaks={"alike": st.just(False), "lengths": st.just((T, 1))},
)
def w_lowers_the_chosen_response_by_its_ches(
    weights: np.ndarray, states: np.ndarray, lengths: tuple[int, int], alike: bool
) -> Verdict:
    """Where every state predicts the same and every token is the same, all ⟨e_k, e_k'⟩ are one α,
    and training W moves the chosen log-probability by −α CHES.
    """
    if alike:
        # Only what W does not see differs.
        blind = np.eye(6) - np.linalg.pinv(weights) @ weights
        states = states[:1] + (states - states[:1]) @ blind
    tokens, masks = np.zeros(T, dtype=int), [np.arange(T) < length for length in lengths]
    gram = feature_gram(weights, states, states, tokens, tokens, *masks)
    error = np.eye(3)[0] - np.exp(log_softmax(weights @ states[0]))
    expected = -(error @ error) * ches_score(states, states, *masks)
    return apart(entanglement(*gram.unembedding).chosen_rate, expected, relative=True)


@claim(
    "C6",
    "monotone",
    source="section 2, on the margin",
    stated="derived",
    tolerance=1e-9,
    given={
        "weights": WEIGHTS,
        "states": tables((2, D), low=-2.0, high=2.0),
        "tokens": st.tuples(TWO_TOKENS, TWO_TOKENS),
        "others": st.just(0.0),
    },
    breaks={"others": st.floats(2.0, 5.0)},
)
def the_margin_of_a_pair_grows(
    weights: np.ndarray,
    states: np.ndarray,
    tokens: tuple[Pair, Pair],
    others: float,
) -> Verdict:
    """Trained on one pair its margin grows by g‖∇log π⁺ − ∇log π⁻‖² ≥ 0."""
    assume(tokens[0] != tokens[1])

    def margin(w: Any, h: Any, k: int) -> Any:
        logs = log_softmax(w @ h[k])
        return logs[tokens[k][0]] - logs[tokens[k][1]]

    both = [gradient(functools.partial(margin, k=k), weights, states) for k in (0, 1)]
    first, second = (np.concatenate([part.ravel() for part in parts]) for parts in both)
    every = np.ones(1, dtype=bool)
    chosen, rejected = np.array(tokens[0])[:, None]
    gram = feature_gram(weights, states[:1], states[:1], chosen, rejected, every, every)
    moved = entanglement(*gram.total)
    growth = moved.chosen_rate - moved.rejected_rate + others * (first @ second)
    return worst(
        apart(growth, first @ first + others * (first @ second), scale=1 + first @ first),
        above(-growth, 0.0),
    )


# --- the score ---


@claim(
    "C7",
    "statistical",
    source="section on identifying sources of displacement",
    stated="chosen",
    tolerance=0.0,
    examples=8,
    given={"seed": st.integers(0, 10**6), "shared_mean": st.just(1.0)},
    breaks={"shared_mean": st.just(0.0)},
)
def ches_orders_pairs_by_how_much_they_displace(seed: int, shared_mean: float) -> Verdict:
    """Over 300 drawn pairs of equal length whose hidden states have a mean in common, CHES and the
    rate of the chosen response have a rank correlation of −.4 or less, and the edit distance of
    the two responses a weaker one.
    """
    model, pairs = drawn(np.random.default_rng(seed), 300, shared_mean=shared_mean)
    rate = entanglement(*feature_gram(*model, *pairs).total).chosen_rate
    ches = spearmanr(pairs.ches(model), rate).statistic
    edits = spearmanr(edit_distances(pairs), rate).statistic
    return worst(
        above(ches, -0.4),
        above(abs(edits), abs(ches)),
        detail=f"CHES {ches:.3f}, edit distance {edits:.3f}, {LONGEST} tokens",
    )


@claim(
    "C8",
    "invariance",
    source="definition of the CHES score",
    stated="derived",
    tolerance=1e-10,
    given={
        "states": tables((2, T, D), low=-2.0, high=2.0),
        "lengths": st.tuples(st.integers(1, T), st.integers(1, T)),
        "seed": st.integers(0, 10**6),
        "scale": st.floats(0.1, 10.0),
        "swapped": st.just(False),
    },
    breaks={"swapped": st.just(True)},
)
def ches_is_one_of_lengths_and_angles(
    states: np.ndarray, lengths: tuple[int, int], seed: int, scale: float, swapped: bool
) -> Verdict:
    """CHES does not change where hidden states are rotated, grows by c² where they are c times as
    long, and is ⟨S⁺, S⁻⟩ − ‖S⁺‖² of the sums of states: other than for the pair reversed.
    """
    masks = [np.arange(T) < length for length in lengths]
    turned = scale * states @ ortho_group.rvs(D, random_state=seed)
    order = (1, 0) if swapped else (0, 1)
    found = ches_score(*(turned[k] for k in order), *(masks[k] for k in order))
    sums = [rows[mask].sum(axis=0) for rows, mask in zip(states, masks, strict=True)]
    means = [total / length for total, length in zip(sums, lengths, strict=True)]
    by_token = ches_score(*states, *masks, normalised=True)
    return worst(
        apart(found / scale**2, sums[0] @ (sums[1] - sums[0]), relative=True),
        apart(by_token, means[0] @ (means[1] - means[0]), relative=True),
    )
