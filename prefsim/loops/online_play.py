r"""Online learners against losses that may answer to what they play, and against one another.

A learner is any function of the history, the losses of the rounds before ``(..., t, d)``, that
returns what it plays next, ``(..., d)``. It never sees the losses of the round that it decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import as_float_array, check_callable, check_integer, check_shape
from prefsim.solvers.games.correlated import losses_against
from prefsim.solvers.online_learning.hedge import hedge, importance_weighted_loss

Learner = Callable[[np.ndarray], Any]
"""From the losses before, ``(..., t, d)``, to what is played next, ``(..., d)``."""

Adversary = Callable[[np.ndarray, np.ndarray], Any]
"""From the losses before and what is played now, ``(..., d)``, to the losses of the round."""

__all__ = [
    "Adversary",
    "Learner",
    "OnlinePlay",
    "most_likely_loses",
    "play_against",
    "play_bandit",
    "play_game",
    "play_online",
]


class OnlinePlay(NamedTuple):
    """What was played, and what it lost.

    Attributes
    ----------
    decisions, losses
        ``(..., T, d)``.
    """

    decisions: np.ndarray
    losses: np.ndarray


def _decision(learner: Learner, history: np.ndarray) -> np.ndarray:
    found = to_numpy(learner(history))
    expected = (*history.shape[:-2], history.shape[-1])
    if tuple(found.shape) != expected:
        raise ValueError(
            f"learner must return what it plays, of shape {expected}, for a history of shape"
            f" {history.shape}, got shape {tuple(found.shape)}"
        )
    return found


def play_online(learner: Learner, losses: Any) -> OnlinePlay:
    """Play a learner against fixed sequences of losses.

    Parameters
    ----------
    learner
        Gets the history ``(..., t, d)``, empty at first, and returns its decision ``(..., d)``.
    losses
        ``(..., T, d)``; all sequences are played at once.

    Returns
    -------
    OnlinePlay

    Raises
    ------
    ValueError
        If losses are not finite numbers, or a decision has another shape.

    Examples
    --------
    >>> from prefsim.solvers.online_learning.hedge import hedge
    >>> play = play_online(lambda past: hedge(past.sum(axis=-2), step=1.0), [[1.0, 0.0]] * 3)
    >>> play.decisions.round(3)
    array([[0.5  , 0.5  ],
           [0.269, 0.731],
           [0.119, 0.881]])
    """
    check_callable(learner=learner)
    given = as_float_array(losses, "losses", min_ndim=2)
    decided = [_decision(learner, given[..., :t, :]) for t in range(given.shape[-2])]
    return OnlinePlay(np.stack(decided, axis=-2) if decided else np.empty_like(given), given)


def most_likely_loses(history: np.ndarray, decision: np.ndarray) -> np.ndarray:
    """Return the losses of the adversary that puts 1 on the most likely action, else 0.

    The first of several.

    Examples
    --------
    >>> import numpy as np
    >>> most_likely_loses(np.empty((0, 2)), np.array([0.4, 0.6]))
    array([0., 1.])
    """
    actions = np.arange(decision.shape[-1])
    return (actions == np.argmax(decision, axis=-1)[..., None]).astype(np.float64)


def play_against(
    learner: Learner, adversary: Adversary, *, rounds: int, shape: tuple[int, ...]
) -> OnlinePlay:
    """Play a learner against losses that answer to what it plays.

    Parameters
    ----------
    learner
        As for :func:`play_online`.
    adversary
        Gets the history and the decision ``(..., d)``, and returns the losses ``(..., d)``.
    rounds
        T >= 1.
    shape
        ``(..., d)``: of a decision.

    Returns
    -------
    OnlinePlay

    Examples
    --------
    >>> import numpy as np
    >>> play_against(lambda past: np.array([0.4, 0.6]), most_likely_loses, rounds=2, shape=(2,))
    OnlinePlay(decisions=array([[0.4, 0.6],
           [0.4, 0.6]]), losses=array([[0., 1.],
           [0., 1.]]))
    """
    check_callable(learner=learner, adversary=adversary)
    check_integer(low=1, rounds=rounds)
    past = np.empty((*shape[:-1], rounds, shape[-1]))
    decided = np.empty_like(past)
    for t in range(rounds):
        decided[..., t, :] = _decision(learner, past[..., :t, :])
        answer = to_numpy(adversary(past[..., :t, :], decided[..., t, :]))
        check_shape(answer, "what the adversary returns", tuple(shape))
        past[..., t, :] = answer
    return OnlinePlay(decided, past)


def play_game(
    learners: Sequence[Learner], losses: Sequence[Any], *, rounds: int
) -> tuple[OnlinePlay, ...]:
    """Play a game again and again; each learner sees what all its actions would have lost.

    Parameters
    ----------
    learners
        One for each player, as for :func:`play_online`.
    losses
        For each player its table ``(..., n_1, …, n_m)``; leading axes are games of one batch.
    rounds
        T >= 1.

    Returns
    -------
    tuple of OnlinePlay
        One for each player; every learner's losses are the expected ones.

    Raises
    ------
    ValueError
        If there is not one table for each learner, or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim.solvers.online_learning.hedge import hedge
    >>> pennies = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> learner = lambda past: hedge(past.sum(axis=-2), step=1.0, log_start=np.log([0.6, 0.4]))
    >>> first, second = play_game([learner, learner], [pennies, -pennies], rounds=2)
    >>> first.decisions.round(3)
    array([[0.6  , 0.4  ],
           [0.551, 0.449]])
    """
    check_integer(low=1, rounds=rounds)
    for name, given in (("learners", learners), ("losses", losses)):
        if not isinstance(given, list | tuple) or not given:
            raise ValueError(
                f"{name} must be a list of one for each player, got {type(given).__name__}"
            )
    for learner in learners:
        check_callable(learners=learner)
    m = len(learners)
    tables = [as_float_array(table, "losses", min_ndim=m) for table in losses]
    if len(tables) != m:
        raise ValueError(f"losses must hold one table for each of {m} learners, got {len(tables)}")
    batch = np.broadcast_shapes(*(table.shape[: table.ndim - m] for table in tables))
    sizes = tables[0].shape[tables[0].ndim - m :]
    past = [np.empty((*batch, rounds, n)) for n in sizes]
    decided = [np.empty_like(each) for each in past]
    for t in range(rounds):
        now = [
            _decision(learner, each[..., :t, :])
            for learner, each in zip(learners, past, strict=True)
        ]
        for i, lost in enumerate(losses_against(tables, now)):
            decided[i][..., t, :], past[i][..., t, :] = now[i], lost
    return tuple(OnlinePlay(*each) for each in zip(decided, past, strict=True))


def play_bandit(losses: Any, *, step: float, seed: Seed) -> tuple[OnlinePlay, np.ndarray]:
    """Play Hedge on estimates from the one action that is drawn in each round (Exp3).

    Parameters
    ----------
    losses
        ``(..., T, d)``; of a round only the loss of the action that is drawn is seen.
    step
        >= 0.
    seed
        Of the draws.

    Returns
    -------
    OnlinePlay, and the sum of all estimates, ``(..., d)``.

    References
    ----------
    Auer, Cesa-Bianchi, Freund and Schapire 2002, "The nonstochastic multiarmed bandit problem".
    """
    losses = as_float_array(losses, "losses", min_ndim=2)
    rng = random_generator(seed)
    estimated = np.zeros((*losses.shape[:-2], losses.shape[-1]))
    decided = np.empty_like(losses)
    for t in range(losses.shape[-2]):
        policy = decided[..., t, :] = hedge(estimated, step=step)
        draws = rng.random(policy.shape[:-1])[..., None]
        # The last action takes what rounding leaves of the sum.
        action = (draws > policy.cumsum(axis=-1)[..., :-1]).sum(axis=-1)
        paid = np.take_along_axis(losses[..., t, :], action[..., None], axis=-1)[..., 0]
        estimated = estimated + importance_weighted_loss(paid, action, policy)
    return OnlinePlay(decided, losses), estimated
