"""The log-linear policy: a base policy tilted by a linear function of features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from prefsim._readable import readable
from prefsim.backend import asarray, like, on_backend, to_numpy
from prefsim.checks import as_float_array, check_kind, check_shape
from prefsim.numerics import array_namespace, log_softmax
from prefsim.policies.base import InMemoryPolicy
from prefsim.typing import Array

__all__ = ["LogLinearPolicy"]


@readable
@dataclass(frozen=True, eq=False)
class LogLinearPolicy(InMemoryPolicy):
    r"""Policy :math:`\pi_\theta(y|x) \propto \pi_0(y|x) \exp\langle\theta, \phi(x, y)\rangle`.

    Parameters
    ----------
    weights
        θ, ``(*batch, d)``.
    features
        φ, ``(X, Y, d)``.
    base_log_probs
        ``log π_0``, ``(X, Y)`` in nats.

    Examples
    --------
    >>> policy = LogLinearPolicy.from_features(np.array([[[0.0], [1.0]]]), weights=[np.log(3.0)])
    >>> policy.probs
    array([[0.25, 0.75]])
    """

    weights: Array
    features: Array
    base_log_probs: Array

    @classmethod
    def from_features(
        cls, features: Any, *, weights: Any = None, base: InMemoryPolicy | None = None
    ) -> Self:
        """Return the policy with these features ``(X, Y, d)``, weights and base policy.

        Weights are zero and the base policy is uniform unless given.
        """
        phi = as_float_array(features, "features", ndim=3, graph=True)
        if base is not None:
            check_kind(InMemoryPolicy, base=base)
        contexts, responses, d = phi.shape
        weights = np.zeros(d) if weights is None else weights
        theta = as_float_array(weights, "weights", min_ndim=1, graph=True)
        check_shape(theta, "weights", (d,))
        table = (
            np.full((contexts, responses), -np.log(responses))
            if base is None
            else to_numpy(base.log_probs)
        )
        check_shape(table, "base.log_probs", (contexts, responses))
        return cls(
            on_backend(weights, theta, "weights"),
            on_backend(features, phi, "features"),
            asarray(table),
        )

    @property
    def parameters(self) -> Array:
        """θ, ``(*batch, d)``."""
        return self.weights

    def with_parameters(self, parameters: Array) -> Self:
        """Return the policy with these weights ``(*batch, d)``."""
        return replace(self, weights=parameters)

    @property
    def log_probs(self) -> Array:
        """Normalised log-probabilities ``(*batch, X, Y)`` in nats."""
        xp = array_namespace(self.weights)
        features, base = like(self.features, self.weights), like(self.base_log_probs, self.weights)
        scores = xp.matmul(
            xp.reshape(features, (-1, features.shape[-1])), self.weights[..., :, None]
        )[..., 0]
        return log_softmax(base + xp.reshape(scores, (*self.weights.shape[:-1], *base.shape)))
