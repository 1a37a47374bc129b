"""Who wins an election, by its equilibrium, by its majorities, and by a reward fitted to it."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import as_preference, as_probabilities, check_integer, check_shape
from prefsim.solvers.games.nash import solve_nash
from prefsim.solvers.likelihood.bradley_terry import fit_bradley_terry
from prefsim.worlds.game import PreferenceGame

# A share of the equilibrium below this is rounding.
ROUNDING = 1e-9

__all__ = ["Election", "bradley_terry_winner", "distance_from_winner", "elect"]


class Election(NamedTuple):
    """An election and its minimax (von Neumann) winner.

    Attributes
    ----------
    game
        Of the voters' pairwise majorities.
    equilibrium
        ``(n,)``: the shares of the alternatives in the exact equilibrium.
    exploitability
        Of the equilibrium; its certificate.
    """

    game: PreferenceGame
    equilibrium: np.ndarray
    exploitability: float

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the alternatives, their numbers where the game gives none."""
        return self.game.labels or tuple(str(i) for i in range(self.game.n_responses))

    @property
    def condorcet_winner(self) -> int:
        """The alternative that beats every other one, -1 where there is none."""
        return int(self.game.condorcet_winner())

    @property
    def is_mixed(self) -> bool:
        """Whether the equilibrium mixes alternatives."""
        return bool(self.equilibrium.max() <= 1 - ROUNDING)

    @property
    def respects_majorities(self) -> bool:
        """Whether the equilibrium is the Condorcet winner, where there is one."""
        winner = self.condorcet_winner
        return winner < 0 or bool(self.equilibrium[winner] > 1 - ROUNDING)

    def row(self) -> dict[str, str | float | int]:
        """Return what a table says of the election: its name, its voters and who wins."""
        winner = self.condorcet_winner
        row: dict[str, str | float | int] = {}
        if self.game.ballots is not None:
            row |= {"ballots": self.game.ballots.title, "voters": self.game.ballots.n_voters}
        return row | {
            "Condorcet winner": "none" if winner < 0 else self.labels[winner],
            "equilibrium": ", ".join(
                f"{label} {share:.3f}"
                for label, share in zip(self.labels, self.equilibrium, strict=True)
                if share > 0
            ),
        }


def elect(ballots: str | os.PathLike[str] | PreferenceGame) -> Election:
    """Solve the game of an election exactly.

    Parameters
    ----------
    ballots
        A PrefLib file (see :meth:`prefsim.worlds.PreferenceGame.from_preflib`) or a single game.

    Raises
    ------
    ValueError
        If the file is malformed, or there are several games.

    References
    ----------
    Fishburn 1984, "Probabilistic social choice based on simple voting comparisons".

    Examples
    --------
    >>> from prefsim.worlds import synthetic_ballots, textbook_game
    >>> elect(synthetic_ballots()).row()["Condorcet winner"]
    'none'
    >>> elect(textbook_game()).row()["equilibrium"]
    '0 0.444, 1 0.222, 2 0.333'
    """
    game = ballots
    if not isinstance(game, PreferenceGame):
        game = PreferenceGame.from_preflib(game)
    if game.batch_shape:
        raise ValueError(f"an election is a single game, got a batch of shape {game.batch_shape}")
    exact = solve_nash(game, method="lp")
    return Election(game, to_numpy(exact.policy), float(exact.exploitability))


def distance_from_winner(game: PreferenceGame | Any, winner: int) -> float:
    """Return how far the exact equilibrium is from always choosing ``winner``.

    The largest difference of a probability; 0 where ``winner`` is the Condorcet winner.

    Parameters
    ----------
    game
        A :class:`prefsim.worlds.PreferenceGame` or its matrix ``(n, n)``.
    winner
        Index of a response.

    Examples
    --------
    >>> distance_from_winner(PreferenceGame.from_reward([0.0, 2.0, 1.0]), 1)
    0.0
    >>> from prefsim.worlds import textbook_game
    >>> round(distance_from_winner(textbook_game(), 0), 6)
    0.555556
    """
    table = game if isinstance(game, PreferenceGame) else as_preference(game, "game")
    policy = to_numpy(solve_nash(table, method="lp").policy)
    check_shape(policy, "policy of a single game", (None,))
    check_integer(low=0, high=policy.size - 1, winner=winner)
    return float(np.abs(policy - np.eye(policy.size)[winner]).max())


def bradley_terry_winner(preference: Any, sampling: Any) -> np.ndarray:
    """Return the response of largest Bradley–Terry reward, fitted to pairs of a distribution.

    Each response of a pair is drawn on its own. Where the preferences are no Bradley–Terry model
    the winner depends on how the pairs are drawn.

    Parameters
    ----------
    preference
        ``(n, n)``.
    sampling
        ``(..., n)``: distributions with full support of the responses that are compared.

    Returns
    -------
    numpy.ndarray
        Integers ``(...,)``.

    Raises
    ------
    ValueError
        If ``preference`` is none, or ``sampling`` no distribution over its responses.

    Examples
    --------
    >>> cycle = [[0.5, 0.9, 0.35], [0.1, 0.5, 0.9], [0.65, 0.1, 0.5]]
    >>> bradley_terry_winner(cycle, [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    array([2, 1])
    """
    table = as_preference(preference, ndim=2)
    shares = as_probabilities(sampling, "sampling")
    check_shape(shares, "sampling", table.shape[:1])
    # A response never meets itself.
    counts = shares[..., :, None] * shares[..., None, :] * table * (1 - np.eye(len(table)))
    return np.asarray(to_numpy(fit_bradley_terry(counts).reward).argmax(axis=-1))
