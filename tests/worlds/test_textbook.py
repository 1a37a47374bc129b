"""What is known of the textbook game, by solvers that do not use it."""

import numpy as np
import pytest

from prefsim.backend import use_backend
from prefsim.numerics import categorical_kl
from prefsim.solvers import exploitability, solve_nash
from prefsim.solvers.games.certificates import best_response
from prefsim.worlds import TEXTBOOK_REFERENCE, textbook_game

EQUILIBRIUM = np.array([4, 2, 3]) / 9


def test_the_equilibrium_is_the_null_vector_of_the_payoffs():
    preference = textbook_game().preference
    np.testing.assert_allclose((preference - 0.5) @ EQUILIBRIUM, 0.0, atol=1e-16)
    assert np.linalg.matrix_rank(preference - 0.5) == 2
    assert EQUILIBRIUM @ preference @ EQUILIBRIUM == pytest.approx(0.5, abs=1e-15)
    np.testing.assert_allclose(solve_nash(textbook_game(), method="lp").policy, EQUILIBRIUM)


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (0.01, (0.4537065263, 0.2155536420, 0.3307398317)),
        (0.1, (0.5301864230, 0.1923682149, 0.2774453621)),
        (1.0, (0.5229998388, 0.2780521625, 0.1989479987)),
    ],
)
def test_regularised_equilibria(tau, expected):
    """Each is its own best response: the fixed point, not the solver, is what is asked."""
    preference = textbook_game().preference
    response = best_response(preference, np.array(expected), reference=TEXTBOOK_REFERENCE, tau=tau)
    # Ten digits of a policy leave 1e-10 / tau in its response.
    np.testing.assert_allclose(response, expected, atol=1e-10 / tau)
    assert textbook_game().condorcet_winner() == -1


def test_what_the_penalty_costs():
    near = solve_nash(
        textbook_game(), method="regularised", reference=TEXTBOOK_REFERENCE, tau=0.1
    ).policy
    assert exploitability(textbook_game().preference, near) == pytest.approx(
        0.0290899987, abs=1e-10
    )
    assert categorical_kl(np.log(near), np.log(TEXTBOOK_REFERENCE)) == pytest.approx(
        0.0364066674, abs=1e-10
    )


def test_it_follows_the_backend_and_each_call_has_its_own():
    with use_backend("torch"):
        assert textbook_game().preference.shape == (3, 3)
        assert not isinstance(textbook_game().preference, np.ndarray)
    textbook_game().preference[0, 0] = 0.0
    assert textbook_game().preference[0, 0] == 0.5
