"""Damped Newton on problems with known minima: where it ends, and in how many steps."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

from prefsim.solvers.optimisers import newton

RNG = np.random.default_rng(0)
ROWS = torch.as_tensor(RNG.normal(size=(40, 4)))
LABELS = torch.as_tensor((RNG.random(40) < 0.5).astype(float))
CURVATURES = torch.as_tensor(np.asarray([1e-3, 1.0, 1e3]))
SHARES = torch.as_tensor(np.asarray([0.1, 0.2, 0.7]))


def valley(x):
    """Rosenbrock's function, curved and badly scaled; the minimum is 0 at ones."""
    return ((1 - x[..., :-1]) ** 2 + 100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2).sum(-1)


def bowl(x):
    return 0.5 * (CURVATURES * (x - 1) ** 2).sum(-1)


def logistic(x):
    margins = x @ ROWS.T
    fit = (torch.nn.functional.softplus(margins) - LABELS * margins).mean(-1)
    return fit + 1e-3 * (x**2).sum(-1)


def softmax(x):
    """A cross-entropy, blind to a shift of all parameters."""
    return -(SHARES * torch.log_softmax(x, -1)).sum(-1)


def well(x):
    """A well in a plain: far from 3 there is next to no slope, and no positive curvature."""
    return -torch.exp(-0.5 * ((x - 3) ** 2).sum(-1))


def kink(x):
    """Nearly the absolute value: a curvature of nothing, and of 1e4 at the minimum."""
    return torch.sqrt(1e-8 + (x - 1) ** 2).sum(-1)


class Case(NamedTuple):
    """An objective, where to start, the least value, and how many steps are enough."""

    objective: Callable
    start: list[list[float]]
    least: float
    most: int


ENTROPY = -float((SHARES * SHARES.log()).sum())
CASES = {
    "valley": Case(valley, [[-1.2, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], 0.0, 36),
    "bowl": Case(bowl, [[5.0, 5.0, 5.0]], 0.0, 6),
    "softmax": Case(softmax, [[5.0, 0.0, -5.0], [0.0, 0.0, 0.0]], ENTROPY, 15),
    "well": Case(well, [[0.0, 0.0], [2.5, 3.0]], -1.0, 17),
    "kink": Case(kink, [[4.0, -3.0]], 2e-4, 22),
}


def minimised(objective, start, **options):
    settings = {"tolerance": 1e-9, "max_iterations": 200} | options
    return newton.minimise(objective, torch.as_tensor(start, dtype=torch.float64), **settings)


def gradient_norm(objective, x):
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(leaf).sum(), leaf)
    return gradient.abs().amax(-1)


@pytest.mark.parametrize("name", CASES)
def test_minima_are_found_to_rounding_in_few_steps(name):
    objective, start, least, most = CASES[name]
    found = minimised(objective, start)
    assert 1 <= found.iterations <= most
    np.testing.assert_allclose(found.value, least, atol=1e-13)
    np.testing.assert_allclose(found.value, objective(found.parameters), rtol=1e-14)
    np.testing.assert_allclose(found.grad_norm, gradient_norm(objective, found.parameters))
    # Far below the tolerance: the steps beyond it double the digits.
    assert (found.grad_norm <= 1e-12).all()


@pytest.mark.parametrize("name", CASES)
def test_the_trace_holds_values_and_worst_gradients(name):
    objective, start, _, _ = CASES[name]
    found = minimised(objective, start)
    first = torch.as_tensor(start, dtype=torch.float64)
    value, norm = found.history[0]
    np.testing.assert_allclose(value, objective(first).sum())
    np.testing.assert_allclose(norm, gradient_norm(objective, first).max())
    values = np.asarray(found.history)[:, 0]
    assert (np.diff(values) <= 1e-12 * (1 + np.abs(values[1:]))).all()
    assert found.iterations <= len(found.history) <= found.iterations + 1


@pytest.mark.parametrize("name", ["valley", "well"])
def test_problems_of_a_batch_do_not_touch(name):
    objective, start, _, _ = CASES[name]
    together = minimised(objective, start)
    for i, one in enumerate(start):
        alone = minimised(objective, [one])
        np.testing.assert_allclose(together.parameters[i], alone.parameters[0], atol=1e-10)


def test_a_known_hessian_is_as_good_as_a_second_derivative():
    start = torch.zeros(1, 4, dtype=torch.float64)

    def hessian(x):
        share = torch.sigmoid(x @ ROWS.T)
        weight = share * (1 - share) / len(ROWS)
        return torch.einsum("bn,ni,nj->bij", weight, ROWS, ROWS) + 2e-3 * torch.eye(
            4, dtype=x.dtype
        )

    differentiated, known = minimised(logistic, start), minimised(logistic, start, hessian=hessian)
    assert differentiated.iterations <= 12 and known.iterations <= 12
    np.testing.assert_allclose(differentiated.parameters, known.parameters, atol=1e-12)


def test_rows_of_a_hessian_are_the_same_one_by_one(monkeypatch):
    at_once = minimised(valley, CASES["valley"].start)
    monkeypatch.setattr(newton, "AT_ONCE", 0)
    one_by_one = minimised(valley, CASES["valley"].start)
    assert one_by_one.iterations == at_once.iterations
    np.testing.assert_allclose(one_by_one.parameters, at_once.parameters, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 2, 20])
def test_the_late_step_is_the_mean_of_the_last_ones(steps):
    start = CASES["valley"].start
    end = minimised(valley, start, max_iterations=steps)
    last = min(steps, newton.POLISHING_STEPS)
    before = minimised(valley, start, max_iterations=steps - last).parameters
    np.testing.assert_allclose(end.late_step, (end.parameters - before) / max(1, last))


def test_no_more_steps_than_allowed():
    found = minimised(valley, CASES["valley"].start, max_iterations=3)
    assert found.iterations == 3 and len(found.history) == 3
    assert (found.grad_norm[:1] > 1e-3).all() and found.grad_norm[2] == 0
    nothing = minimised(valley, CASES["valley"].start, max_iterations=0)
    np.testing.assert_array_equal(nothing.parameters, np.asarray(CASES["valley"].start))
    assert nothing.iterations == 0 and nothing.history == ()


def test_a_first_step_is_no_longer_than_two():
    found = minimised(bowl, [[50.0, 50.0, 50.0]], max_iterations=1)
    moved = (found.parameters - 50.0).abs().max()
    np.testing.assert_allclose(moved, 2.0)
    # The next may be twice as long.
    np.testing.assert_allclose(
        (minimised(bowl, [[50.0] * 3], max_iterations=2).parameters - 50.0).abs().max(), 6.0
    )


def test_what_does_not_depend_on_a_parameter_leaves_it():
    found = minimised(lambda x: (x[..., 0] - 1) ** 2, [[3.0, 7.0]])
    np.testing.assert_allclose(found.parameters, [[1.0, 7.0]], atol=1e-12)
    flat = minimised(lambda x: torch.ones(len(x), dtype=x.dtype), [[3.0, 7.0]])
    np.testing.assert_array_equal(flat.parameters, [[3.0, 7.0]])
    assert flat.grad_norm.item() == 0 and flat.iterations == 0


@pytest.mark.parametrize("name", ["valley", "bowl", "softmax", "kink"])
def test_many_parameters_end_with_second_order_steps(name, monkeypatch):
    objective, start, least, _ = CASES[name]
    dense = minimised(objective, start)
    monkeypatch.setattr(newton, "DENSE_LIMIT", 1)
    found = minimised(objective, start, max_iterations=1000)
    assert (found.grad_norm <= 1e-12).all()
    np.testing.assert_allclose(found.value, least, atol=1e-13)
    np.testing.assert_allclose(found.grad_norm, gradient_norm(objective, found.parameters))
    np.testing.assert_allclose(found.parameters.softmax(-1), dense.parameters.softmax(-1))
    # Values of the quasi-Newton part stand before those of the last steps.
    np.testing.assert_allclose(found.history[0][0], dense.history[0][0])
    assert len(found.history) > 3


@pytest.mark.parametrize("beyond", [0, 1])
def test_up_to_how_many_parameters_whole_hessians_are_used(beyond):
    d = newton.DENSE_LIMIT + beyond
    curvature = torch.linspace(1.0, 3.0, d, dtype=torch.float64)
    asked = []

    def hessian(x):
        asked.append(len(x))
        return torch.diag(curvature)[None]

    found = newton.minimise(
        lambda x: 0.5 * (curvature * (x - 1) ** 2).sum(-1),
        torch.zeros(1, d, dtype=torch.float64),
        tolerance=1e-9,
        max_iterations=50,
        hessian=hessian,
    )
    np.testing.assert_allclose(found.parameters, 1.0, atol=1e-9)
    assert bool(asked) == (beyond == 0)


def test_conjugate_gradients_keep_what_they_have_where_the_curvature_turns():
    """Two directions: along the gradient the function bends up, along the next one down."""
    bends = torch.tensor([[3.0, -1.0]], dtype=torch.float64)
    leaf = torch.tensor([[1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((0.5 * bends * leaf**2).sum(), leaf, create_graph=True)
    damping = norm = torch.zeros(1, dtype=torch.float64)
    step = newton._conjugate_gradient_step(gradient, leaf, damping, norm)
    down = -gradient.detach()
    length = (down * down).sum() / (down * bends * down).sum()
    torch.testing.assert_close(step, length * down)
    # Where it bends down at once, the way is straight down.
    (gradient,) = torch.autograd.grad((-0.5 * leaf**2).sum(), leaf, create_graph=True)
    step = newton._conjugate_gradient_step(gradient, leaf, damping, norm)
    torch.testing.assert_close(step, leaf.detach())
