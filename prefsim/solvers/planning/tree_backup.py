r"""Backward induction on a token tree: soft and expected values, and gradients of its policies.

What is paid stands in two tables: one of whole sequences, paid with their last token, and one of
prefixes and next tokens. The soft backup is the exponential tilt of a policy over sequences, one
token at a time.
"""

from __future__ import annotations

from collections.abc import Callable
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
    check_interval,
    check_kind,
    check_shape,
    names_shapes,
)
from prefsim.losses.advantages import rewards_to_go
from prefsim.numerics import array_namespace, log_softmax, logsumexp
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.typing import Array
from prefsim.worlds.tokens import TokenTree

__all__ = [
    "ExpectedBackup",
    "SoftBackup",
    "expected_backup",
    "prefix_values",
    "score_gradient_in_tree",
    "soft_backup",
    "token_gradient_in_tree",
]


@readable
class SoftBackup(NamedTuple):
    """The tilted policy, and the value of every prefix ``(..., X, nodes)``.

    The value of node 0 is the log-normaliser over sequences.
    """

    policy: TokenTreePolicy
    value: Array


@readable
class ExpectedBackup(NamedTuple):
    """What a policy is paid from every prefix on, and after every next token.

    Attributes
    ----------
    value
        ``(..., X, nodes)``.
    action_value
        ``(..., X, nodes, V)``; less the value it is the advantage.
    """

    value: Array
    action_value: Array


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


def _depths(tree: TokenTree) -> np.ndarray:
    """Return how many tokens each prefix has ``(nodes,)``."""
    row, column = np.nonzero(tree.mask)
    depth = np.zeros(tree.n_nodes, dtype=np.int64)
    depth[tree.nodes[row, column]] = column
    return depth


def _as_paid(
    policy: TokenTreePolicy, leaf_values: Array | None, token_values: Array | None
) -> tuple[Any, Any, Any]:
    """Return the log-policy and both tables of what is paid, each with the axes of the batch."""
    check_kind(TokenTreePolicy, policy=policy)
    optional = ("leaf_values", "token_values")
    leaf_values, token_values = alike(
        optional=optional, leaf_values=leaf_values, token_values=token_values
    )
    if leaf_values is None and token_values is None:
        raise ValueError("leaf_values or token_values must be given, got None for both")
    tree = policy.tree
    log_policy = log_softmax(policy.logits)
    xp = array_namespace(log_policy)
    kind = {"dtype": log_policy.dtype, "device": getattr(log_policy, "device", None)}
    sizes = {
        "leaf_values": (tree.n_sequences,),
        "token_values": (tree.n_nodes, tree.vocabulary_size),
    }
    paid = []
    for name, given in zip(optional, (leaf_values, token_values), strict=True):
        shape = (tree.n_contexts, *sizes[name])
        if given is None:
            paid.append(xp.zeros(shape, **kind))
            continue
        check_graph_kept(given, name, policy.logits)
        check_shape(given, name, shape)
        paid.append(like(given, log_policy))
    leaves, tokens = paid
    batch = np.broadcast_shapes(
        tuple(log_policy.shape[:-2]), tuple(leaves.shape[:-1]), tuple(tokens.shape[:-2])
    )
    return (
        xp.broadcast_to(log_policy, (*batch, *log_policy.shape[-2:])),
        xp.broadcast_to(leaves, (*batch, tree.n_sequences)),
        xp.broadcast_to(tokens, (*batch, *tokens.shape[-2:])),
    )


def _backward(
    tree: TokenTree,
    leaves: Any,
    tokens: Any,
    discount: float,
    worth: Callable[[Any, slice], Any],
) -> tuple[Any, Any]:
    """Return the values of nodes, and what is paid from each of their tokens on.

    ``worth`` makes the values of some nodes of what their tokens lead to.
    """
    xp = array_namespace(leaves)
    batch = leaves.shape[:-1]
    children, depth = _children(tree), _depths(tree)
    ahead: list[Any] = []
    values = xp.zeros((*batch, 0), dtype=leaves.dtype, device=getattr(leaves, "device", None))
    # Nodes are numbered by depth: from the deepest up, what a token leads to is a leaf or one of
    # the nodes already done.
    for level in range(int(depth.max()), -1, -1):
        here = np.flatnonzero(depth == level)
        these = slice(int(here[0]), int(here[-1]) + 1)
        known = xp.concat([discount * values, leaves], axis=-1)
        index = children[here] - these.stop
        taken = xp.take(known, like(index.reshape(-1), leaves, integer=True), axis=-1)
        paid = tokens[..., these, :] + xp.reshape(taken, (*batch, *index.shape))
        ahead.insert(0, paid)
        values = xp.concat([worth(paid, these), values], axis=-1)
    return values, xp.concat(ahead, axis=-2)


@names_shapes
def soft_backup(
    policy: TokenTreePolicy,
    leaf_values: Array | None = None,
    *,
    token_values: Array | None = None,
    discount: float = 1.0,
) -> SoftBackup:
    r"""Return the policy tilted by what sequences and their tokens are worth, in one backward pass.

    .. math:: V(\xi) = g(\xi),\qquad V(s) = \log\sum_a \pi(a|s)\,e^{r(s,a) + \gamma V(s a)},\qquad
        \pi_+(a|s) \propto \pi(a|s)\,e^{r(s,a) + \gamma V(s a)}

    where g is paid with the last token, undiscounted. For γ = 1 sequences have probabilities
    :math:`\pi_+(\xi) \propto \pi(\xi)\,e^{g(\xi) + \sum_h r(s_h, a_h)}`: with g = η r this is one
    step of Hedge over all sequences, at the cost of one visit to each node, however r depends on
    the whole sequence. Of values in units of β it is the optimum of the expected reward less β
    times the KL divergence from the policy.

    Parameters
    ----------
    policy
        The base policy.
    leaf_values
        g, ``(..., X, N)`` in nats, one for each sequence of the tree; 0 unless given.
    token_values
        r, ``(..., X, nodes, V)`` in nats, one for each next token of each prefix; 0 unless given.
    discount
        γ in [0, 1].

    Returns
    -------
    SoftBackup

    Raises
    ------
    ValueError
        If a table has no entry for each context and sequence, or prefix and token, neither is
        given, or the discount is out of range.

    References
    ----------
    Ziebart et al. 2008 (soft values); Swamy et al. 2024 (SPO), arXiv:2401.04056; Rafailov et al.
    2024, arXiv:2404.12358, and Zhong et al. 2024, arXiv:2404.18922 (token rewards). The equivalence
    is derived.

    Examples
    --------
    >>> tree = TokenTree(2, 2, end_token=1)
    >>> soft_backup(TokenTreePolicy.uniform(tree), np.log([[1.0, 1.0, 2.0]])).policy.probs.round(4)
    array([[0.1667, 0.1667, 0.6667]])
    """
    check_interval(low=0.0, high=1.0, closed="both", discount=discount)
    log_policy, leaves, tokens = _as_paid(policy, leaf_values, token_values)

    def worth(paid: Any, these: slice) -> Any:
        return logsumexp(log_policy[..., these, :] + paid)

    values, ahead = _backward(policy.tree, leaves, tokens, discount, worth)
    return SoftBackup(TokenTreePolicy(policy.tree, log_policy + ahead), values)


@names_shapes
def expected_backup(
    policy: TokenTreePolicy,
    leaf_values: Array | None = None,
    *,
    token_values: Array | None = None,
    discount: float = 1.0,
) -> ExpectedBackup:
    r"""Return what a policy expects to be paid from every prefix on, by one backward pass.

    .. math:: Q(s,a) = r(s,a) + \gamma V(s a),\qquad V(s) = \sum_a \pi(a|s)\,Q(s,a),\qquad
        V(\xi) = g(\xi)

    where g is paid with the last token, undiscounted.

    Parameters
    ----------
    policy
        Draws the tokens.
    leaf_values, token_values, discount
        As for :func:`soft_backup`, in any unit.

    Returns
    -------
    ExpectedBackup

    Raises
    ------
    ValueError
        If a table has no entry for each context and sequence, or prefix and token, neither is
        given, or the discount is out of range.

    Examples
    --------
    >>> tree = TokenTree(2, 2, end_token=1)
    >>> found = expected_backup(TokenTreePolicy.uniform(tree), np.array([[1.0, 3.0, 0.0]]))
    >>> found.value, found.action_value
    (array([[1., 2.]]), array([[[2., 0.],
            [1., 3.]]]))
    """
    check_interval(low=0.0, high=1.0, closed="both", discount=discount)
    log_policy, leaves, tokens = _as_paid(policy, leaf_values, token_values)
    xp = array_namespace(log_policy)
    probs = xp.exp(log_policy)

    def worth(paid: Any, these: slice) -> Any:
        return xp.sum(probs[..., these, :] * paid, axis=-1)

    return ExpectedBackup(*_backward(policy.tree, leaves, tokens, discount, worth))


def prefix_values(policy: TokenTreePolicy, rewards: Any) -> np.ndarray:
    r"""Return what each prefix is expected to be paid from there on, ``(..., X, nodes)``.

    .. math:: V(s) = E_{\xi\sim\pi(\cdot|s)} \sum_{t \ge |s|} r_t(\xi)

    With the rewards of :func:`prefsim.losses.kl_shaped_rewards` it is what a critic should say.
    Where they depend on the prefix and its next token alone it is :func:`expected_backup` of these.

    Parameters
    ----------
    policy
        Draws the tokens, also of prefixes that it never reaches.
    rewards
        r, ``(..., X, N, T)``, what each token of each sequence is paid; what stands behind the end
        of a sequence is not read.

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
    check_constant(rewards, "rewards")
    (given,) = as_floats(nan=True, rewards=rewards)
    check_shape(given, "rewards", (tree.n_contexts, tree.n_sequences, tree.max_length))
    # What stands behind an end may be no number.
    paid = as_float_array(np.where(tree.mask, to_numpy(given), 0.0), "rewards")
    # What a sequence is paid from each place on is a leaf value of that place.
    later = np.moveaxis(rewards_to_go(paid), -1, -3)
    shared = TokenTreePolicy(tree, to_numpy(policy.logits)[..., None, :, :, :])
    value = expected_backup(shared, later).value
    return np.moveaxis(value[..., _depths(tree), :, np.arange(tree.n_nodes)], 0, -1)


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
    xp = array_namespace(weights)
    every = xp.broadcast_to(weights[..., None], (*weights.shape, tree.max_length))
    return token_gradient_in_tree(policy, every)


def token_gradient_in_tree(policy: TokenTreePolicy, weights: Array) -> Array:
    r"""Return the gradient of :math:`\sum_{\xi,t} w_t(\xi)\log\pi(y_t|s_t)` in the logits.

    Shape ``(..., X, nodes, V)``; as :func:`score_gradient_in_tree`, where every token of a sequence
    has a weight of its own.

    Parameters
    ----------
    policy
        The policy.
    weights
        ``(..., X, N, T)``; what lies behind the end of a sequence does not count.

    Raises
    ------
    ValueError
        If ``weights`` has no entry for each context, sequence and place.

    Examples
    --------
    Only the first token of one of three sequences counts:

    >>> tree = TokenTree(2, 2, end_token=1)
    >>> weights = np.zeros((1, 3, 2))
    >>> weights[0, 1, 0] = 1.0
    >>> token_gradient_in_tree(TokenTreePolicy.uniform(tree), weights)
    array([[[ 0.5, -0.5],
            [ 0. ,  0. ]]])
    """
    check_kind(TokenTreePolicy, policy=policy)
    (weights,) = alike(weights=weights)
    check_graph_kept(weights, "weights", policy.logits)
    tree = policy.tree
    check_shape(weights, "weights", (tree.n_contexts, tree.n_sequences, tree.max_length))
    log_policy = log_softmax(policy.logits)
    xp = array_namespace(log_policy)
    weights = like(weights, log_policy)
    scored = like(tree.mask, log_policy, integer=True) > 0
    weights = xp.where(scored, weights, xp.zeros_like(weights))
    parts = []
    for t in range(tree.max_length):
        row = np.flatnonzero(tree.mask[:, t])
        node = tree.nodes[row, t]
        # Nodes are numbered by depth, so that those of a place follow those of the one before.
        cell = (node - node.min()) * tree.vocabulary_size + tree.sequences[row, t]
        passes = np.zeros((tree.n_sequences, int(cell.max()) + 1))
        passes[row, cell] = 1.0
        parts.append(weights[..., t] @ like(passes, log_policy))
    through = xp.concat(parts, axis=-1)
    through = xp.reshape(through, (*through.shape[:-1], tree.n_nodes, tree.vocabulary_size))
    return through - xp.exp(log_policy) * xp.sum(through, axis=-1, keepdims=True)
