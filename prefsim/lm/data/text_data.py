"""What the containers of text share: columns, rows, and what a model says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from prefsim.checks import as_float_array, as_index_array
from prefsim.checks.quoting import shown
from prefsim.containers import map_fields
from prefsim.data.columns import check_columns
from prefsim.lm.model.tokens import Text
from prefsim.losses.registry import container_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TextData", "TokenLogps", "as_lists_of_texts", "as_texts", "column_like", "is_text"]

# Of log-probabilities that a model summed in 32 bits.
_ROUNDING = 1e-4


class TokenLogps(NamedTuple):
    """What a model says of the S sequences of each of n examples, token by token.

    Each ``(n, S, T)`` in nats, the completion's tokens from the left. ``kl`` (``KL(π_ref‖π)``) and
    ``collision`` (``log Σ_v π(v)²``), and the weights of the tokens, are there only where a loss
    needs them.
    """

    logp: Tensor
    ref_logp: Tensor
    mask: Tensor
    kl: Tensor | None = None
    collision: Tensor | None = None
    reward_weight: Tensor | None = None
    kl_weight: Tensor | None = None

    def of_sequence(self, k: int) -> TokenLogps:
        """Return sequence ``k`` of every example, each ``(n, T)``."""
        return map_fields(self, lambda values: values[:, k])

    @property
    def sums(self) -> Tensor:
        """Log-probabilities of whole sequences."""
        return self.logp.sum(dim=-1)

    @property
    def ref_sums(self) -> Tensor:
        """Log-probabilities of whole sequences under the reference."""
        return self.ref_logp.sum(dim=-1)

    @property
    def lengths(self) -> Tensor:
        """Numbers of scored tokens, in the dtype of the log-probabilities."""
        return self.mask.sum(dim=-1).to(self.logp.dtype)


class TextData:
    """Rows of text with their numbers: the common part of the containers of text.

    A row is an example: one or more sequences, each a prompt with a completion. Prompts and
    completions are text, chat messages or lists of token ids, in any mixture that
    :func:`prefsim.lm.encode` takes. Weights are relative: training divides them by their mean.
    """

    #: What a loss on this data may take.
    kinds: ClassVar[tuple[type, ...]] = ()
    weight: np.ndarray

    def _store(self, texts: Mapping[str, Any], numbers: Mapping[str, Any], **others: Any) -> None:
        columns = {name: as_texts(column, name) for name, column in texts.items()}
        n = len(columns["prompt"])
        for name, column in columns.items():
            if len(column) != n:
                raise ValueError(f"{name} must have as many rows as prompt, {n}, got {len(column)}")
        found = {
            name: None if value is None else as_float_array(value, name)
            for name, value in numbers.items()
        }
        if found["weight"] is None:
            found["weight"] = np.ones(n)
        check_columns(
            {name: value for name, value in found.items() if value is not None and value.ndim != 2},
            n,
        )
        weight = found["weight"]
        assert weight is not None
        if (weight < 0).any() or (n and not weight.any()):
            raise ValueError(
                f"weight must be >= 0 and not zero everywhere, got {float(weight.min())} at row"
                f" {int(weight.argmin())}"
            )
        with np.errstate(over="ignore"):
            total = weight.sum()
        if not np.isfinite(total):
            raise ValueError(
                f"weight must have a finite sum, which training divides by, got {total} of"
                f" {float(weight.max())} and others"
            )
        for name, value in found.items():
            if name.startswith("old_") and value is not None and (value > _ROUNDING).any():
                row = int(value.argmax())
                raise ValueError(
                    f"{name} must hold log-probabilities <= 0, got {value[row]} at row {row}"
                )
        for name, value in (columns | found | others).items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.prompt)  # type: ignore[attr-defined]

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return the given rows, in their order, with their weights as they are."""
        index = as_index_array(np.asarray(rows, dtype=np.int64), "rows", size=len(self))
        taken: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, list):
                value = [value[i] for i in index]
            taken[field.name] = value[index] if isinstance(value, np.ndarray) else value
        found = object.__new__(type(self))
        for name, value in taken.items():
            object.__setattr__(found, name, value)
        return found

    def check(self, kind: type) -> None:
        """Raise unless a loss of ``kind`` can be fed."""
        if kind not in self.kinds:
            names = ", ".join(each.__name__ for each in self.kinds)
            raise ValueError(
                f"{type(self).__name__} feed losses of {names}, got a loss of {kind.__name__}"
            )

    def check_loss(self, loss: Callable[..., Any]) -> None:
        """Raise unless a loss can be fed."""
        self.check(container_of(loss))

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the prompts and completions that a loss of ``kind`` needs of each example.

        The same number of each.
        """
        raise NotImplementedError

    def container(self, kind: type, token_logps: TokenLogps) -> tuple[Any, Tensor]:
        """Return the container of ``kind`` and the weight of each of its values.

        ``token_logps`` are of :meth:`sequences`.
        """
        raise NotImplementedError

    def scored(self, kind: type, scores: Tensor) -> tuple[Any, Tensor]:
        """Return the container of ``kind`` and the weight of each of its values, from scores.

        ``scores`` are numbers ``(n, S, C)`` of the S :meth:`sequences` of each of n examples.
        """
        raise NotImplementedError


def as_texts(column: Any, name: str) -> list[Text]:
    """Return a column as a list of texts, or raise naming the row."""
    unordered = isinstance(column, Mapping | Set)
    if unordered or isinstance(column, str | bytes) or not hasattr(column, "__len__"):
        raise ValueError(f"{name} must be a list of rows, got {type(column).__name__}")
    rows = list(column)
    for row, value in enumerate(rows):
        if not is_text(value):
            raise ValueError(
                f"{name} must hold text, chat messages or token ids, got {shown(value)} in row"
                f" {row}"
            )
    return rows


def as_lists_of_texts(column: Any, name: str) -> tuple[list[list[Text]], int]:
    """Return lists of texts, all of one length K >= 1, and K; or raise naming the row."""
    if isinstance(column, str | bytes) or not hasattr(column, "__len__"):
        raise ValueError(f"{name} must be a list of lists, got {type(column).__name__}")
    rows: list[list[Text]] = []
    for row, value in enumerate(column):
        try:
            rows.append(as_texts(value, name))
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error
        if not rows[-1] or len(rows[-1]) != len(rows[0]):
            wanted = len(rows[0]) if rows[0] else "at least one"
            raise ValueError(
                f"{name} must hold lists of one length, {wanted}, got {len(rows[-1])} in row {row}"
            )
    return rows, len(rows[0]) if rows else 0


def column_like(column: np.ndarray, other: Tensor) -> Tensor:
    """Return a column of numbers as a tensor beside ``other``."""
    import torch

    return torch.as_tensor(column, dtype=other.dtype, device=other.device)


def is_text(value: Any) -> bool:
    """Return whether ``value`` is text, a list of chat messages or a list of token ids."""
    if isinstance(value, str):
        return True
    if isinstance(value, bytes | Mapping | Set) or not hasattr(value, "__len__"):
        return False
    messages = [
        isinstance(item, Mapping) and isinstance(item.get("role"), str) and "content" in item
        for item in value
    ]
    return all(messages) or all(
        isinstance(item, int | np.integer) and not isinstance(item, bool) for item in value
    )
