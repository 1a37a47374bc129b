"""Weighted sums of losses: preference learning with a term of imitation, and the like."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefsim.checks import check_positive
from prefsim.checks.quoting import shown
from prefsim.losses.registry import container_of
from prefsim.losses.running import RunningLoss
from prefsim.typing import Loss

__all__ = ["Mixture", "terms_of"]

_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"
# Up to the plus, behind which there must be more.
_TERM = re.compile(rf"\s*(?:({_NUMBER})\s*\*)?\s*([A-Za-z_]\w*)\s*(?:\+(?=.)|$)")


@dataclass(frozen=True)
class Mixture:
    r"""A weighted sum of losses of one kind of data; a loss itself.

    Its value for an example is :math:`\sum_i w_i\,\ell_i`. By name it is written as on paper:
    ``fit(policy, "dpo + 0.1*sft", data, reference=reference)``, and ``prefsim train --loss
    dpo+0.1*sft``.

    Attributes
    ----------
    terms
        Pairs ``(weight, loss)``: a weight > 0 and a loss of :mod:`prefsim.losses`, configured by
        ``functools.partial``.

    Raises
    ------
    ValueError
        If there is no term, a weight is no positive number, the losses take different containers,
        or one has a running state, which a sum would not move.

    Examples
    --------
    >>> from functools import partial
    >>> from prefsim import losses
    >>> pairs = losses.PairLogps.example()
    >>> mixed = losses.Mixture(((1.0, partial(losses.dpo, beta=0.5)), (0.1, losses.sft)))
    >>> expected = losses.dpo(pairs, beta=0.5) + 0.1 * losses.sft(pairs)
    >>> bool((mixed(pairs) == expected).all())
    True
    """

    terms: Sequence[tuple[float, Loss]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple((weight, loss) for weight, loss in self.terms))
        if not self.terms:
            raise ValueError("a mixture of losses must have at least one term, got none")
        kinds = []
        for weight, loss in self.terms:
            check_positive(weight=weight)
            if isinstance(loss, RunningLoss):
                raise ValueError(
                    "a mixture cannot hold a loss with a running state, which it would not move;"
                    f" got one with {loss.state!r}"
                )
            kinds.append(container_of(loss))
        if len(set(kinds)) > 1:
            names = ", ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"the losses of a mixture must be of one kind of data, got {names}")

    @property
    def container(self) -> type[Any]:
        """The container that all of the losses take."""
        return container_of(self.terms[0][1])

    def __call__(self, logps: Any) -> Any:
        """Return the weighted sum of the values, one for each example."""
        (weight, loss), *others = self.terms
        total = weight * loss(logps)
        for weight, loss in others:
            total = total + weight * loss(logps)
        return total


def terms_of(text: str) -> list[tuple[float, str]]:
    """Return the weights and names of a sum of losses.

    Raises
    ------
    ValueError
        If it is none: terms ``weight*name`` or ``name`` with ``+`` between.

    Examples
    --------
    >>> terms_of("dpo + 0.1*sft")
    [(1.0, 'dpo'), (0.1, 'sft')]
    """
    terms: list[tuple[float, str]] = []
    rest = text
    while not terms or rest:
        term = _TERM.match(rest)
        if term is None or not math.isfinite(float(term[1] or 1)):
            raise ValueError(
                "a sum of losses must be written as names with weights, such as dpo + 0.1*sft, got"
                f" {shown(text)}"
            )
        terms.append((float(term[1] or 1), term[2]))
        rest = rest[term.end() :]
    return terms
