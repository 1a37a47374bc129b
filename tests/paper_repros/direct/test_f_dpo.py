"""f-DPO: sharp constants, conventions, and what a penalty does on small bandits."""

import math

import numpy as np
import pytest

from paper_repros.direct.f_dpo import claims, reproduction
from paper_repros.direct.f_dpo.frontiers import draw_bandit, entropy_at_reward_one
from paper_repros.direct.f_dpo.optima import least_beta
from prefsim.divergences import DIVERGENCES, divergence_score, f_divergence, pinsker_constant
from prefsim.losses import PairLogps
from prefsim.numerics import log_softmax
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers.closed_forms.chi_squared import chi_squared_optimum
from prefsim.worlds import ContextualBandit

REWARD, REFERENCE = np.asarray([[1.0, 0.0, -1.0]]), np.asarray([[0.5, 0.3, 0.2]])
BANDIT = ContextualBandit(reward=REWARD), TabularPolicy.from_probs(REFERENCE)


@pytest.mark.parametrize(
    ("divergence", "supremum"),
    [
        ("reverse_kl", 0.70711),
        ("forward_kl", 0.70711),
        ("alpha", 0.70711),
        ("jensen_shannon", 1.0),
        ("mixed_chi_squared", 0.5),
    ],
)
def test_the_constants_of_total_variation_are_attained(divergence, supremum):
    rng = np.random.default_rng(0)
    scale = rng.choice([0.01, 0.5, 3.0], size=(20_000, 1, 1))
    logits = rng.normal(scale=scale, size=(20_000, 2, 4))
    logp, logq = log_softmax(logits[:, 0]), log_softmax(logits[:, 1])
    distance = 0.5 * np.abs(np.exp(logp) - np.exp(logq)).sum(axis=-1)
    ratios = distance / np.sqrt(f_divergence(logp, logq, divergence, alpha=0.3))
    assert pinsker_constant(divergence) == pytest.approx(supremum, abs=5e-6)
    assert ratios.max() <= pinsker_constant(divergence) * (1 + 1e-7)
    assert ratios.max() >= 0.99 * pinsker_constant(divergence)


def test_the_coefficient_of_trl_in_numbers():
    u, alpha = 3.0, 0.3
    ours = float(divergence_score(np.asarray(math.log(u)), "alpha", alpha=alpha))
    assert (u ** ((1 - alpha) - 1) - 1) / ((1 - alpha) - 1) == pytest.approx(ours, rel=1e-14)
    # What older versions computed for the same number.
    assert abs((u ** (alpha - 1) - 1) / (alpha - 1) - ours) > 0.1


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_shift_of_the_log_ratios_matters_to_all_but_reverse_kl(divergence):
    logps = PairLogps(*(np.asarray([x]) for x in (-1.0, -2.0, -1.5, -1.5)))
    error = claims.ignores_a_constant_on_the_scores(logps, 1.0, divergence, 0.4, 1.0).error
    assert error < 1e-15 if divergence == "reverse_kl" else error > 1e-2


def test_a_dropped_response_loses_its_reward_difference():
    # E_ref r = 0.3 and min r = −1: responses are dropped below β = 0.65 and none above.
    assert least_beta(BANDIT) == pytest.approx(0.65)
    for beta, dropped in ((0.6, 1), (0.66, 0)):
        assert int(np.sum(chi_squared_optimum(REWARD, REFERENCE, beta=beta).policy == 0)) == dropped
    assert claims.pure_chi_squared_drops_responses(BANDIT, 0.9).error < 1e-14
    assert claims.pure_chi_squared_drops_responses(BANDIT, 1.1).error == 1


def test_dpo_under_the_pure_chi_squared_misses_the_optimum_only_where_something_is_dropped():
    assert claims.dpo_finds_the_optimum(BANDIT, 0.3, 0.5, "pure χ²").error > 1e-3
    assert claims.dpo_finds_the_optimum(BANDIT, 1.5, 0.5, "pure χ²").error < 1e-8


def test_which_of_two_penalties_keeps_more_entropy_depends_on_the_bandit():
    """Neither order is a theorem.

    Two seeds of the same kind of bandit give opposite answers at reward 1.
    """

    def gain(seed: int) -> float:
        bandit = draw_bandit(50, seed)
        return entropy_at_reward_one(*bandit, "forward KL") - entropy_at_reward_one(
            *bandit, "reverse KL"
        )

    assert gain(0) < -0.05
    assert gain(5) > 0.05


def test_runs_of_two_seeds_share_no_bandit(monkeypatch):
    class Found(Exception):
        pass

    def draw(n, seed):
        drawn.append(np.random.default_rng(seed).random())
        # The first of a run is that of its figure.
        if len(drawn) % (1 + reproduction.OTHER_BANDITS) == 0:
            raise Found
        return draw_bandit(n, seed)

    drawn = []
    monkeypatch.setattr(reproduction, "draw_bandit", draw)
    monkeypatch.setattr(reproduction, "exact_frontier", lambda *bandit: None)
    monkeypatch.setattr(reproduction, "trained_rewards", lambda *options: np.zeros((1, 1)))
    monkeypatch.setattr(reproduction, "entropy_gain", lambda n, seed: draw(n, seed) and 0.0)
    for seed in range(3):
        with pytest.raises(Found):
            reproduction.reproduce(Run(quick=True, seed=seed))
    assert len(set(drawn)) == len(drawn) == 3 * (1 + reproduction.OTHER_BANDITS)
