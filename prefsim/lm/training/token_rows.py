"""The sequences of text data as tokens, and a reference's log-probabilities of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference_logps import ReferenceLogps, reference_logps
from prefsim.lm.model.text_model import TextModel
from prefsim.lm.model.tokens import Tokens
from prefsim.lm.training.altered_text import AlteredTexts
from prefsim.lm.training.token_cache import Encoded, kept_tokens
from prefsim.lm.training.truncation import Truncation, truncated
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
    truncated
        Examples of which something was left out.
    """

    tokens: list[Tokens]
    per_example: int
    lengths: np.ndarray
    truncated: int = 0

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each sequence of each example, ``(n, S)``."""
        counts = [len(row.prompt_ids) + len(row.completion_ids) for row in self.tokens]
        return np.asarray(counts, dtype=np.int64).reshape(-1, self.per_example)

    def of(self, examples: Sequence[int] | np.ndarray) -> list[int]:
        """Return the numbers of the sequences of these examples."""
        return [int(i) * self.per_example + k for i in examples for k in range(self.per_example)]


def token_rows(
    policy: TextModel,
    data: TextData,
    kind: type,
    truncation: Truncation | None = None,
    *,
    cache: str | Path | None = None,
) -> TokenRows:
    """Return the sequences that a loss of ``kind`` needs, as tokens; an error names the example.

    Warns where a tokenizer writes a text otherwise than it was given. ``cache`` is the folder in
    which tokens are kept, or None.
    """
    examples = data.sequences(kind)
    per_example = len(examples[0]) if examples else 0
    encode = functools.partial(_encoded, policy, examples)
    encoded = encode() if cache is None else kept_tokens(Path(cache), policy, examples, encode)
    tokens, shortened = encoded.tokens, 0
    if truncation is not None:
        tokens, shortened = _shortened(policy, encoded.tokens, per_example, truncation)
    encoded.altered.warn()
    sizes = np.asarray(
        [len(row.prompt_ids) + len(row.completion_ids) for row in tokens], dtype=np.int64
    )
    longest = sizes.reshape(len(examples), -1).max(axis=1) if examples else sizes
    return TokenRows(tokens, per_example, longest, shortened)


def _encoded(policy: TextModel, examples: Sequence[Sequence[tuple[Any, Any]]]) -> Encoded:
    """Return all sequences as tokens."""
    tokens: list[Tokens] = []
    altered = AlteredTexts(policy.tokenizer)
    for number, example in enumerate(examples):
        try:
            whole = policy.encode(
                [prompt for prompt, _ in example], [completion for _, completion in example]
            )
            altered.see(number, example, whole)
        except ValueError as error:
            raise ValueError(f"example {number}: {error}") from error
        tokens += whole
    return Encoded(tokens, altered.found)


def _shortened(
    policy: TextModel, tokens: list[Tokens], per_example: int, truncation: Truncation
) -> tuple[list[Tokens], int]:
    """Return sequences that are not too long, and of how many examples something was left out."""
    bos_id = None if policy.tokenizer is None else policy.tokenizer.bos_token_id
    kept: list[Tokens] = []
    shortened = 0
    for number, start in enumerate(range(0, len(tokens), max(1, per_example))):
        whole = tokens[start : start + per_example]
        try:
            fitting = truncated(whole, truncation, bos_id=bos_id)
        except ValueError as error:
            raise ValueError(f"example {number}: {error}") from error
        shortened += fitting != whole
        kept += fitting
    return kept, shortened


def references_of(
    reference: CausalLM,
    data: TextData,
    loss: Callable[..., Any],
    *,
    batch_size: int = 8,
    cache: str | Path | None = None,
    truncation: Truncation | None = None,
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
    truncation
        As ``fit`` gets it.
    """
    rows = token_rows(reference, data, container_of(loss), truncation)
    return reference_logps(reference, rows.tokens, batch_size=batch_size, cache=cache)
