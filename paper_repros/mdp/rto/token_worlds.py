"""Worlds whose states are prefixes: rewards of tokens, a reference, and what each way pays.

Leading axes of the tables are worlds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import like, log_softmax
from prefsim.policies import TokenTreePolicy
from prefsim.solvers.planning import ExpectedBackup, expected_backup, soft_backup
from prefsim.testing import betas, tables, token_tree_policies, token_trees
from prefsim.worlds import TokenTree


class TokenWorld(NamedTuple):
    """Rewards of tokens ``(..., X, nodes, V)``, the reference, and the strength of the penalty."""

    reference: TokenTreePolicy
    rewards: np.ndarray
    beta: float

    @property
    def tree(self) -> TokenTree:
        """All responses."""
        return self.reference.tree

    @property
    def log_reference(self) -> np.ndarray:
        """Log-probabilities of next tokens, ``(..., X, nodes, V)`` in nats."""
        return next_tokens(self.reference)

    @property
    def returns(self) -> np.ndarray:
        """Rewards of whole responses, ``(..., X, N)``."""
        return self.tree.along(self.rewards).sum(axis=-1)

    def optimum(self) -> tuple[TokenTreePolicy, np.ndarray]:
        """Return the policy that is best under the penalty, and its values ``(..., X, nodes)``."""
        found = soft_backup(self.reference, token_values=self.rewards / self.beta)
        return found.policy, self.beta * to_numpy(found.value)

    def log_ratio(self, policy: TokenTreePolicy) -> np.ndarray:
        """Return the log-ratio of next tokens to the reference, ``(..., X, nodes, V)`` in nats."""
        return next_tokens(policy) - self.log_reference

    def objective(self, policy: TokenTreePolicy) -> np.ndarray:
        """Return J, the expected reward less the penalty, ``(..., X)``."""
        paid = self.rewards - self.beta * self.log_ratio(policy)
        return to_numpy(expected_backup(policy, token_values=paid).value)[..., 0]


def next_tokens(policy: TokenTreePolicy) -> np.ndarray:
    """Return the log-probability of every next token, ``(..., X, nodes, V)`` in nats."""
    return to_numpy(log_softmax(policy.logits))


# --- what each way pays the tokens of responses, ``(..., X, N, T)``, the penalty included ---


def _along_all(world: TokenWorld, *policies: TokenTreePolicy) -> tuple[np.ndarray, ...]:
    """Return token log-probabilities of policies and the mask, all of one shape."""
    found = [to_numpy(policy.token_log_prob_table) for policy in policies]
    return *np.broadcast_arrays(*found), np.broadcast_to(
        world.tree.mask, np.broadcast_shapes(*(each.shape for each in found))
    )


def sentence_rewards(world: TokenWorld, policy: TokenTreePolicy) -> np.ndarray:
    """Pay the reward of the whole response with its last token."""
    old, ref, mask = _along_all(world, policy, world.reference)
    scores = np.broadcast_to(world.returns, old.shape[:-1])
    return losses.kl_shaped_rewards(scores, old, ref, mask, beta=world.beta)


def token_rewards(
    world: TokenWorld, policy: TokenTreePolicy, trained: TokenTreePolicy | None = None
) -> np.ndarray:
    """Pay the log-ratio of a trained policy with every token; of the optimum unless given."""
    trained = world.optimum()[0] if trained is None else trained
    old, ref, dpo, mask = _along_all(world, policy, world.reference, trained)
    return losses.rto_rewards(
        np.zeros(old.shape[:-1]),
        old,
        ref,
        dpo,
        mask,
        scale=world.beta,
        clip=np.inf,
        beta=world.beta,
    )


def sentence_values(world: TokenWorld, policy: TokenTreePolicy) -> ExpectedBackup:
    """Return the exact critic of :func:`sentence_rewards`."""
    paid = -world.beta * world.log_ratio(policy)
    return expected_backup(policy, world.returns, token_values=paid)


def token_values(world: TokenWorld, policy: TokenTreePolicy) -> ExpectedBackup:
    """Return the exact critic of :func:`token_rewards`."""
    trained = world.optimum()[0]
    paid = world.beta * (world.log_ratio(trained) - world.log_ratio(policy))
    return expected_backup(policy, token_values=paid)


def drawn_worlds(
    seeds: range, *, vocabulary: int = 3, length: int = 5, beta: float = 0.2
) -> tuple[TokenWorld, TokenTreePolicy]:
    """Return a world of each seed, along the first axis, and a policy near each reference."""
    tree = TokenTree(vocabulary, length)
    shape = (1, tree.n_nodes, vocabulary)
    parts = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        reference = np.log(rng.dirichlet(np.full(vocabulary, 2.0), shape[:-1]))
        rewards = 0.5 * rng.standard_normal(shape)
        parts.append((reference, rewards, reference + 0.3 * rng.standard_normal(shape)))
    reference, rewards, logits = (np.stack(each) for each in zip(*parts, strict=True))
    world = TokenWorld(TokenTreePolicy(tree, reference), rewards, beta)
    return world, TokenTreePolicy(tree, logits)


# --- searching the best response ---


def best_to_go(tree: TokenTree, paid: np.ndarray) -> np.ndarray:
    """Return the most that can follow each prefix, ``(nodes,)``, of what tokens ``(N, T)`` pay."""
    found = np.full(tree.n_nodes, -np.inf)
    np.maximum.at(found, tree.nodes[tree.mask], losses.rewards_to_go(paid)[tree.mask])
    return found


def delayed(tree: TokenTree, paid: np.ndarray, delay: int) -> np.ndarray:
    """Return what tokens pay, ``(N, T)``, some places later: the rest with the last token."""
    late = np.zeros_like(paid)
    for t in range(tree.max_length):
        late[:, min(t + delay, tree.max_length - 1)] += paid[:, t]
    return late


def look_ahead(tree: TokenTree, paid: np.ndarray, ahead: int) -> tuple[int, int]:
    """Return the response found token by token, and how many continuations were looked at.

    Each token is the first of the best continuation of ``ahead`` tokens.
    """
    left, looked_at = np.arange(tree.n_sequences), 0
    for t in range(tree.max_length):
        stop = min(t + ahead, tree.max_length)
        gain = paid[left, t:stop].sum(axis=1)
        looked_at += tree.vocabulary_size ** (stop - t)
        best = left[np.argmax(gain)]
        left = left[tree.sequences[left, t] == tree.sequences[best, t]]
    return int(left[0]), looked_at


# --- instances of the claims, and what they are held against ---


@st.composite
def token_worlds(
    draw: st.DrawFn, *, scale: float = 2.0, min_beta: float = 0.2, max_beta: float = 2.0
) -> TokenWorld:
    """Worlds of up to three tokens and places, with or without an end token."""
    tree = draw(token_trees())
    reference = draw(token_tree_policies(tree))
    shape = (tree.n_contexts, tree.n_nodes, tree.vocabulary_size)
    rewards = draw(tables(shape, low=-scale, high=scale))
    return TokenWorld(reference, rewards, draw(betas(min_beta, max_beta)))


@st.composite
def worlds_with_policy(draw: st.DrawFn) -> tuple[TokenWorld, TokenTreePolicy]:
    """Worlds with a policy that is being trained."""
    world = draw(token_worlds())
    return world, draw(token_tree_policies(world.tree))


@st.composite
def responses(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Token log-probabilities of three policies, scores, and masks; any number behind the end."""
    lengths = np.array(draw(st.lists(st.integers(1, 4), min_size=2, max_size=2)))
    old, ref, dpo = draw(tables((3, 2, 4), low=-3.0, high=0.0))
    mask = np.arange(4) < lengths[:, None]
    scores = draw(tables((2,), low=-15.0, high=15.0))
    hidden = {"old": old, "ref": ref, "dpo": dpo}
    return {name: np.where(mask, each, 7.0) for name, each in hidden.items()} | {
        "mask": mask,
        "scores": scores,
    }


def optimum_of(world: TokenWorld) -> TokenTreePolicy:
    return world.optimum()[0]


def twice_as_far(world: TokenWorld) -> TokenTreePolicy:
    """Return a policy that was trained with half of the penalty."""
    return world._replace(beta=world.beta / 2).optimum()[0]


def population(world: TokenWorld) -> Comparisons:
    """Return all pairs of responses, labelled as a Bradley–Terry rater would."""
    tree = world.tree
    scored = TokenTree(
        tree.vocabulary_size, tree.max_length, end_token=tree.end_token, reward=world.returns
    )
    return Comparisons.population(scored.to_bandit())


def log_ratios(world: TokenWorld) -> np.ndarray:
    """Return the token reward of the optimum in units of β."""
    return world.log_ratio(optimum_of(world))


def sentences(world: TokenWorld) -> np.ndarray:
    """Return what whole responses are paid with their last token, in units of β."""
    tree, table = world.tree, np.zeros_like(world.rewards)
    rows = np.arange(tree.n_sequences)
    last = tree.lengths - 1
    table[..., tree.nodes[rows, last], tree.sequences[rows, last]] = world.returns / world.beta
    return table


def of_responses(log_ratio: np.ndarray, reference: TokenTreePolicy, power: float) -> np.ndarray:
    """Return the reference tilted by a power of a ratio, of whole responses: ``(..., X, N)``."""
    tilt = power * reference.tree.along(log_ratio).sum(axis=-1)
    return log_softmax(to_numpy(reference.log_probs) + tilt)


def of_tokens(log_ratio: np.ndarray, reference: TokenTreePolicy, power: float) -> np.ndarray:
    """Return the same where every next token is tilted, and normalised, by itself."""
    logits = next_tokens(reference) + power * log_ratio
    return to_numpy(TokenTreePolicy(reference.tree, logits).log_probs)


def scaled_then_clipped(log_ratio: float, scale: float, clip: float) -> float:
    return min(max(scale * log_ratio, -clip), clip)


def clipped_then_scaled(log_ratio: float, scale: float, clip: float) -> float:
    return scale * min(max(log_ratio, -clip), clip)


def objective_of_logits(world: TokenWorld, logits: Any) -> Any:
    """Return J of a policy's logits, torch's, by enumeration of responses."""
    log_probs: Any = TokenTreePolicy(world.tree, logits).log_probs
    ratio = log_probs - like(to_numpy(world.reference.log_probs), log_probs)
    paid = like(world.returns, log_probs) - world.beta * ratio
    return (log_probs.exp() * paid).sum()
