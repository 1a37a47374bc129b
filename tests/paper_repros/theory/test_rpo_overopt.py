"""Golden values of arXiv:2405.16436.

The loss, the unidentified response, and the small overoptimisation study.
"""

import numpy as np
import pytest

from paper_repros import rpo_overopt as paper
from prefsim.losses import PairLogps, dpo, rpo
from prefsim.papers import Run

BATCH = PairLogps(
    chosen=np.array([-12.5]),
    rejected=np.array([-14.0]),
    ref_chosen=np.array([-13.0]),
    ref_rejected=np.array([-13.5]),
)


def test_golden_loss():
    assert rpo(BATCH, beta=0.1, eta=0.005)[0] == pytest.approx(0.6506466600735709, abs=1e-15)
    assert rpo(BATCH, beta=0.1, eta=0.0)[0] == dpo(BATCH, beta=0.1)[0]


def test_the_two_published_variants_differ_and_both_can_be_had():
    logps = BATCH._replace(chosen_length=np.array([5.0]), rejected_length=np.array([7.0]))
    plain = dpo(logps, beta=0.1)[0]
    assert rpo(logps, beta=0.1, eta=0.005, reduction="sum")[0] - plain == pytest.approx(
        0.005 * 0.1 * 12.5, rel=1e-12
    )
    assert rpo(logps, beta=0.1, eta=0.2, reduction="mean")[0] - plain == pytest.approx(
        0.2 * 12.5 / 5, rel=1e-12
    )
    assert rpo(logps, beta=0.1, eta=0.2, reduction="mean", scale_by_beta=True)[
        0
    ] - plain == pytest.approx(0.02 * 12.5 / 5, rel=1e-12)
    assert rpo(logps, beta=0.1, eta=0.2, scale_by_beta=False)[0] - plain == pytest.approx(
        0.2 * 12.5, rel=1e-12
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": -0.1}, "eta must be"),
        ({"beta": 0.0}, "beta must be"),
        ({"reduction": "max"}, "reduction"),
    ],
)
def test_bad_hyper_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        rpo(BATCH, **options)


def test_the_unseen_response_golden():
    dpo_losses, optima = paper.solve_unseen(paper.Unseen())
    # DPO cannot tell 1 % from 98 % on the unseen response.
    np.testing.assert_allclose(dpo_losses, 0.54409455, atol=1e-8)
    assert np.ptp(dpo_losses) < 1e-15
    np.testing.assert_allclose(optima, np.tile([0.91437335, 0.08562665, 0.0], (5, 1)), atol=1e-8)


def test_gaps_of_the_small_study():
    gaps = paper.measure_gaps((25, 50, 400), 200, Run(quick=True))
    names = list(paper.RULES)
    mean, tail = gaps.mean(axis=-1), np.quantile(gaps, 0.95, axis=-1)
    tuned, plain, fixed = names.index(paper.TUNED), names.index(paper.DPO), names.index(paper.FIXED)
    assert gaps.shape == (4, 3, 200)
    assert (mean[tuned, :2] <= 0.85 * mean[plain, :2]).all()
    assert (tail[tuned, :2] <= 0.75 * tail[plain, :2]).all()
    assert abs(mean[tuned, 2] - mean[plain, 2]) <= 0.03
    assert mean[:, 2].argmax() == fixed
    # The means of two hundred data sets lie within Monte Carlo error of those measured once with
    # another generator.
    for rule, expected in ((plain, (0.350, 0.389, 0.088)), (tuned, (0.280, 0.280, 0.113))):
        error = 5 * np.sqrt(2) * gaps[rule].std(axis=-1) / np.sqrt(200)
        assert (np.abs(mean[rule] - expected) <= error).all()


def test_seeds_change_the_data_and_nothing_else_does():
    small = paper.measure_gaps((25,), 5, Run(quick=True))
    np.testing.assert_array_equal(small, paper.measure_gaps((25,), 5, Run(quick=True)))
    assert not np.array_equal(small, paper.measure_gaps((25,), 5, Run(quick=True, seed=1)))


def test_trajectories_part():
    steps, paths = paper.trajectories(80)
    assert steps[-1] == 80
    assert paths.shape == (2, len(steps))
    assert (np.diff(paths[0]) < 0).all()
    assert paths[1, -1] > paths[1, 0]


def test_the_rate_needs_coverage():
    sizes = (100, 1600)
    covered, bounds, coverage = paper.guarantee(
        paper.Rate((1.0, 0.6, 0.3, 0.0), (0.4, 0.3, 0.2, 0.1)), sizes, 50
    )
    assert np.isfinite(coverage)
    assert (covered <= bounds[:, None]).all()
    uncovered, bounds, coverage = paper.guarantee(
        paper.Rate((1.0, 0.6, 0.3, 0.0), (0.0, 0.5, 0.3, 0.2)), sizes, 50
    )
    assert coverage == np.inf
    assert np.isinf(bounds).all()
    assert (uncovered.mean(axis=1) > 0.3).all()


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.figure.axes) == 3
    assert len(result.table) == 24
