"""Losses with kinks: fit ends at their minimum, which linear and convex programs know."""

import functools
import itertools
import warnings

import cvxpy as cp
import numpy as np
import pytest
import scipy.optimize
import torch

from prefsim import losses, use_backend
from prefsim.containers import PairLogps
from prefsim.data import Comparisons
from prefsim.losses.registry import container_of, loss_functions
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import ConvergenceWarning, fit, kl_penalty, objective
from prefsim.solvers.fit_problem import problem_of
from prefsim.solvers.optimisers.kink_pieces import has_kinks
from prefsim.solvers.optimisers.kinked_sums import minimise_sum
from prefsim.solvers.optimisers.newton import POLISHING_STEPS
from prefsim.solvers.pair_costs import pair_costs
from prefsim.worlds import ContextualBandit

WORLD = ContextualBandit.random(3, 4, seed=0)
UNIFORM = TabularPolicy.uniform(3, 4)
POPULATION = Comparisons.population(WORLD, UNIFORM)
FEATURES = np.random.default_rng(1).normal(size=(3, 4, 2))


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(*arguments, **options)


def rows_of(data):
    """Each comparison as it stands and reversed, with its weight."""
    for prompt, a, b, prob, weight in zip(
        data.prompt, data.chosen, data.rejected, data.prob, data.weight, strict=True
    ):
        yield prompt, a, b, weight * prob
        yield prompt, b, a, weight * (1 - prob)


def least_hinge(data, features, beta):
    """The least mean hinge loss of margins that are linear in weights, by a linear program."""
    gaps, weights = zip(
        *(((features[x, a] - features[x, b]), w) for x, a, b, w in rows_of(data)), strict=True
    )
    n, d = len(gaps), features.shape[-1]
    result = scipy.optimize.linprog(
        np.r_[np.zeros(d), weights],
        A_ub=np.hstack([-beta * np.asarray(gaps), -np.eye(n)]),
        b_ub=-np.ones(n),
        bounds=[(None, None)] * d + [(0, None)] * n,
    )
    return result.fun


def is_a_minimum(result, loss, data, reference, far=1e-4):
    """Whether no parameter and no random direction leads down from a fit."""
    rng = np.random.default_rng(0)
    size = result.policy.parameters.shape[-1]
    ways = np.vstack([np.eye(size), -np.eye(size), rng.normal(size=(20, size))])
    moved = result.policy.with_parameters(result.policy.parameters + far * ways)
    values = objective(moved, loss, data, reference=reference)
    return (values >= result.value - 1e-13).all()


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_a_table_under_the_hinge(beta):
    hinge = functools.partial(losses.hinge, beta=beta)
    result = fit(UNIFORM, hinge, POPULATION, reference=UNIFORM)
    table = np.eye(12).reshape(3, 4, 12)
    assert result.converged and not result.diverges
    np.testing.assert_allclose(result.value, least_hinge(POPULATION, table, beta), rtol=1e-9)


def test_weights_under_the_hinge():
    policy = LogLinearPolicy.from_features(FEATURES)
    result = fit(policy, losses.hinge, POPULATION, reference=UNIFORM)
    assert result.converged
    np.testing.assert_allclose(result.value, least_hinge(POPULATION, FEATURES, 0.1), rtol=1e-9)


def test_each_member_of_a_batch_of_betas_and_weights():
    betas = np.asarray([0.2, 1.0])
    hinge = functools.partial(losses.hinge, beta=torch.as_tensor(betas)[:, None])
    result = fit(UNIFORM, hinge, POPULATION, reference=UNIFORM)
    assert result.converged and result.grad_norm.shape == (2,)
    for member, beta in enumerate(betas):
        one = fit(UNIFORM, functools.partial(losses.hinge, beta=beta), POPULATION, reference=None)
        np.testing.assert_allclose(result.value[member], one.value, rtol=1e-12)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(POPULATION)), size=2)
    data = Comparisons(
        POPULATION.prompt, POPULATION.chosen, POPULATION.rejected, POPULATION.prob, weights
    )
    result = fit(UNIFORM, losses.hinge, data, reference=UNIFORM)
    assert result.converged
    table = np.eye(12).reshape(3, 4, 12)
    for member, weight in enumerate(weights):
        alone = Comparisons(data.prompt, data.chosen, data.rejected, data.prob, weight)
        np.testing.assert_allclose(result.value[member], least_hinge(alone, table, 0.1), rtol=1e-9)


def test_the_flip_corrected_hinge_is_the_hinge_of_corrected_labels():
    rate = 0.1
    inside = Comparisons([0] * 3, [0, 1, 2], [1, 2, 0], prob=[0.8, 0.7, 0.35])
    robust = functools.partial(losses.robust_hinge, beta=0.5, flip_rate=rate)
    reference = TabularPolicy.uniform(1, 3)
    result = fit(reference, robust, inside, reference=reference)
    corrected = inside.relabelled((inside.prob - rate) / (1 - 2 * rate))
    assert result.converged
    np.testing.assert_allclose(
        result.value, least_hinge(corrected, np.eye(3)[None], 0.5), rtol=1e-9
    )
    # Labels surer than the flips allow are worth a loss without bound.
    outside = Comparisons([0], [0], [1], prob=[0.95])
    assert quietly(reference, robust, outside, reference=reference).diverges


def convex_values(data, logits):
    """Of each row its weight and cvxpy's log-probabilities, up to the sum of the convex part."""
    for x, a, b, w in rows_of(data):
        if w > 0:
            yield w, logits[x, a], logits[x, b], cp.log_sum_exp(logits[x])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["slic", "rrhf", "dpop"])
def test_losses_of_log_probabilities_and_margins(name, seed):
    loss = loss_functions()[name]
    data = Comparisons.population(ContextualBandit.random(3, 4, seed=seed), UNIFORM)
    if name == "dpop":
        loss = functools.partial(loss, beta=1.0, penalty=0.5)
    logits = cp.Variable((3, 4))
    total = 0
    for w, a, b, norm in convex_values(data, logits):
        if name == "dpop":
            fall = cp.pos(norm - a - np.log(4))
            total += w * cp.logistic(-(a - b) + 0.5 * fall)
        else:
            delta = 1.0 if name == "slic" else 0.0
            total += w * (cp.pos(delta - (a - b)) + 0.1 * (norm - a))
    if name == "slic":
        loss = functools.partial(loss, delta=1.0, lambda_=0.1)
    if name == "rrhf":
        loss = functools.partial(loss, lambda_=0.1)
    expected = cp.Problem(cp.Minimize(total)).solve(solver=cp.CLARABEL)
    result = fit(UNIFORM, loss, data, reference=UNIFORM)
    assert result.converged and not result.diverges
    np.testing.assert_allclose(result.value, expected, rtol=1e-7)
    assert is_a_minimum(result, loss, data, UNIFORM)


def test_kinks_of_a_loss_of_your_own_at_any_margin():
    def to_targets(logps: PairLogps):
        margin = logps.chosen - logps.rejected
        return abs(margin - logps.chosen_score) + 0.01 * (margin - logps.chosen_score) ** 2

    targets, weights = np.asarray([-1.0, 0.3, 2.0]), np.asarray([0.3, 0.3, 0.4])
    data = Comparisons(
        [0] * 3, [0] * 3, [1] * 3, weight=weights, chosen_score=targets, rejected_score=[0.0] * 3
    )
    result = fit(TabularPolicy.uniform(1, 2), to_targets, data, reference=None)
    assert result.converged and result.grad_norm <= 1e-10
    # The weighted median.
    logits = result.policy.logits[0]
    np.testing.assert_allclose(logits[0] - logits[1], 0.3, atol=1e-12)


def test_a_kink_that_bends_down_is_no_minimum():
    def repelled(logps: PairLogps):
        margin = logps.chosen - logps.rejected
        return 0.1 * margin**2 - abs(margin - 1e-3)

    data = Comparisons([0], [0], [1])
    result = fit(TabularPolicy.uniform(1, 2), repelled, data, reference=None)
    logits = result.policy.logits[0]
    assert result.converged
    assert abs(abs(logits[0] - logits[1]) - 5) < 1e-6


def test_a_smooth_penalty_beside_kinks():
    penalty = kl_penalty(UNIFORM, weight=0.02)
    result = fit(UNIFORM, losses.hinge, POPULATION, reference=UNIFORM, penalty=penalty)
    assert result.converged
    for sign, at in itertools.product((-1e-4, 1e-4), np.eye(12).reshape(12, 3, 4)):
        moved = TabularPolicy(result.policy.logits + sign * at)
        value = objective(moved, losses.hinge, POPULATION, reference=UNIFORM, penalty=penalty)
        assert value >= result.value - 1e-13


def test_in_single_precision_a_kink_is_certified_as_near_as_it_can_be_held():
    with use_backend("numpy", dtype="float32"):
        reference = TabularPolicy.uniform(3, 4)
        result = fit(reference, losses.hinge, POPULATION, reference=reference)
    assert result.policy.logits.dtype == np.float32
    assert result.converged
    exact = fit(UNIFORM, losses.hinge, POPULATION, reference=UNIFORM).value
    np.testing.assert_allclose(result.value, exact, rtol=1e-6)


def test_large_tables_are_solved_by_contexts():
    world = ContextualBandit.random(60, 8, seed=2)
    reference = TabularPolicy.uniform(60, 8)
    data = Comparisons.population(world, reference)
    result = fit(reference, losses.hinge, data, reference=reference)
    assert result.converged and result.policy.logits.size > 400
    expected = least_hinge(data, np.eye(480).reshape(60, 8, 480), 0.1)
    np.testing.assert_allclose(result.value, expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [10, 41])
def test_what_was_not_reached_says_so_and_is_the_best_that_was_found(steps):
    """The forty-first step is the first that knows of kinks."""
    reference = TabularPolicy.uniform(5, 10)
    data = Comparisons.population(ContextualBandit.random(5, 10, seed=0), reference)
    said = f"fit stopped after {steps} steps.*best found.*more steps"
    with pytest.warns(ConvergenceWarning, match=said):
        result = fit(reference, losses.hinge, data, reference=reference, max_iterations=steps)
    assert not result.converged and not result.diverges
    assert result.history.shape == (steps, 2)
    at_start = objective(reference, losses.hinge, data, reference=reference)
    np.testing.assert_allclose(result.history[0, 0], at_start, rtol=1e-14)
    assert result.value <= result.history[:, 0].min()


@pytest.mark.parametrize("steps", [0, 1, 3, 9])
def test_the_late_step_along_kinks_is_the_mean_of_the_last_ones(steps):
    problem, start = problem_of(UNIFORM, losses.hinge, POPULATION, UNIFORM, None)
    total = pair_costs(problem, losses.hinge, start)
    ends = [
        minimise_sum(
            total,
            start.reshape(total.shape),
            tolerance=1e-10,
            max_iterations=most,
            which=np.ones(total.shape[0], dtype=bool),
        )
        for most in (steps, max(0, steps - POLISHING_STEPS))
    ]
    made = ends[0].parameters - ends[1].parameters
    assert ends[0].iterations == len(ends[0].history) == steps
    np.testing.assert_allclose(ends[0].late_step, made / max(1, min(steps, POLISHING_STEPS)))


KINKED = {"dpop", "hinge", "p3o", "robust_hinge", "rrhf", "slic"}


def test_which_losses_have_kinks():
    data = Comparisons(
        [0, 0],
        [0, 1],
        [1, 2],
        chosen_score=[0.8, 0.7],
        rejected_score=[0.2, 0.1],
        old_chosen=[-1.0, -1.2],
        old_rejected=[-1.1, -0.9],
    )
    start = TabularPolicy([[0.3, 0.1, -0.2]])
    found = set()
    for name, loss in loss_functions().items():
        if container_of(loss) is PairLogps:
            problem, theta = problem_of(start, loss, data, TabularPolicy.uniform(1, 3), None)
            total = pair_costs(problem, loss, theta)
            if total is not None and has_kinks(total, theta.reshape(total.shape)):
                found.add(name)
    assert found == KINKED
