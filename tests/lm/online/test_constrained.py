"""Several rewards held at thresholds: language models against the exact dual on a token tree."""

import functools

import numpy as np
import pytest
from lm_tree import LEAVES, PROMPTS, TREE, total_variation

from prefsim import losses
from prefsim.lm import (
    CausalLM,
    PreferenceModel,
    TextRollouts,
    TokenCritic,
    draw_scored,
    mean_score,
    mixed_rollouts,
    play_constrained,
    rescored,
    trainer,
    tree_log_probs,
    tree_policy,
    with_values,
)
from prefsim.losses.multipliers import Multipliers, mixture_weights
from prefsim.solvers import constrained_optimum

BETA = 0.5
ASKED, ANSWERS = [p for p in PROMPTS for _ in LEAVES], LEAVES * len(PROMPTS)
PLAIN = {"order": "given", "schedule": "constant", "warmup": 0.0, "max_grad_norm": None}


@pytest.fixture(scope="module")
def rewards(start):
    """Two reward models, each with a body and a head of its own, and their tables."""
    scores, tables = [], []
    for seed in (9, 12):
        body = CausalLM.from_config(start.plain.config, seed=seed)
        model = PreferenceModel(body, dim=1, seed=seed)
        table = model.rewards(ASKED, ANSWERS).numpy()
        # In units of their spread: heads begin with small weights.
        shift, size = table.mean(), table.std()

        def score(prompts, answers, model=model, shift=shift, size=size):
            return (model.rewards(list(prompts), list(answers)).numpy() - shift) / size

        scores.append(score)
        tables.append(((table - shift) / size).reshape(len(PROMPTS), len(LEAVES)))
    return scores, np.stack(tables)


@pytest.fixture(scope="module")
def critics(start):
    return [
        TokenCritic(CausalLM.from_config(start.plain.config, seed=seed), seed=seed)
        for seed in (5, 6, 7)
    ]


def every_response(policy, opponent, rng):
    """Draw each sequence of the tree as often as the policy writes it: exact expectations."""
    tokens = policy.token_log_probs(ASKED, ANSWERS)[0].double().cpu().numpy()
    return TextRollouts(
        ASKED,
        [[answer] for answer in ANSWERS],
        np.zeros((len(ASKED), 1)),
        old_logp=tokens[:, None],
        weight=np.exp(tree_log_probs(policy, TREE, PROMPTS).ravel()),
    )


def as_it_is(critic, *_):
    return critic


def test_a_language_model_ends_at_the_dual(start, reference, rewards, critics):
    scores, tables = rewards
    middle = np.einsum("xy,mxy->m", reference.probs, tables) / len(PROMPTS)
    thresholds = middle + np.array([0.25, 0.15])
    exact = constrained_optimum(
        tables, np.log(reference.probs), thresholds, beta=BETA, sense="equal"
    )
    *_, last = play_constrained(
        start,
        critics,
        every_response,
        scores,
        functools.partial(losses.ppo, beta=0.0, reduction="sum"),
        thresholds=thresholds,
        rounds=110,
        seed=0,
        train=trainer(steps=1, batch_size=len(ASKED), learning_rate=3e-3, **PLAIN),
        # Rewards to go less any value have the same expected gradient.
        train_critics=[as_it_is] * 3,
        trace=1.0,
        reference=start,
        beta=BETA,
        kind="tanh",
        normalise=False,
        step=functools.partial(losses.multiplier_step, max_norm=2.0),
        batched=True,
        batch_size=64,
    )
    policy = tree_policy(last.policy, TREE, PROMPTS)
    best = np.exp(exact.log_policy)
    weights = mixture_weights(last.multipliers.raw, kind="tanh")
    assert total_variation(reference.probs, best) > 0.15
    assert total_variation(policy.probs, best) < 0.03
    np.testing.assert_allclose(last.achieved, thresholds, atol=0.03)
    np.testing.assert_allclose(weights.rewards / weights.penalty, exact.multipliers, atol=0.04)


@pytest.fixture(scope="module")
def drawn(start):
    draw = draw_scored(PROMPTS, lambda prompt, answer: len(answer), n_samples=3, max_new_tokens=2)
    return draw(start, start, np.random.default_rng(0))


def test_a_round_is_made_of_its_parts(start, rewards, critics, drawn):
    scores, _ = rewards
    raw, thresholds = np.array([0.3, -0.2]), np.array([0.5, -0.5])
    seen = []

    def learn(model, loss, data, reference):
        seen.append((model, loss, data, reference))
        return model

    played = play_constrained(
        start,
        critics,
        lambda policy, opponent, rng: drawn,
        scores,
        losses.ppo,
        thresholds=thresholds,
        rounds=1,
        seed=0,
        train=learn,
        train_critics=[learn] * 3,
        reference=CausalLM.from_config(start.plain.config, seed=9),
        beta=0.3,
        multipliers=Multipliers.starting(raw),
        trace=0.9,
        batched=True,
    )
    (found,) = played
    each = [rescored(start, drawn, score, batched=True) for score in scores]
    valued = [with_values(d, critic, trace=0.9) for d, critic in zip(each, critics, strict=False)]
    reference = seen[0][3]
    unpaid = rescored(start, drawn, lambda prompt, answer: 0.0)
    penalty = with_values(unpaid, critics[2], reference=reference, beta=0.3, trace=0.9)
    mask = np.arange(2) < drawn.lengths()[..., None]
    advantages = np.stack([part.advantage for part in valued])
    expected = losses.mixed_advantage(penalty.advantage, advantages, raw, mask=mask)
    np.testing.assert_allclose(found.drawn.advantage, expected, atol=1e-12)
    np.testing.assert_allclose(found.achieved, [part.scores.mean() for part in each])
    stepped = losses.multiplier_step(Multipliers.starting(raw), found.achieved, thresholds)
    np.testing.assert_allclose(found.multipliers.raw, stepped.raw)
    # The policy learns from the mixture, and every critic from what its own reward returned.
    assert [model for model, *_ in seen] == [start, *critics]
    assert seen[0][2] is found.drawn
    for (_, loss, data, _), part in zip(seen[1:], [*valued, penalty], strict=True):
        assert loss is losses.value_loss
        np.testing.assert_allclose(data.returns, part.returns, atol=1e-12)


def test_critics_learn_each_from_its_own_reward(start, rewards, critics):
    scores, _ = rewards
    draw = draw_scored(PROMPTS, lambda prompt, answer: 0.0, n_samples=4, max_new_tokens=2)
    learn = functools.partial(trainer, epochs=1, batch_size=2, learning_rate=1e-2, **PLAIN)
    *_, last = play_constrained(
        start,
        critics,
        draw,
        scores,
        functools.partial(losses.ppo, beta=0.0),
        thresholds=[0.2, 0.2],
        rounds=2,
        seed=0,
        train=learn(),
        train_critics=[learn() for _ in critics],
        reference=start,
        batched=True,
    )
    before, after = (
        np.stack([each.numbers(PROMPTS, [[0]] * 2)[:, 0].numpy() for each in models])
        for models in (critics, last.critics)
    )
    assert (np.abs(after - before).max(axis=1) > 1e-3).all()
    assert np.abs(last.multipliers.raw).max() > 1e-3
    moved = tree_policy(last.policy, TREE, PROMPTS).probs
    assert total_variation(moved, tree_policy(start, TREE, PROMPTS).probs) > 1e-3


def test_what_is_scored_again_keeps_the_rest(start, drawn):
    found = rescored(start, drawn, lambda prompt, answer: prompt[0] + len(answer) / 10)
    lengths = drawn.lengths()
    np.testing.assert_allclose(found.scores, np.array([[0.0], [1.0]]) + lengths / 10)
    np.testing.assert_array_equal(found.old_logp, drawn.old_logp)
    weighted = TextRollouts(
        drawn.prompt, drawn.completions, drawn.scores, weight=np.array([1.0, 3.0])
    )
    again = rescored(start, weighted, lambda prompt, answer: float(prompt[0]))
    assert mean_score(again) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="got none for completion 0 of prompt 1"):
        rescored(start, drawn, lambda prompt, answer: None if prompt == [1] else 1.0)


def test_advantages_are_needed_to_be_mixed(drawn):
    with pytest.raises(ValueError, match="must have advantages to be mixed"):
        mixed_rollouts(drawn, [drawn], [0.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": [0.5]}, "got 2 scores, 1 thresholds, 3 critics and 3 train_critics"),
        ({"critics": []}, "got 2 scores, 2 thresholds, 0 critics"),
        ({"train_critics": [as_it_is]}, "and 1 train_critics"),
        ({"train_critics": [as_it_is, 3, as_it_is]}, "train_critics must be"),
        ({"scores": []}, "got 0 scores"),
        ({"rounds": 0}, "rounds must be"),
        ({"kind": "softmax"}, "kind must be one of"),
        ({"thresholds": [0.5, np.nan]}, "thresholds must be finite"),
        ({"step": None}, "step must be"),
    ],
)
def test_bad_input(start, rewards, critics, change, message):
    given = {
        "policy": start,
        "critics": critics,
        "draw": every_response,
        "scores": rewards[0],
        "loss": losses.ppo,
        "thresholds": [0.5, 0.5],
        "rounds": 1,
        "seed": 0,
        "train": as_it_is,
        "train_critics": [as_it_is] * 3,
        "reference": start,
    }
    with pytest.raises(ValueError, match=message):
        play_constrained(**(given | change))
