r"""Log-probabilities where the hidden states are parameters: what a step on a pair does to them.

In the unconstrained-features model token k of a response y to a prompt x is drawn from
:math:`\mathrm{softmax}(W h_{x,y_{<k}})`, with the unembedding W and one free vector h for each
prefix. Both are trained, at one rate. Two responses share the states of the prefixes that they have
in common, that of the prompt first. All is exact, in nats, and broadcasts over leading axes.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

from prefsim.checks import (
    as_array,
    as_floats,
    as_one_library,
    as_signed,
    check_broadcast,
    check_entries,
    check_no_nan,
    check_shape,
    names_shapes,
    tolerance_of,
)
from prefsim.numerics import array_namespace, log_softmax
from prefsim.typing import Array, ArrayT

__all__ = [
    "FeatureGram",
    "FeatureGradient",
    "GradientGram",
    "TokenRates",
    "feature_gradient",
    "feature_gram",
    "token_rates",
]


class TokenRates(NamedTuple, Generic[ArrayT]):
    """Rates of the log-probabilities of all tokens, ``(..., V)`` each, by what is trained.

    Attributes
    ----------
    unembedding
        What training W alone contributes.
    state
        What training the hidden state alone contributes. Where both are trained, rates add.
    """

    unembedding: ArrayT
    state: ArrayT


@names_shapes
def token_rates(
    unembedding: ArrayT,
    state: Array,
    chosen: Array | int,
    rejected: Array | int,
    *,
    chosen_slope: Array | float = 1.0,
    rejected_slope: Array | float = 1.0,
) -> TokenRates[ArrayT]:
    r"""Return how fast the log-probability of each token moves while a loss trains on two of them.

    With :math:`a = d_w(1_{y^+} - \pi) - d_l(1_{y^-} - \pi)`, which is
    :math:`g\,(1_{y^+} - 1_{y^-})` for a loss of the margin, the logits move by

    .. math:: \dot z = \|h\|^2 a + W W^\top a,\qquad
        \frac{d}{dt}\log\pi_v = \dot z_v - \sum_u \pi_u \dot z_u

    The first term is of W, the second of h. Tokens that are neither gain by
    :math:`g\langle W_z, W_{y^+} - W_{y^-}\rangle`, up to a constant that all of them share.

    Parameters
    ----------
    unembedding
        W, one row a token, ``(..., V, d)``.
    state
        Hidden state h of the prompt, ``(..., d)``.
    chosen, rejected
        The two tokens, integers ``(...)``.
    chosen_slope, rejected_slope
        The loss's slopes :math:`d_w = -\partial\ell/\partial\log\pi_w` and
        :math:`d_l = \partial\ell/\partial\log\pi_l`, ``(...)``; see
        :func:`prefsim.analysis.pair_derivatives`.

    Returns
    -------
    TokenRates

    Raises
    ------
    ValueError
        If shapes do not fit, or a token has no row.

    References
    ----------
    Razin et al. 2024, theorems 1 and 2 (numbers not confirmed), arXiv:2410.08847.

    Examples
    --------
    Training on "No" over "Never" lowers "No", because "Never" has the longer embedding:

    >>> import numpy as np
    >>> tokens = np.array([[2, 1, 0], [2, 2.5, 0], [2, -2, 0], [1, -2, 0.5], [-1, 0, 1]])
    >>> rates = token_rates(tokens, np.array([0.8, 0.1, 0]), 0, 1)
    >>> (rates.unembedding + rates.state).round(4)
    array([-0.0238, -3.5738,  3.8262,  3.8262,  0.8262])
    """
    floats = as_floats(
        unembedding=unembedding,
        state=state,
        chosen_slope=chosen_slope,
        rejected_slope=rejected_slope,
    )
    named = dict(zip(("unembedding", "state", "up", "down"), floats, strict=True))
    arrays = as_one_library(named | _integers(chosen=chosen, rejected=rejected))
    unembedding, state, up_slope, down_slope, chosen, rejected = arrays.values()
    _check_unembedding(unembedding)
    check_shape(state, "state", (unembedding.shape[-1],))
    size = unembedding.shape[-2]
    _check_rows(chosen, "chosen", unembedding)
    _check_rows(rejected, "rejected", unembedding)
    check_broadcast(chosen=chosen, rejected=rejected, state=state[..., 0])
    xp = array_namespace(unembedding, state)
    log_probs = log_softmax((unembedding @ state[..., None])[..., 0])
    probs = xp.exp(log_probs)
    up, down = (xp.astype(_is_token(token, size), probs.dtype) for token in (chosen, rejected))
    pull = up_slope[..., None] * (up - probs) - down_slope[..., None] * (down - probs)
    by_unembedding = xp.sum(state**2, axis=-1, keepdims=True) * pull
    moved = xp.matrix_transpose(unembedding) @ pull[..., None]
    by_state = (unembedding @ moved)[..., 0]
    rates = [
        logits - xp.sum(probs * logits, axis=-1, keepdims=True)
        for logits in (by_unembedding, by_state)
    ]
    return TokenRates(*rates)


class FeatureGradient(NamedTuple, Generic[ArrayT]):
    """The log-probability of a response, and its gradient.

    Attributes
    ----------
    log_prob
        ``(...)`` in nats.
    unembedding
        Its gradient in W, ``(..., V, d)``.
    states
        Its gradient in the hidden states, ``(..., T, d)``; 0 where the mask is false.
    """

    log_prob: ArrayT
    unembedding: ArrayT
    states: ArrayT


def feature_gradient(
    unembedding: ArrayT, states: Array, tokens: Array, mask: Array
) -> FeatureGradient[ArrayT]:
    r"""Return the log-probability of a response and its gradient in W and in the hidden states.

    With :math:`e_k = 1_{y_k} - \pi(\cdot|x,y_{<k})`, the gradients are
    :math:`\sum_k e_k h_k^\top` and :math:`W^\top e_k`.

    Parameters
    ----------
    unembedding
        W, one row a token, ``(..., V, d)``.
    states
        The state that predicts each token, that of the prompt first, ``(..., T, d)``.
    tokens
        Integers ``(..., T)``; what the mask leaves out may be anything.
    mask
        Boolean ``(..., T)``: the tokens of the response.

    Returns
    -------
    FeatureGradient

    Raises
    ------
    ValueError
        If shapes do not fit, a response has no token, or a token has no row.

    References
    ----------
    Razin et al. 2024, arXiv:2410.08847.

    Examples
    --------
    >>> import numpy as np
    >>> every = np.ones(1, dtype=bool)
    >>> found = feature_gradient(np.eye(2), np.array([[1.0, 1.0]]), np.array([0]), every)
    >>> found.log_prob.round(6), found.unembedding, found.states
    (np.float64(-0.693147), array([[ 0.5,  0.5],
           [-0.5, -0.5]]), array([[ 0.5, -0.5]]))
    """
    unembedding, *response = _features(
        unembedding, {"states": states}, {"tokens": tokens}, {"mask": mask}
    )
    return _gradient(unembedding, *_response(unembedding, *response))


class GradientGram(NamedTuple, Generic[ArrayT]):
    """Squared norms of two gradients and their inner product, ``(...)`` each.

    What :func:`prefsim.analysis.entanglement` takes first.
    """

    chosen_squared: ArrayT
    rejected_squared: ArrayT
    inner: ArrayT


class FeatureGram(NamedTuple, Generic[ArrayT]):
    """The gradients of two log-probabilities, by the parameters that they are taken in."""

    unembedding: GradientGram[ArrayT]
    states: GradientGram[ArrayT]

    @property
    def total(self) -> GradientGram[ArrayT]:
        """Of all parameters."""
        return GradientGram(*(a + b for a, b in zip(self.unembedding, self.states, strict=True)))


def feature_gram(
    unembedding: ArrayT,
    chosen_states: Array,
    rejected_states: Array,
    chosen: Array,
    rejected: Array,
    chosen_mask: Array,
    rejected_mask: Array,
) -> FeatureGram[ArrayT]:
    r"""Return norms and inner products of the gradients of both log-probabilities of a pair.

    In W the inner product is :math:`\sum_{k,k'}\langle e_k^+, e_{k'}^-\rangle\langle h_k^+,
    h_{k'}^-\rangle`, and in the states :math:`\sum_k \langle W^\top e_k^+, W^\top e_k^-\rangle`
    over the prefixes that the responses share. Where all :math:`\langle e_k, e_{k'}\rangle` are one
    number α, the chosen response gains minus α times :func:`prefsim.analysis.ches_score` by W.

    Parameters
    ----------
    unembedding
        W, one row a token, ``(..., V, d)``.
    chosen_states, rejected_states
        The state that predicts each token, that of the prompt first, ``(..., T, d)``; the numbers
        of positions may differ. States of shared prefixes are the same.
    chosen, rejected
        Tokens of both, integers ``(..., T)``; what the masks leave out may be anything.
    chosen_mask, rejected_mask
        Boolean ``(..., T)``: the tokens of each response, from the first on.

    Returns
    -------
    FeatureGram

    Raises
    ------
    ValueError
        If shapes do not fit, a response has no token or a gap, a token has no row, or the states of
        a shared prefix differ.

    References
    ----------
    Razin et al. 2024, theorem 3 (number not confirmed), arXiv:2410.08847.

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim.analysis import entanglement
    >>> weights = np.array([[1, 0], [0, 1], [-1, 0.5]])
    >>> chosen, rejected = np.array([[1, 0.5], [0.2, 1]]), np.array([[1, 0.5], [0.4, 0.8], [0, 1]])
    >>> every = np.ones(3, dtype=bool)
    >>> tokens = np.array([0, 1]), np.array([1, 1, 0])
    >>> gram = feature_gram(weights, chosen, rejected, *tokens, every[:2], every)
    >>> entanglement(*gram.total).chosen_rate.round(10)
    np.float64(1.7025211445)
    """
    unembedding, *responses = _features(
        unembedding,
        {"chosen_states": chosen_states, "rejected_states": rejected_states},
        {"chosen": chosen, "rejected": rejected},
        {"chosen_mask": chosen_mask, "rejected_mask": rejected_mask},
    )
    tolerance = tolerance_of(chosen_states, rejected_states)
    given = (
        _response(unembedding, *responses[::2], whose="chosen"),
        _response(unembedding, *responses[1::2], whose="rejected"),
    )
    for (_, _, mask), name in zip(given, ("chosen_mask", "rejected_mask"), strict=True):
        check_entries(mask[..., :-1] | ~mask[..., 1:], name, "hold no gap", lambda fine: fine)
    xp = array_namespace(unembedding)
    places = min(tokens.shape[-1] for _, tokens, _ in given)
    shared = _shared(*(part[..., :places] for response in given for part in response[1:]))
    first, second = (states[..., :places, :] for states, _, _ in given)
    apart = xp.max(xp.abs(first - second) / (1 + xp.abs(first)), axis=-1)
    check_entries(
        apart,
        "rejected_states",
        "be as chosen_states where the responses share a prefix",
        lambda difference: difference <= tolerance,
        counted=shared,
    )
    one, other = (_gradient(unembedding, *response) for response in given)
    common = xp.astype(shared, apart.dtype)[..., None]
    overlap = common * one.states[..., :places, :] * other.states[..., :places, :]
    return FeatureGram(
        GradientGram(
            _summed(one.unembedding**2),
            _summed(other.unembedding**2),
            _summed(one.unembedding * other.unembedding),
        ),
        GradientGram(_summed(one.states**2), _summed(other.states**2), _summed(overlap)),
    )


def _summed(matrices: Any) -> Any:
    return array_namespace(matrices).sum(matrices, axis=(-2, -1))


def _shared(chosen: Any, chosen_mask: Any, rejected: Any, rejected_mask: Any) -> Any:
    """Return at which places both responses have a token with the same tokens before it."""
    xp = array_namespace(chosen)
    both = chosen_mask & rejected_mask
    differ = xp.astype((chosen != rejected) | ~both, xp.int64)
    return both & (xp.cumulative_sum(differ, axis=-1) - differ == 0)


def _gradient(unembedding: Any, states: Any, tokens: Any, mask: Any) -> FeatureGradient[Any]:
    xp = array_namespace(unembedding)
    log_probs = log_softmax(states @ xp.matrix_transpose(unembedding))
    counted = xp.astype(mask, unembedding.dtype)[..., None]
    own = counted * xp.astype(_is_token(tokens, unembedding.shape[-2]), unembedding.dtype)
    errors = own - counted * xp.exp(log_probs)
    by_unembedding = xp.matrix_transpose(errors) @ states
    return FeatureGradient(_summed(own * log_probs), by_unembedding, errors @ unembedding)


def _is_token(tokens: Any, size: int) -> Any:
    xp = array_namespace(tokens)
    return tokens[..., None] == xp.arange(size, dtype=tokens.dtype, device=tokens.device)


def _check_rows(tokens: Any, name: str, unembedding: Any) -> None:
    size = unembedding.shape[-2]
    check_entries(tokens, name, f"be >= 0 and < {size}", lambda x: (x >= 0) & (x < size))


def _integers(**named: Any) -> dict[str, Any]:
    return {
        name: as_signed(as_array(value, name, "integral"), name) for name, value in named.items()
    }


def _check_unembedding(unembedding: Any) -> None:
    check_no_nan(unembedding, "unembedding")
    if unembedding.ndim < 2 or 0 in unembedding.shape[-2:]:
        raise ValueError(
            f"unembedding must have shape (..., V, d) with V, d >= 1, got {unembedding.shape}"
        )


def _features(
    unembedding: Any, states: dict[str, Any], tokens: dict[str, Any], masks: dict[str, Any]
) -> tuple[Any, ...]:
    """Return all arrays in one library; what no token stands for may be anything."""
    floats = as_floats(nan=True, unembedding=unembedding, **states)
    named = dict(zip(("unembedding", *states), floats, strict=True)) | _integers(**tokens)
    named |= {name: as_array(value, name, "bool") for name, value in masks.items()}
    arrays = tuple(as_one_library(named).values())
    _check_unembedding(arrays[0])
    return arrays


def _response(
    unembedding: Any, states: Any, tokens: Any, mask: Any, *, whose: str = ""
) -> tuple[Any, Any, Any]:
    """Return states, tokens and mask of a response, 0 where the mask is false, or raise."""
    prefix = f"{whose}_" if whose else ""
    token_name, mask_name = whose or "tokens", f"{prefix}mask"
    if states.ndim < 2 or tuple(states.shape[:-1]) != tuple(mask.shape):
        raise ValueError(
            f"{mask_name} must have the shape of the states without their last axis, got"
            f" {mask.shape} and {states.shape}"
        )
    if tuple(tokens.shape) != tuple(mask.shape):
        raise ValueError(
            f"{token_name} must have the shape of {mask_name}, got {tokens.shape} and {mask.shape}"
        )
    check_shape(states, f"{prefix}states", (unembedding.shape[-1],))
    xp = array_namespace(states)
    check_no_nan(states, f"{prefix}states", counted=xp.broadcast_to(mask[..., None], states.shape))
    check_entries(
        xp.any(mask, axis=-1), mask_name, "hold at least one token of each response", lambda x: x
    )
    tokens = xp.where(mask, tokens, xp.zeros_like(tokens))
    _check_rows(tokens, token_name, unembedding)
    return xp.where(mask[..., None], states, xp.zeros_like(states)), tokens, mask
