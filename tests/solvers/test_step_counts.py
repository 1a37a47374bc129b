"""How many steps solvers take on fixed instances: a certificate says nothing of a slow way to it.

A wrong curvature, preconditioner, start or step length still ends where it should, only later.
"""

import functools

import numpy as np
import pytest
import scipy.sparse

from prefsim.solvers import planning
from prefsim.solvers.games.nash import solve_nash
from prefsim.solvers.likelihood import choice_newton
from prefsim.solvers.likelihood.bradley_terry import fit_bradley_terry
from prefsim.solvers.likelihood.plackett_luce import fit_plackett_luce
from prefsim.worlds import PreferenceGame, TabularMDP

WORLDS = {
    "short": functools.partial(TabularMDP.random, 30, 4, discount=0.9, seed=0),
    "long": functools.partial(TabularMDP.random, 30, 4, discount=0.999, seed=1),
    "sparse": functools.partial(TabularMDP.random_sparse, 300, 4, 5, discount=0.99, seed=0),
    "batch": functools.partial(TabularMDP.random, 12, 3, discount=0.95, seed=2, batch_shape=(3,)),
}
PLANNED = {
    ("value_iteration", "short"): 18,
    ("value_iteration", "long"): 17,
    ("value_iteration", "sparse"): 49,
    ("value_iteration", "batch"): 22,
    ("policy_iteration", "short"): 2,
    ("policy_iteration", "long"): 2,
    ("policy_iteration", "sparse"): 4,
    ("policy_iteration", "batch"): 2,
    ("modified_policy_iteration", "short"): 4,
    ("modified_policy_iteration", "long"): 4,
    ("modified_policy_iteration", "sparse"): 7,
    ("modified_policy_iteration", "batch"): 4,
    ("newton", "short"): 3,
    ("newton", "long"): 3,
    ("newton", "sparse"): 4,
    ("newton", "batch"): 4,
    ("sweeps", "short"): 17,
    ("sweeps", "long"): 17,
    ("sweeps", "sparse"): 28,
    ("sweeps", "batch"): 21,
}


def counts(n: int, games: int, lead: tuple[int, ...] = ()) -> np.ndarray:
    """Draw how often each of n items of normal strength beat each other one."""
    rng = np.random.default_rng(n)
    strength = rng.normal(size=(*lead, n))
    chance = 1 / (1 + np.exp(strength[..., None, :] - strength[..., :, None]))
    won = rng.binomial(games, chance)
    above = np.triu(won, 1)
    return (above + np.swapaxes(np.triu(games - won, 1), -1, -2)).astype(float)


@pytest.mark.parametrize(("name", "world"), PLANNED)
def test_planners(name, world):
    mdp = WORLDS[world]()
    if name in ("newton", "sweeps"):
        found = planning.soft_value_iteration(mdp, temperature=0.3, method=name)
    else:
        found = getattr(planning, name)(mdp)
    steps = np.asarray(found.iterations)
    assert steps.dtype.kind == "i" and np.asarray(found.converged).all()
    assert (steps >= 1).all() and (steps <= PLANNED[name, world]).all()


def test_the_linear_program_counts_both_its_parts():
    found = planning.linear_program(WORLDS["short"]())
    assert found.converged and found.iterations > 10


@pytest.mark.parametrize(
    ("table", "ridge", "most"),
    [
        (counts(10, 20), 0.0, 4),
        (counts(150, 2), 0.0, 4),
        (counts(8, 15, (2, 3)), 0.0, 6),
        (counts(10, 1), 0.1, 13),
        (scipy.sparse.csr_array(counts(40, 3)), 0.01, 4),
    ],
    ids=["dense", "conjugate gradients", "batch", "ridge", "sparse"],
)
def test_bradley_terry(table, ridge, most):
    found = fit_bradley_terry(table, ridge=ridge)
    assert np.all(found.converged) and found.iterations <= most


def test_plackett_luce():
    rng = np.random.default_rng(0)
    drawn = np.argsort(rng.gumbel(size=(60, 6)) - 0.5 * np.arange(6), axis=1)[:, :4]
    found = fit_plackett_luce(drawn, 6)
    assert found.converged and found.iterations <= 5


@pytest.mark.parametrize(
    ("method", "tau", "most"),
    [
        ("lp", 0.0, 6),
        ("regularised", 0.2, 4),
        ("regularised", 0.015, 8),
        ("regularised", 1e-3, 6),
        ("mirror_descent", 0.2, 60),
        ("mmd", 0.2, 60),
        ("nash_md_pg", 0.2, 270),
    ],
)
@pytest.mark.parametrize("lead", [(), (3,)])
def test_games(method, tau, most, lead):
    game = PreferenceGame.random(6, seed=0, batch_shape=lead).preference
    options = {"tau": tau} if tau > 0 else {}
    found = solve_nash(game, method=method, tolerance=1e-6, **options)
    steps = np.asarray(found.iterations)
    assert steps.shape == lead and steps.dtype.kind == "i"
    assert np.asarray(found.converged).all() and (steps >= 1).all() and (steps <= most).all()


class TestConjugateGradients:
    """A batch of positive definite systems, solved by the preconditioned method."""

    BATCH, N = (2, 3), 5

    def point(self):
        rng = np.random.default_rng(1)
        root = rng.normal(size=(*self.BATCH, self.N, self.N))
        matrix = root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(self.N)
        gradient = rng.normal(size=(*self.BATCH, self.N))
        derivatives = choice_newton.Derivatives(
            gradient=gradient,
            flow=np.abs(gradient),
            diagonal=np.diagonal(matrix, axis1=-2, axis2=-1),
            product=lambda x: np.matmul(matrix, x[..., None])[..., 0],
            solve_directly=None,
        )
        return matrix, derivatives

    def test_as_many_products_as_unknowns_solve_it(self):
        matrix, point = self.point()
        found, solved = choice_newton.conjugate_gradient(point, forcing=1e-7, max_products=self.N)
        assert solved
        exact = np.linalg.solve(matrix, point.gradient[..., None])[..., 0]
        np.testing.assert_allclose(found, exact, rtol=1e-6)

    def test_an_iterate_fits_the_step_length_rule(self):
        matrix, point = self.point()
        found, solved = choice_newton.conjugate_gradient(point, forcing=1e-7, max_products=2)
        assert not solved
        image = np.matmul(matrix, found[..., None])[..., 0]
        np.testing.assert_allclose((found * image).sum(-1), (found * point.gradient).sum(-1))
        assert ((found * point.gradient).sum(-1) > 0).all()

    def test_members_stop_at_their_own_target(self):
        matrix, point = self.point()
        forcing = 0.3
        together, _ = choice_newton.conjugate_gradient(point, forcing=forcing, max_products=50)
        for index in np.ndindex(*self.BATCH):
            alone = choice_newton.Derivatives(
                gradient=point.gradient[index],
                flow=point.flow[index],
                diagonal=point.diagonal[index],
                product=lambda x, index=index: matrix[index] @ x,
                solve_directly=None,
            )
            single, _ = choice_newton.conjugate_gradient(alone, forcing=forcing, max_products=50)
            np.testing.assert_allclose(together[index], single, rtol=1e-10)

    def test_a_start_stretches_log_odds_by_the_spread_of_opponents(self):
        wins, comparisons = (
            np.asarray([[1.0, 5.0, 9.0, 0.0]]),
            np.asarray([[10.0, 10.0, 10.0, 0.0]]),
        )
        share = np.asarray([0.1, 0.5, 0.9, 0.5])
        odds = np.log(share) - np.log1p(-share)
        odds = odds - odds.mean()
        stretched = odds / np.sqrt(max(1 - np.pi / 8 * np.mean(odds**2), 0.25))
        np.testing.assert_allclose(
            choice_newton.log_odds_start(wins, comparisons), stretched[None], rtol=1e-12
        )
        close = choice_newton.log_odds_start(np.asarray([4.0, 6.0]), np.asarray([10.0, 10.0]))
        odds = np.log(0.6 / 0.4)
        np.testing.assert_allclose(
            close, np.asarray([-odds, odds]) / np.sqrt(1 - np.pi / 8 * odds**2), rtol=1e-12
        )
