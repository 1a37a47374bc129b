"""Feedback on single completions: desirable or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    as_context_probs,
    as_float_array,
    as_index_array,
    check_integer,
    check_kind,
    check_unit_interval,
)
from prefsim.containers import UnpairedLogps
from prefsim.data.columns import check_columns
from prefsim.data.mismatched import rows_of_other_prompts
from prefsim.data.prepared import prepared_completions
from prefsim.policies.base import InMemoryPolicy, entries_of
from prefsim.typing import Array

__all__ = ["Feedback"]


@readable
@dataclass(frozen=True, init=False, eq=False)
class Feedback:
    """Single completions with a thumb up or down, in the ecosystem's columns.

    Parameters
    ----------
    prompt, completion
        Integers ``(n,)`` or ``(*batch, n)``.
    label
        Probability that the completion is desirable, in [0, 1] (booleans are the hard case),
        ``(n,)`` or ``(*batch, n)``.
    weight
        Weight of each row, >= 0; 1/n unless given.
    mismatched
        A completion of another prompt for each row, integers shaped like ``completion``, for the
        reference point of :func:`prefsim.losses.kto`; see :meth:`with_mismatched`.
    density_ratio
        How much likelier the prompt of a row is among desirable completions than among others, >=
        0, for :func:`prefsim.losses.bco_unpaired`; see
        :func:`prefsim.losses.density_ratio_weights`.

    Raises
    ------
    ValueError
        If a column has another length, an index is negative, or a label, weight or ratio is out of
        range.
    """

    prompt: np.ndarray
    completion: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    mismatched: np.ndarray | None
    density_ratio: np.ndarray | None

    def __init__(
        self,
        prompt: Any,
        completion: Any,
        label: Any,
        weight: Any = None,
        *,
        mismatched: Any = None,
        density_ratio: Any = None,
    ) -> None:
        columns = {
            "prompt": as_index_array(prompt, "prompt"),
            "completion": as_index_array(completion, "completion"),
            "label": as_float_array(label, "label", min_ndim=1),
        }
        if columns["prompt"].ndim == 0:
            raise ValueError("prompt must have shape (..., n), got a scalar")
        n = columns["prompt"].shape[-1]
        weight = (
            np.full(n, 1.0 / max(n, 1))
            if weight is None
            else as_float_array(weight, "weight", min_ndim=1)
        )
        columns["weight"] = weight
        check_columns(columns, n)
        check_unit_interval(columns["label"], "label")
        if (weight < 0).any():
            raise ValueError(f"weight must be >= 0, got {weight.min()}")
        further: dict[str, Any] = {"mismatched": None, "density_ratio": None}
        if mismatched is not None:
            further["mismatched"] = as_index_array(mismatched, "mismatched")
            check_columns({"mismatched": further["mismatched"]}, n)
        if density_ratio is not None:
            ratio = as_float_array(density_ratio, "density_ratio", min_ndim=1)
            check_columns({"density_ratio": ratio}, n)
            if (ratio < 0).any():
                raise ValueError(f"density_ratio must be >= 0, got {ratio.min()}")
            further["density_ratio"] = ratio
        set_fields(self, **columns, **further)

    def __len__(self) -> int:
        return int(self.prompt.shape[-1])

    @classmethod
    def population(
        cls, desirable: Any, policy: InMemoryPolicy, *, context_probs: Any = None
    ) -> Feedback:
        """Enumerate every (x, y) with its probability ``desirable[x, y]`` of a thumb up.

        Each is weighted by ``ρ(x) π(y|x)``.
        """
        label = as_float_array(desirable, "desirable", min_ndim=2)
        check_kind(InMemoryPolicy, policy=policy)
        table = to_numpy(policy.probs).astype(np.float64)
        if table.shape[-2:] != label.shape[-2:]:
            raise ValueError(
                f"the policy has shape {table.shape[-2:]}, but desirable has {label.shape[-2:]}"
            )
        x, y = table.shape[-2:]
        weight = as_context_probs(context_probs, x)[:, None] * table
        prompt, completion = np.indices((x, y)).reshape(2, -1)
        return cls(
            prompt,
            completion,
            label.reshape(*label.shape[:-2], -1),
            weight.reshape(*weight.shape[:-2], -1),
        )

    @classmethod
    def sample(cls, desirable: Any, n: int, *, seed: Seed, policy: InMemoryPolicy) -> Feedback:
        """Draw ``n`` prompts uniformly, one completion of each from ``policy`` and one label.

        The label is Bernoulli, of chance ``desirable[x, y]``.
        """
        check_integer(low=0, n=n)
        check_kind(InMemoryPolicy, policy=policy)
        label = as_float_array(desirable, "desirable", ndim=2)
        check_unit_interval(label, "desirable")
        rng = random_generator(seed)
        prompt = rng.integers(label.shape[0], size=n)
        completion = to_numpy(policy.sample(prompt, 1, rng))[:, 0]
        return cls(
            prompt, completion, (rng.random(n) < label[prompt, completion]).astype(np.float64)
        )

    def with_mismatched(self, *, seed: Seed) -> Feedback:
        """Return the same rows, each with a completion that belongs to another prompt.

        Their log-ratios estimate how far a policy is from its reference on any completion, which is
        the reference point of KTO.

        Parameters
        ----------
        seed
            Of the draw, from all rows of other prompts alike.

        Raises
        ------
        ValueError
            If all rows have one prompt, or the data are a batch.
        """
        if self.prompt.ndim != 1 or self.completion.ndim != 1:
            raise ValueError(
                f"prompt must have shape (n,) to be mismatched, got {self.prompt.shape}"
            )
        other = rows_of_other_prompts(self.prompt.tolist(), seed=seed)
        return replace(self, mismatched=self.completion[other])

    def log_probs(self, policy: InMemoryPolicy) -> tuple[Array, ...]:
        """Return the log-probabilities of the completions, ``(..., n)`` in nats.

        Those of mismatched completions follow where there are any.
        """
        table = policy.log_probs
        return tuple(entries_of(table, self._asked())(table).values())

    def _asked(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        asked = {"completion": (self.prompt, self.completion)}
        if self.mismatched is not None:
            asked["mismatched"] = (self.prompt, self.mismatched)
        return asked

    def examples(
        self, policy: InMemoryPolicy, ref_logps: tuple[Array, ...] | None, kind: type
    ) -> tuple[UnpairedLogps, Array]:
        """Return what a loss sees and the weight of each value.

        A soft label enters once desirable and once undesirable.
        """
        table = policy.log_probs
        return self.prepared(policy, table, ref_logps, kind)(table)

    def prepared(
        self, policy: InMemoryPolicy, table: Array, ref_logps: tuple[Array, ...] | None, kind: type
    ) -> Callable[[Array], tuple[UnpairedLogps, Array]]:
        """Return :meth:`examples` as a function of the policy's table of log-probabilities alone.

        See :meth:`prefsim.data.Comparisons.prepared`.
        """
        if kind is not UnpairedLogps:
            raise ValueError(
                f"Feedback feeds losses of UnpairedLogps, got a loss of {kind.__name__}"
            )
        return prepared_completions(self, self._asked(), policy, table, ref_logps)
