"""Completions with a class each, and graded versions with their degrees, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prefsim.checks import as_float_array, as_index_array, check_entries, check_shape
from prefsim.containers import ClassLogits, DegreeLogits
from prefsim.lm.data.text_data import TextData, as_lists_of_texts, column_like
from prefsim.lm.model.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TextClasses", "TextVersions"]


@dataclass(frozen=True, init=False, eq=False)
class TextClasses(TextData):
    """Prompts with a completion each that is of one of K classes, such as a grade.

    Parameters
    ----------
    prompt, completion
        Lists of text, chat messages or token ids.
    label
        The class of each completion, an integer in [0, K).
    weight
        Relative weight of each row, >= 0; equal unless given.

    Raises
    ------
    ValueError
        If columns differ in length, an entry is no text, or a label no class.

    Examples
    --------
    >>> grades = TextClasses(["Good film?"] * 2, [" Yes.", " No."], [3, 0])
    >>> len(grades), grades.classes
    (2, 4)
    """

    kinds: ClassVar[tuple[type, ...]] = (ClassLogits,)

    prompt: list[Text]
    completion: list[Text]
    label: np.ndarray
    weight: np.ndarray

    def __init__(
        self,
        prompt: Sequence[Text],
        completion: Sequence[Text],
        label: Any,
        *,
        weight: Any = None,
    ) -> None:
        classes = as_index_array(label, "label")
        check_shape(classes, "label", (None,))
        self._store(
            {"prompt": prompt, "completion": completion}, {"label": classes, "weight": weight}
        )
        object.__setattr__(self, "label", classes)

    @property
    def classes(self) -> int:
        """The least number K of classes that there are."""
        return int(self.label.max(initial=0)) + 1

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the completions."""
        self.check(kind)
        return [[row] for row in zip(self.prompt, self.completion, strict=True)]

    def scored(self, kind: type, scores: Tensor) -> tuple[Any, Tensor]:
        """Return the scores of the classes with the label."""
        import torch

        self.check(kind)
        label = torch.as_tensor(self.label, device=scores.device)
        return ClassLogits(scores[:, 0], label), column_like(self.weight, scores)


@dataclass(frozen=True, init=False, eq=False)
class TextVersions(TextData):
    """Prompts with V graded versions of a completion each, as :mod:`prefsim.data.degradation` has.

    Parameters
    ----------
    prompt
        List of text, chat messages or token ids.
    versions
        As many lists of V of them.
    degree
        ``(n, V)`` integers: how much of the completion each version lacks, as a class. A negative
        degree leaves its version out.
    weight
        Relative weight of each row, >= 0; equal unless given.

    Raises
    ------
    ValueError
        If columns differ in length, an entry is no text, or degrees are no integers.
    """

    kinds: ClassVar[tuple[type, ...]] = (DegreeLogits,)

    prompt: list[Text]
    versions: list[list[Text]]
    degree: np.ndarray
    weight: np.ndarray

    def __init__(
        self,
        prompt: Sequence[Text],
        versions: Sequence[Sequence[Text]],
        degree: Any,
        *,
        weight: Any = None,
    ) -> None:
        rows, v = as_lists_of_texts(versions, "versions")
        table = as_float_array(degree, "degree", ndim=2 if rows else None)
        if rows and table.shape != (len(rows), v):
            raise ValueError(
                f"degree must have shape {(len(rows), v)}, one for each version, got {table.shape}"
            )
        check_entries(table, "degree", "be an integer", lambda x: x == np.floor(x))
        self._store(
            {"prompt": prompt},
            {"weight": weight},
            versions=rows,
            degree=table.reshape(len(rows), v).astype(np.int64),
        )
        if len(rows) != len(self):
            raise ValueError(
                f"versions must have as many rows as prompt, {len(self)}, got {len(rows)}"
            )

    @property
    def classes(self) -> int:
        """The least number of degrees that there are."""
        return int(self.degree.max(initial=0)) + 1

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the versions of each prompt's completion."""
        self.check(kind)
        return [[(x, y) for y in row] for x, row in zip(self.prompt, self.versions, strict=True)]

    def scored(self, kind: type, scores: Tensor) -> tuple[Any, Tensor]:
        """Return the scores of the degrees with the degrees."""
        import torch

        self.check(kind)
        degree = torch.as_tensor(self.degree, device=scores.device)
        return DegreeLogits(scores, degree), column_like(self.weight, scores)
