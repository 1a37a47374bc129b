"""Negative preference optimisation: loss and weight, the scalar flow, growth, random features."""

import numpy as np
import pytest
import torch

from paper_repros.direct.npo import claims
from paper_repros.direct.npo.random_features import METHODS, Forget, slopes
from paper_repros.direct.npo.reproduction import retain_at
from prefsim import losses


@pytest.mark.parametrize(
    ("beta", "value", "weight"),
    [(0.1, 12.887933201471418, 0.95004162504212), (1.0, 0.6265233750364457, 0.5378828427399902)],
)
def test_loss_and_weight(beta, value, weight):
    logps = claims.forget(-1.0, -1.0)
    assert losses.npo(logps, beta=beta)[0] == pytest.approx(value, rel=1e-15)
    assert claims.weights(logps, beta)[0] == pytest.approx(weight, rel=1e-13)


@pytest.mark.parametrize(("time", "end"), [(10, -4.35465), (100, -9.13766), (1000, -13.80367)])
def test_scalar_flow(time, end):
    assert claims.scalar_path(time, 0.5) == pytest.approx(end, abs=6e-6)


def test_growth_rates_on_nearly_orthogonal_inputs():
    times = (100, 1000, 10000)
    ga, npo = (
        claims.distances(method, times, n=5, dimension=20_000, seed=0, worlds=1)[:, 0]
        for method in ("GA", "NPO")
    )
    # Another draw of such inputs gave these, and 5.2 to 5.6 per decade.
    np.testing.assert_allclose(ga, [19.4, 221, 2242], rtol=0.05)
    assert npo[2] - npo[1] == pytest.approx(5.4, rel=0.08)


def test_the_reduced_recursion_is_gradient_descent_on_the_library_loss():
    rng, steps = np.random.default_rng(4), 20
    inputs = rng.standard_normal((1, 3, 6))
    lengths = np.linalg.norm(inputs, axis=-1, keepdims=True)
    labelled = torch.tensor((inputs * rng.choice([-1.0, 1.0], (1, 3, 1)) / lengths)[0])
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        logp = torch.nn.functional.logsigmoid(labelled @ theta)
        reference = torch.full_like(logp, -np.log(2.0))
        loss = losses.npo(losses.PairLogps(logp, logp, reference, reference), beta=1.0).mean()
        (gradient,) = torch.autograd.grad(loss, theta)
        theta = (theta - claims.STEP * gradient).detach().requires_grad_()
    expected = float((labelled @ theta).detach().norm())
    found = claims.distances("NPO", (steps,), n=3, dimension=6, seed=4, worlds=1)
    assert found[0, 0] == pytest.approx(expected, rel=1e-12)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_slopes_of_every_method():
    rng = np.random.default_rng(0)
    sign, random_sign = rng.choice([-1.0, 1.0], (2, 1, 9))
    reference, logits = rng.standard_normal((2, 1, 9))
    rise, random_rise = (s * sigmoid(-s * logits) for s in (sign, random_sign))

    def ratio(s):
        return sigmoid(s * logits) / sigmoid(s * reference)

    def damped(beta):
        return 2 * rise * ratio(sign) ** beta / (1 + ratio(sign) ** beta)

    odds = (ratio(sign) / ratio(random_sign)) ** 0.1
    expected = {
        "GA": rise,
        "NPO": damped(1.0),
        "GA+RT": rise,
        "NPO+RT": damped(0.1),
        "IDK+RT": -random_rise,
        "DPO+RT": 2 * odds / (1 + odds) * (rise - random_rise),
    }
    found = slopes(
        Forget(sign, random_sign, reference), np.repeat(logits[..., None], len(METHODS), axis=-1)
    )
    for k, name in enumerate(METHODS):
        np.testing.assert_allclose(found[..., k], expected[name], atol=1e-14, err_msg=name)


def test_retain_at_reads_the_descending_branch():
    falls, rises = np.asarray([1.0, 0.5, 0.1, 0.4]), np.asarray([0.0, 1.0, 2.0, 9.0])
    assert retain_at(falls, rises, 0.3) == pytest.approx(1.5)
    assert np.isnan(retain_at(falls, rises, 0.05))
