"""Where the policy gradient of Nash-MD-PG stands still: a solution, given by the exact solver."""

from __future__ import annotations

from typing import Any

from prefsim.backend import like
from prefsim.checks import check_interval, check_positive, names_shapes
from prefsim.numerics import array_namespace
from prefsim.solvers.games.certificates import log_best_response, log_probs
from prefsim.solvers.games.game_input import game_matrix, probabilities
from prefsim.solvers.games.nash import solve_nash
from prefsim.typing import Array
from prefsim.worlds.game import PreferenceGame

__all__ = ["nash_md_pg_stationary_point"]


@names_shapes
def nash_md_pg_stationary_point(
    game: PreferenceGame | Any, reference: Any, *, tau: float, mixture: float
) -> Array:
    r"""Return the policy ``(..., n)`` with full support at which the Nash-MD-PG gradient is zero.

    It is the best response :math:`\mathrm{BR}_\tau` to :math:`\pi^*_{\tau/(1-\kappa)}`, which is
    its own mixture with the reference; for κ = 1 the best response to the reference. Only κ = 0
    gives the equilibrium of the game with penalty τ.

    Parameters
    ----------
    game
        A :class:`PreferenceGame` or its matrix ``(..., n, n)``.
    reference
        ``(n,)`` or ``(..., n)`` with full support.
    tau
        Strength of the penalty, > 0.
    mixture
        κ in [0, 1].

    References
    ----------
    Derived from the gradient; the case κ = 0 is the equilibrium of Munos et al. 2023,
    arXiv:2312.00886.
    """
    check_positive(tau=tau)
    check_interval(low=0.0, high=1.0, closed="both", mixture=mixture)
    # κ = 1 is the limit of an infinite penalty on the opponent; the solver also validates the game
    # there.
    solved = solve_nash(
        game,
        method="regularised",
        reference=reference,
        tau=tau / (1.0 - mixture) if mixture < 1 else tau,
    )
    preference = like(game_matrix(game), solved.policy)
    log_reference = log_probs(probabilities(reference, preference, "reference"))
    opponent = solved.policy if mixture < 1 else array_namespace(preference).exp(log_reference)
    return array_namespace(preference).exp(
        log_best_response(preference, opponent, log_reference, tau=tau)
    )
