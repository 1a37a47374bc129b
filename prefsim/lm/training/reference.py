"""What a policy under training is held against: one type for everything that ``fit`` takes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.lm.model.head import Head
from prefsim.lm.model.log_prob_model import LogProbModel, is_adapted
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference_logps import ReferenceLogps, model_hash, rows_hash
from prefsim.lm.model.text_model import TextModel
from prefsim.lm.model.tokens import TokenBatch, Tokens
from prefsim.solvers.reference_update import ReferenceUpdate

__all__ = [
    "AdaptersOff",
    "ModelReference",
    "NoReference",
    "Reference",
    "StoredReference",
    "as_reference",
]


class Reference(ABC):
    """What the log-ratios of a loss are relative to.

    Attributes
    ----------
    is_given
        Whether there is one; log-probabilities of zero stand for none.
    is_model
        Whether it knows its whole next-token distribution (:meth:`states`).
    description
        For messages.
    """

    is_given: bool = True
    is_model: bool = True
    description: str = "the reference model"

    @property
    def modules(self) -> tuple[LogProbModel, ...]:
        """Its own model, where it has one besides the policy."""
        return ()

    @abstractmethod
    def log_probs(self, wrapped: Any, batch: TokenBatch, sequences: Sequence[int]) -> Tensor | None:
        """Return the log-probabilities ``(B, T)`` of a batch, or None where there are none.

        Parameters
        ----------
        wrapped
            The policy's module as training wraps it.
        batch
            The sequences.
        sequences
            Their numbers among all sequences of the data.
        """

    @abstractmethod
    def states(self, policy_model: LogProbModel, batch: TokenBatch) -> tuple[Tensor, Head]:
        """Return the last hidden states of a batch and the head, of a reference that is a model."""

    def layer_states(
        self, policy_model: LogProbModel, batch: TokenBatch
    ) -> tuple[Tensor, Head, tuple[Tensor, ...]]:
        """Return what :meth:`states` does, and the states behind every layer."""
        raise ValueError(f"the states behind layers are those of a model, got {self.description}")

    def with_model(self, change: Callable[[LogProbModel], LogProbModel]) -> Reference:
        """Return the reference with its own model changed, where it has one."""
        return self

    @abstractmethod
    def identity(self, policy: TextModel) -> str:
        """Return what tells this reference of the training of ``policy`` from any other."""

    def check_rows(self, rows: Sequence[Tokens], policy: CausalLM) -> None:
        """Raise unless the reference knows the sequences of the data, the policy's tokens."""
        return None

    def check_follows(self, policy: TextModel) -> None:
        """Raise unless the reference has parameters of its own that can follow the policy's."""
        raise ValueError(
            "a reference that follows the policy must be a model of its own, got"
            f" {self.description}"
        )

    def follow(self, policy_model: LogProbModel, update: ReferenceUpdate) -> None:
        """Move the reference's parameters towards the policy's."""
        raise ValueError(f"{self.description} cannot follow the policy")

    def moved_tensors(self) -> dict[str, Tensor]:
        """Return the parameters of a reference that follows the policy, by name."""
        return {}

    def put_back(self, tensors: dict[str, Tensor]) -> None:
        """Put the parameters of a reference that follows the policy back."""
        return None


@dataclass(frozen=True)
class NoReference(Reference):
    """No reference: log-probabilities of zero."""

    is_given = False
    is_model = False
    description = "no reference"

    def identity(self, policy: TextModel) -> str:
        """Return its name."""
        return "none"

    def log_probs(self, wrapped: Any, batch: TokenBatch, sequences: Sequence[int]) -> Tensor | None:
        """Return None."""
        return None

    def states(self, policy_model: LogProbModel, batch: TokenBatch) -> tuple[Tensor, Head]:
        """Raise: there is no model."""
        raise ValueError("there is no reference model")


@dataclass(frozen=True)
class StoredReference(Reference):
    """Log-probabilities that were computed before training."""

    logps: ReferenceLogps

    is_model = False
    description = "its log-probabilities alone"

    def identity(self, policy: TextModel) -> str:
        """Return the hash of the model that they are of, or of themselves where it is not known."""
        own = np.ascontiguousarray(self.logps.values)
        return self.logps.model or hashlib.sha256(own.data).hexdigest()

    def log_probs(self, wrapped: Any, batch: TokenBatch, sequences: Sequence[int]) -> Tensor | None:
        """Return what is stored for the sequences."""
        return self.logps.place(batch, sequences)

    def states(self, policy_model: LogProbModel, batch: TokenBatch) -> tuple[Tensor, Head]:
        """Raise: there is no model."""
        raise ValueError("the reference is log-probabilities, not a model")

    def check_rows(self, rows: Sequence[Tokens], policy: CausalLM) -> None:
        """Raise unless there is one log-probability for each token of the data, in their order."""
        offsets = self.logps.offsets
        counts = [len(row.completion_ids) for row in rows]
        if np.diff(offsets).tolist() != counts:
            raise ValueError(
                f"the reference's log-probabilities must be of the data's {len(counts)} sequences"
                f" of {sum(counts)} tokens in their order (prefsim.lm.references_of makes them),"
                f" got {len(offsets) - 1} sequences of {int(offsets[-1])} tokens"
            )
        if self.logps.rows and self.logps.rows != rows_hash(rows):
            raise ValueError(
                "the reference's log-probabilities must be of the data's own prompts and"
                " completions in the policy's tokens (prefsim.lm.references_of makes them), got"
                " those of others with as many tokens"
            )


@dataclass(frozen=True)
class ModelReference(Reference):
    """Another model, or the policy as it was when training began."""

    policy: CausalLM

    @property
    def modules(self) -> tuple[LogProbModel, ...]:
        """The model."""
        return (self.policy.log_prob_model,)

    def identity(self, policy: TextModel) -> str:
        """Return the hash of the model."""
        return model_hash(self.policy)

    def check_rows(self, rows: Sequence[Tokens], policy: CausalLM) -> None:
        """Raise unless the tokens of the data are to the reference what they are to the policy."""
        own, theirs = self.policy.tokenizer, policy.tokenizer
        if own is None or theirs is None or own is theirs:
            return
        used = sorted({token for row in rows for ids in row for token in ids})
        words = zip(
            *(each.convert_ids_to_tokens(used) for each in (theirs, own)), used, strict=True
        )
        for word, other, token in words:
            if word != other:
                raise ValueError(
                    f"the reference must have the policy's tokenizer, where token {token} is"
                    f" {word!r}, got one where it is {other!r}"
                )

    def log_probs(self, wrapped: Any, batch: TokenBatch, sequences: Sequence[int]) -> Tensor | None:
        """Return what the model says."""
        return self.policy.log_prob_model(batch, adapters=self.policy.adapters).logp

    def states(self, policy_model: LogProbModel, batch: TokenBatch) -> tuple[Tensor, Head]:
        """Return the model's own."""
        return self.policy.log_prob_model.states(batch, adapters=self.policy.adapters)

    def layer_states(
        self, policy_model: LogProbModel, batch: TokenBatch
    ) -> tuple[Tensor, Head, tuple[Tensor, ...]]:
        """Return the model's own."""
        return self.policy.log_prob_model.layer_states(batch, adapters=self.policy.adapters)

    def with_model(self, change: Callable[[LogProbModel], LogProbModel]) -> Reference:
        """Return the reference with its model changed."""
        changed = change(self.policy.log_prob_model)
        return ModelReference(replace(self.policy, log_prob_model=changed))

    def check_follows(self, policy: TextModel) -> None:
        """Raise unless the parameters of both are the same but for their values."""
        own, theirs = (
            {name: tuple(p.shape) for name, p in model.module.named_parameters()}
            for model in (self.policy, policy)
        )
        if own != theirs:
            different = sorted(set(own.items()) ^ set(theirs.items()))
            raise ValueError(
                "a reference that follows the policy must have its parameters, got a difference"
                f" in {different[0][0]!r}"
            )

    def follow(self, policy_model: LogProbModel, update: ReferenceUpdate) -> None:
        """Move the reference's parameters, which must be a copy, towards the policy's."""
        policy = dict(policy_model.named_parameters())
        with torch.no_grad():
            for name, parameter in self.policy.log_prob_model.named_parameters():
                parameter.copy_(update.mixed(parameter, policy[name].to(parameter.dtype)))

    def moved_tensors(self) -> dict[str, Tensor]:
        """Return copies of the parameters by name, for a checkpoint."""
        named = self.policy.log_prob_model.named_parameters()
        return {name: value.detach().cpu().contiguous().clone() for name, value in named}

    def put_back(self, tensors: dict[str, Tensor]) -> None:
        """Put the parameters of a checkpoint back."""
        with torch.no_grad():
            for name, parameter in self.policy.log_prob_model.named_parameters():
                parameter.copy_(tensors[name])


@dataclass(frozen=True)
class AdaptersOff(Reference):
    """The policy under training itself, with its adapters switched off."""

    description = "the policy with its adapters switched off"

    def identity(self, policy: TextModel) -> str:
        """Return the hash of the model without its adapters."""
        assert isinstance(policy, CausalLM)
        return model_hash(policy.without_adapters())

    def log_probs(self, wrapped: Any, batch: TokenBatch, sequences: Sequence[int]) -> Tensor | None:
        """Return what the policy says without adapters, through what wraps it."""
        return wrapped(batch, adapters=False).logp

    def states(self, policy_model: LogProbModel, batch: TokenBatch) -> tuple[Tensor, Head]:
        """Return the policy's own without adapters."""
        return policy_model.states(batch, adapters=False)

    def layer_states(
        self, policy_model: LogProbModel, batch: TokenBatch
    ) -> tuple[Tensor, Head, tuple[Tensor, ...]]:
        """Return the policy's own without adapters."""
        return policy_model.layer_states(batch, adapters=False)


def as_reference(
    given: CausalLM | ReferenceLogps | None, policy: CausalLM, *, in_place: bool = False
) -> Reference:
    """Return what ``fit`` was given as a reference for the training of ``policy``.

    Parameters
    ----------
    given
        A model, log-probabilities from :func:`prefsim.lm.references_of`, or None.
    policy
        What is trained.
    in_place
        Whether the policy itself is trained, and no copy of it.

    Raises
    ------
    ValueError
        If it is something else, has another vocabulary, or would change along with the policy.
    """
    if given is None:
        return NoReference()
    if isinstance(given, ReferenceLogps):
        return StoredReference(given)
    if not isinstance(given, CausalLM):
        raise ValueError(
            f"reference must be a CausalLM, ReferenceLogps or None, got {type(given).__name__}"
        )
    expected, found = policy.vocabulary_size, given.vocabulary_size
    if found != expected:
        raise ValueError(
            f"the reference must have the vocabulary of the policy, {expected} tokens, got {found}"
        )
    shares_its_model = given.model is policy.model
    if shares_its_model and is_adapted(given.model) and not given.adapters:
        return AdaptersOff()
    if shares_its_model and in_place:
        raise ValueError(
            "a policy that is trained in place cannot be its own reference: take policy.frozen()"
            " or references_of first"
        )
    return ModelReference(given)
