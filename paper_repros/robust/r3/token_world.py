"""All responses of up to six tokens, their terms, and the policies that a reward leads to."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from prefsim.numerics import log_softmax, to_numpy
from prefsim.policies import TokenTreePolicy
from prefsim.raters import proxy_reward
from prefsim.raters.white_box import distinct_ngrams, length_incentive, mean_pooled
from prefsim.solvers.closed_forms.regularised import gibbs_log_policy
from prefsim.solvers.optimisers.policy_gradient import regularised_reward, score_gradient
from prefsim.solvers.optimisers.updates import OPTIMISERS
from prefsim.worlds import TokenTree

VOCABULARY, LONGEST, STOP = 3, 6, 0.3
QUERY = np.array([1.0, 0.0])
# The first token is what the query is about, the second is near to it, the third is not.
EMBEDDINGS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])

# The rewards by what is in them: length, distinct trigrams, relevance.
REWARDS = {
    "QR": (False, False, True),
    "LI": (True, False, False),
    "LI·QR": (True, False, True),
    "R³": (True, True, True),
}

BETAS = (0.5, 0.1, 0.05, 0.02)
MIDDLE, HARD = 0.05, 0.01  # the ends of two trainings, by their β
CHECKPOINTS = 11


class Responses(NamedTuple):
    """All responses, and a reference policy that knows nothing of a query.

    Attributes
    ----------
    tokens
        ``(n, T)``, −1 behind the end; the empty response, which is never written, is left out.
    log_reference
        ``(n,)``, nats: every token is uniform, and after each the response ends with probability
        :data:`STOP`.
    """

    tokens: np.ndarray
    log_reference: np.ndarray


@functools.cache
def all_responses(vocabulary: int = VOCABULARY, longest: int = LONGEST) -> Responses:
    """Return all responses of 1 to ``longest`` tokens."""
    tree = TokenTree(vocabulary + 1, longest, end_token=vocabulary)
    next_token = np.full((1, tree.n_nodes, vocabulary + 1), (1 - STOP) / vocabulary)
    next_token[..., -1] = STOP
    next_token[:, 0] = [1 / vocabulary] * vocabulary + [0.0]
    with np.errstate(divide="ignore"):
        reference = TokenTreePolicy(tree, np.log(next_token))
    tokens = np.where(tree.sequences == vocabulary, -1, tree.sequences)
    written = tokens[:, 0] >= 0
    return Responses(tokens[written], np.asarray(reference.log_probs)[0, written])


class Terms(NamedTuple):
    """Length incentive, repetition penalty and relevance of responses, each ``(..., n)``."""

    length: np.ndarray
    distinct: np.ndarray
    relevance: np.ndarray

    def reward(self, name: str) -> np.ndarray:
        """Return the reward of this name in :data:`REWARDS`, ``(..., n)``."""
        with_length, with_distinct, with_relevance = REWARDS[name]
        return proxy_reward(
            *self,
            with_length=with_length,
            with_distinct=with_distinct,
            with_relevance=with_relevance,
        )

    def gold(self) -> np.ndarray:
        """Return a reward that a proxy may be meant for, ``(..., n)``; chosen here.

        Relevance first, then length up to what is enough, and a fine for repeating most of it.
        """
        enough = np.minimum(self.length, 0.6) * self.distinct
        return 0.7 * self.relevance + 0.3 * enough - 0.2 * (self.distinct < 0.5)


def terms_of(
    embeddings: np.ndarray = EMBEDDINGS,
    query: np.ndarray = QUERY,
    responses: Responses | None = None,
) -> Terms:
    """Return the terms of all responses ``(n,)``; the longest have a length incentive of 1.

    For embeddings ``(V, d)`` and a query ``(d,)``; or several ``(d, worlds)``, ``(worlds, n)``.
    """
    tokens = (responses or all_responses()).tokens
    relevance = (mean_pooled(embeddings, tokens) @ query).T
    return Terms(
        np.broadcast_to(length_incentive(tokens, scale=tokens.shape[1]), relevance.shape),
        np.broadcast_to(distinct_ngrams(tokens), relevance.shape),
        relevance,
    )


def terms_of_relevances(relevances: np.ndarray, responses: Responses | None = None) -> Terms:
    """Return the terms ``(worlds, n)`` where tokens are as relevant as given, ``(worlds, V)``."""
    return terms_of(relevances.T, np.eye(len(relevances)), responses)


def optimum(reward: np.ndarray, inverse: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities of the optimum and log Z for inverse strengths 1/β.

    Rewards ``(..., n)`` and strengths ``(...)``; 0 is the reference itself.
    """
    scaled = reward * np.asarray(inverse)[..., None]
    found = gibbs_log_policy(scaled, all_responses().log_reference, beta=1.0)
    return to_numpy(found[0]), to_numpy(found[1])


def means(log_policy: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean of values ``(..., n)`` under policies ``(..., n)``."""
    return np.asarray((np.exp(log_policy) * values).sum(axis=-1))


def values_by_length(name: str, beta: float) -> float:
    """Return the optimal value of a reward without repetition penalty, without enumeration.

    Given the length the tokens are independent, and the rewards are sums over them.
    """
    lengths = np.arange(1, LONGEST + 1)
    chance = (1 - STOP) ** (lengths - 1) * np.where(lengths < LONGEST, STOP, 1.0)
    per_token = {
        "QR": (EMBEDDINGS @ QUERY) / lengths[:, None],
        "LI": np.full((LONGEST, VOCABULARY), 1 / LONGEST),
        "LI·QR": np.broadcast_to(EMBEDDINGS @ QUERY / LONGEST, (LONGEST, VOCABULARY)),
    }[name]
    factor = np.exp(per_token / beta).mean(axis=-1) ** lengths
    return float(beta * np.log(chance @ factor))


def ascended(
    rewards: np.ndarray, *, beta: float, optimiser: str, step: float, steps: int, start: np.ndarray
) -> np.ndarray:
    """Return the values ``(steps + 1, rewards)`` along the exact policy gradient.

    Of a softmax over all responses, for rewards ``(rewards, n)``, from logits ``(n,)``.
    """
    log_reference = all_responses().log_reference
    logits = np.tile(start, (len(rewards), 1))
    update = OPTIMISERS[optimiser](step)
    passed = []
    for k in range(steps + 1):
        log_policy = log_softmax(logits)
        regularised = to_numpy(regularised_reward(rewards, log_policy, log_reference, beta=beta))
        passed.append(means(log_policy, regularised))
        if k < steps:
            logits = logits - update(-score_gradient(regularised, log_policy))
    return np.stack(passed)


def checkpoints(end: float) -> np.ndarray:
    """Return 1/β from the reference, where it is 0, to the end of a training."""
    return np.linspace(0.0, 1 / end, CHECKPOINTS)


def gold_along(terms: Terms, name: str) -> np.ndarray:
    """Return the mean of gold along a training that goes on to the end."""
    return means(optimum(terms.reward(name), checkpoints(HARD))[0], terms.gold())


def tracking(reward: np.ndarray, gold: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of the means of a proxy and of gold over checkpoints.

    Of worlds ``(worlds, n)`` over inverse strengths ``(checkpoints,)``: ``(worlds,)``.
    """
    log_policy, _ = optimum(reward[:, None], inverse)
    both = (means(log_policy, values[:, None]) for values in (reward, gold))
    return np.array([spearmanr(*rows).statistic for rows in zip(*both, strict=True)])
