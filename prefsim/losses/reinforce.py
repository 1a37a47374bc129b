"""The plain policy gradient of scored responses as a loss."""

from __future__ import annotations

from prefsim.checks import check_nonnegative, check_number, check_same_shape
from prefsim.containers import ListLogps
from prefsim.losses.edge import checked
from prefsim.losses.pair_fields import check_last_axis
from prefsim.numerics import array_namespace, stop_gradient
from prefsim.typing import ArrayT

__all__ = ["reinforce"]


@checked
def reinforce(logps: ListLogps[ArrayT], *, beta: float = 0.1, baseline: float = 0.0) -> ArrayT:
    r"""Policy gradient loss of K scored responses to one prompt, each by itself.

    Its gradient alone means anything.

    .. math:: -\frac1K\sum_i \mathrm{sg}\big[R_\beta(y_i) - b\big]\,\log\pi(y_i),\qquad
        R_\beta(y) = R(y) - \beta\log\frac{\pi(y)}{\pi_{ref}(y)}

    On responses of the policy itself the gradient is minus the policy gradient of
    :math:`E_\pi R - \beta\,\mathrm{KL}(\pi\|\pi_{ref})`, whatever b is. On responses of another
    policy it leads elsewhere, to a place that b moves, unless b is the mean of :math:`R_\beta`
    there; :func:`prefsim.losses.copg` needs no such care.

    Parameters
    ----------
    logps
        Log-probabilities in nats and, as scores, the rewards of K responses, each ``(..., n, K)``.
    beta
        Strength of the KL penalty in units of the reward, >= 0.
    baseline
        What is taken from every reward.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ or there is no response.

    References
    ----------
    Williams 1992 (REINFORCE); Flet-Berliac et al. 2024, section 3, arXiv:2406.19185 (off policy).

    Examples
    --------
    >>> import numpy as np
    >>> drawn = ListLogps(
    ...     np.asarray([[-1.0, -2.0]]), np.asarray([[-1.5, -2.0]]), np.asarray([[1.0, 0.0]])
    ... )
    >>> reinforce(drawn, beta=0.4, baseline=0.5).round(12)
    array([-0.35])
    """
    check_nonnegative(beta=beta)
    check_number(baseline=baseline)
    check_same_shape(**logps._asdict())
    check_last_axis(logps.logps, "logps", "response")
    xp = array_namespace(logps.logps)
    reward = logps.scores - beta * (logps.logps - logps.ref_logps)
    return -xp.mean(stop_gradient(reward - baseline) * logps.logps, axis=-1)
