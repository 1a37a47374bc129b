"""RSO: the accepted law, the sequential algorithm, the losses, the sources of pairs."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from paper_repros.direct.rso import claims, reproduction
from paper_repros.direct.rso.reproduction import distance_of_first
from paper_repros.direct.rso.sampler import EXAMPLE, distance_in_law
from paper_repros.direct.rso.sources import (
    asymptotic_gaps,
    hinge_of_two_responses,
    misspecified_rewards,
    pairs,
    slic_hinge,
)
from prefsim import losses
from prefsim.papers import Run
from prefsim.papers.checking import check_claim
from prefsim.papers.claims import claims_of
from prefsim.papers.sabotage import sabotaged
from prefsim.solvers.closed_forms.rejection import accepted_law, rejection_sample


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
    ("candidates", "distance"),
    [(2, 0.48459329), (8, 0.18363093), (64, 2.14084199e-5), (256, 6.9947904e-19)],
)
def test_first_accepted_of_few_candidates(candidates, distance):
    exact = np.abs(EXAMPLE.excess_of_first(candidates)).sum() / 2
    assert exact == pytest.approx(distance, rel=2e-8, abs=0)
    found = distance_in_law(EXAMPLE.first_of(candidates), EXAMPLE.target())
    assert found == pytest.approx(exact, abs=1e-15)


def test_excess_of_the_first_in_exact_fractions():
    # exp(r/β) is 1, 2, 4 and 4: a tie at the top.
    sampler = EXAMPLE._replace(
        reward=np.log([1.0, 2.0, 4.0, 4.0]), log_sft=np.log([0.4, 0.3, 0.2, 0.1]), beta=1.0
    )
    candidates, law = 3, [Fraction(0)] * 4
    weight, sft = [1, 2, 4, 4], [Fraction(k, 10) for k in (4, 3, 2, 1)]
    for drawn in itertools.product(range(4), repeat=candidates):
        chance = math.prod(sft[y] for y in drawn)
        cap = max(weight[y] for y in drawn)
        for y in drawn:
            accepted = Fraction(weight[y], cap)
            law[y] += chance * accepted
            chance *= 1 - accepted
    # What no pass accepts is tried again: the candidates at the cap are always accepted.
    total = sum(law)
    target = [s * w for s, w in zip(sft, weight, strict=True)]
    stated = [float(a / total - b / sum(target)) for a, b in zip(law, target, strict=True)]
    assert total == 1
    np.testing.assert_allclose(sampler.excess_of_first(candidates), stated, rtol=1e-13)


@pytest.mark.parametrize(
    ("candidates", "distance", "within"), [(64, 0.040, 0.01), (1024, 0.007, 0.01)]
)
def test_all_accepted_of_many_candidates(candidates, distance, within):
    found = EXAMPLE.pooled_distance(candidates, 8, distinct=False, runs=2000, seed=1)
    assert found == pytest.approx(distance, abs=within)


def take_the_first(original):
    """Accept whatever comes first."""
    return lambda reward, k, **options: np.broadcast_to(np.arange(k), (*reward.shape[:-1], k))


def prefer_the_worst(original):
    """Take a reward for a cost."""
    return lambda reward, k, **options: original(-np.asarray(reward), k, **options)


def sample_too_hot(original):
    """Sample at twice the temperature."""
    return lambda reward, k, *, beta, **options: original(reward, k, beta=2 * beta, **options)


@pytest.mark.parametrize("wrong", [take_the_first, prefer_the_worst, sample_too_hot])
def test_a_wrong_sampler_is_noticed(wrong):
    checked = [
        claim._replace(breaks=(), dropped=())
        for claim in claims_of(claims)
        if claim.id in ("S2", "S4-all")
    ]
    assert len(checked) == 2
    with sabotaged(rejection_sample, wrong):
        assert not all(check_claim(claim, examples=5).holds for claim in checked)
        assert distance_of_first(8, (0,)) > 0.05
        assert EXAMPLE.pooled_distance(256, 8, distinct=False, runs=400, seed=0) > 0.05


def test_hinge_brings_every_margin_to_its_kink():
    scaled, excess = hinge_of_two_responses(3, steps=400)
    np.testing.assert_allclose(scaled, 1.0, atol=0.05)
    assert 0 <= excess < 0.01


def test_losses_of_a_margin():
    logps = pairs(np.asarray([4.0]), -3.0)
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


def test_runs_of_two_seeds_share_no_world(monkeypatch):
    class Found(Exception):
        pass

    def stop(seeds, **options):
        raise Found(list(seeds))

    monkeypatch.setattr(reproduction, "train_on_every_source", stop)
    monkeypatch.setattr(reproduction, "ACCEPTED", 100)  # not looked at here
    for quick in (True, False):
        drawn = []
        for seed in range(3):
            with pytest.raises(Found) as found:
                reproduction.reproduce(Run(quick=quick, seed=seed))
            drawn += found.value.args[0]
        assert len(set(drawn)) == len(drawn)
