"""Golden values of arXiv:2406.19185.

The two forms of the loss, the toy bandit, its exact gradients and where they end.
"""

import functools

import numpy as np
import pytest

from paper_repros import _copg_experiments as experiments
from paper_repros import copg as paper
from prefsim import losses
from prefsim.data import ScoredPairs
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy, gradient_descent
from prefsim.solvers.optimisers.policy_gradient import (
    contrastive_gradient,
    off_policy_limit,
    regularised_reward,
)
from prefsim.worlds import ContextualBandit

TOY = experiments.TOY
PAIR = losses.PairLogps(
    *np.asarray([[-2.0], [-3.0], [-2.5], [-2.8]]), chosen_score=np.asarray([1.0]), rejected_score=np.asarray([0.2])
)  # fmt: skip


def test_golden_pair():
    gap = losses.copg(PAIR, beta=0.1, form="gradient")[0]
    assert gap == pytest.approx(-0.73, rel=1e-14)
    square = losses.copg(PAIR, beta=0.1)[0]
    assert square == pytest.approx(2.6645, rel=1e-14)
    assert 0.2 * square == pytest.approx(0.5329, rel=1e-14)


def test_golden_optimum():
    log_policy, log_z = gibbs_log_policy(TOY.reward, TOY.log_reference, beta=TOY.beta)
    np.testing.assert_allclose(
        np.exp(log_policy), [0.6652409558, 0.2447284711, 0.0900305732], atol=5e-11
    )
    assert TOY.beta * log_z == pytest.approx(0.6544968379, abs=5e-11)
    np.testing.assert_allclose(
        regularised_reward(TOY.reward, log_policy, TOY.log_reference, beta=TOY.beta),
        TOY.beta * log_z,
        rtol=1e-14,
    )


@pytest.mark.parametrize(
    ("baseline", "limit"),
    [(0.0, (0.36835765, 0.3589834, 0.27265895)), (0.2, (0.43969713, 0.35567714, 0.20462573))],
)
def test_golden_wrong_limits(baseline, limit):
    found = off_policy_limit(
        TOY.reward, TOY.log_behaviour, TOY.log_reference, beta=TOY.beta, baseline=baseline
    )
    np.testing.assert_allclose(np.exp(found), limit, atol=6e-9)
    name = "no baseline" if baseline == 0 else "b = E_μ R"
    np.testing.assert_allclose(experiments.limits(TOY)[name], limit, atol=6e-9)


def test_golden_direction():
    advantage = regularised_reward(
        TOY.reward, np.log([0.2, 0.5, 0.3]), TOY.log_reference, beta=TOY.beta
    )
    expected = [0.2067083722, 0.0301585980, -0.2368669702]
    np.testing.assert_allclose(
        contrastive_gradient(advantage, TOY.log_behaviour), expected, atol=5e-11
    )


def test_the_loss_itself_descends_to_the_optimum():
    world, start = ContextualBandit(reward=TOY.reward[None]), TabularPolicy.uniform(1, 3)
    data = ScoredPairs.population(world, TabularPolicy.from_logits(TOY.log_behaviour[None]))
    for form in ("square", "gradient"):
        loss = functools.partial(losses.copg, beta=TOY.beta, form=form)
        found, _ = gradient_descent(start, loss, data, reference=start, step=1.0, iterations=400)
        np.testing.assert_allclose(found.policy.probs[0], experiments.optimum(TOY), atol=1e-10)


def test_a_sample_that_connects_all_responses_is_enough():
    # Rewards are seen without noise, so that the regression of a tabular policy has no error to
    # average away.
    world, reference = ContextualBandit.random(2, 4, seed=0), TabularPolicy.random(2, 4, seed=1)
    data = ScoredPairs.sample(world, 60, seed=2, policy=TabularPolicy.uniform(2, 4))
    found = fit(reference, functools.partial(losses.copg, beta=0.3), data, reference=reference)
    np.testing.assert_allclose(
        found.policy.log_probs,
        gibbs_log_policy(world.reward, reference.log_probs, beta=0.3)[0],
        atol=1e-10,
    )


GROUP = losses.ListLogps(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.copg(PAIR, beta=0.0), "beta must be a finite number > 0"),
        (
            lambda: losses.copg(PAIR, beta=-0.1, form="gradient"),
            "beta must be a finite number >= 0",
        ),
        (
            lambda: losses.copg(PAIR, form="cube"),
            "form must be one of 'square', 'gradient', got 'cube'",
        ),
        (
            lambda: losses.copg(PAIR._replace(chosen_score=None)),
            "chosen_score is needed by this loss, got None",
        ),
        (lambda: losses.copg(PAIR._replace(chosen_score=np.zeros(2))), "one shape"),
        (
            lambda: losses.copg_group(GROUP),
            r"at least two responses on its last axis to contrast, got shape \(1, 1\)",
        ),
        (lambda: losses.copg_group(GROUP._replace(scores=np.zeros((1, 2)))), "one shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_a_penalty_the_gradient_form_is_the_plain_contrast():
    assert losses.copg(PAIR, beta=0.0, form="gradient")[0] == pytest.approx(-0.8)


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 56
