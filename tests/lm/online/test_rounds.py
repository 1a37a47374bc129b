"""Online learning.

Judges, win rates, pairs, and the loop that approaches the exact answers on a tree of tokens.
"""

import functools

import numpy as np
import pytest
import torch
from lm_tree import EXACT, GAME, LEAVES, LENGTH, PROMPTS, TREE, total_variation

from prefsim import losses
from prefsim.lm import (
    draw_judged,
    draw_pairs,
    pairwise_judge,
    reward_judge,
    trainer,
    tree_judge,
    tree_policy,
)
from prefsim.loops.rounds import play_rounds
from prefsim.solvers import optimal_policy, solve_nash
from prefsim.worlds import ContextualBandit

OPTIONS = {
    "steps": 40,
    "batch_size": 64,
    "learning_rate": 5e-3,
    "schedule": "cosine",
    "max_grad_norm": None,
}


def played(start, loss, draw, rounds, *, reference=None, extragradient=False, **changes):
    train = trainer(**OPTIONS | changes)
    *_, last = play_rounds(
        start,
        draw,
        loss,
        rounds=rounds,
        seed=0,
        reference=reference,
        extragradient=extragradient,
        train=train,
    )
    return tree_policy(last.policy, TREE, PROMPTS).probs


def test_online_dpo_approaches_the_optimum(start, reference):
    """A reward function as judge: the optimum is that of the reward."""
    world = TREE.to_bandit()
    reward = {
        (tuple(x), tuple(y)): 2 * world.reward[i, j]
        for i, x in enumerate(PROMPTS)
        for j, y in enumerate(LEAVES)
    }
    judge = reward_judge(lambda prompt, completion: reward[tuple(prompt), tuple(completion)])
    draw = draw_pairs(
        PROMPTS * 300, judge, n_samples=2, labels="soft", max_new_tokens=2, batch_size=300
    )
    found = played(start, functools.partial(losses.dpo, beta=2.0), draw, 1, reference=start)
    exact = optimal_policy(2 * world.reward, reference.probs, beta=2.0)
    assert total_variation(reference.probs, exact) > 0.25
    assert total_variation(found, exact) < 0.04


NASH = {
    "inpo": (
        functools.partial(losses.inpo, step=1.0, tau=0.5),
        {"labels": "soft", "n_samples": 2},
        {},
    ),
    "nash_md": (
        functools.partial(losses.mirror_descent, step=1.0, tau=1 / 3),
        {"pairing": "all", "mixture": 1 / 3, "n_samples": 6},
        {},
    ),
    "egpo": (
        functools.partial(losses.mirror_descent, step=1.0, tau=0.5),
        {"pairing": "all", "n_samples": 6},
        {"extragradient": True},
    ),
}


@pytest.mark.parametrize("name", NASH)
def test_sampled_play_approaches_the_equilibrium(start, reference, name):
    """Nash-MD with the penalty τ/(1 + ητ) has the equilibrium of the penalty τ as its mixture.

    The last policy is here in the place of the mixture's.
    """
    loss, options, loop = NASH[name]
    if options.get("mixture"):
        options = options | {"reference": start}
    draw = draw_pairs(
        PROMPTS * (150 if options["n_samples"] == 2 else 40),
        EXACT,
        max_new_tokens=2,
        batch_size=300,
        **options,
    )
    found = played(start, loss, draw, 3, reference=start, **loop)
    exact = solve_nash(GAME, method="regularised", reference=reference.probs, tau=0.5).policy
    if name == "nash_md":
        mixed = found ** (2 / 3) * reference.probs ** (1 / 3)
        found = mixed / mixed.sum(axis=-1, keepdims=True)
    assert total_variation(reference.probs, exact) > 0.1
    assert total_variation(found, exact) < 0.05


@pytest.mark.parametrize("name", ["sppo", "dno"])
def test_sampled_steps_are_those_of_multiplicative_weights(start, reference, name):
    loss = {
        "sppo": functools.partial(losses.sppo, beta=0.5),
        "dno": functools.partial(losses.dno, step=2.0),
    }[name]
    draw = draw_pairs(
        PROMPTS * 40, EXACT, n_samples=6, pairing="all", max_new_tokens=2, batch_size=300
    )
    found = played(start, loss, draw, 2)
    exact = solve_nash(
        GAME, method="mwu", initial=reference.probs, step=2.0, max_iterations=2, tolerance=0.0
    ).policy
    assert total_variation(reference.probs, exact) > 0.15
    assert total_variation(found, exact) < 0.06


def test_single_responses_are_enough_for_a_step_of_multiplicative_weights(start, reference):
    draw = draw_judged(PROMPTS * 40, EXACT, n_samples=6, max_new_tokens=2, batch_size=300)
    found = played(start, functools.partial(losses.sppo_single, beta=0.5), draw, 2)
    exact = solve_nash(
        GAME, method="mwu", initial=reference.probs, step=2.0, max_iterations=2, tolerance=0.0
    ).policy
    # What regressions in pairs cancel, the normaliser, is noise here.
    assert total_variation(found, exact) < 0.6 * total_variation(reference.probs, exact)


def test_the_policy_gradient_of_nash_md_moves_towards_the_equilibrium(start, reference):
    tau = 0.5
    draw = draw_judged(PROMPTS * 100, EXACT, n_samples=4, max_new_tokens=2, batch_size=300)
    # One plain step a round: the gradient is right where the samples are the policy's own.
    one_step = {
        "steps": 1,
        "batch_size": 800,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "constant",
        "warmup": 0.0,
    }
    found = played(
        start, functools.partial(losses.nash_md_pg, tau=tau), draw, 12, reference=start, **one_step
    )
    exact = solve_nash(GAME, method="regularised", reference=reference.probs, tau=tau).policy
    assert total_variation(found, exact) < 0.6 * total_variation(reference.probs, exact)


def test_a_seed_is_a_run(start):
    draw = draw_pairs(
        PROMPTS * 4, LENGTH, n_samples=3, labels="sampled", per_round=5, max_new_tokens=2
    )

    def run(seed):
        train = trainer(steps=2, batch_size=4, learning_rate=1e-2)
        return list(play_rounds(start, draw, losses.sppo, rounds=2, seed=seed, train=train))

    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    first, second, other = run(0), run(0), run(1)
    for one, two in zip(first, second, strict=True):
        assert (one.pairs.prompt, one.pairs.chosen, one.pairs.rejected) == (
            two.pairs.prompt,
            two.pairs.chosen,
            two.pairs.rejected,
        )
        for name, value in one.policy.model.state_dict().items():
            assert torch.equal(value, two.policy.model.state_dict()[name]), name
    assert first[1].pairs.chosen != other[1].pairs.chosen
    assert all(torch.equal(value, start.model.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_samples": 1}, "n_samples must be"),
        ({"mixture": 1.5}, "mixture must lie"),
        ({"mixture": 0.5}, "needs the reference"),
        ({"prompts": []}, "at least one, got 0"),
        ({"judge": 3}, "judge must be a function"),
        (
            {"judge": lambda p, a, b: np.zeros((1, 2))},
            "preferences of the judge must have trailing shape",
        ),
        ({"judge": lambda p, a, b: np.full((2, 3, 3), 1.5)}, r"must lie in \[0, 1\]"),
        ({"judge": lambda p, a, b: np.full((2, 3, 3), 0.7)}, "P \\+ Pᵀ = 1"),
        ({"per_round": 3}, "per_round must be"),
        ({"pairing": "some"}, "pairing must be"),
        ({"labels": "none"}, "labels must be"),
    ],
)
def test_bad_draws(start, change, message):
    options = {"prompts": PROMPTS, "judge": LENGTH, "n_samples": 3, "max_new_tokens": 2} | change
    with pytest.raises(ValueError, match=message):
        draw_pairs(options.pop("prompts"), options.pop("judge"), **options)(
            start, start, np.random.default_rng(0)
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reward_judge(3), "reward must be a function"),
        (lambda: reward_judge(len, scale=0.0), "scale must be"),
        (lambda: pairwise_judge(None), "prefer must be a function"),
        (lambda: trainer(steps=0), "steps must be"),
        (lambda: trainer(out="here"), "out has no meaning for the rounds of a loop"),
        (
            lambda: tree_judge(TREE, ContextualBandit(reward=[[0.0, 1.0]]).preference, PROMPTS),
            "preference",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
