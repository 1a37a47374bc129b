r"""What the policy gradient of trainers is in expectation, exactly, on a token tree.

Trainers draw sequences, estimate the advantage of each token from its rewards and a critic
(:func:`prefsim.losses.gae`) and weigh :math:`\nabla\log\pi(y_t|s_t)` by it. Here all sequences are
enumerated, whatever the rewards, the critic and the trace.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import like
from prefsim.checks import alike, check_graph_kept, check_kind, check_shape, names_shapes
from prefsim.losses.advantages import gae
from prefsim.losses.tokenwise import masked_sum
from prefsim.numerics import array_namespace, log_softmax
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.solvers.planning.tree_backup import token_gradient_in_tree
from prefsim.typing import Array

__all__ = ["TokenPolicyGradient", "token_policy_gradient"]


@readable
class TokenPolicyGradient(NamedTuple):
    r"""The expected gradient, and how much that of one drawn sequence varies.

    Attributes
    ----------
    gradient
        :math:`E_\xi\sum_t A_t\nabla\log\pi(y_t|s_t)` in the logits, ``(..., X, nodes, V)``.
    variance
        The trace of the covariance of what one sequence gives, ``(..., X)``.
    advantages
        A, ``(..., X, N, T)``, 0 behind the end.
    """

    gradient: Array
    variance: Array
    advantages: Array


@names_shapes
def token_policy_gradient(
    policy: TokenTreePolicy,
    rewards: Array,
    critic: Array | None = None,
    *,
    discount: float = 1.0,
    trace: float = 0.95,
) -> TokenPolicyGradient:
    r"""Return the expected policy gradient with generalised advantage estimates of rewards.

    .. math:: \sum_\xi \pi(\xi) \sum_t A_t(\xi)\,\nabla\log\pi(y_t|s_t)

    The rewards and the critic are constants of differentiation. With γ = λ = 1 and rewards, none of
    which depends on later tokens than its own,
    :math:`r_t - \beta\log(\pi/\pi_{ref})` it is the gradient of
    :math:`E_\pi\sum_t r_t - \beta\,\mathrm{KL}(\pi\|\pi_{ref})`, whatever the critic; it is minus
    the gradient on policy of :func:`prefsim.losses.ppo` with ``reduction="sum"``.

    Parameters
    ----------
    policy
        Draws the sequences.
    rewards
        ``(..., X, N, T)``, what every token of every sequence is paid.
    critic
        ``(..., X, nodes)``, what is expected from every prefix on; 0 unless given.
    discount, trace
        γ and λ of :func:`prefsim.losses.gae`.

    Returns
    -------
    TokenPolicyGradient

    Raises
    ------
    ValueError
        If a table does not fit the tree, or a number is out of range.

    References
    ----------
    Schulman et al. 2016, arXiv:1506.02438 (the estimates); Zhong et al. 2024, arXiv:2404.18922
    (token rewards). The enumeration is derived.

    Examples
    --------
    A reward at the end alone moves no first token where nothing is looked ahead:

    >>> from prefsim.worlds import TokenTree
    >>> rewards = np.zeros((1, 4, 2))
    >>> rewards[0, 3, 1] = 1.0
    >>> policy = TokenTreePolicy.uniform(TokenTree(2, 2))
    >>> token_policy_gradient(policy, rewards, trace=0.0).gradient[0]
    array([[ 0.   ,  0.   ],
           [ 0.   ,  0.   ],
           [-0.125,  0.125]])
    >>> token_policy_gradient(policy, rewards, trace=1.0).gradient[0, 0]
    array([-0.125,  0.125])
    """
    check_kind(TokenTreePolicy, policy=policy)
    rewards, critic = alike(optional=("critic",), rewards=rewards, critic=critic)
    tree = policy.tree
    log_policy = log_softmax(policy.logits)
    xp = array_namespace(log_policy)
    check_graph_kept(rewards, "rewards", log_policy)
    check_shape(rewards, "rewards", (tree.n_contexts, tree.n_sequences, tree.max_length))
    rewards = like(rewards, log_policy)
    expected = xp.zeros_like(rewards)
    if critic is not None:
        check_graph_kept(critic, "critic", log_policy)
        check_shape(critic, "critic", (tree.n_contexts, tree.n_nodes))
        critic = like(critic, log_policy)
        wide = xp.broadcast_to(critic[..., None], (*critic.shape, tree.vocabulary_size))
        expected = tree.along(wide)
    tokens = tree.along(log_policy)
    shape = np.broadcast_shapes(tuple(rewards.shape), tuple(expected.shape), tuple(tokens.shape))
    mask = xp.broadcast_to(like(tree.mask, log_policy, integer=True) > 0, shape)
    advantages, _ = gae(
        xp.broadcast_to(rewards, shape),
        xp.broadcast_to(expected, shape),
        mask,
        discount=discount,
        trace=trace,
    )
    probs = xp.exp(xp.sum(tokens, axis=-1))
    gradient = token_gradient_in_tree(policy, probs[..., None] * advantages)
    # Prefixes along a sequence differ, so that the squares of their scores ‖e_y − π‖² add up.
    table = xp.exp(log_policy)
    sizes = 1 - 2 * table + xp.sum(table**2, axis=-1, keepdims=True)
    squares = probs * masked_sum(tree.along(sizes) * advantages**2, mask)
    variance = xp.sum(squares, axis=-1) - xp.sum(gradient**2, axis=(-2, -1))
    return TokenPolicyGradient(gradient, variance, advantages)
