"""Linear decision processes: what they are made of, their simulator, and the table they are."""

import numpy as np
import pytest
import torch

from prefsim.backend import use_backend
from prefsim.worlds import LinearMDP, TabularMDP


def test_the_next_state_is_a_mixture():
    process = LinearMDP.random(3, 2, 4, 5, seed=0, batch_shape=(6,))
    assert process.batch_shape == (6,) and process.transitions.shape == (6, 2, 2, 4, 2)
    assert (process.n_layers, process.n_states, process.n_actions, process.dim) == (3, 2, 4, 5)
    for h in range(2):
        expected = np.einsum("wsai,wit->wsat", process.features[:, h], process.measures[:, h])
        np.testing.assert_allclose(process.transitions[:, h], expected, atol=1e-14)
    assert process.pair_features.shape == (6, 3, 8, 5)
    assert (np.linalg.norm(process.features, axis=-1) <= 1 + 1e-12).all()
    assert process.start_probs.tolist() == [1.0, 0.0]


def test_losses():
    process = LinearMDP.random(3, 2, 2, 4, seed=0)
    weights = np.random.default_rng(1).random((5, 3, 4))
    losses = process.losses(weights)
    np.testing.assert_allclose(
        losses, np.einsum("hsai,khi->khsa", process.features, weights), atol=1e-14
    )
    for scale in (3.0, -1.0):
        with pytest.raises(ValueError, match=r"losses must lie in \[0, 1\]"):
            process.losses(scale * (1 + weights))
    with pytest.raises(ValueError, match="weights must have trailing shape"):
        process.losses(weights[..., :3])


def test_a_table_is_linear_in_its_pairs():
    moves = TabularMDP.random(3, 2, discount=0.9, seed=0).transitions
    process = LinearMDP.tabular(np.stack([moves, moves]), start_probs=np.full(3, 1 / 3))
    np.testing.assert_array_equal(process.transitions, np.stack([moves, moves]))
    np.testing.assert_array_equal(process.pair_features, np.broadcast_to(np.eye(6), (3, 6, 6)))
    losses = np.random.default_rng(0).random((3, 3, 2))
    np.testing.assert_array_equal(process.losses(losses.reshape(3, 6)), losses)


def test_as_one_table():
    process = LinearMDP.random(2, 2, 2, 3, seed=0)
    losses = np.arange(8.0).reshape(2, 2, 2)
    mdp = process.to_mdp(losses)
    assert mdp.n_states == 5 and mdp.horizon == 2 and mdp.terminal.tolist() == [False] * 4 + [True]
    np.testing.assert_array_equal(mdp.reward[:4], -losses.reshape(4, 2))
    np.testing.assert_allclose(mdp.transitions[:2, :, 2:4], process.transitions[0])
    assert (mdp.transitions[2:, :, 4] == 1).all()
    assert process.to_mdp(np.stack([losses, losses])).batch_shape == (2,)
    with pytest.raises(ValueError, match="losses must have trailing shape"):
        process.to_mdp(losses[:1])


def test_the_simulator_draws_from_the_laws():
    process = LinearMDP.random(2, 3, 2, 3, seed=0)
    drawn = process.sample_next(0, np.full(20_000, 2), 1, seed=1)
    share, p = np.bincount(drawn, minlength=3) / 20_000, process.transitions[0, 2, 1]
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 20_000)).all()
    with pytest.raises(ValueError, match=r"layer must be an integer in \[0, 0\]"):
        process.sample_next(1, 0, 0, seed=0)
    with pytest.raises(ValueError, match="state must be"):
        process.sample_next(0, 3, 0, seed=0)
    with pytest.raises(ValueError, match="needs one process"):
        LinearMDP.random(2, 3, 2, 3, seed=0, batch_shape=(2,)).sample_next(0, 0, 0, seed=0)


def test_one_layer_has_no_next_state():
    process = LinearMDP([[[[1.0, 0.0], [0.5, 0.5]]]], np.zeros((0, 2, 1)))
    assert process.transitions.shape == (0, 1, 2, 1)
    assert process.to_mdp([[[0.5, 0.25]]]).horizon == 1


def test_backends_and_seeds():
    again = [LinearMDP.random(2, 2, 2, 3, seed=5) for _ in range(2)]
    np.testing.assert_array_equal(again[0].features, again[1].features)
    with use_backend("torch"):
        on_torch = LinearMDP.random(2, 2, 2, 3, seed=5)
        losses = on_torch.losses(torch.full((2, 3), 0.5, dtype=torch.float64))
    assert isinstance(on_torch.transitions, torch.Tensor) and isinstance(losses, torch.Tensor)
    np.testing.assert_allclose(on_torch.transitions, again[0].transitions, atol=1e-15)


def test_bad_input():
    good = LinearMDP.random(3, 2, 2, 3, seed=0)
    for features, measures, message in (
        (2 * good.features, good.measures, "features must sum to 1"),
        (good.features - 0.5, good.measures, "features must be >= 0"),
        (good.features, good.measures[:1], "measures must have trailing shape"),
        (good.features, -good.measures, "measures must be >= 0"),
        (good.features[0], good.measures, "features must have at least 4 axes"),
        (np.stack([good.features] * 2), np.stack([good.measures] * 3), "batch axes"),
    ):
        with pytest.raises(ValueError, match=message):
            LinearMDP(features, measures)
    with pytest.raises(ValueError, match="start_probs must have trailing shape"):
        LinearMDP(good.features, good.measures, start_probs=[0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match="transitions must"):
        LinearMDP.tabular(np.full((1, 2, 2, 3), 1 / 3))
    with pytest.raises(ValueError, match="dim must be"):
        LinearMDP.random(2, 2, 2, 0, seed=0)
    with pytest.raises(ValueError, match="concentration must be"):
        LinearMDP.random(2, 2, 2, 2, seed=0, concentration=0.0)
