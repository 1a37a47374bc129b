"""The posterior of the weights of a judge: by quadrature, and over draws that say how far off."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from prefsim.numerics import sigmoid
from prefsim.solvers.likelihood.logistic_posterior import logistic_posterior
from prefsim.solvers.results import ConvergenceWarning

HAS = np.array([1.0, 1.0, 1.0, -1.0, 0.0, 1.0])[:, None]
FIRST = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
TWO = np.array([(1, 0), (1, 1), (-1, 1), (0, -1), (1, -1), (-1, -1), (1, 1), (0, 1)], dtype=float)


# By adaptive integration with breaks at the kink.
@pytest.mark.parametrize(
    ("options", "mean", "deviation"),
    [
        ({}, 0.028860000277990, 0.141427178238719),
        ({"scale": 1.0}, 0.797565759030798, 0.850631995734747),
        ({"weight": np.full(6, 30.0)}, 1.019600651162, 0.185600268017),
    ],
)
def test_known_means_and_deviations(options, mean, deviation):
    found = logistic_posterior(HAS, FIRST, **options)
    assert found.mean[0] == pytest.approx(mean, abs=1e-12)
    assert found.deviation[0] == pytest.approx(deviation, abs=1e-12)
    assert found.error[0] == 0


def test_known_means_of_two_weights():
    found = logistic_posterior(TWO, [1, 1, 0, 0, 1, 0, 1, 1], scale=0.5)
    np.testing.assert_allclose(found.mean, [1.05459762, 0.31364619], atol=1e-8)
    total = found.of([[1.0, 1.0], [0.0, -2.0]])
    np.testing.assert_allclose(total.mean, [found.mean.sum(), -2 * found.mean[1]])
    assert total.deviation[1] == pytest.approx(2 * found.deviation[1])
    low, high = found.interval()
    assert total.interval()[1][1] == pytest.approx(-2 * low[1]), (low, high)


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0.05, 3.0))
def test_one_weight_is_what_adaptive_integration_finds(wins, losses, scale):
    def mass(a, power):
        log_odds = -np.logaddexp(0, -a), -np.logaddexp(0, a)
        return a**power * np.exp(-abs(a) / scale + wins * log_odds[0] + losses * log_odds[1])

    found = logistic_posterior([[1.0], [1.0]], [1.0, 0.0], scale=scale, weight=[wins, losses])
    total, first = (
        sum(
            quad(mass, *ends, (power,), epsabs=0, epsrel=1e-11)[0]
            for ends in itertools.pairwise([-40 * scale, -4 * scale, 0.0, 4 * scale, 40 * scale])
        )
        for power in (0, 1)
    )
    assert found.mean[0] == pytest.approx(first / total, abs=1e-8)
    assert np.exp(found.log_evidence) == pytest.approx(total / (2 * scale), rel=1e-8)


@given(st.floats(0.02, 0.98))
def test_quantiles_cut_off_what_they_say(level):
    found = logistic_posterior(HAS, FIRST, scale=1.0)
    cut = found.quantile(level)[0]
    below = found.weight[found.nodes[:, 0] <= cut].sum()
    assert below == pytest.approx(level, abs=found.weight.max())


def test_draws_agree_with_quadrature_where_weights_do_not_meet():
    """Rows with one property each: the posterior is a product of posteriors of one weight."""
    rng = np.random.default_rng(0)
    which, sign = rng.integers(0, 4, 200), rng.choice([-1.0, 1.0], 200)
    features = np.eye(4)[which] * sign[:, None]
    prob = (rng.random(200) < sigmoid(sign * which / 3)) * 1.0
    found = logistic_posterior(features, prob, draws=2**12)
    alone = [logistic_posterior(features[which == k][:, [k]], prob[which == k]) for k in range(4)]
    np.testing.assert_array_less(
        np.abs(found.mean - [each.mean[0] for each in alone]), 6 * found.error + 1e-4
    )
    assert found.log_evidence == pytest.approx(sum(a.log_evidence for a in alone), abs=0.05)
    low, high = found.interval(0.9)
    for k, each in enumerate(alone):
        assert low[k] == pytest.approx(each.interval(0.9)[0][0], abs=0.02)
        assert high[k] == pytest.approx(each.interval(0.9)[1][0], abs=0.02)
    assert 0.3 < found.effective <= 1
    assert (found.error > 0).all()


def test_draws_follow_the_seed():
    x = np.eye(3)
    first, again, other = (
        logistic_posterior(x, [1, 0, 1], draws=64, seed=seed).mean for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_posterior_of_many_weights_and_few_draws_is_told():
    rng = np.random.default_rng(1)
    x = rng.integers(-1, 2, (40, 60)).astype(float)
    with pytest.warns(ConvergenceWarning, match="draws are worth"):
        logistic_posterior(x, rng.integers(0, 2, 40), scale=2.0, draws=64)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"features": HAS[None]}, "must be those of one fit"),
        ({"prob": FIRST[None]}, "must be those of one fit"),
        ({"weight": np.ones_like(FIRST)[None]}, "must be those of one fit"),
        ({"draws": 10}, "draws must be"),
        ({"scale": -1.0}, "scale must be"),
        ({"prob": FIRST[:2]}, "one length"),
    ],
)
def test_bad_input(given_, message):
    with pytest.raises(ValueError, match=message):
        logistic_posterior(**{"features": HAS, "prob": FIRST, **given_})


def test_bad_levels_and_contrasts():
    found = logistic_posterior(HAS, FIRST)
    with pytest.raises(ValueError, match="level must"):
        found.quantile(1.0)
    with pytest.raises(ValueError, match="level must"):
        found.interval(0.0)
    with pytest.raises(ValueError, match="contrasts must"):
        found.of([[1.0, 2.0]])
