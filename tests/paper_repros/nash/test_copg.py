"""arXiv:2406.19185: both forms of the loss, and the toy bandit with where its gradients end."""

import functools

import numpy as np
import pytest

from paper_repros.nash.copg import reproduction
from paper_repros.nash.copg.baselines import METHODS, RIGHT, TOY
from paper_repros.nash.copg.frontier import STRENGTHS, Bandits
from paper_repros.nash.copg.reproduction import learn_by_transformers, learn_over_tokens
from paper_repros.nash.copg.token_policies import (
    BASELINES,
    BETA,
    TRAINING,
    Task,
    ends_of,
    learn_by_transformer,
)
from prefsim import losses
from prefsim.data import ScoredPairs
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy, gradient_descent, optimal_policy
from prefsim.solvers.optimisers.policy_gradient import contrastive_gradient, regularised_reward
from prefsim.worlds import ContextualBandit

PAIR = losses.PairLogps(
    *np.asarray([[-2.0], [-3.0], [-2.5], [-2.8]]),
    chosen_score=np.asarray([1.0]),
    rejected_score=np.asarray([0.2]),
)


def test_values_of_both_forms():
    gap = losses.copg(PAIR, beta=0.1, form="gradient")[0]
    assert gap == pytest.approx(-0.73, rel=1e-14)
    square = losses.copg(PAIR, beta=0.1)[0]
    assert square == pytest.approx(2.6645, rel=1e-14)
    assert 0.2 * square == pytest.approx(0.5329, rel=1e-14)


def test_optimum_of_the_toy():
    log_policy, log_z = gibbs_log_policy(TOY.reward, TOY.log_reference, beta=TOY.beta)
    np.testing.assert_allclose(
        TOY.optimum(), [0.6652409558, 0.2447284711, 0.0900305732], atol=5e-11
    )
    assert TOY.beta * log_z == pytest.approx(0.6544968379, abs=5e-11)
    np.testing.assert_allclose(
        regularised_reward(TOY.reward, log_policy, TOY.log_reference, beta=TOY.beta),
        TOY.beta * log_z,
        rtol=1e-14,
    )


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("no baseline", (0.36835765, 0.3589834, 0.27265895)),
        ("b = E_μ R", (0.43969713, 0.35567714, 0.20462573)),
    ],
)
def test_limits_of_the_wrong_baselines(name, limit):
    np.testing.assert_allclose(TOY.wrong_limit(name), limit, atol=6e-9)
    np.testing.assert_allclose(TOY.ends()[name], limit, atol=6e-9)


def test_direction_of_ascent():
    log_policy = np.log([0.2, 0.5, 0.3])
    advantage = regularised_reward(TOY.reward, log_policy, TOY.log_reference, beta=TOY.beta)
    expected = [0.2067083722, 0.0301585980, -0.2368669702]
    found = contrastive_gradient(advantage, TOY.log_behaviour)
    np.testing.assert_allclose(found, expected, atol=5e-11)
    np.testing.assert_allclose(TOY.ascent(np.tile(log_policy, (5, 1)))[0], expected, atol=5e-11)


def test_baselines_are_those_of_their_names():
    log_policy = np.log([0.2, 0.5, 0.3])
    policy, behaviour = np.exp(log_policy), np.exp(TOY.log_behaviour)
    advantage = regularised_reward(TOY.reward, log_policy, TOY.log_reference, beta=TOY.beta)
    baselines = {
        "b = E_μ R_β": behaviour @ advantage,
        "b = V^π": policy @ advantage,
        "no baseline": 0.0,
        "b = E_μ R": behaviour @ TOY.reward,
    }
    directions = dict(zip(METHODS, TOY.ascent(np.tile(log_policy, (5, 1))), strict=True))
    for name, baseline in baselines.items():
        # E_μ (R_β − b) ∇ log π, written out.
        weight = behaviour * (advantage - baseline)
        np.testing.assert_allclose(directions[name], weight - policy * weight.sum(), atol=1e-15)


def test_the_loss_itself_descends_to_the_optimum():
    world, start = ContextualBandit(reward=TOY.reward[None]), TabularPolicy.uniform(1, 3)
    data = ScoredPairs.population(world, TabularPolicy.from_logits(TOY.log_behaviour[None]))
    for form in ("square", "gradient"):
        loss = functools.partial(losses.copg, beta=TOY.beta, form=form)
        found, _ = gradient_descent(start, loss, data, reference=start, step=1.0, iterations=400)
        np.testing.assert_allclose(found.policy.probs[0], TOY.optimum(), atol=1e-10)


def test_a_sample_that_connects_all_responses_is_enough():
    # Rewards are seen without noise, so that the regression of a tabular policy has no error to
    # average away.
    world, reference = ContextualBandit.random(2, 4, seed=0), TabularPolicy.random(2, 4, seed=1)
    data = ScoredPairs.sample(world, 60, seed=2, policy=TabularPolicy.uniform(2, 4))
    found = fit(reference, functools.partial(losses.copg, beta=0.3), data, reference=reference)
    np.testing.assert_allclose(
        found.policy.log_probs,
        gibbs_log_policy(world.reward, reference.log_probs, beta=0.3)[0],
        atol=1e-10,
    )


def test_with_fresh_samples_every_baseline_is_right():
    for end in TOY.ends(fresh=1.0).values():
        assert TOY.distance(end) < 1e-9
    assert all(TOY.distance(TOY.ends()[name]) < 1e-9 for name in RIGHT)


def test_no_method_earns_more_than_the_frontier():
    bandits = Bandits.draw(2, 3)
    for name in STRENGTHS:
        front = bandits.front(name, [0.5, 0.2])
        assert (front.reward <= front.best + 1e-9).all()
        assert (front.best <= bandits.best_at(front.kl) + 1e-9).all()


def test_a_task_over_tokens():
    task = Task.draw(2)
    reward = task.tree.reward
    # What the behaviour writes is the reference turned against the reward.
    turned = np.log(task.behaviour.probs / task.reference.probs) + reward
    np.testing.assert_allclose(turned, turned[:, :1] + 0 * reward, atol=1e-12)
    best = optimal_policy(reward, task.reference.probs, beta=BETA)
    np.testing.assert_allclose(task.optimum(), best, atol=1e-12)
    assert task.distance(best) < 1e-12
    assert task.distance(task.behaviour.probs) > 0.2
    texts = task.texts_of(task.behaviour, "mean reward")
    assert texts.weight.sum() == pytest.approx(1.0)
    assert texts.weight @ texts.scores[:, 0] == pytest.approx(0.0, abs=1e-14)


def test_over_tokens_only_the_contrast_needs_no_texts_of_its_own():
    task = Task.draw(20)
    ends = ends_of(task, steps=150)
    distance = {name: task.distance(end) for name, end in ends.items()}
    assert distance["CoPG"] < 1e-9 and distance["on policy"] < 0.05
    for name in BASELINES:
        assert distance[name] > 0.05
        assert task.distance(ends[name], task.wrong_limit(name)) < 0.03


def test_a_transformer_learns_from_texts(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setitem(TRAINING, "steps", 2)
    learnt = learn_by_transformer(0)
    assert set(learnt.ends) == {"CoPG", *BASELINES}
    for end in learnt.ends.values():
        np.testing.assert_allclose(end.sum(axis=-1), 1.0)
        # Every method starts from the reference, and moves.
        assert learnt.task.distance(end, learnt.task.reference.probs) > 1e-4


def test_runs_of_other_seeds_share_no_task(monkeypatch):
    monkeypatch.setattr(reproduction, "ends_of", lambda task, steps: {})
    monkeypatch.setattr(reproduction, "learn_by_transformer", lambda seed: seed)
    runs = [Run(seed=seed) for seed in range(4)]
    tables = [each.task.tree.reward for run in runs for each in learn_over_tokens(run, 3)]
    assert len({table.tobytes() for table in tables}) == 12
    pytest.importorskip("transformers")
    assert len({seed for run in runs for seed in learn_by_transformers(run, 2)}) == 8
