"""Values of arXiv:2312.00886: iterates, their limits, and what reward models make of a cycle."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from paper_repros.nash.nash_md import transformer
from paper_repros.nash.nash_md.claims import CYCLE, SAMPLING
from paper_repros.nash.nash_md.convergence import bound, curve_of, theorem_weight
from paper_repros.nash.nash_md.reproduction import contest
from prefsim.numerics import categorical_kl
from prefsim.solvers import fit_bradley_terry, nash_path, solve_nash
from prefsim.solvers.games.certificates import best_response, geometric_mixture
from prefsim.worlds import TEXTBOOK_REFERENCE, synthetic_ballots, textbook_game

GAME = textbook_game().preference
LIMIT = (0.5337846078, 0.1880177888, 0.2781976034)
LIMIT_MIXTURE = (0.5330289104, 0.1928188894, 0.2741522002)


def iterates(steps, tau=0.1):
    return nash_path(
        GAME,
        method="nash_md",
        reference=TEXTBOOK_REFERENCE,
        tau=tau,
        step=0.5,
        iterations=steps,
    ).policy


def equilibrium(tau):
    return solve_nash(GAME, method="regularised", reference=TEXTBOOK_REFERENCE, tau=tau).policy


def test_iterates():
    path = iterates(100)
    for steps, expected in {
        1: (0.5124786274, 0.2895805173, 0.1979408553),
        2: (0.5239548308, 0.2794157506, 0.1966294186),
        10: (0.5803870448, 0.2141118623, 0.2055010929),
        100: (0.5347610616, 0.1879981260, 0.2772408124),
    }.items():
        np.testing.assert_allclose(path[steps], expected, atol=1e-10)


def test_limit_of_a_constant_step():
    limit = iterates(2000)[-1]
    np.testing.assert_allclose(limit, LIMIT, atol=1e-10)
    mixture = np.exp(geometric_mixture(np.log(limit), np.log(TEXTBOOK_REFERENCE), weight=0.05))
    np.testing.assert_allclose(mixture, LIMIT_MIXTURE, atol=1e-10)
    stiffer = equilibrium(0.1 / 0.95)
    np.testing.assert_allclose(mixture, stiffer, atol=1e-12)
    response = best_response(GAME, stiffer, reference=TEXTBOOK_REFERENCE, tau=0.1)
    np.testing.assert_allclose(limit, response, atol=1e-12)
    distance = categorical_kl(np.log(equilibrium(0.1)), np.log(limit))
    assert distance == pytest.approx(6.311990647e-5, rel=1e-9)


def test_a_corrected_penalty_removes_the_bias():
    tau = 0.1 / 1.05
    log_limit = np.log(iterates(2000, tau)[-1])
    mixture = np.exp(geometric_mixture(log_limit, np.log(TEXTBOOK_REFERENCE), weight=0.5 * tau))
    np.testing.assert_allclose(mixture, equilibrium(0.1), atol=1e-12)


def test_reward_models_follow_the_sampling():
    rewards = [(0.400867, -1.032371, 0.631505), (-0.631505, 1.032371, -0.400867)]
    for sampling, reward in zip(SAMPLING, rewards, strict=True):
        counts = np.multiply.outer(sampling, sampling) * CYCLE * (1 - np.eye(3))
        np.testing.assert_allclose(fit_bradley_terry(counts).reward, reward, atol=1e-6)


def test_the_equilibrium_of_the_cycle():
    policy = solve_nash(CYCLE, method="lp").policy
    np.testing.assert_allclose(policy, np.array([8, 3, 8]) / 19, atol=1e-11)


def test_theorem_1_on_the_textbook_game():
    horizon, tau = 1000, 0.1
    path = nash_path(
        GAME,
        method="nash_md",
        reference=TEXTBOOK_REFERENCE,
        tau=tau,
        iterations=horizon,
        record=horizon,
    )
    first, last = categorical_kl(np.log(equilibrium(tau)), np.log(path.policy))
    assert last == pytest.approx(1.2e-6, rel=0.05)
    allowed = bound(first, theorem_weight(horizon), tau, horizon)
    assert allowed == pytest.approx(8.6e-2, rel=0.01)


def test_multiplicative_weights_leave_the_equilibrium():
    curve = curve_of("mwu", GAME[None], 0.1, 1000)
    assert curve.distance.shape == (curve.iteration.size, 1)
    assert curve.mean[-1] > curve.mean[0]


def test_a_cycle_of_ballots_mixes():
    assert contest(synthetic_ballots()).is_sensible


def test_who_wins_real_elections(real_data):
    files = sorted((real_data / "preflib").glob("*.soi"))
    if not files:
        pytest.skip(f"no ballots in {real_data / 'preflib'}")
    rows = [contest(path).row() for path in files]
    winners = {row["ballots"]: row["Condorcet winner"] for row in rows}
    assert winners["Debian 2002 Leader"] == "Bdale Garbee"
    assert winners["Debian 2012 Leader"] == "Stefano Zacchiroli"


@pytest.fixture(scope="module")
def contest_of_a_transformer():
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    return transformer.Contest.drawn(np.random.default_rng(0))


def test_a_transformer_and_its_table_say_the_same(contest_of_a_transformer):
    model, games = contest_of_a_transformer
    enumerated = transformer.on_tree(model)()
    assert enumerated.token_log_prob_table.shape == (4, 27, 3)
    found = enumerated.log_probs.detach().numpy()
    np.testing.assert_allclose(found, games.log_reference, atol=1e-12)
    start = contest_of_a_transformer.measured(games.log_reference, 0.0, 0)
    point = games.stationary_point(0.0)
    assert start.divergence == pytest.approx(
        categorical_kl(np.log(point), games.log_reference).mean()
    )
    assert contest_of_a_transformer.gap(point) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("mixture", transformer.MIXTURES)
def test_the_loss_has_the_policy_gradient_in_the_weights(contest_of_a_transformer, mixture):
    """Of all sequences, through the transformer, where it has left its reference."""
    model, games = contest_of_a_transformer
    moved = model.frozen()
    moved.log_prob_model.requires_grad_(True)
    weights = list(moved.log_prob_model.parameters())
    for weight in weights:
        weight.data *= 0.9
    policy = transformer.on_tree(moved)()
    opponent = games.opponent(policy, mixture)
    values = games.mean_loss(policy, mixture), -games.advantage(policy, opponent)
    slopes = [torch.autograd.grad(value, weights, retain_graph=True) for value in values]
    largest = max(float(part.abs().max()) for part in slopes[1])
    assert largest > 1e-3
    for found, expected in zip(*slopes, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * largest)


def test_a_transformer_nears_the_equilibrium(contest_of_a_transformer):
    course = contest_of_a_transformer.descend(0.0, steps=40, record=20)
    assert [at.step for at in course.distances] == [0, 20, 40]
    assert course.left < 0.8
    assert course.stated_gap == pytest.approx(0.0, abs=1e-9)
    assert course.distances[-1].gap < 0.8 * course.distances[0].gap


def test_without_language_models_the_transformer_is_not_run(monkeypatch):
    assert transformer.is_installed() == bool(find_spec("transformers") and find_spec("accelerate"))
    monkeypatch.setattr(transformer, "NEEDED", ("transformers", "no_such_package"))
    assert not transformer.is_installed()
