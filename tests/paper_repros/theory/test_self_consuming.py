"""arXiv:2407.09499: eight curated Gaussians, exactly and from samples; the lemma; classes."""

import numpy as np
import pytest

from paper_repros.theory.self_consuming.claims import weights
from paper_repros.theory.self_consuming.curated_mixtures import (
    CENTRES,
    from_samples,
    liking,
    on_a_grid,
    ranked_classes,
)
from prefsim.numerics import categorical_kl
from prefsim.solvers.closed_forms.curation import curated_law

P, R = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.0, 0.5, 1.0, 2.0])


@pytest.mark.parametrize(
    ("candidates", "mean", "bound"),
    [(2, 2.0595101526, 1.9081234999), (4, 2.340381096, 1.9762795197)],
)
def test_the_lemma_on_one_round(candidates, mean, bound):
    before, variance = weights(R, np.log(P))
    assert before == pytest.approx(1.7718114604, abs=1e-9)
    after, _ = weights(R, curated_law(R, np.log(P), candidates=candidates))
    assert after == pytest.approx(mean, abs=1e-9)
    promised = before + (candidates - 1) / candidates * variance / np.exp(R.max())
    assert promised == pytest.approx(bound, abs=1e-9)


def test_the_reward_is_flat_near_the_liked_centre():
    np.testing.assert_allclose(liking(CENTRES[:2]), [0.0, -10 * (4 * np.sin(np.pi / 8) - 1)])


def test_curated_gaussians():
    # Computed on the grid of 71 points a side by another quadrature, to 1e-4.
    mixture = on_a_grid(51)
    alone = mixture.loop(5)
    np.testing.assert_allclose(mixture.shares(alone[[1, 5]])[:, 0], [0.407, 0.988], atol=2e-3)
    np.testing.assert_allclose(mixture.liked(alone[[0, 1, 5]]), [0.1319, 0.4252, 0.9981], atol=1e-3)
    with_real = {ratio: mixture.loop(20, ratio)[-1] for ratio in (0.3, 1.0)}
    found = [
        (mixture.shares(law)[0], mixture.liked(law), categorical_kl(law, mixture.log_law))
        for law in with_real.values()
    ]
    np.testing.assert_allclose(found, [(0.251, 0.2605, 0.0660), (0.530, 0.5395, 0.482)], atol=1e-3)


def test_samples_follow_the_exact_loop():
    rng = np.random.default_rng(0)
    runs = np.stack([from_samples(2000, 3, rng) for _ in range(10)])
    error = runs.std(axis=0) / np.sqrt(10)
    assert (np.abs(runs.mean(axis=0) - [0.4252, 0.8639, 0.9848]) <= 4 * error + 2e-3).all()


def test_classes_drift_apart_in_the_order_of_their_rewards():
    classes = ranked_classes(np.random.default_rng(0), 3)
    entropy = classes.entropy()
    np.testing.assert_allclose(entropy[0], np.log(10))
    assert (np.diff(entropy, axis=0) < 0).all()
    for world in range(3):
        order = np.argsort(classes.reward[world])
        assert (np.diff(classes.path[1:, world][:, order], axis=-1) > 0).all()
