"""Losses on segments: reference values, limits, every option, and bad input."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.losses import ListLogps, PairLogps, TokenPairLogps, dpo
from prefsim.losses.segments import (
    cpl,
    cpl_ranked,
    regret,
    segment_contrast,
    segment_scores,
    squared_error_logps,
)
from prefsim.raters.regret import regret_preference, segment_regret
from prefsim.testing.segments import token_pair_logps

FIRST, SECOND = np.asarray([[-0.5, -1.0, -0.2]]), np.asarray([[-0.9, -0.3, -1.4]])


def free(chosen, rejected):
    """Comparisons without a reference in which every step counts."""
    every = np.ones(chosen.shape, dtype=bool)
    return TokenPairLogps(
        chosen, rejected, np.zeros_like(chosen), np.zeros_like(chosen), every, every
    )


ASIS, REVERSED = free(FIRST, SECOND), free(SECOND, FIRST)


def test_reference_scores():
    first, second = segment_scores(ASIS, alpha=0.1)
    np.testing.assert_allclose([first[0], second[0]], [-0.17, -0.26], rtol=1e-12)
    first, second = segment_scores(ASIS, alpha=0.1, discount=0.9)
    np.testing.assert_allclose([first[0], second[0]], [-0.1562, -0.2304], rtol=1e-12)


@pytest.mark.parametrize(
    ("logps", "options", "expected"),
    [
        (REVERSED, {"lambda_": 1.0}, 0.7391593390),
        (REVERSED, {"lambda_": 0.5}, 0.7844704307),
        (ASIS, {"lambda_": 0.5}, 0.7133471672),
        (ASIS, {"lambda_": 0.5, "discount": 0.9}, 0.7138572908),
    ],
)
def test_reference_values(logps, options, expected):
    assert cpl(logps, alpha=0.1, **options)[0] == pytest.approx(expected, abs=5e-11)


def test_reference_tie():
    assert 0.5 * (cpl(ASIS) + cpl(REVERSED))[0] == pytest.approx(0.7489087989, abs=5e-11)


def test_reference_ranking():
    logps = ListLogps(np.asarray([-1.7, -2.6, -4.0]), np.zeros(3), np.asarray([2.0, 3.0, 1.0]))
    assert cpl_ranked(logps, alpha=0.1, lambda_=0.5) == pytest.approx(0.7287757400, abs=5e-11)


def test_reference_kl_step():
    one = np.ones((1, 1), dtype=bool)
    parts = (np.asarray([[x]]) for x in (-1.2, -0.7, -1.0, -1.1))
    assert cpl(TokenPairLogps(*parts, one, one), alpha=0.3, lambda_=1.0)[0] == pytest.approx(
        0.7871917248, abs=5e-11
    )


def test_the_bias_is_on_the_rejected_score_alone():
    up, down = np.asarray([2.0]), np.asarray([-3.0])
    assert segment_contrast(up, down, lambda_=0.5) == pytest.approx(np.log1p(np.exp(-1.5 - 2.0)))
    assert segment_contrast(down, up, lambda_=0.5) == pytest.approx(np.log1p(np.exp(1.0 + 3.0)))


def test_a_vanishing_temperature_gives_log_two():
    assert cpl(ASIS, alpha=1e-9) == pytest.approx(np.log(2), abs=1e-8)


@given(token_pair_logps())
def test_behaviour_cloning_is_the_mean_over_scored_steps(logps):
    plain = cpl(logps)
    for i in range(plain.size):
        won, lost = (
            -logps.chosen[i][logps.chosen_mask[i]],
            -logps.rejected[i][logps.rejected_mask[i]],
        )
        both = cpl(logps, bc_coeff=2.0)[i] - plain[i]
        assert both == pytest.approx(2.0 * np.concatenate([won, lost]).mean(), abs=1e-12)
        assert cpl(logps, bc_chosen_coeff=3.0)[i] - plain[i] == pytest.approx(
            3.0 * won.mean(), abs=1e-12
        )


def test_behaviour_cloning_leaves_the_reference_out():
    shifted = ASIS._replace(ref_chosen=FIRST - 1.0, ref_rejected=SECOND + 1.0)
    assert (cpl(shifted, bc_coeff=1.0) - cpl(shifted))[0] == pytest.approx(
        -np.concatenate([FIRST, SECOND]).mean()
    )


def test_a_pair_without_scored_steps_costs_a_coin_flip():
    nothing = np.zeros((1, 3), dtype=bool)
    empty = ASIS._replace(chosen_mask=nothing, rejected_mask=nothing)
    assert cpl(empty, bc_coeff=1.0, bc_chosen_coeff=1.0)[0] == pytest.approx(np.log(2))


@given(token_pair_logps(max_length=1), st.floats(0.05, 5.0))
def test_one_step_is_dpo(logps, alpha):
    pairs = PairLogps(
        chosen=logps.chosen[:, 0],
        rejected=logps.rejected[:, 0],
        ref_chosen=logps.ref_chosen[:, 0],
        ref_rejected=logps.ref_rejected[:, 0],
    )
    np.testing.assert_allclose(
        cpl(logps, alpha=alpha, lambda_=1.0), dpo(pairs, beta=alpha), atol=1e-12
    )


def test_a_list_of_two_is_a_pair():
    logps = ListLogps(np.asarray([[-1.7, -2.6]]), np.zeros((1, 2)), np.asarray([[1.0, 0.0]]))
    np.testing.assert_allclose(cpl_ranked(logps), cpl(ASIS), rtol=1e-12)


def test_tied_scores_count_half_each_way():
    values, reference = np.asarray([[-1.7, -2.6]]), np.zeros((1, 2))
    tie, up, down = (
        cpl_ranked(ListLogps(values, reference, np.asarray([s])))
        for s in ([3.0, 3.0], [1.0, 0.0], [0.0, 1.0])
    )
    np.testing.assert_allclose(tie, 0.5 * (up + down), rtol=1e-14)


def test_a_ranking_does_not_depend_on_the_order_of_its_list():
    rng = np.random.default_rng(0)
    logps, scores = -rng.random((5, 4)), rng.integers(0, 3, (5, 4)).astype(float)
    order = rng.permutation(4)
    shuffled = ListLogps(logps[:, order], np.zeros((5, 4)), scores[:, order])
    np.testing.assert_allclose(
        cpl_ranked(shuffled), cpl_ranked(ListLogps(logps, np.zeros((5, 4)), scores)), rtol=1e-12
    )


def test_a_ranking_divides_by_all_pairs_also_where_a_loss_underflows():
    """The authors' release divides by the number of losses that are not zero."""
    far = ListLogps(np.asarray([0.0, -1e5, -1e5]), np.zeros(3), np.asarray([2.0, 1.0, 0.0]))
    assert segment_contrast(np.asarray(0.0), np.asarray(-1e4), lambda_=1.0) == 0.0
    assert cpl_ranked(far, alpha=0.1, lambda_=1.0) == pytest.approx(np.log(2) / 3)


def test_regret_loss_is_the_cross_entropy_of_the_rater():
    rng = np.random.default_rng(1)
    advantages, mask = -rng.random((6, 2, 4)), np.arange(4) < rng.integers(1, 5, (6, 2, 1))
    prob = rng.random(6)
    regrets = segment_regret(advantages, mask, discount=0.8)
    p = regret_preference(regrets[:, 0], regrets[:, 1])
    expected = -prob * np.log(p) - (1 - prob) * np.log(1 - p)
    np.testing.assert_allclose(
        regret(advantages, mask, prob=prob, discount=0.8), expected, rtol=1e-12
    )
    swapped = regret(advantages[:, ::-1], mask[:, ::-1], prob=1 - prob, discount=0.8)
    np.testing.assert_allclose(swapped, expected, rtol=1e-12)


def test_regret_loss_on_every_array_library():
    advantages = -np.random.default_rng(2).random((3, 2, 4))
    expected = regret(advantages, prob=0.7)
    np.testing.assert_allclose(
        np.asarray(regret(array_api_strict.asarray(advantages), prob=0.7)),
        expected,
        rtol=1e-12,
    )
    tensor = torch.tensor(1e4 * advantages, requires_grad=True)
    regret(tensor, prob=0.7).sum().backward()
    assert tensor.grad is not None
    assert tensor.grad.isfinite().all()


def test_squared_error():
    actions, means = np.asarray([[[0.0, 1.0], [2.0, 0.0]]]), np.asarray([[[0.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_array_equal(squared_error_logps(actions, means), [[-1.0, -4.0]])
    logps = free(squared_error_logps(actions, means), squared_error_logps(actions, actions))
    assert cpl(logps, alpha=0.1, lambda_=1.0)[0] == pytest.approx(np.log1p(np.exp(0.5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_": 0.0}, "lambda_ must lie in"),
        ({"lambda_": 1.1}, "lambda_ must lie in"),
        ({"alpha": 0.0}, "alpha must be"),
        ({"discount": 1.5}, "discount must lie in"),
        ({"bc_coeff": -1.0}, "bc_coeff must be"),
        ({"bc_chosen_coeff": float("nan")}, "bc_chosen_coeff must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        cpl(ASIS, **options)


def test_bad_arrays():
    with pytest.raises(ValueError, match="T >= 1 steps"):
        cpl(free(np.zeros((2, 0)), np.zeros((2, 0))))
    with pytest.raises(ValueError, match="one shape"):
        cpl(ASIS._replace(rejected=SECOND[:, :2]))
    with pytest.raises(ValueError, match="booleans"):
        cpl(ASIS._replace(chosen_mask=np.ones((1, 3)), rejected_mask=np.ones((1, 3))))
    with pytest.raises(ValueError, match="at least two segments"):
        cpl_ranked(ListLogps(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros((2, 1))))
    with pytest.raises(ValueError, match=r"\(\.\.\., 2, T\)"):
        regret(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="one shape"):
        squared_error_logps(np.zeros((2, 3)), np.zeros((2, 2)))
