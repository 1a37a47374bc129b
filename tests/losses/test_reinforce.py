"""The plain policy gradient: right on policy, whatever the baseline; elsewhere off policy."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.data import Rankings
from prefsim.gradients import gradient
from prefsim.losses import ListLogps
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import gradient_descent, objective, optimal_policy
from prefsim.solvers.optimisers.policy_gradient import off_policy_limit

REWARD = np.array([1.0, 0.5, 0.0])
REFERENCE = TabularPolicy.from_probs([[0.5, 0.3, 0.2]])
HERE = TabularPolicy.from_probs([[0.2, 0.5, 0.3]])
BEHAVIOUR = np.array([0.1, 0.2, 0.7])


def drawn_from(probs):
    """All responses of a policy, each with its probability."""
    each = np.arange(3)[:, None]
    return Rankings(np.zeros(3, dtype=int), each, REWARD[:, None], probs)


@pytest.mark.parametrize("baseline", [0.0, -3.0])
def test_on_policy_it_is_the_policy_gradient(baseline):
    loss = functools.partial(losses.reinforce, beta=0.5, baseline=baseline)
    data = drawn_from(HERE.probs[0])

    def value(logits):
        return objective(TabularPolicy(log_softmax(logits)), loss, data, reference=REFERENCE)

    found = gradient(value, HERE.log_probs)
    probs = HERE.probs[0]
    advantage = REWARD - 0.5 * np.log(probs / REFERENCE.probs[0])
    np.testing.assert_allclose(
        found[0], -probs * (advantage - probs @ advantage), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("baseline", [0.0, float(REWARD @ BEHAVIOUR)])
def test_off_policy_it_ends_elsewhere(baseline):
    found, _ = gradient_descent(
        REFERENCE,
        functools.partial(losses.reinforce, beta=0.5, baseline=baseline),
        drawn_from(BEHAVIOUR),
        reference=REFERENCE,
        step=1.0,
        iterations=2000,
    )
    log_reference = REFERENCE.log_probs[0]
    limit = off_policy_limit(REWARD, np.log(BEHAVIOUR), log_reference, beta=0.5, baseline=baseline)
    np.testing.assert_allclose(found.policy.probs[0], np.exp(limit), atol=1e-9)
    best = optimal_policy(REWARD[None], REFERENCE.probs, beta=0.5)
    assert np.abs(found.policy.probs - best).sum() / 2 > 0.1


def test_several_responses_are_the_mean_of_each_by_itself():
    lists = ListLogps.example()
    each = [
        losses.reinforce(ListLogps(*(part[:, k : k + 1] for part in lists)), baseline=0.2)
        for k in range(lists.logps.shape[1])
    ]
    assert len(each) > 2
    np.testing.assert_allclose(
        losses.reinforce(lists, baseline=0.2), np.mean(each, axis=0), rtol=1e-12
    )


def test_with_the_mean_of_the_others_as_baseline_it_is_half_of_copg():
    lists = ListLogps.example()
    first, second = (ListLogps(*(part[:, k : k + 1] for part in lists)) for k in (0, 1))

    def alone(logps, other):
        # The baseline of each row is the regularised reward of the other response.
        worth = other.scores - 0.3 * (other.logps - other.ref_logps)
        shifted = logps._replace(scores=logps.scores - worth)
        return losses.reinforce(shifted, beta=0.3)

    pair = ListLogps(*(part[:, :2] for part in lists))
    np.testing.assert_allclose(
        alone(first, second) + alone(second, first),
        losses.copg_group(pair, beta=0.3, form="gradient"),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"beta": -1.0}, "beta must be a finite number >= 0"),
        ({}, {"baseline": np.nan}, "baseline must be a finite number"),
        ({"scores": np.zeros((6, 2))}, {}, "must have one shape"),
        ({name: np.zeros((6, 0)) for name in ListLogps._fields}, {}, "at least one response"),
    ],
)
def test_bad_input(change, options, message):
    with pytest.raises(ValueError, match=message):
        losses.reinforce(ListLogps.example()._replace(**change), **options)
