"""Completions that are drawn and judged, against exact win rates and the tabular loop."""

import numpy as np
import pytest
from lm_tree import EXACT, GAME, LEAVES, PLACES, PROMPTS, TREE

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
    tree_policy,
)
from prefsim.loops import judged_samples, sampled_pairs
from prefsim.loops.self_play import win_rates


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
