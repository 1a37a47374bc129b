"""Language models on token trees.

There every completion is enumerated, so that what a model has learnt can be held against the
optimum.

The model's vocabulary must be the tree's, so that the sequences of the tree are all that it can
say. Prompts are token ids of that vocabulary too, all of one length or different ones; prompt i
stands for context i of the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import as_index_array, check_shape
from prefsim.data.comparisons import Comparisons
from prefsim.data.rollouts import Rollouts
from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import Ids
from prefsim.lm.online.scores import Score
from prefsim.loops.self_play import Judge, table_judge
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.typing import Array
from prefsim.worlds.tokens import TokenTree

__all__ = [
    "tree_completions",
    "tree_judge",
    "tree_log_probs",
    "tree_pairs",
    "tree_policy",
    "tree_prompts",
    "tree_rollouts",
    "tree_score",
]


def tree_completions(tree: TokenTree) -> list[Ids]:
    """Return the sequences of a tree as token ids, the end token included where there is one.

    Examples
    --------
    >>> tree_completions(TokenTree(2, 2, end_token=1))
    [[0, 0], [0, 1], [1]]
    """
    return [row[row >= 0].tolist() for row in tree.sequences]


def _prompts(tree: TokenTree, prompts: Sequence[Sequence[int]]) -> list[Ids]:
    rows = [
        as_index_array(list(prompt), f"prompt {i}", size=tree.vocabulary_size).tolist()
        for i, prompt in enumerate(prompts)
    ]
    if len(rows) != tree.n_contexts:
        raise ValueError(
            f"the tree has {tree.n_contexts} contexts and needs as many prompts, got {len(rows)}"
        )
    return rows


def tree_prompts(tree: TokenTree, prompts: Sequence[Sequence[int]]) -> dict[tuple[int, ...], int]:
    """Return the context that each prompt stands for, or raise unless all are different."""
    contexts = {tuple(prompt): i for i, prompt in enumerate(_prompts(tree, prompts))}
    if len(contexts) < tree.n_contexts:
        raise ValueError(
            f"prompts must be different, got {len(contexts)} different ones of {tree.n_contexts}"
        )
    return contexts


def tree_log_probs(
    policy: CausalLM, tree: TokenTree, prompts: Sequence[Sequence[int]], *, batch_size: int = 256
) -> np.ndarray:
    """Return the log-probability of every sequence of a tree after every prompt.

    Parameters
    ----------
    policy
        A language model over the tree's vocabulary.
    tree
        The world.
    prompts
        Token ids, one prompt for each context of the tree.
    batch_size
        Completions in one forward.

    Returns
    -------
    Array ``(X, N)`` in nats, float64; the probabilities of a row sum to one up to the precision of
    the model.

    Raises
    ------
    ValueError
        If the vocabularies differ, or prompts do not fit the tree.
    """
    rows, leaves = _prompts(tree, prompts), tree_completions(tree)
    if policy.vocabulary_size != tree.vocabulary_size:
        raise ValueError(
            f"the model must have the tree's vocabulary of {tree.vocabulary_size} tokens, got"
            f" {policy.vocabulary_size}"
        )
    log_probs = policy.log_prob(
        [row for row in rows for _ in leaves], leaves * len(rows), batch_size=batch_size
    )
    return log_probs.cpu().numpy().reshape(len(rows), len(leaves))


def tree_policy(
    policy: CausalLM, tree: TokenTree, prompts: Sequence[Sequence[int]], *, batch_size: int = 256
) -> TokenTreePolicy:
    """Return the token-tree policy with the model's probabilities.

    Rounding of the model's arithmetic is normalised away.

    The parameters and errors are those of :func:`tree_log_probs`.
    """
    probs = np.exp(tree_log_probs(policy, tree, prompts, batch_size=batch_size))
    return TokenTreePolicy.from_sequence_probs(tree, probs / probs.sum(axis=-1, keepdims=True))


def tree_pairs(
    tree: TokenTree,
    comparisons: Comparisons,
    prompts: Sequence[Sequence[int]],
    *,
    merge: bool = True,
) -> TextComparisons:
    """Return comparisons of a tree's sequences as token ids, to train a language model on.

    With all their numbers.

    Parameters
    ----------
    tree
        The world.
    comparisons
        Prompts are contexts and responses are sequences of the tree, of one data set. Rows of
        weight zero are left out.
    prompts
        Token ids, one prompt for each context of the tree.
    merge
        Put rows that say the same, the same way round or the other, into one with the sum of their
        weights, as a population has them. That changes the objective of no loss, but makes it half
        as dear; weights become unequal.

    Raises
    ------
    ValueError
        If the comparisons are a batch, or an index is beyond the tree.
    """
    rows, leaves = _prompts(tree, prompts), tree_completions(tree)
    n = len(comparisons)
    columns = {name: getattr(comparisons, name) for name in (*_OF_THE_PAIR, *_PARTNER)}
    columns = {name: column for name, column in columns.items() if column is not None}
    for name, column in columns.items():
        if np.shape(column) != (n,):
            raise ValueError(
                f"comparisons must be one data set of {n} rows, got {name} of shape"
                f" {np.shape(column)}"
            )
    for name, size in (("prompt", len(rows)), ("chosen", len(leaves)), ("rejected", len(leaves))):
        as_index_array(columns[name], name, size=size)
    columns = {name: column[comparisons.weight > 0] for name, column in columns.items()}
    if merge:
        columns = _merged(columns)
    asked = [rows[i] for i in columns.pop("prompt")]
    chosen, rejected = ([leaves[i] for i in columns.pop(name)] for name in ("chosen", "rejected"))
    return TextComparisons(asked, chosen, rejected, **columns)


def tree_rollouts(
    tree: TokenTree, rollouts: Rollouts, prompts: Sequence[Sequence[int]]
) -> TextRollouts:
    """Return rollouts on a tree as token ids, to train a language model on, with all their numbers.

    Parameters
    ----------
    tree
        The world.
    rollouts
        Prompts are contexts and responses are sequences of the tree.
    prompts
        Token ids, one prompt for each context of the tree.

    Raises
    ------
    ValueError
        If an index is beyond the tree.
    """
    rows, leaves = _prompts(tree, prompts), tree_completions(tree)
    asked = as_index_array(rollouts.prompt, "prompt", size=len(rows))
    answers = as_index_array(rollouts.completions, "completions", size=len(leaves))
    return TextRollouts(
        [rows[i] for i in asked],
        [[leaves[j] for j in row] for row in answers],
        rollouts.scores,
        old_logp=rollouts.old_logp,
        advantage=rollouts.advantage,
        weight=rollouts.weight,
    )


# The columns of comparisons: of the pair, and of each response with its partner of the other.
_OF_THE_PAIR = ("prompt", "prob", "weight")
_PARTNER = {
    "chosen": "rejected",
    "rejected": "chosen",
    "chosen_score": "rejected_score",
    "rejected_score": "chosen_score",
    "old_chosen": "old_rejected",
    "old_rejected": "old_chosen",
}


def _merged(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows turned so that the likelier winner is chosen, equal ones merged."""
    prob = columns["prob"]
    # One half as arithmetic leaves it: the sides decide, or a row and its mirror would not meet.
    even = np.abs(prob - 0.5) < 1e-12
    turned = np.where(even, columns["chosen"] > columns["rejected"], prob < 0.5)
    oriented = columns | {"prob": np.where(turned, 1 - prob, prob)}
    for name, partner in _PARTNER.items():
        if name in columns:
            oriented[name] = np.where(turned, columns[partner], columns[name])
    # Equal up to rounding is equal.
    key = np.stack(
        [
            np.round(column.astype(np.float64), 10)
            for name, column in oriented.items()
            if name != "weight"
        ]
    )
    _, first, group = np.unique(key, axis=1, return_index=True, return_inverse=True)
    merged = {name: column[first] for name, column in oriented.items()}
    total = np.bincount(group.ravel(), weights=oriented["weight"], minlength=first.size)
    return merged | {"weight": total}


def tree_judge(tree: TokenTree, preference: Any, prompts: Sequence[Sequence[int]]) -> Judge:
    """Return the judge that looks preferences among a tree's sequences up in a table.

    Parameters
    ----------
    tree
        The world.
    preference
        ``(X, N, N)`` with ``P + Pᵀ = 1``.
    prompts
        Token ids, one prompt for each context of the tree, all different.

    Returns
    -------
    Judge of token ids, see :mod:`prefsim.lm.online.judges`. It raises for a completion that is no
    sequence of the tree.

    Examples
    --------
    >>> from prefsim.lm.online.judges import as_rows
    >>> judge = tree_judge(TokenTree(2, 1), [[[0.5, 0.9], [0.1, 0.5]]], [[0]])
    >>> judge(as_rows([[0]]), as_rows([[[0], [1]]], depth=2), as_rows([[[1]]], depth=2))
    array([[[0.9],
            [0.5]]])
    """
    table = to_numpy(preference)
    check_shape(table, "preference", (tree.n_contexts, tree.n_sequences, tree.n_sequences))
    look_up = table_judge(table)
    contexts = tree_prompts(tree, prompts)
    places = {tuple(leaf): i for i, leaf in enumerate(tree_completions(tree))}

    def indices(rows: Array, known: dict[tuple[int, ...], int], what: str) -> np.ndarray:
        index = np.empty(rows.shape, dtype=np.int64)
        for where in np.ndindex(rows.shape):
            key = tuple(int(token) for token in rows[where])
            if key not in known:
                raise ValueError(f"{what} {list(key)} is none of the tree's")
            index[where] = known[key]
        return index

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        return look_up(
            indices(prompt, contexts, "prompt"),
            indices(first, places, "completion"),
            indices(second, places, "completion"),
        )

    return judge


def tree_score(tree: TokenTree, prompts: Sequence[Sequence[int]], reward: Any = None) -> Score:
    """Return the score that looks the reward of a tree's sequences up in its table.

    Parameters
    ----------
    tree
        The world.
    prompts
        Token ids, one prompt for each context of the tree, all different.
    reward
        ``(X, N)``; the tree's own unless given.

    Returns
    -------
    Function of a prompt and a completion, both token ids. It raises for a completion that is no
    sequence of the tree.

    Examples
    --------
    >>> score = tree_score(TokenTree(2, 1, reward=[[0.0, 1.5]]), [[0]])
    >>> score([0], [1])
    1.5
    """
    table = tree.reward if reward is None else reward
    if table is None:
        raise ValueError("the tree has no reward: give one of shape (X, N)")
    values = to_numpy(table).astype(np.float64)
    if values.shape != (tree.n_contexts, tree.n_sequences):
        raise ValueError(
            f"reward must have shape {(tree.n_contexts, tree.n_sequences)}, got {values.shape}"
        )
    contexts = tree_prompts(tree, prompts)
    places = {tuple(leaf): i for i, leaf in enumerate(tree_completions(tree))}

    def score(prompt: Sequence[int], completion: Sequence[int]) -> float:
        x = contexts.get(tuple(int(token) for token in prompt))
        y = places.get(tuple(int(token) for token in completion))
        if x is None or y is None:
            what, ids = ("prompt", prompt) if x is None else ("completion", completion)
            raise ValueError(f"{what} {list(ids)} is none of the tree's")
        return float(values[x, y])

    return score
