"""What weights on tokens change in token-level DPO, and what becomes of those that are learned."""

from __future__ import annotations

import functools

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros.mdp.sparsepo.texts import (
    Texts,
    logit_slopes,
    scaled_twice,
    scores,
    sequences,
    texts,
    train_with_penalty,
)
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.gradients import gradient, loss_gradient
from prefsim.losses import activation_weights, relu_weights, sparse_po, token_sparsity
from prefsim.numerics import categorical_kl, log_softmax, sigmoid, softmax, softplus
from prefsim.papers import Verdict, above, apart, claim, falls, worst
from prefsim.testing import betas
from prefsim.testing.bandits import tables

PENALTIES = st.floats(0.01, 0.5)
NOTHING = st.just(0.0)


# --- what the loss contains, and where it comes from ---


@claim(
    "tdpo1",
    "equivalence",
    source="section 3",
    stated="paper",
    given={"texts": texts(), "beta": betas(), "weight": st.just(1.0)},
    breaks={"weight": st.floats(1.2, 2.0)},
)
def contains_tdpo_and_dpo(texts: Texts, beta: float, weight: float) -> Verdict:
    """Weights of one make the loss TDPO1; with weights of zero on the divergences it is DPO."""
    ones = np.ones(texts.mask.shape)
    whole = texts._replace(reward_weight=weight * ones, kl_weight=ones).pairs()
    without = texts._replace(reward_weight=weight * ones, kl_weight=0 * ones).pairs()
    return worst(
        apart(sparse_po(whole, beta=beta), losses.tdpo1(whole, beta=beta)),
        apart(sparse_po(without, beta=beta), losses.dpo(sequences(without), beta=beta)),
    )


@claim(
    "advantage",
    "identity",
    source="section 3, appendix",
    stated="paper",
    given={
        "texts": texts(common=True, least=0.3),
        "beta": st.floats(0.5, 2.0),
        "kl_share": st.just(1.0),
        "is_centred": st.just(True),
    },
    # Other weights on the divergences, or a worth that the reference's tokens have on average.
    breaks=({"kl_share": st.just(0.5)}, {"is_centred": st.just(False)}),
    tolerance=1e-11,
)
def comes_from_a_strength_of_its_own_in_every_state(
    texts: Texts, beta: float, kl_share: float, is_centred: bool
) -> Verdict:
    """Where each state has its own strength β m of the KL penalty and E_ref A = 0, the best policy
    is ∝ π_ref exp(A/βm), A = βm [log(π/π_ref) + KL(π_ref‖π)], and Bradley–Terry of summed
    advantages is the loss with equal weights.
    """
    strength = (beta * texts.reward_weight)[..., None]
    ref = log_softmax(texts.ref_logits)
    worth = np.asarray(texts.logits)
    if is_centred:
        worth = worth - np.sum(np.exp(ref) * worth, axis=-1, keepdims=True)
    best = log_softmax(ref + worth / strength)
    kl = categorical_kl(ref, best)[..., None]
    at_best, elsewhere = (
        np.sum(np.exp(p) * worth, axis=-1) - strength[..., 0] * categorical_kl(p, ref)
        for p in (best, log_softmax(best + np.roll(worth, 1, axis=-1)))
    )
    summed = np.sum(np.sum(worth * texts.tokens, axis=-1) * texts.mask, axis=-1)
    here = texts._replace(logits=best, kl_weight=kl_share * texts.reward_weight)
    return worst(
        above(elsewhere, at_best),
        apart(strength * (best - ref + kl), worth),
        apart(sparse_po(here.pairs(), beta=beta), softplus(summed[1] - summed[0])),
    )


@claim(
    "linear",
    "identity",
    source="section 3",
    stated="derived",
    given={"texts": texts(common=True), "other": texts(common=True), "kl_share": st.just(1.0)},
    breaks={"kl_share": st.floats(0.0, 0.7)},
)
def equal_weights_make_it_a_logistic_regression(
    texts: Texts, other: Texts, kl_share: float
) -> Verdict:
    """With equal weights the score is linear in the logits: of a table the loss is convex, with one
    minimum.
    """
    here = texts._replace(kl_weight=kl_share * texts.kl_weight)
    size = here.logits.shape
    there = here._replace(logits=np.resize(other.logits, size))
    between = here._replace(logits=0.5 * (here.logits + there.logits))
    return apart(scores(between), 0.5 * (scores(here) + scores(there)))


# --- its derivatives ---


@claim(
    "at_reference",
    "identity",
    source="section 3",
    stated="derived",
    given={"texts": texts(), "beta": betas(), "share": NOTHING},
    breaks={"share": st.just(1.0)},
)
def weights_do_not_matter_at_the_reference(texts: Texts, beta: float, share: float) -> Verdict:
    """At the reference the loss is log 2 whatever the weights, does not move with them, and its
    derivatives in the logits are ∓(β/2) m_u (e_y − π_ref): the divergences have none.
    """
    here = texts.moved(share)
    slopes = loss_gradient(functools.partial(sparse_po, beta=beta), here.pairs())
    reference = softmax(texts.ref_logits)
    counted = (texts.reward_weight * texts.mask)[..., None]
    signs = np.array([-1.0, 1.0])[:, None, None, None]
    expected = signs * beta / 2 * counted * (texts.tokens - reference)
    return worst(
        apart(sparse_po(here.pairs(), beta=beta), np.log(2)),
        *(
            apart(getattr(slopes, f"{side}_{kind}_weight"), 0.0)
            for side in ("chosen", "rejected")
            for kind in ("reward", "kl")
        ),
        apart(logit_slopes(here, beta), expected),
    )


@claim(
    "gradient",
    "identity",
    source="section 3",
    stated="derived",
    given={"texts": texts(), "beta": betas()},
)
def both_divergences_have_derivatives(texts: Texts, beta: float) -> Verdict:
    """The derivatives in the logits are ∓β σ(−βz) [m_u (e_y − π) + m_d (π − π_ref)], for both
    responses: no derivative is stopped.
    """
    first, second = scores(texts)
    mistake = np.stack([-1.0, 1.0])[:, None] * beta * sigmoid(-beta * (first - second))
    policy, reference = softmax(texts.logits), softmax(texts.ref_logits)
    step = texts.reward_weight[..., None] * (texts.tokens - policy)
    step = step + texts.kl_weight[..., None] * (policy - reference)
    return apart(logit_slopes(texts, beta), mistake[..., None, None] * step * texts.mask[..., None])


@claim(
    "zero_weight",
    "identity",
    source="section 3",
    stated="paper",
    given={"texts": texts(low=2, least=0.2), "beta": betas(), "is_shared": st.just(False)},
    breaks={"is_shared": st.just(True)},
    tolerance=0.0,
)
def a_token_without_weight_teaches_nothing(texts: Texts, beta: float, is_shared: bool) -> Verdict:
    """A token whose weights are both zero moves no parameter of its state, unless other states
    share it.
    """
    counted = np.arange(texts.mask.shape[-1]) > 0
    here = texts._replace(
        reward_weight=texts.reward_weight * counted, kl_weight=texts.kl_weight * counted
    )
    slopes = logit_slopes(here, beta)
    # One table for all positions: what moves it after another token moves it here.
    of_first = slopes.sum(axis=2) if is_shared else slopes[:, :, 0]
    return apart(of_first, 0.0)


@claim(
    "kl_direction",
    "inequality",
    source="section 3",
    stated="derived",
    given={"texts": texts(least=0.2), "beta": st.floats(0.1, 1.0), "weight": st.just(1.0)},
    breaks={"weight": NOTHING},
)
def divergence_on_the_chosen_is_rewarded(texts: Texts, beta: float, weight: float) -> Verdict:
    """The loss falls where the policy leaves the reference along the chosen response, and rises
    where it does along the rejected one.
    """
    here = texts._replace(kl_weight=weight * texts.kl_weight).pairs()
    slopes = loss_gradient(functools.partial(sparse_po, beta=beta), here)
    falling = np.asarray(slopes.chosen_kl)[texts.mask[0]]
    rising = np.asarray(slopes.rejected_kl)[texts.mask[1]]
    return worst(
        float((falling >= 0).sum()),
        float((rising <= 0).sum()),
        detail=f"{falling.max():.3g} at most, {rising.min():.3g} at least",
    )


# --- weights off activations ---


@claim(
    "standardising",
    "identity",
    source="section 3, MaPO",
    stated="derived",
    given={
        "activations": tables((3, 5), low=-4.0, high=4.0),
        "tokens": st.integers(2, 5),
        "spread": st.just(1.0),
    },
    # All activations alike: 0/0 as written, and weights of one here.
    breaks={"spread": NOTHING},
    tolerance=1e-9,
)
def standardising_first_changes_nothing(
    activations: np.ndarray, tokens: int, spread: float
) -> Verdict:
    """Activations rescaled to [0, 1] are the same whether they were standardised before or not,
    unless they are constant.
    """
    mask = np.arange(5) < tokens
    ranges = np.ptp(activations[:, mask], axis=1)
    assume((ranges > 1e-3).all())
    given = spread * activations
    found = activation_weights(given, mask)
    alone = [activation_weights(given[k : k + 1], mask)[mask] for k in range(3)]
    return worst(
        # What is no number is told from every weight.
        apart(found, np.nan_to_num(scaled_twice(given, mask), nan=-1.0)),
        apart(np.min(alone, axis=1), 0.0),
        apart(np.max(alone, axis=1), 1.0),
    )


# --- weights that are learned, and how many are zero ---


@claim(
    "table",
    "identity",
    source="section 3, learned masks",
    stated="derived",
    given={"raw": tables((6,), low=-1.0, high=1.0), "bias": st.floats(-0.5, 0.5)},
)
def a_unit_off_is_off(raw: np.ndarray, bias: float) -> Verdict:
    """The unit of a learned mask is max(0, w·φ + b): of one-hot features a table, in which what is
    negative is exactly zero, and is told nothing.
    """
    unit = functools.partial(relu_weights, np.eye(6))
    slopes = gradient(lambda w: relu_weights(w.new_ones(6).diag(), w, bias), raw)
    assume((np.abs(raw + bias) > 1e-9).all())
    return worst(
        apart(unit(raw, bias), np.clip(raw + bias, 0.0, None)),
        apart(slopes, raw + bias > 0),
    )


@claim(
    "share_of_zeros",
    "identity",
    source="section 3",
    stated="paper",
    given={"texts": texts(), "rounds_to": st.just(0.5)},
)
def sparsity_is_the_share_of_zeros(texts: Texts, rounds_to: float) -> Verdict:
    """The sparsity of a mask is the share of the response's tokens with a weight of zero."""
    weight = np.maximum(texts.reward_weight - rounds_to, 0.0)
    tokens = [weight[k, i, : texts.mask[k, i].sum()] for k, i in np.ndindex(2, 2)]
    zeros = [int((each == 0).sum()) for each in tokens]
    flat = weight.reshape(4, -1), texts.mask.reshape(4, -1)
    once = sum(zeros) / sum(each.size for each in tokens)
    first = token_sparsity(*flat, prob=np.eye(4)[0])
    return worst(apart(token_sparsity(*flat), once), apart(first, zeros[0] / tokens[0].size))


@claim(
    "penalty",
    "identity",
    source="section 3",
    stated="paper",
    given={"texts": texts(), "beta": betas(), "l1": st.tuples(PENALTIES, PENALTIES)},
)
def penalties_are_sums_of_weights(texts: Texts, beta: float, l1: tuple[float, float]) -> Verdict:
    """Each penalty is a sum over the tokens of both responses, whatever the policy."""
    pairs = texts.pairs()
    found = sparse_po(pairs, beta=beta, reward_l1=l1[0], kl_l1=l1[1]) - sparse_po(pairs, beta=beta)
    weights = l1[0] * texts.reward_weight + l1[1] * texts.kl_weight
    return apart(found, np.sum(weights * texts.mask, axis=(0, 2)))


def in_order(given: Texts) -> Texts:
    """Return one pair whose chosen response has the higher score, or nothing."""
    (gap,) = np.diff(scores(given), axis=0)[0]
    assume(abs(gap) > 1e-3)
    return given.swapped() if gap > 0 else given


@claim(
    "scale",
    "monotone",
    source="section 4",
    stated="derived",
    given={
        "texts": texts(pairs=1, least=0.1),
        "beta": st.floats(0.1, 1.0),
        "l1": NOTHING,
        "is_in_order": st.just(True),
    },
    breaks=({"l1": st.floats(0.5, 2.0)}, {"is_in_order": st.just(False)}),
)
def weights_grow_where_a_pair_is_in_order(
    texts: Texts, beta: float, l1: float, is_in_order: bool
) -> Verdict:
    """Where a pair is in order, larger weights lower the loss for ever, at a policy that does not
    move: they raise the strength β.
    """
    pair = in_order(texts)
    pair = pair if is_in_order else pair.swapped()
    sizes = (1.0, 2.0, 4.0)
    values = np.stack(
        [sparse_po(pair.scaled(c).pairs(), beta=beta, reward_l1=l1, kl_l1=l1) for c in sizes]
    )
    stronger = [sparse_po(pair.pairs(), beta=c * beta) for c in sizes]
    without = [sparse_po(pair.scaled(c).pairs(), beta=beta) for c in sizes]
    return worst(
        falls(values), float((np.diff(values, axis=0) >= 0).sum()), apart(without, stronger)
    )


@claim(
    "best_scale",
    "minimiser",
    source="section 4",
    stated="derived",
    given={"texts": texts(pairs=1, least=0.1), "beta": st.floats(0.5, 2.0), "l1": PENALTIES},
)
def a_penalty_stops_the_growth(texts: Texts, beta: float, l1: float) -> Verdict:
    """With a penalty P on weights of size one the best size is log(z/P − 1)/z, and zero where z,
    the gap of the pair, is at most 2P.
    """
    pair = in_order(texts)
    z = beta * -np.diff(scores(pair), axis=0).item()
    price = l1 * np.sum((pair.reward_weight + pair.kl_weight) * pair.mask)
    best = np.log(z / price - 1) / z if z > 2 * price else 0.0

    def at(size: float) -> np.ndarray:
        return to_numpy(sparse_po(pair.scaled(size).pairs(), beta=beta, reward_l1=l1, kl_l1=l1))

    others = [at(size) for size in (0.0, 0.5 * best, 0.9 * best, 1.1 * best + 0.01, best + 1.0)]
    return worst(
        apart(at(best), softplus(np.asarray(-best * z)) + best * price),
        above(at(best), np.stack(others)),
    )


@claim(
    "dead",
    "counterexample",
    source="section 4",
    stated="derived",
    tolerance=0.0,
    examples=6,
    given={
        "texts": texts(pairs=1),
        "beta": st.floats(0.3, 0.6),
        "start": st.floats(0.1, 0.2),
        "times_enough": st.floats(1.2, 2.0),
        "ahead": NOTHING,
    },
    # A policy that has learned before the penalty comes, or no penalty.
    breaks=({"ahead": st.just(3.0)}, {"times_enough": NOTHING}),
)
def a_penalty_at_the_reference_kills_the_mask(
    texts: Texts, beta: float, start: float, times_enough: float, ahead: float
) -> Verdict:
    """Trained from the reference with a penalty of at least β/2 times the size of the weights they
    start from, ReLU weights all become zero, and then neither they nor the policy ever move.
    """
    signs = np.array([1.0, -1.0])[:, None, None, None]
    logits = texts.ref_logits + ahead * signs * texts.tokens
    step = start / (10 * beta * start / 2)
    found = train_with_penalty(
        texts._replace(logits=logits),
        beta=beta,
        l1=times_enough * beta * start / 2,
        start=start,
        steps=25,
        step=step,
    )
    return worst(apart(found.weight, 0.0), found.slope, detail=f"{found.weight.max():.3g} at most")
