"""AdamW on parameters, or with moments, that are kept narrow and rounded stochastically.

A number in bfloat16 has eight bits: a step of less than 1/512 of a weight is rounded away, and a
second moment that is to fall by a thousandth stays where it is. So it does as one of 255 codes
(:mod:`prefsim.lm.training.eight_bit`). Rounded up or down with the probabilities that keep its
mean, each does what it should on average.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.lm.training.eight_bit import blocks_of, decoded, encoded
from prefsim.lm.training.shards import zeros_by_rows

__all__ = ["NarrowAdamW", "pieces", "stochastically_rounded"]

# Elements that are widened at once: a step holds no copy of a large matrix in float32.
_PIECE = 2**24
# The state of a parameter, as it is and in codes.
_MOMENTS = ("exp_avg", "exp_avg_sq")
_CODED = ("exp_avg", "exp_avg_scale", "exp_avg_sq", "exp_avg_sq_scale")


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
    """AdamW whose state is kept narrow, and whose parameters are where they are in bfloat16.

    Each step is taken in float32 (in float64 where the parameters are), as
    :class:`torch.optim.AdamW` takes it, and what is kept narrower is rounded stochastically. The
    noise follows from the seed and the number of the step alone, so that copies on several
    processes stay equal and a resumption sees the same.

    Parameters
    ----------
    groups
        Parameters, or groups of them with ``weight_decay``.
    lr
        Learning rate.
    moments
        What the moments are kept in: ``torch.float32`` (as wide as the parameters, where these are
        wider), ``torch.bfloat16``, or ``torch.uint8`` for codes of eight bits with a scale for
        every block of a row (of matrices; those of vectors are as in float32). Of the second moment
        the root is coded, and never as zero: the codes reach over six decades of it, where the
        moment itself has twelve, and a step divides by it.
    seed
        Of the rounding.
    offload
        Whether the state lies in main memory, pinned where there is a GPU. A step brings it to its
        parameter piece by piece and takes it back, so that the numbers are the same.
    betas, eps, weight_decay
        As for :class:`torch.optim.AdamW`.

    References
    ----------
    Loshchilov and Hutter 2019, arXiv:1711.05101; in eight bits Dettmers et al. 2022,
    arXiv:2110.02861.
    """

    def __init__(
        self,
        groups: Any,
        *,
        lr: float,
        moments: torch.dtype,
        seed: int,
        offload: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.moments, self.seed, self.offload = moments, seed, offload
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
        if self.offload and any(device.type != "cpu" for device in generators):
            # The processor may read what is still on its way.
            torch.accelerator.synchronize()
        return value

    def home(self, value: Tensor, parameter: Tensor) -> Tensor:
        """Return a tensor of a parameter's state where it is kept."""
        if not self.offload:
            return value.to(parameter.device)
        value = value.cpu()
        return value.pin_memory() if parameter.is_cuda else value

    def _step_of(
        self, parameter: Tensor, group: dict[str, Any], generators: dict[Any, torch.Generator]
    ) -> None:
        state = self.state[parameter]
        if not state:
            state |= self._begun(parameter)
        state["step"] += 1
        step = int(state["step"])
        device = parameter.device
        if device not in generators:
            seeds = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)
            generators[device] = torch.Generator(device).manual_seed(int(seeds[0] >> 1))
        is_coded = _CODED[1] in state
        parts = (
            parameter,
            parameter.grad,
            *(state[name] for name in (_CODED if is_coded else _MOMENTS)),
        )
        advance: Callable[..., None] = _advance_codes if is_coded else _advance
        cut = _rows if is_coded else pieces
        for piece in cut(*map(_local, parts)):
            advance(*piece, group=group, step=step, generator=generators[device])

    def _begun(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter before its first step."""
        state = {"step": torch.zeros(())}
        is_coded = self.moments == torch.uint8 and parameter.ndim >= 2
        kept = self.moments
        if kept == torch.float32 or (kept == torch.uint8 and not is_coded):
            kept = _wide(parameter)
        like: dict[str, Any] = {"dtype": kept}
        if self.offload:
            like |= {"device": "cpu", "pin_memory": parameter.is_cuda}
        for name in _MOMENTS:
            state[name] = torch.zeros_like(parameter, **like)
            if is_coded:
                # All of them zero, which make zeros of any codes.
                shape = (len(parameter), blocks_of(parameter.shape))
                scales = zeros_by_rows(parameter, shape, torch.float32)
                state[f"{name}_scale"] = self.home(scales, parameter)
        return state


def _advance(
    weight: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    group: dict[str, Any],
    step: int,
    generator: torch.Generator,
) -> None:
    """Change weights and moments in place by one step."""
    before, mean_square = (_beside(weight, kept) for kept in (first, second))
    m, v, w = _adamw(weight, gradient, before, mean_square, group=group, step=step)
    for kept, value in ((first, m), (second, v), (weight, w)):
        _keep(kept, value, generator)


def _advance_codes(
    weight: Tensor,
    gradient: Tensor,
    first: Tensor,
    first_scale: Tensor,
    second: Tensor,
    second_scale: Tensor,
    *,
    group: dict[str, Any],
    step: int,
    generator: torch.Generator,
) -> None:
    """Change weights and coded moments in place by one step."""
    all_kept = (first, first_scale, second, second_scale)
    codes_m, scales_m, codes_v, scales_v = (_beside(weight, kept) for kept in all_kept)
    before = decoded(codes_m, scales_m, signed=True)
    root = decoded(codes_v, scales_v, signed=False)
    m, v, w = _adamw(weight, gradient, before, root.square_(), group=group, step=step)
    for codes, scales, value, signed in (
        (first, first_scale, m, True),
        (second, second_scale, v.sqrt_(), False),
    ):
        for kept, found in zip(
            (codes, scales), encoded(value.float(), generator, signed=signed), strict=True
        ):
            kept.copy_(found, non_blocking=True)
    _keep(weight, w, generator)


def _adamw(
    weight: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    group: dict[str, Any],
    step: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return moments and weights after one step, at least in float32."""
    b1, b2 = group["betas"]
    g, first, second = (each.to(_wide(weight)) for each in (gradient, first, second))
    m = first.lerp(g, 1 - b1)
    v = (second * b2).addcmul_(g, g, value=1 - b2)
    w = weight.to(_wide(weight)) * (1 - group["lr"] * group["weight_decay"])
    spread = (v / (1 - b2**step)).sqrt_().add_(group["eps"])
    w.addcdiv_(m, spread, value=-group["lr"] / (1 - b1**step))
    return m, v, w


def _keep(kept: Tensor, value: Tensor, generator: torch.Generator) -> None:
    """Overwrite a tensor with values, rounded stochastically where it is in bfloat16."""
    is_narrow = kept.dtype == torch.bfloat16
    found = stochastically_rounded(value.float(), generator) if is_narrow else value
    kept.copy_(found, non_blocking=True)


def _wide(weight: Tensor) -> torch.dtype:
    """Return what a step of a parameter is taken in."""
    return torch.promote_types(weight.dtype, torch.float32)


def _beside(weight: Tensor, kept: Tensor) -> Tensor:
    """Return what is kept of a parameter on the parameter's device."""
    return kept.to(weight.device, non_blocking=True)


def _local(tensor: Any) -> Tensor:
    """Return the part of a sharded tensor that this process has, any other as it is."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views of tensors of one shape, piece by piece; whole where they do not lie in a row."""
    if not all(tensor.is_contiguous() for tensor in tensors):
        yield tensors
        return
    flat = [tensor.view(-1) for tensor in tensors]
    for start in range(0, len(flat[0]), _PIECE):
        yield tuple(tensor[start : start + _PIECE] for tensor in flat)


def _rows(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views of tensors with rows in common, some rows at a time."""
    rows = len(tensors[0])
    some = max(1, _PIECE * rows // max(1, tensors[0].numel()))
    for start in range(0, rows, some):
        yield tuple(tensor[start : start + some] for tensor in tensors)
