"""Comparisons for a policy that answers and revises."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.data import Comparisons, Revisions
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective, solve_self_improvement
from prefsim.worlds import ContextualBandit

PAIRS = Comparisons([0, 1], [0, 2], [1, 1], prob=[1.0, 1.0])
RNG = np.random.default_rng(0)
GENERATOR, IMPROVER = RNG.dirichlet(np.ones(3), size=2), RNG.dirichlet(np.ones(3), size=(2, 3))


def data(pairs=PAIRS):
    return Revisions(pairs, n_contexts=2, n_responses=3)


def test_each_column_is_the_log_probability_it_is_named_after():
    rows = data()
    policy = rows.joint_policy(GENERATOR, IMPROVER)
    logps, weight = rows.examples(policy, None, losses.SelfImprovementLogps)
    np.testing.assert_allclose(weight, 0.5)
    for i, (x, w, r) in enumerate(zip(PAIRS.prompt, PAIRS.chosen, PAIRS.rejected, strict=True)):
        row = {name: float(np.exp(column[i])) for name, column in logps._asdict().items()}
        assert row["chosen"] == pytest.approx(GENERATOR[x, w]) and row["rejected"] == pytest.approx(
            GENERATOR[x, r]
        )
        assert row["chosen_from_rejected"] == pytest.approx(IMPROVER[x, r, w])
        assert row["rejected_from_chosen"] == pytest.approx(IMPROVER[x, w, r])
        assert row["chosen_from_chosen"] == pytest.approx(IMPROVER[x, w, w])
        assert row["rejected_from_rejected"] == pytest.approx(IMPROVER[x, r, r])
        assert row["ref_chosen"] == row["ref_chosen_from_chosen"] == 1.0


def test_soft_labels_are_the_pair_both_ways():
    soft = data(Comparisons([0], [0], [1], prob=[0.3]))
    both = data(Comparisons([0, 0], [0, 1], [1, 0], weight=[0.3, 0.7]))
    policy, behind = soft.joint_policy(GENERATOR, IMPROVER), soft.joint_policy(GENERATOR[::-1])
    values = [objective(policy, losses.srpo, rows, reference=behind) for rows in (soft, both)]
    np.testing.assert_allclose(*values, rtol=1e-14)


def test_the_joint_policy_splits_into_what_it_was_made_of():
    rows = data()
    for found, expected in zip(
        rows.split(rows.joint_policy(GENERATOR, IMPROVER)), (GENERATOR, IMPROVER), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    _, improver = rows.split(rows.joint_policy(GENERATOR))
    np.testing.assert_allclose(
        improver, np.broadcast_to(GENERATOR[:, None, :], (2, 3, 3)), rtol=1e-14
    )


def test_two_contexts_are_two_problems():
    world = ContextualBandit.random(2, 3, seed=1)
    rows = data(Comparisons.population(world, TabularPolicy.from_probs(GENERATOR)))
    behind = rows.joint_policy(GENERATOR, IMPROVER)
    found = rows.split(
        fit(behind, functools.partial(losses.srpo, beta=0.3), rows, reference=behind).policy
    )
    exact = solve_self_improvement(
        world.preference, GENERATOR, beta=0.3, improver_reference=IMPROVER
    )
    np.testing.assert_allclose(found[0], exact.generator, atol=1e-11)
    np.testing.assert_allclose(found[1], exact.improver, atol=1e-11)


def test_a_response_outside_the_support_is_no_obstacle():
    table = np.array([[0.5, 0.5, 0.0]])
    world = ContextualBandit(reward=[[0.0, 1.0, 2.0]])
    rows = Revisions(
        Comparisons.population(world, TabularPolicy.from_probs(table)), n_contexts=1, n_responses=3
    )
    policy = rows.joint_policy(table)
    assert np.isfinite(objective(policy, losses.srpo, rows, reference=policy))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Revisions(PAIRS, n_contexts=0, n_responses=3),
            "n_contexts must be an integer >= 1",
        ),
        (
            lambda: Revisions(PAIRS, n_contexts=1, n_responses=3),
            "prompt must be >= 0 and < 1, got 1",
        ),
        (
            lambda: Revisions(PAIRS, n_contexts=2, n_responses=2),
            "chosen must be >= 0 and < 2, got 2",
        ),
        (
            lambda: Revisions(Comparisons([0], [0], [2]), n_contexts=1, n_responses=2),
            "rejected must be >= 0 and < 2, got 2",
        ),
        (
            lambda: data().joint_policy(GENERATOR[:1]),
            r"generator must have trailing shape \(2, 3\)",
        ),
        (
            lambda: data().joint_policy(GENERATOR, IMPROVER[:, :2]),
            r"improver must have trailing shape \(2, 3, 3\)",
        ),
        (lambda: data().joint_policy(GENERATOR, 2 * IMPROVER), "improver must sum to 1"),
        (
            lambda: data().split(TabularPolicy.uniform(2, 3)),
            r"policy.probs must have trailing shape \(8, 3\)",
        ),
        (
            lambda: fit(data().joint_policy(GENERATOR), losses.dpo, data()),
            "Revisions feed losses of SelfImprovementLogps",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
