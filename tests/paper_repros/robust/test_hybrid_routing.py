"""arXiv:2410.19133: routed labels of drawn pools and of listeners."""

import numpy as np
import pytest

from paper_repros.robust.hybrid_routing.listeners import OTHERS, OWN, listen
from paper_repros.robust.hybrid_routing.pool import (
    HUMAN_ONLY,
    HYBRID,
    MODEL_ONLY,
    RANDOM,
    Pool,
    ridge_weights,
    route,
)


def test_reward_models_are_at_their_optimum():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((40, 5)), rng.integers(0, 2, (3, 40)) * 1.0
    weights = ridge_weights(x, labels)
    slope = (1 / (1 + np.exp(-weights @ x.T)) - labels) @ x + weights
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_the_model_is_biased_on_the_first_tag_alone():
    pool = Pool.draw(np.random.default_rng(0), n=20_000)
    truth = pool.differences @ [1.0, -1.0, 0.5, 0.5, 0.0] > 0
    right = pool.model == truth
    tagged = pool.features[:, 0] == 1
    assert right[tagged].mean() < 0.5 < 0.9 < right[~tagged].mean()
    np.testing.assert_array_equal(pool.features[:, :3] + pool.features[:, 3:], 1)


def test_a_routed_pool():
    found = route(np.random.default_rng(0), (0.0, 0.5, 1.0))
    scores = found.scores
    assert scores[MODEL_ONLY] < scores[RANDOM] < scores[HYBRID]
    assert found.curves[HYBRID][0.0] == scores[MODEL_ONLY]
    assert found.curves[HYBRID][0.5] == scores[HYBRID]
    assert found.curves[RANDOM][1.0] == scores[HUMAN_ONLY]
    assert found.biased[0] > 1.5 * found.biased[1]
    assert found.rank_correlation > 0.7
    assert found.error < 4
    assert found.unexplained < 1e-9


def test_listeners(real_data):
    found = listen(real_data, every=13, seed=0)
    own = np.diagonal(found.helped)
    assert own.size == 39
    assert own.mean() == pytest.approx(0.70559, abs=2e-5)
    assert found.pooled.mean() == pytest.approx(0.69643, abs=2e-5)
    assert found.accuracy[OWN].shape == found.accuracy[OTHERS].shape == (3,)


def test_without_people_that_part_is_not_run(tmp_path):
    assert listen(tmp_path, every=1, seed=0) is None
