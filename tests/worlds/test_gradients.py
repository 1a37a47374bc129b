"""A tensor that asks for a gradient keeps its graph, or is refused: it is never lost silently."""

import numpy as np
import pytest

from prefsim import use_backend
from prefsim.data import Comparisons
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.raters import MatrixRater, UserPopulation
from prefsim.raters.judge import judged_preference
from prefsim.solvers.games.pessimism import PessimisticGame
from prefsim.solvers.planning import soft_value_iteration
from prefsim.worlds import ContextualBandit, PreferenceGame, TabularMDP, TokenTree

torch = pytest.importorskip("torch")

MOVES = np.full((2, 2, 2), 0.5)
PAID = np.array([[0.0, 1.0], [2.0, 3.0]])
GAME = np.array([[0.5, 0.8], [0.2, 0.5]])
EVEN = np.full(2, 0.5)
PAIR = Comparisons([0], [0], [1])


def process(**given):
    tables = {"transitions": MOVES, "reward": PAID, "discount": 0.9, **given}
    return TabularMDP(tables.pop("transitions"), tables.pop("reward"), **tables)


def pessimistic(**given):
    tables = {"base": [EVEN], "eta": 0.1, **given}
    uniform = TabularPolicy.uniform(1, 2)
    return PessimisticGame(PAIR, uniform, tables["base"], beta=1.0, eta=tables["eta"])


# What is given, and what of the world depends on it.
FOLLOWED = {
    "transitions": (MOVES, lambda t: process(transitions=t).transitions),
    "reward": (PAID, lambda t: process(reward=t).reward),
    "reward of transitions": (MOVES, lambda t: process(reward=t).reward),
    "with_reward": (PAID, lambda t: process().with_reward(t).reward),
    "potential": (EVEN, lambda t: process().shaped(t).reward),
    "start_probs": (EVEN, lambda t: process(start_probs=t).start_probs),
    "reward of a bandit": (PAID, lambda t: ContextualBandit(t).reward),
    "preference of rewards": (PAID, lambda t: ContextualBandit(t).preference),
    "preference of a bandit": (GAME[None], lambda t: ContextualBandit(preference=t).preference),
    "features": (MOVES, lambda t: ContextualBandit(PAID, features=t).features),
    "game": (GAME, lambda t: PreferenceGame(t).preference),
    "game of rewards": (EVEN, lambda t: PreferenceGame.from_reward(t).preference),
    "reward of a tree": (PAID, lambda t: TokenTree(2, 1, reward=t).reward),
    "logits": (PAID, lambda t: TabularPolicy.from_logits(t).log_probs),
    "probs": ([EVEN], lambda t: TabularPolicy.from_probs(t).log_probs),
    "weights": (EVEN, lambda t: LogLinearPolicy.from_features(MOVES, weights=t).weights),
    "features of a policy": (
        MOVES,
        lambda t: LogLinearPolicy.from_features(t, weights=[1.0, 2.0]).features,
    ),
    "rater": (GAME, lambda t: MatrixRater(t).preference),
    "rater of rewards": (EVEN, lambda t: MatrixRater.from_reward(t).preference),
    "users": (EVEN, lambda t: UserPopulation(t, [GAME, GAME.T]).preference),
    "their preferences": ([GAME, GAME], lambda t: UserPopulation(EVEN, t).preference),
    "judged_preference": (EVEN, lambda t: judged_preference(t)),
}

IN_NUMPY = {
    "sequences": (
        [EVEN],
        lambda t: TokenTreePolicy.from_sequence_probs(TokenTree(2, 1), t),
    ),
    "base": ([EVEN], lambda t: pessimistic(base=t)),
    "eta": (0.1, lambda t: pessimistic(eta=t)),
    "log_policy": ([np.log(EVEN)], lambda t: pessimistic().worst_reward(t)),
    "policy of the objective": ([np.log(EVEN)], lambda t: pessimistic().objective(t, [EVEN])),
    "reward of the objective": ([EVEN], lambda t: pessimistic().objective([np.log(EVEN)], t)),
}


def tensor(table, dtype=torch.float64):
    return torch.tensor(np.asarray(table), dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_gradient_is_followed(name, dtype):
    given, build = FOLLOWED[name]
    with use_backend("torch", dtype="float64"):
        leaf = tensor(given, getattr(torch, dtype))
        made = build(leaf)
    uneven = torch.arange(made.numel()).reshape(made.shape)
    (slope,) = torch.autograd.grad((uneven * made).sum(), leaf)
    assert made.dtype == torch.float64 and bool((slope != 0).any())


@pytest.mark.parametrize("name", [*FOLLOWED, *IN_NUMPY])
def test_a_gradient_that_numpy_would_lose_is_refused(name):
    given, build = {**FOLLOWED, **IN_NUMPY}[name]
    with pytest.raises(ValueError, match="is a torch tensor that requires a gradient"):
        build(tensor(given))
    build(tensor(given).detach())


def test_planning_is_differentiated_by_its_rewards():
    with use_backend("torch"):
        reward = tensor(PAID)
        value = soft_value_iteration(process(reward=reward), temperature=0.5).value.sum()
    (slope,) = torch.autograd.grad(value, reward)
    # One unit more everywhere is worth 1 / (1 - discount) in each of two states.
    np.testing.assert_allclose(slope.sum(), 20.0, rtol=1e-9)
