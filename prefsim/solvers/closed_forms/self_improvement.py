r"""The self-improvement game of SRPO.

A generator, an improver that revises its responses, and their exact solution.

Preferences ``P`` are ``(..., n, n)`` with ``P + Pᵀ = 1``, generators ``(..., n)``. An improver is
``(..., n, n)`` with the *draft* along the second to last axis: ``improver[..., a, b]`` is the
probability that draft a is revised to b, and rows sum to one. Everything broadcasts over leading
axes and runs on any array library.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from prefsim.checks import (
    as_floats,
    as_policies,
    check_game,
    check_integer,
    check_positive,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace, categorical_kl, log_softmax, logsumexp
from prefsim.solvers.games.certificates import log_probs
from prefsim.typing import Array, ArrayT

__all__ = [
    "SelfImprovement",
    "SelfImprovementErrors",
    "revision_chain",
    "self_improvement_errors",
    "self_improvement_value",
    "solve_self_improvement",
]


class SelfImprovement(NamedTuple):
    """The solution of the min-max problem.

    Attributes
    ----------
    generator
        π* ``(..., n)``.
    improver
        π†* ``(..., n, n)``, one row for each draft.
    value
        J*, ``(...,)``.
    gain
        β log Z ``(..., n)``: what the improver can gain from each draft, penalty included. The
        generator avoids drafts of large gain.
    """

    generator: Array
    improver: Array
    value: Array
    gain: Array


class SelfImprovementErrors(NamedTuple):
    """How far two policies are from the identities of the solution, each ``(..., n, n)``.

    The draft is along the second to last axis.
    """

    improver: Array
    joint: Array


def _improver_reference(reference: Array, improver_reference: Array | None) -> Array:
    """Return log π_ref(b|a) ``(..., n, n)``, by default the same for every draft."""
    if improver_reference is None:
        n = reference.shape[-1]
        return array_namespace(reference).broadcast_to(
            log_probs(reference)[..., None, :], (*reference.shape, n)
        )
    n = reference.shape[-1]
    check_shape(improver_reference, "improver_reference", (n, n))
    return log_probs(improver_reference)


def _game(beta: float, **named: Any) -> tuple[Any, ...]:
    """Return a preference, a reference and what else is given by name, of one library, or raise.

    An improver and its reference hold one row for each draft; None stays None.
    """
    check_positive(beta=beta)
    (reference,) = as_policies(reference=named["reference"])
    n = reference.shape[-1]
    named["reference"] = reference
    for name in ("generator", "improver", "improver_reference"):
        if named.get(name) is not None:
            tail = (n,) if name == "generator" else (n, n)
            (named[name],) = as_policies(tail=tail, **{name: named[name]})
    preference, *policies = as_floats(nan=True, optional=("improver_reference",), **named)
    check_shape(preference, "preference", (n, n))
    check_game(preference)
    return preference, *policies


@names_shapes
def solve_self_improvement(
    preference: Array, reference: Array, *, beta: float, improver_reference: Array | None = None
) -> SelfImprovement:
    r"""Return the generator and the improver of the min–max problem, in closed form.

    They solve :math:`\min_\pi \max_{\pi^\dagger} J(\pi, \pi^\dagger)`.

    .. math:: \pi^{\dagger*}(b|a) = \frac{\pi_{ref}(b|a)\, e^{P(b \succ a)/\beta}}{Z(a)},\qquad
        \pi^*(a) \propto \frac{\pi_{ref}(a)}{Z(a)},\qquad
        J^* = -\beta\log\sum_a \frac{\pi_{ref}(a)}{Z(a)}

    It depends on the preferences alone, not on how pairs of responses were drawn to learn them. As
    β → 0 the generator ends at the least beatable response, the one with the smallest
    :math:`\max_b P(b \succ a)`.

    Parameters
    ----------
    preference
        ``(..., n, n)``.
    reference
        π_ref of the generator, ``(..., n)``.
    beta
        Strength of both KL penalties, > 0.
    improver_reference
        π_ref(b|a) of the improver, ``(..., n, n)``; the generator's reference for every draft
        unless given.

    Returns
    -------
    SelfImprovement

    Raises
    ------
    ValueError
        If ``beta`` is out of range or shapes do not fit.

    References
    ----------
    Choi et al. 2024, arXiv:2406.01660; the value is derived from it.

    Examples
    --------
    >>> import numpy as np
    >>> P = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
    >>> solution = solve_self_improvement(P, np.array([0.5, 0.3, 0.2]), beta=0.4)
    >>> solution.generator.round(6), float(solution.value.round(6))
    (array([0.587658, 0.239184, 0.173159]), 0.55303)
    """
    preference, reference, improver_reference = _game(
        beta, preference=preference, reference=reference, improver_reference=improver_reference
    )
    xp = array_namespace(preference, reference)
    logits = (
        _improver_reference(reference, improver_reference) + xp.matrix_transpose(preference) / beta
    )
    log_normaliser = logsumexp(logits)
    tilted = log_probs(reference) - log_normaliser
    generator = xp.exp(log_softmax(tilted))
    return SelfImprovement(
        generator, xp.exp(log_softmax(logits)), -beta * logsumexp(tilted), beta * log_normaliser
    )


@names_shapes
def self_improvement_value(
    preference: ArrayT,
    generator: Array,
    improver: Array,
    reference: Array,
    *,
    beta: float,
    improver_reference: Array | None = None,
) -> ArrayT:
    r"""Return the objective of a generator and an improver, ``(...,)``.

    The generator minimises it, the improver maximises it.

    .. math:: J(\pi, \pi^\dagger) = E_{a\sim\pi}\Big[E_{b\sim\pi^\dagger(\cdot|a)} P(b \succ a)
        - \beta\,\mathrm{KL}\big(\pi^\dagger(\cdot|a)\|\pi_{ref}(\cdot|a)\big)\Big]
        + \beta\,\mathrm{KL}(\pi\|\pi_{ref})

    Parameters
    ----------
    preference, reference, beta, improver_reference
        As for :func:`solve_self_improvement`.
    generator
        π ``(..., n)``.
    improver
        π† ``(..., n, n)``, one row for each draft.

    References
    ----------
    Choi et al. 2024, arXiv:2406.01660.
    """
    preference, generator, improver, reference, improver_reference = _game(
        beta,
        preference=preference,
        generator=generator,
        improver=improver,
        reference=reference,
        improver_reference=improver_reference,
    )
    xp = array_namespace(preference, generator)
    wins = xp.sum(improver * xp.matrix_transpose(preference), axis=-1)
    moved = categorical_kl(log_probs(improver), _improver_reference(reference, improver_reference))
    drift = categorical_kl(log_probs(generator), log_probs(reference))
    return xp.sum(generator * (wins - beta * moved), axis=-1) + beta * drift


@names_shapes
def self_improvement_errors(
    preference: Array,
    generator: Array,
    improver: Array,
    reference: Array,
    *,
    beta: float,
    improver_reference: Array | None = None,
) -> SelfImprovementErrors:
    r"""Return how far a generator and an improver are from the solution's identities.

    The solution fulfils them at every pair (draft a, output b).

    .. math:: P(b \succ a) - \tfrac12 - \beta\,[l^\dagger(b|a) - l^\dagger(a|a)],\qquad
        P(b \succ a) - \tfrac12 - \tfrac\beta2\,[l^\dagger(b|a) - l^\dagger(a|b) + l(b) - l(a)]

    The squares of the two, averaged over pairs, are the terms of :func:`prefsim.losses.srpo` but
    for a constant of the labels. Both vanish everywhere exactly at the solution: a certificate.

    Parameters
    ----------
    preference, generator, improver, reference, beta, improver_reference
        As for :func:`self_improvement_value`; policies with full support.

    Returns
    -------
    SelfImprovementErrors

    References
    ----------
    Choi et al. 2024, arXiv:2406.01660.

    Examples
    --------
    >>> import numpy as np
    >>> P, reference = np.array([[0.5, 0.8], [0.2, 0.5]]), np.array([0.5, 0.5])
    >>> solution = solve_self_improvement(P, reference, beta=0.1)
    >>> errors = self_improvement_errors(
    ...     P, solution.generator, solution.improver, reference, beta=0.1
    ... )
    >>> bool(max(abs(errors.improver).max(), abs(errors.joint).max()) < 1e-14)
    True
    """
    preference, generator, improver, reference, improver_reference = _game(
        beta,
        preference=preference,
        generator=generator,
        improver=improver,
        reference=reference,
        improver_reference=improver_reference,
    )
    xp = array_namespace(preference, generator)
    margin = xp.matrix_transpose(preference) - 0.5
    ratio = log_probs(improver) - _improver_reference(reference, improver_reference)
    level = log_probs(generator) - log_probs(reference)
    kept = xp.linalg.diagonal(ratio)[..., :, None]
    joint = ratio - xp.matrix_transpose(ratio) + level[..., None, :] - level[..., :, None]
    return SelfImprovementErrors(margin - beta * (ratio - kept), margin - 0.5 * beta * joint)


@names_shapes
def revision_chain(start: ArrayT, improver: Array, *, revisions: int) -> ArrayT:
    r"""Return the distributions of the responses after 0, 1, …, N revisions.

    :math:`y_{k+1} \sim \pi^\dagger(\cdot|y_k)`.

    Parameters
    ----------
    start
        Distribution of the first drafts, ``(..., n)``.
    improver
        ``(..., n, n)``, one row for each draft.
    revisions
        N >= 0.

    Returns
    -------
    Array ``(N + 1, ..., n)``.

    References
    ----------
    Choi et al. 2024 (N-revision inference), arXiv:2406.01660.

    Examples
    --------
    >>> import numpy as np
    >>> revision_chain(np.array([1.0, 0.0]), np.array([[0.5, 0.5], [0.0, 1.0]]), revisions=2)
    array([[1.  , 0.  ],
           [0.5 , 0.5 ],
           [0.25, 0.75]])
    """
    check_integer(low=0, revisions=revisions)
    (start,) = as_policies(start=start)
    n = start.shape[-1]
    (improver,) = as_policies(tail=(n, n), improver=improver)
    start, improver = as_floats(start=start, improver=improver)
    xp = array_namespace(start, improver)
    chain = [start]
    for _ in range(revisions):
        chain.append((chain[-1][..., None, :] @ improver)[..., 0, :])
    return xp.stack(xp.broadcast_arrays(*chain))
