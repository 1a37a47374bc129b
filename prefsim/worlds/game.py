"""Preference games.

Two players each name a response, and a rater says how often the first is preferred.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, asarray, on_backend, random_generator, to_numpy
from prefsim.checks import (
    as_float_array,
    as_floats,
    as_preference,
    as_probabilities,
    check_choice,
    check_integer,
    check_interval,
    check_positive,
    check_rankings,
    check_shape,
    widened_preference,
)
from prefsim.typing import Array
from prefsim.worlds.ballots import Ballots, preference_of_ranks, read_preflib
from prefsim.worlds.bandit import ContextualBandit, bradley_terry_matrix, bradley_terry_on_backend

KINDS = ("uniform", "transitive", "cyclic", "tournament")

__all__ = ["KINDS", "PreferenceGame"]


@readable
@dataclass(frozen=True, init=False, eq=False)
class PreferenceGame:
    """Symmetric constant-sum game of a preference matrix.

    Parameters
    ----------
    preference
        ``(..., n, n)``: probability that response i is preferred to response j, with ``P + Pᵀ = 1``
        within 1e-9 (1e-5 where it is held in single precision; in double it is then the game that
        it rounds). Leading axes are independent games, such as one for each context.
    labels
        Names of the n responses, optional.
    context_probs
        ``(X,)``, weights of the games of the last leading axis (contexts), optional; used by
        :meth:`average`.
    ballots
        The election that the preference was counted from, optional.

    Raises
    ------
    ValueError
        If a shape does not fit, an entry is not in [0, 1], ``P + Pᵀ`` differs from 1, or the
        contexts do not sum to one.

    Examples
    --------
    >>> table = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    >>> game = PreferenceGame(table, labels=("rock", "scissors", "paper"))
    >>> game.n_responses, game.batch_shape
    (3, ())
    """

    preference: Array
    labels: tuple[str, ...] | None
    context_probs: Array | None
    ballots: Ballots | None

    def __init__(
        self,
        preference: Any,
        *,
        labels: Sequence[str] | None = None,
        context_probs: Any = None,
        ballots: Ballots | None = None,
    ) -> None:
        table = as_preference(preference, graph=True)
        if labels is not None and len(labels) != table.shape[-1]:
            raise ValueError(
                f"labels must name the {table.shape[-1]} responses, got {len(labels)} names"
            )
        if context_probs is not None:
            context_probs = as_probabilities(context_probs, "context_probs", ndim=1)
            check_shape(
                table, "preference of a game with contexts", (context_probs.shape[0], None, None)
            )
        set_fields(
            self,
            preference=widened_preference(on_backend(preference, table, "preference"), preference),
            labels=None if labels is None else tuple(str(label) for label in labels),
            context_probs=None if context_probs is None else asarray(context_probs),
            ballots=ballots,
        )

    @property
    def n_responses(self) -> int:
        """Number of responses n."""
        return int(self.preference.shape[-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: independent games."""
        return tuple(self.preference.shape[:-2])

    def average(self, values: Array) -> Array:
        """Return the average of one value for each game ``(..., X)`` over the contexts.

        ``(...,)``.
        """
        if self.context_probs is None:
            raise ValueError("the game has no context_probs to average with")
        values, weight = as_floats(nan=True, values=values, weight=self.context_probs)
        check_shape(values, "values", tuple(weight.shape))
        return (values * weight).sum(-1)

    def condorcet_winner(self) -> np.ndarray:
        """Return the response that beats every other with probability above one half.

        Integers ``(...,)``, -1 where there is none.

        Examples
        --------
        >>> int(PreferenceGame.from_reward([0.0, 2.0, 1.0]).condorcet_winner())
        1
        """
        beats = to_numpy(self.preference) > 0.5
        wins = beats.sum(axis=-1) == self.n_responses - 1
        return np.where(wins.any(axis=-1), wins.argmax(axis=-1), -1)

    def to_bandit(self) -> ContextualBandit:
        """Return the bandit in which a response is judged by this game's preferences.

        One game is one context. A last leading axis is the contexts, weighted by ``context_probs``
        (evenly where there are none); further ones stay independent bandits.

        Examples
        --------
        >>> PreferenceGame([[0.5, 0.9], [0.1, 0.5]]).to_bandit().preference.shape
        (1, 2, 2)
        >>> world = PreferenceGame.random(3, seed=0, batch_shape=(4,)).to_bandit()
        >>> world.n_contexts, world.n_responses
        (4, 3)
        """
        contexts = self.preference if self.batch_shape else self.preference[None]
        return ContextualBandit(preference=contexts, context_probs=self.context_probs)

    @classmethod
    def from_reward(
        cls, reward: Any, *, scale: float = 1.0, labels: Sequence[str] | None = None
    ) -> PreferenceGame:
        r"""Return the Bradley–Terry game of rewards.

        .. math:: P_{ij} = \sigma(c\,(r_i - r_j))

        Parameters
        ----------
        reward
            ``(..., n)``, in nats (log-odds) when ``scale`` is 1.
        scale
            Inverse temperature c > 0.
        labels
            Names of the n responses, optional.

        Examples
        --------
        >>> PreferenceGame.from_reward([0.0, 1.0], scale=2.0).preference.round(3)
        array([[0.5  , 0.119],
               [0.881, 0.5  ]])
        """
        check_positive(scale=scale)
        table = as_float_array(reward, "reward", min_ndim=1, graph=True)
        return cls(bradley_terry_on_backend(reward, table, scale=scale), labels=labels)

    @classmethod
    def from_rankings(
        cls,
        rankings: Any,
        *,
        n_items: int | None = None,
        weights: Any = None,
        labels: Sequence[str] | None = None,
    ) -> PreferenceGame:
        """Return the game of the voters' pairwise majorities.

        Items that a voter does not rank tie with each other below all that the voter ranks, and
        each tie counts half for both. For rankings with ties between ranked items see
        :meth:`from_ballots`.

        Parameters
        ----------
        rankings
            Integers ``(m, K)``: the items of each ranking, best first; -1 fills the ends of short
            ones.
        n_items
            Number of items; the largest that is ranked decides unless given.
        weights
            ``(m,)``: how many voters cast each ranking, one unless given.
        labels
            Names of the items, optional.

        Raises
        ------
        ValueError
            If an item is out of range or ranked twice by one voter, or a weight is negative.

        Examples
        --------
        >>> PreferenceGame.from_rankings([[0, 1, 2], [2, -1, -1]], weights=[3, 1]).preference
        array([[0.5  , 0.875, 0.75 ],
               [0.125, 0.5  , 0.75 ],
               [0.25 , 0.25 , 0.5  ]])
        """
        orders = np.asarray(rankings)
        if n_items is None:
            n_items = int(orders.max(initial=0)) + 1 if orders.dtype.kind in "iu" else 1
        check_integer(low=1, n_items=n_items)
        orders = check_rankings(orders, "rankings", n_items)
        row, place = np.nonzero(orders >= 0)
        ranks = np.full((orders.shape[0], n_items), -1)
        ranks[row, orders[row, place]] = place
        return cls(preference_of_ranks(ranks, weights), labels=labels)

    @classmethod
    def from_ballots(cls, ballots: Ballots) -> PreferenceGame:
        """Return the game of the voters' pairwise majorities.

        What a ballot ties, or leaves out together, counts half for both.
        """
        return cls(
            preference_of_ranks(ballots.ranks, ballots.counts),
            labels=ballots.labels,
            ballots=ballots,
        )

    @classmethod
    def from_preflib(cls, path: str | os.PathLike[str]) -> PreferenceGame:
        """Return the game of an election in a PrefLib file (.soc, .soi, .toc or .toi).

        ``P[i, j]`` is the share of voters that place i above j. A voter who ties two alternatives
        counts as half a vote for each; the alternatives that a ballot leaves out tie with each
        other, below all that it ranks.

        Parameters
        ----------
        path
            File in PrefLib's format of 2022 or later (https://preflib.org/format).

        Raises
        ------
        ValueError
            Naming file and line, if the file is missing, truncated or malformed (see
            :func:`prefsim.worlds.ballots.read_preflib`).

        Examples
        --------
        >>> from prefsim.worlds.ballots import synthetic_ballots
        >>> game = PreferenceGame.from_preflib(synthetic_ballots())
        >>> game.labels[0], float(game.preference[0, 1]), int(game.condorcet_winner())
        ('Concise answer', 0.6375, -1)
        """
        return cls.from_ballots(read_preflib(path))

    @classmethod
    def random(
        cls,
        n: int,
        *,
        seed: Seed,
        batch_shape: tuple[int, ...] = (),
        kind: str = "uniform",
        ties: float = 0.0,
    ) -> PreferenceGame:
        """Draw a game.

        Parameters
        ----------
        n
            Number of responses.
        seed
            Integer or generator.
        batch_shape
            Leading axes: independent games.
        kind
            ``"uniform"``: independent preferences uniform on [0, 1]. ``"transitive"``:
            Bradley–Terry with standard normal rewards. ``"cyclic"``: in a circle of responses each
            beats the ``(n - 1) // 2`` that follow it, with probability uniform on (½, 1]; every one
            is beaten, for n >= 3. ``"tournament"``: every pair is decided 0 or 1 by a fair coin.
        ties
            Share of pairs replaced by a tie (½), in [0, 1].

        Examples
        --------
        >>> PreferenceGame.random(3, seed=0, kind="tournament", batch_shape=(2,)).preference[0]
        array([[0.5, 1. , 1. ],
               [0. , 0.5, 0. ],
               [0. , 1. , 0.5]])
        """
        check_integer(low=1, n=n)
        check_choice(KINDS, kind=kind)
        check_interval(low=0.0, high=1.0, closed="both", ties=ties)
        if kind == "cyclic" and n < 3:
            raise ValueError(f"a cyclic game needs n >= 3 responses, got {n}")
        rng = random_generator(seed)
        shape = (*batch_shape, n, n)
        if kind == "transitive":
            upper = bradley_terry_matrix(rng.standard_normal((*batch_shape, n)))
        elif kind == "tournament":
            upper = rng.integers(0, 2, shape).astype(np.float64)
        else:
            upper = rng.random(shape)
            if kind == "cyclic":
                ahead = (np.arange(n)[None, :] - np.arange(n)[:, None]) % n
                margin = 0.5 * (1.0 - upper)
                upper = 0.5 + np.where(
                    ahead <= (n - 1) // 2, margin, np.where(2 * ahead == n, 0.0, -margin)
                )
        if ties > 0:
            upper = np.where(rng.random(shape) < ties, 0.5, upper)
        upper = np.triu(upper, 1)
        lower = np.swapaxes(np.triu(1.0 - upper, 1), -1, -2)
        return cls(upper + lower + 0.5 * np.eye(n))
