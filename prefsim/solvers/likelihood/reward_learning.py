"""Rewards from compared segments.

Linear in features, under the partial-return and the regret model of preference.

The partial-return model is a logistic regression. Under the regret model the regressors are
advantages of features, which follow the optimal policy of the current weights: every step solves
the decision process again (from the policies of the step before), for all problems of a batch and
all starts at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    as_float_array,
    check_integer,
    check_interval,
    check_positive,
    check_shape,
)
from prefsim.data.segments import Segments
from prefsim.numerics import softmax
from prefsim.solvers.likelihood.segment_regression import (
    CrossEntropy,
    RewardFit,
    VisitDifferences,
    batched_features,
    lowest_by_adam,
)
from prefsim.solvers.planning.features import FeatureProcess
from prefsim.worlds.mdp import TabularMDP

__all__ = [
    "RewardFit",
    "fit_partial_return_reward",
    "fit_regret_reward",
    "fit_regret_reward_library",
    "policy_library",
]


def fit_partial_return_reward(
    segments: Segments,
    features: Any,
    *,
    discount: float = 1.0,
    learning_rate: float = 0.1,
    iterations: int = 1500,
) -> RewardFit:
    r"""Learn a linear reward under the partial-return model.

    :math:`P = \sigma(w \cdot [\Phi(\sigma_1) - \Phi(\sigma_2)])`.

    The loss is convex; where some direction separates the labels its minimum lies at infinity, and
    the weights keep growing slowly.

    Parameters
    ----------
    segments
        Comparisons. A batch ``(B, n, 2, T)`` is so many independent problems, solved in one call.
    features
        Features of each step, ``(S, A, d)`` or ``(B, S, A, d)``; for one data set also
        ``(S, A, S, d)``, at the transitions seen.
    discount
        Inside the segments, in [0, 1].
    learning_rate, iterations
        Of full-batch Adam from weights of zero.

    Returns
    -------
    RewardFit

    Raises
    ------
    ValueError
        If a shape does not fit or a parameter is out of range.

    References
    ----------
    Christiano et al. 2017, arXiv:1706.03741; Knox et al. 2022, section 4, arXiv:2206.02231 (there:
    learning rate 2, 30,000 iterations).
    """
    check_interval(discount=discount, low=0.0, high=1.0, closed="both")
    table = as_float_array(features, "features", min_ndim=3)
    loss = CrossEntropy(segments)
    if table.ndim == 4 and not loss.batch:
        steps = segments.step_features(table)
        seen = np.einsum("nktd,t->nkd", steps, discount ** np.arange(segments.length))
        regressors = (seen[:, 0] - seen[:, 1])[None, None]
    else:
        table = batched_features(table, loss.batch)
        regressors = VisitDifferences(
            segments, table.shape[-3], table.shape[-2], discount
        ).differences(table[None])

    def problem(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return loss(np.matmul(regressors, weights[..., None])[..., 0], regressors)

    start = np.zeros((1, loss.members, table.shape[-1]))
    return loss.shaped(
        lowest_by_adam(problem, start, learning_rate=learning_rate, iterations=iterations)
    )


def fit_regret_reward(
    segments: Segments,
    mdp: TabularMDP,
    features: Any,
    *,
    start: Any = None,
    restarts: int = 5,
    seed: Seed = 0,
    learning_rate: float = 0.3,
    iterations: int = 300,
    segment_discount: float = 1.0,
) -> RewardFit:
    r"""Learn a linear reward under the regret model.

    :math:`P = \sigma(\sum_{\sigma_1} A^*_w - \sum_{\sigma_2} A^*_w)`.

    The optimal value is the maximum of functions linear in the weights, so that by the envelope
    theorem its (sub)gradient is the successor feature of an optimal policy: no library of policies
    is needed. The loss has kinks and local minima; several starts are followed and the lowest loss
    is kept.

    Parameters
    ----------
    segments
        Comparisons. A batch ``(B, n, 2, T)`` is so many independent problems, solved in one call.
    mdp
        Transitions, discount (< 1) and terminal states; a batch ``(B,)`` of processes if wanted.
        Its reward plays no part.
    features
        Expected features of each step, ``(S, A, d)`` or ``(B, S, A, d)``.
    start
        Where to start, ``(R, d)`` or ``(R, B, d)``. Unless given: roughly the partial-return
        solution, and ``restarts`` standard normal draws by ``seed``.
    restarts, seed
        See ``start``; without effect where it is given.
    learning_rate, iterations
        Of full-batch Adam.
    segment_discount
        Inside the segments, in [0, 1].

    Returns
    -------
    RewardFit

    Raises
    ------
    ValueError
        If a shape does not fit, a parameter is out of range or the discount is 1 (where weights
        that pay for circles have no optimum).

    References
    ----------
    Knox et al. 2022, section 4, arXiv:2206.02231 (there with a fixed library of policies,
    :func:`fit_regret_reward_library`).
    """
    check_interval(segment_discount=segment_discount, low=0.0, high=1.0, closed="both")
    loss = CrossEntropy(segments)
    table = batched_features(as_float_array(features, "features", min_ndim=3), loss.batch)
    process = FeatureProcess(mdp, table if table.shape[0] > 1 else table[0])
    if process.batch not in ((), loss.batch):
        raise ValueError(
            f"processes of batch shape {process.batch} do not fit segments of batch shape"
            f" {loss.batch}"
        )
    states, actions, d = process.shape
    visits = VisitDifferences(segments, states, actions, segment_discount)
    if start is None:
        check_integer(low=0, restarts=restarts)
        # A rough solution is as good a place to start as an exact one.
        rough = fit_partial_return_reward(
            segments, features, discount=segment_discount, iterations=500
        )
        convex = rough.weights.reshape(1, loss.members, d)
        start = np.concatenate(
            [convex, random_generator(seed).standard_normal((restarts, loss.members, d))]
        )
    start = as_float_array(start, "start", min_ndim=2)
    if start.ndim == 2:
        start = start[:, None]
    check_shape(start, "start", (None, None, d))
    start = np.broadcast_to(start, (start.shape[0], loss.members, d))
    policy: list[np.ndarray | None] = [None]

    def problem(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # A single process sees starts and members as one list of problems; a batch of processes has
        # the members as its batch.
        optimum = process.optimum(weights if process.batch else weights.reshape(-1, d), policy[0])
        policy[0] = optimum.policy
        advantage = optimum.state_action - optimum.state[..., :, None, :]
        regressors = visits.differences(advantage.reshape(*weights.shape[:2], states, actions, d))
        return loss(np.matmul(regressors, weights[..., None])[..., 0], regressors)

    return loss.shaped(
        lowest_by_adam(problem, start, learning_rate=learning_rate, iterations=iterations)
    )


def policy_library(mdp: TabularMDP, features: Any, n: int, *, seed: Seed) -> np.ndarray:
    """Return successor features ``(m, S, d)`` of distinct optimal policies.

    The policies are those of ``n`` standard normal weights.
    """
    check_integer(low=1, n=n)
    process = FeatureProcess(mdp, features)
    optimum = process.optimum(random_generator(seed).standard_normal((n, process.shape[-1])))
    # Policies that differ in states or ways of equal features are one policy here.
    _, first = np.unique(optimum.state.reshape(n, -1).round(9), axis=0, return_index=True)
    return optimum.state[np.sort(first)]


def fit_regret_reward_library(
    segments: Segments,
    features: Any,
    library: Any,
    *,
    temperature: float = 0.001,
    learning_rate: float = 0.5,
    iterations: int = 5000,
    start: Any = None,
) -> RewardFit:
    r"""Learn a linear reward under the regret model with a fixed library of policies.

    The paper's algorithm 1: values come from the library.

    .. math:: \hat V(s; w) = \sum_\pi \mathrm{softmax}_\pi\big(V^\pi(s)/\tau\big)\, V^\pi(s),\qquad
        V^\pi(s) = w \cdot \psi^\pi(s)

    and the regret of deterministic transitions,
    :math:`\hat V(s_0) - \sum_\sigma w \cdot \varphi - \hat V(s_T)`.

    Parameters
    ----------
    segments
        Comparisons, one data set, of a process with deterministic transitions.
    features
        ``(S, A, d)``.
    library
        Successor features of the policies, ``(m, S, d)``; see :func:`policy_library`.
    temperature
        τ > 0, in the units of the values.
    learning_rate, iterations
        Of full-batch Adam.
    start
        ``(d,)``; zero unless given.

    Returns
    -------
    RewardFit

    Raises
    ------
    ValueError
        If a shape does not fit or a parameter is out of range.

    References
    ----------
    Knox et al. 2022, algorithm 1, arXiv:2206.02231.
    """
    check_positive(temperature=temperature)
    loss = CrossEntropy(segments)
    if loss.batch:
        raise ValueError(f"the library serves one data set, got batch shape {loss.batch}")
    table = as_float_array(features, "features", ndim=3)
    states, actions, d = table.shape
    library = as_float_array(library, "library", ndim=3)
    check_shape(library, "library", (states, d))
    start = as_float_array(np.zeros(d) if start is None else start, "start", ndim=1)
    check_shape(start, "start", (d,))
    seen = VisitDifferences(segments, states, actions, 1.0).differences(table[None, None])[0, 0]
    last = segments.mask.sum(axis=-1)[..., None]
    first_and_last = np.concatenate([np.zeros_like(last), last], axis=-1)
    ends = np.take_along_axis(segments.states, first_and_last, axis=-1)
    sign = np.array([[-1.0, 1.0], [1.0, -1.0]])

    def problem(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = weights[0, 0]
        of_policy = library @ w
        share = softmax(of_policy / temperature, axis=0)
        value = np.sum(share * of_policy, axis=0)
        slope = np.einsum("ms,msd->sd", share * (1 + (of_policy - value) / temperature), library)
        logits = seen @ w + np.sum(sign * value[ends], axis=(-2, -1))
        slopes = seen + np.einsum("kt,nktd->nd", sign, slope[ends])
        return loss(logits[None, None], slopes[None, None])

    return loss.shaped(
        lowest_by_adam(
            problem, start[None, None], learning_rate=learning_rate, iterations=iterations
        )
    )
