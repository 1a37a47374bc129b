"""Segments: populations against a plain enumeration, draws, weights and bad input."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_tasks import CORRIDOR

from prefsim import losses
from prefsim.backend import to_numpy, use_backend
from prefsim.data import Segments, read_jsonl, write_jsonl
from prefsim.data.trajectories import (
    enumerate_trajectories,
)
from prefsim.losses import PairLogps, TokenPairLogps, cpl
from prefsim.policies import TabularPolicy
from prefsim.raters.regret import noiseless_preference, segment_return
from prefsim.solvers import fit, objective
from prefsim.solvers.planning import soft_value_iteration
from prefsim.testing.segments import segment_pairs
from prefsim.worlds import TabularMDP

STATES, ACTIONS = [[[0, 1, 2], [0, 0, 1]]], [[[3, 3], [2, 3]]]


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


# --- populations and samples ---


@pytest.mark.parametrize("lambda_", [1.0, 0.5])
def test_the_population_is_every_ordered_pair(lambda_):
    table = CORRIDOR.reward
    loss = functools.partial(cpl, alpha=0.7, lambda_=lambda_, discount=0.9)
    expected, policy = ordered_objective(CORRIDOR, 2, table, loss)
    data = Segments.population(CORRIDOR, 2, scores=table, discount=0.9)
    assert objective(policy, loss, data, reference=None) == pytest.approx(expected, rel=1e-12)
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
    every = Segments.population(mdp, 2, scores=mdp.reward, discount=0.9)
    exact = objective(policy, loss, every, reference=None)
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
    assert objective(policy, cpl, data, reference=None) == pytest.approx(np.log(2))


def test_a_batch_is_many_problems():
    mdp = TabularMDP.random(3, 2, discount=0.9, seed=0)
    members = [Segments.sample(mdp, 30, 2, seed=i, scores=mdp.reward) for i in range(3)]
    batch = Segments.stack(members)
    loss = functools.partial(cpl, alpha=1.0, lambda_=0.5)
    ridge = lambda policy: 0.1 * (policy.parameters**2).sum(-1)  # noqa: E731
    together = fit(
        TabularPolicy.uniform(3, 2), loss, batch, reference=None, penalty=ridge
    ).policy.probs
    for i, member in enumerate(members):
        np.testing.assert_allclose(
            together[i],
            fit(
                TabularPolicy.uniform(3, 2), loss, member, reference=None, penalty=ridge
            ).policy.probs,
            atol=1e-9,
        )
    policies = TabularPolicy.random(3, 2, seed=1, batch_shape=(3,))
    shared = objective(policies, loss, members[0], reference=None)
    own = objective(policies, loss, batch, reference=None)
    assert shared.shape == own.shape == (3,)
    assert shared[0] == pytest.approx(own[0])


def test_labels_may_carry_the_batch_alone():
    data = Segments(STATES, ACTIONS, prob=[[0.0], [0.5], [1.0]])
    values = objective(TabularPolicy.random(3, 4, seed=0), cpl, data, reference=None)
    assert values.shape == (3,)
    assert values[1] == pytest.approx(0.5 * (values[0] + values[2]))
    assert data.drawn(seed=0).states.shape == (3, 1, 2, 3)


def test_a_population_fit_finds_the_expert():
    mdp = TabularMDP.random(4, 3, discount=0.9, seed=0, deterministic=True)
    expert = soft_value_iteration(mdp, temperature=0.5)
    data = Segments.population(mdp, 2, scores=expert.advantage, discount=0.9)
    loss = functools.partial(losses.cpl, alpha=0.5, lambda_=1.0, discount=0.9)
    np.testing.assert_allclose(
        fit(TabularPolicy.uniform(4, 3), loss, data, reference=None).policy.probs,
        expert.policy,
        atol=1e-10,
    )


def test_torch_policies_see_the_same():
    data = Segments.population(CORRIDOR, 2, scores=CORRIDOR.reward)
    value = objective(TabularPolicy.random(3, 4, seed=0), cpl, data, reference=None)
    with use_backend("torch"):
        assert to_numpy(
            objective(TabularPolicy.random(3, 4, seed=0), cpl, data, reference=None)
        ) == pytest.approx(value, rel=1e-12)


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
        (
            {"actions": [[0, 1]] * 2, "states": [[0, 1, 1]] * 2},
            r"actions must have shape \(\.\.\., n, 2, T\) .* got \(2, 2\)",
        ),
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
