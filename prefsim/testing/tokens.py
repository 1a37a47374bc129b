"""Hypothesis strategies for token trees, their policies and comparisons of their sequences."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from prefsim.data.comparisons import Comparisons
from prefsim.data.feedback import Feedback
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.testing.bandits import tables
from prefsim.worlds.bandit import ContextualBandit
from prefsim.worlds.tokens import TokenTree

__all__ = ["comparisons", "feedback", "token_tree_policies", "token_trees"]


@st.composite
def token_trees(
    draw: st.DrawFn,
    *,
    max_vocabulary: int = 3,
    max_length: int = 3,
    max_contexts: int = 2,
    scale: float = 2.0,
) -> TokenTree:
    """Token trees with rewards in ``[-scale, scale]``, with or without an end token."""
    vocabulary, length = draw(st.integers(2, max_vocabulary)), draw(st.integers(1, max_length))
    end_token = draw(st.none() | st.integers(0, vocabulary - 1))
    n_sequences = TokenTree(vocabulary, length, end_token=end_token).n_sequences
    reward = draw(tables((draw(st.integers(1, max_contexts)), n_sequences), low=-scale, high=scale))
    return TokenTree(vocabulary, length, end_token=end_token, reward=reward)


def token_tree_policies(
    tree: TokenTree, *, spread: float = 2.0
) -> st.SearchStrategy[TokenTreePolicy]:
    """Policies over the sequences of ``tree`` with full support.

    logits in ``[-spread, spread]``.
    """
    shape = (tree.n_contexts, tree.n_nodes, tree.vocabulary_size)
    return tables(shape, low=-spread, high=spread).map(lambda logits: TokenTreePolicy(tree, logits))


def comparisons(
    world: ContextualBandit, *, max_size: int = 12, hard: bool = False
) -> st.SearchStrategy[Comparisons]:
    """Comparisons in ``world`` with weights in [0, 2] and soft labels.

    ``hard``: labelled with probability one.
    """
    x, y = world.n_contexts, world.n_responses

    def of_size(n: int) -> st.SearchStrategy[Comparisons]:
        index = st.integers(0, 2**31).map(
            lambda seed: np.random.default_rng(seed).integers(0, [[x], [y], [y]], (3, n))
        )
        probability = st.just(np.ones(n)) if hard else tables((n,), low=0.0, high=1.0)
        return st.builds(
            lambda i, p, w: Comparisons(i[0], i[1], i[2], prob=p, weight=w),
            index,
            probability,
            tables((n,), low=0.0, high=2.0),
        )

    return st.integers(1, max_size).flatmap(of_size)


def feedback(world: ContextualBandit, *, max_size: int = 12) -> st.SearchStrategy[Feedback]:
    """Single completions in ``world``: those of :func:`comparisons`, each on its own."""
    return comparisons(world, max_size=max_size).map(Comparisons.to_feedback)
