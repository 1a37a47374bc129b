"""SPO on samples: rewards from a queue, and the policy gradient on them."""

import itertools

import numpy as np
import pytest

from prefsim.loops import (
    judged_samples,
    preference_queue,
    queue_win_rates,
    queued_self_play,
    table_judge,
)
from prefsim.loops.self_play import preferences_between
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers.games.certificates import exploitability
from prefsim.worlds import PreferenceGame, TokenTree, textbook_game

GAME = textbook_game().preference
TREE = TokenTree(2, 2)


def test_win_rates_by_hand():
    np.testing.assert_allclose(queue_win_rates(GAME, [0, 1, 2]), [0.55, 0.55, 0.4])
    np.testing.assert_allclose(
        queue_win_rates(GAME, [0, 1, 2], include_self=True), [1.6 / 3, 1.6 / 3, 1.3 / 3]
    )


def test_a_group_of_samples_is_a_queue():
    """The K samples of a prompt that a judge compares are a queue without a past."""
    judged = judged_samples(
        TabularPolicy.uniform(1, 3),
        table_judge(GAME[None]),
        np.zeros(20, int),
        n_samples=5,
        include_self=False,
        seed=0,
    )
    np.testing.assert_allclose(queue_win_rates(GAME, judged.responses), judged.win_rate, rtol=1e-14)


def test_rewards_of_a_queue_are_centred():
    games = np.asarray(PreferenceGame.random(6, seed=0, batch_shape=(4,)).preference)
    queues = np.random.default_rng(0).integers(0, 6, (4, 10))
    rates = queue_win_rates(games, queues)
    np.testing.assert_allclose((rates - 0.5).sum(axis=-1), 0.0, atol=1e-13)
    np.testing.assert_allclose(rates[2], queue_win_rates(games[2], queues[2]), rtol=1e-14)


@pytest.mark.parametrize("fresh", [None, 2])
def test_it_finds_the_condorcet_winner(fresh):
    game = np.full((4, 4), 0.5) + 0.4 * (np.triu(np.ones((4, 4)), 1) - np.tril(np.ones((4, 4)), -1))
    start = TokenTreePolicy(TREE, np.zeros((5, 1, TREE.n_nodes, 2)))
    run = queued_self_play(start, game, step=1.0, iterations=300, fresh=fresh, record=100, seed=0)
    assert run.probs.shape == (3, 5, 4)
    assert run.probs[-1, :, 0].min() > 0.9
    assert (exploitability(game, run.average[-1]) < 0.1).all()
    # 10 in the queue: pairs of one new and one old member, and pairs of two new ones.
    assert run.comparisons.tolist() == [4500, 9000, 13500] if fresh is None else [1700, 3400, 5100]


def test_one_step_follows_the_expected_gradient():
    """Over many replicates the step is the gradient of the win rate against the policy itself."""
    game = np.asarray(PreferenceGame.random(4, seed=3).preference)
    policy = TokenTreePolicy.random(TREE, seed=1)
    many = TokenTreePolicy(TREE, np.broadcast_to(policy.logits, (20_000, *policy.logits.shape)))
    run = queued_self_play(many, game, step=1.0, iterations=1, seed=0)
    moves = np.asarray(run.policy.logits - many.logits)
    probs = policy.probs[0]
    advantage = probs * (game @ probs - 0.5)
    expected = np.zeros_like(policy.logits)
    for sequence in range(4):
        for node, token in zip(TREE.nodes[sequence], TREE.sequences[sequence], strict=True):
            inside = np.exp(policy.logits[0, node]) / np.exp(policy.logits[0, node]).sum()
            expected[0, node] += advantage[sequence] * (np.eye(2)[token] - inside)
    error = np.abs(moves.mean(axis=0) - expected)
    assert (error <= 5 * moves.std(axis=0) / np.sqrt(20_000) + 1e-12).all()


def test_the_average_is_of_what_has_played():
    """A policy counts when it has been drawn from, not when it has been made."""
    start, game = TokenTreePolicy.random(TREE, seed=1), PreferenceGame.random(4, seed=3).preference
    run = queued_self_play(start, game, step=1.0, iterations=3, seed=0)
    played = [np.asarray(start.probs)[0], *run.probs[:2]]
    for k in range(3):
        np.testing.assert_allclose(run.average[k], np.mean(played[: k + 1], axis=0), rtol=1e-13)


def test_the_oldest_leave_the_queue(monkeypatch):
    """Of a queue of five, two new ones take the places of the two that came first."""
    queues = []

    def noting(table, new, members):
        queues.append(np.asarray(members))
        np.testing.assert_array_equal(new, members[..., 3:])
        return preferences_between(table, new, members)

    monkeypatch.setattr(preference_queue, "preferences_between", noting)
    start, game = TokenTreePolicy.uniform(TREE), PreferenceGame.random(4, seed=3).preference
    queued_self_play(start, game, step=0.1, iterations=30, queue=5, fresh=2, seed=0)
    for before, after in itertools.pairwise(queues):
        np.testing.assert_array_equal(after[..., :3], before[..., 2:])


def test_seeds():
    start = TokenTreePolicy.uniform(TREE)
    game = PreferenceGame.random(4, seed=0).preference
    runs = [
        queued_self_play(start, game, step=0.5, iterations=20, seed=seed).probs
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: queue_win_rates(GAME, [0]), "length of the queue must be an integer >= 2"),
        (lambda: queue_win_rates(GAME, [0, 3]), "queue must be >= 0 and < 3, got 3"),
        (lambda: queue_win_rates(GAME + 0.1, [0, 1]), "preference"),
        (lambda: play(step=0.0), "step must be a finite number > 0"),
        (lambda: play(queue=1), "queue must be an integer >= 2"),
        (lambda: play(fresh=11), r"fresh must be an integer in \[1, 10\]"),
        (lambda: play(preference=GAME), r"preference must have trailing shape \(4, 4\)"),
        (
            lambda: play(
                policy=TokenTreePolicy.uniform(TokenTree.random(2, 2, seed=0, n_contexts=2))
            ),
            "number of contexts must be",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def play(policy=None, preference=None, **options):
    start = TokenTreePolicy.uniform(TREE) if policy is None else policy
    table = np.full((4, 4), 0.5) if preference is None else preference
    return queued_self_play(start, table, **({"step": 1.0, "iterations": 1, "seed": 0} | options))
