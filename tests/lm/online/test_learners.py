"""Language models as online learners: what they play, what they see, and training by regret."""

import numpy as np
import pytest
import torch
from lm_made import small_llama

from prefsim.analysis import external_regret
from prefsim.lm import (
    CausalLM,
    TextGame,
    action_log_probs,
    text_decisions,
    text_learner,
    told_losses,
    train_on_regret,
)
from prefsim.loops.online_play import play_online
from prefsim.numerics import softmax

A, B = 5, 6
LOSSES = np.round(np.random.default_rng(0).random((3, 4, 2)))


def told_in_ids(history):
    """A start, and for each round one of two tokens: which action was better, the first on ties."""
    return [3, *(10 + int(second < first) for first, second in history)]


GAME = TextGame(told_in_ids, (A, B))


@pytest.fixture(scope="module")
def tiny():
    return CausalLM.from_config(small_llama(16, num_hidden_layers=1), seed=0)


def test_what_it_plays_is_what_the_model_says(tiny):
    prompts = [told_in_ids(each) for each in LOSSES] + [told_in_ids(LOSSES[0, :1])]
    with torch.no_grad():
        found = action_log_probs(tiny, prompts, [A, B])
        for prompt, row in zip(prompts, found, strict=True):
            logits = tiny.model(input_ids=torch.tensor([prompt])).logits[0, -1]
            expected = torch.log_softmax(logits[[A, B]], dim=-1)
            torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)


def test_a_learner_is_told_the_rounds_before(tiny):
    play = play_online(text_learner(tiny, GAME), LOSSES)
    with torch.no_grad():
        decisions = text_decisions(tiny, LOSSES, GAME)
    np.testing.assert_allclose(play.decisions, decisions.numpy(), atol=1e-6)
    np.testing.assert_allclose(play.decisions.sum(axis=-1), 1.0, atol=1e-12)
    later = LOSSES.copy()
    later[:, 2:] = 1 - later[:, 2:]
    other = play_online(text_learner(tiny, GAME), later).decisions
    np.testing.assert_allclose(other[:, :3], play.decisions[:, :3], atol=1e-6)
    assert np.abs(other[:, 3] - play.decisions[:, 3]).max() > 1e-3


def test_training_lowers_regret_without_labels(tiny):
    def draw(rng):
        # One action costs 1 in every round: which, only the history says.
        worse = rng.integers(0, 2, (16, 1))
        return np.repeat(np.eye(2)[worse], 4, axis=1)

    before = [p.detach().clone() for p in tiny.module.parameters()]
    options = {"game": GAME, "learning_rate": 3e-2, "seed": 1, "k": 1.0}
    trained = train_on_regret(tiny, draw, steps=25, **options)
    assert all((a == b).all() for a, b in zip(before, tiny.module.parameters(), strict=True))
    fresh = draw(np.random.default_rng(7))
    first, last = (
        external_regret(*play_online(text_learner(each, GAME), fresh)).mean()
        for each in (tiny, trained.policy)
    )
    # Nobody knows the action of the first round.
    assert first > 1.0
    assert last < 0.65
    assert trained.loss[-1] < trained.loss[0] / 2
    again = train_on_regret(tiny, draw, steps=2, **options)
    np.testing.assert_allclose(again.loss, trained.loss[:2], rtol=1e-5)


def test_the_gradient_is_that_of_the_expected_losses(tiny):
    wide = CausalLM.from_config(small_llama(16, num_hidden_layers=1), seed=0, dtype="float64")
    weight = wide.model.lm_head.weight
    decisions = text_decisions(wide, LOSSES, GAME)
    (decisions * torch.tensor(LOSSES)).sum().backward()
    slope, step = weight.grad[A, 0].item(), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[A, 0] += sign * step
            values.append(float((text_decisions(wide, LOSSES, GAME) * torch.tensor(LOSSES)).sum()))
            weight[A, 0] -= sign * step
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_text(llama):
    wide = CausalLM.from_config(
        small_llama(llama.vocabulary_size, max_position_embeddings=512), llama.tokenizer, seed=0
    )
    # Words that this tokenizer has learned whole.
    game = TextGame(actions=(" a", " the"))
    found = text_learner(wide, game)(LOSSES[:, :2])
    prompts = [told_losses(each[:2]) for each in LOSSES]
    scores = [wide.log_prob(prompts, [[i]] * 3).numpy() for i in action_ids(wide, game)]
    np.testing.assert_allclose(found, softmax(np.stack(scores, axis=-1)), atol=1e-5)


def action_ids(policy, game):
    """The tokens of actions as the tokenizer writes them behind a space."""
    texts = policy.tokenizer(list(game.actions), add_special_tokens=False)["input_ids"]
    assert all(len(ids) == 1 for ids in texts)
    return [ids[0] for ids in texts]


def test_the_text():
    told = told_losses(np.array([[0.5, 0.0], [0.0, 1.0]]), ("X", "Y"))
    assert told.startswith("In every round choose one action, X or Y.")
    assert "Round 1: X cost 0.50, Y cost 0.00.\nRound 2: X cost 0.00, Y cost 1.00.\n" in told
    assert told.endswith("Round 3: I choose action")


def test_bad_input(tiny, llama):
    with pytest.raises(ValueError, match="two or more different tokens"):
        text_learner(tiny, TextGame(told_in_ids, (A, A)))
    with pytest.raises(ValueError, match="actions must be an integer"):
        text_learner(tiny, TextGame(told_in_ids, (A, 99)))
    with pytest.raises(ValueError, match="one token each"):
        text_learner(llama, TextGame(actions=(" a", " the cat")))
    with pytest.raises(ValueError, match="losses must be of 2 actions, got 3"):
        text_learner(tiny, GAME)(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="steps must be an integer"):
        train_on_regret(tiny, lambda rng: LOSSES, game=GAME, steps=0)
