"""Training in stages, each against the last policy."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.loops import descent, staged_reference
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, optimal_policy
from prefsim.worlds import ContextualBandit

WORLD = ContextualBandit.random(2, 3, seed=0)
START = TabularPolicy.random(2, 3, seed=1)
DATA = Comparisons.population(WORLD, TabularPolicy.uniform(2, 3), distinct=True)
dpo = functools.partial(losses.dpo, beta=1.5)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_stages_multiply_the_tilt(stages):
    found = staged_reference(START, dpo, [DATA] * stages)
    assert len(found) == stages
    best = optimal_policy(np.asarray(WORLD.reward), START.probs, beta=1.5 / stages)
    np.testing.assert_allclose(found[-1].policy.probs, best, atol=1e-9)


def test_every_stage_learns_its_own_part_against_the_last_policy():
    parts = [Comparisons.sample(WORLD, 12, seed=seed, policy=START) for seed in range(3)]
    first = TabularPolicy.random(2, 3, seed=5)
    train = descent(step=1.0, iterations=3)
    found = staged_reference(START, dpo, parts, reference=first, train=train)
    policy, reference = START, first
    for stage, part in zip(found, parts, strict=True):
        policy = reference = train(policy, dpo, part, reference)
        assert stage.pairs is part
        np.testing.assert_array_equal(stage.policy.probs, policy.probs)


def test_one_stage_is_fit():
    reference = TabularPolicy.random(2, 3, seed=5)
    (stage,) = staged_reference(START, dpo, [DATA], reference=reference)
    expected = fit(START, dpo, DATA, reference=reference).policy
    np.testing.assert_array_equal(stage.policy.probs, expected.probs)


def test_bad_input():
    with pytest.raises(ValueError, match="data of at least one stage, got 0"):
        staged_reference(START, dpo, [])
    with pytest.raises(ValueError, match="train must be a function, got 3"):
        staged_reference(START, dpo, [DATA], train=3)
