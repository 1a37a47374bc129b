"""The frontier of reward against distance.

The optima of a divergence-regularised problem at all strengths of the penalty.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.bandit import divergence_to_reference, expected_reward
from prefsim.backend import like, to_numpy
from prefsim.checks import as_float_array, as_log_policies, check_choice, check_kind
from prefsim.numerics import array_namespace, categorical_entropy
from prefsim.solvers.closed_forms.regularised import regularised_optimum
from prefsim.typing import Array
from prefsim.worlds.bandit import ContextualBandit

__all__ = ["Frontier", "optimal_frontier"]


class Frontier(NamedTuple):
    """Optima ordered by decreasing penalty, hence by increasing reward.

    Attributes
    ----------
    penalty
        β, ``(n,)``, decreasing.
    log_policy
        ``(n, X, Y)``, nats.
    reward, reverse_kl, forward_kl, entropy
        ``(n,)``: expected reward, ``KL(π‖π_ref)``, ``KL(π_ref‖π)`` and the mean entropy over
        contexts, in nats.
    """

    penalty: np.ndarray
    log_policy: Array
    reward: Array
    reverse_kl: Array
    forward_kl: Array
    entropy: Array

    def at_reward(self, reward: Any, column: str) -> np.ndarray:
        """Return a column at given expected rewards, by linear interpolation.

        It is NaN beyond the ends of the frontier.
        """
        check_choice(("penalty", "reverse_kl", "forward_kl", "entropy"), column=column)
        return np.interp(reward, self.reward, getattr(self, column), left=np.nan, right=np.nan)

    def largest_reward(self, reverse_kl: Any) -> np.ndarray:
        """Return what no policy of a given ``KL(π‖π_ref)`` earns more than, of its shape.

        The frontier is concave, so that its tangent at every optimum is above it; the lowest of
        them meets it but for the spacing of the penalties. It is that of the reverse KL.
        """
        at = as_float_array(reverse_kl, "reverse_kl")
        reward, spent = to_numpy(self.reward), to_numpy(self.reverse_kl)
        found: np.ndarray = np.min(reward + self.penalty * (at[..., None] - spent), axis=-1)
        return found


def optimal_frontier(
    world: ContextualBandit,
    log_reference: Array,
    penalties: Any,
    *,
    divergence: str = "reverse_kl",
    alpha: float = 0.5,
) -> Frontier:
    r"""Return the optima of :math:`E_\pi r - \beta D_f(\pi\|\pi_{ref})` for many β at once.

    Parameters
    ----------
    world
        One bandit with a reward.
    log_reference
        ``(X, Y)``, nats.
    penalties
        β, ``(n,)``, each > 0.
    divergence, alpha
        See :func:`prefsim.divergences.divergence_score`.

    Raises
    ------
    ValueError
        If the world has no reward or is a batch, a penalty is not positive or the divergence is
        unknown.

    Examples
    --------
    >>> frontier = optimal_frontier(
    ...     ContextualBandit(reward=[[0.0, 1.0]]), np.log([[0.5, 0.5]]), [4.0, 1.0, 0.25]
    ... )
    >>> frontier.reward.round(3)
    array([0.562, 0.731, 0.982])
    """
    check_kind(ContextualBandit, world=world)
    if world.reward is None or world.batch_shape:
        raise ValueError(
            f"a frontier needs one world with a reward, got batch shape {world.batch_shape} and"
            f" reward {type(world.reward).__name__}"
        )
    (log_reference,) = as_log_policies(log_reference=log_reference)
    beta = -np.sort(-as_float_array(penalties, "penalties", ndim=1))
    if (beta <= 0).any():
        raise ValueError(f"penalties must be > 0, got {float(beta.min())}")
    # The optimum depends on r/β alone, so that all strengths are one batch.
    scaled = like(world.reward, log_reference) / like(beta, log_reference)[:, None, None]
    optimum = regularised_optimum(
        scaled, log_reference, beta=1.0, divergence=divergence, alpha=alpha
    ).log_policy
    xp = array_namespace(optimum)
    return Frontier(
        beta,
        optimum,
        expected_reward(optimum, world),
        divergence_to_reference(optimum, log_reference, world, divergence="reverse_kl"),
        divergence_to_reference(optimum, log_reference, world, divergence="forward_kl"),
        xp.sum(like(world.context_probs, optimum) * categorical_entropy(optimum), axis=-1),
    )
