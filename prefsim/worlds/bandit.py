"""Contextual bandits: X contexts, Y responses, a reward or a preference table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim.backend import Seed, asarray, random_generator
from prefsim.checks import as_float_array, check_preference, check_probabilities, check_shape
from prefsim.numerics import sigmoid
from prefsim.typing import Array, ArrayT

__all__ = ["ContextualBandit", "bradley_terry_matrix"]


def bradley_terry_matrix(reward: ArrayT) -> ArrayT:
    r"""Return the preference matrix :math:`P_{ij} = \sigma(r_i - r_j)` of rewards ``(..., n)``.

    Shape ``(..., n, n)``.

    References
    ----------
    Bradley and Terry 1952, "Rank analysis of incomplete block designs".

    Examples
    --------
    >>> import numpy as np
    >>> bradley_terry_matrix(np.log([1.0, 3.0]))
    array([[0.5 , 0.25],
           [0.75, 0.5 ]])
    """
    return sigmoid(reward[..., :, None] - reward[..., None, :])


@dataclass(frozen=True, init=False, eq=False)
class ContextualBandit:
    """X contexts, Y responses; a rater compares two responses to one context.

    Parameters
    ----------
    reward
        ``(..., X, Y)``; leading axes are independent bandits. May be omitted where ``preference``
        is given.
    preference
        ``(..., X, Y, Y)``: probability that the first response is preferred, with ``P + Pᵀ = 1``.
        Bradley–Terry on ``reward`` unless given.
    context_probs
        ``(X,)``, uniform unless given.
    features
        ``(X, Y, d)``, optional, for log-linear policies and linear rewards.

    Raises
    ------
    ValueError
        If a shape does not fit, an entry is not finite, ``P + Pᵀ`` differs from 1 or the contexts
        do not sum to one.

    Examples
    --------
    >>> world = ContextualBandit(reward=[[0.0, 1.0]])
    >>> world.n_contexts, world.n_responses
    (1, 2)
    >>> world.preference[0].round(3)
    array([[0.5  , 0.269],
           [0.731, 0.5  ]])
    """

    reward: Array | None
    preference: Array
    context_probs: Array
    features: Array | None

    def __init__(
        self,
        reward: Any = None,
        *,
        preference: Any = None,
        context_probs: Any = None,
        features: Any = None,
    ) -> None:
        if reward is None and preference is None:
            raise ValueError(
                "ContextualBandit needs a reward (..., X, Y) or a preference (..., X, Y, Y), got"
                " neither"
            )
        if reward is not None:
            reward = as_float_array(reward, "reward", min_ndim=2)
            contexts, responses = reward.shape[-2:]
        if preference is not None:
            preference = as_float_array(preference, "preference", min_ndim=3)
            check_preference(preference)
            if reward is None:
                contexts, responses = preference.shape[-3:-1]
            check_shape(preference, "preference", (contexts, responses, responses))
        else:
            preference = bradley_terry_matrix(reward)
        if contexts == 0 or responses == 0:
            raise ValueError(
                f"a bandit needs at least one context and one response, got {contexts} and"
                f" {responses}"
            )
        if context_probs is None:
            context_probs = np.full(contexts, 1.0 / contexts)
        context_probs = as_float_array(context_probs, "context_probs", ndim=1)
        check_shape(context_probs, "context_probs", (contexts,))
        check_probabilities(context_probs, "context_probs")
        if features is not None:
            features = as_float_array(features, "features", min_ndim=3)
            check_shape(features, "features", (contexts, responses, None))
        set_fields(
            self,
            reward=None if reward is None else asarray(reward),
            preference=asarray(preference),
            context_probs=asarray(context_probs),
            features=None if features is None else asarray(features),
        )

    @property
    def n_contexts(self) -> int:
        """Number of contexts X."""
        return int(self.preference.shape[-3])

    @property
    def n_responses(self) -> int:
        """Number of responses Y."""
        return int(self.preference.shape[-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: independent bandits."""
        return tuple(self.preference.shape[:-3])

    @classmethod
    def random(
        cls,
        n_contexts: int,
        n_responses: int,
        *,
        seed: Seed,
        batch_shape: tuple[int, ...] = (),
        n_features: int | None = None,
        scale: float = 1.0,
    ) -> ContextualBandit:
        """Draw a bandit with standard normal rewards times ``scale``.

        With ``n_features`` the reward is linear: features ``(X, Y, d)`` standard normal over
        ``sqrt(d)``, weights normal.
        """
        rng = random_generator(seed)
        if n_features is None:
            return cls(reward=scale * rng.standard_normal((*batch_shape, n_contexts, n_responses)))
        features = rng.standard_normal((n_contexts, n_responses, n_features)) / np.sqrt(n_features)
        weights = scale * rng.standard_normal((*batch_shape, n_features))
        return cls(reward=np.einsum("xyd,...d->...xy", features, weights), features=features)
