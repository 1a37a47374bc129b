"""The tabular softmax policy: one free logit for every context and response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, asarray, on_backend, random_generator
from prefsim.checks import (
    as_float_array,
    as_probabilities,
    check_integer,
    check_positive,
    widened_probabilities,
)
from prefsim.numerics import array_namespace, log_softmax
from prefsim.policies.base import InMemoryPolicy, as_parameters
from prefsim.typing import Array

__all__ = ["TabularPolicy"]


@readable
@dataclass(frozen=True, eq=False)
class TabularPolicy(InMemoryPolicy):
    """Softmax policy over a table of logits.

    Parameters
    ----------
    logits
        ``(*batch, X, Y)``, unnormalised, in nats; ``-inf`` is probability zero.

    Examples
    --------
    >>> policy = TabularPolicy.from_probs([[0.25, 0.75]])
    >>> policy.probs
    array([[0.25, 0.75]])
    >>> policy.sample(np.array([0]), n=5, seed=0)
    array([[1, 1, 0, 0, 1]])
    """

    logits: Array

    def __post_init__(self) -> None:
        set_fields(self, logits=as_parameters(self.logits, "logits"))
        if self.logits.ndim < 2:
            raise ValueError(f"logits must have shape (..., X, Y), got {tuple(self.logits.shape)}")

    @classmethod
    def from_probs(cls, probs: Any) -> Self:
        """Return the policy with these probabilities ``(..., X, Y)``.

        Every row must sum to one, within 1e-9 in double precision and 1e-5 in single.
        """
        table = as_probabilities(probs, "probs", min_ndim=2, graph=True)
        if getattr(probs, "requires_grad", False):
            kept = widened_probabilities(on_backend(probs, table, "probs"), probs)
            return cls(array_namespace(kept).log(kept))
        with np.errstate(divide="ignore"):
            return cls(asarray(np.log(table)))

    @classmethod
    def from_logits(cls, logits: Any) -> Self:
        """Return the policy with these finite logits ``(..., X, Y)``."""
        table = as_float_array(logits, "logits", min_ndim=2, graph=True)
        return cls(on_backend(logits, table, "logits"))

    @classmethod
    def uniform(cls, n_contexts: int, n_responses: int) -> Self:
        """Return the uniform policy."""
        check_integer(low=1, n_contexts=n_contexts, n_responses=n_responses)
        return cls.from_logits(np.zeros((n_contexts, n_responses)))

    @classmethod
    def random(
        cls,
        n_contexts: int,
        n_responses: int,
        *,
        seed: Seed,
        concentration: float = 1.0,
        batch_shape: tuple[int, ...] = (),
    ) -> Self:
        """Return a policy with every row drawn from a symmetric Dirichlet distribution."""
        check_integer(low=1, n_contexts=n_contexts, n_responses=n_responses)
        check_positive(concentration=concentration)
        rng = random_generator(seed)
        gamma = rng.standard_gamma(concentration, (*batch_shape, n_contexts, n_responses))
        gamma = np.maximum(gamma, np.finfo(float).tiny)
        return cls.from_probs(gamma / gamma.sum(axis=-1, keepdims=True))

    @property
    def parameters(self) -> Array:
        """The logits, flattened to ``(*batch, X·Y)``."""
        return array_namespace(self.logits).reshape(self.logits, (*self.logits.shape[:-2], -1))

    def with_parameters(self, parameters: Array) -> Self:
        """Return the policy with these logits ``(*batch, X·Y)``."""
        shape = (*parameters.shape[:-1], *self.logits.shape[-2:])
        return type(self)(array_namespace(parameters).reshape(parameters, shape))

    @property
    def log_probs(self) -> Array:
        """Normalised log-probabilities ``(*batch, X, Y)`` in nats."""
        return log_softmax(self.logits)
