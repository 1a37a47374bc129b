"""Leading axes are independent problems, whatever their number: each is solved as if alone."""

import numpy as np
import pytest

from prefsim import divergences, numerics
from prefsim.solvers.closed_forms import (
    chi_squared,
    constrained,
    regularised,
    rejection,
    self_improvement,
    self_training,
    separation,
)
from prefsim.solvers.games import certificates, preference_embedding, skew_symmetric, updates
from prefsim.solvers.games import policy_gradient as game_gradients
from prefsim.solvers.games.nash import solve_nash
from prefsim.solvers.likelihood.bradley_terry import fit_bradley_terry
from prefsim.solvers.optimisers import box_newton, policy_gradient

# Different lengths, so that no axis can be taken for another.
BATCH, N = (2, 3), 4
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(*BATCH, N))
FIRST, SECOND, THIRD = (numerics.log_softmax(RNG.normal(size=(*BATCH, N))) for _ in range(3))
MARGINS = RNG.uniform(-0.4, 0.4, (*BATCH, N, N))
GAMES = 0.5 + 0.5 * (MARGINS - np.swapaxes(MARGINS, -1, -2))
COUNTS = RNG.poisson(3.0, (*BATCH, N, N)) * (1 - np.eye(N)) + 1 - np.eye(N)
IMPROVERS = np.exp(numerics.log_softmax(RNG.normal(size=(*BATCH, N, N))))
EMBEDDINGS = RNG.normal(size=(*BATCH, N, 2))
BETAS = RNG.uniform(0.2, 2.0, BATCH)
BOX = box_newton.BoxProblem(
    linear=0.3 * VALUES,
    tilt=RNG.uniform(0.5, 1.0, BATCH),
    log_reference=FIRST,
    beta=0.7,
    wins=COUNTS,
    low=np.full((*BATCH, N), -1.0),
    high=np.full((*BATCH, N), 0.8),
)


REWARDS = RNG.normal(size=(*BATCH, 2, 3, N))
REFERENCES = numerics.log_softmax(RNG.normal(size=(*BATCH, 3, N)))
# Some within reach, and some not.
THRESHOLDS = RNG.normal(size=(*BATCH, 2))
SENSES = ("equal", "at_most")


def constrained_dual(multipliers, rewards, reference, thresholds, beta):
    return constrained.constrained_dual(
        multipliers, rewards, reference, thresholds, beta=beta, sense=SENSES
    )


def constrained_optimum(rewards, reference, thresholds, beta):
    found = constrained.constrained_optimum(
        rewards,
        reference,
        thresholds,
        beta=beta,
        sense=SENSES,
        weights=np.array([0.2, 0.5]),
        infeasible="report",
    )
    return [np.nan_to_num(each) for each in found if np.asarray(each).dtype.kind == "f"]


def solved_in_box(*columns):
    linear, tilt, log_reference, wins, low, high = columns
    problem = box_newton.BoxProblem(linear, tilt, log_reference, 0.7, wins, low, high)
    return box_newton.minimise_in_box(problem, tolerance=1e-10, max_iterations=200)


def updates_once(update, preference, log_policy, log_reference):
    """The log-policy after one step from a policy."""
    tau = 0.0 if update is updates.mwu_update else 0.2
    return update((log_policy,), preference, log_reference, step=0.5, tau=tau)[0]


# Functions of a reward, a log-reference, and a strength for each problem.
FRONTIERS = {
    "gibbs": regularised.gibbs_log_policy,
    "chi_squared": lambda r, q, beta: chi_squared.chi_squared_optimum(r, np.exp(q), beta=beta),
    "optimal_policy": lambda r, q, beta: regularised.optimal_policy(r, np.exp(q), beta=beta),
    "regularised_optimum": lambda r, q, beta: regularised.regularised_optimum(
        r, q, beta=beta, divergence="forward_kl"
    ),
    "calibrated_value": lambda r, q, beta: regularised.calibrated_value(r, q, np.exp(q), beta=beta),
    "calibrated_reward": lambda p, q, beta: regularised.calibrated_reward(
        numerics.log_softmax(p), q, np.exp(q), beta=beta
    ),
}
CASES = {
    **{
        f"frontier of {name}": (
            lambda r, q, beta, solve=solve: solve(r, q, beta=beta),
            (VALUES, FIRST, BETAS),
        )
        for name, solve in FRONTIERS.items()
    },
    "entropy": (numerics.categorical_entropy, (FIRST,)),
    "kl": (numerics.categorical_kl, (FIRST, SECOND)),
    "logsumexp": (numerics.logsumexp, (VALUES,)),
    "f_divergence": (
        lambda p, q: divergences.f_divergence(p, q, "jensen_shannon"),
        (FIRST, SECOND),
    ),
    "total_variation": (divergences.total_variation, (np.exp(FIRST), np.exp(SECOND))),
    "score_gradient": (policy_gradient.score_gradient, (VALUES, FIRST, SECOND)),
    "contrastive_gradient": (policy_gradient.contrastive_gradient, (VALUES, FIRST, SECOND)),
    "score_variance": (policy_gradient.score_variance, (VALUES, FIRST)),
    "pairwise_variance": (policy_gradient.pairwise_variance, (VALUES, FIRST)),
    "regularised_reward": (
        lambda r, p, q: policy_gradient.regularised_reward(r, p, q, beta=0.3),
        (VALUES, FIRST, SECOND),
    ),
    "gibbs": (lambda r, q: regularised.gibbs_log_policy(r, q, beta=0.3), (VALUES, FIRST)),
    "chi_squared": (
        lambda r, q: chi_squared.chi_squared_optimum(r, np.exp(q), beta=0.3),
        (VALUES, FIRST),
    ),
    "log_acceptance": (lambda r: rejection.log_acceptance(r, beta=0.3), (VALUES,)),
    "accepted_law": (lambda r, q: rejection.accepted_law(r, q, beta=0.3), (VALUES, FIRST)),
    "first_accepted_law": (
        lambda r, q: rejection.first_accepted_law(r, q, 5, beta=0.3),
        (VALUES, FIRST),
    ),
    "best_of_n": (lambda r, q: self_training.best_of_n(r, q, 3), (VALUES, FIRST)),
    "iterative_dpo_step": (
        lambda p, q: self_training.iterative_dpo_step(p, q, beta=0.5),
        (GAMES, FIRST),
    ),
    "exploitability": (certificates.exploitability, (GAMES, np.exp(FIRST))),
    "duality_gap": (certificates.duality_gap, (GAMES, np.exp(FIRST), np.exp(SECOND))),
    "best_response": (
        lambda p, q, m: certificates.best_response(p, q, reference=m, tau=0.2),
        (GAMES, np.exp(FIRST), np.exp(SECOND)),
    ),
    "regularised_gap": (
        lambda p, q, m: certificates.regularised_gap(p, q, reference=m, tau=0.2),
        (GAMES, np.exp(FIRST), np.exp(SECOND)),
    ),
    "expected_preference": (
        lambda p, q, o, m: certificates.expected_preference(p, q, o, reference=m, tau=0.2),
        (GAMES, np.exp(FIRST), np.exp(SECOND), np.exp(THIRD)),
    ),
    "bradley_terry": (fit_bradley_terry, (COUNTS,)),
    "optimal_policy": (
        lambda r, q: regularised.optimal_policy(
            r, np.exp(q), beta=0.3, divergence="jensen_shannon"
        ),
        (VALUES, FIRST),
    ),
    "regularised_optimum": (
        lambda r, q: regularised.regularised_optimum(r, q, beta=0.3, divergence="alpha", alpha=0.4),
        (VALUES, FIRST),
    ),
    "capped_acceptance": (
        lambda r, c: rejection.log_acceptance(r, beta=0.3, cap=c),
        (VALUES, VALUES[..., 0]),
    ),
    "accept_pass": (
        lambda r, u: 1.0 * rejection.accept_pass(r, u, beta=0.3),
        (VALUES, np.exp(FIRST)),
    ),
    "solve_self_improvement": (
        lambda p, q, m: self_improvement.solve_self_improvement(
            p, np.exp(q), beta=0.3, improver_reference=m
        ),
        (GAMES, FIRST, IMPROVERS),
    ),
    "self_improvement_value": (
        lambda p, g, i, q, m: self_improvement.self_improvement_value(
            p, np.exp(g), i, np.exp(q), beta=0.3, improver_reference=m
        ),
        (GAMES, FIRST, IMPROVERS, SECOND, IMPROVERS[::-1]),
    ),
    "self_improvement_errors": (
        lambda p, g, i, q: self_improvement.self_improvement_errors(
            p, np.exp(g), i, np.exp(q), beta=0.3
        ),
        (GAMES, FIRST, IMPROVERS, SECOND),
    ),
    "mirror_step": (
        lambda p, q, r: certificates.mirror_step(p, q, r, step=0.5, tau=0.2),
        (FIRST, SECOND, VALUES),
    ),
    "geometric_mixture": (
        lambda p, q: certificates.geometric_mixture(p, q, weight=0.3),
        (FIRST, SECOND),
    ),
    "gap_to_best_response": (
        lambda p, q, r: certificates.gap_to_best_response(p, np.exp(q), r, tau=0.2),
        (GAMES, FIRST, SECOND),
    ),
    "log_best_response": (
        lambda p, q, r: certificates.log_best_response(p, np.exp(q), r, tau=0.2),
        (GAMES, FIRST, SECOND),
    ),
    "gpo_update": (
        lambda p, s: skew_symmetric.gpo_update(p, s, beta=0.5),
        (FIRST, GAMES - 0.5),
    ),
    "policy_gradient": (
        lambda p, a, b, c: game_gradients.policy_gradient(p, a, b, c, tau=0.2),
        (GAMES, FIRST, SECOND, THIRD),
    ),
    "nash_md_pg_gradient": (
        lambda p, a, b: game_gradients.nash_md_pg_gradient(p, a, b, tau=0.2, mixture=0.3),
        (GAMES, FIRST, SECOND),
    ),
    "embedding_objective": (
        lambda e, w: preference_embedding.embedding_objective(e, w, ridge=0.1),
        (EMBEDDINGS, COUNTS),
    ),
    "nash by lp": (lambda p: solve_nash(p, method="lp")[:2], (GAMES,)),
    "regularised nash": (
        lambda p, q: solve_nash(p, method="regularised", reference=np.exp(q), tau=0.2)[:2],
        (GAMES, FIRST),
    ),
    **{
        name: (
            lambda p, q, r, update=update: updates_once(update, p, q, r),
            (GAMES, FIRST, SECOND),
        )
        for name, update in {
            "mirror_descent_update": updates.mirror_descent_update,
            "mmd_update": updates.mmd_update,
            "mwu_update": updates.mwu_update,
            "nash_md_update": updates.nash_md_update,
            "egpo_update": updates.egpo_update,
        }.items()
    },
    "constrained_dual": (
        constrained_dual,
        (RNG.normal(size=(*BATCH, 2)), REWARDS, REFERENCES, THRESHOLDS, BETAS),
    ),
    "constrained_optimum": (constrained_optimum, (REWARDS, REFERENCES, THRESHOLDS, BETAS)),
    "separating_direction": (
        lambda r, q, t: separation.separating_direction(r, q, t, sense=SENSES),
        (REWARDS, REFERENCES, THRESHOLDS),
    ),
    "box_newton": (
        solved_in_box,
        (BOX.linear, BOX.tilt, BOX.log_reference, BOX.wins, BOX.low, BOX.high),
    ),
}


def numbers(result):
    """Return the floating-point arrays of a result."""
    parts = [result] if isinstance(result, np.ndarray | np.generic | float) else list(result)
    arrays = [np.asarray(part) for part in parts if part is not None]
    return [array for array in arrays if array.dtype.kind == "f"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_each_problem_is_solved_as_if_alone(name):
    function, columns = CASES[name]
    together = numbers(function(*columns))
    assert together
    for index in np.ndindex(*BATCH):
        alone = numbers(function(*(column[index] for column in columns)))
        for whole, single in zip(together, alone, strict=True):
            np.testing.assert_allclose(whole[index], single, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", FRONTIERS)
def test_strengths_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match=r"^shapes must broadcast, got .*beta \(5, 1\)"):
        FRONTIERS[name](VALUES, FIRST, beta=np.ones(5))
