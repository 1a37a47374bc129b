"""A language model that compares responses: a vector, or a reward, from its last hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from prefsim.backend import Seed
from prefsim.checks import check_even, check_integer
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.seeding import seeded
from prefsim.lm.model.tokens import Text, TokenBatch, collate
from prefsim.raters import (
    learned_temperature,
    prompt_scales,
    reward_embedding,
    score_matrix,
    skew_score,
)

# A softplus of this is one tenth: where the authors of general preference models start.
RAW_START = -2.25

__all__ = ["Embedded", "PreferenceModel"]


class Embedded(NamedTuple):
    """Vectors ``(n, 2k)`` of responses, or their rewards ``(n, 1)``, and scales of their prompts.

    Scales are ``(n, k)``, or None where all planes count alike.
    """

    vectors: Tensor
    scales: Tensor | None


class PreferenceModel(torch.nn.Module):
    r"""A general preference model, or a reward model, on the trunk of a language model.

    A linear head reads a vector off the state of a response's last token, and a fixed skew form of
    two vectors over a temperature is the log-odds of the preference between the responses
    (:func:`prefsim.raters.skew_score`). One number a response is a reward instead, and its
    differences the log-odds: the Bradley–Terry model. Train it with
    ``losses.bradley_terry(PairRewards(score, 0 * score))``, where ``score`` is :meth:`scores` of
    chosen and rejected responses, or with ``losses.score_regression``.

    Parameters
    ----------
    policy
        The language model, whose trunk is trained too (taken over, not copied).
    dim
        Numbers a response has: 1 for a reward, or 2k.
    gated
        Whether prompts weigh the k planes, as :func:`prefsim.raters.prompt_scales` of a linear
        function of the state of their last token.
    temperature
        Whether the temperature of the scores is learned, as
        :func:`prefsim.raters.learned_temperature` of a parameter; 1 otherwise.
    seed
        Of the weights of the head.

    Raises
    ------
    ValueError
        If ``dim`` is neither 1 nor even, or a reward is to be gated.

    References
    ----------
    Zhang et al. 2024, section 4, arXiv:2410.02197, with the gate and the temperature of the
    authors' code.
    """

    def __init__(
        self,
        policy: CausalLM,
        *,
        dim: int,
        gated: bool = False,
        temperature: bool = False,
        seed: Seed,
    ) -> None:
        super().__init__()
        check_integer(low=1, dim=dim)
        if dim > 1:
            check_even(dim, "dim")
        elif gated:
            raise ValueError("a reward (dim=1) has no planes to gate, got gated=True")
        self.policy = policy
        self.trunk = policy.log_prob_model
        weight = self.trunk.head().weight
        self.width = int(weight.shape[-1])
        with seeded(seed):
            self.head = torch.nn.Linear(self.width, dim, bias=False).to(weight)
            self.gate = None
            if gated:
                self.gate = torch.nn.Linear(self.width, dim // 2, bias=False).to(weight)
        self.raw_temperature = None
        if temperature:
            self.raw_temperature = torch.nn.Parameter(weight.new_tensor(RAW_START))

    def forward(self, batch: TokenBatch) -> Embedded:
        """Return what the responses of a batch are embedded as, differentiable."""
        states, _ = self.trunk.states(batch, adapters=self.policy.adapters)

        def at_last(mask: Tensor) -> Tensor:
            row, place = (torch.arange(size, device=states.device) for size in mask.shape)
            last: Tensor = states[row, torch.where(mask, place, -1).amax(dim=1)]
            return last

        vectors = self.head(at_last(batch.completion_mask))
        if self.gate is None:
            return Embedded(vectors, None)
        logits = self.gate(at_last(batch.attention_mask & ~batch.completion_mask))
        return Embedded(vectors, prompt_scales(logits, width=self.width))

    def embed(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Embedded:
        """Return what responses to prompts are embedded as, differentiable, in one batch."""
        rows = self.policy.encode(prompts, completions)
        return self(collate(rows, pad_id=self.policy.pad_id, device=self.policy.device))

    def scores(
        self, prompts: Sequence[Text], first: Sequence[Text], second: Sequence[Text]
    ) -> Tensor:
        """Return the log-odds ``(n,)`` that the first response is preferred, differentiable."""
        n = len(prompts)
        both = self.embed([*prompts, *prompts], [*first, *second])
        scales = None if both.scales is None else both.scales[:n]
        vectors = self._vectors(both)
        return self._cooled(skew_score(vectors[:n], vectors[n:], scales=scales))

    def score_table(self, prompt: Text, completions: Sequence[Text]) -> Tensor:
        """Return the log-odds ``(n, n)`` of all pairs of responses to one prompt, differentiable.

        n responses cost n forwards.
        """
        embedded = self.embed([prompt] * len(completions), completions)
        scales = None if embedded.scales is None else embedded.scales[0]
        return self._cooled(score_matrix(self._vectors(embedded), scales=scales))

    def _vectors(self, embedded: Embedded) -> Tensor:
        """Return the vectors of responses, those of a reward where they have one."""
        if self.head.out_features == 1:
            return reward_embedding(embedded.vectors[:, 0])
        return embedded.vectors

    def _cooled(self, score: Tensor) -> Tensor:
        if self.raw_temperature is None:
            return score
        raw: Tensor = self.raw_temperature
        return score / learned_temperature(raw)
