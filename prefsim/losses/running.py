"""Losses with a running state: a shift, a moving mean, whatever follows the batches of a training.

The loss stays a pure function, and so does what moves: the state goes in, the next state comes out.
Whoever trains keeps it: :func:`prefsim.solvers.fit`, :func:`prefsim.solvers.gradient_descent` and
the training of language models, whose checkpoints hold it.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

from prefsim.losses.registry import container_of
from prefsim.typing import Array, Loss

__all__ = ["RunningLoss", "RunningState", "after_batch", "running_losses", "settled_on"]


@runtime_checkable
class RunningState(Protocol):
    """What a loss remembers of the batches before: a NamedTuple of numbers with three methods.

    Checkpoints hold the numbers by their names.
    """

    def after(self, logps: Any, weight: Array | None = None) -> Self:
        """Return the state after a further batch: the loss's container, and weights ``(n,)``."""
        ...

    def settled(self, logps: Any, weight: Array | None = None) -> Self:
        """Return the state that endless repetition of this one batch leads to."""
        ...

    def options(self, logps: Any) -> Mapping[str, Any]:
        """Return the options of the loss that the state sets, on this batch."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class RunningLoss:
    """A pure loss and the state that some of its options come from; a loss itself.

    Training makes :meth:`after` of a batch and then the loss of the same batch, as the methods do
    that have such a state, and the result holds the loss as it was left (``result.loss``), to go on
    from; rounds of :mod:`prefsim.loops` each start from the state given.
    :func:`prefsim.losses.running_beta_dpo` and
    :func:`prefsim.losses.running_bco` make two; a state of your own is a NamedTuple with the
    methods of :class:`RunningState`.

    Attributes
    ----------
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``.
    state
        Sets some of its options.

    Raises
    ------
    ValueError
        If the loss takes no container, or the state lacks a method.

    Examples
    --------
    The running shift of BCO over two batches:

    >>> import numpy as np
    >>> from prefsim.losses import UnpairedLogps, running_bco
    >>> ones, thumbs = np.ones(2), np.asarray([True, False])
    >>> loss = running_bco(beta=0.5)
    >>> for log_ratio in (1.0, 3.0):
    ...     batch = UnpairedLogps(log_ratio * ones, 0 * ones, thumbs)
    ...     loss = loss.after(batch)
    ...     print(loss.state.mean, loss(batch).round(4))
    0.5 [0.6931 0.6931]
    1.0 [0.4741 0.9741]
    """

    loss: Loss
    state: Any

    def __post_init__(self) -> None:
        container_of(self.loss)
        if not isinstance(self.state, RunningState):
            raise ValueError(
                "state must be a NamedTuple with the methods after, settled and options, got"
                f" {self.state!r}"
            )

    @property
    def container(self) -> type[Any]:
        """The container that the loss takes."""
        return container_of(self.loss)

    def __call__(self, logps: Any) -> Any:
        """Return the values of the loss under the state as it is, one for each example."""
        return self.loss(logps, **self.state.options(logps))

    def after(self, logps: Any, weight: Array | None = None) -> RunningLoss:
        """Return the loss with the state after a further batch."""
        return replace(self, state=self.state.after(logps, weight))

    def settled(self, logps: Any, weight: Array | None = None) -> RunningLoss:
        """Return the loss with the state that endless repetition of this batch leads to."""
        return replace(self, state=self.state.settled(logps, weight))


def after_batch(loss: Loss, logps: Any, weight: Array | None = None) -> Loss:
    """Return a loss after a further batch: with its next state, or as it is where it has none."""
    return loss.after(logps, weight) if isinstance(loss, RunningLoss) else loss


def settled_on(loss: Loss, logps: Any, weight: Array | None = None) -> Loss:
    """Return a loss as endless repetition of one batch leaves it."""
    return loss.settled(logps, weight) if isinstance(loss, RunningLoss) else loss


def running_losses() -> dict[str, Callable[..., RunningLoss]]:
    """Return every public function of :mod:`prefsim.losses` that makes a running loss, by name."""
    # Python has made the face of a package before any module of it can run.
    losses = sys.modules[__package__]
    functions = {name: getattr(losses, name) for name in losses.__all__}
    return {
        name: function
        for name, function in functions.items()
        if inspect.isfunction(function)
        and typing.get_type_hints(function).get("return") is RunningLoss
    }
