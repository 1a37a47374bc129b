r"""What rankings of pairs the optimum of preference learning has, and how hard each pair is.

A datapoint is a pair with the share α of votes for its chosen response. With the reference's
log-ratio against it, :math:`c = \log\pi_{ref}(y_l) - \log\pi_{ref}(y_w)`, positive where the
reference ranks the pair wrongly, the optimum of RLHF and of DPO on labels of a Bradley–Terry rater
has

.. math:: \log\frac{\pi^*(y_w)}{\pi^*(y_l)} = \frac{1}{\beta}\log\frac{\alpha}{1-\alpha} - c
"""

from __future__ import annotations

from typing import Any

from prefsim.checks import (
    as_float_array,
    as_floats,
    check_broadcast,
    check_nonnegative,
    check_positive,
    check_same_shape,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace, like, softplus
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "exact_ranking_accuracy",
    "idealised_log_ratio",
    "idealised_ranking_accuracy",
    "largest_ranking_beta",
    "ranking_loss",
]


def _log_odds_of_votes(vote_share: Any, beside: ArrayT, unanimous: float) -> ArrayT:
    """Return logit α, of a vote that nobody opposed as if a share ``unanimous`` had."""
    shares = as_float_array(vote_share, "vote_share")
    wrong = ~((shares >= 0.5) & (shares <= 1))
    if wrong.any():
        raise ValueError(
            "vote_share must be in [0.5, 1] (exchange the responses of a pair that lost its vote),"
            f" got {shares[wrong].flat[0]!r}"
        )
    xp = array_namespace(beside)
    share: Any = like(shares, beside)
    against = xp.where(share == 1, xp.full_like(share, unanimous), 1 - share)
    return xp.log(share) - xp.log(against)


def idealised_log_ratio(
    ref_chosen: ArrayT,
    ref_rejected: Array,
    vote_share: Any,
    *,
    beta: Number,
    unanimous: float = 1e-3,
) -> ArrayT:
    r"""Return :math:`\log\pi^*(y_w)/\pi^*(y_l)` of the optimum, in nats, per pair.

    Parameters
    ----------
    ref_chosen, ref_rejected
        Log-probabilities of the reference, ``(..., n)``.
    vote_share
        Share α of votes for the chosen response, in [0.5, 1], of a shape that broadcasts.
    beta
        Strength of the KL penalty, > 0; may be an array that broadcasts.
    unanimous
        Share of votes against, > 0, that stands in for none: with none the ratio is infinite.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a share of votes or an option is out of range, or shapes differ.

    References
    ----------
    Chen et al. 2024, theorem 3.1, arXiv:2405.19534 (``unanimous`` as in the authors' code).

    Examples
    --------
    >>> import numpy as np
    >>> ratio = idealised_log_ratio(np.log([0.2]), np.log([0.5]), 0.75, beta=1.0)
    >>> np.exp(ratio).round(12)
    array([1.2])
    """
    check_positive(arrays=True, beta=beta)
    check_positive(unanimous=unanimous)
    ref_chosen, ref_rejected = as_floats(ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    check_same_shape(ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    check_broadcast(ref_chosen=ref_chosen, vote_share=vote_share, beta=beta)
    return _log_odds_of_votes(vote_share, ref_chosen, unanimous) / beta + ref_chosen - ref_rejected


def idealised_ranking_accuracy(
    ref_chosen: ArrayT,
    ref_rejected: Array,
    vote_share: Any,
    *,
    beta: Number,
    unanimous: float = 1e-3,
) -> ArrayT:
    r"""Return the share of pairs (last axis) that the optimum ranks as the votes do, strictly.

    What a policy lacks of it, see :func:`prefsim.analysis.ranking_accuracy`, is the alignment gap.

    Parameters
    ----------
    ref_chosen, ref_rejected, vote_share, beta, unanimous
        As for :func:`idealised_log_ratio`.

    Returns
    -------
    Array ``(...)``.

    References
    ----------
    Chen et al. 2024, corollary 3.3, arXiv:2405.19534.

    Examples
    --------
    >>> import numpy as np
    >>> chosen, rejected = np.log([0.2, 0.2, 0.4]), np.log([0.5, 0.3, 0.1])
    >>> float(idealised_ranking_accuracy(chosen, rejected, 0.6, beta=0.5).round(6))
    0.666667
    """
    ratio = idealised_log_ratio(
        ref_chosen, ref_rejected, vote_share, beta=beta, unanimous=unanimous
    )
    xp = array_namespace(ratio)
    return xp.mean(xp.astype(ratio > 0, ratio.dtype), axis=-1)


@names_shapes
def largest_ranking_beta(
    ref_chosen: ArrayT, ref_rejected: Array, vote_share: Any, *, unanimous: float = 1e-3
) -> ArrayT:
    r"""Return the strength of the KL penalty below which the optimum ranks a pair as the votes do.

    It is :math:`\mathrm{logit}(\alpha)/c`, and infinite where the reference ranks it so already.

    Parameters
    ----------
    ref_chosen, ref_rejected, vote_share, unanimous
        As for :func:`idealised_log_ratio`.

    Returns
    -------
    Array ``(..., n)``.

    References
    ----------
    Derived from Chen et al. 2024, corollary 3.3, arXiv:2405.19534.

    Examples
    --------
    >>> import numpy as np
    >>> largest_ranking_beta(np.log([0.2, 0.5]), np.log([0.5, 0.2]), 0.75).round(12)
    array([1.19897785,        inf])
    """
    check_positive(unanimous=unanimous)
    ref_chosen, ref_rejected = as_floats(ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    check_same_shape(ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    xp = array_namespace(ref_chosen)
    against = ref_rejected - ref_chosen
    wrong = against > 0
    safe = xp.where(wrong, against, xp.ones_like(against))
    odds = _log_odds_of_votes(vote_share, ref_chosen, unanimous)
    return xp.where(wrong, odds / safe, xp.full_like(safe, float("inf")))


def ranking_loss(ref_chosen: ArrayT, ref_rejected: Array, *, beta: Number) -> ArrayT:
    r"""Return :math:`-\log\sigma(\beta c)`, the DPO loss below which a pair is ranked as labelled.

    A pair is ranked so exactly if its loss is at most this, so that a small value marks a pair that
    is hard to turn.

    Parameters
    ----------
    ref_chosen, ref_rejected
        Log-probabilities of the reference, ``(..., n)``.
    beta
        Strength of the KL penalty, >= 0; may be an array that broadcasts.

    Returns
    -------
    Array ``(..., n)`` in nats.

    References
    ----------
    Chen et al. 2024, theorem 4.1, arXiv:2405.19534.

    Examples
    --------
    >>> import numpy as np
    >>> ranking_loss(np.log([0.2]), np.log([0.5]), beta=1.0).round(12)
    array([0.33647224])
    """
    check_nonnegative(arrays=True, beta=beta)
    ref_chosen, ref_rejected = as_floats(ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    check_same_shape(ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    check_broadcast(ref_chosen=ref_chosen, beta=beta)
    return softplus(-beta * (ref_rejected - ref_chosen))


def exact_ranking_accuracy(log_probs: ArrayT) -> ArrayT:
    r"""Return the share of prompts whose responses a policy ranks exactly as they are listed.

    Parameters
    ----------
    log_probs
        Log-probabilities of each prompt's responses, best first, ``(..., n, k)``; equal ones count
        as ranked, as in :func:`prefsim.analysis.ranking_accuracy`.

    Returns
    -------
    Array ``(...)``.

    References
    ----------
    Chen et al. 2024, definition 2.2 for more than two responses, arXiv:2405.19534.

    Examples
    --------
    >>> import numpy as np
    >>> float(exact_ranking_accuracy(np.array([[-1.0, -2.0, -3.0], [-1.0, -3.0, -2.0]])))
    0.5
    """
    (log_probs,) = as_floats(log_probs=log_probs)
    check_shape(log_probs, "log_probs", (None, None))
    xp = array_namespace(log_probs)
    ranked = xp.all(log_probs[..., :-1] >= log_probs[..., 1:], axis=-1)
    return xp.mean(xp.astype(ranked, log_probs.dtype), axis=-1)
