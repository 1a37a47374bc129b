"""Rollouts: K responses that a policy drew to each prompt, with rewards and how likely each was."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, like, random_generator, to_numpy
from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_flag,
    check_integer,
    check_kind,
    check_places,
    check_positive,
    check_shape,
)
from prefsim.containers import ListLogps, TokenListLogps
from prefsim.data.columns import as_log_probabilities, check_columns, zeros_like_logps
from prefsim.numerics import array_namespace, log_softmax
from prefsim.policies.base import InMemoryPolicy
from prefsim.policies.tabular import TabularPolicy
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.typing import Array
from prefsim.worlds.bandit import ContextualBandit
from prefsim.worlds.tokens import TokenTree

__all__ = ["Rollouts"]

KINDS = (ListLogps, TokenListLogps)
# Rows of a population: more are a mistake in K.
MOST_ROWS = 2_000_000


@readable
@dataclass(frozen=True, init=False, eq=False)
class Rollouts:
    """K responses that a policy drew to each prompt, with their rewards.

    For losses of :class:`prefsim.losses.ListLogps` and :class:`prefsim.losses.TokenListLogps`. The
    tokens are those of a :class:`~prefsim.policies.TokenTreePolicy`; a response of any other policy
    is one token.

    Parameters
    ----------
    prompt
        Integers ``(n,)``.
    completions
        Integers ``(n, K)``.
    scores
        Rewards ``(n, K)``.
    old_logp
        ``(n, K, T)`` in nats, of every token under the policy that drew it, any number behind the
        end; the policy that is asked unless given.
    advantage
        ``(n, K, T)``, of every token, where a value function says so.
    weight
        ``(n,)``, >= 0; 1/n unless given.

    Raises
    ------
    ValueError
        If shapes differ, an index is negative, or a number is not finite.
    """

    prompt: np.ndarray
    completions: np.ndarray
    scores: np.ndarray
    old_logp: np.ndarray | None
    advantage: np.ndarray | None
    weight: np.ndarray

    def __init__(
        self,
        prompt: Any,
        completions: Any,
        scores: Any,
        *,
        old_logp: Any = None,
        advantage: Any = None,
        weight: Any = None,
    ) -> None:
        prompt = as_index_array(prompt, "prompt")
        completions = as_index_array(completions, "completions")
        scores = as_float_array(scores, "scores")
        if completions.ndim != 2 or completions.shape[:1] != prompt.shape:
            raise ValueError(
                f"prompt must be (n,) and completions (n, K), got {prompt.shape} and"
                f" {completions.shape}"
            )
        check_shape(scores, "scores", completions.shape)
        n = prompt.size
        tokens = {
            "old_logp": None if old_logp is None else as_log_probabilities(old_logp, "old_logp"),
            "advantage": None if advantage is None else as_float_array(advantage, "advantage"),
        }
        for name, column in tokens.items():
            if column is not None and column.shape[:-1] != completions.shape:
                raise ValueError(
                    f"{name} must be (n, K, T) for completions {completions.shape}, got"
                    f" {column.shape}"
                )
        shares = (
            np.full(n, 1.0 / max(n, 1))
            if weight is None
            else as_float_array(weight, "weight", ndim=1)
        )
        check_columns({"weight": shares}, n)
        if (shares < 0).any():
            raise ValueError(f"weight must be >= 0, got {shares.min()}")
        set_fields(
            self, prompt=prompt, completions=completions, scores=scores, weight=shares, **tokens
        )

    def __len__(self) -> int:
        return int(self.prompt.shape[0])

    @classmethod
    def population(
        cls,
        world: ContextualBandit | TokenTree,
        policy: InMemoryPolicy,
        k: int,
        *,
        temperature: float = 1.0,
        as_drawn: bool = False,
    ) -> Rollouts:
        r"""Return every way to draw ``k`` responses to each prompt, weighted by its probability.

        A loss summed over these rows is its exact expectation over draws from ``policy``.

        Parameters
        ----------
        world
            With a reward ``(X, Y)``.
        policy
            Draws the responses; one, no batch. Its log-probabilities are kept as ``old_logp``.
        k
            Responses to a prompt, >= 1.
        temperature
            τ > 0 of the draws: every token is drawn as from :math:`\pi^{1/\tau}`, normalised.
        as_drawn
            At another temperature than 1 ``old_logp`` are still those of the policy itself, as
            trainers of language models have them: its ratio to itself is 1, though it did not draw
            the responses, and no gradient of theirs is that of an expected reward. True: those of
            what was drawn, so that the ratio accounts for the temperature.

        Raises
        ------
        ValueError
            If the world has no reward, an option is out of range, or there are more than two
            million ways.

        References
        ----------
        Ivison et al. 2024, arXiv:2406.09279: draws at 0.7, log-probabilities at 1.

        Examples
        --------
        >>> from prefsim.policies import TabularPolicy
        >>> world = ContextualBandit(reward=[[0.0, 1.0]])
        >>> drawn = Rollouts.population(world, TabularPolicy.from_probs([[0.75, 0.25]]), 2)
        >>> drawn.completions.tolist(), drawn.weight.round(6).tolist()
        ([[0, 0], [0, 1], [1, 0], [1, 1]], [0.5625, 0.1875, 0.1875, 0.0625])
        """
        reward, shares = _reward_of(world)
        check_integer(low=1, k=k)
        check_flag(as_drawn=as_drawn)
        drawn_by = _at_temperature(policy, temperature)
        probs = _probs_of(drawn_by, reward)
        x, y = reward.shape
        if x * y**k > MOST_ROWS:
            raise ValueError(
                f"there would be {x * y**k} ways to draw {k} of {y} responses; the most that is"
                f" enumerated is {MOST_ROWS}"
            )
        groups = np.asarray(list(product(range(y), repeat=k)), dtype=np.int64)
        prompt = np.repeat(np.arange(x), len(groups))
        completions = np.tile(groups, (x, 1))
        weight = shares[prompt] * probs[prompt[:, None], completions].prod(axis=-1)
        # What is never drawn has no finite log-probability.
        kept = weight > 0
        said_by = drawn_by if as_drawn else policy
        return cls._drawn(said_by, prompt[kept], completions[kept], reward, weight[kept])

    @classmethod
    def sample(
        cls,
        world: ContextualBandit | TokenTree,
        policy: InMemoryPolicy,
        n: int,
        k: int,
        *,
        seed: Seed,
        temperature: float = 1.0,
        as_drawn: bool = False,
    ) -> Rollouts:
        """Draw ``n`` prompts and ``k`` responses of ``policy`` to each.

        Parameters and errors are those of :meth:`population`; ``seed`` is of the draws.
        """
        reward, shares = _reward_of(world)
        check_integer(low=0, n=n)
        check_integer(low=1, k=k)
        check_flag(as_drawn=as_drawn)
        drawn_by = _at_temperature(policy, temperature)
        _probs_of(drawn_by, reward)
        rng = random_generator(seed)
        prompt = rng.choice(len(shares), size=n, p=shares)
        completions = to_numpy(drawn_by.sample(prompt, k, rng))
        said_by = drawn_by if as_drawn else policy
        return cls._drawn(said_by, prompt, completions, reward, None)

    @classmethod
    def _drawn(
        cls,
        policy: InMemoryPolicy,
        prompt: np.ndarray,
        completions: np.ndarray,
        reward: np.ndarray,
        weight: np.ndarray | None,
    ) -> Rollouts:
        old, _ = _tokens(policy, prompt, completions)
        scores = reward[prompt[:, None], completions]
        return cls(prompt, completions, scores, old_logp=to_numpy(old), weight=weight)

    def log_probs(self, policy: InMemoryPolicy) -> tuple[Array, ...]:
        """Return log-probabilities of the tokens under ``policy``, ``(..., n, K, T)`` in nats."""
        return (_tokens(policy, self.prompt, self.completions)[0],)

    def examples(
        self, policy: InMemoryPolicy, ref_logps: tuple[Array, ...] | None, kind: type
    ) -> tuple[ListLogps | TokenListLogps, Array]:
        """Return what a loss sees and the weight of each value."""
        if kind not in KINDS:
            names = " and ".join(each.__name__ for each in KINDS)
            raise ValueError(f"Rollouts feed losses of {names}, got a loss of {kind.__name__}")
        logp, mask = _tokens(policy, self.prompt, self.completions)
        (ref_logp,) = ref_logps or zeros_like_logps((logp,))
        xp = array_namespace(logp)
        logp, ref_logp = xp.broadcast_arrays(logp, ref_logp)
        mask = xp.broadcast_to(mask, logp.shape)
        scores = xp.broadcast_to(like(self.scores, logp), logp.shape[:-1])
        given: dict[str, Any] = {}
        for name in ("old_logp", "advantage"):
            column = getattr(self, name)
            if column is not None:
                check_shape(column, name, tuple(logp.shape[-3:]))
                column = xp.broadcast_to(like(column, logp), logp.shape)
            given[name] = column
        weight = like(self.weight, logp)
        if kind is TokenListLogps:
            tokens = TokenListLogps(logp, ref_logp, mask, scores, **given)
            return tokens, weight
        zero = xp.zeros_like(logp)
        logps, ref_logps_, old = (
            None if part is None else xp.sum(xp.where(mask, part, zero), axis=-1)
            for part in (logp, ref_logp, given["old_logp"])
        )
        return ListLogps(logps, ref_logps_, scores, old), weight


def _reward_of(world: ContextualBandit | TokenTree) -> tuple[np.ndarray, np.ndarray]:
    """Return the rewards ``(X, Y)`` of a world and the probabilities of its prompts."""
    if not isinstance(world, TokenTree):
        check_kind(ContextualBandit, world=world)
    if world.reward is None or np.ndim(world.reward) != 2:
        raise ValueError("rollouts need one world with a reward (X, Y)")
    return (
        to_numpy(world.reward).astype(np.float64),
        to_numpy(world.context_probs).astype(np.float64),
    )


def _probs_of(policy: InMemoryPolicy, reward: np.ndarray) -> np.ndarray:
    check_kind(InMemoryPolicy, policy=policy)
    probs = to_numpy(policy.probs).astype(np.float64)
    if probs.shape != reward.shape:
        raise ValueError(
            f"the policy must be one over the world's contexts and responses {reward.shape}, got"
            f" {probs.shape}"
        )
    return probs


def _at_temperature(policy: InMemoryPolicy, temperature: float) -> InMemoryPolicy:
    """Return the policy whose tokens are drawn at a temperature."""
    check_kind(InMemoryPolicy, policy=policy)
    check_positive(temperature=temperature)
    if temperature == 1:
        return policy
    if isinstance(policy, TokenTreePolicy):
        return TokenTreePolicy(policy.tree, policy.logits / temperature)
    return TabularPolicy(log_softmax(policy.log_probs / temperature))


def _tokens(policy: InMemoryPolicy, prompt: np.ndarray, completions: np.ndarray) -> Any:
    """Return log-probabilities of tokens ``(..., n, K, T)`` and which are there."""
    asked = np.broadcast_to(prompt[:, None], completions.shape)
    if isinstance(policy, TokenTreePolicy):
        check_places(prompt, "prompt", size=policy.tree.n_contexts)
        check_places(completions, "completions", size=policy.tree.n_sequences)
        return policy.token_log_probs(asked, completions)
    (logps,) = policy.log_prob_each({"completions": (asked, completions)}).values()
    one = logps[..., None]
    return one, like(np.ones((*completions.shape, 1)), one) > 0
