"""Losses on K scored candidates for one prompt, one value per list."""

from __future__ import annotations

import math
from typing import Any

from prefsim.checks import check_no_nan, check_positive, check_same_shape
from prefsim.containers import ListLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.pair_fields import check_last_axis
from prefsim.numerics import array_namespace, log_softmax, logsumexp, over_rows, softmax
from prefsim.typing import ArrayT, Number

__all__ = ["exo_rw", "infonca", "nca", "pl_dpo"]


def _implicit_rewards(logps: ListLogps[ArrayT], beta: Number) -> Any:
    check_positive(arrays=True, beta=beta)
    check_same_shape(**logps._asdict())
    check_last_axis(logps.logps, "logps", "candidate")
    # In an order a NaN has a place, and no trace is left of it.
    check_no_nan(logps.scores, "scores")
    return over_rows(beta) * (logps.logps - logps.ref_logps)


@checked
def pl_dpo(logps: ListLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Plackett–Luce DPO.

    :math:`-\sum_{k<K} [\beta h_{(k)} - \log\sum_{j \ge k} e^{\beta h_{(j)}}]`, best score first.

    Ties in the scores are broken in the order of the list.

    Parameters
    ----------
    logps
        Each ``(..., n, K)``, nats.
    beta
        Strength of the KL penalty, > 0.

    Returns
    -------
    Array ``(..., n)``, nats; DPO where K = 2.

    References
    ----------
    Rafailov et al. 2023, eq. 20 (appendix A.3), arXiv:2305.18290.
    """
    h = _implicit_rewards(logps, beta)
    xp = array_namespace(h)
    order = xp.argsort(-logps.scores, axis=-1, stable=True)
    ranked = xp.take_along_axis(h, xp.broadcast_to(order, tuple(h.shape)), axis=-1)
    k = ranked.shape[-1]
    positions = xp.arange(k)
    later = positions[None, :] >= positions[:, None]
    tails = logsumexp(
        xp.where(later, ranked[..., None, :], xp.full_like(ranked[..., None, :], -math.inf))
    )
    return xp.sum(tails - ranked, axis=-1)


@checked
def infonca(logps: ListLogps[ArrayT], *, beta: Number = 0.1, alpha: Number = 1.0) -> ArrayT:
    r"""InfoNCA: cross-entropy :math:`-\sum_i t_i \log\mathrm{softmax}(h)_i`.

    With targets :math:`t = \mathrm{softmax}(r/\alpha)`.

    Parameters
    ----------
    logps
        Each ``(..., n, K)``, nats; ``scores`` are the rewards r.
    beta
        Scale of the implicit rewards h, > 0.
    alpha
        Temperature of the targets, > 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Chen et al. 2024, eq. 6, arXiv:2402.05369 (equation number not confirmed).
    """
    check_positive(arrays=True, alpha=alpha)
    h = _implicit_rewards(logps, beta)
    return -array_namespace(h).sum(
        softmax(logps.scores / over_rows(alpha)) * log_softmax(h), axis=-1
    )


@checked
def nca(logps: ListLogps[ArrayT], *, beta: Number = 0.1, alpha: Number = 1.0) -> ArrayT:
    r"""NCA: :math:`\sum_i [t_i\,\ell(h_i) + \frac1K \ell(-h_i)]`.

    With targets :math:`t = \mathrm{softmax}(r/\alpha)`.

    Parameters
    ----------
    logps
        Each ``(..., n, K)``, nats; ``scores`` are the rewards r.
    beta
        Scale of the implicit rewards h, > 0.
    alpha
        Temperature of the targets, > 0.

    Returns
    -------
    Array ``(..., n)``, nats; its free minimiser is ``h_i = log(K t_i)``.

    References
    ----------
    Chen et al. 2024, eq. 10, arXiv:2402.05369 (equation number not confirmed).
    """
    check_positive(arrays=True, alpha=alpha)
    h = _implicit_rewards(logps, beta)
    target = softmax(logps.scores / over_rows(alpha))
    return array_namespace(h).sum(
        target * soft_logistic(h, 1) + soft_logistic(-h, 1) / h.shape[-1], axis=-1
    )


@checked
def exo_rw(logps: ListLogps[ArrayT], *, beta: Number = 0.1, alpha: Number = 1.0) -> ArrayT:
    r"""Efficient exact optimisation with rewards.

    :math:`KL(\mathrm{softmax}(h) \| \mathrm{softmax}(r/\alpha))`.

    Parameters
    ----------
    logps
        Each ``(..., n, K)``, nats; ``scores`` are the rewards r.
    beta
        Scale of the implicit rewards h, > 0.
    alpha
        Temperature of the targets, > 0 (β_r in the paper).

    Returns
    -------
    Array ``(..., n)``, nats, >= 0.

    References
    ----------
    Ji et al. 2024, eq. 12, arXiv:2402.00856 (equation number not confirmed).
    """
    check_positive(arrays=True, alpha=alpha)
    h = _implicit_rewards(logps, beta)
    xp = array_namespace(h)
    logq = log_softmax(h)
    return xp.sum(xp.exp(logq) * (logq - log_softmax(logps.scores / over_rows(alpha))), axis=-1)
