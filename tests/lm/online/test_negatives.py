"""D²O online with a language model: samples drawn anew from the policy of each round."""

import functools

import numpy as np
import pytest
from lm_made import random_ids, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, draw_negatives, trainer
from prefsim.loops import play_rounds

RNG = np.random.default_rng(0)
PROMPTS, REJECTED = random_ids(RNG, 4), random_ids(RNG, 4)


def test_every_round_stands_against_the_policy_of_then():
    start = CausalLM.from_config(small_llama(64), seed=0)
    draw = draw_negatives(PROMPTS, REJECTED, n_samples=2, per_round=3, max_new_tokens=4)
    train = trainer(steps=4, batch_size=3, learning_rate=1e-2, optimizer="sgd", progress=False)
    loss = functools.partial(losses.d2o, beta=0.1, alpha=0.5)
    rounds = list(play_rounds(start, draw, loss, rounds=2, seed=5, train=train))
    policy, rng = start, np.random.default_rng(5)
    for played in rounds:
        rows = np.sort(rng.permutation(4)[:3])
        asked = [PROMPTS[row] for row in rows]
        assert played.pairs.prompt == asked
        assert played.pairs.rejected == [REJECTED[row] for row in rows]
        drawn = policy.sample(asked, 2, rng, max_new_tokens=4)
        assert played.pairs.samples == drawn
        policy = train(policy, loss, played.pairs, policy)
    fallen = policy.log_prob(PROMPTS, REJECTED) - start.log_prob(PROMPTS, REJECTED)
    assert float(fallen.mean()) < 0


def test_bad_input():
    with pytest.raises(ValueError, match="as many rows as prompts, 4, got 1"):
        draw_negatives(PROMPTS, REJECTED[:1])
    with pytest.raises(ValueError, match="n_samples must be an integer >= 1, got 0"):
        draw_negatives(PROMPTS, REJECTED, n_samples=0)
    with pytest.raises(ValueError, match=r"per_round must be an integer in \[1, 4\], got 5"):
        draw_negatives(PROMPTS, REJECTED, per_round=5)(None, None, np.random.default_rng(0))
