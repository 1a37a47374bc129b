"""Free hidden states: known values, automatic derivatives, small steps, other libraries."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsim.analysis import entanglement, feature_gradient, feature_gram, token_rates
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax

SEEDS = st.integers(0, 10_000)
NO_OR_NEVER = np.array([[2, 1, 0], [2, 2.5, 0], [2, -2, 0], [1, -2, 0.5], [-1, 0, 1]])
PROMPT = np.array([0.8, 0.1, 0.0])
WEIGHTS = np.array([[1, 0], [0, 1], [-1, 0.5]])
CHOSEN = np.array([[1, 0.5], [0.2, 1]])
REJECTED = np.array([[1, 0.5], [0.4, 0.8], [0, 1]])
EVERY = np.ones(3, dtype=bool)
PAIR = (CHOSEN, REJECTED, np.array([0, 1]), np.array([1, 1, 0]), EVERY[:2], EVERY)


def drawn(seed, *, batch=(), places=4, vocabulary=5, width=3):
    """Return W, and states, tokens and masks of two responses that share a prefix, or more."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(*batch, vocabulary, width))
    states = rng.normal(size=(2, *batch, places, width))
    tokens = rng.integers(vocabulary, size=(2, *batch, places))
    masks = np.arange(places) < rng.integers(1, places + 1, size=(2, *batch, 1))
    for k in range(places):
        same = (tokens[0, ..., :k] == tokens[1, ..., :k]).all(axis=-1)
        states[1, ..., k, :][same] = states[0, ..., k, :][same]
    return weights, *states, *tokens, *masks


def test_values_of_two_tokens():
    rates = token_rates(NO_OR_NEVER, PROMPT, 0, 1)
    found = rates.unembedding + rates.state
    known = [-0.02380164, -3.57380164, 3.82619836, 3.82619836, 0.82619836]
    np.testing.assert_allclose(found, known, atol=5e-9)
    rates = token_rates(NO_OR_NEVER, PROMPT, 0, 2)
    known = [2.01023778, 5.86023778, -8.28976222, -7.63976222, -1.63976222]
    np.testing.assert_allclose(rates.unembedding + rates.state, known, atol=5e-9)


def test_values_of_two_responses():
    gram = feature_gram(WEIGHTS, *PAIR)
    assert gram.unembedding.chosen_squared == pytest.approx(0.4273851118, abs=1e-10)
    assert gram.states.chosen_squared == pytest.approx(0.5680184437, abs=1e-10)
    assert gram.unembedding.inner == pytest.approx(-0.2206185527, abs=1e-10)
    assert gram.states.inner == pytest.approx(-0.4864990362, abs=1e-10)


@given(SEEDS)
@settings(max_examples=20)
def test_rates_are_those_of_a_small_step(seed):
    rng = np.random.default_rng(seed)
    weights, state = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 4))
    tokens, slopes = rng.integers(5, size=(2, 3)), rng.uniform(0.1, 2.0, size=(2, 3))

    def log_probs(w, h):
        return log_softmax((w @ h[..., None])[..., 0])

    def pulled(w, h):
        logs = log_probs(w, h)
        one, other = (logs.gather(-1, torch.as_tensor(t)[:, None])[:, 0] for t in tokens)
        up, down = torch.as_tensor(slopes)
        return up * one - down * other

    directions = gradient(pulled, weights, state)
    rates = token_rates(weights, state, *tokens, chosen_slope=slopes[0], rejected_slope=slopes[1])
    for rate, moves in zip(rates, np.eye(2), strict=True):
        steps = [
            log_probs(weights + s * moves[0] * directions[0], state + s * moves[1] * directions[1])
            for s in (1e-5, -1e-5)
        ]
        np.testing.assert_allclose(rate, (steps[0] - steps[1]) / 2e-5, atol=1e-6)


@given(SEEDS)
@settings(max_examples=20)
def test_gradients_are_those_of_the_log_probability(seed):
    weights, states, _, tokens, _, mask, _ = drawn(seed, batch=(2,))

    def log_prob(w, h):
        logs = log_softmax(h @ w.mT).gather(-1, torch.as_tensor(tokens)[..., None])[..., 0]
        return (logs * torch.as_tensor(mask)).sum(-1)

    found = feature_gradient(weights, states, tokens, mask)
    np.testing.assert_allclose(
        found.log_prob, log_prob(torch.as_tensor(weights), torch.as_tensor(states)), atol=1e-13
    )
    for ours, theirs in zip(found[1:], gradient(log_prob, weights, states), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)


@given(SEEDS)
@settings(max_examples=30)
def test_shared_prefixes_are_one_parameter(seed):
    given_pair = drawn(seed, vocabulary=2)
    weights, one, other, chosen, rejected, chosen_mask, rejected_mask = given_pair
    shared = np.cumprod(np.append(True, chosen[:-1] == rejected[:-1])).astype(bool)

    def log_prob(w, own, common, tokens, mask):
        states = torch.where(torch.as_tensor(shared)[:, None], common, own)
        logs = log_softmax(states @ w.T).gather(-1, torch.as_tensor(tokens)[:, None])[:, 0]
        return (logs * torch.as_tensor(mask)).sum()

    def first(w, own, their, common):
        return log_prob(w, own, common, chosen, chosen_mask) + 0 * their.sum()

    def second(w, own, their, common):
        return log_prob(w, their, common, rejected, rejected_mask) + 0 * own.sum()

    up, down = (
        np.concatenate([g.ravel() for g in gradient(each, weights, one, other, one)])
        for each in (first, second)
    )
    total = feature_gram(*given_pair).total
    np.testing.assert_allclose(total, [up @ up, down @ down, up @ down], atol=1e-12)


def test_batches_and_single_tokens_agree():
    many = drawn(3, batch=(6,))
    found = feature_gram(*many)
    one = feature_gram(*(part[4] for part in many))
    np.testing.assert_allclose(np.array(found)[..., 4], np.array(one), atol=1e-14)
    # Without masks: T may differ, and a single token has the rates of single tokens.
    states, tokens = PROMPT[None], np.array([[0], [1]])
    gram = feature_gram(NO_OR_NEVER, states, states, *tokens, EVERY[:1], EVERY[:1])
    rates = token_rates(NO_OR_NEVER, PROMPT, *tokens[:, 0])
    for part, rate in zip(gram, rates, strict=True):
        moved = entanglement(*part)
        assert moved.chosen_rate == pytest.approx(rate[0], abs=1e-13)
        assert moved.rejected_rate == pytest.approx(rate[1], abs=1e-13)


def test_what_the_mask_leaves_out_may_be_anything():
    states = np.concatenate([CHOSEN, [[np.nan, 9.0]]])
    tokens, mask = np.array([0, 1, -1]), np.array([True, True, False])
    padded = feature_gram(WEIGHTS, states, REJECTED, tokens, PAIR[3], mask, EVERY)
    np.testing.assert_allclose(padded, feature_gram(WEIGHTS, *PAIR), atol=1e-15)
    assert (feature_gradient(WEIGHTS, states, tokens, mask).states[2] == 0).all()


@pytest.mark.parametrize("library", [torch, array_api_strict], ids=["torch", "strict"])
def test_other_libraries(library):
    arrays = [library.asarray(part) for part in (WEIGHTS, *PAIR)]
    np.testing.assert_allclose(
        [[np.asarray(x) for x in part] for part in feature_gram(*arrays)],
        feature_gram(WEIGHTS, *PAIR),
        atol=1e-14,
    )
    found = token_rates(library.asarray(NO_OR_NEVER), library.asarray(PROMPT), 0, 1)
    for ours, theirs in zip(found, token_rates(NO_OR_NEVER, PROMPT, 0, 1), strict=True):
        np.testing.assert_allclose(np.asarray(ours), theirs, atol=1e-14)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, WEIGHTS[0], r"unembedding must have shape \(..., V, d\)"),
        (1, CHOSEN[:1], "chosen_mask must have the shape of the states"),
        (1, CHOSEN[:, :1], r"chosen_states must have trailing shape \(2\)"),
        (1, CHOSEN + 1e-3, "rejected_states must be as chosen_states where the responses share"),
        (3, np.array([0, 3]), "chosen must be >= 0 and < 3, got 3 at index 1"),
        (4, np.array([1, 1]), "rejected must have the shape of rejected_mask"),
        (5, np.zeros(2, dtype=bool), "chosen_mask must hold at least one token of each response"),
        (6, np.array([True, False, True]), "rejected_mask must hold no gap"),
    ],
)
def test_what_does_not_fit_is_refused(place, value, message):
    arguments = [WEIGHTS, *PAIR]
    arguments[place] = value
    with pytest.raises(ValueError, match=message):
        feature_gram(*arguments)


def test_tokens_without_a_row():
    with pytest.raises(ValueError, match="rejected must be >= 0 and < 5, got 5"):
        token_rates(NO_OR_NEVER, PROMPT, 0, 5)
    with pytest.raises(ValueError, match=r"state must have trailing shape \(3\)"):
        token_rates(NO_OR_NEVER, PROMPT[:2], 0, 1)
