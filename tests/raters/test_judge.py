"""A judge who is asked in both orders."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.checks import check_preference
from prefsim.numerics import sigmoid
from prefsim.raters import (
    both_orders,
    judge_logits,
    judged_preference,
    order_free_margin,
    pairwise_preference,
)
from prefsim.testing import betas, rewards, tables


@given(rewards(), betas(0.1, 5.0), st.floats(-3, 3), st.sampled_from(["prob", "logit"]))
def test_judged_preferences_are_complementary(reward, temperature, bias, average):
    check_preference(
        judged_preference(reward, temperature=temperature, position_bias=bias, average=average)
    )


@given(rewards(), betas(0.1, 5.0), st.floats(-3, 3))
def test_the_mean_of_log_odds_removes_any_bias(reward, temperature, bias):
    found = judged_preference(reward, temperature=temperature, position_bias=bias, average="logit")
    np.testing.assert_allclose(found, pairwise_preference(temperature * reward), atol=1e-13)


@given(
    tables((3,), low=-30.0, high=30.0),
    tables((3,), low=-30.0, high=30.0),
    st.sampled_from(["prob", "logit"]),
)
def test_both_orders_in_every_array_library(shown, swapped, average):
    expected = both_orders(shown, swapped, average=average)
    np.testing.assert_allclose(
        1 - both_orders(swapped, shown, average=average), expected, atol=1e-14
    )
    for how in (torch.tensor, array_api_strict.asarray):
        np.testing.assert_allclose(
            np.asarray(both_orders(how(shown), how(swapped), average=average)), expected, atol=1e-14
        )


def test_without_bias_the_two_averages_agree():
    reward = np.asarray([[0.0, 1.0, -2.0]])
    np.testing.assert_allclose(
        judged_preference(reward, average="prob"),
        judged_preference(reward, average="logit"),
        atol=1e-15,
    )


def test_option_logits_are_normalised_among_themselves():
    logits = np.asarray([[3.0, 1.0], [-1e4, 1e4]])
    np.testing.assert_allclose(
        sigmoid(judge_logits(logits)),
        np.exp(logits[:, 0] - np.logaddexp(logits[:, 0], logits[:, 1])),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: judge_logits(np.zeros(3)), r"option_logits must have trailing shape \(2\)"),
        (lambda: judge_logits(np.asarray([np.inf, 0.0])), "option_logits must be finite"),
        (lambda: both_orders(np.zeros(2), np.zeros(3)), "one shape"),
        (lambda: both_orders(np.asarray(np.nan), np.asarray(0.0)), "shown must be finite"),
        (
            lambda: both_orders(np.asarray(0.0), np.asarray(0.0), average="none"),
            "average must be one of 'prob', 'logit'",
        ),
        (lambda: judged_preference([0.0, np.nan]), "reward must be finite"),
        (
            lambda: judged_preference([0.0, 1.0], temperature=0.0),
            "temperature must be a finite number > 0",
        ),
        (
            lambda: judged_preference([0.0, 1.0], position_bias=np.inf),
            "position_bias must be a finite number",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@given(tables((3, 2), low=0.0, high=1.0), tables((3, 2), low=0.0, high=1.0), st.floats(-0.5, 0.5))
def test_a_constant_for_whatever_stands_first_cancels(shown, swapped, bias):
    first, second = np.asarray([bias, 0.0]), np.asarray([0.0, bias])
    expected = order_free_margin(shown, swapped)
    np.testing.assert_allclose(
        order_free_margin(shown + first, swapped + second), expected, atol=1e-14
    )
    np.testing.assert_allclose(
        order_free_margin(swapped[:, ::-1], shown[:, ::-1]), -expected, atol=1e-14
    )
    for how in (torch.tensor, array_api_strict.asarray):
        found = order_free_margin(how(shown), how(swapped))
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-14)


def test_margins_of_two_probabilities():
    with pytest.raises(ValueError, match="shown must"):
        order_free_margin(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="swapped"):
        order_free_margin(np.ones((2, 2)), np.ones((3, 2)))
