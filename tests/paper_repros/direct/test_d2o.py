"""Golden values of arXiv:2403.03419.

The loss, the threshold βρ and the optimum below it, the paths, the effect of K.
"""

import functools

import numpy as np
import pytest
import torch

from paper_repros import _d2o_checks as checks
from paper_repros import _d2o_paths as paths
from paper_repros import d2o as paper
from prefsim import losses
from prefsim.data import Negatives
from prefsim.papers import Run
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit, objective

RHO = 0.2020270321874973


def golden(k=3, **changes):
    samples = np.asarray([[0.5, -0.2, 0.3]])[:, :k]
    return losses.AnchoredLogps(
        np.asarray([-0.4]), np.zeros(1), samples, np.zeros_like(samples)
    )._replace(**changes)


@pytest.mark.parametrize(("alpha", "value"), [(0.1, 0.6635971130761409), (0.05, 0.673347167228034)])
def test_golden_loss(alpha, value):
    assert losses.d2o(golden(), beta=0.1, alpha=alpha)[0] == pytest.approx(value, rel=1e-15)


def test_the_references_may_differ():
    moved = golden(ref_rejected=np.asarray([0.3]), ref_samples=np.asarray([[0.1, 0.1, 0.1]]))
    expected = np.logaddexp(0, -(0.1 * 0.1 + 0.05 * 0.7))
    assert losses.d2o(moved, beta=0.1, alpha=0.05)[0] == pytest.approx(expected, rel=1e-14)


def case(share, beta=1.0):
    rest = np.asarray([0.1, 0.2, 0.3, 0.4]) * (1 - RHO)
    return checks.Unlearn(np.log(np.r_[RHO, rest]), beta, share)


@pytest.mark.parametrize(("share", "q"), [(0.5, 0.11236377621032465), (0.9, 0.024692378341298823)])
def test_golden_optimum(share, q):
    probs = checks.solve(case(share))
    assert probs[0] == pytest.approx(q, rel=1e-12)
    np.testing.assert_allclose(probs[1:] / probs[1:].sum(), [0.1, 0.2, 0.3, 0.4], atol=1e-12)


def test_above_the_threshold_the_response_vanishes():
    probs = checks.solve(case(2.0), tolerance=1e-13)
    assert probs[0] < 1e-60


def test_at_the_threshold_the_loss_does_not_fall_to_zero():
    at = case(1.0)
    log_q = np.asarray([-1e3, -1e6])
    found = checks.against_samples(at, checks.split(log_q, np.log([0.1, 0.2, 0.3, 0.4])))
    floor = np.logaddexp(0, (1 - RHO) * np.log1p(-RHO))
    np.testing.assert_allclose(found, floor, rtol=1e-9)


def test_golden_disturbances():
    # The page's fixed steps of 0.002 overshoot the level a little: .454, .227, .200, .335 and .634,
    # .289, .211, .349.
    for seed, d2o, ga in zip(
        range(4), (0.454, 0.227, 0.200, 0.335), (0.634, 0.289, 0.211, 0.349), strict=True
    ):
        world = paths.draw(seed)
        assert paths.disturbances(world, paths.line(world), None, checks.LEVELS[:1])[
            0
        ] == pytest.approx(d2o, abs=5e-3)
        assert paths.disturbances(
            world, *paths.flow(world, "GA", checks.LEVELS[0]), checks.LEVELS[:1]
        )[0] == pytest.approx(ga, abs=5e-3)


@pytest.mark.parametrize("method", ["GA", "NPO", "D²O"])
def test_every_velocity_is_minus_the_gradient_of_a_library_loss(method):
    world = paths.draw(3)._replace(beta=0.3, alpha=0.2)
    theta = np.random.default_rng(0).standard_normal(6)
    policy = LogLinearPolicy.from_features(world.features[None], weights=theta)
    reference = policy.with_parameters(world.start)
    moved = policy.with_parameters(torch.tensor(theta, requires_grad=True))
    if method == "D²O":
        data = Negatives.population([0], [world.rejected], reference)
        value = objective(
            moved, functools.partial(losses.d2o, beta=0.3, alpha=0.2), data, reference=reference
        )
    else:
        rejected = moved.log_prob(torch.tensor([0]), torch.tensor([world.rejected]))
        pair = losses.PairLogps(
            rejected, rejected, rejected.detach(), torch.tensor(world.log_ref[[world.rejected]])
        )
        value = (
            losses.gradient_ascent(pair).sum()
            if method == "GA"
            else losses.npo(pair, beta=0.3).sum()
        )
    (gradient,) = torch.autograd.grad(value.sum(), moved.parameters)
    np.testing.assert_allclose(paths.velocity(world, method, theta), -gradient.numpy(), atol=1e-13)


def test_a_path_that_never_gets_there_is_nan():
    world = paths.draw(0)
    one = np.eye(20)[world.rejected]  # the only sample is the rejected response: nothing moves
    assert np.isnan(paths.disturbances(world, paths.line(world, one), None, checks.LEVELS)).all()


def test_expected_losses_fall_in_k_strictly():
    found, exact = checks.expected_losses(case(9.9, 2.0), np.log([0.3, 0.1, 0.2, 0.15, 0.25]), 4)
    assert (np.diff(np.append(found, exact)) < 0).all()


def test_more_samples_bring_the_optimum_to_the_exact_one():
    reference = TabularPolicy.from_logits(case(0.3).log_ref[None])
    loss = functools.partial(losses.d2o, beta=1.0, alpha=0.3 * RHO)
    data = Negatives.sample([0], [0], reference, 200_000, seed=0)
    counted = Negatives(
        [0], [0], np.arange(5)[None], np.bincount(data.samples[0], minlength=5)[None] / 200_000
    )
    exact, sampled = (
        fit(reference, loss, d, reference=reference).policy.probs
        for d in (Negatives.population([0], [0], reference), counted)
    )
    np.testing.assert_allclose(sampled, exact, atol=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.d2o(golden(0)),
            "samples must hold at least one sample along the last axis, got shape",
        ),
        (lambda: losses.d2o(golden(), beta=0.0), "beta must be a finite number > 0"),
        (lambda: losses.d2o(golden(), alpha=-0.1), "alpha must be a finite number > 0"),
        (
            lambda: losses.d2o(golden(), level="mean"),
            "level must be one of 'distribution', 'instance'",
        ),
        (lambda: losses.d2o(golden(ref_samples=np.zeros((1, 2)))), "one shape"),
        (
            lambda: losses.d2o(golden(rejected=np.zeros(2), ref_rejected=np.zeros(2))),
            r"samples must have shape \(2, 'K'\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 24
