"""A language model's body that gives every response some numbers, read off its last state."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from prefsim.backend import Seed
from prefsim.checks import check_choice, check_integer
from prefsim.lm.model.limits import check_positions
from prefsim.lm.model.loading import load_classifier, load_tokenizer
from prefsim.lm.model.log_prob_model import body_output, disable_dropout, evaluating
from prefsim.lm.model.log_probs import as_wide
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.seeding import seeded
from prefsim.lm.model.sequence_classifier import (
    check_classifier,
    classifier_around,
    write_classifier,
)
from prefsim.lm.model.text_model import TextModel
from prefsim.lm.model.tokens import Text, TokenBatch, Tokens, batches_by_length, collate

__all__ = ["Embedded", "ResponseScorer", "at_last"]


class Embedded(NamedTuple):
    """Numbers ``(n, dim)`` of responses, and scales of their prompts.

    Scales are ``(n, k)``, or None where all planes of a general preference model count alike.
    """

    vectors: Tensor
    scales: Tensor | None


class ResponseScorer(torch.nn.Module, TextModel):
    """What :class:`PreferenceModel`, :class:`ResponseClassifier` and :class:`TokenCritic` share.

    A linear head reads ``dim`` numbers off the state of a response's last token. The module holds
    what transformers calls a sequence classifier, in which form it is saved and loaded.

    Parameters
    ----------
    policy
        The language model, whose body is trained too (taken over, not copied, but for one whose
        adapters are switched off, which is copied without them). Its tokenizer goes along.
    dim
        Numbers a response has.
    seed
        Of the weights of the head; None goes on with torch's own generator.
    """

    #: What a loss that this model is fitted with may take.
    kinds: ClassVar[tuple[type, ...]] = ()

    def __init__(self, policy: CausalLM, *, dim: int, seed: Seed | None) -> None:
        super().__init__()
        check_integer(low=1, dim=dim)
        adapters = getattr(policy.model, "peft_config", None)
        if adapters and not policy.adapters:
            policy, adapters = policy.merged(), None
        weight = policy.log_prob_model.head().weight
        with contextlib.nullcontext() if seed is None else seeded(seed):
            head = torch.nn.Linear(int(weight.shape[-1]), dim, bias=False).to(weight)
        classifier = classifier_around(
            policy.log_prob_model.body, head, policy.plain.config, policy.tokenizer, policy.end_ids
        )
        self._hold(
            classifier, policy.tokenizer, policy.append_eos, policy.chat_template_kwargs, adapters
        )

    def _hold(
        self,
        classifier: Any,
        tokenizer: Any,
        append_eos: bool,
        chat_template_kwargs: Mapping[str, Any] | None,
        adapters: Mapping[str, Any] | None = None,
    ) -> None:
        self.classifier = classifier
        self.tokenizer, self.append_eos = tokenizer, append_eos
        self.chat_template_kwargs = chat_template_kwargs
        #: Configurations of the adapters in the layers of the body, by name.
        self.peft_config = dict(adapters or {})
        classifier.eval()
        if not any(parameter.is_meta for parameter in classifier.parameters()):
            check_classifier(classifier, self._hidden)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dtype: str = "auto",
        device: str | torch.device | None = None,
        append_eos: bool = True,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Load a saved one, or any other sequence classifier of this form, and its tokenizer.

        Parameters
        ----------
        path
            Folder or hub id.
        dtype
            ``"auto"`` (as stored), ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"float64"``.
        device
            Where the model goes; ``None`` leaves it in memory.
        append_eos, chat_template_kwargs
            As for :class:`~prefsim.lm.CausalLM`, and as they were in training.
        **options
            Passed to ``AutoModelForSequenceClassification.from_pretrained``.

        Raises
        ------
        ValueError
            If there is no such model, its weights are not all there, or its numbers are not a
            linear layer ``score`` on the last hidden state.
        """
        check_choice(("auto", "float32", "bfloat16", "float16", "float64"), dtype=dtype)
        classifier = load_classifier(path, dtype, **options)
        found = cls.around(
            classifier,
            load_tokenizer(path, **options),
            append_eos=append_eos,
            chat_template_kwargs=chat_template_kwargs,
        )
        found._read_further(Path(path))
        return found if device is None else found.to(device)

    @classmethod
    def around(
        cls,
        classifier: Any,
        tokenizer: Any = None,
        *,
        append_eos: bool = True,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the model of a sequence classifier of transformers in memory (taken over)."""
        disable_dropout(classifier)
        found = cls.__new__(cls)
        torch.nn.Module.__init__(found)
        found._hold(classifier, tokenizer, append_eos, chat_template_kwargs)
        return found

    def _read_further(self, folder: Path) -> None:
        """Read what a sequence classifier of transformers has no place for."""
        return None

    def save(self, folder: str | Path) -> None:
        """Write it as a sequence classifier of transformers, adapters merged, and the tokenizer.

        ``transformers.AutoModelForSequenceClassification.from_pretrained(folder)`` loads it and
        gives the same numbers, on batches with padding on either side if the tokenizer has a token
        for padding (or for the unknown or the beginning) that ends no text; on one text at a time
        if not.
        """
        self.write(folder)

    def write(self, folder: str | Path, state: dict[str, Tensor] | None = None) -> None:
        """Write it; ``state`` replaces its own tensors where those are sharded."""
        if state is not None:
            prefix = "classifier."
            state = {
                name.removeprefix(prefix): value
                for name, value in state.items()
                if name.startswith(prefix)
            }
        write_classifier(self.classifier, self.tokenizer, folder, state)

    @property
    def module(self) -> Self:
        """What training wraps: itself."""
        return self

    @property
    def model(self) -> Self:
        """What holds every parameter: itself."""
        return self

    @property
    def plain(self) -> Any:
        """The sequence classifier of transformers."""
        return self.classifier

    @property
    def head(self) -> torch.nn.Linear:
        """The layer that reads the numbers off a state."""
        layer: torch.nn.Linear = self.classifier.score
        return layer

    @property
    def dim(self) -> int:
        """How many numbers a response has."""
        return int(self.head.out_features)

    @property
    def width(self) -> int:
        """How many numbers a state has."""
        return int(self.head.in_features)

    def with_module(self, module: Self) -> Self:
        """Return another module in the place of this."""
        return module

    def forward(self, batch: TokenBatch) -> Embedded:
        """Return the numbers of the responses of a batch, differentiable."""
        states = self._hidden(batch)
        return Embedded(self._read(self.head, at_last(states, batch.completion_mask)), None)

    def embed(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Embedded:
        """Return the numbers of responses to prompts, differentiable, in one batch."""
        rows = self.encode(prompts, completions)
        return self(collate(rows, pad_id=self.pad_id, device=self.device))

    def numbers(
        self, prompts: Sequence[Text], completions: Sequence[Text], *, batch_size: int = 8
    ) -> Tensor:
        """Return the numbers of responses, ``(n, dim)``, float64, without gradients.

        In float32 where the device has no float64.
        """
        return self._table(self.encode(prompts, completions), self.dim, batch_size)

    def _table(self, rows: Sequence[Tokens], width: int, batch_size: int) -> Tensor:
        """Return the numbers of rows as a table ``(n, width)``, 0 where a row has fewer."""
        check_integer(low=1, batch_size=batch_size)
        lengths = [len(row.prompt_ids) + len(row.completion_ids) for row in rows]
        check_positions(self.plain, lengths)
        found = as_wide(torch.zeros(len(rows), width, device=self.device))
        with evaluating(self):
            for chunk in batches_by_length(lengths, batch_size):
                batch = collate([rows[i] for i in chunk], pad_id=self.pad_id, device=self.device)
                vectors = as_wide(self(batch).vectors)
                found[chunk, : vectors.shape[-1]] = vectors
        return found

    def seen_by_loss(self, embedded: Embedded, examples: int) -> Tensor:
        """Return what a loss sees of each example's responses, ``(n, S, C)``.

        Parameters
        ----------
        embedded
            Of the responses of all examples, one example after the other.
        examples
            n.
        """
        return embedded.vectors.reshape(examples, -1, self.dim)

    def _hidden(self, batch: TokenBatch) -> Tensor:
        hidden: Tensor = body_output(self.classifier.base_model, batch).last_hidden_state
        return hidden

    def _read(self, layer: torch.nn.Linear, states: Tensor) -> Tensor:
        """Return a layer's numbers, in float32 at least: differences of rewards are small."""
        with torch.autocast(states.device.type, enabled=False):
            weight = layer.weight
            wide = torch.promote_types(states.dtype, weight.dtype)
            wide = torch.promote_types(wide, torch.float32)
            bias = None if layer.bias is None else layer.bias.to(wide)
            return torch.nn.functional.linear(states.to(wide), weight.to(wide), bias)


def at_last(states: Tensor, mask: Tensor) -> Tensor:
    """Return the states ``(B, d)`` at the last token of each row that a mask marks."""
    row, place = (torch.arange(size, device=states.device) for size in mask.shape)
    last: Tensor = states[row, torch.where(mask, place, -1).amax(dim=1)]
    return last
