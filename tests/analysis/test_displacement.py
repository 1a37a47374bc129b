"""Displacement and its causes.

Reference values, gradient descent itself, and exact policies that the formulas must agree with.
"""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsim import losses
from prefsim.analysis.bandit import kl_to_reference
from prefsim.analysis.displacement import (
    ches_score,
    displacement,
    entanglement,
    kl_from_tokens,
    ranking_accuracy,
    reward_accuracy,
)
from prefsim.policies import TokenTreePolicy
from prefsim.worlds import ContextualBandit, TokenTree

SEEDS = st.integers(0, 10_000)
# Three tokens A, B, S; the chosen response is A S and the rejected one B S, after contexts that
# resemble each other.
CONTEXTS = torch.tensor([[0.1, 0, 0], [0, 1, 0], [0, 0.9, 0.4]], dtype=torch.float64)


def start():
    return torch.tensor(
        [[0.0, 0, 0], [0, 0, 0], [0, 3, -9]], dtype=torch.float64, requires_grad=True
    )


def both_logps(weights, contexts=CONTEXTS):
    logs = torch.log_softmax(contexts @ weights.T, dim=-1)
    return logs[0, 0] + logs[1, 2], logs[0, 1] + logs[2, 2]


def gram(weights, **options):
    chosen, rejected = both_logps(weights, **options)
    up, down = (
        torch.autograd.grad(chosen, weights, retain_graph=True)[0],
        torch.autograd.grad(rejected, weights)[0],
    )
    return (up**2).sum(), (down**2).sum(), (up * down).sum()


def test_entanglement_of_a_pair():
    """A shared suffix makes DPO lower both log-probabilities from its first step.

    The instance is that of arXiv:2410.13828.
    """
    chosen_squared, rejected_squared, inner = gram(start())
    found = entanglement(chosen_squared, rejected_squared, inner)
    assert float(inner) == pytest.approx(0.0982651818, abs=1e-10)
    assert float(chosen_squared) == pytest.approx(0.0189675224, abs=1e-10)
    assert float(rejected_squared) == pytest.approx(1.0115742195, abs=1e-10)
    assert float(found.cosine) == pytest.approx(0.70940702, abs=1e-8)
    assert float(found.ratio) > 1
    assert not bool(found.wanted)
    swapped = entanglement(rejected_squared, chosen_squared, inner)
    assert float(swapped.chosen_rate) == pytest.approx(0.91330904, abs=1e-8)
    assert float(swapped.rejected_rate) == pytest.approx(0.07929766, abs=1e-8)


def test_displacement_along_gradient_descent():
    weights, beta, rate = start(), 0.1, 0.1
    first = [part.detach() for part in both_logps(weights)]
    expected = {
        10: (-1.1976063, -2.92274401),
        100: (-1.24472462, -3.35451256),
        500: (-1.67059373, -5.15734157),
    }
    for step in range(1, 501):
        chosen, rejected = both_logps(weights)
        value = losses.dpo(
            losses.PairLogps(chosen[None], rejected[None], first[0][None], first[1][None]),
            beta=beta,
        ).sum()
        weights = (
            (weights - rate * torch.autograd.grad(value, weights)[0]).detach().requires_grad_()
        )
        if step in expected:
            now = [part.detach() for part in both_logps(weights)]
            found = displacement(*(part[None] for part in (*now, *first)))
            assert float(found.chosen + first[0]) == pytest.approx(expected[step][0], abs=1e-7)
            assert float(found.rejected + first[1]) == pytest.approx(expected[step][1], abs=1e-7)
            assert float(found.displaced) == 1.0


@given(SEEDS)
@settings(max_examples=20)
def test_rates_are_those_of_a_small_step_of_any_loss(seed):
    rng = np.random.default_rng(seed)
    weights = torch.as_tensor(rng.standard_normal((3, 3))).requires_grad_()
    contexts = torch.as_tensor(rng.standard_normal((3, 3)))
    reference = [torch.tensor([-2.0 - rng.random()], dtype=torch.float64) for _ in range(2)]
    for loss in (losses.dpo, losses.sppo_hard, losses.cpo, losses.dpop):
        two = torch.full((1,), 2.0, dtype=torch.float64)
        pair = losses.PairLogps(
            *(part[None] for part in both_logps(weights, contexts)), *reference, two, two
        )
        value = loss(pair).sum()
        slope_w, slope_l = torch.autograd.grad(
            value, (pair.chosen, pair.rejected), retain_graph=True
        )
        found = entanglement(
            *gram(weights, contexts=contexts), chosen_slope=-slope_w[0], rejected_slope=slope_l[0]
        )
        step = 1e-6 / (1 + abs(float(slope_w)) + abs(float(slope_l)))
        moved = weights - step * torch.autograd.grad(value, weights)[0]
        for after, before, rate in zip(
            both_logps(moved, contexts),
            pair,
            (found.chosen_rate, found.rejected_rate),
            strict=False,
        ):
            assert float((after - before[0]).detach() / step) == pytest.approx(
                float(rate), rel=1e-3, abs=1e-4 * (1 + float(value.detach()))
            )
        rises, falls = bool(found.chosen_rate >= 0), bool(found.rejected_rate <= 0)
        assert bool(found.wanted) == (rises and falls)


@given(SEEDS)
def test_a_single_token_with_fixed_states_is_never_entangled(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(5), size=8)
    squared = (p**2).sum(axis=-1)
    found = entanglement(
        1 - 2 * p[:, 0] + squared, 1 - 2 * p[:, 1] + squared, squared - p[:, 0] - p[:, 1]
    )
    assert found.wanted.all()
    np.testing.assert_allclose(found.chosen_rate, 1 - p[:, 0] + p[:, 1], atol=1e-12)


def test_ches_of_a_pair():
    chosen, rejected = (
        np.array([[1, 0.5], [0.2, 1], [9, 9]]),
        np.array([[np.nan, 9], [1, 0.5], [0.4, 0.8], [0, 1]]),
    )
    masks = np.array([True, True, False]), np.array([False, True, True, True])
    assert ches_score(chosen, rejected, *masks) == pytest.approx(1.44, abs=1e-12)
    assert ches_score(chosen, rejected, *masks, normalised=True) == pytest.approx(
        -0.0675, abs=1e-12
    )
    assert ches_score(rejected, chosen, *masks[::-1]) != pytest.approx(1.44)


@given(SEEDS)
def test_ches_is_the_drift_of_the_last_layer_where_errors_are_equal(seed):
    """What the last layer does to the chosen log-probability is −‖e‖² CHES, exactly.

    With uniform predictions and one repeated token.
    """
    rng = np.random.default_rng(seed)
    chosen, rejected = (torch.as_tensor(rng.standard_normal((t, 3))) for t in (2, 4))
    head = torch.zeros((5, 3), dtype=torch.float64, requires_grad=True)
    up, down = (
        torch.autograd.grad(torch.log_softmax(h @ head.T, dim=-1)[:, 0].sum(), head)[0]
        for h in (chosen, rejected)
    )
    score = ches_score(
        chosen, rejected, *(torch.ones(len(h), dtype=torch.bool) for h in (chosen, rejected))
    )
    error = 1 - 1 / 5  # ‖onehot − uniform‖²
    torch.testing.assert_close(
        (up**2).sum() - (up * down).sum(), -error * score, rtol=1e-10, atol=1e-10
    )


@given(SEEDS)
def test_ches_turns_with_the_states_and_scales_with_their_square(seed):
    rng = np.random.default_rng(seed)
    states = rng.standard_normal((2, 7, 4, 3))
    masks = np.ones((2, 7, 4), bool)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    for normalised in (False, True):
        score = ches_score(*states, *masks, normalised=normalised)
        np.testing.assert_allclose(
            ches_score(*(states @ turn), *masks, normalised=normalised), score, atol=1e-10
        )
        np.testing.assert_allclose(
            ches_score(*(3 * states), *masks, normalised=normalised), 9 * score, atol=1e-9
        )


@given(SEEDS, st.floats(0.05, 3.0))
def test_accuracies_are_levels_of_the_loss(seed, beta):
    """A pair is ranked right where DPO's loss is at most −log σ(βc), and its reward below log 2."""
    chosen, rejected, ref_chosen, ref_rejected = -5 * np.random.default_rng(seed).random((4, 3, 20))
    loss = losses.dpo(losses.PairLogps(chosen, rejected, ref_chosen, ref_rejected), beta=beta)
    level = losses.dpo(losses.PairLogps(ref_rejected, ref_chosen, 0 * loss, 0 * loss), beta=beta)
    np.testing.assert_allclose(ranking_accuracy(chosen, rejected), (loss <= level).mean(axis=-1))
    np.testing.assert_allclose(
        reward_accuracy(chosen, rejected, ref_chosen, ref_rejected),
        (loss < np.log(2)).mean(axis=-1),
    )


def test_a_tie_is_ranked_right_but_earns_nothing():
    tie = np.array([-1.0])
    assert ranking_accuracy(tie, tie) == 1
    assert reward_accuracy(tie, tie, tie, tie) == 0


@given(SEEDS)
@settings(max_examples=15)
def test_token_divergences_sum_to_the_divergence(seed):
    """The chain rule on a token tree.

    The expectation over all sequences is the exact KL of the sequence distributions.
    """
    tree = TokenTree(3, 3, end_token=2, context_probs=[0.5, 0.5])
    policy, reference = (TokenTreePolicy.random(tree, seed=seed + k) for k in (0, 1))
    logits = [
        each.logits - np.logaddexp.reduce(each.logits, axis=-1, keepdims=True)
        for each in (policy, reference)
    ]
    at_nodes = (np.exp(logits[0]) * (logits[0] - logits[1])).sum(axis=-1)
    along = np.where(tree.mask, at_nodes[:, np.where(tree.mask, tree.nodes, 0)], np.nan)
    total = (policy.probs * kl_from_tokens(along, np.broadcast_to(tree.mask, along.shape))).sum(
        axis=-1
    )
    world = ContextualBandit(reward=np.zeros((2, tree.n_sequences)))
    assert total.mean() == pytest.approx(
        float(kl_to_reference(policy.log_probs, reference.log_probs, world)), rel=1e-10
    )


def test_every_array_library_agrees():
    rng = np.random.default_rng(0)
    logps, states, masks = (
        -rng.random((4, 6)),
        rng.standard_normal((2, 6, 3, 4)),
        rng.random((2, 6, 3)) < 0.8,
    )
    masks[..., 0] = True
    calls = [
        (displacement, logps),
        (reward_accuracy, logps),
        (ranking_accuracy, logps[:2]),
        (entanglement, -logps[:3]),
        (ches_score, (*states, *masks)),
        (kl_from_tokens, (states[0, ..., 0], masks[0])),
    ]
    for function, arrays in calls:
        expected = np.asarray(function(*arrays))
        strict = function(*(array_api_strict.asarray(x) for x in arrays))
        found = [np.asarray(x) for x in strict] if isinstance(strict, tuple) else np.asarray(strict)
        np.testing.assert_allclose(
            np.asarray(found, dtype=float), expected.astype(float), rtol=1e-12
        )
        with_torch = function(*(torch.as_tensor(x) for x in arrays))
        found = (
            [x.numpy() for x in with_torch] if isinstance(with_torch, tuple) else with_torch.numpy()
        )
        np.testing.assert_allclose(
            np.asarray(found, dtype=float), expected.astype(float), rtol=1e-12
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: displacement(np.ones(2), np.ones(3), np.ones(2), np.ones(2)),
            r"one shape, got chosen \(2,\), rejected \(3,\)",
        ),
        (
            lambda: ches_score(
                np.ones((2, 3)), np.ones((2, 3)), np.ones(2, bool), np.zeros(2, bool)
            ),
            "rejected_mask must hold at least one",
        ),
        (
            lambda: ches_score(
                np.ones((2, 3)), np.ones((2, 3)), np.ones(3, bool), np.ones(2, bool)
            ),
            "chosen_mask must have the shape",
        ),
        (lambda: entanglement(np.ones(2), np.ones(2), np.ones(3)), "one shape"),
        (lambda: kl_from_tokens(np.ones(2), np.ones(3, bool)), "one shape"),
        (lambda: ranking_accuracy(np.ones(2), np.ones(3)), "one shape"),
        (lambda: reward_accuracy(np.ones(2), np.ones(2), np.ones(2), np.ones(3)), "one shape"),
    ],
)
def test_bad_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()
