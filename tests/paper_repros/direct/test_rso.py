"""Golden values of arXiv:2309.06657.

The accepted law, its rate, the sequential algorithm and the losses.
"""

import numpy as np
import pytest

from paper_repros import _rso_experiments as experiments
from paper_repros import rso as paper
from prefsim import losses
from prefsim.papers import Run
from prefsim.solvers import gibbs_log_policy
from prefsim.solvers.closed_forms.rejection import (
    accepted_law,
    first_accepted_law,
    rejection_sample,
)


def test_golden_law_and_rate():
    law = accepted_law(paper.EXAMPLE.reward, paper.EXAMPLE.log_sft, beta=0.5)
    np.testing.assert_allclose(
        np.exp(law.log_probs), [0.04906103, 0.10002128, 0.18125735, 0.66966035], atol=5e-9
    )
    assert np.exp(law.log_rate) == pytest.approx(0.1493294327131754, rel=1e-14)


def test_golden_clipped_law():
    law = accepted_law(paper.EXAMPLE.reward, paper.EXAMPLE.log_sft, beta=0.5, cap=np.asarray(1.0))
    np.testing.assert_allclose(
        np.exp(law.log_probs), [0.11654328, 0.23759811, 0.43057241, 0.21528621], atol=5e-9
    )


@pytest.mark.parametrize(
    ("beta", "kl", "rate"),
    [
        (0.25, 2.065, 0.105),
        (0.5, 1.043, 0.149),
        (1, 0.264, 0.295),
        (2, 0.0574, 0.510),
        (8, 0.0031, 0.837),
    ],
)
def test_golden_divergence_and_rate_by_temperature(beta, kl, rate):
    law = accepted_law(paper.EXAMPLE.reward, paper.EXAMPLE.log_sft, beta=beta)
    assert np.exp(law.log_rate) == pytest.approx(rate, abs=6e-4)
    assert np.exp(law.log_probs) @ (law.log_probs - paper.EXAMPLE.log_sft) == pytest.approx(
        kl, abs=6e-4
    )


# The page has .485, .182, .012 and .007 from 4000 runs, whose noise is about .01; the enumeration
# has none.
@pytest.mark.parametrize(
    ("candidates", "distance", "within"),
    [(2, 0.485, 1e-3), (8, 0.182, 3e-3), (64, 0.0, 3e-5), (256, 0.0, 1e-12)],
)
def test_first_accepted_of_few_candidates(candidates, distance, within):
    found = first_accepted_law(paper.EXAMPLE.reward, paper.EXAMPLE.log_sft, candidates, beta=0.5)
    target, _ = gibbs_log_policy(paper.EXAMPLE.reward, paper.EXAMPLE.log_sft, beta=0.5)
    assert paper.variation(found, target) == pytest.approx(distance, abs=within)


@pytest.mark.parametrize(
    ("candidates", "distance", "within"), [(64, 0.040, 0.01), (1024, 0.007, 0.01)]
)
def test_all_accepted_of_many_candidates(candidates, distance, within):
    assert paper.pooled_distance(candidates, 8, dedup=False, runs=2000, seed=1) == pytest.approx(
        distance, abs=within
    )


def test_golden_losses():
    logps = paper.logps(np.asarray([4.0]), -3.0)
    assert losses.dpo(logps, beta=0.05)[0] == pytest.approx(0.5981388693815918, rel=1e-14)
    assert losses.hinge(logps, beta=0.05)[0] == pytest.approx(0.8, rel=1e-14)
    assert experiments.slic_hinge(logps, beta=0.05)[0] == pytest.approx(0.8, rel=1e-14)


def test_pairs_of_the_target_are_not_always_better():
    # The page: 34 % of 300 instances of a law it does not give; here rewards and features are
    # standard normal.
    sft, target = experiments.misspecified(1, instances=60)
    assert 0.05 < (target > sft).mean() < 0.5
    assert target.mean() < sft.mean()


def test_the_mixture_often_beats_both_sources_but_not_always():
    gaps = np.stack([experiments.asymptotic_gaps(seed) for seed in range(60)])
    best = (gaps[:, 2] < gaps[:, :2].min(axis=1)).mean()
    assert 0.5 < best < 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: rejection_sample([1.0, 2.0], 3, beta=0.5, seed=0),
            r"n_samples must be an integer in \[1, 2\]",
        ),
        (
            lambda: rejection_sample([1.0, 2.0], 2, beta=0.5, seed=0, keys=[7, 7]),
            "distinct candidates, got 2 for 1",
        ),
        (lambda: rejection_sample([1.0, np.nan], 1, beta=0.5, seed=0), "reward must be finite"),
        (
            lambda: rejection_sample([1.0, 2.0], 1, beta=-0.5, seed=0),
            "beta must be a finite number >= 0",
        ),
        (
            lambda: losses.hinge(paper.logps(np.zeros(1), 0.0), beta=0.0),
            "beta must be a finite number > 0",
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
    assert len(result.table) == 9
