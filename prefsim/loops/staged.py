"""Training in stages, each against the policy that the one before has left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefsim.checks import check_callable
from prefsim.loops.rounds import SelfPlayRound, Trainer, play_rounds
from prefsim.solvers.fit import fit
from prefsim.typing import Loss

__all__ = ["staged_reference"]


def staged_reference(
    policy: Any,
    loss: Loss,
    parts: Sequence[Any],
    *,
    reference: Any = None,
    train: Trainer | None = None,
) -> list[SelfPlayRound]:
    r"""Train on parts of the data one after the other, each time with the last policy as reference.

    sDPO where the loss is DPO's: a reference that is better aligned with every stage. With one
    population for all parts, T stages of strength β multiply the tilt: together they are one
    training of strength β/T.

    Parameters
    ----------
    policy
        Where the first stage starts.
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``.
    parts
        The data of each stage, at least one, in the order in which they are learned (the method:
        from easy to hard).
    reference
        Of the first stage; the policy unless given.
    train
        Function of the policy, loss, data and reference that returns the next policy;
        :func:`prefsim.solvers.fit` unless given. :func:`prefsim.loops.descent` makes one, and
        :func:`prefsim.lm.trainer` one for language models.

    Returns
    -------
    list of SelfPlayRound, one for each stage: its data, and the policy after it.

    Raises
    ------
    ValueError
        If there is no part, or something to call is none.

    References
    ----------
    Kim et al. 2024, "sDPO: Don't Use Your Data All at Once", arXiv:2403.19270.

    Examples
    --------
    >>> import functools
    >>> from prefsim import losses
    >>> from prefsim.data import Comparisons
    >>> from prefsim.policies import TabularPolicy
    >>> from prefsim.worlds import ContextualBandit
    >>> world, start = ContextualBandit(reward=[[0.0, 1.0]]), TabularPolicy.uniform(1, 2)
    >>> data = Comparisons.population(world, start)
    >>> loss = functools.partial(losses.dpo, beta=2.0)
    >>> stages = staged_reference(start, loss, [data, data])
    >>> [stage.policy.probs.round(4).tolist() for stage in stages]
    [[[0.3775, 0.6225]], [[0.2689, 0.7311]]]
    """
    if len(parts) == 0:
        raise ValueError("parts must hold the data of at least one stage, got 0")
    check_callable(loss=loss, train=train or fit)
    remaining = iter(parts)

    def next_part(*_: Any) -> Any:
        return next(remaining)

    # Nothing is drawn, whatever the seed.
    stages = list(
        play_rounds(policy, next_part, loss, rounds=1, seed=0, reference=reference, train=train)
    )
    if len(parts) > 1:
        last = stages[0].policy
        later = len(parts) - 1
        stages += play_rounds(last, next_part, loss, rounds=later, seed=0, train=train)
    return stages
