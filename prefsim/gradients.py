"""Gradients of losses and of any other function, as NumPy arrays.

The derivatives are torch's, taken in float64. What a function detaches (a running mean, a clipped
weight, a stopped gradient) is a constant: it has no derivative here, as it has none in training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np

from prefsim.backend import to_numpy
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

Logps = TypeVar("Logps", bound=tuple[Any, ...])

__all__ = ["gradient", "logit_gradient", "loss_gradient"]


def loss_gradient(loss: Callable[[Logps], Array], logps: Logps) -> Logps:
    """Return the derivatives of the sum of a loss in everything that it reads.

    A loss of :mod:`prefsim.losses` has one value per example that depends on that example alone,
    so that entry i is the derivative of the loss of example i; losses of a whole batch (such as
    :func:`prefsim.losses.drdpo`) have that of the batch.

    Parameters
    ----------
    loss
        A loss, its options bound by :func:`functools.partial`.
    logps
        Its container, of NumPy arrays, tensors or numbers.

    Returns
    -------
    Container of the same type
        Float fields hold float64 NumPy arrays of their own shape, zeros where the loss does not
        read the field or detaches it. Boolean and integer fields and those that are None are None.

    Raises
    ------
    TypeError
        If the loss does not return a tensor where it is given tensors.

    Examples
    --------
    >>> import functools
    >>> from prefsim import losses
    >>> pair = losses.PairLogps([-2.0, -1.0], [-3.0, -1.0], [-2.0, -1.0], [-2.0, -1.0])
    >>> found = loss_gradient(functools.partial(losses.dpo, beta=0.5), pair)
    >>> found.chosen.round(6), found.ref_chosen.round(6), found.chosen_length is None
    (array([-0.18877, -0.25   ]), array([0.18877, 0.25   ]), True)
    """
    make: Callable[..., Logps] = type(logps)
    leaves = [None if field is None else _leaf(field, only_floats=True) for field in logps]
    moving = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
    found = iter(_derivatives(loss(make(*leaves)), moving))
    return make(
        *(next(found) if leaf is not None and leaf.requires_grad else None for leaf in leaves)
    )


def logit_gradient(slopes: ArrayT, log_policy: ArrayT) -> ArrayT:
    r"""Return a gradient in the logits of softmax policies from that in their log-probabilities.

    .. math:: g - \pi \sum_y g_y

    Parameters
    ----------
    slopes
        Gradient g in the log-probabilities, each as if it were free, ``(..., Y)``.
    log_policy
        log π, ``(..., Y)`` in nats.

    Returns
    -------
    Array ``(..., Y)``.

    Examples
    --------
    >>> logit_gradient(np.array([1.0, 0.0, 0.0]), np.log([0.5, 0.3, 0.2]))
    array([ 0.5, -0.3, -0.2])
    """
    xp = array_namespace(slopes, log_policy)
    return slopes - xp.exp(log_policy) * xp.sum(slopes, axis=-1, keepdims=True)


@overload
def gradient(function: Callable[..., Array], array: Any, /) -> np.ndarray: ...


@overload
def gradient(
    function: Callable[..., Array], first: Any, second: Any, /, *others: Any
) -> tuple[np.ndarray, ...]: ...


def gradient(function: Callable[..., Array], *arrays: Any) -> np.ndarray | tuple[np.ndarray, ...]:
    """Return the gradient of a function in each of its arguments.

    Parameters
    ----------
    function
        Takes as many float64 tensors as there are arrays and returns a tensor. Where it has several
        values, as over a batch, the gradient is that of their sum.
    *arrays
        Where to differentiate: at least one array, tensor or number.

    Returns
    -------
    numpy.ndarray, or a tuple of them where there are several arguments
        float64, each of its argument's shape; zeros where the function does not depend on it.

    Raises
    ------
    TypeError
        If the function does not return a tensor, or there is nothing to differentiate in.

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim.numerics import logsumexp
    >>> gradient(logsumexp, np.log([0.5, 0.3, 0.2])).round(12)
    array([0.5, 0.3, 0.2])
    >>> gradient(lambda x, y: x * y, [2.0, 3.0], 4.0)
    (array([4., 4.]), array(5.))
    """
    if not arrays:
        raise TypeError("gradient needs at least one array to differentiate in")
    leaves = [_leaf(array) for array in arrays]
    found = _derivatives(function(*leaves), leaves)
    return found[0] if len(found) == 1 else tuple(found)


def _leaf(value: Any, *, only_floats: bool = False) -> Any:
    """Return a float64 tensor of its own to differentiate in; as it is where it may not be one."""
    import torch

    # A copy: what a function writes must not reach the caller's array, which may be read-only.
    tensor = torch.as_tensor(np.array(to_numpy(value)))
    if only_floats and not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.float64).requires_grad_()


def _derivatives(value: Any, leaves: list[Any]) -> list[np.ndarray]:
    """Return the derivatives of the sum of ``value`` in the tensors it was computed from."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise TypeError(
            "the function must return a tensor computed from its arguments, got"
            f" {type(value).__name__}"
        )
    # A value that depends on nothing has no graph to go back through.
    if not value.requires_grad:
        return [np.zeros(tuple(leaf.shape)) for leaf in leaves]
    found = torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)
    return [to_numpy(slope) for slope in found]
