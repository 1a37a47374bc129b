"""DPO with the value that the data leave open added to the reward, or taken from it."""

from __future__ import annotations

from prefsim.checks import check_choice, check_flag, check_nonnegative, check_positive
from prefsim.containers import PairLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.pairwise import log_ratios
from prefsim.typing import ArrayT, Number

CALIBRATIONS = ("chosen", "pair")

__all__ = ["CALIBRATIONS", "vpo"]


@checked
def vpo(
    logps: PairLogps[ArrayT],
    *,
    beta: Number = 0.1,
    alpha: Number = 0.1,
    optimistic: bool = False,
    calibration: str = "chosen",
) -> ArrayT:
    r"""Value-incentivised preference optimization.

    DPO with a signed log-likelihood term on calibration responses.

    .. math:: -\log\sigma(\beta h) \mp \alpha\beta\,
        \hat E_{y\sim\pi_{cal}}\log\frac{\pi(y)}{\pi_{ref}(y)}

    Up to a reward's shift the term is ∓α times the optimal value of the implied reward. The upper
    sign, for data that are given, is pessimistic: it raises calibration responses, and with the
    chosen ones it is :func:`prefsim.losses.rpo`. The lower one, for data that the policy gathers,
    is optimistic: it lowers them, and is unbounded below, so that it wants few steps or bounded
    ratios.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    alpha
        Weight of the value, >= 0, for a mean over the pairs: the paper's weight of a sum over N
        pairs, such as √N, divided by N.
    optimistic
        Which sign: False for given data, True for data gathered online.
    calibration
        Whose responses calibrate: the ``"chosen"`` one, or both of the ``"pair"``, a sample of the
        law that pairs are drawn from.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range or shapes differ.

    References
    ----------
    Cen et al. 2024, "Value-Incentivized Preference Optimization", arXiv:2405.19320 (equation number
    not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> pair = PairLogps(np.asarray([-1.0]), np.asarray([-2.0]), zero, zero)
    >>> [
    ...     float(vpo(pair, beta=1.0, alpha=0.5, optimistic=sign, calibration="pair")[0].round(6))
    ...     for sign in (False, True)
    ... ]
    [1.063262, -0.436738]
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, alpha=alpha)
    check_flag(optimistic=optimistic)
    check_choice(CALIBRATIONS, calibration=calibration)
    chosen, rejected = log_ratios(logps)
    seen = chosen if calibration == "chosen" else 0.5 * (chosen + rejected)
    weight = alpha * beta if optimistic else -alpha * beta
    return soft_logistic(beta * (chosen - rejected), 1) + weight * seen
