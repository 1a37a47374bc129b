"""Constrained policies against a general convex solver, and what is out of reach."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsim.policies import TabularPolicy
from prefsim.solvers import (
    ConvergenceWarning,
    constrained_dual,
    constrained_optimum,
    optimal_policy,
    separating_direction,
)

REWARDS = np.array([[[0.0, 1.0, 2.0, 3.0]], [[1.0, 0.0, 1.0, -1.0]]])
REFERENCE = np.log([[0.4, 0.3, 0.2, 0.1]])
SENSES = ("at_least", "equal", "at_most")


@pytest.mark.parametrize(
    ("thresholds", "sense", "multipliers", "policy", "value"),
    [
        (
            (1.4, 0.3),
            "at_least",
            (0.1840787641, 0),
            (0.2575777087, 0.2791632990, 0.2689402758, 0.1943187165),
            -0.0376387242,
        ),
        (
            (1.4, 0.3),
            "equal",
            (0.1646582958, -0.0427378426),
            (0.2565270452, 0.2912972731, 0.2478243182, 0.2043513635),
            None,
        ),
        (
            (1.4, 0.8),
            "equal",
            (0.36747543, 0.65491141),
            (0.26584391, 0.11220811, 0.57805203, 0.04389595),
            -0.17920572,
        ),
    ],
)
def test_values(thresholds, sense, multipliers, policy, value):
    found = constrained_optimum(REWARDS, REFERENCE, thresholds, beta=0.5, sense=sense)
    np.testing.assert_allclose(found.multipliers, multipliers, atol=6e-9)
    np.testing.assert_allclose(np.exp(found.log_policy[0]), policy, atol=6e-9)
    assert found.converged and found.feasible
    if value is not None:
        assert float(found.value) == pytest.approx(value, abs=6e-9)


def test_both_kinds_agree_where_both_constraints_bind():
    found = [
        constrained_optimum(REWARDS, REFERENCE, (1.4, 0.8), beta=0.5, sense=sense)
        for sense in ("at_least", "equal")
    ]
    np.testing.assert_allclose(found[0].multipliers, found[1].multipliers, atol=1e-9)


def by_a_general_solver(rewards, reference, thresholds, beta, senses, weights, shares):
    """The primal by cvxpy, with exponential cones."""
    cvxpy = pytest.importorskip("cvxpy")
    policy = cvxpy.Variable(reference.shape)
    kl = cvxpy.sum(cvxpy.multiply(shares[:, None], cvxpy.rel_entr(policy, np.exp(reference))))
    means = [cvxpy.sum(cvxpy.multiply(shares[:, None] * each, policy)) for each in rewards]
    compare = {
        "at_least": lambda x, y: x >= y,
        "equal": lambda x, y: x == y,
        "at_most": lambda x, y: x <= y,
    }
    kept = [
        compare[sense](mean, threshold)
        for sense, mean, threshold in zip(senses, means, thresholds, strict=True)
    ]
    rows = cvxpy.sum(policy, axis=1) == 1
    objective = sum(w * mean for w, mean in zip(weights, means, strict=True)) - beta * kl
    problem = cvxpy.Problem(cvxpy.Maximize(objective), [rows, *kept])
    problem.solve(solver="CLARABEL")
    return problem.status, problem.value, policy.value


@pytest.mark.parametrize("seed", range(6))
def test_the_primal_is_that_of_a_general_solver(seed):
    rng = np.random.default_rng(seed)
    m, shares = 1 + seed % 3, np.array([0.3, 0.7])
    rewards = rng.standard_normal((m, 2, 5))
    reference = np.log(rng.dirichlet(np.ones(5), 2))
    some = rng.dirichlet(np.ones(5), 2)
    thresholds = np.einsum("x,xy,mxy->m", shares, some, rewards)
    if seed == 5:
        thresholds = thresholds + 4.0
    senses, weights = rng.choice(SENSES, m).tolist(), rng.uniform(0, 1, m)
    if seed == 5:
        senses = ["at_least"] * m
    found = constrained_optimum(
        rewards,
        reference,
        thresholds,
        beta=0.6,
        sense=senses,
        weights=weights,
        context_probs=shares,
        infeasible="report",
    )
    status, value, policy = by_a_general_solver(
        rewards, reference, thresholds, 0.6, senses, weights, shares
    )
    if seed == 5:
        assert status == "infeasible" and not found.feasible
        return
    assert status == "optimal"
    assert float(found.value) == pytest.approx(value, abs=1e-7)
    np.testing.assert_allclose(np.exp(found.log_policy), policy, atol=1e-4)


@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from(SENSES), min_size=1, max_size=3),
    st.floats(0.05, 3.0),
)
@settings(max_examples=20, deadline=None)
def test_the_certificate_holds(seed, senses, beta):
    rng = np.random.default_rng(seed)
    rewards = rng.standard_normal((4, len(senses), 1, 6))
    reference = np.log(rng.dirichlet(np.ones(6), (4, 1)))
    thresholds = rng.standard_normal((4, len(senses)))
    found = constrained_optimum(
        rewards, reference, thresholds, beta=beta, sense=senses, infeasible="report"
    )
    told = separating_direction(rewards, reference, thresholds, sense=senses)
    np.testing.assert_array_equal(found.feasible, told.margin == 0)
    np.testing.assert_array_equal(np.isnan(found.gap), ~found.feasible)
    assert (found.value[~found.feasible] == -np.inf).all()
    beyond = found.achieved - thresholds
    for i, sense in enumerate(senses):
        kept = {"at_least": beyond[:, i] >= -1e-9, "at_most": beyond[:, i] <= 1e-9}
        ok = kept.get(sense, np.abs(beyond[:, i]) < 1e-9)
        assert ok[found.feasible].all()
        if sense != "equal":
            assert (found.multipliers[found.feasible, i] >= 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_margin_is_that_of_its_program(seed):
    """By duality, with cvxpy: how far, in all rewards together, the nearest policy misses."""
    cvxpy = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(seed)
    rewards, thresholds = rng.standard_normal((3, 2, 5)), 1.5 * rng.standard_normal(3)
    reference = np.log(rng.dirichlet(np.ones(5), 2))
    shares = rng.dirichlet(np.ones(2))
    told = separating_direction(rewards, reference, thresholds, sense=SENSES, context_probs=shares)
    policy = cvxpy.Variable((2, 5), nonneg=True)
    missed = []
    for each, threshold, sense in zip(rewards, thresholds, SENSES, strict=True):
        short = threshold - cvxpy.sum(cvxpy.multiply(shares[:, None] * each, policy))
        parts = {"at_least": cvxpy.pos(short), "at_most": cvxpy.neg(short)}
        missed.append(parts.get(sense, cvxpy.abs(short)))
    problem = cvxpy.Problem(cvxpy.Minimize(sum(missed)), [cvxpy.sum(policy, axis=1) == 1])
    assert float(told.margin) == pytest.approx(problem.solve(solver="CLARABEL"), abs=1e-7)


def test_what_is_out_of_reach_is_refused_in_words():
    message = r"thresholds of problem \(1,\) must be within reach .* got \[2.9, 0.5\]: .* by 0.65"
    with pytest.raises(ValueError, match=message):
        constrained_optimum(REWARDS, REFERENCE, [[1.0, 0.5], [2.9, 0.5]], beta=0.5)
    told = separating_direction(REWARDS, REFERENCE, [2.9, 0.5])
    np.testing.assert_allclose(told.direction, [1.0, 0.5], atol=1e-9)
    # Between the responses (2, 1) and (3, −1): 2 + ½ and 3 − ½ are both 2.5.
    assert float(told.margin) == pytest.approx(0.65, abs=1e-12)


def test_the_edge_of_what_can_be_reached_is_no_end():
    found = constrained_optimum(REWARDS, REFERENCE, [3.0, -1.0], beta=0.5, sense="equal")
    assert found.feasible and np.abs(found.multipliers).max() > 3
    assert np.exp(found.log_policy[0, 3]) == pytest.approx(1.0, abs=1e-9)
    with pytest.warns(ConvergenceWarning, match="the multipliers have no end"):
        constrained_optimum(
            REWARDS, REFERENCE, [3.0, -1.0], beta=0.5, sense="equal", max_iterations=3
        )


def test_responses_that_the_reference_never_gives_are_out_of_reach():
    reference = np.log([[0.5, 0.5]]).repeat(1, axis=0)
    with np.errstate(divide="ignore"):
        reference = np.log(np.array([[0.5, 0.5, 0.0]]))
    rewards = np.array([[[0.0, 1.0, 5.0]]])
    found = constrained_optimum(rewards, reference, [0.75], beta=1.0)
    assert found.log_policy[0, 2] == -np.inf
    assert float(found.achieved[0]) == pytest.approx(0.75)
    assert not constrained_optimum(
        rewards, reference, [2.0], beta=1.0, infeasible="report"
    ).feasible


def test_collinear_rewards_that_contradict_each_other_are_told():
    twins = np.stack([REWARDS[0], 2 * REWARDS[0] + 1])
    found = constrained_optimum(twins, REFERENCE, [1.4, 3.8], beta=0.5, sense="equal")
    np.testing.assert_allclose(found.achieved, [1.4, 3.8], atol=1e-9)
    other = constrained_optimum(
        twins, REFERENCE, [1.4, 3.801], beta=0.5, sense="equal", infeasible="report"
    )
    assert not other.feasible
    np.testing.assert_allclose(np.abs(other.separating), [1.0, 0.5], atol=1e-6)


def test_weights_alone_are_the_regularised_optimum():
    weights = np.array([0.7, 0.4])
    found = constrained_optimum(
        REWARDS, REFERENCE, [3.0, 3.0], beta=0.5, sense="at_most", weights=weights
    )
    total = np.einsum("m,mxy->xy", weights, REWARDS)
    expected = optimal_policy(total, np.exp(REFERENCE), beta=0.5)
    np.testing.assert_allclose(np.exp(found.log_policy), expected, atol=1e-12)
    np.testing.assert_array_equal(found.multipliers, 0.0)


def test_a_policy_is_a_reference():
    reference = TabularPolicy.from_logits(REFERENCE)
    found = constrained_optimum(REWARDS, reference, [1.4, 0.3], beta=0.5)
    assert float(found.multipliers[0]) == pytest.approx(0.1840787641, abs=1e-9)


def test_the_dual_on_torch_has_the_gradient_that_it_states():
    at = torch.tensor([0.3, 0.2], dtype=torch.float64, requires_grad=True)
    tables = (torch.tensor(each) for each in (REWARDS, REFERENCE, np.array([1.4, 0.3])))
    point = constrained_dual(at, *tables, beta=0.5, sense=["equal", "at_most"])
    (gradient,) = torch.autograd.grad(point.value, at)
    np.testing.assert_allclose(gradient, point.gradient.detach(), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": [1.0]}, r"thresholds must have trailing shape \(2\)"),
        ({"thresholds": [1.0, np.nan]}, "thresholds must be finite"),
        ({"rewards": REWARDS[0]}, r"rewards must have trailing shape \(any, 1, 4\)"),
        ({"rewards": REWARDS[:0]}, "rewards must hold at least one"),
        ({"ref_log_probs": REFERENCE[0]}, "ref_log_probs must have trailing shape"),
        ({"ref_log_probs": np.exp(REFERENCE)}, "ref_log_probs must hold the logarithms"),
        ({"weights": [1.0]}, r"weights must have trailing shape \(2\)"),
        ({"sense": "above"}, "sense must be one of"),
        ({"sense": ["equal"]}, "one for each of 2 rewards"),
        ({"beta": 0.0}, "beta must be"),
        ({"beta": np.ones(2), "thresholds": np.ones((3, 2))}, "shapes must broadcast"),
        ({"context_probs": [0.5, 0.5]}, "context_probs must have trailing shape"),
        ({"infeasible": "ignore"}, "infeasible must be one of"),
    ],
)
def test_bad_input(change, message):
    given_ = {"rewards": REWARDS, "ref_log_probs": REFERENCE, "thresholds": [1.0, 0.5], "beta": 0.5}
    with pytest.raises(ValueError, match=message):
        constrained_optimum(**(given_ | change))


def test_single_precision_is_what_it_rounds():
    rewards, reference = REWARDS.astype(np.float32), REFERENCE.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = constrained_optimum(rewards, reference, [1.4, 0.3], beta=0.5)
    assert float(found.multipliers[0]) == pytest.approx(0.1840787641, abs=1e-6)


def test_results_are_of_the_library_of_the_rewards():
    rewards, reference = (torch.tensor(each, dtype=torch.float32) for each in (REWARDS, REFERENCE))
    thresholds = [[1.4, 0.3], [2.9, 0.5]]
    found = constrained_optimum(rewards, reference, thresholds, beta=0.5, infeasible="report")
    assert found.feasible.dtype == torch.bool and found.feasible.tolist() == [True, False]
    told = separating_direction(rewards, reference, thresholds)
    assert {each.dtype for each in (*found[:6], found.separating, *told)} == {torch.float32}
    exact = constrained_optimum(REWARDS, reference, thresholds, beta=0.5, infeasible="report")
    assert exact.log_policy.dtype == torch.float32
    listed = constrained_optimum(REWARDS.tolist(), REFERENCE, thresholds[0], beta=0.5)
    assert isinstance(listed.value, np.ndarray) and listed.value.dtype == np.float64


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e12])
def test_rewards_of_any_size(size):
    rng = np.random.default_rng(3)
    rewards, reference = rng.normal(size=(2, 3, 4)), np.log(rng.dirichlet(np.ones(4), 3))
    level = np.array([0.3, 0.2])
    known = constrained_optimum(rewards, reference, level, beta=0.7)
    found = constrained_optimum(size * rewards, reference, size * level, beta=0.7 * size)
    assert found.converged
    np.testing.assert_allclose(found.achieved / size, known.achieved, rtol=1e-9)
    np.testing.assert_allclose(found.multipliers, known.multipliers, rtol=1e-7)
    np.testing.assert_allclose(found.value / size, known.value, rtol=1e-9)
    with pytest.raises(ValueError, match="within reach of a policy"):
        constrained_optimum(size * rewards, reference, [5.0 * size] * 2, beta=0.7 * size)
