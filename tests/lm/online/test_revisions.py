"""Rounds of self-improvement: drafts that were drawn are shown in the words of the prompt."""

import numpy as np
import pytest

from prefsim import losses
from prefsim.lm import completion_pairs, draw_pairs, judged_completions, reward_judge, trainer
from prefsim.lm.data.comparisons import revision_prompt
from prefsim.loops.rounds import play_rounds

CHAT = [[{"role": "user", "content": "was it a good film?"}], [{"role": "user", "content": "hi"}]]
TEXT = ["was it a good film?", "hello"]
IDS = [[5, 6, 7], [8, 9]]
JUDGE = reward_judge(lambda prompt, answer: -len(answer))
OPTIONS = {"n_samples": 2, "max_new_tokens": 4}


@pytest.mark.parametrize("prompts", [CHAT, TEXT, IDS], ids=["chat", "text", "ids"])
def test_srpo_plays_rounds_with_prompts_of_every_form(llama, prompts):
    shown = []

    def revise(prompt, draft):
        shown.append((prompt, draft))
        return revision_prompt(prompt, draft)

    draw = draw_pairs(prompts, JUDGE, revise=revise, **OPTIONS)
    train = trainer(steps=1, batch_size=2, learning_rate=1e-3)
    *_, last = play_rounds(llama, draw, losses.srpo, rounds=2, seed=0, reference=llama, train=train)
    assert np.isfinite(last.policy.log_prob(prompts, last.pairs.chosen).numpy()).all()
    assert {type(draft) for _, draft in shown} == ({list} if prompts is IDS else {str})
    # What is shown is what was drawn.
    pairs = last.pairs
    drawn = [*pairs.chosen, *pairs.rejected]
    words = drawn if prompts is IDS else [llama.decode(ids) for ids in drawn]
    assert all(draft in words for _, draft in shown[-4:])


@pytest.mark.parametrize("prompts", [CHAT, TEXT], ids=["chat", "text"])
def test_drawn_drafts_without_words_are_refused(llama, prompts):
    samples = judged_completions(llama, JUDGE, prompts, seed=0, **OPTIONS)
    train = trainer(steps=1, batch_size=2)
    with pytest.raises(
        ValueError, match="a prompt that shows a draft needs both as text, both as t"
    ):
        train(llama, losses.srpo, completion_pairs(samples), llama)
