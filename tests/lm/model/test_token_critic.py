"""Values of tokens, against what a reward model says of the beginnings of a response."""

import numpy as np
import pytest
import torch
from lm_made import small_llama

from prefsim import losses
from prefsim.lm import CausalLM, PreferenceModel, TextComparisons, TextRollouts, TokenCritic
from prefsim.lm.training.loss_evaluator import LossEvaluator
from prefsim.lm.training.token_rows import token_rows
from prefsim.solvers import fit

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(3, 64, n).tolist() for n in (3, 1, 5)]
ANSWERS = [RNG.integers(3, 64, n).tolist() for n in (4, 6, 1)]
RETURNS = RNG.normal(size=(3, 1, 6))


def language_model(seed=0):
    return CausalLM.from_config(small_llama(64), seed=seed, dtype="float64")


@pytest.fixture(scope="module")
def critic():
    return TokenCritic(language_model(), seed=0)


@pytest.fixture(scope="module")
def rollouts():
    rows = [[row] for row in ANSWERS]
    return TextRollouts(PROMPTS, rows, np.zeros((3, 1)), returns=RETURNS, old_values=0.5 * RETURNS)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_value_is_the_reward_of_what_has_been_said(critic, batch_size):
    """The state before a token is that of the last token before it."""
    found = critic.numbers(PROMPTS, ANSWERS, batch_size=batch_size)
    assert found.shape == (3, 6) and found.dtype == torch.float64
    scorer = PreferenceModel.around(critic.classifier)
    for row, (x, y) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        for t in range(1, len(y)):
            said = scorer.numbers([x], [y[:t]])[0, 0]
            torch.testing.assert_close(found[row, t], said, rtol=1e-9, atol=1e-12)
        first = scorer.numbers([x[:-1] or x], [x[-1:]])[0, 0] if len(x) > 1 else None
        if first is not None:
            torch.testing.assert_close(found[row, 0], first, rtol=1e-9, atol=1e-12)
        assert not found[row, len(y) :].any()


def test_what_its_loss_sees(critic, rollouts):
    rows = token_rows(critic, rollouts, losses.TokenValues)
    seen = LossEvaluator(critic, rollouts, rows, losses.value_loss).examples(critic, critic, [2, 0])
    values = critic.numbers([PROMPTS[2], PROMPTS[0]], [ANSWERS[2], ANSWERS[0]])
    container = seen.container
    np.testing.assert_array_equal(container.mask.sum(-1), [[1], [4]])
    torch.testing.assert_close(container.values[:, 0], values)
    np.testing.assert_array_equal(container.returns, RETURNS[[2, 0], :, :4])
    np.testing.assert_array_equal(container.old_values, 0.5 * RETURNS[[2, 0], :, :4])
    losses.value_loss(container).sum().backward()
    assert all(p.grad is not None for p in critic.classifier.score.parameters())
    assert next(critic.classifier.base_model.parameters()).grad is not None
    critic.zero_grad()


def test_it_learns_its_returns(rollouts):
    start = TokenCritic(language_model(1), seed=1)
    loss = losses.value_loss
    data = TextRollouts(PROMPTS, rollouts.completions, rollouts.scores, returns=RETURNS)
    options = {"learning_rate": 1e-2, "schedule": "constant", "batch_size": 3, "progress": False}
    found = fit(start, loss, data, steps=60, seed=0, **options)
    first, last = found.history[0, 0], found.history[-1, 0]
    assert last < 0.02 * first
    learned = found.policy.numbers(PROMPTS, ANSWERS)
    np.testing.assert_allclose(learned[2, 0], RETURNS[2, 0, 0], atol=0.2)


def test_a_response_may_end_with_any_token(critic, rollouts):
    """What was cut off may end with the token for padding, which a policy can draw."""
    pad = critic.plain.config.pad_token_id
    ends = [[[5, pad]], [[pad]], [[pad, 6]]]
    data = TextRollouts(PROMPTS, ends, np.zeros((3, 1)), returns=RETURNS[..., :2])
    assert np.isfinite(fit(critic, losses.value_loss, data, steps=1, progress=False).value)


def test_a_saved_reward_model_is_a_critic(tmp_path):
    reward = PreferenceModel(language_model(2), dim=1, seed=2)
    reward.save(tmp_path / "reward")
    critic = TokenCritic.load(tmp_path / "reward", dtype="float64")
    said = reward.numbers([PROMPTS[0]], [ANSWERS[0][:2]])[0, 0]
    torch.testing.assert_close(critic.numbers(PROMPTS[:1], ANSWERS[:1])[0, 2], said)
    critic.save(tmp_path / "critic")
    again = TokenCritic.load(tmp_path / "critic", dtype="float64")
    torch.testing.assert_close(
        again.numbers(PROMPTS, ANSWERS), critic.numbers(PROMPTS, ANSWERS), rtol=1e-12, atol=0
    )


def test_what_does_not_fit_is_refused(critic, rollouts):
    pairs = TextComparisons(PROMPTS, ANSWERS, ANSWERS[::-1])
    with pytest.raises(ValueError, match="a TokenCritic is fitted with losses of TokenValues"):
        fit(critic, losses.bradley_terry, pairs, steps=1)
    with pytest.raises(ValueError, match=r"fit prefsim.lm.TokenCritic\(policy, seed=0\), got a"):
        fit(language_model(), losses.value_loss, rollouts, steps=1)
    without = TextRollouts(PROMPTS, rollouts.completions, rollouts.scores)
    with pytest.raises(ValueError, match="returns must be given to fit a value function"):
        fit(critic, losses.value_loss, without, steps=1)
    short = TextRollouts(PROMPTS, rollouts.completions, rollouts.scores, returns=RETURNS[..., :2])
    with pytest.raises(ValueError, match="returns must have a number for every token"):
        fit(critic, losses.value_loss, short, steps=1)
    assert critic.numbers([], []).shape == (0, 0)
