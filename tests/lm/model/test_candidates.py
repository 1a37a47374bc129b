"""Candidates of a language model: scores by sums and means, equal ones once, and decisions."""

import numpy as np
import pytest
import torch
from lm_made import byte_tokenizer, small_llama

from prefsim.analysis import map_decision, mbr_decision, utility_probability
from prefsim.lm import CausalLM, score_candidates

PROMPTS = [[5, 9], [7], [5, 9]]
COMPLETIONS = [
    [[11, 2], [30, 31, 2], [11, 2], [12, 2]],
    [[40, 2], [40, 2]],
    [[11, 2], [11, 12, 13, 2]],
]


@pytest.fixture(scope="module")
def policy():
    return CausalLM.from_config(small_llama(64), seed=0, dtype="float64")


@pytest.mark.parametrize("power", [0.0, 1.0, 0.5])
def test_scores_are_log_probabilities_over_a_power_of_the_length(policy, power):
    found = score_candidates(policy, PROMPTS, COMPLETIONS, length_power=power, batch_size=2)
    assert found.utility.shape == found.distinct.shape == (3, 4)
    assert (found.utility.dtype, found.distinct.dtype) == (torch.float64, torch.bool)
    for i, answers in enumerate(COMPLETIONS):
        for k, answer in enumerate(answers):
            alone = float(policy.log_prob([PROMPTS[i]], [answer])) / len(answer) ** power
            assert float(found.utility[i, k]) == pytest.approx(alone, rel=1e-12)
    assert found.distinct.tolist() == [
        [True, True, False, True],
        [True, False, False, False],
        [True, True, False, False],
    ]
    assert (found.utility[1:, 2:] == -torch.inf).all()


def test_equal_completions_of_a_prompt_are_scored_once(policy, monkeypatch):
    scored = []
    plain = CausalLM.log_prob

    def counted(self, prompts, completions, **options):
        scored.extend(completions)
        return plain(self, prompts, completions, **options)

    monkeypatch.setattr(CausalLM, "log_prob", counted)
    score_candidates(policy, PROMPTS, COMPLETIONS, length_power=0.0)
    assert len(scored) == 6


def test_decisions_over_candidates(policy):
    found = score_candidates(policy, PROMPTS, COMPLETIONS, length_power=0.0)
    probs = utility_probability(found.utility, 0.5, found.distinct)
    np.testing.assert_allclose(probs.sum(dim=-1), 1.0)
    assert (probs[~found.distinct] == 0).all()
    assert probs[1, 0] == 1.0
    best = map_decision(found.utility, found.distinct)
    same = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    agreed = mbr_decision(probs, same, found.distinct)
    assert best.choice.tolist() == agreed.choice.tolist()
    np.testing.assert_allclose(agreed.value, probs.max(dim=-1).values)


def test_texts_of_the_same_tokens_are_one():
    policy = CausalLM.from_config(small_llama(320), byte_tokenizer(), seed=0)
    found = score_candidates(
        policy, ["the cat"], [[" sat on", " on the log", " sat on"]], length_power=1.0
    )
    assert found.distinct.tolist() == [[True, True, False]]
    assert found.utility[0, 0] == found.utility[0, 2]


def test_nothing_to_score(policy):
    found = score_candidates(policy, [], [], length_power=0.0)
    assert found.utility.shape == (0, 0)


@pytest.mark.parametrize(
    ("prompts", "completions", "options", "message"),
    [
        ([[5]], [], {}, "two lists of one length, got 1 and 0"),
        ([[5]], [[]], {}, r"at least one completion for each prompt, got \[\] in row 0"),
        (["a"], ["b"], {}, "must be a list of at least one completion"),
        ([[5]], [[[7]]], {"length_power": -1.0}, "length_power must be"),
        ([[5]], [[[7]]], {"batch_size": 0}, "batch_size must be"),
        ([[5], [6]], [[[7]], [[8], [99]]], {}, "candidates of prompt 1: row 1: "),
    ],
)
def test_what_is_refused(policy, prompts, completions, options, message):
    with pytest.raises(ValueError, match=message):
        score_candidates(policy, prompts, completions, **({"length_power": 0.0} | options))
