r"""Losses on pairs of one class: class scores, and heads that say which is the more typical.

A preference of the first input is a probability s: 1 if it is preferred, 0 if the other is, ½ if
neither. Each of T heads gives both inputs a reward, and the difference m of the two is its margin
in log-odds. The heads are an ensemble: each learns the preferences, and one of the terms rewards
them for disagreeing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import (
    alike,
    as_floats,
    check_choice,
    check_entries,
    check_no_nan,
    check_nonnegative,
    check_same_shape,
)
from prefsim.checks.shapes import names_shapes
from prefsim.containers import ClassLogits, ClassPairs
from prefsim.losses.class_scores import in_dtype_of, is_label
from prefsim.losses.classification import cross_entropy
from prefsim.losses.edge import checked
from prefsim.losses.links import positive_part, soft_logistic
from prefsim.losses.pair_fields import check_last_axis, check_win_probability, needed
from prefsim.numerics import array_namespace, sigmoid, softmax, softplus, stop_gradient, widened
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "head_diversity",
    "head_preference",
    "p2c",
    "preference_consistency",
    "preference_probability",
    "vote_consistency",
]

FIRST, SECOND, NEITHER = 1, 0, 2  # codes of a judgement
FORMS = ("preference", "votes")


def preference_probability(judgement: Any) -> np.ndarray:
    """Return the probability ½ of a tie, and 1 or 0 of a judgement for the first or the second.

    Parameters
    ----------
    judgement
        Integers of any shape: 1 where the first is preferred, 0 where the second is, 2 where
        neither. The 2 is a code and no class.

    Raises
    ------
    ValueError
        If there is another number.

    Examples
    --------
    >>> preference_probability([1, 0, 2])
    array([1. , 0. , 0.5])
    """
    (code,) = as_floats(judgement=judgement)
    xp = array_namespace(code)
    check_entries(
        code,
        "judgement",
        "be 1 for the first, 0 for the second or 2 for neither",
        lambda x: np.isin(x, (FIRST, SECOND, NEITHER)),
    )
    return xp.where(code == NEITHER, xp.full_like(code, 0.5), code)


@names_shapes
def head_preference(margins: Any, prob: Any) -> Any:
    r"""Return the Bradley–Terry loss of an ensemble, ties counted half, one value per pair.

    .. math:: \frac1T\sum_t -s\log\sigma(m_t) - (1 - s)\log\sigma(-m_t)

    Parameters
    ----------
    margins
        Of T heads, ``(..., n, T)`` in log-odds.
    prob
        s, ``(..., n)`` in [0, 1].

    Returns
    -------
    Array ``(..., n)``, nats. Each head by itself is least at :math:`m_t = \mathrm{logit}\,s`.

    Raises
    ------
    ValueError
        If a preference is no probability, or shapes do not fit.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", the preference loss, arXiv:2306.04925. A tie as half of
    either order is the convention of Bradley–Terry models.

    Examples
    --------
    >>> import numpy as np
    >>> head_preference(np.asarray([[0.0, 2.0]]), np.asarray([1.0])).round(6)
    array([0.410038])
    """
    margins, prob = alike(margins=margins, prob=prob)
    check_last_axis(margins, "margins", "head")
    check_win_probability(prob, "prob")
    xp = array_namespace(margins)
    return xp.mean(soft_logistic(margins, prob[..., None]), axis=-1)


def head_diversity(margins: Any) -> Any:
    r"""Return how much heads disagree, their mean cross-entropy, one value per pair.

    .. math:: \frac{1}{T(T-1)}\sum_{i\ne j} -P_i\log P_j - (1 - P_i)\log(1 - P_j)

    with :math:`P_t = \sigma(m_t)`, of which :math:`P_i` is a constant of differentiation. The
    gradient in :math:`m_j` is :math:`\frac{1}{T(T-1)}\sum_{i\ne j}(P_j - P_i)`, that of the KL
    divergences, from which it differs by the mean entropy of the heads. It is to be raised: heads
    that agree exactly stay together, any others part without bound but that of their rewards.

    Parameters
    ----------
    margins
        Of T >= 2 heads, ``(..., n, T)`` in log-odds.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If there are fewer than two heads.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", the diversity loss, arXiv:2306.04925 (written with KL
    divergences; the released code has cross-entropies).

    Examples
    --------
    >>> import numpy as np
    >>> head_diversity(np.asarray([[2.0, -2.0], [0.0, 0.0]])).round(6)
    array([1.888522, 0.693147])
    """
    (margins,) = alike(margins=margins)
    heads = margins.shape[-1] if margins.ndim else 0
    if heads < 2:
        raise ValueError(f"margins must be of at least two heads to disagree, got {heads}")
    xp = array_namespace(margins)
    held = sigmoid(stop_gradient(margins))
    # Of a head m with the target P: softplus(m) - P m. The others' targets are all less its own.
    others = (xp.sum(held, axis=-1, keepdims=True) - held) / (heads - 1)
    return xp.mean(softplus(margins) - others * margins, axis=-1)


@names_shapes
def preference_consistency(gap: Any, prob: Any) -> Any:
    r"""Return by how much a class probability is ordered against a preference, for each pair.

    With the gap δ of the two probabilities of the class: max(0, −δ) where the first is preferred,
    max(0, δ) where the second is, and \|δ\| where neither.

    Parameters
    ----------
    gap
        δ, that of the first input less that of the second, ``(..., n)``.
    prob
        s, ``(..., n)`` in [0, 1]; above ½ the first is preferred, at ½ neither.

    Returns
    -------
    Array ``(..., n)``, the distance of δ from where it agrees with the preference.

    Raises
    ------
    ValueError
        If a preference is no probability, or shapes do not fit.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", the consistency loss, arXiv:2306.04925.

    Examples
    --------
    >>> import numpy as np
    >>> preference_consistency(np.asarray([-0.25, -0.25, -0.25]), np.asarray([1.0, 0.0, 0.5]))
    array([0.25, 0.  , 0.25])
    """
    gap, prob = alike(gap=gap, prob=prob)
    check_win_probability(prob, "prob")
    xp = array_namespace(gap)
    # Of the two sides of zero a tie forbids both.
    short, beyond = positive_part(-gap), positive_part(gap)
    none = xp.zeros_like(gap)
    return xp.where(prob < 0.5, none, short) + xp.where(prob > 0.5, none, beyond)


@names_shapes
def vote_consistency(prob_gap: Any, vote_gap: Any) -> Any:
    r"""Return how far class probabilities fall short of the gaps of votes, one value per pair.

    .. math:: \sum_k \max(0, \Delta v_k - \Delta p_k)\ \text{where}\ \Delta v_k \ge 0,\qquad
              \sum_k \max(0, \Delta p_k - \Delta v_k)\ \text{elsewhere}

    It is one-sided: a larger gap than that of the votes, in their direction, is free. A class of
    equal votes (Δv_k = 0) counts as a gap upwards, so that with more than two classes such a pair
    costs another amount once its inputs are exchanged.

    Parameters
    ----------
    prob_gap
        Δp, probabilities at the first input less those at the second, ``(..., n, K)``.
    vote_gap
        Δv, shares of the annotators at the first input less those at the second, ``(..., n, K)``.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If shapes do not fit.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", the consistency loss of extractive preferences,
    arXiv:2306.04925.

    Examples
    --------
    >>> import numpy as np
    >>> vote_consistency(np.asarray([0.5, -0.5]), np.asarray([0.25, -0.25]))
    np.float64(0.0)
    >>> vote_consistency(np.asarray([-0.5, 0.5]), np.asarray([0.25, -0.25]))
    np.float64(1.5)
    """
    prob_gap, vote_gap = alike(prob_gap=prob_gap, vote_gap=vote_gap)
    check_last_axis(prob_gap, "prob_gap", "class")
    xp = array_namespace(prob_gap)
    short = vote_gap - prob_gap
    return xp.sum(positive_part(xp.where(vote_gap < 0, -short, short)), axis=-1)


@checked
def p2c(
    pairs: ClassPairs[ArrayT],
    *,
    consistency_weight: Number = 1.0,
    preference_weight: Number = 1.0,
    diversity_weight: Number = 0.1,
    consistency: str = "preference",
) -> ArrayT:
    r"""Prefer-to-classify loss of pairs of one class, one value per pair.

    .. math:: \tfrac12[\mathrm{CE}(x^1, y) + \mathrm{CE}(x^2, y)] + \lambda_c L_{cons}
              + \lambda_p L_{pref} - \lambda_d L_{div}

    with :func:`head_preference`, :func:`head_diversity`, which is subtracted, and
    :func:`preference_consistency` or :func:`vote_consistency` of the class probabilities. Per pair,
    heads alone settle at the preference if :math:`\lambda_d < \frac{T-1}{T}\lambda_p`, and are
    driven apart if it is more.

    Parameters
    ----------
    pairs
        Class scores ``(..., n, K)``, rewards ``(..., n, T)``, classes, and how typical each input
        was judged ``(..., n)``; with ``consistency="votes"`` also votes ``(..., n, K)``.
    consistency_weight
        λ_c >= 0.
    preference_weight
        λ_p >= 0.
    diversity_weight
        λ_d >= 0; at 0 a single head will do. With rewards that are not bounded, the loss is not
        bounded below unless λ_p is large enough.
    consistency
        ``"preference"`` or ``"votes"``: what class probabilities are to agree with.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If an option is out of range, shapes do not fit, votes are needed and missing, or there are
        fewer than two heads to be diverse.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", the total loss, arXiv:2306.04925.

    Examples
    --------
    >>> import numpy as np
    >>> zero, half = np.zeros((1, 2)), np.asarray([0.5])
    >>> p2c(ClassPairs(zero, zero, zero, zero, np.asarray([0]), half, half)).round(6)
    array([1.31698])
    """
    check_nonnegative(arrays=True, consistency_weight=consistency_weight)
    check_nonnegative(arrays=True, preference_weight=preference_weight)
    check_nonnegative(arrays=True, diversity_weight=diversity_weight)
    check_choice(FORMS, consistency=consistency)
    check_same_shape(
        chosen_logits=pairs.chosen_logits,
        rejected_logits=pairs.rejected_logits,
        chosen_votes=pairs.chosen_votes,
        rejected_votes=pairs.rejected_votes,
    )
    check_same_shape(chosen_rewards=pairs.chosen_rewards, rejected_rewards=pairs.rejected_rewards)
    check_same_shape(
        label=pairs.label, chosen_score=pairs.chosen_score, rejected_score=pairs.rejected_score
    )
    both = [ClassLogits(f, pairs.label) for f in (pairs.chosen_logits, pairs.rejected_logits)]
    classified = (cross_entropy(both[0]) + cross_entropy(both[1])) / 2
    check_last_axis(pairs.chosen_rewards, "chosen_rewards", "head")
    check_same_shape(label=pairs.label, one_head=pairs.chosen_rewards[..., 0])
    prob = _preferred(pairs)
    agreed = (
        _order_kept(both, prob)
        if consistency == "preference"
        else vote_consistency(
            softmax(widened(pairs.chosen_logits)) - softmax(widened(pairs.rejected_logits)),
            needed(pairs.chosen_votes, "chosen_votes")
            - needed(pairs.rejected_votes, "rejected_votes"),
        )
    )
    margins = widened(pairs.chosen_rewards) - widened(pairs.rejected_rewards)
    value = (
        widened(classified)
        + consistency_weight * agreed
        + preference_weight * head_preference(margins, prob)
    )
    if isinstance(diversity_weight, int | float) and diversity_weight == 0:
        return in_dtype_of(pairs.chosen_logits, value)
    return in_dtype_of(pairs.chosen_logits, value - diversity_weight * head_diversity(margins))


def _preferred(pairs: ClassPairs[ArrayT]) -> Array:
    """Return 1 where the first input was judged more typical, 0 where the second, ½ for ties."""
    check_no_nan(pairs.chosen_score, "chosen_score")
    check_no_nan(pairs.rejected_score, "rejected_score")
    first, second = widened(pairs.chosen_score), widened(pairs.rejected_score)
    xp = array_namespace(first)
    certain = xp.where(first > second, xp.ones_like(first), xp.zeros_like(first))
    return xp.where(first == second, xp.full_like(first, 0.5), certain)


def _order_kept(both: list[ClassLogits[ArrayT]], prob: Array) -> Array:
    """Return the consistency of the probabilities of the pair's class with its preference."""
    first, second = (_own_probability(classes) for classes in both)
    return preference_consistency(first - second, prob)


def _own_probability(classes: ClassLogits[ArrayT]) -> Array:
    """Return the probability of the label, ``(..., n)``."""
    law = softmax(widened(classes.logits))
    xp = array_namespace(law)
    return xp.sum(xp.where(is_label(classes), law, xp.zeros_like(law)), axis=-1)
