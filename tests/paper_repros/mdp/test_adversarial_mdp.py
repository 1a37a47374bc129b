"""arXiv:2301.12942: the regret of playing at random, bounds that hold, and one that does not."""

import numpy as np
import pytest

from paper_repros.mdp.adversarial_mdp.exact import Layers, distances, moments, shares, simulate
from paper_repros.mdp.adversarial_mdp.instances import (
    BARRIER,
    ENTROPY,
    added_by_a_step,
    layers_of,
    regret_and_bound,
)
from paper_repros.mdp.adversarial_mdp.play import BARRIER as LOG_BARRIER
from paper_repros.mdp.adversarial_mdp.play import (
    BONUS,
    METHODS,
    PLAIN,
    REDUCED,
    Worlds,
    play,
)
from prefsim.data.episodes import enumerate_episodes

EVENLY = np.full((3, 3, 3), 1 / 3)


def counterexample(regulariser):
    costs = iter([np.array([5.0, 0.0]), np.array([-100.0, 0.0])])
    return regret_and_bound(regulariser, 1.0, np.array([1.0, 0.0]), 2, lambda _: next(costs))


def test_the_bound_of_the_barrier_is_none_of_the_entropy():
    sides = counterexample(ENTROPY)
    assert sides.regret == pytest.approx(96.8307149076, abs=5e-11)
    assert sides.bound == pytest.approx(80.1216564234, abs=5e-11)
    with np.errstate(divide="ignore"):
        sides = counterexample(BARRIER)
    assert sides.regret < sides.bound


def test_a_step_of_the_barrier_costs_at_most_a_quarter():
    used = max(added_by_a_step(seed, BARRIER).max() for seed in range(30))
    assert 0.2499 < used <= 0.25 + 1e-9
    assert max(added_by_a_step(seed, ENTROPY).max() for seed in range(30)) > 0.3


@pytest.mark.parametrize(("episodes", "regret"), [(500, 133.3), (2000, 532.8), (8000, 2130.9)])
def test_regret_of_playing_at_random(episodes, regret):
    worlds = Worlds.draw(range(8))
    assert worlds.regret_of(EVENLY, episodes).mean() == pytest.approx(regret, abs=0.05)
    # No policy that is played throughout has less than none.
    rng = np.random.default_rng(0)
    for _ in range(5):
        policy = np.eye(3)[rng.integers(3, size=(3, 3))]
        assert (worlds.regret_of(policy, episodes) >= -1e-9 * episodes).all()


def test_rates():
    # 6 sqrt(A ln K / (K d)) / H and 6 sqrt(ln A / (K d)) / H.
    assert METHODS[LOG_BARRIER].rate(500) == pytest.approx(0.1931001, rel=1e-6)
    assert METHODS[REDUCED].rate(500) == METHODS[PLAIN].rate(500)
    assert METHODS[PLAIN].rate(500) == pytest.approx(0.04687456, rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_one_episode_by_hand(name):
    """After one episode the costs are the estimate less the bonus, and all else is even."""
    worlds, gamma, strength = Worlds.draw([3]), 0.1, 0.05
    luck = Worlds.draw([3]).generators[0].random((1, 6))
    played = play(worlds, 1, name, gamma=[gamma], strength=[strength], rate=0.1)
    np.testing.assert_allclose(played.policy[0, 0], EVENLY, atol=1e-15)
    process, losses = worlds.process, worlds.losses[0]
    moves, features = process.transitions[0], process.pair_features[0]
    visits = np.zeros((3, 3, 3))
    mass = np.array([1.0, 0.0, 0.0])
    for h in range(3):
        visits[h] = mass[:, None] / 3
        if h < 2:
            mass = np.einsum("sa,sat->t", visits[h], moves[h])
    state, states, actions = 0, [], []
    for h in range(3):
        states.append(state)
        actions.append(int(3 * luck[0, 2 * h + 1]))
        if h < 2:
            law = moves[h, state, actions[-1]]
            state = int((np.cumsum(law) <= luck[0, 2 * h + 2]).sum())
    bonus, estimate = np.zeros((3, 3, 3)), np.zeros((3, 9))
    for h in range(3):
        law = visits[h].ravel()
        inverse = np.linalg.inv(gamma * np.eye(4) + (features[h].T * law) @ features[h])
        weights = features[h] @ inverse @ features[h].T
        x = weights[:, 3 * states[h] + actions[h]]
        suffered = sum(losses[0, i, states[i], actions[i]] for i in range(h, 3))
        estimate[h] = x * suffered
        if METHODS[name].reduced:
            estimate[h] += 3 * (np.minimum(weights, 0) @ law - np.minimum(x, 0))
        norms = np.diagonal(weights).reshape(3, 3)
        bonus[h] = strength * (norms + norms.mean(axis=1, keepdims=True))
    for h in (1, 0):
        bonus[h] += 4 / 3 * np.einsum("sat,t->sa", moves[h], bonus[h + 1].mean(axis=1))
    np.testing.assert_allclose(
        played.costs[0, 0], estimate.reshape(3, 3, 3) - bonus, rtol=1e-11, atol=1e-11
    )
    assert played.smallest[0, 0] == pytest.approx(estimate.min(), abs=1e-11)
    expected = (visits * losses[0]).sum() - worlds.best(1)[0]
    assert played.regret[0, 0] == pytest.approx(expected, abs=1e-12)


def test_settings_and_worlds_of_a_batch_are_separate():
    seeds, options = (0, 1), {"episodes": 30, "name": REDUCED}
    both = play(Worlds.draw(seeds), gamma=[0.1, 0.02], strength=[0.0, 0.1], **options)
    for setting, (gamma, strength) in enumerate([(0.1, 0.0), (0.02, 0.1)]):
        for world in seeds:
            alone = play(Worlds.draw([world]), gamma=[gamma], strength=[strength], **options)
            np.testing.assert_allclose(
                both.costs[setting, world], alone.costs[0, 0], rtol=1e-9, atol=1e-9
            )
            assert both.regret[setting, world] == pytest.approx(alone.regret[0, 0], rel=1e-10)


def test_the_leader_learns():
    for name in METHODS:
        found = play(Worlds.draw(range(8)), 200, name, gamma=[1 / 200], strength=[BONUS / 200**0.5])
        at_random = Worlds.draw(range(8)).regret_of(EVENLY, 200)
        assert 0 < found.regret.mean() < 0.8 * at_random.mean()


def test_a_simulator_in_the_place_of_the_covariance():
    exact, drawn = (
        play(Worlds.draw(range(4)), 1, REDUCED, gamma=[0.1], strength=[0.1], draws=draws)
        for draws in (None, 10**7)
    )
    np.testing.assert_allclose(drawn.costs, exact.costs, rtol=0.01, atol=0.01)
    assert (drawn.costs != exact.costs).any()


def test_sums_over_all_episodes():
    layers = layers_of(5, 0.01)
    other = np.full_like(layers.policy, 1 / layers.policy.shape[-1])
    assert max(distances(layers, other, 1.0)) < 1e-12
    found = moments(layers, enumerate_episodes(layers.process, layers.policy))
    assert (found.reduced.smallest >= -np.sqrt(found.norms)).all()
    assert found.reduced.smallest.min() < 0
    used = shares(layers)
    assert used.square <= 1 and used.norm <= 1 and used.mean < 1e-15
    # Under the law of another policy the mean of the reduced estimate is another.
    shifted = moments(
        layers,
        enumerate_episodes(layers.process, layers.policy),
        law=layers._replace(policy=other).law(),
    )
    assert np.abs(shifted.reduced.mean - found.mean).max() > 1e-3


def test_inverses_from_draws_come_nearer():
    worlds = Worlds.draw(range(3))
    policy = np.broadcast_to(EVENLY, worlds.losses[0].shape)
    layers = Layers(worlds.process, worlds.losses[0], policy, 0.05)
    found = simulate(layers, (200, 3200), np.random.default_rng(0))
    for kind in {kind for kind, _ in found.spectra}:
        first, *_, last = found.errors(kind)
        assert last < 0.5 * first
    assert found.needed == found.sizes("empirical covariance")[-1] == 38346
    assert found.allowed == pytest.approx(2 * 0.05**0.5)
    assert max(found.z_scores.values()) < 5
