"""Contextual bandits: X contexts, Y responses, a reward or a preference table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, asarray, on_backend, random_generator
from prefsim.checks import (
    as_context_probs,
    as_float_array,
    as_floats,
    as_preference,
    check_integer,
    check_nonnegative,
    check_shape,
    widened_preference,
)
from prefsim.numerics import sigmoid
from prefsim.typing import Array, ArrayT

__all__ = ["ContextualBandit", "bradley_terry_matrix", "bradley_terry_on_backend"]


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
    (reward,) = as_floats(nan=True, reward=reward)
    check_shape(reward, "reward", (None,))
    return sigmoid(reward[..., :, None] - reward[..., None, :])


def bradley_terry_on_backend(given: Any, checked: np.ndarray, *, scale: float = 1.0) -> Array:
    """Return the matrix of the rewards ``checked``, which were made of ``given``.

    Computed in double precision, unless a gradient with respect to them is asked for.
    """
    if getattr(given, "requires_grad", False):
        return bradley_terry_matrix(scale * on_backend(given, checked, "reward"))
    return asarray(bradley_terry_matrix(scale * checked))


@readable
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
            table = as_float_array(reward, "reward", min_ndim=2, graph=True)
            contexts, responses = table.shape[-2:]
            judged = bradley_terry_on_backend(reward, table)
            reward = on_backend(reward, table, "reward")
        if preference is not None:
            given, table = preference, as_preference(preference, min_ndim=3, graph=True)
            if reward is None:
                contexts, responses = table.shape[-3:-1]
            check_shape(table, "preference", (contexts, responses, responses))
            preference = widened_preference(on_backend(given, table, "preference"), given)
        else:
            preference = judged
        if contexts == 0 or responses == 0:
            raise ValueError(
                f"a bandit needs at least one context and one response, got {contexts} and"
                f" {responses}"
            )
        context_probs = as_context_probs(context_probs, contexts)
        if features is not None:
            table = as_float_array(features, "features", min_ndim=3, graph=True)
            check_shape(table, "features", (contexts, responses, None))
            features = on_backend(features, table, "features")
        set_fields(
            self,
            reward=reward,
            preference=preference,
            context_probs=asarray(context_probs),
            features=features,
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
        check_integer(low=1, n_contexts=n_contexts, n_responses=n_responses)
        check_nonnegative(scale=scale)
        rng = random_generator(seed)
        if n_features is None:
            return cls(reward=scale * rng.standard_normal((*batch_shape, n_contexts, n_responses)))
        check_integer(low=1, n_features=n_features)
        features = rng.standard_normal((n_contexts, n_responses, n_features)) / np.sqrt(n_features)
        weights = scale * rng.standard_normal((*batch_shape, n_features))
        return cls(reward=np.einsum("xyd,...d->...xy", features, weights), features=features)
