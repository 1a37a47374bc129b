"""Online learning.

Judges, win rates, pairs, and the loop that approaches the exact answers on a tree of tokens.
"""

import functools

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.lm import (
    CausalLM,
    JudgedCompletions,
    as_rows,
    completion_pairs,
    draw_judged,
    draw_pairs,
    judged_completions,
    pairwise_judge,
    reward_judge,
    trainer,
    tree_completions,
    tree_judge,
    tree_policy,
)
from prefsim.loops import judged_samples, sampled_pairs
from prefsim.loops.rounds import play_rounds
from prefsim.loops.self_play import win_rates
from prefsim.solvers import optimal_policy, solve_nash
from prefsim.worlds import ContextualBandit, PreferenceGame, TokenTree

TREE = TokenTree.random(3, 2, seed=0, end_token=2, n_contexts=2)
PROMPTS = [[0], [1]]
GAME = PreferenceGame.random(TREE.n_sequences, seed=3, batch_shape=(2,)).preference
LEAVES = tree_completions(TREE)
PLACES = {tuple(leaf): i for i, leaf in enumerate(LEAVES)}
EXACT = tree_judge(TREE, GAME, PROMPTS)
LENGTH = reward_judge(lambda prompt, completion: len(completion))


def rows(*lists):
    return as_rows([list(each) for each in lists], depth=2)


@pytest.fixture(scope="module")
def start():
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
    return CausalLM.from_config(config, seed=0)


@pytest.fixture(scope="module")
def reference(start):
    return tree_policy(start, TREE, PROMPTS)


def total_variation(first, second):
    return 0.5 * np.abs(first - second).sum(axis=-1).max()


# --- judges


def test_rewards_are_compared_by_bradley_terry():
    seen = []

    def reward(prompt, completion):
        seen.append((prompt, completion))
        return {"bad": 0.0, "fair": 1.0, "good": 3.0}[completion]

    prompt, first, second = (
        as_rows(["a", "b"]),
        rows(["good", "bad"], ["fair", "fair"]),
        rows(["fair"], ["bad"]),
    )
    found = reward_judge(reward, scale=0.5)(prompt, first, second)
    np.testing.assert_allclose(
        found[..., 0], 1 / (1 + np.exp(-0.5 * np.array([[2.0, -1.0], [1.0, 1.0]])))
    )
    assert sorted(seen) == [("a", "bad"), ("a", "fair"), ("a", "good"), ("b", "bad"), ("b", "fair")]
    hard = reward_judge(reward, scale=np.inf)(prompt, first, second)
    np.testing.assert_array_equal(hard[..., 0], [[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(
        reward_judge(reward, scale=np.inf)(prompt[:1], first[:1], first[:1]),
        [[[0.5, 1.0], [0.0, 0.5]]],
    )


def test_rewards_in_one_call():
    """A reward model sees every different completion once, all of them together.

    It may answer with a tensor.
    """
    calls = []

    def model(prompts, completions):
        calls.append((prompts, completions))
        return torch.tensor([float(len(text)) for text in completions], requires_grad=False)

    first = rows(["aaa", "a"], ["aa", "aa"])
    prompt = as_rows(["p", "q"])
    batched, single = (
        reward_judge(f, batched=b)(prompt, first, first)
        for f, b in ((model, True), (lambda p, c: len(c), False))
    )
    np.testing.assert_array_equal(batched, single)
    assert calls == [(["p", "p", "q"], ["aaa", "a", "aa"])]
    with pytest.raises(ValueError, match="one number for each of 3 completions"):
        reward_judge(lambda prompts, completions: [1.0], batched=True)(prompt, first, first)


def test_a_reward_may_fail():
    def reward(prompt, completion):
        if completion == "slow":
            raise TimeoutError
        return None if completion == "odd" else 1.0

    prompt, texts = as_rows(["p"]), rows(["slow", "fine", "odd"])
    found = reward_judge(reward, abstain_on=(TimeoutError,))(prompt, texts, texts)
    np.testing.assert_array_equal(
        np.isnan(found[0]), [[True, True, True], [True, False, True], [True, True, True]]
    )
    with pytest.raises(TimeoutError):
        reward_judge(reward)(prompt, texts, texts)
    with pytest.raises(ValueError, match="finite or NaN, got inf"):
        reward_judge(lambda p, c: np.inf)(prompt, texts, texts)

    def down(prompts, completions):
        raise ConnectionError

    assert np.isnan(
        reward_judge(down, batched=True, abstain_on=(ConnectionError,))(prompt, texts, texts)
    ).all()


def test_a_judge_that_likes_what_it_reads_first():
    """Asked in both orders, once each; the bias cancels."""
    asked = []

    def prefer(prompt, first, second):
        asked.append((first, second))
        return 0.5 + 0.1 * (len(first) - len(second)) + 0.05

    texts = rows(["a", "aa", "aaa", "aa"])
    found = pairwise_judge(prefer)(as_rows(["p"]), texts, texts)[0]
    lengths = np.array([1, 2, 3, 2])
    np.testing.assert_allclose(found, 0.5 + 0.1 * (lengths[:, None] - lengths), atol=1e-15)
    assert len(asked) == len(set(asked)) == 6


def test_a_judge_may_abstain():
    def prefer(prompt, first, second):
        if {first, second} == {"a", "b"}:
            raise TimeoutError
        return {"c": None, "d": np.nan, "e": -1.0}.get(first, True)

    texts = rows(["a", "b", "c", "d", "e"])
    found = pairwise_judge(prefer, abstain_on=(TimeoutError,))(as_rows(["p"]), texts, texts)[0]
    np.testing.assert_array_equal(np.isnan(found), ~np.eye(5, dtype=bool))
    with pytest.raises(TimeoutError):
        pairwise_judge(prefer)(as_rows(["p"]), texts, texts)


@pytest.mark.parametrize("text", ["a", [3, 4], [{"role": "user", "content": "a"}]])
def test_prompts_and_completions_of_every_kind(text):
    other = [*text, *text] if not isinstance(text, str) else "aa"
    found = reward_judge(lambda p, c: len(c), scale=np.inf)(
        as_rows([text]), rows([text, other]), rows([text])
    )
    np.testing.assert_array_equal(found, [[[0.5], [1.0]]])
    longer = pairwise_judge(lambda p, a, b: len(a) > len(b))
    np.testing.assert_array_equal(longer(as_rows([text]), rows([text, other]), rows([text])), found)


# --- samples and pairs


def test_samples(start, reference):
    found = judged_completions(start, EXACT, PROMPTS * 3, n_samples=4, seed=1, max_new_tokens=2)
    again = judged_completions(
        start, EXACT, PROMPTS * 3, n_samples=4, seed=np.random.default_rng(1), max_new_tokens=2
    )
    assert found.completions.tolist() == again.completions.tolist()
    places = np.array([[PLACES[tuple(ids)] for ids in row] for row in found.completions])
    context = np.array([0, 1] * 3)
    np.testing.assert_allclose(found.logp, reference.log_probs[context[:, None], places], atol=1e-5)
    np.testing.assert_array_equal(
        found.preference, GAME[context[:, None, None], places[:, :, None], places[:, None, :]]
    )
    np.testing.assert_allclose(
        found.win_rate, (found.preference.sum(axis=-1) - 0.5) / 3, atol=1e-14
    )
    pairs = completion_pairs(found, pairing="all", labels="soft")
    assert len(pairs) == 6 * 6
    assert (pairs.chosen_score >= pairs.rejected_score).all()
    both = zip(pairs.chosen, pairs.rejected, strict=True)
    where = [
        (context[i // 6], PLACES[tuple(chosen)], PLACES[tuple(rejected)])
        for i, (chosen, rejected) in enumerate(both)
    ]
    np.testing.assert_array_equal(pairs.prob, [GAME[i] for i in where])
    np.testing.assert_allclose(
        pairs.old_chosen, [reference.log_probs[x, c] for x, c, _ in where], atol=1e-5
    )
    np.testing.assert_allclose(
        pairs.old_rejected, [reference.log_probs[x, r] for x, _, r in where], atol=1e-5
    )


@pytest.mark.parametrize("labels", ["rank", "soft", "sampled"])
@pytest.mark.parametrize("pairing", ["all", "best_worst"])
def test_pairs_are_those_of_the_tabular_loop(reference, pairing, labels):
    """The same samples make the same pairs with the same numbers."""

    def judge(prompt, first, second):
        return GAME[prompt[:, None, None], first[:, :, None], second[:, None, :]]

    samples = judged_samples(
        reference, judge, np.array([0, 1, 1]), n_samples=4, include_self=False, seed=0
    )
    wanted = sampled_pairs(samples, reference, pairing=pairing, labels=labels, seed=5)
    texts = as_rows([[LEAVES[i] for i in row] for row in samples.responses], depth=2)
    logp = np.take_along_axis(reference.log_probs[samples.prompt], samples.responses, axis=-1)
    same = JudgedCompletions(
        as_rows([PROMPTS[i] for i in samples.prompt]),
        texts,
        logp,
        samples.preference,
        samples.win_rate,
    )
    found = completion_pairs(same, pairing=pairing, labels=labels, seed=5)
    assert found.prompt == [PROMPTS[i] for i in wanted.prompt]
    assert (found.chosen, found.rejected) == (
        [LEAVES[i] for i in wanted.chosen],
        [LEAVES[i] for i in wanted.rejected],
    )
    for name in ("prob", "chosen_score", "rejected_score", "old_chosen", "old_rejected"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_win_rates_leave_abstentions_out():
    table = np.array([[0.5, 0.9, np.nan], [0.1, 0.5, np.nan], [np.nan, np.nan, 0.5]])
    np.testing.assert_allclose(win_rates(table), [0.7, 0.3, 0.5])
    np.testing.assert_allclose(win_rates(table, include_self=False), [0.9, 0.1, np.nan])
    np.testing.assert_allclose(
        win_rates(table, weight=[1.0, 3.0, 5.0]), [(0.5 + 2.7) / 4, (0.1 + 1.5) / 4, 0.5]
    )


def test_pairs_without_a_judgement_are_left_out(start):
    def prefer(prompt, first, second):
        return None if prompt == [0] or [2] in (first, second) else len(first) > len(second)

    samples = judged_completions(
        start, pairwise_judge(prefer), PROMPTS * 20, n_samples=4, seed=0, max_new_tokens=2
    )
    pairs = completion_pairs(samples, pairing="all")
    whole = completion_pairs(
        judged_completions(start, EXACT, PROMPTS * 20, n_samples=4, seed=0, max_new_tokens=2),
        pairing="all",
    )
    equal = sum(c == r for c, r in zip(whole.chosen, whole.rejected, strict=True))
    assert 0 < len(pairs) < len(whole)
    for prompt, chosen, rejected in zip(pairs.prompt, pairs.chosen, pairs.rejected, strict=True):
        assert chosen == rejected or (prompt == [1] and [2] not in (chosen, rejected))
    assert equal > 0
    assert np.isfinite([pairs.chosen_score, pairs.rejected_score]).all()
    silent = judged_completions(
        start, reward_judge(lambda p, c: None), PROMPTS, n_samples=2, seed=0, max_new_tokens=2
    )
    with pytest.raises(ValueError, match="abstained from every one of 2 pairs"):
        completion_pairs(silent)
    with pytest.raises(ValueError, match="abstained from every one of 8 completions"):
        draw_judged(PROMPTS, reward_judge(lambda p, c: None), max_new_tokens=2)(
            start, start, np.random.default_rng(0)
        )


@pytest.mark.parametrize("other", [False, True])
def test_win_rates_against_a_mixture(start, other):
    """Weighted draws stand for draws from the mixture, of the policy or of another opponent."""
    reference = CausalLM.from_config(start.log_prob_model.plain.config, seed=2)
    opponent = CausalLM.from_config(start.log_prob_model.plain.config, seed=3) if other else None
    kappa = 0.5
    found = judged_completions(
        start,
        EXACT,
        [[0]] * 20,
        n_samples=100,
        opponent=opponent,
        reference=reference,
        mixture=kappa,
        seed=0,
        max_new_tokens=2,
        batch_size=20,
    )
    first, second = (
        tree_policy(p, TREE, PROMPTS).log_probs[0] for p in (opponent or start, reference)
    )
    mixed = np.exp((1 - kappa) * first + kappa * second)
    exact, plain = GAME[0] @ (mixed / mixed.sum()), GAME[0] @ np.exp(first)
    places = np.array([[PLACES[tuple(ids)] for ids in row] for row in found.completions])
    assert np.abs(exact - plain).max() > 0.05
    seen = [y for y in range(7) if (places == y).sum() > 30]
    assert len(seen) >= 4
    for y in seen:
        assert found.win_rate[places == y].mean() == pytest.approx(exact[y], abs=0.02)


def test_judges_read_text_where_there_is_a_tokenizer(llama):
    seen = []

    def reward(prompt, completion):
        seen.append((prompt, completion))
        return len(completion)

    draw = draw_pairs(
        ["the cat", "was it a good film?", "hello"],
        reward_judge(reward),
        n_samples=3,
        per_round=2,
        max_new_tokens=5,
    )
    pairs = draw(llama, llama, np.random.default_rng(0))
    assert {prompt for prompt, _ in seen} == set(pairs.prompt) and len(set(pairs.prompt)) == 2
    assert all(isinstance(text, str) for row in seen for text in row)
    assert all(isinstance(token, int) for ids in pairs.chosen for token in ids)
    lengths = [
        [len(llama.decode(ids)) for ids in column] for column in (pairs.chosen, pairs.rejected)
    ]
    assert (np.array(lengths[0]) >= lengths[1]).all()
    np.testing.assert_allclose(
        pairs.old_chosen, llama.log_prob(pairs.prompt, pairs.chosen), atol=1e-5
    )


# --- the loop

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
        ({"judge": lambda p, a, b: np.full((2, 3, 3), 1.5)}, r"must lie in \[0, 1\] or be NaN"),
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
