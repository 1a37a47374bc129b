r"""Soft backward induction on a token tree.

The exponential tilt of a policy over sequences, one token at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import like, to_numpy
from prefsim.checks import (
    alike,
    as_float_array,
    as_floats,
    check_constant,
    check_graph_kept,
    check_kind,
    check_shape,
)
from prefsim.numerics import array_namespace, log_softmax, logsumexp
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.typing import Array
from prefsim.worlds.tokens import TokenTree

__all__ = ["SoftBackup", "prefix_values", "score_gradient_in_tree", "soft_backup"]


@readable
class SoftBackup(NamedTuple):
    """The tilted policy, and the value of every prefix ``(..., X, nodes)``.

    The value of node 0 is the log-normaliser over sequences.
    """

    policy: TokenTreePolicy
    value: Array


def _children(tree: TokenTree) -> np.ndarray:
    """Return what each token of each node leads to ``(nodes, V)``.

    A node, or ``n_nodes`` plus the index of a whole sequence.
    """
    row, column = np.nonzero(tree.mask)
    last = column == tree.lengths[row] - 1
    following = np.where(
        last, tree.n_nodes + row, tree.nodes[row, np.minimum(column + 1, tree.max_length - 1)]
    )
    table = np.zeros((tree.n_nodes, tree.vocabulary_size), dtype=np.int64)
    table[tree.nodes[row, column], tree.sequences[row, column]] = following
    return table


def soft_backup(policy: TokenTreePolicy, leaf_values: Array) -> SoftBackup:
    r"""Return the policy tilted by values of whole sequences, by one backward pass.

    .. math:: V(\xi) = g(\xi),\qquad V(s) = \log\sum_a \pi(a|s)\,e^{V(s a)},\qquad
        \pi_+(a|s) \propto \pi(a|s)\,e^{V(s a)}

    Its sequences have probabilities :math:`\pi_+(\xi) \propto \pi(\xi)\,e^{g(\xi)}`: with g = η r
    this is one step of Hedge over all sequences, at the cost of one visit to each node, however r
    depends on the whole sequence.

    Parameters
    ----------
    policy
        The base policy.
    leaf_values
        g, ``(..., X, N)`` in nats, one for each sequence of the tree.

    Returns
    -------
    SoftBackup

    Raises
    ------
    ValueError
        If ``leaf_values`` has no entry for each context and sequence.

    References
    ----------
    Ziebart et al. 2008 (soft values); Swamy et al. 2024 (SPO), arXiv:2401.04056. The equivalence is
    derived.

    Examples
    --------
    >>> tree = TokenTree(2, 2, end_token=1)
    >>> soft_backup(TokenTreePolicy.uniform(tree), np.log([[1.0, 1.0, 2.0]])).policy.probs.round(4)
    array([[0.1667, 0.1667, 0.6667]])
    """
    check_kind(TokenTreePolicy, policy=policy)
    (leaf_values,) = alike(leaf_values=leaf_values)
    check_graph_kept(leaf_values, "leaf_values", policy.logits)
    tree = policy.tree
    check_shape(leaf_values, "leaf_values", (tree.n_contexts, tree.n_sequences))
    log_policy = log_softmax(policy.logits)
    xp = array_namespace(log_policy)
    leaves = like(leaf_values, log_policy)
    children = _children(tree)
    row, column = np.nonzero(tree.mask)
    depth = np.zeros(tree.n_nodes, dtype=np.int64)
    depth[tree.nodes[row, column]] = column
    batch = np.broadcast_shapes(tuple(log_policy.shape[:-2]), tuple(leaves.shape[:-1]))
    leaves = xp.broadcast_to(leaves, (*batch, tree.n_sequences))
    log_policy = xp.broadcast_to(log_policy, (*batch, *log_policy.shape[-2:]))
    logits: list[Array] = []
    values = xp.zeros((*batch, 0), dtype=leaves.dtype, device=getattr(leaves, "device", None))
    # Nodes are numbered by depth: from the deepest up, what a token leads to is a leaf or one of
    # the nodes already done.
    for level in range(int(depth.max()), -1, -1):
        here = np.flatnonzero(depth == level)
        known = xp.concat([values, leaves], axis=-1)
        index = children[here] - (here[-1] + 1)
        taken = xp.take(known, like(index.reshape(-1), log_policy, integer=True), axis=-1)
        tilted = log_policy[..., int(here[0]) : int(here[-1]) + 1, :] + xp.reshape(
            taken, (*batch, *index.shape)
        )
        logits.insert(0, tilted)
        values = xp.concat([logsumexp(tilted), values], axis=-1)
    return SoftBackup(TokenTreePolicy(tree, xp.concat(logits, axis=-2)), values)


def prefix_values(policy: TokenTreePolicy, rewards: Any) -> np.ndarray:
    r"""Return what each prefix is expected to be paid from there on, ``(X, nodes)``.

    .. math:: V(s) = E_{\xi\sim\pi(\cdot|s)} \sum_{t \ge |s|} r_t(\xi)

    With the rewards of :func:`prefsim.losses.kl_shaped_rewards` it is what a critic should say.

    Parameters
    ----------
    policy
        One policy, no batch. A prefix that it never reaches is worth 0.
    rewards
        r, ``(X, N, T)``, what each token of each sequence is paid; what stands behind the end of a
        sequence is not read.

    Raises
    ------
    ValueError
        If ``rewards`` has another shape or is not finite at a token.

    Examples
    --------
    >>> tree = TokenTree(2, 2, end_token=1)
    >>> tree.sequences.tolist()
    [[0, 0], [0, 1], [1, -1]]
    >>> rewards = np.asarray([[[0.0, 4.0], [0.0, 2.0], [1.0, 0.0]]])
    >>> prefix_values(TokenTreePolicy.uniform(tree), rewards)
    array([[2., 3.]])
    """
    check_kind(TokenTreePolicy, policy=policy)
    tree = policy.tree
    mask, shape = tree.mask, (tree.n_contexts, tree.n_sequences, tree.max_length)
    check_constant(rewards, "rewards")
    (given,) = as_floats(nan=True, rewards=rewards)
    check_shape(given, "rewards", shape)
    # What stands behind an end may be no number.
    paid = as_float_array(np.where(mask, to_numpy(given), 0.0), "rewards", ndim=3)
    probs = as_float_array(to_numpy(policy.probs), "policy.probs", ndim=2)
    to_go = np.flip(np.cumsum(np.flip(paid, axis=-1), axis=-1), axis=-1)
    row, column = np.nonzero(mask)
    through = np.zeros((row.size, tree.n_nodes))
    through[np.arange(row.size), tree.nodes[row, column]] = 1.0
    mass = probs[:, row]
    reached = mass @ through
    value: np.ndarray = (mass * to_go[:, row, column]) @ through
    return value / np.where(reached > 0, reached, 1.0)


def score_gradient_in_tree(policy: TokenTreePolicy, weights: Array) -> Array:
    r"""Return the gradient of :math:`\sum_\xi w(\xi)\log\pi(\xi)` in the logits of the policy.

    Shape ``(..., X, nodes, V)``.

    With :math:`w(\xi)` the advantages of sampled sequences over their number, this is the policy
    gradient of REINFORCE.

    Parameters
    ----------
    policy
        The policy.
    weights
        ``(..., X, N)``.

    References
    ----------
    Williams 1992 (REINFORCE).
    """
    check_kind(TokenTreePolicy, policy=policy)
    (weights,) = alike(weights=weights)
    check_graph_kept(weights, "weights", policy.logits)
    tree = policy.tree
    check_shape(weights, "weights", (tree.n_contexts, tree.n_sequences))
    log_policy = log_softmax(policy.logits)
    xp = array_namespace(log_policy)
    row, column = np.nonzero(tree.mask)
    cell = tree.nodes[row, column] * tree.vocabulary_size + tree.sequences[row, column]
    passes = np.zeros((tree.n_sequences, tree.n_nodes * tree.vocabulary_size))
    passes[row, cell] = 1.0
    through = like(weights, log_policy) @ like(passes, log_policy)
    through = xp.reshape(through, (*through.shape[:-1], tree.n_nodes, tree.vocabulary_size))
    return through - xp.exp(log_policy) * xp.sum(through, axis=-1, keepdims=True)
