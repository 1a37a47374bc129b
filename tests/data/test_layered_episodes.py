"""Episodes in layers: all of them with their probabilities, and those that are played."""

import numpy as np
import pytest

from prefsim.data.episodes import enumerate_episodes, losses_to_go, play_layers
from prefsim.data.trajectories import enumerate_trajectories
from prefsim.policies import TabularPolicy
from prefsim.solvers.planning.layered import layered_occupancy, layered_values
from prefsim.worlds import LinearMDP

H, S, A = 3, 2, 2


def drawn(seed=0, batch=(), start=None):
    rng = np.random.default_rng(seed)
    process = LinearMDP.random(H, S, A, 3, seed=rng, batch_shape=batch)
    if start is not None:
        process = LinearMDP(process.features, process.measures, start_probs=start)
    return process, rng.random((*batch, H, S, A)), rng.dirichlet(np.ones(A), (*batch, H, S))


@pytest.mark.parametrize("start", [None, [0.25, 0.75]])
def test_every_episode_is_there_once(start):
    process, losses, policy = drawn(start=start)
    episodes = enumerate_episodes(process, policy)
    count = (1 if start is None else S) * A * (S * A) ** (H - 1)
    pairs = {tuple(np.concatenate(each)) for each in zip(*episodes[:2], strict=True)}
    assert len(pairs) == len(episodes.prob) == count
    np.testing.assert_allclose(episodes.prob.sum(), 1.0, atol=1e-13)
    # The same, from the one large table.
    table = np.concatenate([policy.reshape(-1, A), np.full((1, A), 1 / A)])
    mdp = process.to_mdp(losses)
    every = enumerate_trajectories(
        mdp, H, policy=TabularPolicy.from_probs(table), start=mdp.start_probs
    )
    known = dict(
        zip(
            map(tuple, np.column_stack([every.states[:, :H], every.actions])),
            every.prob,
            strict=True,
        )
    )
    shifted = np.column_stack([episodes.states + S * np.arange(H), episodes.actions])
    found = dict(zip(map(tuple, shifted), episodes.prob, strict=True))
    assert set(known) == set(found)
    for key, prob in known.items():
        assert prob == pytest.approx(found[key], abs=1e-14)


def test_a_batch_of_processes_and_policies():
    process, losses, policy = drawn(batch=(2,))
    more = np.stack([policy, policy[..., ::-1]])
    episodes = enumerate_episodes(process, more)
    met = losses_to_go(losses[:, None], episodes.states, episodes.actions)
    assert episodes.prob.shape[:-1] == (2, 2)
    value = (more * layered_values(process.transitions, losses, more))[..., 0, 0, :].sum(axis=-1)
    np.testing.assert_allclose((episodes.prob * met[..., 0]).sum(axis=-1), value, atol=1e-13)
    assert ((met[..., :-1] - met[..., 1:]) >= 0).all()


def test_played_episodes_have_the_right_frequencies():
    process, _, policy = drawn(start=[0.25, 0.75])
    rng, n = np.random.default_rng(1), 20_000
    states, actions = play_layers(
        process.transitions, policy, process.start_probs, rng.random((n, 2 * H))
    )
    visits = layered_occupancy(process.transitions, policy, process.start_probs)
    for h in range(H):
        share = np.bincount(states[:, h] * A + actions[:, h], minlength=S * A) / n
        p = visits[h].ravel()
        assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / n) + 1e-12).all()


def test_one_luck_for_all_and_never_what_cannot_be():
    process, _, policy = drawn(batch=(3,))
    sure = np.eye(A)[np.argmax(policy, axis=-1)]
    for height in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        states, actions = play_layers(
            process.transitions, sure, process.start_probs, np.full((3, 2 * H), height)
        )
        assert states.shape == actions.shape == (3, H) and (states[:, 0] == 0).all()
        chosen = np.take_along_axis(sure, states[..., None, None], axis=-2)[..., 0, :]
        assert (np.take_along_axis(chosen, actions[..., None], axis=-1) == 1).all()
    # Settings share the luck of their world.
    luck = np.random.default_rng(0).random((3, 2 * H))
    twice = play_layers(process.transitions, np.stack([policy] * 2), process.start_probs, luck)
    np.testing.assert_array_equal(twice[0][0], twice[0][1])
    alone = play_layers(process.transitions[1], policy[1], process.start_probs, luck[1])
    np.testing.assert_array_equal(twice[1][0, 1], alone[1])


def test_bad_input():
    process, losses, policy = drawn()
    with pytest.raises(ValueError, match="policy must have trailing shape"):
        enumerate_episodes(process, policy[:2])
    with pytest.raises(ValueError, match="policy must sum to 1"):
        enumerate_episodes(process, 2 * policy)
    with pytest.raises(TypeError, match="world must be a LinearMDP"):
        enumerate_episodes(process.to_mdp(losses), policy)
    large = LinearMDP.random(5, 5, 5, 2, seed=0)
    with pytest.raises(ValueError, match="at most 1000000 episodes"):
        enumerate_episodes(large, np.full((5, 5, 5), 0.2))
    with pytest.raises(ValueError, match=r"heights must have trailing shape \(6\)"):
        play_layers(process.transitions, policy, process.start_probs, np.zeros(5))
    with pytest.raises(ValueError, match="states must have trailing shape"):
        losses_to_go(losses, np.zeros(2, dtype=int), np.zeros(3, dtype=int))
