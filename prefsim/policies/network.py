"""A small torch network as a policy over an enumerable set of responses."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator
from prefsim.checks import as_float_array, check_integer
from prefsim.numerics import as_tensor, log_softmax
from prefsim.policies.base import InMemoryPolicy
from prefsim.typing import Array

__all__ = ["NetworkPolicy"]


@readable
@dataclass(frozen=True, eq=False)
class NetworkPolicy(InMemoryPolicy):
    """Softmax over the outputs of a ``torch.nn.Module``.

    The module maps prompt features ``(X, F)`` to logits ``(X, Y)``.

    Parameters
    ----------
    module
        The network's architecture; its own parameters are the starting point and are never changed.
    inputs
        Prompt features, a torch tensor ``(X, F)``.
    flat
        All parameters as one torch vector ``(*batch, D)``.
    """

    module: Any
    inputs: Any
    flat: Any

    @classmethod
    def from_module(cls, module: Any, inputs: Any) -> Self:
        """Return the policy of ``module`` on prompt features ``(X, F)``.

        In the dtype and on the device of the module.
        """
        import torch

        vector = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
        features = as_tensor(
            as_float_array(inputs, "inputs", ndim=2), dtype=vector.dtype, device=vector.device
        )
        return cls(module, features, vector)

    @classmethod
    def mlp(
        cls, inputs: Any, n_responses: int, *, hidden: tuple[int, ...] = (32,), seed: Seed
    ) -> Self:
        """Return a float64 tanh network with normal weights of variance 1/fan-in.

        They are drawn by NumPy.
        """
        import torch

        check_integer(low=1, n_responses=n_responses)
        for width in hidden:
            check_integer(low=1, hidden=width)
        rng = random_generator(seed)
        features = as_float_array(inputs, "inputs", ndim=2)
        sizes = [features.shape[1], *hidden, n_responses]
        layers: list[Any] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            linear = torch.nn.Linear(fan_in, fan_out, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(
                    torch.as_tensor(rng.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in))
                )
                linear.bias.zero_()
            layers += [linear, torch.nn.Tanh()]
        return cls.from_module(torch.nn.Sequential(*layers[:-1]), features)

    @property
    def parameters(self) -> Array:
        """All parameters, ``(*batch, D)``."""
        return self.flat

    def with_parameters(self, parameters: Array) -> Self:
        """Return the same network with other parameters ``(*batch, D)``."""
        return replace(self, flat=parameters)

    @property
    def log_probs(self) -> Array:
        """Log-probabilities ``(*batch, X, Y)`` in nats."""
        import torch

        shapes = [(name, p.shape, p.numel()) for name, p in self.module.named_parameters()]
        inputs = self.inputs.to(dtype=self.flat.dtype, device=self.flat.device)

        def logits(vector: Any) -> Any:
            parts = torch.split(vector, [size for _, _, size in shapes])
            named = {
                name: part.reshape(shape)
                for (name, shape, _), part in zip(shapes, parts, strict=True)
            }
            return torch.func.functional_call(self.module, named, (inputs,))

        call = logits
        for _ in self.flat.shape[:-1]:
            call = torch.vmap(call)
        return log_softmax(call(self.flat))
