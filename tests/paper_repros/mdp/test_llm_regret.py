"""arXiv:2403.16843: the failing losses, self-play, and the layer that the regret-loss teaches."""

import numpy as np
import pytest

from paper_repros.mdp.llm_regret import layers
from paper_repros.mdp.llm_regret.agents import (
    NAMES,
    agents,
    bandit_bound,
    bandit_step,
    follow_the_leader,
    play_all,
    self_play,
)
from paper_repros.mdp.llm_regret.layers import BEST, LEADER, NOTHING, learn_from_signs
from prefsim.analysis import dynamic_regret, external_regret
from prefsim.loops.online_play import play_bandit, play_online
from prefsim.solvers.online_learning.hedge import hedge, hedge_bound, hedge_step
from prefsim.solvers.online_learning.linear_attention import (
    LinearAttention,
    attention_decisions,
    cumulative_before,
)
from prefsim.worlds.loss_sequences import FAMILIES, alternating, drawn_losses


@pytest.mark.parametrize(("rounds", "careful"), [(100, 3.16), (400, 6.12), (1600, 12.02)])
def test_leaders_on_alternating_losses(rounds, careful):
    losses = alternating(rounds)
    first = play_online(lambda past: follow_the_leader(past, first="leader"), losses)
    assert external_regret(*first) == rounds / 2
    assert external_regret(*play_online(follow_the_leader, losses)) == rounds / 2 - 0.25
    played = hedge(cumulative_before(losses), step=hedge_step(rounds, 2))
    assert external_regret(played, losses) == pytest.approx(careful, abs=0.006)


def test_agents_play_distributions_and_the_adversary_answers():
    losses = drawn_losses(list(FAMILIES), 2, 12, seed=1)
    for agent in agents(12).values():
        play = play_all(agent, losses)
        assert play.decisions.shape == play.losses.shape == (len(NAMES), 2, 12, 2)
        np.testing.assert_allclose(play.decisions.sum(axis=-1), 1.0, atol=1e-12)
        np.testing.assert_allclose(play.decisions[:, :, 0], 0.5)
        lost = (play.losses * play.decisions)[-1].sum(axis=-1)
        assert (lost >= 0.5 - 1e-12).all()
        assert (dynamic_regret(*play)[-1] >= 6 - 1e-12).all()


def test_exp3_sees_one_action():
    losses = np.tile([0.2, 0.8], (500, 60, 1))
    play, estimated = play_bandit(losses, step=bandit_step(60, 2), seed=2)
    regret = external_regret(*play)
    assert 1.0 < regret.mean() < bandit_bound(60, 2)
    np.testing.assert_allclose(estimated.mean(axis=0), [12.0, 48.0], rtol=0.1)
    # With full information all runs would be one.
    assert regret.std() > 0.5


def test_self_play():
    gaps = self_play(100, 2, 500, np.random.default_rng(0))
    assert gaps.coarse.mean() == pytest.approx(0.0127, abs=0.001)
    assert gaps.coarse.max() <= hedge_bound(500, 2) / 500
    assert gaps.coarse.max() == pytest.approx(0.0136, abs=0.0003)


def test_the_layer_of_signs():
    learned = learn_from_signs(2, seed=3)
    assert learned.step == pytest.approx(0.36789684, abs=5e-9)
    assert learned.loss[BEST] == pytest.approx(6.37582294, abs=5e-9)
    assert learned.least == pytest.approx(learned.loss[BEST], abs=1e-9)
    assert learned.loss[LEADER] == pytest.approx(6.45665560, abs=5e-9)
    assert learned.loss[NOTHING] == pytest.approx(8.0)
    assert [learned.worst[name] for name in (BEST, LEADER, NOTHING)] == pytest.approx(
        [8**0.5, 2 + 2**0.5, 32**0.5]
    )
    assert learned.trained.loss == pytest.approx(learned.loss[BEST], rel=1e-3)
    assert learned.trained.longest == pytest.approx(1.56, abs=0.02)


def test_the_best_step_on_the_ball_is_another():
    losses, weight = layers.signs(2).sequences(4)
    seen = cumulative_before(losses)

    def on_ball(step):
        decisions = -step * seen
        length = np.linalg.norm(decisions, axis=-1, keepdims=True)
        return layers.expected_loss(decisions / np.maximum(length, 1), losses, weight)

    steps = np.linspace(0.3, 0.6, 301)
    found = [on_ball(step) for step in steps]
    assert steps[np.argmin(found)] == pytest.approx(0.4566, abs=0.001)
    assert min(found) == pytest.approx(6.30005299, abs=1e-5)
    assert on_ball(layers.best_step(losses, weight)) == pytest.approx(6.34041872, abs=5e-9)


def test_mean_regret_says_nothing_of_signs():
    # Whatever is played, the next loss is zero on average.
    losses, weight = layers.signs(2).sequences(4)
    for decisions in (np.zeros_like(losses), -0.3 * cumulative_before(losses)):
        mean = weight @ ((decisions * losses).sum(axis=(1, 2)))
        assert mean == pytest.approx(0.0, abs=1e-14)
    assert weight @ np.linalg.norm(losses.sum(axis=1), axis=-1) == pytest.approx(2.47951, abs=5e-6)


def test_a_taught_layer_plays_from_the_history_alone():
    lesson = layers.Lesson(rounds=6, batches=8, steps=3)
    layer = layers.taught(layers.fair_coins, seed=0, lesson=lesson)
    start = LinearAttention.random(2, seed=np.random.default_rng(0), scale=0.1)
    # Three steps of Adam, of .05 each at first.
    assert 0.05 < np.abs(layer.value - start.value).max() < 0.16
    losses = layers.fair_coins(np.random.default_rng(1), 4, 6)
    play = play_online(layers.layer_agent(layer), losses)
    np.testing.assert_allclose(
        play.decisions, attention_decisions(layer, losses, output="softmax"), atol=1e-14
    )
