"""A model that is fitted to its own samples, of which users keep one in several."""

from __future__ import annotations

import math
from typing import Any

from prefsim.checks import as_floats, as_log_policies, check_integer, check_positive
from prefsim.numerics import array_namespace
from prefsim.solvers.closed_forms.curation import curated_law
from prefsim.typing import Array, ArrayT

__all__ = ["self_consuming"]


def self_consuming(
    reward: ArrayT,
    log_real: Array,
    *,
    candidates: float,
    rounds: int,
    synthetic: float = math.inf,
    start: Any = None,
) -> ArrayT:
    r"""Return the laws of a model retrained on curated samples of itself, ``(rounds + 1, ..., Y)``.

    .. math:: p_{t+1} = \frac{1}{1+\lambda}\,p_{real} + \frac{\lambda}{1+\lambda}\,p_t H_{p_t}

    with the factor H of :func:`prefsim.solvers.closed_forms.curation.curation_factor`: the fit by
    maximum likelihood to infinitely many samples. Without real data the law ends on the responses
    of highest reward, in the proportions that they had; with enough of them it stays near.

    Parameters
    ----------
    reward
        r, ``(..., Y)``; users keep a sample with odds e^r.
    log_real
        The law of real data, or its log-probabilities ``(..., Y)`` in nats.
    candidates
        K, samples of which one is kept: an integer >= 1 or ``math.inf``.
    rounds
        How often the model is retrained, >= 0.
    synthetic
        λ > 0, how many curated samples come on one real one; ``math.inf`` for none of the latter.
    start
        The first model; that of the real data unless given.

    Returns
    -------
    Array of log-probabilities in nats.

    Raises
    ------
    ValueError
        If a parameter is out of range or a row does not sum to one.

    References
    ----------
    Ferbach et al. 2024, the loops with and without real data, arXiv:2407.09499 (numbers not
    confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> reward, real = np.asarray([0.0, 1.0, 1.0]), np.log([0.7, 0.2, 0.1])
    >>> path = self_consuming(reward, real, candidates=2, rounds=40)
    >>> np.exp(path[[0, 10, 40]]).round(3)
    array([[0.7  , 0.2  , 0.1  ],
           [0.011, 0.659, 0.33 ],
           [0.   , 0.667, 0.333]])
    """
    check_integer(low=0, rounds=rounds)
    if synthetic != math.inf:
        check_positive(synthetic=synthetic)
    (log_real,) = as_log_policies(log_real=log_real)
    reward, log_real = as_floats(reward=reward, log_real=log_real)
    xp = array_namespace(reward)
    reward, log_real = xp.broadcast_arrays(reward, log_real)
    law = log_real
    if start is not None:
        (law,) = as_log_policies(start=start)
        law, _ = xp.broadcast_arrays(*as_floats(start=law, log_real=log_real))
    path = [law]
    for _ in range(rounds):
        law = curated_law(reward, law, candidates=candidates)
        if synthetic != math.inf:
            law = xp.logaddexp(log_real - math.log1p(synthetic), law - math.log1p(1 / synthetic))
        path.append(law)
    return xp.stack(path)
