"""A language model that compares responses: a vector, or a reward, from its last hidden state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from prefsim.backend import Seed
from prefsim.checks import check_even, check_integer
from prefsim.containers import PairRewards
from prefsim.lm.model.log_prob_model import evaluating
from prefsim.lm.model.log_probs import as_wide
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.response_scorer import Embedded, ResponseScorer, at_last
from prefsim.lm.model.seeding import seeded
from prefsim.lm.model.tokens import Text, TokenBatch
from prefsim.raters import (
    learned_temperature,
    prompt_scales,
    reward_embedding,
    score_matrix,
    skew_score,
)

# A softplus of this is one tenth: where the authors of general preference models start.
RAW_START = -2.25
# What a sequence classifier of transformers has no place for.
FURTHER = "preference.safetensors"

__all__ = ["PreferenceModel"]


class PreferenceModel(ResponseScorer):
    r"""A reward model, or a general preference model, on the body of a language model.

    A linear head reads a vector off the state of a response's last token, and a fixed skew form of
    two vectors over a temperature is the log-odds of the preference between the responses
    (:func:`prefsim.raters.skew_score`). One number a response is a reward instead, and its
    differences the log-odds: the Bradley–Terry model.

    Train it by ``fit(model, losses.bradley_terry, data)``, or with any other loss of
    :class:`prefsim.losses.PairRewards`, on :class:`~prefsim.lm.TextComparisons`. The loss then sees
    the rewards of both responses; of a general preference model it sees their score as the reward
    of the chosen one, and zero as that of the other.

    Parameters
    ----------
    policy
        The language model, whose body is trained too (taken over, not copied, but for one whose
        adapters are switched off, which is copied without them). Its tokenizer goes along.
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
        If ``dim`` is neither 1 nor even, a reward is to be gated, or transformers has no sequence
        classifier of the architecture.

    References
    ----------
    Zhang et al. 2024, section 4, arXiv:2410.02197, with the gate and the temperature of the
    authors' code.
    """

    kinds: ClassVar[tuple[type, ...]] = (PairRewards,)

    gate: torch.nn.Linear | None
    raw_temperature: torch.nn.Parameter | None

    def __init__(
        self,
        policy: CausalLM,
        *,
        dim: int,
        gated: bool = False,
        temperature: bool = False,
        seed: Seed,
    ) -> None:
        check_integer(low=1, dim=dim)
        if dim == 1 and gated:
            raise ValueError("a reward (dim=1) has no planes to gate, got gated=True")
        _check_dim(dim)
        with seeded(seed):
            # Head and gate are drawn one after the other.
            super().__init__(policy, dim=dim, seed=None)
            weight = self.head.weight
            if gated:
                self.gate = torch.nn.Linear(self.width, dim // 2, bias=False).to(weight)
        if temperature:
            self.raw_temperature = torch.nn.Parameter(weight.new_tensor(RAW_START))

    def _hold(
        self,
        classifier: Any,
        tokenizer: Any,
        append_eos: bool,
        chat_template_kwargs: Mapping[str, Any] | None,
        adapters: Mapping[str, Any] | None = None,
    ) -> None:
        super()._hold(classifier, tokenizer, append_eos, chat_template_kwargs, adapters)
        _check_dim(self.dim)
        self.gate = None
        self.raw_temperature = None

    def _read_further(self, folder: Path) -> None:
        if not (folder / FURTHER).is_file():
            return
        from safetensors.torch import load_file

        stored = load_file(folder / FURTHER)
        if "gate.weight" in stored:
            weight = stored["gate.weight"]
            self.gate = torch.nn.Linear(self.width, len(weight), bias=False).to(weight)
            self.gate.weight.data.copy_(weight)
        if "raw_temperature" in stored:
            self.raw_temperature = torch.nn.Parameter(stored["raw_temperature"])

    def write(self, folder: str | Path, state: dict[str, Tensor] | None = None) -> None:
        """Write it, with gate and temperature in a file of their own where it has them.

        The numbers that transformers gives are those before both.
        """
        super().write(folder, state)
        own = self.state_dict() if state is None else state
        further = {
            name: value.detach().cpu().contiguous()
            for name, value in own.items()
            if not name.startswith("classifier.")
        }
        (Path(folder) / FURTHER).unlink(missing_ok=True)
        if further:
            from safetensors.torch import save_file

            save_file(further, Path(folder) / FURTHER)

    def forward(self, batch: TokenBatch) -> Embedded:
        """Return what the responses of a batch are embedded as, differentiable."""
        states = self._hidden(batch)
        vectors = self._read(self.head, at_last(states, batch.completion_mask))
        if self.gate is None:
            return Embedded(vectors, None)
        asked = at_last(states, batch.attention_mask & ~batch.completion_mask)
        return Embedded(vectors, prompt_scales(self._read(self.gate, asked), width=self.width))

    def rewards(
        self, prompts: Sequence[Text], completions: Sequence[Text], *, batch_size: int = 8
    ) -> Tensor:
        """Return the rewards of responses, ``(n,)`` in log-odds, float64, without gradients.

        The difference of two is the log-odds of the preference. Raises ``ValueError`` if the model
        has a vector for each response, and so no reward.
        """
        if self.dim != 1:
            raise ValueError(f"a response has a reward where dim = 1, got dim = {self.dim}")
        found = self._cooled(self.numbers(prompts, completions, batch_size=batch_size)[:, 0])
        return found.detach()

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

    def log_odds(self, prompt: Text, completions: Sequence[Text]) -> Tensor:
        """Return :meth:`score_table` in float64, without gradients."""
        with evaluating(self):
            return as_wide(self.score_table(prompt, list(completions)))

    def seen_by_loss(self, embedded: Embedded, examples: int) -> Tensor:
        """Return the rewards of chosen and rejected ``(n, 2, 1)``; of vectors score and zero."""
        vectors = super().seen_by_loss(embedded, examples)
        if self.dim == 1:
            return self._cooled(vectors)
        scales = embedded.scales
        if scales is not None:
            # The gate of a pair is that of its prompt, the same for both.
            scales = scales.reshape(examples, -1, scales.shape[-1])[:, 0]
        score = self._cooled(skew_score(vectors[:, 0], vectors[:, 1], scales=scales))
        return torch.stack([score, torch.zeros_like(score)], dim=1)[..., None]

    def _vectors(self, embedded: Embedded) -> Tensor:
        """Return the vectors of responses, those of a reward where they have one."""
        if self.dim == 1:
            return reward_embedding(embedded.vectors[:, 0])
        return embedded.vectors

    def _cooled(self, score: Tensor) -> Tensor:
        if self.raw_temperature is None:
            return score
        raw: Tensor = self.raw_temperature
        return score / learned_temperature(raw)


def _check_dim(dim: int) -> None:
    if dim > 1:
        check_even(dim, "dim")
