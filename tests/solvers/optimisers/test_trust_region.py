"""Steps in a trust region with a constraint against cvxpy, and penalties of what is to spare."""

import numpy as np
import pytest
import torch

from prefsim.solvers.optimisers.trust_region import barrier_penalty, constrained_step

cp = pytest.importorskip("cvxpy")


def drawn(seed, n=3):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    return rng.normal(size=n), rng.normal(size=n), rng.normal(), root @ root.T + 0.2 * np.eye(n)


@pytest.mark.parametrize("seed", range(12))
def test_against_cvxpy(seed):
    g, b, c, curvature = drawn(seed)
    found = constrained_step(g, b, c, curvature, radius=0.2)
    x = cp.Variable(3)
    inside = cp.sum_squares(np.linalg.cholesky(curvature).T @ x) <= 0.4
    program = cp.Problem(cp.Maximize(g @ x), [c + b @ x <= 0, inside])
    program.solve(solver="CLARABEL")
    assert bool(found.feasible) == (program.status == "optimal")
    if found.feasible:
        assert g @ found.step == pytest.approx(program.value, abs=1e-6)
        assert found.constraint_multiplier == pytest.approx(
            float(program.constraints[0].dual_value), rel=1e-3, abs=1e-4
        )
        assert c + b @ found.step <= 1e-9
    assert 0.5 * found.step @ curvature @ found.step <= 0.2 + 1e-9


def test_there_are_seeds_of_every_kind():
    kinds = {
        (bool(found.feasible), bool(found.constraint_multiplier > 0))
        for found in (constrained_step(*drawn(seed), radius=0.2) for seed in range(12))
    }
    assert kinds == {(True, True), (True, False), (False, True)}


def test_what_cannot_be_met_is_lowered_as_far_as_it_goes():
    g, b, _, curvature = drawn(0)
    found = constrained_step(g, b, 100.0, curvature, radius=0.2)
    assert not found.feasible and np.isinf(found.constraint_multiplier)
    lowest = -np.sqrt(0.4 * b @ np.linalg.solve(curvature, b))
    assert b @ found.step == pytest.approx(lowest)
    assert found.radius_multiplier == 0.0


def test_parallel_gradients():
    for n in (1, 2):
        g = np.ones(n)
        found = constrained_step(g, 2 * g, -0.2, np.eye(n), radius=0.5)
        np.testing.assert_allclose(found.step, np.full(n, 0.1 / n), atol=1e-12)
        # The constraint alone binds, and costs half of the gradient.
        assert found.constraint_multiplier == pytest.approx(0.5)
        assert found.radius_multiplier == 0.0


def test_without_a_gradient_it_stays_or_goes_back():
    zero, b = np.zeros(2), np.array([1.0, 0.0])
    np.testing.assert_array_equal(constrained_step(zero, b, -1.0, np.eye(2), radius=1.0).step, 0.0)
    back = constrained_step(zero, b, 0.5, np.eye(2), radius=1.0)
    np.testing.assert_allclose(back.step, [-0.5, 0.0])


def test_without_a_constraint_it_is_a_natural_step():
    g, _, _, curvature = drawn(1)
    found = constrained_step(g, np.zeros(3), -1.0, curvature, radius=0.2)
    towards = np.linalg.solve(curvature, g)
    np.testing.assert_allclose(found.step, np.sqrt(0.4 / (g @ towards)) * towards)
    np.testing.assert_allclose(found.radius_multiplier * curvature @ found.step, g)


def test_batches_and_tensors():
    several = [drawn(seed) for seed in range(6)]
    g, b, c, curvature = (np.stack(each) for each in zip(*several, strict=True))
    found = constrained_step(g, b, c, curvature, radius=0.2)
    on_torch = constrained_step(*map(torch.as_tensor, (g, b, c, curvature)), radius=0.2)
    for place, one in enumerate(several):
        alone = constrained_step(*one, radius=0.2)
        for part, own, tensor in zip(alone, found, on_torch, strict=True):
            np.testing.assert_allclose(own[place], part)
            np.testing.assert_allclose(tensor[place].numpy(), part)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.0}, "radius must be"),
        ({"gradient": [np.nan, 0.0]}, "gradient"),
        ({"gradient": [1.0, 0.0, 0.0]}, "constraint_gradient"),
        ({"curvature": np.eye(3)}, "curvature must have"),
    ],
)
def test_bad_steps(change, message):
    given = {"gradient": [1.0, 0.0], "constraint_gradient": [0.0, 1.0], "excess": 0.0}
    given |= {"curvature": np.eye(2), "radius": 1.0}
    with pytest.raises(ValueError, match=message):
        constrained_step(**(given | change))


def test_penalties_and_their_pull():
    slack = torch.tensor([2.0, 1e-3, 1e-4, -3.0], dtype=torch.float64, requires_grad=True)
    for extended, pulled in ((False, [-0.025, 0.0, 0.0, 0.0]), (True, [-0.025, *[-50.0] * 3])):
        value = barrier_penalty(slack, sharpness=20.0, extended=extended)
        (slope,) = torch.autograd.grad(value.sum(), slack)
        found = slope[[0, 2, 3]].numpy()
        np.testing.assert_allclose(found, np.array(pulled)[[0, 2, 3]], rtol=1e-12)
    np.testing.assert_allclose(
        barrier_penalty([np.e, 0.1, -1.0], sharpness=2.0, floor=0.1),
        [-0.5, np.log(10) / 2, np.log(10) / 2],
    )
    assert barrier_penalty(np.float64(-1.0), sharpness=1.0, floor=0.5, extended=True) == (
        pytest.approx(np.log(2) + 3.0)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sharpness": 0.0}, "sharpness must be"),
        ({"floor": -1.0}, "floor must be"),
        ({"extended": 1}, "extended must be True or False"),
        ({"slack": [np.nan]}, "slack must hold no NaN"),
    ],
)
def test_bad_penalties(change, message):
    with pytest.raises(ValueError, match=message):
        barrier_penalty(**({"slack": [1.0], "sharpness": 1.0} | change))


@pytest.mark.parametrize("curvature", [-np.eye(2), np.diag([1.0, 0.0]), [[1.0, 0.5], [0.0, 1.0]]])
def test_a_curvature_that_is_none_is_refused(curvature):
    with pytest.raises(ValueError, match="curvature must be symmetric and positive definite"):
        constrained_step([1.0, 0.0], [0.0, 1.0], -0.5, curvature, radius=0.5)
