"""What a model makes of pairs, all of it of one forward over every completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefsim.analysis import ches_score
from prefsim.lm import CausalLM, ReferenceLogps, TextComparisons, Tokens, collate, token_log_probs
from prefsim.lm.model.log_prob_model import evaluating
from prefsim.lm.model.reference_logps import rows_hash
from prefsim.lm.model.tokens import batches_by_length


class Answer(NamedTuple):
    """A completion as the model reads it.

    Attributes
    ----------
    tokens
        Those of the prompt and its own, T of them.
    logps
        Their log-probabilities ``(T,)`` in nats.
    states
        Last hidden states ``(T + 1, d)``: that of the prompt's last token, and of each of its own.
    """

    tokens: Tokens
    logps: np.ndarray
    states: np.ndarray

    @property
    def embedding(self) -> np.ndarray:
        """The state at the last token and the mean over all of its tokens, float64 ``(2d,)``."""
        states = self.states[1:].astype(float)
        return np.concatenate([states[-1], states.mean(axis=0)])


class Reading(NamedTuple):
    """Both answers of every pair, n of each."""

    chosen: list[Answer]
    rejected: list[Answer]

    def take(self, places: Sequence[int]) -> Reading:
        """Return some of the pairs."""
        return Reading(*([side[i] for i in places] for side in self))

    @property
    def tables(self) -> list[np.ndarray]:
        """Token log-probabilities of chosen and rejected ``(n, T)``, NaN behind the end."""
        return [_padded([each.logps.astype(float) for each in side], np.nan) for side in self]

    @property
    def embeddings(self) -> np.ndarray:
        """Of chosen and rejected, ``(n, 2, 2d)``."""
        return np.stack([[each.embedding for each in side] for side in self], axis=1)

    def ches(self, *, normalised: bool = False) -> np.ndarray:
        """Return the centred hidden embedding similarity of every pair, ``(n,)``."""
        # The state before a token predicts it, so that the last one predicts none.
        sides = [[each.states[:-1].astype(float) for each in side] for side in self]
        states = [_padded(side, 0.0) for side in sides]
        masks = [
            _padded([np.ones(len(each), dtype=bool) for each in side], False) for side in sides
        ]
        return ches_score(*states, *masks, normalised=normalised)

    def reference(self) -> ReferenceLogps:
        """Return the log-probabilities as what a training on these pairs is held against."""
        answers = [each for pair in zip(*self, strict=True) for each in pair]
        return ReferenceLogps(
            np.concatenate([each.logps for each in answers]),
            np.cumsum([0, *(len(each.logps) for each in answers)]),
            rows_hash([each.tokens for each in answers]),
        )


def read(policy: CausalLM, pairs: TextComparisons, *, batch_size: int = 8) -> Reading:
    """Return what a model makes of pairs, so many completions at once."""
    rows = policy.encode([*pairs.prompt] * 2, [*pairs.chosen, *pairs.rejected])
    lengths = [sum(map(len, row)) for row in rows]
    model = policy.log_prob_model
    answers: dict[int, Answer] = {}
    with evaluating(model):
        # By their own lengths, those of chosen and rejected mixed: little of a batch is padding.
        for places in batches_by_length(lengths, batch_size):
            batch = collate([rows[i] for i in places], pad_id=policy.pad_id, device=policy.device)
            hidden, head = model.states(batch, adapters=policy.adapters)
            logps = token_log_probs(
                hidden,
                head.weight,
                batch.input_ids,
                batch.completion_mask,
                head_bias=head.bias,
                softcap=head.softcap,
            )
            for i, logp, states in zip(
                places, logps.cpu().numpy(), hidden.cpu().numpy(), strict=True
            ):
                start, end = len(rows[i].prompt_ids), lengths[i]
                answers[i] = Answer(rows[i], logp[start:end], states[start - 1 : end].copy())
    every = [answers[i] for i in range(len(rows))]
    return Reading(every[: len(pairs)], every[len(pairs) :])


def _padded(rows: Sequence[np.ndarray], fill: float | bool) -> np.ndarray:
    """Return arrays of different lengths as one, filled behind their ends."""
    longest = max(map(len, rows))
    table = np.full((len(rows), longest, *rows[0].shape[1:]), fill, dtype=rows[0].dtype)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
