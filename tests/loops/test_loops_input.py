"""Loops name what is no policy of theirs."""

import numpy as np
import pytest

from prefsim.loops import (
    judged_samples,
    queued_self_play,
    self_play,
    self_preferring,
    table_judge,
)
from prefsim.losses import dno
from prefsim.policies import TabularPolicy

EVEN = np.full((1, 2, 2), 0.5)
LOOPS = {
    "self_play": lambda policy: self_play(policy, dno, table_judge(EVEN), rounds=1, seed=0),
    "judged_samples": lambda policy: judged_samples(
        policy, table_judge(EVEN), [0], n_samples=2, seed=0
    ),
    "self_preferring": lambda policy: self_preferring(policy, EVEN, rounds=1, seed=0),
    "queued_self_play": lambda policy: queued_self_play(
        policy, EVEN[0], step=0.1, iterations=1, seed=0
    ),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("wrong", ["uniform", None, [[0.5, 0.5]], np.array([[0.5, 0.5]])])
def test_what_is_no_policy_is_named(name, wrong):
    with pytest.raises(TypeError, match=f"policy must be a .*Policy, got {type(wrong).__name__}"):
        LOOPS[name](wrong)


def test_a_queue_needs_a_tree():
    with pytest.raises(TypeError, match="policy must be a TokenTreePolicy, got TabularPolicy"):
        LOOPS["queued_self_play"](TabularPolicy.uniform(1, 2))
