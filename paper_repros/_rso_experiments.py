"""Worlds of the rso paper: misspecified log-linear policies, asymptotic gaps by sampling law, and a small token tree end to end."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.loglinear import estimate_covariance, policy_covariance
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import log_softmax, sigmoid
from prefsim.policies import LogLinearPolicy, TabularPolicy, TokenTreePolicy
from prefsim.solvers import fit, gibbs_log_policy, gradient_descent, optimal_policy
from prefsim.solvers.closed_forms.rejection import rejection_sample
from prefsim.solvers.optimisers.newton import minimise
from prefsim.worlds import ContextualBandit, TokenTree


def slic_hinge(logps: losses.PairLogps, *, beta: float) -> Any:
    """Return max(0, 1 − γ log π_w/π_l), the hinge without a reference: γ times SLiC at the margin 1/γ."""
    return beta * losses.slic(logps, delta=1 / beta, lambda_=0.0)


LOSSES = {"sigmoid-norm": losses.dpo, "hinge-norm": losses.hinge, "hinge (SLiC)": slic_hinge}
SOURCES = ("direct", "sft-sample-rank", "rso-sample-rank")


def misspecified(
    seed: int, *, instances: int = 300, n: int = 20, d: int = 3, beta: float = 0.5
) -> np.ndarray:
    """Return E r of the log-linear policies fitted to all pairs from the uniform π_sft and from π_r, ``(2, instances)``.

    Rewards and features are independent standard normal, so that the class does not contain π_r.
    """
    import torch

    rng = np.random.default_rng(seed)
    features, reward = rng.standard_normal((instances, n, d)), rng.standard_normal((instances, n))
    uniform = np.full((instances, n), -np.log(n))
    i, j = np.triu_indices(n, k=1)
    gap = torch.tensor(features[:, i] - features[:, j])
    prob = torch.tensor(sigmoid(reward[:, i] - reward[:, j]))
    found = []
    for law in (uniform, gibbs_log_policy(reward, uniform, beta=beta)[0]):
        weight = torch.tensor(np.exp(law[:, i] + law[:, j]))
        weight = weight / weight.sum(dim=-1, keepdim=True)

        def loss(theta: Any, weight: Any = weight) -> Any:
            return (
                weight * losses.soft_logistic(beta * (gap @ theta[..., None])[..., 0], prob)
            ).sum(dim=-1)

        theta = to_numpy(
            minimise(
                loss,
                torch.zeros(instances, d, dtype=torch.float64),
                tolerance=1e-9,
                max_iterations=100,
            ).parameters
        )
        policy = np.exp(log_softmax(uniform + (features @ theta[..., None])[..., 0]))
        found.append((policy * reward).sum(axis=-1))
    return np.asarray(found)


def asymptotic_gaps(seed: int, *, n: int = 20, d: int = 3, beta: float = 0.5) -> np.ndarray:
    """Return lim n·E[J(π_r) − J(π̂)] of a well-specified log-linear class: pairs from π_sft, from π_r, and half of each, ``(3,)``."""
    rng = np.random.default_rng(seed)
    features, reference = (
        rng.standard_normal((1, n, d)),
        TabularPolicy.from_logits(rng.standard_normal((1, n))),
    )
    world = ContextualBandit(reward=features @ rng.standard_normal(d))
    target = TabularPolicy.from_logits(
        gibbs_log_policy(world.reward, reference.log_probs, beta=beta)[0]
    )
    pairs = [Comparisons.population(world, law, distinct=True) for law in (reference, target)]
    first = pairs[0]
    mixture = Comparisons(
        first.prompt, first.chosen, first.rejected, first.prob, (first.weight + pairs[1].weight) / 2
    )
    curvature = beta * policy_covariance(target.log_probs, features)
    return np.asarray(
        [
            np.trace(curvature @ estimate_covariance(data, features, beta=beta)) / 2
            for data in (*pairs, mixture)
        ]
    )


class Outcome(NamedTuple):
    """E r of the policy, and by how much the ranker's reward overstates the gain over π_sft, each ``(seeds,)``."""

    reward: np.ndarray
    excess: np.ndarray


def ngrams(tree: TokenTree, *, positions: bool) -> np.ndarray:
    """Return counts of the bigrams and of the first token (or of the token at each position) of every sequence, ``(N, d)``."""
    v, rows = tree.vocabulary_size, tree.sequences
    bigrams = np.eye(v * v)[rows[:, :-1] * v + rows[:, 1:]].sum(axis=1)
    unigrams = np.eye(v)[rows] if positions else np.eye(v)[rows[:, :1]]
    return np.concatenate([bigrams, unigrams.reshape(rows.shape[0], -1)], axis=1)


def _draw(rng: np.random.Generator, probs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.minimum(np.searchsorted(np.cumsum(probs), rng.random(shape)), probs.size - 1)


def pipeline(
    seeds: list[int], *, prompts: int = 100, candidates: int = 64, samples: int = 8, beta: float = 0.5, gamma: float = 0.5,
    vocabulary: int = 6, length: int = 4, iterations: int = 150,
) -> tuple[dict[tuple[str, str], Outcome], np.ndarray]:  # fmt: skip
    """Train a Markov policy over all token sequences with each source of pairs and each loss; also E r of π_sft, ``(seeds,)``.

    The reward is a random sum over trigrams. A ranker of bigrams and positions is fitted to human
    pairs from π_sft and a poor policy, and labels the sampled pairs by its winner.
    """
    rngs = [np.random.default_rng(seed) for seed in seeds]
    tree = TokenTree(vocabulary, length)
    rows = tree.sequences
    trigram = (rows[:, :-2] * vocabulary + rows[:, 1:-1]) * vocabulary + rows[:, 2:]
    reward = np.stack([rng.standard_normal(vocabulary**3)[trigram].sum(axis=-1) for rng in rngs])
    sft = np.exp(to_numpy(TokenTreePolicy.random(tree, seed=seeds[0], scale=0.5).log_probs)[0])
    poor = np.exp(gibbs_log_policy(-reward, np.log(sft), beta=1.0)[0])
    pairs = prompts * samples // 2
    human = np.stack([
        np.stack([_draw(rng, sft, (pairs,)), _draw(rng, bad, (pairs,))]) for rng, bad in zip(rngs, poor, strict=True)
    ])  # fmt: skip
    wins = np.stack(
        [
            rng.random(pairs) < sigmoid(r[a] - r[b])
            for rng, r, (a, b) in zip(rngs, reward, human, strict=True)
        ]
    )
    prompt = np.zeros_like(human[:, 0])
    direct = Comparisons(
        prompt, np.where(wins, human[:, 0], human[:, 1]), np.where(wins, human[:, 1], human[:, 0])
    )
    base = TabularPolicy.from_probs(sft[None])
    reader = LogLinearPolicy.from_features(ngrams(tree, positions=True)[None], base=base)
    ranker = fit(
        reader, functools.partial(losses.dpo, beta=1.0), direct, reference=reader,
        penalty=lambda policy: 5e-3 * (policy.parameters**2).sum(-1), tolerance=1e-7,
    )  # fmt: skip
    proxy = to_numpy(ranker.policy.parameters) @ ngrams(tree, positions=True).T
    proxy = proxy - (proxy @ sft)[:, None]

    def ranked(groups: np.ndarray) -> Comparisons:
        # First-round ranking: k samples make k/2 pairs, the ranker's winner is chosen.
        a, b = (groups[..., part::2].reshape(len(seeds), -1) for part in (0, 1))
        better = np.take_along_axis(proxy, a, axis=-1) >= np.take_along_axis(proxy, b, axis=-1)
        return Comparisons(np.zeros_like(a), np.where(better, a, b), np.where(better, b, a))

    pool = np.stack([_draw(rng, sft, (prompts, candidates)) for rng in rngs])
    scores = np.take_along_axis(proxy, pool.reshape(len(seeds), -1), axis=-1).reshape(pool.shape)
    kept = rejection_sample(scores, samples, beta=beta, seed=seeds[0])
    # Accepted in the order of their rewards, roughly: pairs are drawn at random among them.
    kept = rngs[0].permuted(kept, axis=-1)
    data = dict(
        zip(
            SOURCES,
            (direct, ranked(pool[..., :samples]), ranked(np.take_along_axis(pool, kept, axis=-1))),
            strict=True,
        )
    )
    start = LogLinearPolicy.from_features(ngrams(tree, positions=False)[None], base=base)
    found = {}
    for source, comparisons in data.items():
        for name, loss in LOSSES.items():
            trained, _ = gradient_descent(
                start,
                functools.partial(loss, beta=gamma),
                comparisons,
                reference=start,
                step=2.0,
                iterations=iterations,
            )
            policy = to_numpy(trained.policy.probs)[..., 0, :]
            value = (policy * reward).sum(axis=-1)
            found[source, name] = Outcome(
                value, (policy * proxy).sum(axis=-1) - (value - reward @ sft)
            )
    return found, reward @ sft


def tree_identity(seed: int, *, beta: float = 0.5) -> dict[str, float]:
    """Return how far each source's policy is from π_r: a token tree (V = T = 3), all pairs, true Bradley–Terry labels, γ = β."""
    tree = TokenTree.random(3, 3, seed=seed)
    world, sft = tree.to_bandit(), TokenTreePolicy.random(tree, seed=seed + 1, scale=0.5)
    reward = to_numpy(world.reward)
    target, poor = (
        optimal_policy(reward, sft.probs, beta=beta),
        optimal_policy(-reward, sft.probs, beta=1.0),
    )
    laws = {
        "direct": (sft.probs + poor) / 2,
        "sft-sample-rank": sft.probs,
        "rso-sample-rank": target,
    }
    found = {}
    for name, law in laws.items():
        data = Comparisons.population(world, TabularPolicy.from_probs(law), distinct=True)
        policy = fit(sft, functools.partial(losses.dpo, beta=beta), data, reference=sft).policy
        found[name] = float(np.abs(to_numpy(policy.probs) - target).max())
    return found
