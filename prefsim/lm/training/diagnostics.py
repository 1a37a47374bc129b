"""Theory on the run.

While a language model is trained, the quantities of :mod:`prefsim.analysis.displacement` on some of
its pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.analysis.displacement import (
    ches_score,
    displacement,
    entanglement,
    kl_from_tokens,
    ranking_accuracy,
    reward_accuracy,
)
from prefsim.checks import check_choice, check_integer
from prefsim.containers import PairLogps
from prefsim.lm.model.logprobs import token_statistics
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.scorer import Scorer
from prefsim.lm.model.tokens import Tokens, collate
from prefsim.lm.training.data import TextComparisons, TextData
from prefsim.lm.training.objective import Scores

__all__ = ["DIAGNOSTICS", "Diagnostics", "Probe"]

DIAGNOSTICS = ("displacement", "accuracy", "ches", "entanglement", "kl")


@dataclass(frozen=True)
class Diagnostics:
    """What is measured on some of the data during training.

    Attributes
    ----------
    names
        ``"displacement"``: drift of the log-probabilities of chosen and rejected since the start,
        in nats, and the share of displaced pairs; ``"accuracy"``: ranking accuracy, and
        implicit-reward accuracy where there is a reference; ``"ches"``: CHES score and its
        length-normalised form; ``"entanglement"``: inner product and cosine of the gradients of the
        two log-probabilities, and the share of pairs whose next step raises the chosen and lowers
        the rejected one; ``"kl"``: ``KL(π‖π_ref)`` by samples from the policy.
    examples
        How many of the rows, spread evenly over the data.
    gradient_examples
        Of these, how many for ``"entanglement"``: two backward passes each.
    samples, max_new_tokens
        TextFeedback drawn for each prompt for ``"kl"``, and where they are cut off.
    """

    names: tuple[str, ...] = ("displacement", "accuracy")
    examples: int = 16
    gradient_examples: int = 4
    samples: int = 1
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        for name in self.names:
            check_choice(DIAGNOSTICS, diagnostics=name)
        check_integer(
            low=1,
            examples=self.examples,
            gradient_examples=self.gradient_examples,
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
        )

    def check(self, data: TextData, reference: Any) -> None:
        """Raise unless the data and the reference have what is measured."""
        for name in self.names:
            if name != "kl" and not isinstance(data, TextComparisons):
                raise ValueError(
                    f"diagnostics {name!r} are of TextComparisons, got {type(data).__name__}"
                )
            if name == "kl" and not isinstance(reference, CausalLM):
                raise ValueError(
                    "diagnostics 'kl' need the reference model itself, got"
                    f" {type(reference).__name__}"
                )


class Probe:
    """The rows that are measured, and their log-probabilities at the start of training."""

    def __init__(self, diagnostics: Diagnostics, scores: Scores, seed: int) -> None:
        n = len(scores.data)
        self.diagnostics, self.scores, self.seed = diagnostics, scores, seed
        self.rows = np.unique(
            np.linspace(0, n - 1, min(diagnostics.examples, n)).round().astype(np.int64)
        )
        self._start: tuple[Tensor, Tensor] | None = None

    @property
    def state(self) -> list[list[float]] | None:
        """What a resumed training needs."""
        return None if self._start is None else [part.tolist() for part in self._start]

    def restore(self, state: list[list[float]] | None) -> None:
        """Put the state back."""
        if state is not None:
            chosen, rejected = (torch.tensor(part, dtype=torch.float64) for part in state)
            self._start = chosen, rejected

    def measure(self, scorer: Scorer, policy: CausalLM, step: int) -> dict[str, float]:
        """Return all measurements by name.

        Nothing of the model, its gradients or the random state is changed.
        """
        names, found = self.diagnostics.names, dict[str, float]()
        if {"displacement", "accuracy"} & set(names):
            found |= self._log_probabilities(scorer)
        if "ches" in names:
            found |= self._ches(scorer)
        if "entanglement" in names:
            found |= self._entanglement(scorer)
        if "kl" in names:
            found |= self._kl(scorer, policy, step)
        return found

    def _pairs(self, scorer: Scorer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the log-probabilities of both responses, then the reference's, each ``(n,)`` float64 on the CPU."""
        parts = []
        with torch.no_grad():
            for rows in np.array_split(self.rows, -(-len(self.rows) // 4)):
                scored = self.scores.scored(scorer, scorer, rows)
                parts.append(
                    [
                        table[:, k].sum(dim=-1).double().cpu()
                        for table in (scored.logp, scored.ref_logp)
                        for k in (0, 1)
                    ]
                )
        chosen, rejected, ref_chosen, ref_rejected = (
            torch.cat(column) for column in zip(*parts, strict=True)
        )
        return chosen, rejected, ref_chosen, ref_rejected

    def _log_probabilities(self, scorer: Scorer) -> dict[str, float]:
        chosen, rejected, ref_chosen, ref_rejected = self._pairs(scorer)
        if self._start is None:
            self._start = chosen, rejected
        found = {"chosen_logp": float(chosen.mean()), "rejected_logp": float(rejected.mean())}
        if "displacement" in self.diagnostics.names:
            drift = displacement(chosen, rejected, *self._start)
            found |= {
                "chosen_drift": float(drift.chosen),
                "rejected_drift": float(drift.rejected),
                "displaced": float(drift.displaced),
            }
        if "accuracy" in self.diagnostics.names:
            found["ranking_accuracy"] = float(ranking_accuracy(chosen, rejected))
            if self.scores.reference is not None:
                found["reward_accuracy"] = float(
                    reward_accuracy(chosen, rejected, ref_chosen, ref_rejected)
                )
        return found

    def _ches(self, scorer: Scorer) -> dict[str, float]:
        plain, normalised = [], []
        for row in self.rows:
            batch = self.scores.batch([row], scorer.device)
            with torch.no_grad(), self.scores.autocast():
                states = scorer.states(batch)[0].double()
            # The state before a token predicts it.
            predicts = torch.zeros_like(batch.completion_mask)
            predicts[:, :-1] = batch.completion_mask[:, 1:]
            args = states[0], states[1], predicts[0], predicts[1]
            plain.append(float(ches_score(*args)))
            normalised.append(float(ches_score(*args, normalised=True)))
        return {"ches": float(np.mean(plain)), "ches_normalised": float(np.mean(normalised))}

    def _entanglement(self, scorer: Scorer) -> dict[str, float]:
        parameters = [parameter for parameter in scorer.parameters() if parameter.requires_grad]
        table = []
        for row in self.rows[: self.diagnostics.gradient_examples]:
            with torch.enable_grad():
                scored = self.scores.scored(scorer, scorer, [row])
                logps = scored.logp.sum(dim=-1)[0]
                up = torch.autograd.grad(logps[0], parameters, retain_graph=True, allow_unused=True)
                down = torch.autograd.grad(
                    logps[1], parameters, retain_graph=True, allow_unused=True
                )
            products = [_dot(up, up), _dot(down, down), _dot(up, down)]
            table.append([*products, *self._slopes(row, scored)])
        columns = np.asarray(table).T
        found = entanglement(*columns[:3], chosen_slope=columns[3], rejected_slope=columns[4])
        return {
            "gradient_inner": float(found.inner.mean()),
            "gradient_cosine": float(found.cosine.mean()),
            "gradient_ratio": float(found.ratio.mean()),
            "gradient_condition": float(found.wanted.mean()),
        }

    def _slopes(self, row: int, scored: Any) -> tuple[float, float]:
        """Return how the loss falls with the chosen and rises with the rejected log-probability.

        One each where it is not of sequences.
        """
        if self.scores.kind is not PairLogps:
            return 1.0, 1.0
        detached = scored._replace(logp=scored.logp.detach())
        pair, weight = self.scores.data.take([row]).container(PairLogps, detached)
        chosen, rejected = pair.chosen.requires_grad_(), pair.rejected.requires_grad_()
        with torch.enable_grad():
            value = (
                weight * self.scores.loss(pair._replace(chosen=chosen, rejected=rejected))
            ).sum()
            slopes = torch.autograd.grad(value, (chosen, rejected), allow_unused=True)
        up, down = (torch.zeros(()) if slope is None else slope for slope in slopes)
        if len(weight) == 1:
            return -float(up.sum()), float(down.sum())
        # A soft label enters both ways round: the second row's chosen is the first one's rejected.
        return -float(up[0] + down[1]), float(down[0] + up[1])

    def _kl(self, scorer: Scorer, policy: CausalLM, step: int) -> dict[str, float]:
        examples = [
            self.scores.rows.tokens[i]
            for i in self.scores.rows.of(self.rows)[:: self.scores.rows.per_example]
        ]
        prompts = [row.prompt_ids for row in examples]
        settings = self.diagnostics
        drawn = policy.sample(
            prompts,
            settings.samples,
            np.random.default_rng([self.seed, step]),
            max_new_tokens=settings.max_new_tokens,
        )
        rows = [
            Tokens(prompt, ids) for prompt, each in zip(prompts, drawn, strict=True) for ids in each
        ]
        reference = self.scores.reference
        assert isinstance(reference, str | CausalLM)
        other, adapters = (
            (scorer, False)
            if isinstance(reference, str)
            else (reference.scorer, reference.adapters)
        )
        total = 0.0
        for start in range(0, len(rows), 8):
            batch = collate(rows[start : start + 8], pad_id=policy.pad_id, device=scorer.device)
            with torch.no_grad(), self.scores.autocast():
                hidden, head = scorer.states(batch)
                ref_hidden, ref_head = other.states(batch, adapters=adapters)
                # The statistics give KL(second‖first).
                found = token_statistics(
                    ref_hidden,
                    ref_head,
                    batch.input_ids,
                    batch.completion_mask,
                    ref_hidden=hidden,
                    ref_head=head,
                )
            assert found.kl is not None
            total += float(kl_from_tokens(found.kl.double(), batch.completion_mask).sum())
        return {"kl": total / len(rows)}


def _dot(first: Any, second: Any) -> float:
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return float(sum(torch.dot(a.double().reshape(-1), b.double().reshape(-1)) for a, b in pairs))
