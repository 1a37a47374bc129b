"""What models that read prompts and completions share: their tokens, and how text becomes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from prefsim.lm.model.encoding import encode
from prefsim.lm.model.limits import check_vocabulary
from prefsim.lm.model.log_prob_model import computing_device
from prefsim.lm.model.tokens import Text, Tokens

__all__ = ["TextModel"]


class TextModel:
    """A model of transformers that reads text, chat messages or token ids.

    Attributes
    ----------
    tokenizer
        A transformers tokenizer, or ``None`` for token ids alone.
    append_eos
        Whether completions given as text end with the end-of-sequence token.
    chat_template_kwargs
        What the tokenizer's chat template gets besides the messages.
    adapters
        False for a model with its adapters switched off.
    """

    tokenizer: Any
    append_eos: bool
    chat_template_kwargs: Mapping[str, Any] | None
    adapters: bool = True

    @property
    @abstractmethod
    def module(self) -> Any:
        """What training wraps: the torch module with every parameter."""

    @property
    @abstractmethod
    def model(self) -> Any:
        """What holds every parameter by the name that it is stored under."""

    @property
    @abstractmethod
    def plain(self) -> Any:
        """The ``PreTrainedModel`` itself."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return computing_device(self.module)

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return int(self.plain.config.get_text_config().vocab_size)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a completion."""
        sources = (
            self.tokenizer,
            getattr(self.plain, "generation_config", None),
            self.plain.config,
        )
        ends: list[int] = []
        for source in sources:
            ids = getattr(source, "eos_token_id", None)
            if isinstance(ids, list):
                ends += ids
            elif ids is not None:
                ends.append(ids)
        return tuple(dict.fromkeys(ends))

    @property
    def pad_id(self) -> int:
        """What fills rows of a batch; masked everywhere."""
        pad = getattr(self.tokenizer, "pad_token_id", None)
        return next((token for token in (pad, *self.end_ids) if token is not None), 0)

    def encode(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[Tokens]:
        """Return prompts and completions as token ids, see :func:`~prefsim.lm.encode`.

        An error names its row.
        """
        if (
            isinstance(prompts, str)
            or isinstance(completions, str)
            or len(prompts) != len(completions)
        ):
            first, second = (
                type(texts).__name__ if isinstance(texts, str) else f"{len(texts)}"
                for texts in (prompts, completions)
            )
            raise ValueError(
                f"prompts and completions must be two lists of one length, got {first} and {second}"
            )
        rows = []
        size = self.vocabulary_size
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            try:
                rows.append(
                    encode(
                        self.tokenizer,
                        prompt,
                        completion,
                        append_eos=self.append_eos,
                        ends=self.end_ids,
                        chat_template_kwargs=self.chat_template_kwargs,
                    )
                )
            except ValueError as error:
                raise ValueError(f"row {row}: {error}") from error
            check_vocabulary(rows[-1], size, row)
        return rows

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer: its completions are token ids")
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
