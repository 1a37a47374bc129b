"""The same call on a tree of tokens and on a transformer.

Both find the same policy, which shows that one is a test of the other.
"""

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from lm_made import small_llama

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.lm import (
    CausalLM,
    as_rows,
    trainer,
    tree_completions,
    tree_judge,
    tree_log_probs,
    tree_pairs,
    tree_policy,
)
from prefsim.loops.rounds import play_rounds
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import fit, objective, solve_nash
from prefsim.worlds import ContextualBandit, PreferenceGame, TokenTree

TREE = TokenTree.random(3, 2, seed=0, end_token=2, n_contexts=2)
WORLD = TREE.to_bandit()
PROMPTS = [[0], [1]]
FLIPS = 0.1

OPTIONS = {
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "warmup": 0.05,
    "max_grad_norm": None,
    "order": "given",
    "progress": False,
}
LOSSES = {
    "dpo": functools.partial(losses.dpo, beta=0.5),
    "ipo": functools.partial(losses.ipo, tau=0.3),
    "rdpo": functools.partial(losses.rdpo, beta=0.5, flip_rate=FLIPS),
    "sppo": functools.partial(losses.sppo, beta=0.3),
}


def transformer(seed=0, dtype="float32"):
    # Learned positions: without a first token of its own, rotary ones cannot tell "a" from "a a",
    # whose values are the same.
    from transformers import GPT2Config

    config = GPT2Config(
        vocab_size=3,
        n_embd=24,
        n_layer=1,
        n_head=2,
        n_positions=8,
        bos_token_id=None,
        eos_token_id=2,
        initializer_range=0.2,
    )
    return CausalLM.from_config(config, seed=seed, dtype=dtype)


@pytest.fixture(scope="module")
def start():
    return transformer()


@pytest.fixture(scope="module")
def reference(start):
    return tree_policy(start, TREE, PROMPTS)


def population(reference, name):
    """Every pair with its weight.

    For robust DPO labels are flipped as often as the loss is told.
    """
    pairs = Comparisons.self_play(WORLD, reference)
    return (
        pairs.relabelled((1 - FLIPS) * pairs.prob + FLIPS * (1 - pairs.prob))
        if name == "rdpo"
        else pairs
    )


def total_variation(first, second):
    return 0.5 * np.abs(first - second).sum(axis=-1).max()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-13)])
def test_a_model_is_enumerated(dtype, tolerance):
    policy = transformer(seed=1, dtype=dtype)
    logs = tree_log_probs(policy, TREE, PROMPTS)
    np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1.0, atol=tolerance)
    np.testing.assert_allclose(
        tree_policy(policy, TREE, PROMPTS).log_probs, logs, atol=10 * tolerance
    )
    drawn = policy.sample(PROMPTS, 2000, 0, max_new_tokens=2)
    places = {tuple(leaf): i for i, leaf in enumerate(tree_completions(TREE))}
    for row, probs in zip(drawn, np.exp(logs), strict=True):
        counts = np.bincount([places[tuple(ids)] for ids in row], minlength=len(probs)) / 2000
        # Hoeffding and a union over 14 sequences: a deviation of 0.07 has probability below 1e-7.
        assert np.abs(counts - probs).max() < 0.07


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_training_sees_the_exact_objective(start, reference, name, merge):
    data = population(reference, name)
    pairs = tree_pairs(TREE, data, PROMPTS, merge=merge)
    assert len(pairs) == (2 * 7 * 8 // 2 if merge else 2 * 7 * 7)
    other = transformer(seed=1)
    found = fit(
        start, LOSSES[name], pairs, reference=other, steps=1, batch_size=len(pairs), **OPTIONS
    ).value
    exact = objective(reference, LOSSES[name], data, reference=tree_policy(other, TREE, PROMPTS))
    assert found == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_transformer_finds_the_optimum(start, reference, name):
    data = population(reference, name)
    exact = fit(reference, LOSSES[name], data, reference=reference).policy
    table = TabularPolicy.from_probs(reference.probs)
    np.testing.assert_allclose(
        fit(table, LOSSES[name], data, reference=table).policy.probs, exact.probs, atol=1e-8
    )
    pairs = tree_pairs(TREE, data, PROMPTS)
    trained = fit(
        start, LOSSES[name], pairs, reference=start, steps=100, batch_size=len(pairs), **OPTIONS
    ).policy
    assert total_variation(reference.probs, exact.probs) > 0.1
    assert total_variation(tree_policy(trained, TREE, PROMPTS).probs, exact.probs) <= 0.02
    assert total_variation(tree_policy(start, TREE, PROMPTS).probs, reference.probs) == 0.0


def test_robust_dpo_undoes_the_flips(reference):
    robust, plain = (
        fit(reference, LOSSES[name], population(reference, name), reference=reference).policy
        for name in ("rdpo", "dpo")
    )
    np.testing.assert_allclose(robust.probs, plain.probs, atol=1e-8)


def test_inpo_finds_the_equilibrium(start, reference):
    """Every round on the exact population of the transformer's own pairs.

    Labels are all that the loss sees of the game.
    """
    step, tau = 1.0, 0.5
    game = PreferenceGame.random(TREE.n_sequences, seed=3, batch_shape=(2,))
    world = ContextualBandit(preference=game.preference)
    exact = solve_nash(game, method="regularised", reference=reference.probs, tau=tau).policy

    def pairs_of_round(policy, opponent, rng):
        table = tree_policy(policy, TREE, PROMPTS)
        return tree_pairs(TREE, Comparisons.self_play(world, table), PROMPTS)

    loss = functools.partial(losses.inpo, step=step, tau=tau)
    train = trainer(steps=40, batch_size=56, **OPTIONS | {"learning_rate": 5e-3})
    assert total_variation(reference.probs, exact) > 0.1
    *_, last = play_rounds(
        start, pairs_of_round, loss, rounds=5, seed=0, reference=start, train=train
    )
    assert total_variation(tree_policy(last.policy, TREE, PROMPTS).probs, exact) <= 0.02


def test_a_policy_on_the_tree_learns_from_the_same_call(reference):
    """The data of one are those of the other: rows, weights and columns."""
    data = population(reference, "sppo")
    pairs = tree_pairs(TREE, data, PROMPTS, merge=False)
    leaves = tree_completions(TREE)
    assert pairs.chosen == [leaves[i] for i in data.chosen]
    assert pairs.prompt == [PROMPTS[i] for i in data.prompt]
    for name in ("prob", "weight", "chosen_score", "rejected_score", "old_chosen", "old_rejected"):
        np.testing.assert_array_equal(getattr(pairs, name), getattr(data, name))
    some = Comparisons(
        [0, 1, 0], [1, 2, 2], [2, 1, 1], prob=[0.25, 1.0, 0.75], weight=[0.2, 0.3, 0.5]
    )
    merged = tree_pairs(TREE, some, PROMPTS)
    assert (merged.prompt, merged.chosen, merged.rejected) == (
        [[0], [1]],
        [leaves[2], leaves[2]],
        [leaves[1], leaves[1]],
    )
    np.testing.assert_allclose([merged.prob, merged.weight], [[0.75, 1.0], [0.7, 0.3]])
    weightless = Comparisons([0, 1], [1, 2], [2, 1], weight=[0.0, 1.0])
    assert tree_pairs(TREE, weightless, PROMPTS).prompt == [[1]]


def test_the_judge_reads_tokens():
    judge = tree_judge(TREE, WORLD.preference, PROMPTS)
    leaves = tree_completions(TREE)
    found = judge(
        as_rows([[1], [0]]),
        as_rows([leaves[:3], leaves[2:5]], depth=2),
        as_rows([leaves[3:5], leaves[5:7]], depth=2),
    )
    np.testing.assert_array_equal(found[0], WORLD.preference[1][:3, 3:5])
    np.testing.assert_array_equal(found[1], WORLD.preference[0][2:5, 5:7])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: tree_log_probs(p, TREE, [[0]]), "2 contexts and needs as many prompts, got 1"),
        (lambda p: tree_log_probs(p, TREE, [[0], [3]]), "prompt 1"),
        (
            lambda p: tree_log_probs(p, TokenTree(4, 2), [[0]]),
            "the tree's vocabulary of 4 tokens, got 3",
        ),
        (
            lambda p: tree_log_probs(CausalLM.from_config(small_llama(), seed=0), TREE, PROMPTS),
            "vocabulary of 3 tokens, got 320",
        ),
        (lambda p: tree_pairs(TREE, Comparisons([0], [7], [0]), PROMPTS), "chosen"),
        (lambda p: tree_pairs(TREE, Comparisons([2], [1], [0]), PROMPTS), "prompt"),
        (
            lambda p: tree_pairs(TREE, Comparisons([0], [[1], [1]], [0]), PROMPTS),
            "one data set of 1 rows, got chosen of shape",
        ),
        (lambda p: tree_judge(TREE, WORLD.preference, [[0], [0]]), "prompts must be different"),
        (lambda p: tree_judge(TREE, np.full((2, 3, 3), 0.5), PROMPTS), "preference"),
    ],
)
def test_bad_inputs(start, call, message):
    with pytest.raises(ValueError, match=message):
        call(start)


def test_a_completion_outside_the_tree_is_named():
    judge = tree_judge(TREE, WORLD.preference, PROMPTS)
    with pytest.raises(ValueError, match=r"completion \[0, 2, 1\] is none of the tree's"):
        judge(as_rows([[0]]), as_rows([[[0, 2, 1]]], depth=2), as_rows([[[2]]], depth=2))
    with pytest.raises(ValueError, match=r"prompt \[2\] is none of the tree's"):
        judge(as_rows([[2]]), as_rows([[[2]]], depth=2), as_rows([[[2]]], depth=2))


def test_the_policy_of_the_tree_is_that_of_the_model(reference):
    assert isinstance(reference, TokenTreePolicy)
    assert reference.logits.shape == (2, TREE.n_nodes, 3)


@pytest.mark.slow
def test_the_example(tmp_path, capsys):
    """The figure's run: every method within the bound, and the files are there."""
    spec = importlib.util.spec_from_file_location(
        "bridge_example", Path(__file__).parents[2] / "examples" / "bridge.py"
    )
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.main(["--quick", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert [row["loss"] for row in result["table"]] == list(example.METHODS)
    assert all(criterion["passed"] for criterion in result["criteria"])
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("pass") == len(example.METHODS) + 1
