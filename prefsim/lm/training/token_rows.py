"""The sequences of text data as tokens, and a reference's log-probabilities of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference_logps import ReferenceLogps, reference_logps
from prefsim.lm.model.tokens import Tokens
from prefsim.losses.registry import container_of

__all__ = ["TokenRows", "references_of", "token_rows"]


class TokenRows(NamedTuple):
    """The sequences of all examples as tokens, example after example.

    Attributes
    ----------
    tokens
        ``n * per_example`` sequences.
    per_example
        Sequences of each example.
    lengths
        Tokens of the longest sequence of each example, ``(n,)``.
    """

    tokens: list[Tokens]
    per_example: int
    lengths: np.ndarray

    def of(self, examples: Sequence[int] | np.ndarray) -> list[int]:
        """Return the numbers of the sequences of these examples."""
        return [int(i) * self.per_example + k for i in examples for k in range(self.per_example)]


def token_rows(policy: CausalLM, data: TextData, kind: type) -> TokenRows:
    """Return the sequences that a loss of ``kind`` needs, as tokens; an error names the example."""
    examples = data.sequences(kind)
    per_example = len(examples[0]) if examples else 0
    tokens: list[Tokens] = []
    for number, example in enumerate(examples):
        try:
            tokens += policy.encode(
                [prompt for prompt, _ in example], [completion for _, completion in example]
            )
        except ValueError as error:
            raise ValueError(f"example {number}: {error}") from error
    sizes = np.asarray(
        [len(row.prompt_ids) + len(row.completion_ids) for row in tokens], dtype=np.int64
    )
    longest = sizes.reshape(len(examples), -1).max(axis=1) if examples else sizes
    return TokenRows(tokens, per_example, longest)


def references_of(
    reference: CausalLM,
    data: TextData,
    loss: Callable[..., Any],
    *,
    batch_size: int = 8,
    cache: str | Path | None = None,
) -> ReferenceLogps:
    """Return the reference's log-probabilities of all sequences that training needs.

    They are computed once: give them to ``fit`` as ``reference``, and the memory of the reference
    model is free.

    Parameters
    ----------
    reference
        The reference model. It must have the tokenizer of the policy.
    data
        The training data.
    loss
        The loss, as ``fit`` gets it.
    batch_size, cache
        As for :func:`~prefsim.lm.reference_logps`.
    """
    rows = token_rows(reference, data, container_of(loss))
    return reference_logps(reference, rows.tokens, batch_size=batch_size, cache=cache)
