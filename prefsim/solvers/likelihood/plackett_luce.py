"""Maximum-likelihood Plackett–Luce rewards from full, partial and top-k rankings."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from prefsim.backend import asarray
from prefsim.checks import (
    as_float_array,
    check_choice,
    check_entries,
    check_integer,
    check_nonnegative,
    check_positive,
    check_rankings,
    check_shape,
)
from prefsim.solvers.likelihood.choice_newton import (
    RATIO_RANGE,
    Derivatives,
    log_odds_start,
    maximise,
)
from prefsim.solvers.likelihood.win_graph import check_win_graph
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array

__all__ = ["PlackettLuceResult", "fit_plackett_luce"]


class PlackettLuceResult(NamedTuple):
    """Maximum-likelihood rewards and their certificate.

    Attributes
    ----------
    reward
        ``(n,)`` in nats, mean 0.
    log_likelihood
        Nats, without the penalty.
    grad_norm
        Largest absolute entry of the gradient of the penalised log-likelihood at ``reward``, in
        choices.
    iterations
        Newton steps taken.
    converged
        Whether every item's gradient is within ``tolerance`` of its terms and the last step was
        small.
    """

    reward: Array
    log_likelihood: float
    grad_norm: float
    iterations: int
    converged: bool


def fit_plackett_luce(
    rankings: Any,
    n_items: int,
    *,
    weight: Any = None,
    unranked: str = "absent",
    ridge: float = 0.0,
    tolerance: float = 1e-12,
    max_iterations: int = 1000,
) -> PlackettLuceResult:
    r"""Return the rewards that maximise the Plackett–Luce likelihood of rankings.

    A ranking is a row of choices, best first, each from the items that are left:
    :math:`\sum_k [r_{\sigma_k} - \log \sum_{l \ge k} e^{r_{\sigma_l}}]`. On pairs it is
    Bradley–Terry.

    Parameters
    ----------
    rankings
        Integers ``(m, K)``, best item first; ``-1`` fills the end of shorter rankings.
    n_items
        Number of items.
    weight
        ``(m,)``, >= 0; each ranking counts 1 unless given.
    unranked
        ``"absent"``: items that a ranking leaves out did not take part. ``"below"``: they lost to
        all that it lists, in no known order (top-k lists, incomplete ballots).
    ridge
        Precision >= 0 of a normal prior on the rewards; with a ridge the maximum always exists.
    tolerance
        Largest gradient of an item's reward, as a fraction of the sum of its absolute terms
        (expected upsets for and against it).
    max_iterations
        Largest number of Newton steps.

    Raises
    ------
    ValueError
        If a ranking repeats an item or holds one out of range; and, without a ridge, if the maximum
        does not exist.

    Warns
    -----
    ConvergenceWarning
        If ``max_iterations`` steps do not reach ``tolerance``.

    References
    ----------
    Plackett 1975, "The analysis of permutations"; existence: Hunter 2004, assumption 1
    (doi:10.1214/aos/1079120141).

    Examples
    --------
    >>> result = fit_plackett_luce([[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 0, 1]], 3)
    >>> result.reward.round(4), result.converged
    (array([ 0.7829, -0.3915, -0.3915]), True)
    """
    check_integer(low=1, n_items=n_items)
    check_positive(tolerance=tolerance)
    check_nonnegative(ridge=ridge)
    check_integer(low=1, max_iterations=max_iterations)
    check_choice(("absent", "below"), unranked=unranked)
    order = check_rankings(rankings, "rankings", n_items)
    weight = np.ones(order.shape[0]) if weight is None else as_float_array(weight, "weight", ndim=1)
    check_shape(weight, "weight", order.shape[:1])
    check_entries(weight, "weight", "be >= 0", lambda x: x >= 0)
    listed = (order >= 0).sum(axis=1)
    if unranked == "below":
        place = np.full((order.shape[0], n_items + 1), order.shape[1])
        place[np.arange(order.shape[0])[:, None], order] = np.arange(order.shape[1])
        order = np.argsort(place[:, :n_items], axis=1, kind="stable")
        stages = np.minimum(listed, n_items - 1)
    else:
        stages = np.maximum(listed - 1, 0)
    model = _Stages(order, stages, weight, n_items, ridge)
    if ridge == 0:
        check_win_graph(model.win_graph())
    run = maximise(
        model,
        model.start(),
        tolerance=tolerance,
        max_iterations=int(max_iterations),
        max_products=2 * n_items + 200,
    )
    grad_norm = float(np.max(np.abs(run.gradient)))
    if not run.converged:
        warn_caller(
            f"fit_plackett_luce stopped after {run.iterations} steps with a gradient of"
            f" {grad_norm:.3g} choices",
        )
    return PlackettLuceResult(
        asarray(run.reward),
        model.log_likelihood(run.reward),
        grad_norm,
        run.iterations,
        bool(run.converged),
    )


class _Stages:
    """Rankings as rows of choices.

    ``stages[i]`` is how many of the first places of row i were chosen.
    """

    def __init__(
        self, order: np.ndarray, stages: np.ndarray, weight: np.ndarray, n_items: int, ridge: float
    ) -> None:
        self.present = order >= 0
        self.order = np.where(self.present, order, 0)
        self.stages = stages
        self.weight = weight
        self.n_items = n_items
        self.ridge = ridge
        self.stage_weight = np.where(
            np.arange(order.shape[1]) < stages[:, None], weight[:, None], 0.0
        )

    def _per_item(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(
            self.order.ravel(),
            weights=np.where(self.present, values, 0.0).ravel(),
            minlength=self.n_items,
        )

    @staticmethod
    def _remaining(values: np.ndarray) -> np.ndarray:
        return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]

    def win_graph(self) -> scipy.sparse.csr_array:
        """Return edges whose closure is "was ranked above".

        Each choice to the next place, the last one to all that were left.
        """
        places = np.arange(self.order.shape[1])
        counted = self.weight > 0
        last = np.take_along_axis(self.order, np.maximum(self.stages - 1, 0)[:, None], axis=1)
        left = (
            self.present & (places >= self.stages[:, None]) & ((self.stages > 0) & counted)[:, None]
        )
        chained = (places[1:] < self.stages[:, None]) & counted[:, None]
        winner = np.concatenate(
            [self.order[:, :-1][chained], np.broadcast_to(last, self.order.shape)[left]]
        )
        loser = np.concatenate([self.order[:, 1:][chained], self.order[left]])
        return scipy.sparse.coo_array(
            (np.ones(winner.size), (winner, loser)), shape=(self.n_items, self.n_items)
        ).tocsr()

    def start(self) -> np.ndarray:
        """Return the log-odds of standing above another item of the same ranking."""
        places = np.arange(self.order.shape[1])
        above = np.minimum(places, self.stages[:, None])
        below = np.where(
            places < self.stages[:, None], self.present.sum(axis=1, keepdims=True) - 1 - places, 0
        )
        wins = self._per_item(self.weight[:, None] * below)
        return log_odds_start(wins, wins + self._per_item(self.weight[:, None] * above))

    def _strength(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the strength at each place, and the sum over the items left there.

        ``exp(r)`` around the middle of the rewards.
        """
        if np.ptp(reward) >= RATIO_RANGE:
            raise ValueError(
                f"rewards spread over {np.ptp(reward):.0f} nats: the data are all but separable;"
                " pass ridge > 0"
            )
        strength = np.exp(reward - 0.5 * (reward.max() + reward.min()))[self.order] * self.present
        left = self._remaining(strength)
        return strength, np.where(left > 0, left, 1.0)

    def derivatives(self, reward: np.ndarray) -> Derivatives:
        strength, left = self._strength(reward)
        rate = self.stage_weight / left
        taken = np.cumsum(rate, axis=1)
        # Flows as in Bradley–Terry: the chance that another item had been chosen where this one
        # was, and the other way round.
        none = np.zeros((left.shape[0], 1))
        others = np.concatenate([self._remaining(strength)[:, 1:], none], axis=1)
        gains = self._per_item(rate * others)
        losses = self._per_item(strength * np.concatenate([none, taken[:, :-1]], axis=1))
        penalty = self.ridge * reward
        diagonal = (
            self._per_item(strength * (taken - strength * np.cumsum(rate / left, axis=1)))
            + self.ridge
        )

        def product(vector: np.ndarray) -> np.ndarray:
            at_place = vector[self.order]
            mean = self._remaining(strength * at_place) / left
            return (
                self._per_item(strength * (at_place * taken - np.cumsum(rate * mean, axis=1)))
                + self.ridge * vector
            )

        return Derivatives(
            gains - losses - penalty,
            gains + losses + self.ridge * np.maximum(1.0, np.abs(reward)),
            diagonal,
            product,
            None,
        )

    def spread(self, direction: np.ndarray) -> np.ndarray:
        at_place = direction[self.order]
        top = np.max(np.where(self.present, at_place, -np.inf), axis=1)
        bottom = np.min(np.where(self.present, at_place, np.inf), axis=1)
        return np.asarray(np.max((top - bottom)[self.stages > 0], initial=0.0))

    def log_likelihood(self, reward: np.ndarray) -> float:
        strength, left = self._strength(reward)
        chance = np.where(self.stage_weight > 0, strength, 1.0) / np.where(
            self.stage_weight > 0, left, 1.0
        )
        return float(np.sum(self.stage_weight * np.log(chance)))
