"""A language model's body with a head of classes: which class a response is of, or what degree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from prefsim.backend import Seed
from prefsim.checks import check_integer
from prefsim.containers import ClassLogits, DegreeLogits
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.model.tokens import Text

__all__ = ["ResponseClassifier"]


class ResponseClassifier(ResponseScorer):
    """A classifier of responses on the body of a language model.

    A linear head reads the scores of K classes off the state of a response's last token. Fit it
    with any loss of :class:`prefsim.losses.ClassLogits` on :class:`~prefsim.lm.TextClasses`.

    Parameters
    ----------
    policy
        The language model, whose body is trained too (taken over, not copied).
    classes
        K, >= 2.
    seed
        Of the weights of the head.

    Raises
    ------
    ValueError
        If there are fewer than two classes, or transformers has no sequence classifier of the
        architecture.
    """

    kinds: ClassVar[tuple[type, ...]] = (ClassLogits, DegreeLogits)

    def __init__(self, policy: CausalLM, *, classes: int, seed: Seed) -> None:
        check_integer(low=2, classes=classes)
        super().__init__(policy, dim=classes, seed=seed)

    def logits(
        self, prompts: Sequence[Text], completions: Sequence[Text], *, batch_size: int = 8
    ) -> Tensor:
        """Return the scores of the classes, ``(n, K)``, float64, without gradients."""
        return self.numbers(prompts, completions, batch_size=batch_size)
