"""A language model's body with a value head: what a response is worth before each of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from prefsim.backend import Seed
from prefsim.containers import TokenValues
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.response_scorer import Embedded, ResponseScorer
from prefsim.lm.model.tokens import Text, TokenBatch

__all__ = ["TokenCritic"]


class TokenCritic(ResponseScorer):
    """A value function of responses, token by token, on the body of a language model.

    A linear head reads one number off the state before each token of a response, the one that the
    language model predicts the token from: what the whole is expected to be worth from there on.
    Fit it with :func:`prefsim.losses.value_loss` on :class:`~prefsim.lm.TextRollouts` that have
    returns; :func:`~prefsim.lm.with_values` gives them.

    It is kept as a sequence classifier of transformers with one number, as a reward model is, and
    :meth:`load` makes a critic of a saved reward model, from which PPO for language models starts.

    Parameters
    ----------
    policy
        The language model, whose body is trained too (taken over, not copied: load a second one).
    seed
        Of the weights of the head.

    Raises
    ------
    ValueError
        If transformers has no sequence classifier of the architecture.

    References
    ----------
    Ouyang et al. 2022, appendix C.4, arXiv:2203.02155 (the critic starts as the reward model).
    """

    kinds: ClassVar[tuple[type, ...]] = (TokenValues,)

    def __init__(self, policy: CausalLM, *, seed: Seed) -> None:
        super().__init__(policy, dim=1, seed=seed)

    def forward(self, batch: TokenBatch) -> Embedded:
        """Return the value before each token of the responses, ``(B, T)``, 0 behind the end."""
        assert batch.scored is not None
        positions, places, width, _ = batch.scored
        states = self._hidden(batch)
        before = states.reshape(-1, states.shape[-1]).index_select(0, positions - 1)
        values = self._read(self.head, before)[:, 0]
        rows = len(batch.input_ids)
        left = values.new_zeros(rows * width).index_copy(0, places, values)
        return Embedded(left.reshape(rows, width), None)

    def seen_by_loss(self, embedded: Embedded, examples: int) -> Tensor:
        """Return the values of each example's responses, ``(n, K, T)``."""
        return embedded.vectors.reshape(examples, -1, embedded.vectors.shape[-1])

    def numbers(
        self, prompts: Sequence[Text], completions: Sequence[Text], *, batch_size: int = 8
    ) -> Tensor:
        """Return the value before each token of completions, ``(n, T)``, without gradients.

        In float64 where the device has it; 0 behind the end of a completion.
        """
        rows = self.encode(prompts, completions)
        longest = max((len(row.completion_ids) for row in rows), default=0)
        return self._table(rows, longest, batch_size)
