"""Unlearning of language models: one text is forgotten, another with a prompt of its own kept."""

import functools

import numpy as np
import pytest
import torch
from lm_made import random_ids

from prefsim import losses
from prefsim.lm import TextComparisons
from prefsim.solvers import fit

RNG = np.random.default_rng(0)
KEPT_PROMPT, KEPT, GONE_PROMPT, GONE = (random_ids(RNG, 4) for _ in range(4))
DATA = TextComparisons(KEPT_PROMPT, KEPT, GONE, rejected_prompt=GONE_PROMPT)
STEP = {"steps": 1, "batch_size": 4, "learning_rate": 1e-3, "order": "given", "progress": False}


@pytest.fixture(scope="module")
def reference():
    from lm_made import small_llama

    from prefsim.lm import CausalLM

    return CausalLM.from_config(small_llama(64), seed=7, dtype="float64")


def next_tokens(policy, prompt, completion):
    """Log-probabilities of every next token at the places of a completion, ``(T, vocabulary)``."""
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([prompt + completion])).logits[0]
    return torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1].numpy()


def test_each_text_answers_its_own_prompt(tiny64, reference):
    kept = tiny64.log_prob(KEPT_PROMPT, KEPT).detach().numpy()
    gone = (
        (tiny64.log_prob(GONE_PROMPT, GONE) - reference.log_prob(GONE_PROMPT, GONE))
        .detach()
        .numpy()
    )
    forgetting = 4 * np.logaddexp(0, 0.5 * gone)
    likelihood = -kept / [len(ids) for ids in KEPT]
    loss = functools.partial(losses.npo_rt, beta=0.5, retain_weight=2.0)
    found = fit(tiny64, loss, DATA, reference=reference, **STEP)
    assert found.value == pytest.approx((forgetting + 2 * likelihood).mean(), rel=1e-9)

    divergence = []
    for prompt, completion in zip(KEPT_PROMPT, KEPT, strict=True):
        theirs, ours = (next_tokens(p, prompt, completion) for p in (reference, tiny64))
        divergence.append((np.exp(theirs) * (theirs - ours)).sum(-1).mean())
    loss = functools.partial(losses.npo_kl, beta=0.5, retain_weight=2.0)
    found = fit(tiny64, loss, DATA, reference=reference, **STEP)
    assert found.value == pytest.approx((forgetting + 2 * np.asarray(divergence)).mean(), rel=1e-8)


def test_the_kept_text_stays_while_the_other_goes(tiny64):
    def change(loss):
        options = STEP | {"steps": 20, "learning_rate": 1e-2, "optimizer": "sgd"}
        policy = fit(tiny64, loss, DATA, reference=tiny64, **options).policy
        return [
            float((policy.log_prob(*text) - tiny64.log_prob(*text)).mean().detach())
            for text in ((KEPT_PROMPT, KEPT), (GONE_PROMPT, GONE))
        ]

    kept, gone = change(losses.npo_rt)
    kept_alone, gone_alone = change(functools.partial(losses.npo_rt, retain_weight=0.0))
    assert gone < -1
    assert gone_alone < -1
    assert kept > kept_alone


def test_prompts_go_along_with_their_rows():
    assert DATA.take([2, 0]).rejected_prompt == [GONE_PROMPT[2], GONE_PROMPT[0]]
    assert DATA.sequences(losses.PairLogps)[1] == [
        (KEPT_PROMPT[1], KEPT[1]),
        (GONE_PROMPT[1], GONE[1]),
    ]
    plain = TextComparisons(KEPT_PROMPT, KEPT, GONE)
    assert plain.take([0]).rejected_prompt is None
    with pytest.raises(ValueError, match="rejected_prompt must have as many rows as prompt"):
        TextComparisons(KEPT_PROMPT, KEPT, GONE, rejected_prompt=GONE_PROMPT[:2])
    with pytest.raises(ValueError, match="improve answers to one prompt, got rejected_prompt"):
        DATA.sequences(losses.SelfImprovementLogps)
