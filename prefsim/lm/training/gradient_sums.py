"""Sums of the gradients of micro-batches in bfloat16, rounded stochastically."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from prefsim.lm.training.narrow_adamw import pieces, stochastically_rounded

__all__ = ["GradientSums"]


class GradientSums:
    """The gradients of one step's micro-batches so far.

    A gradient that is small beside the sum is rounded away by an addition to nearest: of a
    thousand alike two fifths are missing in the end. Rounded up or down at random so that the mean
    is kept, their sum is right on average. What is rounded how follows from the seeds alone.

    Parameters
    ----------
    parameters
        Of these in bfloat16 the gradients are summed here; those of others autograd sums.
    seeds
        Integers >= 0 that no other step has.
    """

    def __init__(self, parameters: Iterable[Tensor], *seeds: int) -> None:
        self.narrow = [p for p in parameters if p.requires_grad and p.dtype == torch.bfloat16]
        self.seeds = seeds
        self.sums: list[Tensor | None] = [None] * len(self.narrow)

    @contextlib.contextmanager
    def of_micro_batch(self, number: int, *, is_last: bool) -> Iterator[None]:
        """Take the gradients of backward passes inside, each as soon as it is there.

        The last ones are added to the sums in the parameters' own ``grad``, where processes
        exchange them.
        """
        if is_last:
            self.put_back()
            yield
            return
        hooks = [
            parameter.register_post_accumulate_grad_hook(self._taking(place, number))
            for place, parameter in enumerate(self.narrow)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def put_back(self) -> None:
        """Make the sums the gradients of their parameters."""
        for place, parameter in enumerate(self.narrow):
            if self.sums[place] is not None:
                parameter.grad, self.sums[place] = self.sums[place], None

    def _taking(self, place: int, number: int) -> Callable[[Tensor], None]:
        def take(parameter: Tensor) -> None:
            new, known = parameter.grad, self.sums[place]
            parameter.grad = None
            if new is None or known is None:
                self.sums[place] = new if known is None else known
                return
            entropy = np.random.SeedSequence([*self.seeds, number, place])
            seed = int(entropy.generate_state(1, np.uint64)[0] >> 1)
            generator = torch.Generator(known.device).manual_seed(seed)
            for total, more in pieces(known, new):
                total.copy_(stochastically_rounded(total.float().add_(more), generator))

        return take
