"""Updates of first order: what is subtracted from the parameters, from one gradient to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["OPTIMISERS", "adam", "sgd"]

Update = Callable[[Any], Any]


def sgd(step: float) -> Update:
    """Return the update of gradient descent, ``step`` times the gradient."""
    return lambda gradient: step * gradient


def adam(
    step: float, *, decay: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
) -> Update:
    """Return the update of Adam; it keeps means of the gradients that it is given.

    Parameters
    ----------
    step
        Learning rate, > 0.
    decay
        Of the means of gradients and of their squares.
    epsilon
        Added to the root of the latter.

    References
    ----------
    Kingma and Ba 2014, algorithm 1, arXiv:1412.6980.

    Examples
    --------
    The first step goes as far whatever the gradient's size:

    >>> import numpy as np
    >>> adam(0.1)(np.asarray([2.0, -300.0])).round(6)
    array([ 0.1, -0.1])
    """
    first = second = 0.0
    steps = 0

    def update(gradient: Any) -> Any:
        nonlocal first, second, steps
        steps += 1
        first = decay[0] * first + (1 - decay[0]) * gradient
        second = decay[1] * second + (1 - decay[1]) * gradient**2
        unbiased = second / (1 - decay[1] ** steps)
        return step * first / (1 - decay[0] ** steps) / (unbiased**0.5 + epsilon)

    return update


OPTIMISERS: dict[str, Callable[[float], Update]] = {"sgd": sgd, "adam": adam}
