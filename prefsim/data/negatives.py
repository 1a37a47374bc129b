"""Rejected responses without chosen ones.

Each stands against samples of a policy, or against its whole distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, like, to_numpy
from prefsim.checks import as_float_array, as_index_array, as_probabilities, check_integer
from prefsim.containers import AnchoredLogps
from prefsim.data.columns import check_columns, supported, zeros_like_logps
from prefsim.numerics import array_namespace
from prefsim.policies.base import InMemoryPolicy
from prefsim.typing import Array

__all__ = ["Negatives"]


@readable
@dataclass(frozen=True, init=False, eq=False)
class Negatives:
    """Rejected responses in a tabular world, each with a set of anchoring samples.

    Parameters
    ----------
    prompt, rejected
        Integers ``(n,)``.
    samples
        Responses to the same prompt, integers ``(n, K)``.
    sample_weight
        ``(n, K)``, or ``(*batch, n, K)`` for one set of samples for each of a batch of problems
        (counts over K, say); every row sums to one; 1/K unless given.
    weight
        ``(n,)``, >= 0; 1/n unless given.

    Raises
    ------
    ValueError
        If shapes differ, an index is negative, there is no sample, or weights are out of range.

    Examples
    --------
    >>> from prefsim.policies import TabularPolicy
    >>> data = Negatives.population([0], [1], TabularPolicy.from_probs([[0.25, 0.75]]))
    >>> data.samples, data.sample_weight
    (array([[0, 1]]), array([[0.25, 0.75]]))
    """

    prompt: np.ndarray
    rejected: np.ndarray
    samples: np.ndarray
    sample_weight: np.ndarray
    weight: np.ndarray

    def __init__(
        self,
        prompt: Any,
        rejected: Any,
        samples: Any,
        sample_weight: Any = None,
        weight: Any = None,
    ) -> None:
        prompt, rejected = as_index_array(prompt, "prompt"), as_index_array(rejected, "rejected")
        samples = as_index_array(samples, "samples")
        if samples.ndim != 2 or samples.shape[:1] != prompt.shape or samples.shape[1] == 0:
            raise ValueError(
                f"prompt must be (n,) and samples (n, K) with K >= 1, got {prompt.shape} and"
                f" {samples.shape}"
            )
        n, k = samples.shape
        shares = (
            np.full((n, k), 1.0 / k)
            if sample_weight is None
            else as_probabilities(sample_weight, "sample_weight", min_ndim=2)
        )
        if shares.shape[-2:] != samples.shape:
            raise ValueError(
                f"sample_weight must have trailing shape {samples.shape}, that of samples, got"
                f" {shares.shape}"
            )
        weight = (
            np.full(n, 1.0 / max(n, 1))
            if weight is None
            else as_float_array(weight, "weight", ndim=1)
        )
        check_columns({"rejected": rejected, "weight": weight}, n)
        if (weight < 0).any():
            raise ValueError(f"weight must be >= 0, got {weight.min()}")
        columns = {
            "prompt": prompt,
            "rejected": rejected,
            "samples": samples,
            "sample_weight": shares,
            "weight": weight,
        }
        set_fields(self, **columns)

    def __len__(self) -> int:
        return int(self.prompt.size)

    @classmethod
    def population(
        cls, prompt: Any, rejected: Any, sampler: InMemoryPolicy, *, weight: Any = None
    ) -> Negatives:
        """Return the negatives against the whole distribution of ``sampler``.

        It is the limit of infinitely many samples.
        """
        rows = as_index_array(prompt, "prompt")
        table = to_numpy(sampler.probs).astype(np.float64)
        y = table.shape[-1]
        return cls(
            rows,
            rejected,
            np.broadcast_to(np.arange(y), (rows.size, y)),
            table[..., rows, :],
            weight,
        )

    @classmethod
    def sample(
        cls,
        prompt: Any,
        rejected: Any,
        sampler: InMemoryPolicy,
        k: int,
        *,
        seed: Seed,
        weight: Any = None,
    ) -> Negatives:
        """Return the negatives with ``k`` samples of ``sampler`` each.

        Draw anew from the current policy to go online.
        """
        check_integer(low=1, k=k)
        rows = as_index_array(prompt, "prompt")
        return cls(rows, rejected, to_numpy(sampler.sample(rows, k, seed)), weight=weight)

    def log_probs(self, policy: InMemoryPolicy) -> tuple[Array, Array]:
        """Return the log-probabilities of rejected responses and of samples, in nats.

        ``(..., n)`` and ``(..., n, K)``.
        """
        n, k = self.samples.shape
        found = policy.log_prob_each(
            {
                "rejected": (self.prompt, self.rejected),
                "samples": (np.repeat(self.prompt, k), self.samples.ravel()),
            }
        )
        drawn = found["samples"]
        return found["rejected"], array_namespace(drawn).reshape(drawn, (*drawn.shape[:-1], n, k))

    def examples(
        self, policy: InMemoryPolicy, ref_logps: tuple[Array, Array] | None, kind: type
    ) -> tuple[AnchoredLogps, Array]:
        """Return what a loss sees and the weight of each value."""
        if kind is not AnchoredLogps:
            raise ValueError(
                f"Negatives feed losses of AnchoredLogps, got a loss of {kind.__name__}"
            )
        rejected, samples = self.log_probs(policy)
        ref_rejected, ref_samples = ref_logps or zeros_like_logps((rejected, samples))
        xp = array_namespace(rejected)
        samples, ref_samples, shares = xp.broadcast_arrays(
            samples, ref_samples, like(self.sample_weight, samples)
        )
        rejected, ref_rejected, _ = xp.broadcast_arrays(rejected, ref_rejected, shares[..., 0])
        anchored = AnchoredLogps(
            rejected=rejected,
            ref_rejected=ref_rejected,
            # The sampler's support is where a sample has weight.
            samples=supported(samples, shares),
            ref_samples=supported(ref_samples, shares),
            sample_weight=shares,
        )
        return anchored, like(self.weight, rejected)
