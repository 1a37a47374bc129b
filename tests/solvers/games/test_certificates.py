"""Certificates of games and the mirror step."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from prefsim.numerics import categorical_kl
from prefsim.solvers.games.certificates import (
    best_response,
    duality_gap,
    expected_preference,
    exploitability,
    geometric_mixture,
    log_best_response,
    log_probs,
    mirror_step,
    payoff,
    regularised_gap,
)
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.solvers.games.policy_gradient import moving_average, policy_gradient
from prefsim.testing.games import games_with_reference, references
from prefsim.worlds.game import PreferenceGame
from prefsim.worlds.textbook import TEXTBOOK_REFERENCE, textbook_game

GAME = textbook_game().preference
REFERENCE = TEXTBOOK_REFERENCE
POLICY = np.array([0.2, 0.5, 0.3])


def test_certificates_of_the_textbook_game():
    assert exploitability(GAME, REFERENCE) == pytest.approx(0.05, abs=1e-15)
    assert regularised_gap(GAME, REFERENCE, reference=REFERENCE, tau=0.1) == pytest.approx(
        0.0256931327, abs=1e-10
    )
    response = best_response(GAME, REFERENCE, reference=REFERENCE, tau=0.1)
    np.testing.assert_allclose(response, [0.7249788159, 0.1310156539, 0.1440055302], atol=1e-10)
    assert exploitability(GAME, np.array([4, 2, 3]) / 9) == pytest.approx(0.0, abs=1e-15)
    mixture = np.exp(geometric_mixture(np.log(POLICY), np.log(REFERENCE), weight=0.125))
    np.testing.assert_allclose(mixture, [0.2291947022, 0.4793701515, 0.2914351463], atol=1e-10)


@given(games_with_reference(), st.data())
def test_identities(pair, data):
    game, reference = pair
    preference = game.preference
    policy, opponent = (data.draw(references(game.n_responses)) for _ in range(2))
    tau = data.draw(st.floats(0.01, 5.0))
    assert expected_preference(preference, policy, policy) == pytest.approx(0.5, abs=1e-12)
    total = expected_preference(preference, policy, opponent, reference=reference, tau=tau)
    total += expected_preference(preference, opponent, policy, reference=reference, tau=tau)
    assert total == pytest.approx(1.0, abs=1e-12)
    assert duality_gap(preference, policy) == pytest.approx(
        2 * exploitability(preference, policy), abs=1e-15
    )
    worst = np.max(preference @ opponent) - np.min(policy @ preference)
    assert duality_gap(preference, policy, opponent) == pytest.approx(worst, abs=1e-12)
    assert exploitability(preference, best_response(preference, policy)) >= -1e-15
    best = expected_preference(preference, best_response(preference, policy), policy)
    assert best - 0.5 == pytest.approx(float(exploitability(preference, policy)), abs=1e-12)
    gap = regularised_gap(preference, policy, reference=reference, tau=tau)
    assert gap >= -1e-15
    # Removing the penalty from the gap costs no more than the penalty's range.
    lost = 2 * tau * (-np.log(reference.min()) - categorical_kl(np.log(policy), np.log(reference)))
    assert duality_gap(preference, policy) <= gap + lost + 1e-12


def test_the_best_response_is_found_by_a_general_optimiser():
    def negative(logits):
        policy = np.exp(logits - np.logaddexp.reduce(logits))
        return -expected_preference(GAME, policy, POLICY, reference=REFERENCE, tau=0.3)

    found = minimize(
        negative,
        np.zeros(3),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-15, "maxiter": 2000},
    ).x
    response = best_response(GAME, POLICY, reference=REFERENCE, tau=0.3)
    np.testing.assert_allclose(np.exp(found - np.logaddexp.reduce(found)), response, atol=1e-6)


@given(games_with_reference(), st.data())
def test_the_mirror_step_maximises_its_objective(pair, data):
    game, reference = pair
    policy = data.draw(references(game.n_responses))
    tau, weight = data.draw(st.floats(0.05, 2.0)), data.draw(st.floats(0.0, 1.0))
    step = weight / tau
    gain = payoff(game.preference, policy)
    new = np.exp(mirror_step(np.log(policy), np.log(reference), gain, step=step, tau=tau))

    def objective(candidate):
        logs = np.log(candidate)
        away = weight * categorical_kl(logs, np.log(reference)) + (1 - weight) * categorical_kl(
            logs, np.log(policy)
        )
        return step * np.sum(candidate * gain) - away

    for _ in range(3):
        assert objective(new) >= objective(data.draw(references(game.n_responses))) - 1e-9 * (
            1 + step
        )
    shifted = mirror_step(np.log(policy), np.log(reference), gain + 3.0, step=step, tau=tau)
    np.testing.assert_allclose(np.exp(shifted), new, atol=1e-10)


def test_the_ends_of_the_mixture():
    own, other = np.log([0.25, 0.75, 1e-300]), np.log([0.5, 0.3, 0.2])
    np.testing.assert_allclose(geometric_mixture(own, other, weight=0.0), own, rtol=1e-14)
    np.testing.assert_allclose(geometric_mixture(own, other, weight=1.0), other, rtol=1e-14)
    with np.errstate(divide="ignore"):
        missing = np.log([1.0, 0.0, 0.0])
    np.testing.assert_allclose(
        np.exp(geometric_mixture(missing, other, weight=1.0)), np.exp(other), rtol=1e-14
    )
    half = geometric_mixture(np.log([0.9, 0.1]), np.log([0.1, 0.9]), weight=0.5)
    np.testing.assert_allclose(np.exp(half), [0.5, 0.5])
    assert geometric_mixture(np.log([0.9, 0.1]), np.log([0.5, 0.5]), weight=0.9)[0] < np.log(0.6), (
        "the weight is the reference's"
    )


def test_zero_probabilities():
    pure = np.array([1.0, 0.0, 0.0])
    with np.errstate(all="raise"):
        assert log_probs(pure).tolist() == [0.0, -np.inf, -np.inf]
        assert np.isfinite(regularised_gap(GAME, pure, reference=REFERENCE, tau=0.1))
        assert np.isfinite(expected_preference(GAME, pure, POLICY, reference=REFERENCE, tau=0.1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mirror_step(np.log(POLICY), np.log(REFERENCE), POLICY, step=3.0, tau=0.5),
            r"step \* tau must be <= 1, got step=3.0 times tau=0.5",
        ),
        (
            lambda: mirror_step(np.log(POLICY), None, POLICY, step=0.5, tau=0.5),
            "log_reference is needed when tau > 0",
        ),
        (
            lambda: mirror_step(np.log(POLICY), None, POLICY, step=-0.5),
            "step must be a finite number >= 0",
        ),
        (
            lambda: geometric_mixture(np.log(POLICY), np.log(REFERENCE), weight=1.5),
            r"weight must lie in \[0.0, 1.0\]",
        ),
        (
            lambda: regularised_gap(GAME, POLICY, reference=REFERENCE, tau=0.0),
            r"tau must lie in \(0.0, inf\)",
        ),
        (
            lambda: best_response(GAME, POLICY, tau=0.1),
            "a reference is needed exactly when tau > 0, got no reference with tau=0.1",
        ),
        (lambda: best_response(GAME, POLICY, reference=REFERENCE), "got a reference with tau=0.0"),
        (
            lambda: expected_preference(GAME, POLICY, POLICY, tau=np.nan, reference=REFERENCE),
            "tau must be a finite number >= 0",
        ),
        (
            lambda: exploitability(GAME, np.array([0.5, 0.5])),
            r"policy must have trailing shape \(3\), got \(2,\)",
        ),
        (lambda: moving_average(POLICY, REFERENCE, rate=2.0), "rate must lie in"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def one_update(rule, preference, policy, reference, penalty):
    """The policies after two updates, so that what a method remembers plays a part."""
    state = rule.start(log_probs(policy), preference)
    steps = {} if rule.default_step is None else {"step": 0.3, "tau": penalty.get("tau", 0.0)}
    for _ in range(2):
        state = rule.apply(
            state, preference, log_probs(reference), **(steps or penalty), **rule.options
        )
    return state[0]


CALLS = {
    "payoff": lambda p, a, b, mu: payoff(p, a),
    "expected_preference": lambda p, a, b, mu: expected_preference(p, a, b, reference=mu, tau=0.2),
    "best_response": lambda p, a, b, mu: best_response(p, a, reference=mu, tau=0.2),
    "pure best_response": lambda p, a, b, mu: best_response(p, a),
    "log_best_response": lambda p, a, b, mu: log_best_response(p, a, log_probs(mu), tau=0.2),
    "exploitability": lambda p, a, b, mu: exploitability(p, a),
    "duality_gap": lambda p, a, b, mu: duality_gap(p, a, b),
    "regularised_gap": lambda p, a, b, mu: regularised_gap(p, a, reference=mu, tau=0.2),
    "geometric_mixture": lambda p, a, b, mu: geometric_mixture(
        log_probs(a), log_probs(mu), weight=0.3
    ),
    "policy_gradient": lambda p, a, b, mu: policy_gradient(
        p, log_probs(a), log_probs(mu), log_probs(b), tau=0.2
    ),
    "moving_average": lambda p, a, b, mu: moving_average(a, b, rate=0.3),
    **{
        name: lambda p, a, b, mu, rule=rule: one_update(
            rule, p, a, mu, {} if rule.penalty == "none" else {"tau": 0.2}
        )
        for name, rule in UPDATES.items()
    },
    "optimistic without penalty": lambda p, a, b, mu: one_update(
        UPDATES["optimistic"], p, a, mu, {}
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_library_and_every_batch_agree(name):
    rng = np.random.default_rng(0)
    preference = PreferenceGame.random(4, seed=rng, batch_shape=(3, 2)).preference
    policies = [rng.dirichlet(np.ones(4), size=(3, 2)) for _ in range(3)]
    found = CALLS[name](preference, *policies)
    on_torch = CALLS[name](torch.tensor(preference), *map(torch.tensor, policies))
    np.testing.assert_allclose(on_torch.numpy(), found, rtol=1e-12, atol=1e-14)
    if (
        name != "comal"
    ):  # its inner solver picks the games still at work by index, which the standard does not have
        strict = CALLS[name](
            array_api_strict.asarray(preference), *map(array_api_strict.asarray, policies)
        )
        np.testing.assert_allclose(np.asarray(strict), found, rtol=1e-12, atol=1e-14)
    alone = CALLS[name](preference[2, 1], *(policy[2, 1] for policy in policies))
    np.testing.assert_allclose(found[2, 1], alone, rtol=1e-12, atol=1e-14)
    shared = [policy[0, 0] for policy in policies]
    broadcast = CALLS[name](preference, *shared)
    if broadcast.shape == found.shape:  # otherwise the game plays no part
        np.testing.assert_allclose(
            broadcast[2, 1], CALLS[name](preference[2, 1], *shared), rtol=1e-12, atol=1e-14
        )


def test_gradients_flow_through_the_certificates():
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def gap(theta):
        return regularised_gap(
            torch.tensor(GAME), torch.softmax(theta, -1), reference=torch.tensor(REFERENCE), tau=0.1
        )

    assert torch.autograd.gradcheck(gap, (logits,))
