"""What :func:`prefsim.solvers.fit` looks at before it begins."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from prefsim.checks import trusted_values
from prefsim.losses.registry import container_of
from prefsim.losses.running import RunningLoss
from prefsim.policies.base import InMemoryPolicy
from prefsim.solvers.reference import NOT_GIVEN, stated_reference
from prefsim.typing import Array, Loss

__all__ = [
    "Data",
    "check_data",
    "check_reference",
    "check_weights",
    "looked_at",
    "reference_for",
    "refuse_options",
]


class Data(Protocol):
    """What :func:`prefsim.solvers.fit` needs of a data container."""

    def __len__(self) -> int: ...

    def log_probs(self, policy: Any) -> tuple[Array, ...]:
        """Return log-probabilities of the rows."""
        ...

    def examples(self, policy: Any, ref_logps: Any, kind: type) -> tuple[Any, Any]:
        """Return the loss's container and the weight of each value."""
        ...


def check_data(data: Any) -> None:
    """Raise ``TypeError`` unless ``data`` are rows that a policy in memory can be asked about."""
    if all(hasattr(data, name) for name in ("__len__", "log_probs", "examples")):
        return
    hint = "" if not isinstance(data, dict) else "; Comparisons(**columns) makes them of a dict"
    raise TypeError(
        "data must be Comparisons, Feedback, Rankings or another container of prefsim.data, got"
        f" {type(data).__name__}{hint}"
    )


def reference_for(policy: InMemoryPolicy, loss: Loss, data: Data, reference: Any) -> Any:
    """Return the reference that was given for a loss on data, or raise where none was.

    See :func:`prefsim.solvers.reference.stated_reference`.
    """
    if len(data) == 0:
        raise ValueError("data must hold at least one row, got 0")
    if reference is NOT_GIVEN:
        # A loss that does not fit the data is the greater mistake, and is named first.
        data.examples(policy, None, container_of(loss))
    return stated_reference(loss, reference)


@dataclass(frozen=True)
class _LookedAt:
    """A loss of which options and data have passed, and are not looked at again."""

    loss: Loss
    container: type[Any]

    def __call__(self, logps: Any, **options: Any) -> Any:
        with trusted_values(options=True):
            return self.loss(logps, **options)


def looked_at(loss: Loss) -> Loss:
    """Return a loss that has been evaluated once, as a search evaluates it again and again."""
    if isinstance(loss, RunningLoss):
        return replace(loss, loss=looked_at(loss.loss))
    return _LookedAt(loss, container_of(loss))


def check_reference(policy: InMemoryPolicy, reference: Any) -> None:
    """Raise unless a reference is a policy over the prompts and responses of ``policy``, or None.

    Raises
    ------
    TypeError
        If it is no policy.
    ValueError
        If it is one of other prompts or responses, or of another batch.
    """
    if reference is None or reference is policy:
        return
    if not isinstance(reference, InMemoryPolicy):
        raise TypeError(
            "reference must be a policy of prefsim.policies or None, got"
            f" {type(reference).__name__}; TabularPolicy.from_probs makes one of probabilities"
        )
    ours, theirs = (tuple(each.log_probs.shape) for each in (policy, reference))
    if ours[-2:] != theirs[-2:]:
        raise ValueError(
            f"reference must have the policy's {ours[-2]} prompts and {ours[-1]} responses, got"
            f" {theirs[-2]} and {theirs[-1]}"
        )
    if theirs[:-2] and ours[:-2]:
        try:
            np.broadcast_shapes(theirs[:-2], ours[:-2])
        except ValueError:
            raise ValueError(
                f"reference must have the policy's batch shape {ours[:-2]}, got {theirs[:-2]}"
            ) from None


def check_weights(weight: np.ndarray, couples: Callable[[], bool], *, some_empty: bool) -> None:
    """Raise where there is nothing to fit, or weights would not reach a statistic of the batch.

    Weights ``(..., n)`` are applied to the values of a loss, which come too late for the latter,
    that of a loss that ``couples`` its batch. With ``some_empty`` data sets without weight may
    stand beside others.
    """
    empty = ~(weight > 0).any(axis=-1)
    if empty.any() and (empty.all() or not some_empty):
        where = f" in data set {int(np.argmax(empty.reshape(-1)))}" if weight.ndim > 1 else ""
        raise ValueError(f"some row must have a weight > 0, got weights that are all 0{where}")
    if not np.allclose(weight, weight.flat[0], rtol=1e-9, atol=0) and couples():
        raise ValueError(
            "the loss couples the examples of its batch and sees no weights, so that it needs hard"
            " labels of equal weight; got unequal weights (sample the data, or pass the batch's"
            " statistic as an option of the loss)"
        )


def refuse_options(policy: Any, given: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raise ``TypeError`` for options that :func:`prefsim.solvers.fit` does not have.

    Those of language models are not those of a policy in memory.
    """
    if not given:
        return
    name = next(iter(given))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(known)}"
    raise TypeError(f"fit of a {type(policy).__name__} has no option {name!r}{hint}")
