"""Feedback on single completions: desirable or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim.backend import Seed, like, random_generator, to_numpy
from prefsim.checks import as_float_array, as_index_array, check_unit_interval
from prefsim.containers import UnpairedLogps, stacked
from prefsim.data.columns import check_columns, supported, zeros_like_logps
from prefsim.numerics import array_namespace
from prefsim.policies.base import InMemoryPolicy
from prefsim.typing import Array

__all__ = ["Feedback"]


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

    Raises
    ------
    ValueError
        If a column has another length, an index is negative, or a label or weight is out of range.
    """

    prompt: np.ndarray
    completion: np.ndarray
    label: np.ndarray
    weight: np.ndarray

    def __init__(self, prompt: Any, completion: Any, label: Any, weight: Any = None) -> None:
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
        set_fields(self, **columns)

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
        table = to_numpy(policy.probs).astype(np.float64)
        if table.shape[-2:] != label.shape[-2:]:
            raise ValueError(
                f"the policy has shape {table.shape[-2:]}, but desirable has {label.shape[-2:]}"
            )
        x, y = table.shape[-2:]
        context = (
            np.full(x, 1.0 / x)
            if context_probs is None
            else as_float_array(context_probs, "context_probs", ndim=1)
        )
        weight = context[:, None] * table
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
        label = as_float_array(desirable, "desirable", ndim=2)
        check_unit_interval(label, "desirable")
        rng = random_generator(seed)
        prompt = rng.integers(label.shape[0], size=n)
        completion = to_numpy(policy.sample(prompt, 1, rng))[:, 0]
        return cls(
            prompt, completion, (rng.random(n) < label[prompt, completion]).astype(np.float64)
        )

    def log_probs(self, policy: InMemoryPolicy) -> tuple[Array]:
        """Return the log-probabilities of the completions, ``(..., n)`` in nats."""
        return (policy.log_prob(self.prompt, self.completion),)

    def examples(
        self, policy: InMemoryPolicy, ref_logps: tuple[Array] | None, kind: type
    ) -> tuple[UnpairedLogps, Array]:
        """Return what a loss sees and the weight of each value.

        A soft label enters once desirable and once undesirable.
        """
        if kind is not UnpairedLogps:
            raise ValueError(
                f"Feedback feeds losses of UnpairedLogps, got a loss of {kind.__name__}"
            )
        (logp,) = self.log_probs(policy)
        (ref_logp,) = ref_logps or zeros_like_logps((logp,))
        xp = array_namespace(logp)
        logp, ref_logp, length, weight, label = xp.broadcast_arrays(
            logp,
            ref_logp,
            policy.length(self.prompt, self.completion),
            like(self.weight, logp),
            like(self.label, logp),
        )
        if (self.weight == 0).any():
            logp, ref_logp = supported(logp, weight), supported(ref_logp, weight)
        completions = UnpairedLogps(logp, ref_logp, desirable=label > 0.5, length=length)
        if np.isin(self.label, (0.0, 1.0)).all():
            return completions, weight
        never = xp.zeros_like(completions.desirable)
        twice = stacked(
            completions._replace(desirable=~never), completions._replace(desirable=never)
        )
        return twice, xp.concat([weight * label, weight * (1 - label)], axis=-1)
