"""Rankings: several responses to one prompt, each with a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, like, random_generator, to_numpy
from prefsim.checks import as_float_array, as_index_array, check_integer, check_kind
from prefsim.containers import ListLogps
from prefsim.data.columns import check_columns, zeros_like_logps
from prefsim.policies.base import InMemoryPolicy, entries_of
from prefsim.raters.plackett_luce import sample_rankings
from prefsim.typing import Array
from prefsim.worlds.bandit import ContextualBandit

__all__ = ["Rankings"]

# Numbers that a sample holds at once beside what it returns.
_BLOCK = 2**20


@readable
@dataclass(frozen=True, init=False, eq=False)
class Rankings:
    """K responses to each prompt with scores, in the ecosystem's columns.

    Parameters
    ----------
    prompt
        Integers ``(n,)``.
    completions
        Integers ``(n, K)``.
    scores
        ``(n, K)``; higher is better.
    weight
        ``(n,)``, >= 0; 1/n unless given.

    Raises
    ------
    ValueError
        If shapes differ, an index is negative, or a score or weight is not finite.
    """

    prompt: np.ndarray
    completions: np.ndarray
    scores: np.ndarray
    weight: np.ndarray

    def __init__(self, prompt: Any, completions: Any, scores: Any, weight: Any = None) -> None:
        prompt = as_index_array(prompt, "prompt")
        completions = as_index_array(completions, "completions")
        scores = as_float_array(scores, "scores")
        if completions.ndim != 2 or completions.shape[:1] != prompt.shape:
            raise ValueError(
                f"prompt must be (n,) and completions (n, K), got {prompt.shape} and"
                f" {completions.shape}"
            )
        if scores.shape != completions.shape:
            raise ValueError(
                f"scores must have the shape of completions {completions.shape}, got {scores.shape}"
            )
        n = prompt.size
        weight = (
            np.full(n, 1.0 / max(n, 1))
            if weight is None
            else as_float_array(weight, "weight", ndim=1)
        )
        check_columns({"weight": weight}, n)
        if (weight < 0).any():
            raise ValueError(f"weight must be >= 0, got {weight.min()}")
        set_fields(
            self,
            prompt=prompt,
            completions=completions,
            scores=scores,
            weight=weight,
        )

    def __len__(self) -> int:
        return int(self.prompt.shape[0])

    @classmethod
    def population(cls, world: ContextualBandit) -> Rankings:
        """Return every context with all its responses, scored by the reward.

        Each is weighted by the context's probability.
        """
        check_kind(ContextualBandit, world=world)
        if world.reward is None or world.batch_shape:
            raise ValueError("the population of rankings needs one world with a reward (X, Y)")
        x, y = world.n_contexts, world.n_responses
        return cls(
            np.arange(x),
            np.tile(np.arange(y), (x, 1)),
            to_numpy(world.reward),
            to_numpy(world.context_probs),
        )

    @classmethod
    def sample(cls, world: ContextualBandit, n: int, k: int, *, seed: Seed) -> Rankings:
        """Draw ``n`` prompts, K distinct responses to each and a ranking of these.

        The ranking is Plackett–Luce by the reward, and the score is K − rank.
        """
        check_kind(ContextualBandit, world=world)
        if world.reward is None or world.batch_shape:
            raise ValueError("sampling rankings needs one world with a reward (X, Y)")
        check_integer(low=0, n=n)
        check_integer(low=1, high=world.n_responses, k=k)
        rng = random_generator(seed)
        prompt = rng.choice(
            world.n_contexts, size=n, p=to_numpy(world.context_probs).astype(np.float64)
        )
        completions = np.empty((n, k), dtype=np.int64)
        # In blocks, which draw the same numbers: of a long list only a few responses are kept.
        block = max(1, _BLOCK // world.n_responses)
        for start in range(0, n, block):
            part = completions[start : start + block]
            noise = rng.random((part.shape[0], world.n_responses))
            part[:] = np.argsort(noise, axis=-1)[:, :k]
        ranked = to_numpy(
            sample_rankings(to_numpy(world.reward)[prompt[:, None], completions], 1, seed=rng)
        )[:, 0]
        return cls(prompt, completions, (k - np.argsort(ranked, axis=-1)).astype(np.float64))

    def log_probs(self, policy: InMemoryPolicy) -> tuple[Array]:
        """Return the log-probabilities of the candidates under ``policy``, ``(n, K)`` in nats."""
        table = policy.log_probs
        return (entries_of(table, self._asked())(table)["completions"],)

    def _asked(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        prompt = np.broadcast_to(self.prompt[:, None], self.completions.shape)
        return {"completions": (prompt, self.completions)}

    def examples(
        self, policy: InMemoryPolicy, ref_logps: tuple[Array] | None, kind: type
    ) -> tuple[ListLogps, Array]:
        """Return what a loss sees and the weight of each value."""
        table = policy.log_probs
        return self.prepared(policy, table, ref_logps, kind)(table)

    def prepared(
        self, policy: InMemoryPolicy, table: Array, ref_logps: tuple[Array] | None, kind: type
    ) -> Callable[[Array], tuple[ListLogps, Array]]:
        """Return :meth:`examples` as a function of the policy's table of log-probabilities alone.

        See :meth:`prefsim.data.Comparisons.prepared`.
        """
        if kind is not ListLogps:
            raise ValueError(f"Rankings feed losses of ListLogps, got a loss of {kind.__name__}")
        read = entries_of(table, self._asked())
        scores, weight = like(self.scores, table), like(self.weight, table)
        (reference,) = ref_logps or zeros_like_logps((read(table)["completions"],))

        def of(table: Array) -> tuple[ListLogps, Array]:
            return ListLogps(read(table)["completions"], reference, scores), weight

        return of
