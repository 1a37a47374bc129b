"""RSO: the accepted law, the sequential algorithm, the losses, the sources of pairs."""

import numpy as np
import pytest

from paper_repros.direct.rso import claims
from paper_repros.direct.rso.sampler import EXAMPLE, distance_in_law
from paper_repros.direct.rso.sources import asymptotic_gaps, misspecified_rewards, slic_hinge
from prefsim import losses
from prefsim.solvers.closed_forms.rejection import accepted_law


def test_law_and_rate():
    law = EXAMPLE.law()
    np.testing.assert_allclose(
        np.exp(law.log_probs), [0.04906103, 0.10002128, 0.18125735, 0.66966035], atol=5e-9
    )
    assert np.exp(law.log_rate) == pytest.approx(0.1493294327131754, rel=1e-14)


def test_clipped_law():
    law = accepted_law(EXAMPLE.reward, EXAMPLE.log_sft, beta=0.5, cap=np.asarray(1.0))
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
def test_divergence_and_rate_by_temperature(beta, kl, rate):
    law = EXAMPLE._replace(beta=beta).law()
    assert np.exp(law.log_rate) == pytest.approx(rate, abs=6e-4)
    assert np.exp(law.log_probs) @ (law.log_probs - EXAMPLE.log_sft) == pytest.approx(kl, abs=6e-4)


@pytest.mark.parametrize(
    ("candidates", "distance", "within"),
    [(2, 0.485, 1e-3), (8, 0.182, 3e-3), (64, 0.0, 3e-5), (256, 0.0, 1e-12)],
)
def test_first_accepted_of_few_candidates(candidates, distance, within):
    found = distance_in_law(EXAMPLE.first_of(candidates), EXAMPLE.target())
    assert found == pytest.approx(distance, abs=within)


@pytest.mark.parametrize(
    ("candidates", "distance", "within"), [(64, 0.040, 0.01), (1024, 0.007, 0.01)]
)
def test_all_accepted_of_many_candidates(candidates, distance, within):
    found = EXAMPLE.pooled_distance(candidates, 8, distinct=False, runs=2000, seed=1)
    assert found == pytest.approx(distance, abs=within)


def test_losses_of_a_margin():
    logps = claims.pairs(np.asarray([4.0]), -3.0)
    assert losses.dpo(logps, beta=0.05)[0] == pytest.approx(0.5981388693815918, rel=1e-14)
    assert losses.hinge(logps, beta=0.05)[0] == pytest.approx(0.8, rel=1e-14)
    assert slic_hinge(logps, beta=0.05)[0] == pytest.approx(0.8, rel=1e-14)


def test_pairs_of_the_target_are_not_always_better():
    sft, target = misspecified_rewards(1, instances=60)
    assert 0.05 < (target > sft).mean() < 0.5
    assert target.mean() < sft.mean()


def test_the_mixture_often_beats_both_sources_but_not_always():
    gaps = np.stack([asymptotic_gaps(seed) for seed in range(60)])
    best = (gaps[:, 2] < gaps[:, :2].min(axis=1)).mean()
    assert 0.5 < best < 1
