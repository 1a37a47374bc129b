"""Games and policies are read from objects, lists and arrays; what is none is named."""

import numpy as np
import pytest
import torch

from prefsim.policies import TabularPolicy
from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.certificates import (
    best_response,
    duality_gap,
    expected_preference,
    exploitability,
    geometric_mixture,
    mirror_step,
    regularised_gap,
)
from prefsim.solvers.games.policy_gradient import (
    moving_average,
    nash_md_pg_gradient,
    policy_gradient,
    sampled_policy_gradient,
)
from prefsim.solvers.games.skew_symmetric import gpo_update
from prefsim.solvers.games.stationary_point import nash_md_pg_stationary_point
from prefsim.worlds import ContextualBandit, PreferenceGame

GAME = [[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]]
POLICY = [0.5, 0.3, 0.2]
REFERENCE = [0.2, 0.2, 0.6]

CERTIFICATES = {
    "exploitability": lambda p, x, mu: exploitability(p, x),
    "duality_gap": lambda p, x, mu: duality_gap(p, x, mu),
    "gap of one policy": lambda p, x, mu: duality_gap(p, x),
    "regularised_gap": lambda p, x, mu: regularised_gap(p, x, reference=mu, tau=0.3),
    "best_response": lambda p, x, mu: best_response(p, x),
    "regularised response": lambda p, x, mu: best_response(p, x, reference=mu, tau=0.3),
    "expected_preference": lambda p, x, mu: expected_preference(p, x, mu),
    "with a penalty": lambda p, x, mu: expected_preference(p, x, mu, reference=mu, tau=0.3),
}
every_certificate = pytest.mark.parametrize("name", CERTIFICATES)


@every_certificate
@pytest.mark.parametrize("moved", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_lists_arrays_and_tensors_together(name, moved):
    exact = CERTIFICATES[name](*(np.array(each) for each in (GAME, POLICY, REFERENCE)))
    given = [
        torch.tensor(each, dtype=torch.float64) if place in moved else each
        for place, each in enumerate((GAME, POLICY, REFERENCE))
    ]
    found = CERTIFICATES[name](*given)
    np.testing.assert_allclose(np.asarray(found), exact, rtol=1e-14)


@every_certificate
def test_objects(name):
    given = (PreferenceGame(GAME), *(TabularPolicy.from_probs([p]) for p in (POLICY, REFERENCE)))
    found = CERTIFICATES[name](*given)
    np.testing.assert_allclose(found[0], CERTIFICATES[name](GAME, POLICY, REFERENCE), rtol=1e-12)


@every_certificate
@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (0, "a game"),
        (0, None),
        (0, TabularPolicy.uniform(1, 3)),
        (1, "a policy"),
        (1, None),
        (1, {"probs": POLICY}),
        (1, [[0.5], [0.5, 0.5]]),
        (1, [0.5, 0.5]),
        (1, [np.nan, 0.5, 0.5]),
    ],
)
def test_what_is_none_is_named(name, place, wrong):
    given = [GAME, POLICY, REFERENCE]
    given[place] = wrong
    with pytest.raises((ValueError, TypeError), match=r"preference|policy"):
        CERTIFICATES[name](*given)


LOGS = np.log(POLICY).tolist()
STEPS = {
    "mirror_step": lambda p, x, y: mirror_step(x, y, p[0], step=0.5, tau=0.2),
    "geometric_mixture": lambda p, x, y: geometric_mixture(x, y, weight=0.3),
    "gpo_update": lambda p, x, y: gpo_update(x, p, beta=2.0),
    "policy_gradient": lambda p, x, y: policy_gradient(p, x, y, x, tau=0.2),
    "nash_md_pg_gradient": lambda p, x, y: nash_md_pg_gradient(p, x, y, tau=0.2, mixture=0.3),
    "sampled": lambda p, x, y: sampled_policy_gradient(p, x, y, x, tau=0.2, n=2, seed=0),
    "moving_average": lambda p, x, y: moving_average(x, y, rate=0.3),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("moved", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_steps_take_lists_arrays_and_tensors_together(name, moved):
    tables = (GAME, LOGS, np.log(REFERENCE).tolist())
    exact = STEPS[name](*(np.array(each) for each in tables))
    given = [
        torch.tensor(each, dtype=torch.float64) if place in moved else each
        for place, each in enumerate(tables)
    ]
    np.testing.assert_allclose(np.asarray(STEPS[name](*given)), exact, rtol=1e-12)


def test_a_bandit_is_a_game_for_each_context():
    world = ContextualBandit(preference=[GAME, 1 - np.array(GAME)])
    reference = TabularPolicy.from_probs([POLICY, REFERENCE])
    solved = solve_nash(world, method="regularised", reference=reference, tau=0.3)
    for x, table in enumerate(world.preference):
        alone = solve_nash(table, method="regularised", reference=reference.probs[x], tau=0.3)
        np.testing.assert_allclose(solved.policy[x], alone.policy, rtol=1e-10)
    path = nash_path(world, method="mwu", iterations=2, initial=reference)
    np.testing.assert_allclose(path.policy[0], reference.probs, rtol=1e-14)
    point = nash_md_pg_stationary_point(world, reference, tau=0.3, mixture=0.1)
    assert point.shape == (2, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"game": TabularPolicy.uniform(1, 3)}, "got a policy, TabularPolicy"),
        ({"game": "rock paper scissors"}, "preference must be .* got str"),
        ({"game": None}, "preference must be .* got None"),
        ({"game": np.array(GAME) + 0j}, "preference must be .* got .*complex"),
        ({"game": [[0.5, 1.0]]}, "preference must have shape"),
        ({"reference": PreferenceGame(GAME)}, "reference must be .* got PreferenceGame"),
        ({"reference": TabularPolicy.uniform(1, 2)}, r"reference must have trailing shape \(3\)"),
        ({"reference": [1.0, 0.0, 0.0]}, "reference must be > 0 everywhere"),
    ],
)
def test_what_is_no_game_and_no_policy(given, message):
    options = {"game": GAME, "reference": REFERENCE} | given
    with pytest.raises((ValueError, TypeError), match=message):
        solve_nash(options["game"], method="regularised", reference=options["reference"], tau=0.3)
