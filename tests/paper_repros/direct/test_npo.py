"""Golden values of arXiv:2404.05868.

The loss and its weight, the scalar flow, the growth rates, the random-feature world.
"""

import functools

import numpy as np
import pytest
import torch

from paper_repros import _random_features as world
from paper_repros import npo as paper
from prefsim import losses
from prefsim.papers import Run


@pytest.mark.parametrize(
    ("beta", "value", "weight"),
    [(0.1, 12.887933201471418, 0.95004162504212), (1.0, 0.6265233750364457, 0.5378828427399902)],
)
def test_golden_loss_and_weight(beta, value, weight):
    logps = paper.forget(-1.0, -1.0)
    assert losses.npo(logps, beta=beta)[0] == pytest.approx(value, rel=1e-15)
    assert paper.weight(logps, beta)[0] == pytest.approx(weight, rel=1e-13)


@pytest.mark.parametrize(("time", "end"), [(10, -4.35465), (100, -9.13766), (1000, -13.80367)])
def test_golden_scalar_flow(time, end):
    assert paper.scalar_path(time, 0.5) == pytest.approx(end, abs=6e-6)


def test_growth_rates_on_nearly_orthogonal_inputs():
    times = (100, 1000, 10000)
    ga, npo = (
        paper.distances(paper.Logistic(5, 20_000), times, method, worlds=1)[:, 0]
        for method in ("GA", "NPO")
    )
    # The page's instance, one other draw: 19.4, 221, 2242 and 5.2 to 5.6 per decade.
    np.testing.assert_allclose(ga, [19.4, 221, 2242], rtol=0.05)
    assert npo[2] - npo[1] == pytest.approx(5.4, rel=0.08)


def test_the_reduced_recursion_is_gradient_descent_on_the_library_loss():
    case, steps = paper.Logistic(3, 6, seed=4), 20
    rng = np.random.default_rng(case.seed)
    inputs = rng.standard_normal((1, 3, 6))
    inputs = torch.tensor(
        (
            inputs
            * rng.choice([-1.0, 1.0], (1, 3, 1))
            / np.linalg.norm(inputs, axis=-1, keepdims=True)
        )[0]
    )
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        logp = torch.nn.functional.logsigmoid(inputs @ theta)
        reference = torch.full_like(logp, -np.log(2.0))
        loss = losses.npo(losses.PairLogps(logp, logp, reference, reference), beta=1.0).mean()
        (gradient,) = torch.autograd.grad(loss, theta)
        theta = (theta - case.step * gradient).detach().requires_grad_()
    expected = float((inputs @ theta).detach().norm())
    assert paper.distances(case, (steps,), "NPO", worlds=1)[0, 0] == pytest.approx(
        expected, rel=1e-12
    )


def labelled(logits, sign):
    return torch.nn.functional.logsigmoid(sign * logits)


@pytest.mark.parametrize("name", list(world.METHODS))
def test_every_slope_is_the_derivative_of_a_library_loss(name):
    rng, method = np.random.default_rng(0), world.METHODS[name]
    rows = world.Forget(
        *(rng.choice([-1.0, 1.0], (1, 9)) for _ in range(2)), rng.standard_normal((1, 9))
    )
    logits = torch.tensor(rng.standard_normal((1, 9)), requires_grad=True)
    sign, other, reference = map(torch.tensor, rows)
    pair = losses.PairLogps(
        labelled(logits, other),
        labelled(logits, sign),
        labelled(reference, other),
        labelled(reference, sign),
    )
    loss = {
        world.gradient_ascent: losses.gradient_ascent,
        world.negative_preference: functools.partial(losses.npo, beta=method.beta),
        world.preference: lambda logps: 2 / method.beta * losses.dpo(logps, beta=method.beta),
        world.random_labels: losses.sft,
    }[method.slope]
    (expected,) = torch.autograd.grad(loss(pair).sum(), logits)
    np.testing.assert_allclose(
        method.slope(rows, logits.detach().numpy(), method.beta), expected.numpy(), atol=1e-14
    )


def test_retain_at_reads_the_descending_branch():
    falls, rises = np.asarray([1.0, 0.5, 0.1, 0.4]), np.asarray([0.0, 1.0, 2.0, 9.0])
    assert paper.retain_at(falls, rises, 0.3) == pytest.approx(1.5)
    assert np.isnan(paper.retain_at(falls, rises, 0.05))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.npo(paper.forget(0.0), beta=0.0), "beta must be a finite number > 0"),
        (lambda: losses.npo(paper.forget(0.0)._replace(rejected=np.zeros(2))), "one shape"),
        (
            lambda: losses.gradient_ascent(paper.forget(0.0)._replace(rejected=np.zeros(2))),
            "one shape",
        ),
        (lambda: losses.simnpo(paper.forget(0.0)), "chosen_length is needed"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 12
