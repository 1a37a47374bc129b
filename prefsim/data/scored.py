"""Scored pairs: two responses to one prompt with their rewards, and the policy that drew them.

No label says which is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import check_integer, check_kind
from prefsim.data.comparisons import Comparisons
from prefsim.numerics import gather
from prefsim.policies.base import InMemoryPolicy
from prefsim.worlds.bandit import ContextualBandit

__all__ = ["ScoredPairs"]


@readable
@dataclass(frozen=True, init=False, eq=False)
class ScoredPairs(Comparisons):
    """Pairs of responses with rewards, for losses that use scores.

    See :class:`prefsim.losses.PairLogps`.

    Parameters
    ----------
    prompt, chosen, rejected, weight
        As for :class:`Comparisons`; ``chosen`` is the first response and ``rejected`` the second,
        whatever their rewards.
    chosen_score, rejected_score
        Their rewards, ``(n,)`` or ``(*batch, n)``, finite.
    old_chosen, old_rejected
        Their log-probabilities under the policy that drew them, <= 0 nats, or neither.

    Raises
    ------
    ValueError
        If a column has another length, an index is negative, a weight is out of range, a score is
        not finite, or one of the two behaviour log-probabilities is missing.

    Examples
    --------
    >>> import functools
    >>> from prefsim import losses
    >>> from prefsim.policies import TabularPolicy
    >>> from prefsim.solvers import fit, optimal_policy
    >>> world, start = ContextualBandit(reward=[[1.0, 0.5, 0.0]]), TabularPolicy.uniform(1, 3)
    >>> data = ScoredPairs.population(world, TabularPolicy.from_probs([[0.1, 0.2, 0.7]]))
    >>> fitted = fit(
    ...     start, functools.partial(losses.copg, beta=0.5), data, reference=start
    ... ).policy.probs
    >>> bool(abs(fitted - optimal_policy(world.reward, start.probs, beta=0.5)).max() < 1e-12)
    True
    """

    chosen_score: np.ndarray
    rejected_score: np.ndarray

    def __init__(
        self,
        prompt: Any,
        chosen: Any,
        rejected: Any,
        *,
        chosen_score: Any,
        rejected_score: Any,
        old_chosen: Any = None,
        old_rejected: Any = None,
        weight: Any = None,
    ) -> None:
        scores = {"chosen_score": chosen_score, "rejected_score": rejected_score}
        super().__init__(
            prompt,
            chosen,
            rejected,
            weight=weight,
            **scores,
            old_chosen=old_chosen,
            old_rejected=old_rejected,
        )

    @classmethod
    def population(  # type: ignore[override]
        cls,
        world: ContextualBandit,
        policy: InMemoryPolicy,
        *,
        against: InMemoryPolicy | None = None,
    ) -> ScoredPairs:
        """Enumerate every (x, y, y') of ``world`` with its rewards.

        Each is weighted by ``ρ(x) π(y|x) π'(y'|x)``.

        Parameters
        ----------
        world
            A bandit with a reward; any leading batch axes.
        policy, against
            Distributions of the two responses; the second is ``policy`` unless given. They are
            recorded as the behaviour policy.

        Raises
        ------
        ValueError
            If the world has no reward, or the shapes do not fit.
        """
        _check_drawn(world, policy, against)
        pairs = Comparisons.population(world, policy, against=against)
        return cls._with_rewards(
            world, policy, against, pairs.prompt, pairs.chosen, pairs.rejected, pairs.weight
        )

    @classmethod
    def sample(  # type: ignore[override]
        cls,
        world: ContextualBandit,
        n: int,
        *,
        seed: Seed,
        policy: InMemoryPolicy,
        against: InMemoryPolicy | None = None,
    ) -> ScoredPairs:
        """Draw ``n`` prompts of one world and two independent responses to each.

        The parameters are those of :meth:`population`.
        """
        check_integer(low=0, n=n)
        _check_drawn(world, policy, against)
        if world.batch_shape:
            raise ValueError(f"sampling needs one world, got a batch of shape {world.batch_shape}")
        rng = random_generator(seed)
        prompt = rng.choice(
            world.n_contexts, size=n, p=to_numpy(world.context_probs).astype(np.float64)
        )
        first, second = (
            to_numpy(p.sample(prompt, 1, rng))[:, 0]
            for p in (policy, policy if against is None else against)
        )
        return cls._with_rewards(world, policy, against, prompt, first, second, None)

    @classmethod
    def _with_rewards(
        cls,
        world: ContextualBandit,
        policy: InMemoryPolicy,
        against: InMemoryPolicy | None,
        prompt: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        weight: np.ndarray | None,
    ) -> ScoredPairs:
        if world.reward is None:
            raise ValueError(
                "world must have a reward, got one that is given by its preferences alone"
            )
        reward = to_numpy(world.reward).astype(np.float64)
        of_first = to_numpy(policy.log_probs).astype(np.float64)
        of_second = of_first
        if against is not None:
            of_second = to_numpy(against.log_probs).astype(np.float64)
        return cls(
            prompt,
            first,
            second,
            chosen_score=gather(reward, prompt, first),
            rejected_score=gather(reward, prompt, second),
            old_chosen=gather(of_first, prompt, first),
            old_rejected=gather(of_second, prompt, second),
            weight=weight,
        )

    def without_behaviour(self) -> ScoredPairs:
        """Return the same pairs as if the policy under training had drawn them."""
        scores = {"chosen_score": self.chosen_score, "rejected_score": self.rejected_score}
        return type(self)(self.prompt, self.chosen, self.rejected, weight=self.weight, **scores)


def _check_drawn(
    world: ContextualBandit, policy: InMemoryPolicy, against: InMemoryPolicy | None
) -> None:
    check_kind(ContextualBandit, world=world)
    check_kind(InMemoryPolicy, policy=policy)
    if against is not None:
        check_kind(InMemoryPolicy, against=against)
