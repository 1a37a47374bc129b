"""AdamW on parameters, or with moments, that are kept in bfloat16 and rounded stochastically.

A number in bfloat16 has eight bits: a step of less than 1/512 of a weight is rounded away, and a
second moment that is to fall by a thousandth stays where it is. Rounded up or down with the
probabilities that keep its mean, each does what it should on average.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["NarrowAdamW", "stochastically_rounded"]

# Elements that are widened at once: a step holds no copy of a large matrix in float32.
_PIECE = 2**24


def stochastically_rounded(values: Tensor, generator: torch.Generator) -> Tensor:
    r"""Return float32 numbers in bfloat16, rounded up or down at random so that the mean is kept.

    A number that lies a share :math:`p` of the way between two neighbours in bfloat16 becomes the
    farther one from zero with probability :math:`p`; one that bfloat16 has stays.

    Parameters
    ----------
    values
        float32, of any shape; what is not finite stays so.
    generator
        On their device.

    References
    ----------
    Gupta et al. 2015, arXiv:1502.02551; for weights in bfloat16 Zamirai et al. 2020,
    arXiv:2010.06192.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.full((100_000,), 1 + 2**-9)  # a quarter of the way from 1 to 1 + 2**-7
    >>> found = stochastically_rounded(x, generator).double()
    >>> sorted({float(each) for each in found}), round(float((found > 1).double().mean()), 2)
    ([1.0, 1.0078125], 0.25)
    """
    bits = values.contiguous().view(torch.int32)
    # The lower half of a float32 is what bfloat16 lacks: a carry out of it is a step up.
    noise = torch.randint(
        2**16, bits.shape, generator=generator, device=bits.device, dtype=torch.int32
    )
    upper = torch.bitwise_and(bits + noise, -(2**16))
    return torch.where(values.isfinite(), upper.view(torch.float32), values).to(torch.bfloat16)


class NarrowAdamW(torch.optim.Optimizer):
    """AdamW whose state, and whose parameters where they are so, are in bfloat16.

    Each step is taken in float32, as :class:`torch.optim.AdamW` takes it, and what is kept in
    bfloat16 is rounded stochastically. The noise follows from the seed and the number of the step
    alone, so that copies on several processes stay equal and a resumption sees the same.

    Parameters
    ----------
    groups
        Parameters, or groups of them with ``weight_decay``.
    lr
        Learning rate.
    moments
        What the moments are kept in, ``torch.bfloat16`` or ``torch.float32``.
    seed
        Of the rounding.
    betas, eps, weight_decay
        As for :class:`torch.optim.AdamW`.

    References
    ----------
    Loshchilov and Hutter 2019, arXiv:1711.05101.
    """

    def __init__(
        self,
        groups: Any,
        *,
        lr: float,
        moments: torch.dtype,
        seed: int,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.moments, self.seed = moments, seed
        super().__init__(
            groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; return what the closure does, if there is one."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        generators: dict[torch.device, torch.Generator] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_of(parameter, group, generators)
        return value

    def _step_of(
        self, parameter: Tensor, group: dict[str, Any], generators: dict[Any, torch.Generator]
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, dtype=self.moments)
        state["step"] += 1
        step = int(state["step"])
        device = parameter.device
        if device not in generators:
            seeds = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)
            generators[device] = torch.Generator(device).manual_seed(int(seeds[0] >> 1))
        parts = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
        for weight, gradient, first, second in _pieces(*map(_local, parts)):
            _adamw(weight, gradient, first, second, group, step, generators[device])


def _adamw(
    weight: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    group: dict[str, Any],
    step: int,
    generator: torch.Generator,
) -> None:
    """Change weights and moments in place by one step."""
    b1, b2 = group["betas"]
    g = gradient.float()
    m = first.float().lerp(g, 1 - b1)
    v = (second.float() * b2).addcmul_(g, g, value=1 - b2)
    w = weight.float() * (1 - group["lr"] * group["weight_decay"])
    spread = (v / (1 - b2**step)).sqrt_().add_(group["eps"])
    w.addcdiv_(m, spread, value=-group["lr"] / (1 - b1**step))
    for kept, value in ((first, m), (second, v), (weight, w)):
        is_narrow = kept.dtype == torch.bfloat16
        kept.copy_(stochastically_rounded(value, generator) if is_narrow else value)


def _local(tensor: Any) -> Tensor:
    """Return the part of a sharded tensor that this process has, any other as it is."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views of tensors of one shape, piece by piece; whole where they do not lie in a row."""
    if not all(tensor.is_contiguous() for tensor in tensors):
        yield tensors
        return
    flat = [tensor.view(-1) for tensor in tensors]
    for start in range(0, len(flat[0]), _PIECE):
        yield tuple(tensor[start : start + _PIECE] for tensor in flat)
