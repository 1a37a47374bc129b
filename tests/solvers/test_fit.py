"""fit: to the closed form, on every policy, in batches, and loudly where there is no minimum."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsim import losses, use_backend
from prefsim.data import Comparisons, Feedback, Rankings
from prefsim.policies import LogLinearPolicy, NetworkPolicy, TabularPolicy, TokenTreePolicy
from prefsim.solvers import (
    ConvergenceWarning,
    fit,
    gradient_descent,
    objective,
    optimal_policy,
)
from prefsim.solvers.context_blocks import minimised_by_contexts
from prefsim.solvers.equal_rows import merged
from prefsim.solvers.fit_problem import problem_of, sees_margins
from prefsim.solvers.optimisers.newton import value_and_gradient
from prefsim.worlds import ContextualBandit, TokenTree


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.sampled_from([0.2, 0.5, 2.0]), st.sampled_from([0.3, 1.0, 5.0]))
def test_population_dpo_is_the_closed_form(seed, beta, concentration):
    rng = np.random.default_rng(seed)
    r = rng.standard_normal((5, 10))
    reference = TabularPolicy.random(5, 10, seed=rng, concentration=concentration)
    data = Comparisons.population(ContextualBandit(reward=r), reference)
    # Rows of tiny weight put the optimum below any fixed gradient tolerance: the fit polishes to
    # rounding.
    result = fit(
        reference,
        functools.partial(losses.dpo, beta=beta),
        data,
        reference=reference,
        tolerance=1e-12,
    )
    best = optimal_policy(r, reference.probs, beta=beta)
    np.testing.assert_allclose(result.policy.probs, best, atol=1e-10)
    assert result.converged and result.grad_norm <= 1e-12


@pytest.mark.parametrize(
    "divergence", ["forward_kl", "jensen_shannon", "alpha", "mixed_chi_squared"]
)
def test_population_f_dpo_is_the_closed_form(divergence):
    r, reference = (
        np.random.default_rng(0).standard_normal((2, 5)),
        TabularPolicy.random(2, 5, seed=1, concentration=5.0),
    )
    data = Comparisons.population(ContextualBandit(reward=r), reference)
    result = fit(
        reference,
        functools.partial(losses.f_dpo, beta=0.7, divergence=divergence),
        data,
        reference=reference,
    )
    np.testing.assert_allclose(
        result.policy.probs,
        optimal_policy(r, reference.probs, beta=0.7, divergence=divergence),
        atol=1e-10,
    )


def test_every_kind_of_policy_reaches_the_optimum():
    features = np.random.default_rng(0).standard_normal((3, 4, 2))
    r = features @ np.asarray([0.7, -1.1])
    world, uniform = ContextualBandit(reward=r), TabularPolicy.uniform(3, 4)
    data = Comparisons.population(world, uniform)
    best = optimal_policy(r, uniform.probs, beta=0.5)
    loss = functools.partial(losses.dpo, beta=0.5)
    loglinear = fit(LogLinearPolicy.from_features(features), loss, data, reference=uniform)
    np.testing.assert_allclose(loglinear.policy.probs, best, atol=1e-12)
    np.testing.assert_allclose(loglinear.policy.weights, np.asarray([1.4, -2.2]), atol=1e-10)
    network = fit(
        NetworkPolicy.mlp(np.eye(3), 4, hidden=(6,), seed=0), loss, data, reference=uniform
    )
    np.testing.assert_allclose(network.policy.probs.numpy(), best, atol=1e-9)
    tree = TokenTree.random(2, 3, seed=0, n_contexts=2, end_token=1)
    start = TokenTreePolicy.random(tree, seed=1)
    token = fit(start, loss, Comparisons.population(tree.to_bandit(), start), reference=start)
    np.testing.assert_allclose(
        token.policy.probs, optimal_policy(tree.reward, start.probs, beta=0.5), atol=1e-11
    )


def test_a_thousand_bandits_in_one_call():
    r = np.random.default_rng(0).standard_normal((1000, 2, 4))
    reference = TabularPolicy.random(2, 4, seed=1, concentration=5.0)
    data = Comparisons.population(ContextualBandit(reward=r), reference)
    result = fit(reference, functools.partial(losses.dpo, beta=0.5), data, reference=reference)
    assert result.policy.probs.shape == (1000, 2, 4) and result.grad_norm.shape == (1000,)
    best = optimal_policy(r, np.broadcast_to(reference.probs, r.shape), beta=0.5)
    np.testing.assert_allclose(result.policy.probs, best, atol=1e-10)


def test_a_batch_equals_its_members():
    worlds = [ContextualBandit.random(2, 3, seed=s) for s in range(3)]
    reference = TabularPolicy.random(2, 3, seed=9)
    stacked = ContextualBandit(reward=np.stack([w.reward for w in worlds]))
    loss = functools.partial(losses.ipo, tau=0.3)
    together = fit(reference, loss, Comparisons.population(stacked, reference), reference=reference)
    for i, world in enumerate(worlds):
        alone = fit(reference, loss, Comparisons.population(world, reference), reference=reference)
        np.testing.assert_allclose(together.policy.probs[i], alone.policy.probs, atol=1e-11)
        np.testing.assert_allclose(together.value[i], alone.value, rtol=1e-12)


def test_a_large_problem_takes_the_quasi_newton_path():
    r = np.random.default_rng(0).standard_normal((80, 8))
    reference = TabularPolicy.uniform(80, 8)
    result = fit(
        reference,
        functools.partial(losses.dpo, beta=0.5),
        Comparisons.population(ContextualBandit(reward=r), reference),
        reference=reference,
    )
    np.testing.assert_allclose(
        result.policy.probs, optimal_policy(r, reference.probs, beta=0.5), atol=1e-8
    )


def test_torch_in_torch_out_with_the_same_numbers():
    r = np.random.default_rng(0).standard_normal((2, 3))
    expected = fit_small(r)
    assert isinstance(expected, np.ndarray)
    with use_backend("torch"):
        found = fit_small(r)
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def fit_small(r):
    reference = TabularPolicy.uniform(2, 3)
    data = Comparisons.population(ContextualBandit(reward=r), reference)
    return fit(reference, losses.dpo, data, reference=reference).policy.probs


def test_the_certificate_is_the_gradient_at_the_policy():
    world, reference = ContextualBandit.random(2, 3, seed=0), TabularPolicy.uniform(2, 3)
    data = Comparisons.sample(world, 200, seed=1)
    loss = functools.partial(losses.ipo, tau=0.2)
    result = fit(reference, loss, data, reference=reference)

    def value(logits):
        return float(objective(TabularPolicy(logits), loss, data, reference=reference))

    for index in np.ndindex(2, 3):
        shift = np.zeros((2, 3))
        shift[index] = 1e-5
        assert (
            abs(value(result.policy.logits + shift) - value(result.policy.logits - shift)) / 2e-5
            < 1e-8
        )
    np.testing.assert_allclose(result.value, value(result.policy.logits), rtol=1e-13)
    assert result.history.shape[1] == 2 and result.history[0, 1] > result.history[-1, 1]


def test_no_finite_minimiser_warns():
    reference = TabularPolicy.uniform(1, 2)
    with pytest.warns(ConvergenceWarning, match="no finite minimiser"):
        result = fit(
            reference,
            losses.rdpo,
            Comparisons([0], [0], [1]),
            reference=reference,
            max_iterations=30,
        )
    assert not result.converged and result.grad_norm > 1e-10


def test_penalty_and_kto_and_soft_feedback():
    reference = TabularPolicy.uniform(1, 3)
    ridge = fit(
        reference,
        losses.dpo,
        Comparisons([0], [0], [1]),
        reference=reference,
        penalty=lambda p: 0.01 * (p.parameters**2).sum(-1),
    )
    assert ridge.converged and np.abs(ridge.policy.logits.sum()) < 1e-9
    data = Feedback.population([[0.9, 0.5, 0.1]], reference)
    kto = functools.partial(losses.kto, beta=0.5, reference_point=0.0)
    fitted = fit(
        reference,
        kto,
        data,
        reference=reference,
        penalty=lambda p: 0.01 * (p.parameters**2).sum(-1),
    )
    assert (np.diff(fitted.policy.probs[0]) < 0).all()


def test_gradient_descent_follows_the_path():
    world, reference = ContextualBandit.random(1, 3, seed=0), TabularPolicy.uniform(1, 3)
    data = Comparisons.population(world, reference)
    result, path = gradient_descent(
        reference,
        losses.ipo,
        data,
        reference=reference,
        step=0.1,
        iterations=20,
        record=lambda p: p.probs,
    )
    assert len(path) == 21 and (np.diff(result.history[:, 0]) < 0).all()
    np.testing.assert_allclose(path[-1], result.policy.probs, atol=1e-15)


def test_bad_input():
    reference = TabularPolicy.from_probs([[1.0, 0.0]])
    data = Comparisons([0], [1], [0])
    with pytest.raises(TypeError, match="got dict"):
        fit({}, losses.dpo, data)
    with pytest.raises(ValueError, match="finite at the start"):
        fit(
            TabularPolicy.uniform(1, 2), losses.dpo, Comparisons([0], [0], [1]), reference=reference
        )
    with pytest.raises(ValueError, match="tolerance must be"):
        fit(reference, losses.dpo, data, tolerance=-1)
    with pytest.raises(ValueError, match="at least one row"):
        fit(reference, losses.dpo, Comparisons([], [], []))
    world, uniform = ContextualBandit.random(1, 3, seed=0), TabularPolicy.uniform(1, 3)
    for coupled in (losses.drdpo, losses.aot):
        with pytest.raises(ValueError, match="hard labels of equal weight"):
            fit(uniform, coupled, Comparisons.population(world, uniform), reference=uniform)
    with pytest.raises(ValueError, match="hard labels of equal weight"):
        fit(uniform, losses.kto, Feedback.population([[0.9, 0.5, 0.1]], uniform), reference=uniform)
    with pytest.raises(ValueError, match="Rankings feed losses of ListLogps"):
        fit(reference, losses.dpo, Rankings([0], [[0, 1]], [[1.0, 0.0]]))


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_no_more_steps_than_were_allowed(iterations):
    """Of a problem that is too large for whole Hessians, and no table."""
    features = np.random.default_rng(0).standard_normal((6, 5, 420))
    policy = LogLinearPolicy.from_features(features)
    data = Comparisons.sample(ContextualBandit.random(6, 5, seed=0), 400, seed=1)
    with pytest.warns(ConvergenceWarning, match=r"after \d+ steps") as caught:
        fit(policy, losses.ipo, data, reference=policy, max_iterations=iterations)
    steps = int(str(caught[0].message).split(" steps")[0].split()[-1])
    assert 1 <= steps <= iterations


def test_equal_rows_are_one_row_of_their_weight():
    world, reference = ContextualBandit.random(3, 4, seed=0), TabularPolicy.uniform(3, 4)
    many = Comparisons.sample(world, 6000, seed=1, distinct=True)
    rows, counts = np.unique(
        np.stack([many.prompt, many.chosen, many.rejected]), axis=1, return_counts=True
    )
    few = Comparisons(*rows, weight=counts / 6000)
    assert len(few) <= 36
    loss = functools.partial(losses.dpo, beta=0.5)
    found, expected = (fit(reference, loss, data, reference=reference) for data in (many, few))
    np.testing.assert_allclose(found.policy.probs, expected.policy.probs, atol=1e-13)
    assert found.value == pytest.approx(expected.value, rel=1e-13)
    assert found.value == pytest.approx(
        float(objective(found.policy, loss, many, reference=reference)), rel=1e-12
    )
    # What a loss that couples its batch would no longer be the same for.
    assert merged(many, losses.drdpo) is many
    soft = many.relabelled(np.where(np.arange(6000) % 2 == 0, 0.9, 0.6))
    assert len(few) < len(merged(soft, loss)) <= 72


@pytest.mark.parametrize("loss", [losses.dpo, losses.copg, losses.p3o])
def test_rows_that_differ_are_not_made_one(loss):
    """Columns of few values: integers, negative scores, soft labels."""
    rng = np.random.default_rng(0)
    policy, reference = (TabularPolicy.random(2, 3, seed=seed) for seed in (1, 2))
    data = Comparisons(
        *(rng.integers(size, size=5001) for size in (2, 3, 3)),
        prob=rng.choice([0.3, 1.0], 5001),
        chosen_score=rng.choice([-2.5, -1.0, 0.25], 5001),
        rejected_score=rng.choice([-1.5, -0.25, 1.0], 5001),
        old_chosen=rng.choice([-1.5, -0.5], 5001),
        old_rejected=rng.choice([-2.0, -0.25], 5001),
    )
    few = merged(data, loss)
    assert 100 < len(few) < 1300
    np.testing.assert_allclose(
        objective(policy, loss, few, reference=reference),
        objective(policy, loss, data, reference=reference),
        rtol=1e-12,
    )


def test_rows_far_apart_are_not_made_one():
    """Three indices whose one number would be as large as 2⁶⁴."""
    far, wide = 2**22, 2**21 - 1
    rows = [(0, 0, 1), (far, 0, 1), (0, wide, 1), (0, 0, wide)]
    columns = np.asarray(rows + [rows[0]] * 3000 + [rows[1]] * 2000).T
    few = merged(Comparisons(*columns), losses.dpo)
    found = {
        tuple(row): weight
        for *row, weight in zip(few.prompt, few.chosen, few.rejected, few.weight, strict=True)
    }
    assert found == pytest.approx(
        {row: count / 5004 for row, count in zip(rows, (3001, 2001, 1, 1), strict=True)}
    )


def test_data_sets_of_their_own_rows_have_soft_labels():
    rng = np.random.default_rng(0)
    columns = [rng.integers(size, size=(2, 40)) for size in (3, 4, 4)]
    prob, start = rng.uniform(0.2, 0.8, (2, 40)), TabularPolicy.uniform(3, 4)
    loss = functools.partial(losses.dpo, beta=0.5)
    together = fit(start, loss, Comparisons(*columns, prob=prob), reference=start)
    assert together.converged and not together.diverges.any()
    for i in range(2):
        data = Comparisons(*(column[i] for column in columns), prob=prob[i])
        alone = fit(start, loss, data, reference=start)
        np.testing.assert_allclose(together.policy.probs[i], alone.policy.probs, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_large_tables_of_a_batch_are_solved_by_contexts(dtype):
    """The result has the axes of the batch, and its certificate is that of the whole objective."""
    rng = np.random.default_rng(0)
    prompts, responses, n = 60, 7, 20_000
    columns = [rng.integers(size, size=(2, n)) for size in (prompts, responses, responses)]
    data = Comparisons(*columns, prob=rng.choice([0.25, 0.5, 0.75], (2, n)))
    start = TabularPolicy(np.zeros((prompts, responses), dtype=dtype))
    loss = functools.partial(losses.dpo, beta=0.5)
    result = fit(start, loss, data, reference=start)
    assert result.converged and result.policy.logits.shape == (2, prompts, responses)
    assert result.policy.logits.dtype == dtype
    wide = TabularPolicy(result.policy.logits.astype(np.float64))
    value = objective(wide, loss, data, reference=TabularPolicy.uniform(prompts, responses))
    np.testing.assert_allclose(result.value, value, rtol=1e-6)

    problem, theta = problem_of(start, loss, data, start, None)
    problem = problem._replace(convex=sees_margins(problem, loss, theta))
    found = minimised_by_contexts(problem, loss, theta, tolerance=1e-10, max_iterations=100)
    assert found.parameters.shape == found.last_step.shape == theta.shape == (2, 420)
    value, gradient, _ = value_and_gradient(
        functools.partial(problem.settled, loss), found.parameters
    )
    np.testing.assert_allclose(found.value, value, rtol=1e-12)
    np.testing.assert_allclose(found.grad_norm, gradient.abs().amax(dim=-1), atol=1e-14)
    assert (found.last_step.abs() < 1e-4).all()


def test_a_large_table_is_solved_by_contexts():
    world, reference = ContextualBandit.random(60, 10, seed=0), TabularPolicy.uniform(60, 10)
    data = Comparisons.sample(world, 40_000, seed=1)
    loss = functools.partial(losses.dpo, beta=0.5)
    result = fit(reference, loss, data, reference=reference)
    assert result.converged and len(result.history) < 40
    for x in (0, 17, 59):
        here = data.prompt == x
        rows = (0 * data.prompt[here], data.chosen[here], data.rejected[here])
        alone = TabularPolicy.uniform(1, 10)
        own = fit(alone, loss, Comparisons(*rows), reference=alone)
        np.testing.assert_allclose(result.policy.probs[x], own.policy.probs[0], atol=1e-11)


def test_a_frontier_is_one_fit():
    betas = np.asarray([0.2, 0.5, 2.0])
    world, reference = ContextualBandit.random(2, 3, seed=0), TabularPolicy.random(2, 3, seed=1)
    data = Comparisons.population(world, reference)
    loss = functools.partial(losses.dpo, beta=betas[:, None])
    result = fit(reference, loss, data, reference=reference)
    assert result.converged and result.policy.probs.shape == (3, 2, 3)
    for k, beta in enumerate(betas):
        best = optimal_policy(world.reward, reference.probs, beta=float(beta))
        np.testing.assert_allclose(result.policy.probs[k], best, atol=1e-9)
    apart = Comparisons([0], [0], [1])
    with pytest.warns(ConvergenceWarning, match="in 3 of 3 problems"):
        assert fit(reference, loss, apart, reference=reference).diverges.all()


def test_a_loss_sees_equal_rows_once():
    world, reference = ContextualBandit.random(3, 4, seed=0), TabularPolicy.uniform(3, 4)
    many = Comparisons.sample(world, 6000, seed=1)
    seen = []

    def counted(logps: losses.PairLogps):
        seen.append(logps.chosen.shape[-1])
        return losses.dpo(logps, beta=0.5)

    assert fit(reference, counted, many, reference=reference).converged
    # Even where margins are moved by many amounts at once.
    assert max(seen) < 6000
