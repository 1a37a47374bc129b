"""What every in-memory policy offers: a vector of parameters, log-probabilities, samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from array_api_compat import is_torch_array

from prefsim.backend import Seed, index_array, like, random_generator, to_numpy
from prefsim.checks import as_array, as_index_array, check_places, in_floats, names_shapes
from prefsim.numerics import gather_places
from prefsim.policies.inverse_transform import inverse_transform
from prefsim.typing import Array

__all__ = ["InMemoryPolicy", "as_parameters", "entries_of"]


def as_parameters(value: Any, name: str) -> Any:
    """Return logits or weights as an array in floating point of its own library, or raise.

    Their values are not looked at: a policy is made anew at every step of an optimisation.
    """
    if is_torch_array(value) and value.is_floating_point():
        return value
    return in_floats(as_array(value, name, "real floating", "integral"))


def entries_of(
    table: Array,
    asked: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    prompts_are: str = "prompt",
) -> Callable[[Array], dict[str, Array]]:
    """Return what reads several columns of entries off a table, and off any other like it.

    Places are looked at and moved beside the table here, once: an optimiser reads them from a new
    table at every step.

    Parameters
    ----------
    table
        Log-probabilities ``(*batch, X, Y)``.
    asked, prompts_are
        As for :meth:`InMemoryPolicy.log_prob_each`.
    """
    prompts, responses = zip(*asked.values(), strict=True)
    rows, columns = (
        as_array(np.concatenate(places, axis=-1), name, "integral", empty=True)
        for name, places in (("prompt", prompts), ("response", responses))
    )
    for name, (prompt, response) in asked.items():
        # Data know nothing of the policy that they meet here, and a place beyond a row of the table
        # would be read from the next one.
        check_places(prompt, prompts_are, size=table.shape[-2])
        check_places(response, name, size=table.shape[-1])
    index = like(rows * table.shape[-1] + columns, table, integer=True)
    ends = np.cumsum([prompt.shape[-1] for prompt in prompts])
    starts = ends - [prompt.shape[-1] for prompt in prompts]
    spans = {
        name: slice(int(start), int(end))
        for name, start, end in zip(asked, starts, ends, strict=True)
    }

    def read(table: Array) -> dict[str, Array]:
        together = gather_places(table, index)
        return {name: together[..., span] for name, span in spans.items()}

    return read


class InMemoryPolicy(ABC):
    """A policy over an enumerable set of responses, differentiable in one vector of parameters.

    ``parameters`` is ``(*batch, D)``; leading axes are independent policies. Policies are values:
    fitting one gives a new one.
    """

    @property
    @abstractmethod
    def parameters(self) -> Array:
        """All parameters, ``(*batch, D)``."""

    @abstractmethod
    def with_parameters(self, parameters: Array) -> Self:
        """Return the same policy with other parameters, in the array library of ``parameters``."""

    @property
    @abstractmethod
    def log_probs(self) -> Array:
        """Log-probabilities of every response to every prompt, ``(*batch, X, Y)``, in nats."""

    @property
    def probs(self) -> Array:
        """Probabilities of every response to every prompt, ``(*batch, X, Y)``."""
        from prefsim.numerics import array_namespace

        table = self.log_probs
        return array_namespace(table).exp(table)

    @names_shapes
    def log_prob(self, prompt: Array, response: Array) -> Array:
        """Return ``log π(response | prompt)`` in nats for integer arrays of one shape.

        See :func:`prefsim.numerics.gather`.

        Raises
        ------
        ValueError
            If a prompt or a response is not one of the policy's.
        """
        from prefsim.numerics import gather

        table = self.log_probs
        prompts, responses = table.shape[-2:]
        rows, columns = (
            like(as_array(places, name, "integral", empty=True), table, integer=True)
            for name, places in (("prompt", prompt), ("response", response))
        )
        # Data know nothing of the policy that they meet here, and a place beyond a row of the table
        # would be read from the next one.
        check_places(rows, "prompt", size=prompts)
        check_places(columns, "response", size=responses)
        return gather(table, rows, columns)

    def log_prob_each(
        self, asked: Mapping[str, tuple[np.ndarray, np.ndarray]], *, prompts_are: str = "prompt"
    ) -> dict[str, Array]:
        """Return ``log π(response | prompt)`` of several columns of prompts and responses.

        In one call for all: a policy makes its whole table of log-probabilities anew at each.

        Parameters
        ----------
        asked
            Prompts and responses by the name of the column, ``(..., n)`` with one shape for both.
        prompts_are
            What the data call their prompts, for the error.

        Returns
        -------
        The log-probabilities in nats by the name of the column, ``(..., n)``.

        Raises
        ------
        ValueError
            If a prompt or a response is not one of the policy's, naming the column.
        """
        table = self.log_probs
        return entries_of(table, asked, prompts_are=prompts_are)(table)

    def length(self, prompt: Array, response: Array) -> Array:
        """Return the number of scored tokens of each response.

        One where a response is a single act.
        """
        return like(
            np.ones(np.broadcast_shapes(np.shape(prompt), np.shape(response))), self.parameters
        )

    def sample(self, prompt: Array, n: int, seed: Seed) -> Array:
        """Draw ``n`` responses to each prompt, int64 ``(*batch, *prompt.shape, n)``.

        The same seed gives the same draws on every backend (inverse transform of NumPy uniforms).
        """
        rng = random_generator(seed)
        cumulative = np.cumsum(to_numpy(self.probs).astype(np.float64), axis=-1)
        *batch, contexts, _ = cumulative.shape
        asked = as_index_array(prompt, "prompt", size=contexts)
        # The tables of a batch one below the other.
        table = cumulative.reshape(-1, cumulative.shape[-1])
        first = np.arange(0, table.shape[0], contexts).reshape(*batch, *(1,) * asked.ndim)
        row = (first + asked)[..., None]
        uniform = rng.random((*row.shape[:-1], n)) * table[row, -1]
        draws = inverse_transform(table, row, uniform)
        return index_array(draws)
