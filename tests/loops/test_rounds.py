"""The general loop.

With exact data it is the solver, and it says what is wrong before it starts.
"""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.data.drawn import judged_triples
from prefsim.loops import descent
from prefsim.loops.rounds import play_rounds
from prefsim.policies import TabularPolicy
from prefsim.solvers import solve_nash
from prefsim.worlds import TEXTBOOK_REFERENCE, ContextualBandit, textbook_game

GAME = textbook_game().preference
REFERENCE = TEXTBOOK_REFERENCE
WORLD = ContextualBandit(preference=GAME[None])
START = TabularPolicy.from_probs(REFERENCE[None])


def population(policy, opponent, rng):
    return Comparisons.self_play(WORLD, policy, opponent=opponent)


def solved(method, **options):
    return solve_nash(
        GAME, method=method, reference=REFERENCE, max_iterations=5, tolerance=0.0, **options
    ).policy


@pytest.mark.parametrize(("method", "extragradient"), [("inpo", False), ("egpo", True)])
def test_on_the_population_it_is_the_solver(method, extragradient):
    loss = functools.partial(losses.mirror_descent, step=0.3, tau=0.1)
    *_, last = play_rounds(
        START, population, loss, rounds=5, seed=0, reference=START, extragradient=extragradient
    )
    np.testing.assert_allclose(last.policy.probs[0], solved(method, tau=0.1, step=0.3), atol=1e-10)


def test_without_a_reference_it_is_the_last_policy():
    loss = functools.partial(losses.dno, step=0.5)
    *_, last = play_rounds(START, population, loss, rounds=5, seed=0)
    np.testing.assert_allclose(last.policy.probs[0], solved("dno", step=0.5), atol=1e-9)


def test_gradient_steps_of_online_ipo_are_egpo():
    def uniform_pairs(policy, opponent, rng):
        pairs = Comparisons.population(WORLD, TabularPolicy.uniform(1, 3))
        return Comparisons.self_play(WORLD, policy, opponent=opponent, pairs=pairs)

    step, tau = 0.4, 0.1
    train = descent(step=step * 3 * tau / 4, iterations=1)
    loss = functools.partial(losses.online_ipo, tau=tau)
    *_, last = play_rounds(
        START,
        uniform_pairs,
        loss,
        rounds=5,
        seed=0,
        reference=START,
        extragradient=True,
        train=train,
    )
    np.testing.assert_allclose(last.policy.probs[0], solved("egpo", tau=tau, step=step), atol=1e-12)


def test_the_seed_decides():
    def run(seed):
        draw = lambda policy, opponent, rng: judged_triples(WORLD, opponent, 10, seed=rng)  # noqa: E731
        loss = functools.partial(losses.online_ipo, tau=0.1)
        rounds = play_rounds(
            START,
            draw,
            loss,
            rounds=3,
            seed=seed,
            reference=START,
            train=descent(step=0.01, iterations=1),
        )
        return [played.policy.probs for played in rounds]

    np.testing.assert_array_equal(run(0), run(0))
    assert np.abs(np.subtract(run(0), run(1))).max() > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rounds": 0}, "rounds must be an integer >= 1, got 0"),
        ({"draw": WORLD}, "draw must be a function"),
        ({"train": 0.1}, "train must be a function, got 0.1"),
    ],
)
def test_bad_input(changed, message):
    options = {
        "policy": START,
        "draw": population,
        "loss": losses.inpo,
        "rounds": 1,
        "seed": 0,
    } | changed
    with pytest.raises(ValueError, match=message):
        play_rounds(**options)
