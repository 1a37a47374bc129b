"""The online loop: what it samples, what it keeps fixed, where it ends."""

import numpy as np
import pytest

from prefsim.loops import self_preferring
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.raters import judged_preference
from prefsim.solvers import optimal_policy
from prefsim.worlds import TokenTree

REWARD = np.asarray([[0.0, 1.0, -1.0], [0.5, 0.0, 0.2]])
START = TabularPolicy.random(2, 3, seed=0, concentration=5.0)
JUDGE = judged_preference(REWARD)


def run(judge=JUDGE, start=START, **options):
    return self_preferring(
        start,
        judge,
        **{"rounds": 3, "draws": 8, "beta": 1.0, "step": 4.0, "epochs": 40, "seed": 1} | options,
    )


def test_it_ends_at_the_judges_optimum():
    found = run(rounds=6)
    np.testing.assert_allclose(
        found[-1].policy.probs, optimal_policy(REWARD, START.probs, beta=1.0), atol=1e-3
    )


def test_rounds_are_reproducible_and_sampled_from_the_current_policy():
    first, again = run(rounds=2), run(rounds=2)
    np.testing.assert_array_equal(first[1].pairs.chosen, again[1].pairs.chosen)
    np.testing.assert_array_equal(first[1].policy.probs, again[1].policy.probs)
    assert len(first[0].pairs) == 2 * 8 * 6
    assert (first[0].pairs.chosen != run(seed=2)[0].pairs.chosen).any()


def test_a_judge_may_follow_the_policy():
    seen = []

    def judge(policy):
        seen.append(policy)
        return JUDGE

    found = run(judge)
    assert seen == [START, found[0].policy, found[1].policy]


def test_a_refreshed_reference_goes_on_beyond_the_fixed_one():
    fixed, refreshed = run(rounds=6), run(rounds=6, refresh=2)
    assert refreshed[-1].policy.probs[0, 1] > fixed[-1].policy.probs[0, 1] + 0.05


def test_the_reference_is_renewed_after_every_so_many_rounds():
    """The rounds are those of two loops, the second of which starts where the first ends."""
    rng = np.random.default_rng(5)
    whole = run(rounds=4, refresh=2, seed=rng)
    rng = np.random.default_rng(5)
    first = run(rounds=2, seed=rng)
    second = run(rounds=2, start=first[-1].policy, seed=rng)
    for found, expected in zip(whole, [*first, *second], strict=True):
        np.testing.assert_array_equal(found.pairs.chosen, expected.pairs.chosen)
        np.testing.assert_array_equal(found.policy.logits, expected.policy.logits)


def test_the_responses_may_be_token_sequences():
    tree = TokenTree.random(2, 2, seed=0)
    start = TokenTreePolicy.random(tree, seed=1, scale=0.5)
    found = run(judged_preference(tree.reward), start, rounds=12, draws=24, epochs=60)
    np.testing.assert_allclose(
        found[-1].policy.probs, optimal_policy(tree.reward, start.probs, beta=1.0), atol=5e-3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds must be an integer >= 1"),
        ({"n_samples": 1}, "n_samples must be an integer >= 2"),
        ({"epochs": 0}, "epochs must be an integer >= 1"),
        ({"draws": 0}, "draws must be an integer >= 1"),
        ({"refresh": 0}, "refresh must be an integer >= 1"),
        ({"beta": 0.0}, "beta must be a finite number > 0"),
        ({"step": -1.0}, "step must be a finite number > 0"),
        ({"pairing": "none"}, "pairing must be one of"),
        ({"judge": JUDGE[0]}, "judge must have 3 axes"),
        ({"judge": JUDGE[:1]}, "judge must have trailing shape"),
        ({"judge": 0.9 * JUDGE}, "judge must satisfy P"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)
