"""Rows that teach nothing, once they are tokens: equal completions, and contradictions."""

import pytest

from prefsim.lm import TextComparisons, TextFeedback, TextRankings
from prefsim.lm.training.pair_faults import PairFaults, pair_faults
from prefsim.lm.training.token_rows import token_rows
from prefsim.losses import ListLogps, PairLogps, SelfImprovementLogps, UnpairedLogps

PROMPTS = ["cat"] * 6 + ["dog"]
CHOSEN = ["a", "b", "a", "b", "b", "a", "b"]
REJECTED = ["b", "a", "a", "a", "b", "b", "a"]


@pytest.mark.parametrize("kind", [PairLogps, SelfImprovementLogps])
def test_equal_and_contradictory_pairs(llama, kind):
    data = TextComparisons(PROMPTS, CHOSEN, REJECTED)
    found = pair_faults(token_rows(llama, data, kind), data)
    assert found == PairFaults(equal=(2, 4), contradictory=((1, 0), (3, 0)))


def test_soft_labels_say_which_is_preferred(llama):
    prob = [0.9, 0.1, 1, 0.5, 1, 0.4, 1]
    data = TextComparisons(PROMPTS, CHOSEN, REJECTED, prob=prob)
    assert pair_faults(token_rows(llama, data, PairLogps), data).contradictory == ((5, 0),)


def test_prompts_that_differ_are_compared_with_their_completions(llama):
    data = TextComparisons(["cat"], ["a"], ["a"], rejected_prompt=["dog"])
    assert pair_faults(token_rows(llama, data, PairLogps), data).equal == ()


def test_judgements_that_contradict(llama):
    data = TextFeedback(["cat", "cat", "dog", "cat"], ["a"] * 4, [True, False, False, 0.5])
    rows = token_rows(llama, data, UnpairedLogps)
    assert pair_faults(rows, data) == PairFaults((), ((1, 0),))


def test_lists_have_none(llama):
    data = TextRankings(["cat"], [["a", "a"]], [[1.0, 0.0]])
    assert pair_faults(token_rows(llama, data, ListLogps), data) == PairFaults((), ())
