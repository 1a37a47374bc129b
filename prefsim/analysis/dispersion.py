"""Where the probability of responses that no pair names goes while a policy is trained."""

from __future__ import annotations

from typing import Generic, NamedTuple

from prefsim.checks import as_floats, check_same_shape, check_shape
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = ["Dispersion", "dispersion"]


class Dispersion(NamedTuple, Generic[ArrayT]):
    r"""How the log-probabilities of unseen responses moved, ``(...)`` each.

    Attributes
    ----------
    drift
        Mean change, nats. Of responses drawn from the start it estimates
        :math:`-\mathrm{KL}(\pi_0\|\pi_t)`, and is at most 0 on average.
    spread
        Standard deviation of the change over responses, nats: what the start said is scattered.
    rises
        Share of responses that are likelier than at the start.
    """

    drift: ArrayT
    spread: ArrayT
    rises: ArrayT


def dispersion(log_probs: ArrayT, start_log_probs: Array) -> Dispersion[ArrayT]:
    """Return how the log-probabilities of unseen responses moved since the start of training.

    Parameters
    ----------
    log_probs, start_log_probs
        Of the same responses now and at the start, ``(..., n)`` nats, n >= 1: responses that
        training does not name, such as draws from the start.

    Returns
    -------
    Dispersion

    Raises
    ------
    ValueError
        If there is no response, or shapes differ.

    References
    ----------
    Yan et al. 2024, the effect of training on unseen responses, arXiv:2406.07327.

    Examples
    --------
    >>> import numpy as np
    >>> found = dispersion(np.log([0.1, 0.2, 0.1]), np.log([0.2, 0.1, 0.1]))
    >>> [round(float(each), 6) for each in found]
    [0.0, 0.565952, 0.333333]
    """
    log_probs, start_log_probs = as_floats(log_probs=log_probs, start_log_probs=start_log_probs)
    check_same_shape(log_probs=log_probs, start_log_probs=start_log_probs)
    check_shape(log_probs, "log_probs", (None,))
    if log_probs.shape[-1] == 0:
        raise ValueError("log_probs must hold at least one response along its last axis, got none")
    xp = array_namespace(log_probs)
    change = log_probs - start_log_probs
    return Dispersion(
        drift=xp.mean(change, axis=-1),
        spread=xp.std(change, axis=-1),
        rises=xp.mean(xp.astype(change > 0, change.dtype), axis=-1),
    )
