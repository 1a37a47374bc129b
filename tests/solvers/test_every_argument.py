"""Numbers that solvers take: exactly in the range that is stated, and refused by name elsewhere."""

import functools
import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prefsim.data import Segments
from prefsim.solvers import ConvergenceWarning, pareto, planning, threshold_search
from prefsim.solvers.closed_forms import (
    chi_squared,
    constrained,
    regularised,
    rejection,
    self_improvement,
    self_training,
)
from prefsim.solvers.games import (
    certificates,
    nash,
    policy_gradient,
    preference_embedding,
    skew_symmetric,
    stationary_point,
)
from prefsim.solvers.likelihood import (
    bradley_terry,
    plackett_luce,
    prompt_classifier,
    rationality,
    reward_learning,
)
from prefsim.solvers.optimisers import policy_gradient as score_gradients
from prefsim.solvers.optimisers import trust_region
from prefsim.worlds import TabularMDP

N = 4
RNG = np.random.default_rng(0)


def shares(*shape: int) -> np.ndarray:
    drawn = RNG.uniform(0.2, 1.0, shape)
    return drawn / drawn.sum(axis=-1, keepdims=True)


REWARD, POLICY, REFERENCE, THIRD = RNG.normal(size=N), shares(N), shares(N), shares(N)
LOG_POLICY, LOG_REFERENCE, LOG_THIRD = np.log(POLICY), np.log(REFERENCE), np.log(THIRD)
SKEW = np.triu(RNG.uniform(-0.4, 0.4, (N, N)), 1)
SKEW = SKEW - SKEW.T
GAME = 0.5 + SKEW
COUNTS = RNG.poisson(3.0, (N, N)) * (1 - np.eye(N)) + 1 - np.eye(N)
IMPROVER = shares(N, N)
MDP = TabularMDP.random(4, 3, discount=0.8, seed=0)
TWO_REWARDS = TabularMDP(MDP.transitions, np.stack([MDP.reward, -MDP.reward]), discount=0.8)
FEATURES = RNG.normal(size=(4, 3, 2))
SEGMENTS = Segments.sample(MDP, 30, 2, seed=0, scores=np.asarray(MDP.reward))
MARGIN = RNG.normal(size=40)
PROB = (RNG.random(40) < 1 / (1 + np.exp(-MARGIN))).astype(float)
Q = RNG.normal(size=(4, 3))

POSITIVE = ("(", 0.0, math.inf, ")")
AT_LEAST_0 = ("[", 0.0, math.inf, ")")
UNIT = ("[", 0.0, 1.0, "]")
# Integers: the least, and the largest where there is one.
FROM_0, FROM_1 = (0, None), (1, None)

# A function with all that it needs but the options beside it, and their ranges.
CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "chi_squared_optimum": (
        functools.partial(chi_squared.chi_squared_optimum, REWARD, REFERENCE),
        {"beta": POSITIVE},
    ),
    "constrained_dual": (
        functools.partial(
            constrained.constrained_dual, [0.5], REWARD[None, None], LOG_REFERENCE[None], [0.3]
        ),
        {"beta": POSITIVE},
    ),
    "constrained_optimum": (
        functools.partial(
            constrained.constrained_optimum,
            REWARD[None, None],
            LOG_REFERENCE[None],
            [float(REWARD.mean())],
            beta=0.5,
        ),
        {"beta": POSITIVE, "tolerance": POSITIVE, "max_iterations": FROM_1},
    ),
    "search_thresholds": (
        functools.partial(threshold_search.search_thresholds, lambda x: -float(x @ x), [1.0]),
        {
            "spread": POSITIVE,
            "tolerance": POSITIVE,
            "nearby": AT_LEAST_0,
            "max_evaluations": (2, None),
        },
    ),
    "gibbs_log_policy": (
        functools.partial(regularised.gibbs_log_policy, REWARD, LOG_REFERENCE),
        {"beta": POSITIVE},
    ),
    "optimal_policy": (
        functools.partial(regularised.optimal_policy, REWARD, REFERENCE),
        {"beta": POSITIVE},
    ),
    "optimal_policy by alpha": (
        functools.partial(
            regularised.optimal_policy, REWARD, REFERENCE, beta=0.5, divergence="alpha"
        ),
        {"alpha": ("(", 0.0, 1.0, ")")},
    ),
    "regularised_optimum": (
        functools.partial(regularised.regularised_optimum, REWARD, LOG_REFERENCE),
        {"beta": POSITIVE},
    ),
    "accepted_law": (
        functools.partial(rejection.accepted_law, REWARD, LOG_REFERENCE),
        {"beta": AT_LEAST_0},
    ),
    "first_accepted_law": (
        functools.partial(
            rejection.first_accepted_law, REWARD, LOG_REFERENCE, candidates=3, beta=0.5
        ),
        {"candidates": FROM_1, "beta": POSITIVE},
    ),
    "log_acceptance": (functools.partial(rejection.log_acceptance, REWARD), {"beta": AT_LEAST_0}),
    "rejection_sample": (
        functools.partial(rejection.rejection_sample, REWARD, n_samples=2, beta=0.5, seed=0),
        {"beta": AT_LEAST_0, "n_samples": (1, N)},
    ),
    "revision_chain": (
        functools.partial(self_improvement.revision_chain, REFERENCE, IMPROVER),
        {"revisions": FROM_0},
    ),
    "solve_self_improvement": (
        functools.partial(self_improvement.solve_self_improvement, GAME, REFERENCE),
        {"beta": POSITIVE},
    ),
    "self_improvement_value": (
        functools.partial(
            self_improvement.self_improvement_value, GAME, POLICY, IMPROVER, REFERENCE
        ),
        {"beta": POSITIVE},
    ),
    "best_of_n": (functools.partial(self_training.best_of_n, REWARD, LOG_REFERENCE), {"n": FROM_1}),
    "iterative_dpo_step": (
        functools.partial(self_training.iterative_dpo_step, GAME, LOG_REFERENCE),
        {"beta": POSITIVE},
    ),
    "best_response": (
        functools.partial(certificates.best_response, GAME, POLICY, reference=REFERENCE),
        {"tau": POSITIVE},
    ),
    "expected_preference": (
        functools.partial(
            certificates.expected_preference, GAME, POLICY, THIRD, reference=REFERENCE
        ),
        {"tau": POSITIVE},
    ),
    "regularised_gap": (
        functools.partial(certificates.regularised_gap, GAME, POLICY, reference=REFERENCE),
        {"tau": POSITIVE},
    ),
    "geometric_mixture": (
        functools.partial(certificates.geometric_mixture, LOG_POLICY, LOG_REFERENCE),
        {"weight": UNIT},
    ),
    "mirror_step": (
        functools.partial(certificates.mirror_step, LOG_POLICY, LOG_REFERENCE, REWARD, step=0.5),
        {"step": AT_LEAST_0, "tau": AT_LEAST_0},
    ),
    "solve_nash": (
        functools.partial(
            nash.solve_nash, GAME, method="mirror_descent", reference=REFERENCE, tau=0.2, step=0.5
        ),
        {
            "step": POSITIVE,
            "tau": POSITIVE,
            "tolerance": AT_LEAST_0,
            "max_iterations": FROM_0,
            "record": FROM_0,
        },
    ),
    "nash_path": (
        functools.partial(
            nash.nash_path,
            GAME,
            method="nash_md_pg",
            iterations=9,
            reference=REFERENCE,
            tau=0.2,
            step=0.5,
        ),
        {
            "step": POSITIVE,
            "tau": POSITIVE,
            "mixture": UNIT,
            "iterations": FROM_0,
            "record": FROM_1,
        },
    ),
    "moving_average": (
        functools.partial(policy_gradient.moving_average, LOG_POLICY, LOG_REFERENCE),
        {"rate": UNIT},
    ),
    "policy_gradient": (
        functools.partial(
            policy_gradient.policy_gradient, GAME, LOG_POLICY, LOG_REFERENCE, LOG_THIRD
        ),
        {"tau": AT_LEAST_0},
    ),
    "nash_md_pg_gradient": (
        functools.partial(
            policy_gradient.nash_md_pg_gradient, GAME, LOG_POLICY, LOG_REFERENCE, mixture=0.5
        ),
        {"tau": AT_LEAST_0},
    ),
    "sampled_policy_gradient": (
        functools.partial(
            policy_gradient.sampled_policy_gradient,
            GAME,
            LOG_POLICY,
            LOG_REFERENCE,
            LOG_THIRD,
            n=5,
            seed=0,
            tau=0.2,
        ),
        {"tau": AT_LEAST_0, "n": FROM_1},
    ),
    "fit_preference_embedding": (
        functools.partial(
            preference_embedding.fit_preference_embedding, COUNTS, ridge=0.1, starts=1
        ),
        {
            "ridge": AT_LEAST_0,
            "starts": FROM_1,
            "tolerance": POSITIVE,
            "max_iterations": FROM_1,
        },
    ),
    "gpo_update": (
        functools.partial(skew_symmetric.gpo_update, LOG_POLICY, SKEW),
        {"beta": POSITIVE},
    ),
    "nash_md_pg_stationary_point": (
        functools.partial(
            stationary_point.nash_md_pg_stationary_point, GAME, REFERENCE, tau=0.4, mixture=0.1
        ),
        {"tau": POSITIVE, "mixture": UNIT},
    ),
    "fit_bradley_terry": (
        functools.partial(bradley_terry.fit_bradley_terry, COUNTS),
        {"ridge": AT_LEAST_0, "tolerance": POSITIVE, "max_iterations": FROM_1},
    ),
    "fit_plackett_luce": (
        functools.partial(
            plackett_luce.fit_plackett_luce,
            [[0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 1, 0], [1, 2, 3, 0]],
            4,
        ),
        {"ridge": AT_LEAST_0, "tolerance": POSITIVE, "max_iterations": FROM_1},
    ),
    "fit_prompt_classifier": (
        functools.partial(
            prompt_classifier.fit_prompt_classifier, RNG.normal(size=(40, 2)), PROB > 0
        ),
        {"ridge": POSITIVE},
    ),
    "cross_validated_loss": (
        functools.partial(rationality.cross_validated_loss, MARGIN, PROB),
        {"folds": (2, 40)},
    ),
    "fit_partial_return_reward": (
        functools.partial(
            reward_learning.fit_partial_return_reward, SEGMENTS, FEATURES, iterations=2
        ),
        {"discount": UNIT, "learning_rate": POSITIVE, "iterations": FROM_1},
    ),
    "partial returns of transitions": (
        functools.partial(
            reward_learning.fit_partial_return_reward,
            SEGMENTS,
            np.repeat(FEATURES[:, :, None], 4, axis=2),
            iterations=2,
        ),
        {"discount": UNIT, "learning_rate": POSITIVE, "iterations": FROM_1},
    ),
    "fit_regret_reward": (
        functools.partial(
            reward_learning.fit_regret_reward, SEGMENTS, MDP, FEATURES, restarts=1, iterations=2
        ),
        {
            "learning_rate": POSITIVE,
            "iterations": FROM_1,
            "restarts": FROM_0,
            "segment_discount": UNIT,
        },
    ),
    "regularised_reward": (
        functools.partial(score_gradients.regularised_reward, REWARD, LOG_POLICY, LOG_REFERENCE),
        {"beta": AT_LEAST_0},
    ),
    "action_values": (
        functools.partial(planning.action_values, MDP.transitions, MDP.reward, np.ones(4)),
        {"discount": UNIT},
    ),
    "bellman_backup": (
        functools.partial(planning.bellman_backup, MDP.transitions, MDP.reward, np.ones(4)),
        {"discount": UNIT},
    ),
    "soft_bellman_backup": (
        functools.partial(
            planning.soft_bellman_backup,
            MDP.transitions,
            MDP.reward,
            np.ones(4),
            discount=0.9,
            temperature=0.3,
        ),
        {"discount": UNIT, "temperature": POSITIVE},
    ),
    "value_iteration": (
        functools.partial(planning.value_iteration, MDP),
        {"tolerance": POSITIVE, "max_iterations": FROM_1},
    ),
    "soft_value_iteration": (
        functools.partial(planning.soft_value_iteration, MDP, temperature=0.3),
        {"temperature": POSITIVE, "tolerance": POSITIVE, "max_iterations": FROM_1},
    ),
    "policy_iteration": (
        functools.partial(planning.policy_iteration, MDP),
        {"tolerance": POSITIVE, "max_iterations": FROM_1},
    ),
    "modified_policy_iteration": (
        functools.partial(planning.modified_policy_iteration, MDP),
        {
            "tolerance": POSITIVE,
            "max_iterations": FROM_1,
            "sweeps": FROM_1,
            "contraction": ("(", 0.0, 1.0, "]"),
        },
    ),
    "linear_program": (functools.partial(planning.linear_program, MDP), {"tolerance": POSITIVE}),
    "policy_evaluation": (
        functools.partial(planning.policy_evaluation, MDP, np.full((4, 3), 1 / 3)),
        {"tolerance": POSITIVE},
    ),
    "log_barrier_optimum": (
        functools.partial(
            planning.log_barrier_optimum, TWO_REWARDS, [1.0, 0.0], [-20.0, -10.0], sharpness=9.0
        ),
        {"sharpness": POSITIVE, "max_iterations": FROM_1},
    ),
    "constrained_step": (
        functools.partial(
            trust_region.constrained_step, POLICY, REFERENCE, -0.1, np.eye(N), radius=0.1
        ),
        {"radius": POSITIVE},
    ),
    "barrier_penalty": (
        functools.partial(trust_region.barrier_penalty, POLICY, sharpness=1.0),
        {"sharpness": POSITIVE, "floor": POSITIVE},
    ),
    "non_dominated": (functools.partial(pareto.non_dominated, SKEW), {"tolerance": AT_LEAST_0}),
    "weight_grid": (
        functools.partial(pareto.weight_grid, n_objectives=2, parts=2),
        {"n_objectives": FROM_1, "parts": FROM_1},
    ),
    "soft_maximum": (functools.partial(planning.soft_maximum, Q), {"temperature": POSITIVE}),
    "soft_policy": (functools.partial(planning.soft_policy, Q), {"temperature": POSITIVE}),
    "greedy_policy": (functools.partial(planning.greedy_policy, Q), {"tolerance": AT_LEAST_0}),
}
OPTIONS = [(name, option) for name, (_, ranges) in CASES.items() for option in ranges]


def refusal(call: Callable[..., Any], option: str, value: Any) -> str:
    """Return the text of the error by which a value is refused, or nothing."""
    with warnings.catch_warnings():
        # What is allowed need not be enough to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            call(**{option: value})
        except ValueError as error:
            return str(error)
    return ""


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_numbers_are_taken_in_their_range(name, option):
    call, ranges = CASES[name]
    bounds = ranges[option]
    refused: list[Any] = [math.nan, "3"]
    if len(bounds) == 2:
        least, most = bounds
        taken = [least, least + 1] if most is None else [least, most]
        refused += [least - 1, least + 0.5] + ([] if most is None else [most + 1])
    else:
        opening, low, high, closing = bounds
        taken = [low + 0.25, *([low] if opening == "[" else [])]
        refused += [low - 1e-9, *([low] if opening == "(" else [])]
        if math.isfinite(high):
            taken += [high] if closing == "]" else []
            refused += [high + 1e-9, *([high] if closing == ")" else [])]
    for value in taken:
        assert refusal(call, option, value) == "", value
    for value in refused:
        assert re.search(rf"\b{option}\b", refusal(call, option, value)), value
