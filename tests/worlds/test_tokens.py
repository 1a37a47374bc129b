"""Token trees: counts, order, lookup, bad input."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.policies import TokenTreePolicy
from prefsim.worlds import TokenTree

trees = st.builds(
    lambda v, t, e: TokenTree(v, t, end_token=None if e is None else e % v),
    st.integers(1, 4),
    st.integers(1, 4),
    st.none() | st.integers(0, 3),
)


@given(trees)
def test_enumeration_is_complete_and_without_repeats(tree):
    def all_sequences(prefix):
        if len(prefix) == tree.max_length or (prefix and prefix[-1] == tree.end_token):
            return [prefix]
        return list(
            itertools.chain.from_iterable(
                all_sequences((*prefix, v)) for v in range(tree.vocabulary_size)
            )
        )

    expected = all_sequences(())
    found = [tuple(row[:n]) for row, n in zip(tree.sequences.tolist(), tree.lengths, strict=True)]
    assert found == expected
    prefixes = {s[:k] for s in expected for k in range(len(s))}
    assert tree.n_nodes == len(prefixes)
    by_node = {}
    for sequence, nodes in zip(found, tree.nodes, strict=True):
        for k in range(len(sequence)):
            assert by_node.setdefault(nodes[k], sequence[:k]) == sequence[:k]
    assert tree.index_of(found[-1]) == len(found) - 1


@given(trees, st.integers(0, 100))
def test_policies_are_distributions_and_invert(tree, seed):
    policy = TokenTreePolicy.random(tree, seed=seed)
    np.testing.assert_allclose(policy.probs.sum(-1), 1.0, rtol=1e-13)
    again = TokenTreePolicy.from_sequence_probs(tree, policy.probs)
    np.testing.assert_allclose(again.probs, policy.probs, atol=1e-14)
    prompt, response = np.zeros(tree.n_sequences, int), np.arange(tree.n_sequences)
    logps, mask = policy.token_log_probs(prompt, response)
    np.testing.assert_allclose(
        (logps * mask).sum(-1), policy.log_prob(prompt, response), atol=1e-14
    )
    np.testing.assert_array_equal(policy.length(prompt, response), tree.lengths)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 2), {}, "vocabulary_size must be an integer in"),
        ((2, 1.5), {}, "max_length must be an integer in"),
        ((2, 2), {"end_token": 2}, "end_token must be an integer in"),
        ((10, 10), {}, "the most that is enumerated"),
        ((2, 2), {"reward": np.zeros((1, 3))}, "reward must have trailing shape"),
        ((2, 2), {"reward": np.full((1, 4), np.inf)}, "reward must be finite"),
        ((2, 2), {"context_probs": [0.2, 0.2]}, "context_probs must sum to 1"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        TokenTree(*arguments, **options)


def test_bad_lookups():
    tree = TokenTree(3, 2, end_token=2)
    for tokens in ([], [0], [2, 0], [0, 1, 2], [[0, 1]]):
        with pytest.raises(ValueError, match="tokens must form a whole sequence"):
            tree.index_of(tokens)
    with pytest.raises(ValueError, match="needs a reward"):
        tree.to_bandit()
    with pytest.raises(ValueError, match="probs must sum to 1"):
        TokenTreePolicy.from_sequence_probs(tree, np.full((1, 7), 0.5))
