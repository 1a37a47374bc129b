"""What pairs from π_sft, from π_r and from people teach.

Log-linear policies, in law; and a small policy over token sequences, from ranker to training.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from prefsim import losses
from prefsim.analysis.loglinear import estimate_covariance, policy_covariance
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import log_softmax, sigmoid
from prefsim.policies import LogLinearPolicy, TabularPolicy, TokenTreePolicy
from prefsim.solvers import fit, gibbs_log_policy, gradient_descent, optimal_policy
from prefsim.solvers.closed_forms.rejection import rejection_sample
from prefsim.solvers.optimisers.newton import minimise
from prefsim.typing import Loss
from prefsim.worlds import ContextualBandit, TokenTree

Array = np.ndarray

RESPONSES, DIMENSION, BETA = 20, 3, 0.5  # of the log-linear worlds
GAMMA = 0.5  # of the losses


def slic_hinge(logps: losses.PairLogps, *, beta: float) -> Any:
    """Return max(0, 1 − γ log π_w/π_l), the hinge without a reference.

    It is γ times SLiC at the margin 1/γ.
    """
    return beta * losses.slic(logps, delta=1 / beta, lambda_=0.0)


LOSSES = {"sigmoid-norm": losses.dpo, "hinge-norm": losses.hinge, "hinge (SLiC)": slic_hinge}
SOURCES = ("direct", "sft-sample-rank", "rso-sample-rank")


def pairs(margin: Array, level: float = 0.0) -> losses.PairLogps:
    """Return pairs with these log-ratio margins.

    ``level`` moves policy and reference of both responses alike.
    """
    reference = np.full_like(margin, level)
    return losses.PairLogps(margin / 2 + level, -margin / 2 + level, reference, reference)


def best_margin(loss: Loss, p: float, *, within: float) -> float:
    """Return the margin of least expected loss where the first response wins with probability p."""

    def risk(margin: float) -> float:
        won, lost = loss(pairs(np.asarray([margin, -margin])))
        return float(p * won + (1 - p) * lost)

    found = minimize_scalar(
        risk, bounds=(-within, within), method="bounded", options={"xatol": 1e-10 * within}
    )
    return float(found.x)


# --- in law ---


def misspecified_rewards(seed: int, *, instances: int = 300) -> Array:
    """Return E r of policies fitted to all pairs of π_sft and of π_r, ``(2, instances)``.

    They are log-linear; rewards and features are independent standard normal, so that the class
    does not contain π_r. π_sft is uniform.
    """
    import torch

    rng = np.random.default_rng(seed)
    features = rng.standard_normal((instances, RESPONSES, DIMENSION))
    reward = rng.standard_normal((instances, RESPONSES))
    uniform = np.full((instances, RESPONSES), -np.log(RESPONSES))
    target, _ = gibbs_log_policy(reward, uniform, beta=BETA)
    i, j = np.triu_indices(RESPONSES, k=1)
    gap = torch.tensor(features[:, i] - features[:, j])
    prob = torch.tensor(sigmoid(reward[:, i] - reward[:, j]))
    rewards = []
    for law in (uniform, target):
        weight = torch.tensor(np.exp(law[:, i] + law[:, j]))
        weight = weight / weight.sum(dim=-1, keepdim=True)

        def loss(theta: Any, weight: Any = weight) -> Any:
            margin = BETA * (gap @ theta[..., None])[..., 0]
            return (weight * losses.soft_logistic(margin, prob)).sum(dim=-1)

        start = torch.zeros(instances, DIMENSION, dtype=torch.float64)
        theta = to_numpy(minimise(loss, start, tolerance=1e-9, max_iterations=100).parameters)
        policy = np.exp(log_softmax(uniform + (features @ theta[..., None])[..., 0]))
        rewards.append((policy * reward).sum(axis=-1))
    return np.asarray(rewards)


def asymptotic_gaps(seed: int) -> Array:
    """Return lim n·E[J(π_r) − J(π̂)] of a well-specified log-linear class, ``(3,)``.

    With pairs from π_sft, from π_r, and half of each.
    """
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((1, RESPONSES, DIMENSION))
    reference = TabularPolicy.from_logits(rng.standard_normal((1, RESPONSES)))
    reward = features @ rng.standard_normal(DIMENSION)
    world = ContextualBandit(reward=reward)
    log_target, _ = gibbs_log_policy(reward, reference.log_probs, beta=BETA)
    target = TabularPolicy.from_logits(log_target)
    sft_pairs, target_pairs = (
        Comparisons.population(world, law, distinct=True) for law in (reference, target)
    )
    mixture = Comparisons(
        sft_pairs.prompt,
        sft_pairs.chosen,
        sft_pairs.rejected,
        sft_pairs.prob,
        (sft_pairs.weight + target_pairs.weight) / 2,
    )
    curvature = BETA * policy_covariance(target.log_probs, features)
    gaps = [
        np.trace(curvature @ estimate_covariance(data, features, beta=BETA)) / 2
        for data in (sft_pairs, target_pairs, mixture)
    ]
    return np.asarray(gaps)


def distances_to_target(seed: int) -> dict[str, float]:
    """Return how far the policy of each source is from π_r, where all can be right.

    A token tree (V = T = 3), all pairs, true Bradley–Terry labels, γ = β.
    """
    rng = np.random.default_rng(seed)
    tree = TokenTree.random(3, 3, seed=rng)
    world, sft = tree.to_bandit(), TokenTreePolicy.random(tree, seed=rng, scale=0.5)
    reward = to_numpy(world.reward)
    target = optimal_policy(reward, sft.probs, beta=BETA)
    poor = optimal_policy(-reward, sft.probs, beta=1.0)
    laws = ((sft.probs + poor) / 2, sft.probs, target)
    distances = {}
    for name, law in zip(SOURCES, laws, strict=True):
        data = Comparisons.population(world, TabularPolicy.from_probs(law), distinct=True)
        policy = fit(sft, functools.partial(losses.dpo, beta=BETA), data, reference=sft).policy
        distances[name] = float(np.abs(to_numpy(policy.probs) - target).max())
    return distances


def hinge_of_two_responses(seed: int, *, steps: int) -> tuple[Array, Array]:
    """Descend hinge-norm on prompts with two responses each, on all pairs with true labels.

    Returns γ times the margin of the better response of each prompt ``(prompts,)``, and by how much
    the loss of all exceeds the least possible, ``2 min(p, 1 − p)`` on average.
    """
    prompts = 12
    rng = np.random.default_rng([seed, 2])
    gap = rng.uniform(0.5, 3.0, prompts)
    world = ContextualBandit(reward=np.stack([gap, np.zeros(prompts)], axis=-1))
    sft = TabularPolicy.random(prompts, 2, seed=seed)
    data = Comparisons.population(world, sft, distinct=True)
    trained, _ = gradient_descent(
        sft,
        functools.partial(losses.hinge, beta=GAMMA),
        data,
        reference=sft,
        # A margin moves by 2 γ weight (2p − 1) times this: hundredths of 1/γ.
        step=0.04 * prompts,
        iterations=steps,
    )
    log_ratio = to_numpy(trained.policy.log_probs) - to_numpy(sft.log_probs)
    least = 2 * (sigmoid(-gap) * to_numpy(world.context_probs)).sum()
    return GAMMA * (log_ratio[:, 0] - log_ratio[:, 1]), np.asarray(trained.value) - least


# --- from ranker to training ---

VOCABULARY, LENGTH = 6, 4
PROMPTS, CANDIDATES, SAMPLES = 100, 64, 8


class Outcome(NamedTuple):
    """What a trained policy gains over π_sft in true reward, and in the ranker's: ``(seeds,)``."""

    gain: Array
    proxy_gain: Array


class Pipeline(NamedTuple):
    """Token sequences with their rewards ``(seeds, N)``, π_sft ``(N,)``, and one stream a seed."""

    tree: TokenTree
    reward: Array
    sft: Array
    streams: list[np.random.Generator]

    @classmethod
    def draw(cls, seeds: list[int]) -> Pipeline:
        """Draw rewards that are random sums over trigrams, and a π_sft for all seeds."""
        streams = [np.random.default_rng(seed) for seed in seeds]
        tree, v = TokenTree(VOCABULARY, LENGTH), VOCABULARY
        rows = tree.sequences
        trigram = (rows[:, :-2] * v + rows[:, 1:-1]) * v + rows[:, 2:]
        reward = np.stack([rng.standard_normal(v**3)[trigram].sum(axis=-1) for rng in streams])
        sft = TokenTreePolicy.random(tree, seed=streams[0], scale=0.5)
        return cls(tree, reward, np.exp(to_numpy(sft.log_probs)[0]), streams)

    def base(self) -> TabularPolicy:
        """Return π_sft as a policy."""
        return TabularPolicy.from_probs(self.sft[None])

    def people(self) -> Comparisons:
        """Return pairs of a sample of π_sft and one of a poor policy, judged by the true reward."""
        pairs = PROMPTS * SAMPLES // 2
        poor = np.exp(gibbs_log_policy(-self.reward, np.log(self.sft), beta=1.0)[0])
        draws = [
            (_draw(rng, self.sft, (pairs,)), _draw(rng, bad, (pairs,)))
            for rng, bad in zip(self.streams, poor, strict=True)
        ]
        first, second = (np.stack(part) for part in zip(*draws, strict=True))
        margin = _of(self.reward, first) - _of(self.reward, second)
        uniforms = np.stack([rng.random(pairs) for rng in self.streams])
        return _judged(uniforms < sigmoid(margin), first, second)

    def ranker(self, data: Comparisons) -> Array:
        """Return the rewards ``(seeds, N)`` of bigrams and positions that explain the pairs."""
        features = ngrams(self.tree, positions=True)
        reader = LogLinearPolicy.from_features(features[None], base=self.base())
        fitted = fit(
            reader,
            functools.partial(losses.dpo, beta=1.0),
            data,
            reference=reader,
            penalty=lambda policy: 5e-3 * (policy.parameters**2).sum(-1),
            tolerance=1e-7,
        )
        rewards = to_numpy(fitted.policy.parameters) @ features.T
        return rewards - (rewards @ self.sft)[:, None]

    def sampled(self, ranker: Array) -> tuple[Array, Array]:
        """Return samples ``(seeds, PROMPTS, SAMPLES)`` of π_sft, and of π_r by rejection."""
        pool = np.stack([_draw(rng, self.sft, (PROMPTS, CANDIDATES)) for rng in self.streams])
        scores = _of(ranker, pool.reshape(len(pool), -1)).reshape(pool.shape)
        kept = rejection_sample(scores, SAMPLES, beta=BETA, seed=self.streams[0])
        # Accepted in the order of their rewards, roughly: pairs are drawn at random among them.
        kept = self.streams[0].permuted(kept, axis=-1)
        return pool[..., :SAMPLES], np.take_along_axis(pool, kept, axis=-1)

    def train(self, loss: Any, data: Comparisons, steps: int) -> Array:
        """Return the probabilities ``(seeds, N)`` of a Markov policy trained on the pairs."""
        features = ngrams(self.tree, positions=False)
        start = LogLinearPolicy.from_features(features[None], base=self.base())
        trained, _ = gradient_descent(
            start,
            functools.partial(loss, beta=GAMMA),
            data,
            reference=start,
            step=2.0,
            iterations=steps,
        )
        return to_numpy(trained.policy.probs)[..., 0, :]


def train_on_every_source(seeds: list[int], *, steps: int) -> dict[tuple[str, str], Outcome]:
    """Train with each source of pairs and each loss, and return the outcomes by source and loss.

    A ranker is fitted to people's pairs and labels the sampled pairs by its winner.
    """
    study = Pipeline.draw(seeds)
    people = study.people()
    ranker = study.ranker(people)
    by_sft, by_target = study.sampled(ranker)
    sources = (people, _ranked(by_sft, ranker), _ranked(by_target, ranker))
    before = study.reward @ study.sft
    outcomes = {}
    for source, data in zip(SOURCES, sources, strict=True):
        for name, loss in LOSSES.items():
            policy = study.train(loss, data, steps)
            value = (policy * study.reward).sum(axis=-1)
            # The ranker's rewards have the mean 0 under π_sft.
            outcomes[source, name] = Outcome(value - before, (policy * ranker).sum(axis=-1))
    return outcomes


def ngrams(tree: TokenTree, *, positions: bool) -> Array:
    """Return counts of the bigrams and of the first token of every sequence, ``(N, d)``.

    With ``positions`` of the token at each position in place of the first.
    """
    v, rows = tree.vocabulary_size, tree.sequences
    bigrams = np.eye(v * v)[rows[:, :-1] * v + rows[:, 1:]].sum(axis=1)
    unigrams = np.eye(v)[rows if positions else rows[:, :1]]
    return np.concatenate([bigrams, unigrams.reshape(rows.shape[0], -1)], axis=1)


def _draw(rng: np.random.Generator, probs: Array, shape: tuple[int, ...]) -> Array:
    # The sum may end below one by rounding: the last sequence takes what is left.
    return np.minimum(np.searchsorted(np.cumsum(probs), rng.random(shape)), probs.size - 1)


def _of(rewards: Array, sequences: Array) -> Array:
    return np.take_along_axis(rewards, sequences, axis=-1)


def _judged(first_wins: Array, first: Array, second: Array) -> Comparisons:
    return Comparisons(
        np.zeros_like(first),
        np.where(first_wins, first, second),
        np.where(first_wins, second, first),
    )


def _ranked(samples: Array, ranker: Array) -> Comparisons:
    """Return first-round pairs: k samples make k/2, of which the ranker's winner is chosen."""
    first, second = (samples[..., part::2].reshape(len(samples), -1) for part in (0, 1))
    return _judged(_of(ranker, first) >= _of(ranker, second), first, second)
