r"""Learning from preferences against the worst reward that still fits the data.

With :math:`L_D` the Bradley–Terry loss of a reward on the data, the game between a policy and a
reward is

.. math:: \varphi(\pi, r) = \eta\,E_x\big[E_{\pi} r - E_{\pi_{base}} r
    - \beta\,\mathrm{KL}(\pi \| \pi_{ref})\big] + L_D(r)

Its inner maximum over policies has a closed form, so that the max–min policy is the Gibbs policy of
one convex problem in the reward.

References
----------
Liu et al. 2024, arXiv:2405.16436, sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import asarray, to_numpy
from prefsim.checks import (
    as_box,
    as_context_probs,
    as_float_array,
    as_log_policies,
    as_probabilities,
    check_constant,
    check_kind,
    check_positive,
    check_shape,
    names_shapes,
)
from prefsim.data.comparisons import Comparisons
from prefsim.numerics import categorical_kl, log_sigmoid, log_softmax
from prefsim.policies.base import InMemoryPolicy
from prefsim.solvers.optimisers.box_newton import BoxNewtonResult, BoxProblem, minimise_in_box
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array

__all__ = ["PessimisticGame", "WorstReward", "reward_misfit", "win_weights"]


@readable
class WorstReward(NamedTuple):
    r"""A reward that is worst for a policy, and what certifies it.

    Attributes
    ----------
    reward
        ``(*batch, X, Y)``.
    log_policy
        ``(*batch, X, Y)`` in nats: the max–min policy (:meth:`PessimisticGame.solve`) or the one
        given.
    value
        ``(*batch,)``: φ of the two.
    residual
        ``(*batch,)``: largest entry of the projected gradient of the problem solved.
    gap
        ``(*batch,)``: no reward of the class makes φ at ``log_policy`` smaller by more, since φ is
        convex in the reward. For the max–min policy this bounds the duality gap; ``inf`` where the
        class is unbounded.
    converged
        Whether every residual met the tolerance.
    """

    reward: Array
    log_policy: Array
    value: Array
    residual: Array
    gap: Array
    converged: bool


def win_weights(data: Comparisons, n_contexts: int, n_responses: int) -> np.ndarray:
    """Return the weight with which response i was preferred to j in context x.

    ``(*batch, X, Y, Y)``.

    A comparison with probability p counts p one way and 1 − p the other; a loss of reward
    differences sees nothing else of the data.

    Raises
    ------
    ValueError
        If an index of the data does not fit the sizes.

    Examples
    --------
    >>> win_weights(Comparisons([0, 0], [0, 0], [1, 1], prob=[1.0, 0.5]), 1, 2)
    array([[[0.  , 0.75],
            [0.25, 0.  ]]])
    """
    columns = {
        "prompt": (data.prompt, n_contexts),
        "chosen": (data.chosen, n_responses),
        "rejected": (data.rejected, n_responses),
    }
    for name, (column, size) in columns.items():
        if column.size and column.max() >= size:
            raise ValueError(f"{name} must be < {size}, got {column.max()}")
    prompt, chosen, rejected, prob, weight = np.broadcast_arrays(
        data.prompt, data.chosen, data.rejected, data.prob, data.weight
    )
    batch, n = prompt.shape[:-1], prompt.shape[-1]
    cells = n_contexts * n_responses * n_responses
    offset = cells * np.arange(int(np.prod(batch, dtype=int)))[:, None]
    total = np.zeros(offset.size * cells)
    for first, second, share in ((chosen, rejected, prob), (rejected, chosen, 1 - prob)):
        index = offset + ((prompt * n_responses + first) * n_responses + second).reshape(-1, n)
        total += np.bincount(index.ravel(), weights=(weight * share).ravel(), minlength=total.size)
    return total.reshape(*batch, n_contexts, n_responses, n_responses)


@names_shapes
def reward_misfit(reward: Array, wins: Array) -> np.ndarray:
    r"""Return the Bradley–Terry loss of rewards in each context, ``(..., X)`` in nats.

    :math:`-\sum_{ij} W_{ij} \log\sigma(r_i - r_j)`.

    Parameters
    ----------
    reward
        ``(..., X, Y)``; a shift of a context's rewards changes nothing.
    wins
        W, ``(..., X, Y, Y)``: how often (or with which weight) a response was preferred to another,
        such as those of :func:`win_weights`.

    Examples
    --------
    >>> reward_misfit([[1.0, 0.0]], [[[0.0, 3.0], [1.0, 0.0]]]).round(6)
    array([2.253047])
    """
    reward, wins = (as_float_array(t, n) for n, t in (("reward", reward), ("wins", wins)))
    lead = reward[..., :, None] - reward[..., None, :]
    return np.asarray(-np.sum(wins * log_sigmoid(lead), axis=(-2, -1)))


@readable
@dataclass(frozen=True, init=False, eq=False)
class PessimisticGame:
    r"""The game φ between a policy and a reward out of a class R, on given data.

    Parameters
    ----------
    data
        Comparisons; leading axes are independent games.
    reference
        π_ref, of shape ``(X, Y)``.
    base
        Probabilities of the baseline policy, ``(..., X, Y)``.
    beta
        Strength of the KL penalty, > 0.
    eta
        Weight of the adversary, >= 0: a number or an array that broadcasts with the leading axes.
    bound
        R is the box ``[-bound, bound]`` in every entry, or ``[low, high]`` for a pair (of numbers
        or ``(X, Y)`` arrays); all functions unless given.
    context_probs
        ρ, the distribution of the expectation over prompts, ``(X,)``; uniform unless given.

    Raises
    ------
    ValueError
        If a parameter is out of range or a shape does not fit.

    References
    ----------
    Liu et al. 2024, theorem 4.2 (number not confirmed), arXiv:2405.16436.

    Examples
    --------
    Three responses, the last one never seen: DPO says nothing about it, the game rules it out.

    >>> from prefsim.policies import TabularPolicy
    >>> seen = Comparisons([0], [0], [1], prob=0.8)
    >>> game = PessimisticGame(
    ...     seen, TabularPolicy.uniform(1, 3), [[0.8, 0.2, 0.0]], beta=0.5, eta=0.3, bound=20.0
    ... )
    >>> solution = game.solve()
    >>> np.exp(solution.log_policy).round(6), bool(solution.gap < 1e-9)
    (array([[0.914373, 0.085627, 0.      ]]), True)
    """

    wins: np.ndarray
    log_reference: np.ndarray
    base: np.ndarray
    beta: float
    eta: np.ndarray
    low: np.ndarray
    high: np.ndarray
    context_probs: np.ndarray

    def __init__(
        self,
        data: Comparisons,
        reference: InMemoryPolicy,
        base: Any,
        *,
        beta: float,
        eta: Any,
        bound: Any = np.inf,
        context_probs: Any = None,
    ) -> None:
        check_kind(Comparisons, data=data)
        check_kind(InMemoryPolicy, reference=reference)
        check_positive(beta=beta)
        if len(data) == 0:
            raise ValueError("data must hold at least one row, got 0")
        log_reference = to_numpy(reference.log_probs).astype(np.float64)
        contexts, responses = log_reference.shape[-2:]
        for name, table in {"base": base, "eta": eta}.items():
            check_constant(table, name)
        base = as_probabilities(base, "base", min_ndim=2)
        check_shape(base, "base", (contexts, responses))
        rho = as_context_probs(context_probs, contexts)
        eta = as_float_array(eta, "eta")
        if (eta < 0).any():
            raise ValueError(f"eta must be >= 0, got {eta.min()}")
        low, high = as_box(bound, "bound", (contexts, responses))
        wins = win_weights(data, contexts, responses)
        parts = {
            "wins": wins,
            "log_reference": log_reference,
            "base": base,
            "beta": float(beta),
            "eta": eta,
        }
        set_fields(self, **parts, low=low, high=high, context_probs=rho)

    @names_shapes
    def objective(self, log_policy: Array, reward: Array) -> Array:
        """Return φ of policies and rewards, each ``(..., X, Y)``.

        ``(...,)``, ``-inf`` where the reference lacks support of the policy.
        """
        log_policy = self._log_policy(log_policy)
        check_constant(reward, "reward")
        reward = as_float_array(reward, "reward")
        check_shape(reward, "reward", self.log_reference.shape[-2:])
        advantage = np.sum(
            (np.exp(log_policy) - self.base) * reward, axis=-1
        ) - self.beta * categorical_kl(log_policy, self.log_reference)
        misfit = reward_misfit(reward, self.wins).sum(axis=-1)
        return self.eta * np.sum(self.context_probs * advantage, axis=-1) + misfit

    def solve(self, *, tolerance: float = 1e-12, max_iterations: int = 300) -> WorstReward:
        r"""Return the max–min policy, the Gibbs policy of the min–max reward.

        :math:`\pi_{\hat r} \propto \pi_{ref} e^{\hat r / \beta}`.

        .. math:: \hat r = \arg\min_{r \in R}\; \eta\,E_x[\beta\log Z_r - E_{\pi_{base}} r] + L_D(r)

        is found by projected Newton steps from r = 0, for all contexts and games at once. With η =
        0 it is the maximum-likelihood reward of the class; directions in which the objective is
        flat are not taken.

        Warns
        -----
        ConvergenceWarning
            If ``tolerance`` is missed, for instance where all functions are allowed and no
            minimiser exists.
        """
        tilt = self.eta[..., None] * self.context_probs
        problem = BoxProblem(
            -tilt[..., None] * self.base,
            tilt,
            self.log_reference,
            self.beta,
            self.wins,
            self.low,
            self.high,
        )
        minimum = minimise_in_box(problem, tolerance=tolerance, max_iterations=max_iterations)
        return self._report(
            log_softmax(self.log_reference + minimum.minimiser / self.beta), minimum, tolerance
        )

    def worst_reward(
        self, log_policy: Array, *, tolerance: float = 1e-12, max_iterations: int = 300
    ) -> WorstReward:
        r"""Return :math:`\arg\min_{r \in R} \varphi(\pi, r)` for policies ``(..., X, Y)``.

        It is what the policies guarantee.

        Warns
        -----
        ConvergenceWarning
            If ``tolerance`` is missed, for instance where all functions are allowed and no
            minimiser exists.
        """
        log_policy = self._log_policy(log_policy)
        tilt = self.eta[..., None] * self.context_probs
        linear = tilt[..., None] * (np.exp(log_policy) - self.base)
        problem = BoxProblem(
            linear,
            np.zeros_like(tilt),
            self.log_reference,
            self.beta,
            self.wins,
            self.low,
            self.high,
        )
        return self._report(
            log_policy,
            minimise_in_box(problem, tolerance=tolerance, max_iterations=max_iterations),
            tolerance,
        )

    def _log_policy(self, log_policy: Any) -> np.ndarray:
        check_constant(log_policy, "log_policy")
        (table,) = as_log_policies(tail=self.log_reference.shape[-2:], log_policy=log_policy)
        return to_numpy(table).astype(np.float64)

    def _report(
        self, log_policy: np.ndarray, minimum: BoxNewtonResult, tolerance: float
    ) -> WorstReward:
        residual = minimum.residual.max(axis=-1)
        converged = bool((residual <= tolerance).all())
        if not converged:
            warn_caller(
                f"PessimisticGame stopped after {minimum.iterations} steps with a projected"
                f" gradient of {residual.max():.3g} above tolerance = {tolerance:g}; without a"
                " bound the worst reward may not exist",
            )
        value = self.objective(log_policy, minimum.minimiser)
        return WorstReward(
            asarray(minimum.minimiser),
            asarray(log_policy),
            value,
            residual,
            minimum.gap.sum(axis=-1),
            converged,
        )
