"""From rows of text to the values of a loss.

What has to be computed for its container, of the policy and of the reference.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefsim.containers import JudgedLogps, TokenPairLogps
from prefsim.lm.model.logprobs import TokenStatistics
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference import ReferenceLogps, reference_logps
from prefsim.lm.model.scorer import Scorer
from prefsim.lm.model.tokens import TokenBatch, Tokens, collate
from prefsim.lm.training.data import Scored, TextData
from prefsim.losses.registry import container_of

Loss = Callable[..., Any]

#: The reference that is the policy under training with its adapters switched off.
ADAPTERS_OFF = "adapters off"

__all__ = [
    "ADAPTERS_OFF",
    "Needs",
    "Rows",
    "Scores",
    "couples",
    "needs_of",
    "references_of",
    "rows_of",
]


class Needs(NamedTuple):
    """Sums over the whole next-token distribution that a loss needs besides log-probabilities."""

    collision: bool = False
    kl: bool = False


def needs_of(loss: Loss) -> Needs:
    """Return what a loss needs, found by leaving it out: a loss says what it misses."""
    if container_of(loss) is not TokenPairLogps:
        return Needs()
    one, every = -np.ones((2, 3)), np.ones((2, 3), dtype=bool)
    whole = TokenPairLogps(one, one - 1, one, one, every, every, -one, -one, one, one)
    loss(whole)

    def missed(name: str) -> bool:
        try:
            loss(whole._replace(**{f"chosen_{name}": None, f"rejected_{name}": None}))
        except ValueError:
            return True
        return False

    return Needs(missed("collision"), missed("kl"))


def couples(loss: Loss) -> bool:
    """Return whether the value of one example depends on the others of its batch."""
    from prefsim.losses.catalogue import couples_batch

    return container_of(loss) is not JudgedLogps and couples_batch(loss)


class Rows(NamedTuple):
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


def rows_of(policy: CausalLM, data: TextData, kind: type) -> Rows:
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
    return Rows(
        tokens, per_example, sizes.reshape(len(examples), -1).max(axis=1) if examples else sizes
    )


def references_of(
    reference: CausalLM, data: TextData, loss: Loss, *, batch_size: int = 8, cache: Any = None
) -> ReferenceLogps:
    """Return the reference's log-probabilities of all sequences that training with ``loss`` on ``data`` needs, computed once.

    Give them to ``fit`` as ``reference``; the memory of the reference model is free then.

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
    return reference_logps(
        reference,
        rows_of(reference, data, container_of(loss)).tokens,
        batch_size=batch_size,
        cache=cache,
    )


def _wide(values: Tensor) -> Tensor:
    """Return log-probabilities in float64, where the device has it.

    Losses subtract sums of thousands of nats.
    """
    return values if values.device.type == "mps" else values.double()


@dataclass(frozen=True)
class Scores:
    """Evaluates a loss on examples.

    Attributes
    ----------
    policy
        Gives the padding.
    data, rows
        The examples, as text and as tokens.
    loss
        The loss.
    needs
        What it needs besides log-probabilities.
    reference
        A model, log-probabilities of all rows, :data:`ADAPTERS_OFF` for the policy's own without
        adapters, or ``None``.
    autocast
        Makes the context that the reference is evaluated in, that of the policy's own forward.
    """

    policy: CausalLM
    data: TextData
    rows: Rows
    loss: Loss
    needs: Needs
    reference: CausalLM | ReferenceLogps | str | None
    autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    @functools.cached_property
    def kind(self) -> type:
        """The container that the loss takes."""
        return container_of(self.loss)

    def batch(self, examples: Sequence[int] | np.ndarray, device: torch.device) -> TokenBatch:
        """Return the sequences of the examples as one padded batch.

        One forward for all completions.
        """
        return collate(
            [self.rows.tokens[i] for i in self.rows.of(examples)],
            pad_id=self.policy.pad_id,
            device=device,
        )

    def values(
        self, model: torch.nn.Module, plain: Scorer, examples: Sequence[int] | np.ndarray
    ) -> tuple[Tensor, Tensor, Any]:
        """Return the loss's values with the graph, the weight of each, and the container it was given.

        Parameters
        ----------
        model
            What is called: the scorer or what wraps it.
        plain
            The scorer itself.
        examples
            Row numbers of the data. A loss that couples its batch sees exactly these.
        """
        scored = self.scored(model, plain, examples)
        container, weight = self.data.take(examples).container(self.kind, scored)
        return self.loss(container), weight, container

    def scored(
        self, model: torch.nn.Module, plain: Scorer, examples: Sequence[int] | np.ndarray
    ) -> Scored:
        """Return the token log-probabilities of the examples, with the graph of the policy's."""
        batch = self.batch(examples, plain.device)
        ref_logp, options = self._reference(model, plain, batch, examples)
        found: TokenStatistics = model(batch, **options)
        if found.ref_logp is not None:
            ref_logp = found.ref_logp
        return _by_example(found, ref_logp, batch.completion_mask, len(examples))

    def _reference(
        self, model: torch.nn.Module, plain: Scorer, batch: TokenBatch, examples: Any
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Return the reference's log-probabilities, or what the policy's forward needs to give them with the KL."""
        options: dict[str, Any] = {"collision": True} if self.needs.collision else {}
        if self.reference is None:
            return None, options
        if isinstance(self.reference, ReferenceLogps):
            return self.reference.place(batch, self.rows.of(examples)), options
        with torch.no_grad(), self.autocast():
            if isinstance(self.reference, str):
                if self.needs.kl:
                    states, head = plain.states(batch, adapters=False)
                    return None, options | {"ref_hidden": states, "ref_head": head}
                return model(batch, adapters=False).logp, options
            scorer, adapters = self.reference.scorer, self.reference.adapters
            if self.needs.kl:
                states, head = scorer.states(batch, adapters=adapters)
                return None, options | {"ref_hidden": states, "ref_head": head}
            return scorer(batch, adapters=adapters).logp, options


def _by_example(found: TokenStatistics, ref_logp: Tensor | None, mask: Tensor, n: int) -> Scored:
    """Return statistics ``(B, T)`` as ``(n, S, T')`` with the completions moved to the left."""
    counts = mask.sum(dim=1)
    width = int(counts.max())
    places = torch.arange(width, device=mask.device) < counts[:, None]

    def moved(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        wide = _wide(values)
        left = wide.new_zeros(places.shape).masked_scatter(places, wide[mask])
        return left.reshape(n, -1, width)

    logp = moved(found.logp)
    assert logp is not None
    reference = moved(ref_logp)
    shape = (n, -1, width)
    return Scored(
        logp,
        torch.zeros_like(logp) if reference is None else reference.detach(),
        places.reshape(shape),
        moved(found.kl),
        moved(found.collision),
    )
