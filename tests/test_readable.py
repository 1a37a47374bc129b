"""What policies, worlds and results show of themselves is one line that can be read."""

import functools

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim._readable import summary
from prefsim.backend import use_backend
from prefsim.data import Comparisons, Segments
from prefsim.loops import self_play, table_judge
from prefsim.losses.registry import container_of, loss_functions
from prefsim.policies import LogLinearPolicy, NetworkPolicy, TabularPolicy
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.raters import MatrixRater, UserPopulation
from prefsim.solvers import fit, planning, solve_nash
from prefsim.worlds import (
    ContextualBandit,
    PreferenceGame,
    TabularMDP,
    TokenTree,
    delivery_task,
    read_preflib,
    synthetic_ballots,
)

GAMES = PreferenceGame.random(6, seed=0, batch_shape=(1000,))
PROCESS = TabularMDP.random(60, 3, discount=0.9, seed=0)
WORLD = ContextualBandit.random(200, 30, seed=0)
LARGE = {
    "game": lambda: GAMES,
    "bandit": lambda: WORLD,
    "process": lambda: PROCESS,
    "sparse process": lambda: PROCESS.to_sparse(),
    "tree": lambda: TokenTree.random(3, 5, seed=0),
    "tabular policy": lambda: TabularPolicy.uniform(200, 30),
    "log-linear policy": lambda: LogLinearPolicy.from_features(np.ones((200, 30, 4))),
    "network": lambda: NetworkPolicy.mlp(np.ones((200, 4)), 30, seed=0),
    "token policy": lambda: TokenTreePolicy.random(TokenTree(3, 5), seed=0),
    "nash": lambda: solve_nash(GAMES, method="mwu", max_iterations=9, tolerance=0.0, record=1),
    "planning": lambda: planning.value_iteration(PROCESS),
    "fit": lambda: fit(
        TabularPolicy.uniform(200, 30),
        functools.partial(losses.ipo, tau=1.0),
        Comparisons.population(WORLD, TabularPolicy.uniform(200, 30)),
        reference=TabularPolicy.uniform(200, 30),
    ),
    "comparisons": lambda: Comparisons.sample(WORLD, 900, seed=0),
    "segments": lambda: Segments.sample(PROCESS, 90, 5, seed=0, scores=np.zeros((60, 3))),
    "rater": lambda: MatrixRater(np.full((30, 30), 0.5)),
    "users": lambda: UserPopulation(np.full(2, 0.5), np.full((2, 30, 30), 0.5)),
    "ballots": lambda: read_preflib(synthetic_ballots()),
    "task": delivery_task,
    "round": lambda: self_play(
        TabularPolicy.uniform(3, 20),
        losses.dno,
        table_judge(np.full((3, 20, 20), 0.5)),
        rounds=1,
        train=lambda policy, *_: policy,
        seed=0,
    )[0],
}


@pytest.mark.parametrize("kind", sorted(set(map(container_of, loss_functions().values())), key=str))
def test_what_losses_see_is_one_line(kind):
    text = repr(kind.example(rows=1000))
    assert text.startswith(kind.__name__) and "\n" not in text and "array(" not in text


@pytest.mark.parametrize("name", LARGE)
def test_large_values_are_one_line(name):
    value = LARGE[name]()
    text = repr(value)
    assert text.startswith(f"{type(value).__name__}(") and text.endswith(")")
    assert "\n" not in text and len(text) < 500, text
    assert "array(" not in text and "tensor(" not in text and "None" not in text


def test_small_values_show_their_numbers():
    assert repr(TabularPolicy.from_logits([[0.0, 0.25]])) == "TabularPolicy(logits=[[0, 0.25]])"
    game = PreferenceGame([[0.5, 0.9], [0.1, 0.5]], labels=("tea", "coffee"))
    assert (
        repr(game) == "PreferenceGame(preference=[[0.5, 0.9], [0.1, 0.5]],"
        " labels=('tea', 'coffee'))"
    )
    result = solve_nash(game, method="lp")
    assert "policy=[1, 0]" in repr(result) and "converged=True" in repr(result)
    assert str(result) == f"{result}" == repr(result)


def test_large_arrays_show_dtype_and_shape():
    with use_backend("torch", dtype="float32"):
        assert repr(TabularPolicy.uniform(40, 3)) == "TabularPolicy(logits=torch.float32 (40, 3))"
    assert "reward=float64 (60, 3)" in repr(PROCESS.to_sparse())
    assert "float64 (180, 60) sparse" in repr(PROCESS.to_sparse())
    result = solve_nash(GAMES, method="lp")
    assert "converged=1000 of 1000 true" in repr(result)


def test_every_entry_of_a_field_is_told():
    one = NetworkPolicy(torch.nn.Linear(1, 1), torch.ones(1, 1), torch.ones(2))
    assert summary(one).startswith("NetworkPolicy(module=Linear(")
    assert "flat=[1, 1]" in summary(one)
