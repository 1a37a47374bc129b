"""arXiv:2310.00212: both clipped losses, variances of the estimates, training with rollouts."""

import functools
import math

import numpy as np
import pytest
import torch

from paper_repros.nash.p3o import reproduction
from paper_repros.nash.p3o.token_policies import BETA, CLIPPED, METHODS, UNCLIPPED, Task
from paper_repros.nash.p3o.training import Preprocessing, Rollout, Trained
from prefsim import losses
from prefsim.data import ScoredPairs
from prefsim.gradients import gradient
from prefsim.papers import Run
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import gradient_descent, objective, optimal_policy
from prefsim.solvers.optimisers.policy_gradient import (
    pairwise_variance,
    score_gradient,
    score_variance,
)
from prefsim.worlds import ContextualBandit


def pair(first, second, rewards, old=(0.1, 0.05)):
    """Return a pair whose reference has log-probability zero."""
    zero = np.zeros(1)
    own, score, behaviour = (np.asarray(x)[:, None] for x in ((first, second), rewards, old))
    return losses.PairLogps(
        *own,
        zero,
        zero,
        chosen_score=score[0],
        rejected_score=score[1],
        old_chosen=behaviour[0],
        old_rejected=behaviour[1],
    )


@pytest.mark.parametrize(
    ("logps", "joint", "separate"),
    [
        (pair(0.3, -0.1, (1.2, 0.4)), -0.1024989319, -0.1639982910),
        (pair(0.3, -0.1, (0.4, 1.2)), 0.1724084598, 0.1724084598),
        (pair(0.12, 0.06, (1.2, 0.4)), -0.0246381679, -0.0246381679),
    ],
)
def test_values_of_both_losses(logps, joint, separate):
    assert losses.p3o(logps)[0] == pytest.approx(joint, abs=5e-11)
    assert losses.p3o(logps, clip="separate")[0] == pytest.approx(separate, abs=5e-11)


@pytest.mark.parametrize(
    ("logps", "q", "weight"),
    [
        (pair(0.3, -0.1, (1.2, 0.4)), 0.78, 1.0512710964),
        (pair(0.3, -0.1, (0.4, 1.2)), -0.82, 1.0512710964),
        (pair(0.12, 0.06, (1.2, 0.4)), 0.797, 1.0304545340),
    ],
)
def test_factors_of_the_loss(logps, q, weight):
    d = logps.chosen - logps.rejected
    no_weight = losses.p3o(logps, epsilon=math.inf, weight_clip=1.0)
    np.testing.assert_allclose(no_weight, -0.5 * q * d, rtol=1e-13)
    np.testing.assert_allclose(losses.p3o(logps, epsilon=math.inf) / no_weight, weight, rtol=1e-10)


def test_gradient_and_variances_of_three_responses():
    log_policy, reward = np.log([0.2, 0.5, 0.3]), np.asarray([1.0, 0.5, 0.0])
    np.testing.assert_allclose(
        score_gradient(reward, log_policy), [0.11, 0.025, -0.135], atol=1e-15
    )
    for shift, variance in ((0, 0.21255), (10, 68.03255), (100, 6258.41255)):
        assert score_variance(reward + shift, log_policy) == pytest.approx(variance, rel=1e-12)
        assert pairwise_variance(reward + shift, log_policy) == pytest.approx(0.09155, rel=1e-11)


def test_unclipped_and_on_policy_it_ascends_to_the_regularised_optimum():
    world, policy = ContextualBandit.random(2, 3, seed=0), TabularPolicy.uniform(2, 3)
    reference, loss = policy, functools.partial(losses.p3o, beta=0.5)
    for _ in range(150):
        data = ScoredPairs.population(world, policy)
        policy = gradient_descent(policy, loss, data, reference=reference, step=4.0, iterations=1)[
            0
        ].policy
    np.testing.assert_allclose(
        policy.probs, optimal_policy(world.reward, reference.probs, beta=0.5), atol=1e-10
    )


def test_the_rater_decides_which_response_is_chosen():
    old, reference, reward = torch.arange(12.0).reshape(3, 2, 2)
    seen = Rollout(old, reference, reward, reward, torch.tensor([True, False]))
    logp = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    labelled = seen.labelled(logp)
    assert labelled.chosen.tolist() == [-1.0, -4.0]
    assert labelled.rejected.tolist() == [-2.0, -3.0]
    assert labelled.ref_chosen.tolist() == [4.0, 7.0]
    assert labelled.old_rejected.tolist() == [1.0, 2.0]


def test_curves_are_read_where_they_first_reach_a_divergence():
    trained = Trained(
        np.asarray([0.0, 0.5, 1.5]).reshape(3, 1, 1),
        np.asarray([0.0, 1.0, 3.0]).reshape(3, 1, 1),
        np.ones((1, 1)),
    )
    assert trained.at(1.0)[0, 0] == 2.0
    assert np.isnan(trained.at(2.0)[0, 0])


def test_every_policy_scales_its_own_rewards():
    preprocessing = Preprocessing()
    rewards = torch.tensor([[[1.0, 3.0], [20.0, 0.0]]], dtype=torch.float64)
    found = preprocessing(rewards)
    # 20 counts as 10, and squares are over n − 1: deviations of √2, and of 5√2.
    np.testing.assert_allclose(found[0] * 2**0.5, [[1.0, 3.0], [2.0, 0.0]], rtol=1e-14)
    # Seen twice, the sum of squares doubles and n − 1 becomes three.
    again = preprocessing(rewards)
    np.testing.assert_allclose(again * (4 / 3) ** 0.5, found * 2**0.5, rtol=1e-14)


def test_weights_make_the_gradient_right_over_tokens():
    task = Task.draw(0)
    here = TokenTreePolicy.random(task.tree, seed=1)
    reward, reference = torch.tensor(task.tree.reward), torch.tensor(task.reference.log_probs)

    def value(parameters):
        log_policy = here.with_parameters(parameters).log_probs
        earned = reward - BETA * (log_policy - reference)
        return (torch.exp(log_policy) * earned).sum(axis=-1).mean()

    def loss(parameters):
        learner = here.with_parameters(parameters)
        exact = functools.partial(losses.p3o, **UNCLIPPED)
        return objective(learner, exact, task.pairs(task.behaviour), reference=task.reference)

    np.testing.assert_allclose(
        gradient(loss, here.parameters), -gradient(value, here.parameters), atol=1e-12
    )


def test_the_older_policy_writes_poor_texts():
    task = Task.draw(3)
    reward = task.tree.reward
    old, new = ((policy.probs * reward).sum() for policy in (task.behaviour, task.reference))
    assert old < new
    np.testing.assert_allclose(
        np.log(task.behaviour.probs / task.reference.probs) + reward,
        (np.log(task.behaviour.probs / task.reference.probs) + reward)[:, :1] + 0 * reward,
        atol=1e-12,
    )
    best = optimal_policy(reward, task.reference.probs, beta=BETA)
    assert task.distance(TokenTreePolicy.from_sequence_probs(task.tree, best)) < 1e-12
    assert task.margins_moved(task.behaviour) == 0


def test_a_text_and_itself_are_no_pair_that_could_move():
    task = Task.draw(2)
    # One text has nearly all the weight, and every other one is e times as likely as before.
    one = np.full((2, task.tree.n_sequences), 1e-3)
    one[:, 0] = 1 - one[:, 1:].sum(axis=-1)
    likelier = one * np.where(np.arange(one.shape[-1]) > 0, np.e, 1.0)
    older, newer = (
        TokenTreePolicy.from_sequence_probs(task.tree, probs / probs.sum(axis=-1, keepdims=True))
        for probs in (one, likelier)
    )
    others = one[0, 1:]
    with_first, among = 2 * one[0, 0] * others.sum(), others.sum() ** 2 - (others**2).sum()
    expected = with_first / (with_first + among)
    moved = task._replace(behaviour=older).margins_moved(newer)
    np.testing.assert_allclose(moved, expected, rtol=1e-9)


def test_clipping_holds_a_policy_at_the_texts_of_its_start():
    task = Task.draw(1)
    clipped = functools.partial(losses.p3o, **CLIPPED)
    ends = [
        task.learn(task.behaviour, clipped, task.pairs(task.behaviour), steps) for steps in (20, 60)
    ]
    moved = [task.margins_moved(end) for end in ends]
    assert moved[0] < 1.0 and abs(moved[1] - moved[0]) < 0.05


def test_runs_of_other_seeds_share_no_task(monkeypatch):
    seen = []

    def ends_of(task, steps):
        seen.append(task.tree.reward.tobytes())
        return dict.fromkeys(METHODS, task.behaviour)

    monkeypatch.setattr(reproduction, "ends_of", ends_of)
    for seed in range(4):
        reproduction.learn_from_older(Run(seed=seed), 3)
    assert len(set(seen)) == len(seen) == 12
