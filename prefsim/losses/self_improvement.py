r"""The loss of a model that answers and revises.

Self-improving robust preference optimisation, one value per pair.
"""

from __future__ import annotations

from prefsim.checks import check_interval, check_positive, check_same_shape
from prefsim.containers import SelfImprovementLogps
from prefsim.losses.edge import checked
from prefsim.typing import ArrayT, Number

__all__ = ["srpo"]


@checked
def srpo(
    logps: SelfImprovementLogps[ArrayT], *, beta: Number = 0.01, alpha: Number = 0.5
) -> ArrayT:
    r"""Self-improving robust preference optimisation.

    Generator and improver learn together from offline pairs.

    .. math:: \alpha\,\Big(\tfrac12
        - \tfrac\beta2\big[l^\dagger(w|l) - l^\dagger(l|w) + l(w) - l(l)\big]\Big)^2
        + (1-\alpha)\Big[\big(\tfrac12 - \beta[l^\dagger(w|l) - l^\dagger(l|l)]\big)^2
        + \big(\tfrac12 - \beta[l^\dagger(w|w) - l^\dagger(l|w)]\big)^2\Big]

    with the log-ratios :math:`l(y) = \log\pi(y)/\pi_{ref}(y)` of the generator and
    :math:`l^\dagger(b|a) = \log\pi^\dagger(b|a)/\pi_{ref}(b|a)` of the improver, whose output b
    revises the draft a. On pairs that connect all responses, and for every α in (0, 1), its
    minimiser is that of :func:`prefsim.solvers.solve_self_improvement`, whatever the distribution
    of the pairs.

    Parameters
    ----------
    logps
        Log-probabilities in nats of both responses as answers, and of all four revisions of one
        response into another.
    beta
        Strength of the KL penalties, > 0. The default is the paper's order of magnitude, not
        confirmed.
    alpha
        Share in [0, 1] of the term that both policies enter; the rest goes to the improver's own.
        At 0 the generator learns nothing, at 1 the two are not determined. Which term the paper
        weighs by α, and its default, are not confirmed.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range or shapes differ.

    References
    ----------
    Choi et al. 2024, arXiv:2406.01660.

    Examples
    --------
    >>> import numpy as np
    >>> ratios = (0.3, -0.1, 0.5, -0.4, 0.2, 0.1)
    >>> pair = SelfImprovementLogps(
    ...     *(np.array([x]) for x in ratios), *(np.zeros(1) for _ in ratios)
    ... )
    >>> [float(srpo(pair, beta=0.4, alpha=share)[0].round(4)) for share in (0, 1)]
    [0.1832, 0.0576]
    """
    check_positive(arrays=True, beta=beta)
    check_interval(arrays=True, low=0.0, high=1.0, closed="both", alpha=alpha)
    check_same_shape(**logps._asdict())
    chosen, rejected = logps.chosen - logps.ref_chosen, logps.rejected - logps.ref_rejected
    improved = logps.chosen_from_rejected - logps.ref_chosen_from_rejected
    worsened = logps.rejected_from_chosen - logps.ref_rejected_from_chosen
    kept = logps.chosen_from_chosen - logps.ref_chosen_from_chosen
    left = logps.rejected_from_rejected - logps.ref_rejected_from_rejected
    joint = 0.5 - 0.5 * beta * (improved - worsened + chosen - rejected)
    from_rejected, from_chosen = 0.5 - beta * (improved - left), 0.5 - beta * (kept - worsened)
    return alpha * joint**2 + (1.0 - alpha) * (from_rejected**2 + from_chosen**2)
