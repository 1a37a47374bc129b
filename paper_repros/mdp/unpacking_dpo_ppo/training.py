"""PPO as it is trained, with the library's losses: on exact expectations, and on what is drawn."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from paper_repros.mdp.unpacking_dpo_ppo.study import BETA, REFERENCE, Replicates, asked_prompts
from prefsim import losses
from prefsim.data import Rollouts
from prefsim.gradients import gradient, logit_gradient, loss_gradient
from prefsim.losses import TokenListLogps, TokenValues
from prefsim.numerics import log_softmax
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import objective, optimal_policy
from prefsim.solvers.optimisers.log_linear_optimum import log_linear_optimum
from prefsim.solvers.optimisers.updates import adam
from prefsim.solvers.planning.tree_backup import prefix_values, score_gradient_in_tree
from prefsim.typing import Array
from prefsim.worlds import TokenTree

UNFINISHED = -10.0


class Trained(NamedTuple):
    """What PPO as it is trained was found to do."""

    worst_gain: float
    slope: float
    start_slope: float
    start_error: float
    cut_off: list[float]
    exact: list[list[float]]
    drawn: list[list[float]]


class Recipe(NamedTuple):
    """How PPO is trained on drawn responses; the paper's values where a table allows them.

    Attributes
    ----------
    kappa
        Strength of the KL penalty; the paper has .05, at rewards of another size. Where it is half
        as strong, draws at temperature .7 can lose a branch that the optimum needs.
    trace
        λ of the advantages.
    clip
        ε of ratios and of values.
    reduction
        How tokens are averaged.
    whiten
        Whether advantages are whitened over the tokens of a round.
    temperature
        Of the draws; log-probabilities are at 1.
    drawn, batch
        Prompts of a round, with one response each, and of a step.
    step, value_step
        Adam's, the policy's falling to zero over the rounds.
    """

    kappa: float = 1.0
    trace: float = 0.95
    clip: float = 0.2
    reduction: str = "batch"
    whiten: bool = True
    temperature: float = 0.7
    drawn: int = 512
    batch: int = 64
    step: float = 0.05
    value_step: float = 0.1


def finished_tree(tree: TokenTree) -> TokenTree:
    """Return the tree whose sequences without an end have the score of what was cut off."""
    ended = (tree.sequences == tree.end_token).any(axis=-1)
    reward = np.asarray(tree.reward)
    scores = losses.finished_scores(
        reward, np.broadcast_to(ended, reward.shape), unfinished=UNFINISHED
    )
    return TokenTree(tree.vocabulary_size, tree.max_length, end_token=tree.end_token, reward=scores)


def optimum(tree: TokenTree, reference: TokenTreePolicy, kappa: float) -> TokenTreePolicy:
    """Return the best policy of the score less κ times the KL divergence."""
    best = optimal_policy(np.asarray(tree.reward), reference.probs, beta=kappa)
    return TokenTreePolicy.from_sequence_probs(tree, best)


def shaped_rewards(
    tree: TokenTree, policy: TokenTreePolicy, reference: TokenTreePolicy, kappa: float
) -> np.ndarray:
    """Return what each token of each sequence is paid, ``(X, N, T)``."""
    logs = policy.token_log_prob_table
    return np.asarray(
        losses.kl_shaped_rewards(
            np.asarray(tree.reward),
            logs,
            reference.token_log_prob_table,
            np.broadcast_to(tree.mask, logs.shape),
            beta=kappa,
        )
    )


def advantages_of(
    tree: TokenTree, rewards: np.ndarray, values: np.ndarray, trace: float
) -> np.ndarray:
    """Return the advantage of each token of each sequence, ``(X, N, T)``, by a table of values."""
    said = values[:, np.where(tree.mask, tree.nodes, 0)]
    mask = np.broadcast_to(tree.mask, rewards.shape)
    return np.asarray(losses.gae(rewards, said, mask, trace=trace)[0])


def expected_gradient(
    tree: TokenTree,
    policy: TokenTreePolicy,
    advantages: np.ndarray,
    *,
    reduction: str = "sum",
    temperature: float = 1.0,
) -> np.ndarray:
    """Return the gradient of PPO's loss in the logits, in expectation over single draws."""
    data = Rollouts.population(tree, policy, 1, temperature=temperature)
    given = Rollouts(
        data.prompt,
        data.completions,
        data.scores,
        old_logp=data.old_logp,
        advantage=advantages[data.prompt[:, None], data.completions],
        weight=data.weight,
    )
    loss = functools.partial(losses.ppo, beta=0.0, reduction=reduction)

    def value(logits):  # type: ignore[no-untyped-def]
        return objective(TokenTreePolicy(tree, logits), loss, given, reference=None)

    return gradient(value, policy.logits)


def gradient_with_true_values(
    tree: TokenTree, policy: TokenTreePolicy, reference: TokenTreePolicy, kappa: float
) -> np.ndarray:
    """Return the expected gradient of PPO's loss in the logits, the critic being right."""
    rewards = shaped_rewards(tree, policy, reference, kappa)
    advantages = advantages_of(tree, rewards, prefix_values(policy, rewards), 0.95)
    return expected_gradient(tree, policy, advantages)


def distance(policy: TokenTreePolicy, best: Array) -> float:
    """Return the largest total variation over the prompts."""
    return float(0.5 * np.abs(np.asarray(policy.probs) - np.asarray(best)).sum(axis=-1).max())


def play_exactly(
    tree: TokenTree, reference: TokenTreePolicy, *, kappa: float, rounds: int, step: float = 0.1
) -> list[float]:
    """Return the distances from the optimum of PPO with all draws and what they are worth."""
    best = optimum(tree, reference, kappa).probs
    policy, update, path = reference, adam(step), []
    for _ in range(rounds):
        path.append(distance(policy, best))
        slope = gradient_with_true_values(tree, policy, reference, kappa)
        policy = TokenTreePolicy(tree, policy.logits - update(slope))
    return [*path, distance(policy, best)]


def play(
    tree: TokenTree, reference: TokenTreePolicy, recipe: Recipe, *, rounds: int, seed: int
) -> list[float]:
    """Return the distances from the optimum of PPO with a critic, both trained on what is drawn."""
    import torch

    best = optimum(tree, reference, recipe.kappa).probs
    rng = np.random.default_rng(seed)
    policy, path = reference, []
    logits = torch.as_tensor(np.array(reference.logits))
    critic = torch.zeros(tree.n_contexts, tree.n_nodes, dtype=torch.float64)
    update, value_update = adam(recipe.step), adam(recipe.value_step)
    ppo = functools.partial(
        losses.ppo,
        beta=0.0,
        reduction=recipe.reduction,
        clip_low=recipe.clip,
        clip_high=recipe.clip,
    )
    for done in range(rounds):
        path.append(distance(policy, best))
        round_ = drawn_round(tree, policy, reference, critic.numpy(), recipe, rng)
        order = rng.permutation(recipe.drawn).reshape(-1, recipe.batch)
        for rows in order:
            part = [torch.as_tensor(column[rows]) for column in round_]
            prompt, response, nodes, mask, old, advantage, returns, said = part
            theta, phi = (each.clone().requires_grad_(True) for each in (logits, critic))
            table = TokenTreePolicy(tree, theta).token_log_prob_table
            tokens = TokenListLogps(
                table[prompt, response],
                torch.zeros_like(old),
                mask,
                torch.zeros_like(old[..., 0]),
                old,
                advantage,
            )
            values = TokenValues(phi[prompt[..., None], nodes], returns, mask, said)
            total = ppo(tokens).mean() + 0.1 * losses.value_loss(values, clip=recipe.clip).mean()
            slope, value_slope = torch.autograd.grad(total, (theta, phi))
            logits = logits - (1 - done / rounds) * update(slope)
            critic = critic - value_update(value_slope)
        policy = TokenTreePolicy(tree, logits.numpy())
    return [*path, distance(policy, best)]


def drawn_round(
    tree: TokenTree,
    policy: TokenTreePolicy,
    reference: TokenTreePolicy,
    critic: np.ndarray,
    recipe: Recipe,
    rng: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """Return prompts, responses, nodes, mask, old log π, Â, returns and values, ``(n, 1, T)``."""
    data = Rollouts.sample(tree, policy, recipe.drawn, 1, seed=rng, temperature=recipe.temperature)
    prompt = np.repeat(data.prompt[:, None], 1, axis=1)
    (paid_by,) = data.log_probs(reference)
    mask = tree.mask[data.completions]
    nodes = np.where(mask, tree.nodes[data.completions], 0)
    old = np.asarray(data.old_logp)
    rewards = losses.kl_shaped_rewards(data.scores, old, paid_by, mask, beta=recipe.kappa)
    said = critic[prompt[..., None], nodes]
    advantage, returns = losses.gae(rewards, said, mask, trace=recipe.trace)
    if recipe.whiten:
        advantage = losses.whitened(advantage, mask)
    return prompt, data.completions, nodes, mask, old, advantage, returns, said


def play_tables(
    reward: np.ndarray, *, kappa: float, rounds: int, step: float = 0.5, epochs: int = 4
) -> np.ndarray:
    """Return log π of PPO on all draws of tables, from uniform ones on, ``(..., X, Y)``.

    A response is one token, its prompt is worth what the policy that drew it gets there, and every
    round takes several steps on one policy's draws, so that ratios are clipped.
    """
    *batch, contexts, responses = reward.shape
    reference = np.full(reward.shape, -np.log(responses))
    ppo = functools.partial(losses.ppo, beta=0.0, reduction="sum")
    every = np.ones((*batch, contexts * responses, 1, 1), dtype=bool)
    logits, update = np.zeros(reward.shape), adam(step)

    def as_tokens(table: np.ndarray) -> np.ndarray:
        return table.reshape(every.shape)

    for done in range(rounds):
        old = log_softmax(logits)
        paid = losses.kl_shaped_rewards(
            as_tokens(reward)[..., 0], as_tokens(old), as_tokens(reference), every, beta=kappa
        )
        worth = (np.exp(old) * paid.reshape(old.shape)).sum(axis=-1, keepdims=True)
        values = as_tokens(np.broadcast_to(worth, old.shape))
        advantage, _ = losses.gae(paid, values, every)
        for _ in range(epochs):
            here = log_softmax(logits)
            drawn = TokenListLogps(
                as_tokens(here),
                as_tokens(reference),
                every,
                as_tokens(reward)[..., 0],
                as_tokens(old),
                advantage,
            )
            slope = np.exp(old) * loss_gradient(ppo, drawn).logp.reshape(old.shape)
            logits = logits - (1 - done / rounds) * update(logit_gradient(slope, here))
    return log_softmax(logits)


def log_linear_slope(
    reward: np.ndarray,
    features: np.ndarray,
    weights: np.ndarray,
    asked: np.ndarray,
    *,
    kappa: float,
) -> np.ndarray:
    """Return the expected gradient of PPO's loss in log-linear weights, ``(..., d)``.

    Of policies that drew the responses themselves; the penalty is in the reward.
    """
    *batch, contexts, responses = reward.shape
    reference = np.full(reward.shape, -np.log(responses))
    here = log_softmax(reference + np.einsum("...xyd,...d->...xy", features, weights))
    shape = (*batch, contexts * responses, 1, 1)
    drawn = TokenListLogps(
        here.reshape(shape),
        reference.reshape(shape),
        np.ones(shape, dtype=bool),
        reward.reshape(shape[:-1]),
        here.reshape(shape),
    )
    ppo = functools.partial(losses.ppo, beta=kappa, reduction="sum")
    share = asked / asked.sum()
    slope = share[:, None] * np.exp(here) * loss_gradient(ppo, drawn).logp.reshape(here.shape)
    return np.asarray(np.einsum("...xyd,...xy->...d", features, logit_gradient(slope, here)))


def as_trained(worlds: Replicates, trees: Iterable[int], *, steps: int, rounds: int) -> Trained:
    """Train PPO: tables on all their draws, and token by token on trees, exactly and on draws.

    Parameters
    ----------
    worlds
        Of which the first twenty are used.
    trees
        Seeds of the token trees.
    steps, rounds
        How many gradient steps on all draws, and how many rounds of draws.
    """
    some = worlds.first(20)
    reward = some.fitted_reward(0.05, 6)
    reached = some.gain(play_tables(reward, kappa=BETA, rounds=80))
    aim = some.gain(some.ppo(reward, None, prompts="all"))
    slopes, off = [], []
    for kind, prompts in ((4, "labelled"), (4, "all"), (6, "all")):
        phi, asked = some.features_of(kind), asked_prompts(prompts)
        best = log_linear_optimum(
            reward, phi, REFERENCE, beta=BETA, context_probs=asked / asked.sum()
        )
        slope = functools.partial(log_linear_slope, reward, phi, asked=asked, kappa=BETA)
        slopes.append([np.abs(slope(w)).max() for w in (best.weights, 0 * best.weights)])
        # That of the objective at the reference is the covariance of features and reward.
        each = (phi - phi.mean(axis=2, keepdims=True)) * reward[..., None]
        covariance = each[:, asked].mean(axis=(1, 2))
        off.append(np.abs(slope(0 * best.weights) + covariance).max() / np.abs(covariance).max())
    recipe, cut_off, exact, drawn = Recipe(), [], [], []
    for seed in trees:
        tree = finished_tree(TokenTree.random(3, 3, seed=seed, n_contexts=2, end_token=2))
        reference = TokenTreePolicy.random(tree, seed=seed + 500, scale=0.5)
        without_end = ~(tree.sequences == tree.end_token).any(axis=-1)
        cut_off += np.unique(np.asarray(tree.reward)[:, without_end]).tolist()
        paid = np.asarray(reference.probs) * np.asarray(tree.reward) / tree.n_contexts
        climb = np.asarray(score_gradient_in_tree(reference, paid))
        found = gradient_with_true_values(tree, reference, reference, recipe.kappa)
        off.append(np.abs(found + climb).max() / np.abs(climb).max())
        exact.append(play_exactly(tree, reference, kappa=recipe.kappa, rounds=steps))
        drawn.append(play(tree, reference, recipe, rounds=rounds, seed=seed))
    at_best, at_start = np.array(slopes).T
    return Trained(
        float(np.abs(reached - aim).max()),
        float(at_best.max()),
        float(at_start.min()),
        float(np.max(off)),
        cut_off,
        exact,
        drawn,
    )
