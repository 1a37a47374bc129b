"""arXiv:2403.03419: the loss, the threshold and the optimum below it, the paths, more samples."""

import numpy as np
import pytest

from paper_repros.direct.d2o import claims
from paper_repros.direct.d2o.reproduction import reproduce
from paper_repros.direct.d2o.unlearning import LEVELS, World
from prefsim import losses
from prefsim.data import Negatives
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax, sigmoid
from prefsim.papers import Run
from prefsim.policies import TabularPolicy

RHO = 0.2020270321874973
REST = np.asarray([0.1, 0.2, 0.3, 0.4])
LOG_REF = np.log(np.append(RHO, REST * (1 - RHO)))
LOGPS = losses.AnchoredLogps(
    rejected=np.asarray([-0.4]),
    ref_rejected=np.zeros(1),
    samples=np.asarray([[0.5, -0.2, 0.3]]),
    ref_samples=np.zeros((1, 3)),
)


@pytest.mark.parametrize(("alpha", "value"), [(0.1, 0.6635971130761409), (0.05, 0.673347167228034)])
def test_values_of_the_loss(alpha, value):
    assert losses.d2o(LOGPS, beta=0.1, alpha=alpha)[0] == pytest.approx(value, rel=1e-15)


def test_the_references_may_differ():
    moved = LOGPS._replace(ref_rejected=np.asarray([0.3]), ref_samples=np.full((1, 3), 0.1))
    expected = np.logaddexp(0, -(0.1 * 0.1 + 0.05 * 0.7))
    assert losses.d2o(moved, beta=0.1, alpha=0.05)[0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("share", "q"), [(0.5, 0.11236377621032465), (0.9, 0.024692378341298823)])
def test_optimum_below_the_threshold(share, q):
    probs = claims.fitted_probs(LOG_REF, 1.0, share)
    assert probs[0] == pytest.approx(q, rel=1e-12)
    np.testing.assert_allclose(probs[1:] / probs[1:].sum(), REST, atol=1e-12)


def test_above_the_threshold_the_response_vanishes():
    probs = claims.fitted_probs(LOG_REF, 1.0, 2.0, tolerance=1e-13)
    assert probs[0] < 1e-60


def test_at_the_threshold_the_loss_does_not_fall_to_zero():
    policies = claims.with_mass(np.asarray([-1e3, -1e6]), np.log(REST))
    values = claims.exact_loss(policies, LOG_REF, 1.0, 1.0)
    floor = np.logaddexp(0, (1 - RHO) * np.log1p(-RHO))
    np.testing.assert_allclose(values, floor, rtol=1e-9)


@pytest.mark.parametrize(
    ("seed", "d2o", "ga"),
    [(0, 0.454, 0.634), (1, 0.227, 0.289), (2, 0.200, 0.211), (3, 0.335, 0.349)],
)
def test_disturbances_at_a_tenth(seed, d2o, ga):
    # These come from fixed steps of 0.002, which overshoot the level a little.
    world, tenth = World.draw(seed), LEVELS[:1]
    assert world.disturbances(world.straight(), tenth)[0] == pytest.approx(d2o, abs=5e-3)
    path = world.flow("GA", tenth[0])
    assert world.disturbances(path, tenth)[0] == pytest.approx(ga, abs=5e-3)


@pytest.mark.parametrize("method", ["GA", "NPO", "D²O"])
def test_slopes_in_closed_form(method):
    world = World.draw(3)._replace(beta=0.3, alpha=0.2)
    theta, shares = np.random.default_rng(0).standard_normal(6), np.exp(world.log_ref)
    log_probs = log_softmax(world.features @ theta)
    mean, log_ratio = np.exp(log_probs) @ world.features, log_probs - world.log_ref
    towards = world.features[world.rejected] - mean
    margin = 0.3 * shares @ log_ratio - 0.2 * log_ratio[world.rejected]
    expected = {
        "GA": towards,
        "NPO": 2 * sigmoid(0.3 * log_ratio[world.rejected]) * towards,
        "D²O": sigmoid(-margin) * (0.2 * towards - 0.3 * (shares @ world.features - mean)),
    }
    found = gradient(world.loss(method), theta)
    np.testing.assert_allclose(found, expected[method], atol=1e-13)


def test_lines_leave_along_the_closed_form():
    world = World.draw(5)
    shares = world.sampled_shares(4, 3, np.random.default_rng(0))
    for line, drawn in zip(world.lines(shares), shares, strict=True):
        found, expected = (path.at(1.0) - world.start for path in (line, world.straight(drawn)))
        # With α = β = .1 the slope is half of .1 times the direction.
        np.testing.assert_allclose(found, 0.05 * expected, atol=1e-14)


def test_a_path_that_never_gets_there_is_nan():
    world = World.draw(0)
    # The only sample is the rejected response: nothing moves.
    only_rejected = np.eye(20)[world.rejected]
    assert np.isnan(world.disturbances(world.straight(only_rejected), LEVELS)).all()


def test_expected_losses_fall_in_k_strictly():
    log_policy = np.log([0.3, 0.1, 0.2, 0.15, 0.25])
    expected = claims.expected_losses(LOG_REF, 2.0, 9.9, log_policy, 4)
    exact = claims.exact_loss(log_policy, LOG_REF, 2.0, 9.9)
    assert (np.diff([*expected, exact]) < 0).all()


def test_more_samples_bring_the_optimum_to_the_exact_one():
    n = 200_000
    reference = TabularPolicy.from_logits(LOG_REF[None])
    drawn = Negatives.sample([0], [0], reference, n, seed=0).samples[0]
    counts = np.bincount(drawn, minlength=5)
    np.testing.assert_allclose(
        claims.fitted_probs(LOG_REF, 1.0, 0.3, counts),
        claims.fitted_probs(LOG_REF, 1.0, 0.3),
        atol=0.01,
    )


def test_runs_of_two_seeds_share_no_world():
    class Found(Exception):
        pass

    def seeds(seed, quick):
        def stop(items, description):
            if description == "worlds":
                raise Found(list(items))
            return items

        with pytest.raises(Found) as found:
            reproduce(Run(quick=quick, seed=seed, progress=stop))
        return found.value.args[0]

    for quick in (True, False):
        drawn = [seed for run in range(3) for seed in seeds(run, quick)]
        assert len(set(drawn)) == len(drawn) >= 3
