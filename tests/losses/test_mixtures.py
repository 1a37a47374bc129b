"""Weighted sums of losses: their values, their optimum, their names."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.losses import Mixture, PairLogps, container_of
from prefsim.losses.catalogue import as_loss, couples_batch, reads_reference
from prefsim.losses.mixtures import terms_of
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit

dpo = functools.partial(losses.dpo, beta=0.5)
WEIGHTS = st.floats(1e-3, 1e3)
PAIRS = PairLogps.example()


@given(WEIGHTS, WEIGHTS, WEIGHTS)
def test_the_value_is_the_weighted_sum(first, second, third):
    mixed = Mixture([(first, dpo), (second, losses.sft), (third, losses.ipo)])
    expected = first * dpo(PAIRS) + second * losses.sft(PAIRS) + third * losses.ipo(PAIRS)
    np.testing.assert_allclose(mixed(PAIRS), expected, rtol=1e-14)


def test_it_is_the_loss_that_a_paper_writes_as_a_sum():
    """RPO is DPO and a term of imitation, whose weight it multiplies by β."""
    mixed = Mixture([(1.0, dpo), (0.3, losses.sft)])
    rpo = functools.partial(losses.rpo, beta=0.5, eta=0.6)
    np.testing.assert_allclose(mixed(PAIRS), rpo(PAIRS), rtol=1e-14)


def test_it_is_a_loss_like_any_other():
    mixed = Mixture([(1.0, dpo), (0.3, losses.sft)])
    assert container_of(mixed) is PairLogps
    assert not couples_batch(mixed)
    assert reads_reference(mixed)
    assert not reads_reference(Mixture([(1.0, losses.simpo), (0.3, losses.sft)]))
    assert couples_batch(Mixture([(1.0, dpo), (0.3, losses.aot)]))


def test_fit_by_name_is_fit_of_the_sum():
    start = TabularPolicy.uniform(1, 3)
    data = Comparisons([0, 0, 0, 0], [0, 1, 2, 1], [1, 2, 0, 0])
    named = fit(start, "dpo + 0.25*sft", data, reference=start)
    made = fit(start, Mixture([(1.0, losses.dpo), (0.25, losses.sft)]), data, reference=start)
    np.testing.assert_allclose(named.policy.probs, made.policy.probs, atol=1e-12)
    alone = fit(start, "dpo", data, reference=start)
    assert abs(named.policy.probs - alone.policy.probs).max() > 0.01


@given(WEIGHTS, WEIGHTS)
def test_names_with_weights_are_read(first, second):
    assert terms_of(f"{first!r} * mae+ {second!r}*sft") == [(first, "mae"), (second, "sft")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("dpo", [(1.0, "dpo")]),
        ("mae+sft", [(1.0, "mae"), (1.0, "sft")]),
        ("1e-1*dpo+1e+2*sft", [(0.1, "dpo"), (100.0, "sft")]),
        (" dpo + .5 * sft ", [(1.0, "dpo"), (0.5, "sft")]),
    ],
)
def test_forms_of_a_sum(text, found):
    assert terms_of(text) == found


@pytest.mark.parametrize(
    "text", ["", "dpo+", "+dpo", "2dpo", "dpo sft", "dpo-sft", "-1*dpo", "1e999*dpo", "dpo++sft"]
)
def test_what_is_no_sum_is_refused(text):
    with pytest.raises(ValueError, match=r"names with weights, such as dpo \+ 0.1\*sft, got"):
        terms_of(text)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "at least one term, got none"),
        ([(0.0, dpo)], "weight must be a finite number > 0, got 0.0"),
        ([(np.nan, dpo)], "weight must be a finite number > 0, got nan"),
        ([(1.0, dpo), (1.0, losses.kto)], "one kind of data, got PairLogps, UnpairedLogps"),
        ([(1.0, losses.running_bco())], "a running state, which it would not move"),
        ([(1.0, len)], "the first parameter of a loss must be annotated"),
    ],
)
def test_what_is_no_mixture_is_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        Mixture(terms)


def test_a_wrong_name_in_a_sum_is_told():
    with pytest.raises(ValueError, match="loss 'dop' is not known"):
        as_loss("dpo + 0.2*dop")
