"""Segments: populations against a plain enumeration, draws, recordings, and bad input."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.backend import to_numpy, use_backend
from prefsim.data import Segments, read_jsonl, trajectories, write_jsonl
from prefsim.data import segments as module
from prefsim.data.trajectories import (
    enumerate_trajectories,
    record_trajectories,
    sample_trajectories,
)
from prefsim.losses import PairLogps, TokenPairLogps, cpl
from prefsim.policies import TabularPolicy
from prefsim.raters.regret import noiseless_preference, segment_return
from prefsim.solvers import fit, objective
from prefsim.solvers.planning import policy_iteration, soft_value_iteration
from prefsim.testing.segments import segment_pairs, segment_processes
from prefsim.worlds import TabularMDP

CORRIDOR = TabularMDP.grid_world([[-1.0, -2.0, 5.0]], terminal=[[False, False, True]], discount=0.9)
STATES, ACTIONS = [[[0, 1, 2], [0, 0, 1]]], [[[3, 3], [2, 3]]]


# --- trajectories ---


@given(segment_processes())
def test_trajectories_are_a_distribution_over_possible_ones(process):
    mdp, length = process
    found = enumerate_trajectories(mdp, length)
    assert found.prob.sum() == pytest.approx(1.0)
    together = np.concatenate([found.states, found.actions], axis=1)
    assert np.unique(together, axis=0).shape == together.shape
    step = mdp.transitions[found.states[:, :-1], found.actions, found.states[:, 1:]]
    alive = np.asarray(~mdp.terminal)
    expected = np.where(found.mask, step / mdp.n_actions, 1.0).prod(axis=1) / alive.sum()
    np.testing.assert_allclose(found.prob, expected, rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(found.mask, alive[found.states[:, :-1]])


def test_all_trajectories_of_the_corridor():
    found = enumerate_trajectories(CORRIDOR, 2)
    # 4 first actions from two cells; from the second cell one of them ends the episode and has one
    # continuation only.
    assert found.prob.size == 2 * 16 - 3
    ended = found.states[:, 1] == 2
    assert ended.sum() == 1
    assert not found.mask[ended, 1].any()
    assert found.prob[ended][0] == pytest.approx(1 / 2 / 4)


def test_a_design_of_ones_own():
    policy = TabularPolicy.from_probs(
        [[0.0, 0.0, 0.25, 0.75], [0.5, 0.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0]]
    )
    found = enumerate_trajectories(CORRIDOR, 1, policy=policy, start=[1.0, 0.0, 0.0])
    np.testing.assert_array_equal(found.actions[:, 0], [2, 3])
    np.testing.assert_allclose(found.prob, [0.25, 0.75])
    drawn = sample_trajectories(CORRIDOR, 4000, 1, seed=0, policy=policy, start=[1.0, 0.0, 0.0])
    assert set(drawn.actions[:, 0].tolist()) == {2, 3}
    assert (drawn.actions[:, 0] == 3).mean() == pytest.approx(
        0.75, abs=4 * np.sqrt(0.25 * 0.75 / 4000)
    )


def test_draws_follow_the_enumeration():
    mdp = TabularMDP.random(3, 2, discount=0.9, seed=5, n_terminal=1)
    exact, drawn = enumerate_trajectories(mdp, 2), sample_trajectories(mdp, 20_000, 2, seed=1)

    def code(found):
        return np.concatenate([found.states, found.actions], axis=1) @ 3 ** np.arange(5)

    share = np.array([(code(drawn) == value).mean() for value in code(exact)])
    assert share.sum() == pytest.approx(1.0)
    assert (np.abs(share - exact.prob) < 5 * np.sqrt(exact.prob / 20_000)).all()


def test_too_many_trajectories(monkeypatch):
    monkeypatch.setattr(trajectories, "MAX_TRAJECTORIES", 100)
    with pytest.raises(ValueError, match="at most 100 trajectories are enumerated, got 104"):
        enumerate_trajectories(CORRIDOR, 3)
    monkeypatch.setattr(module, "MAX_PAIRS", 30)
    with pytest.raises(ValueError, match="at most 30 pairs are enumerated, got 36 of 8 segments"):
        Segments.population(CORRIDOR, 1, scores=CORRIDOR.reward)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be an integer >= 1"),
        ({"start": [0.5, 0.5]}, "start must have trailing shape"),
        ({"start": [0.5, 0.5, 0.5]}, "start must sum to 1"),
        ({"policy": TabularPolicy.uniform(2, 4)}, "policy must have 3 states and 4 actions"),
    ],
)
def test_bad_designs(options, message):
    with pytest.raises(ValueError, match=message):
        enumerate_trajectories(CORRIDOR, **{"length": 2, **options})


def test_trajectories_need_one_process_that_goes_on():
    with pytest.raises(ValueError, match="one decision process"):
        enumerate_trajectories(TabularMDP.random(2, 2, discount=0.5, seed=0, batch_shape=(3,)), 1)
    ended = TabularMDP([[[1.0]]], [[0.0]], discount=1.0, terminal=[True])
    with pytest.raises(ValueError, match="a state that is not terminal"):
        enumerate_trajectories(ended, 1)


# --- populations and samples ---


def ordered_objective(mdp, length, table, loss):
    """The exact objective by a plain loop over ordered pairs of segments."""
    found = enumerate_trajectories(mdp, length)
    logp = TabularPolicy.random(mdp.n_states, mdp.n_actions, seed=3)
    total = 0.0
    for i, j in itertools.product(range(found.prob.size), repeat=2):
        score = [
            sum(
                0.9**t * table[found.states[k, t], found.actions[k, t]] * found.mask[k, t]
                for t in range(length)
            )
            for k in (i, j)
        ]
        p = 1 / (1 + np.exp(score[1] - score[0]))
        steps = [logp.log_probs[found.states[k, :-1], found.actions[k]][None] for k in (i, j)]
        masks = [found.mask[k][None] for k in (i, j)]
        zero = np.zeros((1, length))
        pair = TokenPairLogps(*steps, zero, zero, *masks)
        expected = p * loss(pair)[0] + (1 - p) * loss(pair.swapped())[0]
        total += found.prob[i] * found.prob[j] * expected
    return total, logp


@pytest.mark.parametrize("lambda_", [1.0, 0.5])
def test_the_population_is_every_ordered_pair(lambda_):
    table = CORRIDOR.reward
    loss = functools.partial(cpl, alpha=0.7, lambda_=lambda_, discount=0.9)
    expected, policy = ordered_objective(CORRIDOR, 2, table, loss)
    data = Segments.population(CORRIDOR, 2, scores=table, discount=0.9)
    assert objective(policy, loss, data) == pytest.approx(expected, rel=1e-12)
    assert len(data) == 29 * 30 // 2


def test_labels_from_any_rater():
    reward = CORRIDOR.reward

    def strict(pairs):
        total = segment_return(pairs.step_values(reward), pairs.mask)
        return noiseless_preference(total[:, 0], total[:, 1])

    data = Segments.population(CORRIDOR, 1, rater=strict)
    assert set(data.prob.tolist()) == {0.0, 0.5, 1.0}
    assert (
        np.sign(data.returns(reward)[:, 0] - data.returns(reward)[:, 1]) == np.sign(data.prob - 0.5)
    ).all()
    with pytest.raises(ValueError, match="either scores or a rater, got neither"):
        Segments.population(CORRIDOR, 1)
    with pytest.raises(ValueError, match="either scores or a rater, got both"):
        Segments.population(CORRIDOR, 1, scores=reward, rater=strict)
    with pytest.raises(ValueError, match="prob must lie in"):
        Segments.population(CORRIDOR, 1, rater=lambda pairs: 2.0)


def test_labels_of_transitions_that_pay_by_where_they_lead():
    mdp = TabularMDP.random(3, 2, discount=0.9, seed=2, transition_rewards=True)
    data = Segments.population(mdp, 1, scores=mdp.transition_reward)
    s, a, after = data.states[..., 0], data.actions[..., 0], data.states[..., 1]
    total = np.asarray(mdp.transition_reward)[s, a, after]
    np.testing.assert_allclose(data.prob, 1 / (1 + np.exp(total[:, 1] - total[:, 0])), rtol=1e-12)


def test_a_sample_follows_the_population():
    mdp = TabularMDP.random(3, 2, discount=0.9, seed=7, n_terminal=1)
    loss = functools.partial(cpl, alpha=1.0, lambda_=0.5, discount=0.9)
    policy = TabularPolicy.random(3, 2, seed=0)
    exact = objective(policy, loss, Segments.population(mdp, 2, scores=mdp.reward, discount=0.9))
    drawn = Segments.sample(mdp, 20_000, 2, seed=0, scores=mdp.reward, discount=0.9)
    assert (drawn.prob == 1).all()
    values = loss(drawn.examples(policy, None, TokenPairLogps)[0])
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / np.sqrt(20_000))


def test_a_seed_draws_the_same_on_every_backend():
    draw = functools.partial(Segments.sample, CORRIDOR, 10, 3, scores=CORRIDOR.reward)
    one, two = draw(seed=4), draw(seed=np.random.default_rng(4))
    with use_backend("torch"):
        three = draw(seed=4)
    for name in ("states", "actions", "mask", "prob"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))
    assert (draw(seed=5).states != one.states).any()


# --- gymnasium ---


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1"])
def test_recordings_are_possible_in_the_tables(name):
    mdp = TabularMDP.from_gymnasium(name, discount=0.9)
    found = record_trajectories(name, 200, 3, seed=0)
    ended = np.asarray(mdp.terminal)
    step = np.where(
        found.mask, mdp.transitions[found.states[:, :-1], found.actions, found.states[:, 1:]], 1.0
    )
    assert (step > 0).all()
    np.testing.assert_array_equal(
        found.mask[:, 1:], ~ended[found.states[:, 1:-1]] & found.mask[:, :-1]
    )
    assert found.mask[:, 0].all()


def test_recordings_start_where_they_are_put():
    start = np.zeros(16)
    start[[6, 10]] = 0.5
    found = record_trajectories("FrozenLake-v1", 300, 4, seed=1, start=start)
    assert set(found.states[:, 0].tolist()) == {6, 10}
    assert not found.mask[:, 1:].all()
    again = record_trajectories("FrozenLake-v1", 300, 4, seed=1, start=start)
    for one, two in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, two)
    # Without a start, pieces follow one another: the next begins where the last one stopped, unless
    # the episode was over.
    pieces = record_trajectories("CliffWalking-v1", 50, 3, seed=0)
    np.testing.assert_array_equal(pieces.states[1:, 0], pieces.states[:-1, -1])


def test_recorded_frequencies_are_those_of_the_tables():
    mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.9)
    start = np.eye(16)[6]
    found = record_trajectories("FrozenLake-v1", 3000, 1, seed=2, start=start)
    share = np.bincount(found.states[:, 1], minlength=16) / 3000
    expected = mdp.transitions[6].mean(axis=0)
    assert (np.abs(share - expected) < 5 * np.sqrt(expected / 3000) + 1e-12).all()


def test_recordings_of_an_environment_object_and_labels():
    mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.9)
    table = 10 * policy_iteration(mdp).advantage
    data = Segments.from_gymnasium(mdp.to_gymnasium(), 40, 2, seed=0, scores=table)
    assert len(data) == 40
    assert (data.prob == 1).all()
    total = data.returns(table)
    assert (total[:, 0] >= total[:, 1]).mean() > 0.5


def test_environments_that_cannot_be_recorded():
    with pytest.raises(ValueError, match="gymnasium cannot make 'NoSuchLake-v1'"):
        record_trajectories("NoSuchLake-v1", 1, 1, seed=0)
    with pytest.raises(ValueError, match="observation space must be Discrete"):
        record_trajectories("CartPole-v1", 1, 1, seed=0)
    with pytest.raises(ValueError, match="policy must have 16 states"):
        record_trajectories("FrozenLake-v1", 1, 1, seed=0, policy=TabularPolicy.uniform(3, 4))
    with pytest.raises(ValueError, match="start must sum to 1"):
        record_trajectories("FrozenLake-v1", 1, 1, seed=0, start=np.ones(16))


# --- the container ---


@given(segment_pairs(), st.integers(0, 5))
def test_examples_weigh_both_orders(data, seed):
    policy, loss = (
        TabularPolicy.random(3, 2, seed=seed),
        functools.partial(cpl, alpha=0.5, lambda_=0.5),
    )
    logps, weight = data.examples(policy, None, TokenPairLogps)
    expected = 0.0
    table = policy.log_probs
    for i in range(len(data)):
        steps = [table[data.states[i, k, :-1], data.actions[i, k]][None] for k in (0, 1)]
        zero, masks = np.zeros_like(steps[0]), [data.mask[i, k][None] for k in (0, 1)]
        for p, order in ((data.prob[i], (0, 1)), (1 - data.prob[i], (1, 0))):
            pair = TokenPairLogps(
                *(steps[k] for k in order), zero, zero, *(masks[k] for k in order)
            )
            expected += data.weight[i] * p * loss(pair)[0]
    assert (weight * loss(logps)).sum() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_a_pair_without_weight_may_be_impossible():
    policy = TabularPolicy.from_probs([[1.0, 0.0], [0.5, 0.5]])
    data = Segments(
        [[[0, 1], [0, 1]], [[1, 1], [1, 1]]], [[[1], [0]], [[0], [1]]], weight=[0.0, 1.0]
    )
    value = objective(policy, cpl, data, reference=policy)
    assert value == pytest.approx(np.log(2))


def test_padding_may_be_impossible_too():
    policy = TabularPolicy.from_probs([[1.0, 0.0]])
    data = Segments(
        [[[0, 0, 0], [0, 0, 0]]], [[[0, 1], [0, 1]]], mask=[[[True, False], [True, False]]]
    )
    assert objective(policy, cpl, data) == pytest.approx(np.log(2))


def test_a_batch_is_many_problems():
    mdp = TabularMDP.random(3, 2, discount=0.9, seed=0)
    members = [Segments.sample(mdp, 30, 2, seed=i, scores=mdp.reward) for i in range(3)]
    batch = Segments.stack(members)
    loss = functools.partial(cpl, alpha=1.0, lambda_=0.5)
    ridge = lambda policy: 0.1 * (policy.parameters**2).sum(-1)  # noqa: E731
    together = fit(TabularPolicy.uniform(3, 2), loss, batch, penalty=ridge).policy.probs
    for i, member in enumerate(members):
        np.testing.assert_allclose(
            together[i],
            fit(TabularPolicy.uniform(3, 2), loss, member, penalty=ridge).policy.probs,
            atol=1e-9,
        )
    policies = TabularPolicy.random(3, 2, seed=1, batch_shape=(3,))
    shared = objective(policies, loss, members[0])
    own = objective(policies, loss, batch)
    assert shared.shape == own.shape == (3,)
    assert shared[0] == pytest.approx(own[0])


def test_labels_may_carry_the_batch_alone():
    data = Segments(STATES, ACTIONS, prob=[[0.0], [0.5], [1.0]])
    values = objective(TabularPolicy.random(3, 4, seed=0), cpl, data)
    assert values.shape == (3,)
    assert values[1] == pytest.approx(0.5 * (values[0] + values[2]))
    assert data.drawn(seed=0).states.shape == (3, 1, 2, 3)


def test_a_population_fit_finds_the_expert():
    mdp = TabularMDP.random(4, 3, discount=0.9, seed=0, deterministic=True)
    expert = soft_value_iteration(mdp, temperature=0.5)
    data = Segments.population(mdp, 2, scores=expert.advantage, discount=0.9)
    loss = functools.partial(losses.cpl, alpha=0.5, lambda_=1.0, discount=0.9)
    np.testing.assert_allclose(
        fit(TabularPolicy.uniform(4, 3), loss, data).policy.probs, expert.policy, atol=1e-10
    )


def test_torch_policies_see_the_same():
    data = Segments.population(CORRIDOR, 2, scores=CORRIDOR.reward)
    value = objective(TabularPolicy.random(3, 4, seed=0), cpl, data)
    with use_backend("torch"):
        assert to_numpy(objective(TabularPolicy.random(3, 4, seed=0), cpl, data)) == pytest.approx(
            value, rel=1e-12
        )


def test_rows_are_taken_and_drawn_again():
    data = Segments.population(CORRIDOR, 1, scores=CORRIDOR.reward)
    parts = data.take([[0, 1], [4, 3]])
    assert parts.states.shape == (2, 2, 2, 2)
    assert parts.weight.tolist() == [0.5, 0.5]
    np.testing.assert_array_equal(parts.states[1, 0], data.states[4])
    np.testing.assert_array_equal(parts.prob[1], data.prob[[4, 3]])
    first = data.relabelled(1.0)
    np.testing.assert_array_equal(first.drawn(seed=0).states, data.states)
    np.testing.assert_array_equal(data.relabelled(0.0).drawn(seed=0).states, data.states[:, ::-1])
    with pytest.raises(ValueError, match="rows must be >= 0 and < 36"):
        data.take([99])
    with pytest.raises(ValueError, match="one data set"):
        parts.take([0])


def test_json_lines_there_and_back(tmp_path):
    data = Segments.sample(CORRIDOR, 5, 3, seed=0, scores=CORRIDOR.reward)
    write_jsonl(data, tmp_path / "segments.jsonl")
    again = read_jsonl(tmp_path / "segments.jsonl")
    assert isinstance(again, Segments)
    for name in ("states", "actions", "prob", "weight", "mask"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"actions": [[[0], [1]]]},
            r"states must have one entry more than actions .* shape \(1, 2, 2\), got \(1, 2, 3\)",
        ),
        ({"actions": [[0, 1]]}, r"actions must have shape \(\.\.\., n, 2, T\)"),
        ({"states": [[[0], [0]]], "actions": np.zeros((1, 2, 0), int)}, "T >= 1 steps"),
        ({"states": [[[0, 1, -1], [0, 0, 1]]]}, "states must be >= 0, got -1"),
        ({"actions": [[[0.5, 1.0], [1.0, 1.0]]]}, "actions must hold integers"),
        ({"prob": 1.5}, "prob must lie in"),
        ({"prob": [0.5, 0.5]}, "prob must have n = 1 entries"),
        ({"weight": [-1.0]}, "weight must be >= 0"),
        ({"weight": [float("nan")]}, "weight must be finite"),
        ({"mask": np.ones((1, 2, 2))}, "mask must hold booleans"),
        ({"mask": np.ones((1, 1, 2), bool)}, "one shape"),
    ],
)
def test_bad_columns(columns, message):
    with pytest.raises(ValueError, match=message):
        Segments(**{"states": STATES, "actions": ACTIONS, **columns})


def test_bad_uses():
    data = Segments(STATES, ACTIONS)
    with pytest.raises(ValueError, match="feed losses of TokenPairLogps, got a loss of PairLogps"):
        data.examples(TabularPolicy.uniform(3, 4), None, PairLogps)
    with pytest.raises(ValueError, match=r"table must have shape \(S, A\) or \(S, A, S\)"):
        data.step_values(np.zeros((3, 4, 2)))
    with pytest.raises(ValueError, match="states must be >= 0 and < 2"):
        data.step_values(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="features must have shape"):
        data.step_features(np.zeros((3, 4, 3, 2, 1)))
    with pytest.raises(ValueError, match="at least one data set"):
        Segments.stack([])
    with pytest.raises(ValueError, match="one shape"):
        Segments.stack([data, Segments.sample(CORRIDOR, 2, 2, seed=0, scores=CORRIDOR.reward)])
