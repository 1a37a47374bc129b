"""Rounds with rewards: what is drawn and scored, and what it becomes for each kind of loss."""

import functools

import numpy as np
import pytest
import torch
from lm_tree import LEAVES, PLACES, PROMPTS, TREE, total_variation

from prefsim import losses
from prefsim.data import Rollouts
from prefsim.lm import (
    TextRollouts,
    completion_scores,
    draw_scored,
    form_for,
    trainer,
    tree_policy,
    tree_rollouts,
    tree_score,
)
from prefsim.lm.training.loss_evaluator import LossEvaluator
from prefsim.lm.training.reference import as_reference
from prefsim.lm.training.token_rows import token_rows
from prefsim.loops.rounds import play_rounds
from prefsim.losses.registry import container_of
from prefsim.solvers import optimal_policy

SCORE = tree_score(TREE, PROMPTS)
SHORT = {"max_new_tokens": 2, "batch_size": 64}


def drawn(policy, score=SCORE, prompts=PROMPTS, seed=0, **options):
    draw = draw_scored(prompts, score, **SHORT | options)
    return draw(policy, policy, np.random.default_rng(seed))


def reward_of(prompt, completion):
    return TREE.reward[PROMPTS.index(list(prompt)), PLACES[tuple(completion)]]


# --- what is drawn


def test_lists_carry_rewards_and_the_samplers_token_log_probabilities(start):
    data = drawn(start, n_samples=3, prompts=PROMPTS * 2)
    assert isinstance(data, TextRollouts) and data.scores.shape == (4, 3)
    for i, (prompt, row) in enumerate(zip(data.prompt, data.completions, strict=True)):
        for k, completion in enumerate(row):
            assert data.scores[i, k] == reward_of(prompt, completion)
            own, _ = start.token_log_probs([prompt], [completion])
            old = data.old_logp[i, k]
            np.testing.assert_allclose(old[: len(completion)], own[0].numpy(), atol=1e-5)
            assert not old[len(completion) :].any()


def test_pairs_are_neighbours_with_the_better_one_first(start):
    lists = drawn(start, n_samples=5)
    pairs = drawn(start, n_samples=5, form="pairs")
    assert len(pairs) == 4
    for row, (i, k) in enumerate([(0, 0), (0, 2), (1, 0), (1, 2)]):
        both = sorted(zip(lists.scores[i, k : k + 2], lists.completions[i][k : k + 2], strict=True))
        assert [pairs.rejected[row], pairs.chosen[row]] == [text for _, text in both]
        assert (pairs.rejected_score[row], pairs.chosen_score[row]) == tuple(s for s, _ in both)
    expected = start.log_prob(pairs.prompt, pairs.rejected).numpy()
    np.testing.assert_allclose(pairs.old_rejected, expected, atol=1e-5)


def test_preferences_leave_ties_out(start):
    pairs = drawn(start, n_samples=4, form="pairs", prompts=PROMPTS * 8)
    kept = drawn(start, n_samples=4, form="preferences", prompts=PROMPTS * 8)
    assert 0 < len(kept) < len(pairs) == 32
    assert (kept.chosen_score > kept.rejected_score).all()
    assert len(kept) == (pairs.chosen_score > pairs.rejected_score).sum()


def test_best_of_n_is_the_best(start):
    lists = drawn(start, n_samples=6)
    best = drawn(start, n_samples=6, form="demonstrations", kept=1)
    assert best.completion == [
        row[int(scores.argmax())]
        for row, scores in zip(lists.completions, lists.scores, strict=True)
    ]


def test_rejection_sampling_approaches_the_tilted_policy(start, reference):
    """One of 24 draws at temperature ½ is nearly one of the policy times e^{2R}."""
    data = drawn(
        start,
        n_samples=24,
        form="demonstrations",
        kept=1,
        kept_temperature=0.5,
        prompts=PROMPTS * 150,
        batch_size=300,
    )
    tilted = reference.probs * np.exp(2 * TREE.reward)
    tilted /= tilted.sum(axis=1, keepdims=True)
    counts = np.zeros_like(tilted)
    for prompt, completion in zip(data.prompt, data.completion, strict=True):
        counts[PROMPTS.index(prompt), PLACES[tuple(completion)]] += 1 / 150
    distance, before = (
        0.5 * np.abs(tilted - other).sum(axis=1) for other in (counts, reference.probs)
    )
    assert (distance < 0.12).all() and (before > 0.3).all()


def test_what_was_cut_off_has_its_own_reward(start):
    data = drawn(start, n_samples=8, unfinished=-10.0)
    for i, row in enumerate(data.completions):
        for k, completion in enumerate(row):
            ended = completion[-1] == 2
            expected = reward_of(PROMPTS[i], completion) if ended else -10.0
            assert data.scores[i, k] == expected
    assert (data.scores == -10).any() and (data.scores != -10).any()


def test_prompts_without_a_score_are_left_out(start):
    def sometimes(prompt, completion):
        if prompt == [0]:
            raise TimeoutError
        return len(completion)

    data = drawn(start, sometimes, n_samples=2, abstain_on=(TimeoutError,))
    assert data.prompt == [[1]] and len(data.old_logp) == 1
    with pytest.raises(TimeoutError):
        drawn(start, sometimes, n_samples=2)
    with pytest.raises(ValueError, match="every one of 2 prompts has no score"):
        drawn(start, lambda prompt, completion: None)


def test_scores_at_once_are_those_one_by_one(start):
    def at_once(prompts, completions):
        return torch.tensor([SCORE(x, y) for x, y in zip(prompts, completions, strict=True)])

    one, other = drawn(start), drawn(start, at_once, batched=True)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)
    with pytest.raises(ValueError, match="one number for each of 8 completions, got shape"):
        drawn(start, lambda prompts, completions: [1.0], batched=True)
    with pytest.raises(ValueError, match="scores must be finite or NaN, got inf"):
        completion_scores(lambda prompt, completion: np.inf, ["Q"], [["A"]])
    for said, shown in (("much", "'much'"), ([1.0], r"\[1.0\]")):
        with pytest.raises(ValueError, match=f"a score must be a number or None, got {shown}"):
            completion_scores(lambda prompt, completion, said=said: said, ["Q"], [["A"]])


def test_a_score_reads_text_where_there_is_a_tokenizer(llama):
    seen = []
    draw = draw_scored(
        ["was it a good film?"], lambda *both: seen.append(both) or 1.0, max_new_tokens=3
    )
    data = draw(llama, llama, np.random.default_rng(0))
    assert [answer for _, answer in seen] == [llama.decode(ids) for ids in data.completions[0]]
    assert {prompt for prompt, _ in seen} == {"was it a good film?"}


def test_a_round_asks_some_of_the_prompts_and_a_seed_is_a_round(start):
    options = {"prompts": PROMPTS * 20, "per_round": 6, "n_samples": 2}
    first, again, other = (drawn(start, seed=seed, **options) for seed in (0, 0, 1))
    assert len(first) == 6
    assert first.completions == again.completions
    assert first.completions != other.completions


# --- the gradient of the sampled loss, summed over all draws with their probability

BETA = 0.5
EXACT = {
    "reinforce": (functools.partial(losses.reinforce, beta=BETA), 1.0),
    "rloo": (functools.partial(losses.rloo, beta=BETA), 1.0),
    "copg_group": (functools.partial(losses.copg_group, beta=BETA, form="gradient"), 2.0),
    "ppo": (functools.partial(losses.ppo, beta=BETA, reduction="sum"), 1.0),
    "grpo": (
        functools.partial(losses.grpo, beta=BETA, kl="reward", scale=False, reduction="sum"),
        0.5,
    ),
}


def seen_by(policy, loss, data, reference):
    """Return what a loss sees of rollouts, with the graph."""
    kind = container_of(loss)
    evaluator = LossEvaluator(
        policy,
        data,
        token_rows(policy, data, kind),
        loss,
        reference=as_reference(reference, policy),
    )
    model = policy.log_prob_model
    return evaluator.examples(model, model, np.arange(len(data)))


def gradient_of(value, policy):
    parameters = [p for p in policy.log_prob_model.parameters() if p.requires_grad]
    parts = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat([part.ravel() for part in parts if part is not None])


@pytest.fixture(scope="module")
def moved(start):
    """A policy beside its reference: the same model with other weights."""
    policy = start.frozen()
    generator = torch.Generator().manual_seed(3)
    for parameter in policy.log_prob_model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
        parameter.requires_grad_(True)
    return policy


@pytest.mark.parametrize("name", EXACT)
def test_the_expected_gradient_of_a_transformer_is_exact(start, moved, name):
    loss, factor = EXACT[name]
    everything = TextRollouts(PROMPTS, [LEAVES] * 2, TREE.reward)
    logps = seen_by(moved, losses.reinforce, everything, start).container
    worth = logps.scores - BETA * (logps.logps - logps.ref_logps)
    expected = gradient_of((logps.logps.exp() * worth).sum(dim=-1).mean(), moved)
    groups = Rollouts.population(TREE, tree_policy(moved, TREE, PROMPTS), 2)
    seen = seen_by(moved, loss, tree_rollouts(TREE, groups, PROMPTS), start)
    found = gradient_of((seen.weight * loss(seen.container)).sum(), moved)
    assert float(expected.norm()) > 0.05
    torch.testing.assert_close(found, -factor * expected, atol=2e-5, rtol=1e-3)


TRANSFORMER = {
    "rloo": functools.partial(losses.rloo, beta=1.0),
    "ppo": functools.partial(losses.ppo, beta=1.0, reduction="sum"),
    "grpo": functools.partial(losses.grpo, beta=1.0, kl="reward", scale=False, reduction="sum"),
}


@pytest.mark.parametrize("name", TRANSFORMER)
def test_a_transformer_reaches_the_exact_optimum(start, reference, name):
    """At the optimum all rewards are equal, so that nothing is left of the noise of sampling."""
    draw = draw_scored(PROMPTS * 64, SCORE, n_samples=4, max_new_tokens=2, batch_size=128)
    one_step = trainer(
        steps=1,
        batch_size=128,
        order="given",
        learning_rate=1e-2,
        schedule="constant",
        warmup=0.0,
        max_grad_norm=None,
    )
    *_, last = play_rounds(
        start, draw, TRANSFORMER[name], rounds=45, seed=0, reference=start, train=one_step
    )
    exact = optimal_policy(TREE.reward, reference.probs, beta=1.0)
    assert total_variation(reference.probs, exact) > 0.3
    assert total_variation(tree_policy(last.policy, TREE, PROMPTS).probs, exact) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "rows"}, "form must be one of 'lists', 'pairs', 'preferences', 'demonstrations'"),
        ({"n_samples": 1, "form": "pairs"}, "form 'pairs' needs at least 2 completions, got 1"),
        ({"kept": 5}, "kept must be"),
        ({"kept_temperature": -1.0}, "kept_temperature must be"),
        ({"per_round": 3}, "per_round must be"),
        ({"n_samples": 0}, "n_samples must be"),
        ({"unfinished": float("nan")}, "unfinished must be"),
        ({"prompts": []}, "prompts must hold at least one, got 0"),
        ({"score": 3}, "score must be a function"),
        ({"batched": 1}, "batched must be"),
        (
            {"form": "preferences", "score": lambda prompt, answer: 1.0},
            "every one of 4 pairs have the same reward",
        ),
    ],
)
def test_bad_draws(start, change, message):
    with pytest.raises(ValueError, match=message):
        drawn(start, **change)


def test_the_form_that_a_loss_needs():
    forms = {
        "lists": (losses.rloo, losses.grpo, losses.copg_group, losses.infonca),
        "pairs": (losses.copg, losses.p3o),
        "preferences": (losses.dpo, losses.simpo, losses.hinge),
        "demonstrations": (losses.sft,),
    }
    for form, those in forms.items():
        assert {form_for(functools.partial(loss)) for loss in those} == {form}
    with pytest.raises(ValueError, match="sppo takes win rates of a judge, not rewards"):
        form_for(losses.sppo)
    with pytest.raises(ValueError, match="kto takes UnpairedLogps, which rewards of completions"):
        form_for(losses.kto)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tree_score(TREE, PROMPTS, np.zeros((2, 3))), "reward must have shape"),
        (lambda: tree_score(TREE, [[0], [0]]), "prompts must be different"),
        (lambda: SCORE([0], [2, 2]), r"completion \[2, 2\] is none of the tree's"),
        (lambda: SCORE([5], [2]), r"prompt \[5\] is none of the tree's"),
    ],
)
def test_bad_tables(call, message):
    with pytest.raises(ValueError, match=message):
        call()
