"""Numbers of the authors' trainer, the study cell by cell, and PPO as it is trained."""

import functools

import numpy as np
import pytest

from paper_repros.mdp.unpacking_dpo_ppo.study import (
    BETA,
    CLASSES,
    FACTORS,
    LABELLED,
    REFERENCE,
    TABLE,
    Replicates,
    asked_prompts,
    curve_of,
    distance_of_dpo,
    dpo_of,
    factorial_of,
)
from paper_repros.mdp.unpacking_dpo_ppo.training import (
    UNFINISHED,
    Recipe,
    drawn_round,
    finished_tree,
    log_linear_slope,
    optimum,
    play,
    play_tables,
    shaped_rewards,
)
from prefsim import losses
from prefsim.losses import PairLogps, TokenListLogps, TokenValues
from prefsim.policies import TokenTreePolicy
from prefsim.worlds import TokenTree


@pytest.fixture(scope="module")
def worlds():
    return Replicates.draw(3, np.random.default_rng(0), pairs=120)


def test_the_whole_loss_of_the_trainer():
    """Two responses, the second without an end, from log-probabilities to the total loss."""
    mask = np.array([[True, True, True], [True, True, False]])
    old = np.array([[-1.0, -0.5, -2.0], [-0.3, -0.9, 0.0]])
    ref = np.array([[-1.2, -0.4, -1.5], [-0.6, -0.7, 0.0]])
    values = np.array([[0.2, 0.4, 0.6], [0.1, -0.2, 0.0]])
    # What the reward model says of the second is not read.
    scores = losses.finished_scores(np.array([1.3, 4.2]), np.array([True, False]))
    rewards = losses.kl_shaped_rewards(scores, old, ref, mask, beta=0.05)
    advantages, returns = losses.gae(rewards, values, mask)
    new = old + np.array([[0.3, -0.4, 0.05], [-0.5, 0.2, 0.0]])
    new_values = values + np.array([[0.5, -0.1, 0.3], [0.1, -0.6, 0.0]])
    drawn = TokenListLogps(
        *(x[:, None] for x in (new, ref, mask)), scores[:, None], old[:, None], advantages[:, None]
    )
    said = TokenValues(*(x[:, None] for x in (new_values, returns, mask, values)))
    policy = losses.ppo(drawn, beta=0.0, reduction="batch", whiten=True).mean()
    total = policy + 0.1 * losses.value_loss(said, clip=0.2, reduction="batch").mean()
    assert policy == pytest.approx(0.0167226273, abs=5e-11)
    assert total == pytest.approx(1.8999849292, abs=5e-11)


def test_dpo_sums_over_tokens_and_ppo_asks_for_tokens():
    """β = .1 of the difference of the log-ratios, whatever the lengths."""
    pair = PairLogps(*(np.array([x]) for x in (-4.0, -9.0, -5.0, -7.0)))
    assert losses.dpo(pair, beta=0.1)[0] == pytest.approx(np.log1p(np.exp(-0.1 * 3.0)))
    empty = TokenListLogps.example()
    with pytest.raises(ValueError, match="at least one token of every response"):
        losses.ppo(empty._replace(mask=np.zeros_like(empty.mask)))
    with pytest.raises(ValueError, match="got one of none"):
        losses.kl_shaped_rewards(np.ones(1), *np.zeros((2, 1, 2)), np.zeros((1, 2), bool), beta=0.1)
    with pytest.raises(ValueError, match="clip_low must lie"):
        losses.ppo(empty, clip_low=0.0)


def test_labels_are_flipped_as_often_as_said():
    worlds = Replicates.draw(40, np.random.default_rng(1), pairs=500)
    sides = {flips: worlds.labelled(flips)[0] == worlds.one for flips in (0.0, 0.3, 1.0)}
    flipped = np.mean(sides[0.0] != sides[0.3])
    # One draw for both: labels that differ are those whose chance the flips moved past it.
    margin = worlds.at(worlds.reward, worlds.one) - worlds.at(worlds.reward, worlds.other)
    moved = 0.6 * np.abs(1 / (1 + np.exp(-margin)) - 0.5)
    assert flipped == pytest.approx(moved.mean(), abs=0.01)
    assert all(abs(each) < 0.01 for flips in sides for each in worlds.excess_of_right(flips))
    assert (worlds.prompt < LABELLED).all() and (worlds.one != worlds.other).all()


def test_dpo_reads_two_factors_and_the_good_model_brings_ppo_to_it(worlds):
    found = factorial_of(worlds, 6)
    assert found.levels == FACTORS and found.scores.shape == (2, 2, 2, 2, 3)
    dpo = found.at(algorithm="DPO").scores
    np.testing.assert_array_equal(dpo, np.broadcast_to(dpo[:, :1, :1], dpo.shape))
    np.testing.assert_allclose(found.at(algorithm="PPO", reward_features=6).scores, dpo[:, 1])
    small = factorial_of(worlds, 4)
    same = small.at(algorithm="PPO", reward_features=4).scores
    np.testing.assert_allclose(same, small.at(algorithm="DPO", reward_features=4).scores)
    assert (small.scores <= 1).all()


def test_tables_know_nothing_of_prompts_that_they_were_not_trained_on(worlds):
    fitted = worlds.fitted_reward(0.05, None)
    assert not fitted[:, LABELLED:].any() and (fitted[:, :LABELLED] != 0).any()
    dpo = dpo_of(fitted)
    np.testing.assert_allclose(dpo[:, LABELLED:], REFERENCE[LABELLED:] + 0 * dpo[:, LABELLED:])
    reward = worlds.fitted_reward(0.05, 6)
    ppo = {prompts: worlds.ppo(reward, None, prompts=prompts) for prompts in ("labelled", "all")}
    np.testing.assert_allclose(ppo["labelled"][:, LABELLED:], dpo[:, LABELLED:])
    np.testing.assert_allclose(ppo["labelled"][:, :LABELLED], ppo["all"][:, :LABELLED])
    assert worlds.gain(ppo["all"]).mean() > worlds.gain(ppo["labelled"]).mean()
    assert [asked_prompts(prompts).sum() for prompts in ppo] == [10, 20]


def test_the_gain_is_nothing_at_the_reference_and_one_at_the_best(worlds):
    best = np.where(worlds.reward == worlds.reward.max(axis=-1, keepdims=True), 0.0, -np.inf)
    np.testing.assert_allclose(worlds.gain(best), 1)
    np.testing.assert_allclose(worlds.gain(REFERENCE + 0 * worlds.reward), 0, atol=1e-12)


def test_the_tables_are_those_of_the_loss(worlds):
    assert distance_of_dpo(worlds) < 1e-8


def test_ppo_with_clipped_ratios_ends_at_the_table(worlds):
    reward = worlds.fitted_reward(0.05, 6)
    aim = worlds.ppo(reward, None, prompts="all")
    reached = play_tables(reward, kappa=BETA, rounds=80)
    assert np.abs(worlds.gain(reached) - worlds.gain(aim)).max() < 0.01
    early = play_tables(reward, kappa=BETA, rounds=2)
    assert np.abs(worlds.gain(early) - worlds.gain(aim)).max() > 0.05


def test_the_gradient_of_log_linear_policies_is_that_of_the_objective(worlds):
    reward, phi = worlds.fitted_reward(0.05, 6)[:1], worlds.features_of(4)[:1]
    weights = np.array([[0.5, -1.0, 0.3, 0.8]])
    asked = asked_prompts("labelled")

    def value(w):
        logs = REFERENCE + phi[0] @ w
        logs = logs - np.log(np.exp(logs).sum(axis=-1, keepdims=True))
        worth = (np.exp(logs) * (reward[0] - BETA * (logs - REFERENCE))).sum(axis=-1)
        return (worth * asked).sum() / asked.sum()

    step = 1e-6 * np.eye(4)
    numeric = [(value(weights[0] + e) - value(weights[0] - e)) / 2e-6 for e in step]
    found = log_linear_slope(reward, phi, weights, asked, kappa=BETA)
    np.testing.assert_allclose(found[0], np.negative(numeric), atol=1e-8)


def test_with_few_labels_ppo_leads_and_with_many_a_wrong_reward_model_costs():
    curve = curve_of(np.random.default_rng(3), 1.0, (50, 1600), 16)
    few, many = curve.difference.mean(axis=1)
    assert few > 0.0 > many


def trees():
    tree = finished_tree(TokenTree.random(3, 3, seed=0, n_contexts=2, end_token=2))
    return tree, TokenTreePolicy.random(tree, seed=500, scale=0.5)


def test_what_has_no_end_has_the_score_of_the_trainer():
    tree, _ = trees()
    plain = TokenTree.random(3, 3, seed=0, n_contexts=2, end_token=2)
    ended = (tree.sequences == 2).any(axis=-1)
    assert (~ended).sum() == 8 and (tree.reward[:, ~ended] == UNFINISHED).all()
    np.testing.assert_array_equal(tree.reward[:, ended], plain.reward[:, ended])


def test_at_the_optimum_what_is_paid_is_certain():
    tree, reference = trees()
    best = optimum(tree, reference, 0.5)
    paid = shaped_rewards(tree, best, reference, 0.5).sum(axis=-1)
    worth = 0.5 * np.log((reference.probs * np.exp(tree.reward / 0.5)).sum(axis=-1))
    # Of sequences whose probability is not below rounding.
    likely = best.probs > 1e-12
    np.testing.assert_allclose(paid[likely], np.broadcast_to(worth[:, None], paid.shape)[likely])


def test_a_round_has_the_draws_of_its_temperature_and_the_log_probabilities_of_one():
    tree, reference = trees()
    recipe = Recipe(drawn=4000, whiten=False, trace=1.0)
    rng = np.random.default_rng(0)
    critic = np.zeros((2, tree.n_nodes))
    prompt, response, _, mask, old, advantage, returns, said = drawn_round(
        tree, reference, reference, critic, recipe, rng
    )
    np.testing.assert_allclose(
        old[:, 0], np.asarray(reference.token_log_prob_table)[prompt[:, 0], response[:, 0]]
    )
    # No value and no penalty yet: advantages are the score at every token.
    score = np.asarray(tree.reward)[prompt, response][..., None] * mask
    np.testing.assert_allclose(advantage, score, atol=1e-12)
    np.testing.assert_allclose(returns, score, atol=1e-12)
    assert not said.any()
    shares = np.bincount(response[prompt == 0], minlength=tree.n_sequences) / (prompt == 0).sum()
    sharper = TokenTreePolicy(tree, np.asarray(reference.logits) / 0.7).probs[0]
    assert np.abs(shares - sharper).max() < 0.03 < np.abs(sharper - reference.probs[0]).max()


def test_ppo_on_draws_with_a_critic_comes_near_the_optimum():
    tree, reference = trees()
    path = play(tree, reference, Recipe(), rounds=20, seed=1)
    assert path[0] > 0.4 and path[-1] < 0.15 and len(path) == 21


def test_kinds_of_policies():
    assert list(CLASSES) == [TABLE, "4 features", "6 features"]
    dpo = functools.partial(losses.dpo, beta=BETA)
    assert dpo(PairLogps(*np.zeros((4, 1))))[0] == pytest.approx(np.log(2))
