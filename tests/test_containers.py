"""Fields of containers: reached by name, and none forgotten where a container is rewritten."""

import numpy as np
import pytest

from prefsim import containers
from prefsim.containers import (
    DegreePairLogps,
    ListLogps,
    PairLogps,
    PairRewards,
    fields_of,
    map_fields,
    stacked,
)
from prefsim.containers.example_draws import CANDIDATES, TOKENS
from prefsim.data.columns import both_ways
from prefsim.losses.registry import CONTAINERS

OF_PAIRS = [kind for kind in CONTAINERS if hasattr(kind, "swapped")]
by_name = pytest.mark.parametrize("kind", CONTAINERS, ids=lambda kind: kind.__name__)
of_pairs = pytest.mark.parametrize("kind", OF_PAIRS, ids=lambda kind: kind.__name__)


def test_the_containers_are_the_public_classes():
    assert {kind.__name__ for kind in CONTAINERS} <= set(containers.__all__)
    assert {"PairLogps", "PairRewards", "ClassLogits", "JudgedLogps"} <= {
        kind.__name__ for kind in CONTAINERS
    }
    assert {kind.__name__ for kind in OF_PAIRS} == {
        "ClassPairs",
        "DegreePairLogps",
        "GaussianRewards",
        "PairLogps",
        "PairRewards",
        "SelfImprovementLogps",
        "TokenPairLogps",
    }


@by_name
def test_an_example_gives_every_field_and_follows_its_seed(kind):
    example, again, other = kind.example(3), kind.example(3), kind.example(3, seed=1)
    for name in kind._fields:
        value = getattr(example, name)
        assert value.shape[0] == 3, name
        np.testing.assert_array_equal(value, getattr(again, name))
    assert any(
        not np.array_equal(getattr(example, name), getattr(other, name)) for name in kind._fields
    )


@by_name
def test_every_field_is_mapped_and_stacked(kind):
    first, second = kind.example(2), kind.example(3, seed=1)
    joined = stacked(first, second, axis=0)
    back = map_fields(joined, lambda column: column[2:])
    for name in kind._fields:
        np.testing.assert_array_equal(getattr(joined, name)[:2], getattr(first, name))
        np.testing.assert_array_equal(getattr(back, name), getattr(second, name))


# What is said of a pair, whichever of its responses is the chosen one.
OF_THE_PAIR = {"label", "margin"}


@of_pairs
def test_every_field_is_exchanged_with_that_of_the_other_response(kind):
    pairs = kind.example(4)
    reversed_pairs = pairs.swapped()
    for name in kind._fields:
        stays = np.array_equal(getattr(reversed_pairs, name), getattr(pairs, name))
        assert stays == (name in OF_THE_PAIR), name
        np.testing.assert_array_equal(getattr(reversed_pairs.swapped(), name), getattr(pairs, name))


def test_the_partner_of_a_revision_exchanges_draft_and_answer():
    kind = containers.SelfImprovementLogps
    pairs = kind(**{name: name for name in kind._fields})
    assert pairs.swapped().chosen_from_rejected == "rejected_from_chosen"
    assert pairs.swapped().ref_rejected_from_rejected == "ref_chosen_from_chosen"


@of_pairs
def test_every_field_belongs_to_a_response(kind):
    pairs = kind.example(2)
    named = set(fields_of(pairs, "chosen")) | set(fields_of(pairs, "rejected"))
    assert named == set(kind._fields) - OF_THE_PAIR


def test_the_pair_of_graded_responses_has_every_field_of_a_pair():
    graded = DegreePairLogps.example(3)
    pair = graded.pair()
    assert isinstance(pair, PairLogps)
    for name in PairLogps._fields:
        np.testing.assert_array_equal(getattr(pair, name), getattr(graded, name))


def test_what_is_not_given_stays_out():
    pair = PairLogps(*np.zeros((4, 2)), chosen_score=np.ones(2))
    assert pair.swapped().rejected_score is pair.chosen_score
    assert pair.swapped().chosen_score is None
    assert map_fields(pair, lambda x: x + 1).rejected_score is None
    assert stacked(pair, pair).chosen_length is None


def test_pairs_both_ways_carry_the_probability_of_each_order():
    pairs = PairRewards(np.asarray([3.0, 4.0]), np.asarray([1.0, 2.0]))
    twice, weight = both_ways(pairs, np.asarray([0.5, 0.5]), np.asarray([1.0, 0.25]))
    np.testing.assert_array_equal(twice.chosen, [3.0, 4.0, 1.0, 2.0])
    np.testing.assert_array_equal(twice.rejected, [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(weight, [0.5, 0.125, 0.0, 0.375])


def test_examples_of_lists_and_pairs_differ_in_their_axes():
    assert ListLogps.example(3).logps.shape == (3, CANDIDATES)
    assert containers.TokenPairLogps.example(3).chosen.shape == (3, TOKENS)
