"""Reward learners against their losses in loops, followed by Adam with difference quotients."""

import functools

import numpy as np
import pytest

from prefsim.data import Segments
from prefsim.solvers.likelihood import reward_learning
from prefsim.solvers.planning import value_iteration
from prefsim.worlds import TabularMDP

# A step goes somewhere for certain, as the library of policies supposes; the last state ends.
SUCCESSOR = np.asarray([[1, 2], [2, 3], [0, 3], [3, 3]])
MDP = TabularMDP(
    np.eye(4)[SUCCESSOR],
    np.zeros((4, 2)),
    discount=0.9,
    terminal=[False, False, False, True],
)
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(4, 2, 3)) * np.asarray([1.0, 1.0, 1.0, 0.0])[:, None, None]
D, T, N = 3, 3, 7
START = RNG.normal(size=(2, D))


def drawn(n: int) -> Segments:
    """Draw labelled segments, some of which end early."""
    states = np.zeros((n, 2, T + 1), dtype=int)
    actions = RNG.integers(2, size=(n, 2, T))
    states[..., 0] = RNG.integers(3, size=(n, 2))
    for t in range(T):
        states[..., t + 1] = SUCCESSOR[states[..., t], actions[..., t]]
    mask = states[..., :-1] != 3
    return Segments(states, actions, RNG.uniform(size=n), RNG.dirichlet(np.ones(n)), mask)


SEGMENTS = drawn(N)


def cross_entropy(logits: np.ndarray, data: Segments) -> float:
    chance = 1 / (1 + np.exp(-logits))
    terms = data.prob * np.log(chance) + (1 - data.prob) * np.log(1 - chance)
    return -float(data.weight @ terms)


def summed(data: Segments, table: np.ndarray, discount: float) -> np.ndarray:
    """Return first minus second of the discounted entries along the segments."""
    total = np.zeros((len(data), 2))
    for i, side, t in np.ndindex(len(data), 2, T):
        if data.mask[i, side, t]:
            entry = table[data.states[i, side, t], data.actions[i, side, t]]
            total[i, side] += discount**t * entry
    return total[:, 0] - total[:, 1]


def partial_return_loss(weights, data, discount):
    return cross_entropy(summed(data, FEATURES @ weights, discount), data)


def regret_loss(weights, data, discount):
    found = value_iteration(MDP.with_reward(FEATURES @ weights), tolerance=1e-12)
    return cross_entropy(summed(data, found.q_value - found.value[:, None], discount), data)


LIBRARY = reward_learning.policy_library(MDP, FEATURES, 6, seed=1)


def library_loss(weights, data, temperature):
    of_policy = LIBRARY @ weights
    share = np.exp((of_policy - of_policy.max(axis=0)) / temperature)
    value = (share / share.sum(axis=0) * of_policy).sum(axis=0)
    logits = summed(data, FEATURES @ weights, 1.0)
    for i in range(len(data)):
        for side, sign in ((0, 1.0), (1, -1.0)):
            steps = int(data.mask[i, side].sum())
            first, last = data.states[i, side, 0], data.states[i, side, steps]
            # Minus the regret: what was gained, and what is left, less what could have been.
            logits[i] += sign * (value[last] - value[first])
    return cross_entropy(logits, data)


def adam(loss, start, *, learning_rate, iterations):
    """Follow Adam by difference quotients; return the losses and the best weights met."""
    weights, best, lowest = start.copy(), start, np.inf
    mean, square, losses = np.zeros(D), np.zeros(D), []
    for t in range(1, iterations + 2):
        value = loss(weights)
        if value < lowest:
            best, lowest = weights, value
        if t > iterations:
            break
        losses.append(value)
        steps = 1e-6 * np.eye(D)
        gradient = np.asarray([(loss(weights + s) - loss(weights - s)) / 2e-6 for s in steps])
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        moved = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        weights = weights - learning_rate * moved
    return np.asarray(losses), best, lowest


STEPS = {"learning_rate": 0.05, "iterations": 4}


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_the_partial_return_model(discount):
    found = reward_learning.fit_partial_return_reward(
        SEGMENTS, FEATURES, discount=discount, **STEPS
    )
    loss = functools.partial(partial_return_loss, data=SEGMENTS, discount=discount)
    losses, best, lowest = adam(loss, np.zeros(D), **STEPS)
    np.testing.assert_allclose(found.history[:, 0], losses, rtol=1e-6)
    np.testing.assert_allclose(found.weights, best, rtol=1e-5)
    assert found.value == pytest.approx(lowest, rel=1e-6) and found.start == 0


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_the_regret_model_from_two_starts(discount):
    found = reward_learning.fit_regret_reward(
        SEGMENTS, MDP, FEATURES, start=START, segment_discount=discount, **STEPS
    )
    loss = functools.partial(regret_loss, data=SEGMENTS, discount=discount)
    ways = [adam(loss, start, **STEPS) for start in START]
    for i, (losses, _, _) in enumerate(ways):
        np.testing.assert_allclose(found.history[:, i], losses, rtol=1e-6)
    which = int(np.argmin([lowest for _, _, lowest in ways]))
    assert found.start == which
    np.testing.assert_allclose(found.weights, ways[which][1], rtol=1e-5)
    assert found.value == pytest.approx(ways[which][2], rel=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_the_regret_model_with_a_library(temperature):
    found = reward_learning.fit_regret_reward_library(
        SEGMENTS, FEATURES, LIBRARY, temperature=temperature, start=START[0], **STEPS
    )
    loss = functools.partial(library_loss, data=SEGMENTS, temperature=temperature)
    losses, best, lowest = adam(loss, START[0], **STEPS)
    np.testing.assert_allclose(found.history[:, 0], losses, rtol=1e-6)
    np.testing.assert_allclose(found.weights, best, rtol=1e-5)
    assert found.value == pytest.approx(lowest, rel=1e-6)
    at_zero = reward_learning.fit_regret_reward_library(SEGMENTS, FEATURES, LIBRARY, **STEPS)
    assert at_zero.history[0, 0] == pytest.approx(cross_entropy(np.zeros(N), SEGMENTS))


def test_batches_are_data_sets_of_their_own():
    members = [drawn(N), drawn(N)]
    stacked = Segments.stack(members)
    whole = reward_learning.fit_partial_return_reward(stacked, FEATURES, **STEPS)
    regret = reward_learning.fit_regret_reward(stacked, MDP, FEATURES, start=START, **STEPS)
    for i, member in enumerate(members):
        alone = reward_learning.fit_partial_return_reward(member, FEATURES, **STEPS)
        np.testing.assert_allclose(whole.weights[i], alone.weights, rtol=1e-10)
        alone = reward_learning.fit_regret_reward(member, MDP, FEATURES, start=START, **STEPS)
        np.testing.assert_allclose(regret.weights[i], alone.weights, rtol=1e-8)
        assert regret.start[i] == alone.start
        np.testing.assert_allclose(regret.history[..., i], alone.history, rtol=1e-8)


def test_starts_unless_given_are_a_rough_solution_and_normal_draws():
    found = reward_learning.fit_regret_reward(SEGMENTS, MDP, FEATURES, restarts=3, seed=5, **STEPS)
    assert found.history.shape == (4, 4)
    draws = np.random.default_rng(5).standard_normal((3, 1, D))[:, 0]
    for i, start in enumerate(draws):
        loss = regret_loss(start, SEGMENTS, 1.0)
        assert found.history[0, 1 + i] == pytest.approx(loss, rel=1e-8)
    rough = reward_learning.fit_partial_return_reward(SEGMENTS, FEATURES, iterations=500)
    first = regret_loss(rough.weights, SEGMENTS, 1.0)
    assert found.history[0, 0] == pytest.approx(first, rel=1e-3)
