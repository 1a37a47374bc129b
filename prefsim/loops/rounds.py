"""The loop of self-play in general.

Draw judged data, train on them, repeat, with or without a trial step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator
from prefsim.checks import check_callable, check_flag, check_integer
from prefsim.solvers.descent import gradient_descent
from prefsim.solvers.fit import fit
from prefsim.typing import Loss

Draw = Callable[[Any, Any, np.random.Generator], Any]
Trainer = Callable[[Any, Loss, Any, Any], Any]

__all__ = ["SelfPlayRound", "descent", "play_rounds"]


@readable
class SelfPlayRound(NamedTuple):
    """One round: the data that were judged, and the policy after training on them."""

    pairs: Any
    policy: Any


def descent(*, step: float, iterations: int) -> Trainer:
    """Return the trainer that makes so many full-batch gradient steps of this size.

    Parameters
    ----------
    step
        Step size, > 0.
    iterations
        Number of steps, >= 1.
    """

    def train(policy: Any, loss: Loss, data: Any, reference: Any) -> Any:
        return gradient_descent(
            policy, loss, data, reference=reference, step=step, iterations=iterations
        )[0].policy

    return train


def play_rounds(
    policy: Any,
    draw: Draw,
    loss: Loss,
    *,
    rounds: int,
    seed: Seed,
    reference: Any = None,
    extragradient: bool = False,
    train: Trainer | None = None,
) -> Iterator[SelfPlayRound]:
    r"""Yield the rounds of a policy that learns from play against itself.

    In round t data are drawn with the current policy :math:`\pi_t`, and training starts there. With
    ``extragradient`` that makes only a trial policy: fresh data are drawn against it, and training
    starts at :math:`\pi_t` once more.

    Parameters
    ----------
    policy
        Where to start; a batch of policies plays each for itself, all together.
    draw
        ``(policy, opponent, generator) ->`` judged data for the loss; the opponent is the policy
        itself or the trial. See :func:`prefsim.data.drawn.labelled_pairs` and
        :func:`prefsim.data.drawn.judged_triples`.
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``.
    rounds
        Number of rounds, >= 1.
    seed
        Of all draws.
    reference
        The reference policy; the current one of each round unless given.
    extragradient
        Whether to play against a trial policy.
    train
        Function of the policy, loss, data and reference that returns the next policy;
        :func:`prefsim.solvers.fit` unless given, see also :func:`descent`.

    Yields
    ------
    SelfPlayRound
        Nothing is kept here, so that a caller may keep the last policy alone.

    Raises
    ------
    ValueError
        If ``rounds`` is out of range or something to call is none.

    References
    ----------
    Zhang et al. 2024 (INPO), arXiv:2407.00617; Zhou et al. 2025 (EGPO), arXiv:2503.08942.

    Examples
    --------
    >>> import functools
    >>> from prefsim import losses
    >>> from prefsim.data.drawn import labelled_pairs
    >>> from prefsim.policies import TabularPolicy
    >>> from prefsim.worlds import ContextualBandit
    >>> world = ContextualBandit(preference=[[[0.5, 0.9], [0.1, 0.5]]])
    >>> start = TabularPolicy.uniform(1, 2)
    >>> def draw(policy, opponent, rng):
    ...     return labelled_pairs(world, policy, 10_000, seed=rng)
    >>> loss = functools.partial(losses.inpo, step=2.0, tau=0.2)
    >>> *_, last = play_rounds(start, draw, loss, rounds=20, seed=0, reference=start)
    >>> last.policy.probs.round(2)
    array([[0.88, 0.12]])
    """
    check_integer(low=1, rounds=rounds)
    check_flag(extragradient=extragradient)
    check_callable(draw=draw, loss=loss, train=fit if train is None else train)
    return _played(
        policy,
        draw,
        loss,
        rounds,
        random_generator(seed),
        reference,
        extragradient,
        train or _minimised,
    )


def _minimised(policy: Any, loss: Loss, data: Any, reference: Any) -> Any:
    return fit(policy, loss, data, reference=reference).policy


def _played(
    policy: Any,
    draw: Draw,
    loss: Loss,
    rounds: int,
    rng: np.random.Generator,
    reference: Any,
    extragradient: bool,
    train: Trainer,
) -> Iterator[SelfPlayRound]:
    for _ in range(rounds):
        towards = policy if reference is None else reference
        opponent = (
            train(policy, loss, draw(policy, policy, rng), towards) if extragradient else policy
        )
        data = draw(policy, opponent, rng)
        policy = train(policy, loss, data, towards)
        yield SelfPlayRound(data, policy)
