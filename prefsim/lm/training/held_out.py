"""The evaluations of a training: what they measure, which was the best, and whether to go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.containers import (
    ClassLogits,
    PairLogps,
    PairRewards,
    TokenPairLogps,
    UnpairedLogps,
)
from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.log_prob_model import LogProbModel
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.training.batches import Split
from prefsim.lm.training.evaluation import Evaluation
from prefsim.lm.training.loss_evaluator import LossEvaluator
from prefsim.lm.training.reference import Reference, StoredReference
from prefsim.lm.training.token_rows import TokenRows
from prefsim.losses.pairwise import log_ratios
from prefsim.losses.tokenwise import masked_sum

__all__ = ["HeldOut", "check_best_by", "measures", "reference_on"]

# A mean by weights: the values, and the weight of each.
Measure = tuple[Tensor, Tensor]


def measures(container: Any, weight: Tensor, *, with_reference: bool) -> dict[str, Measure]:
    """Return what is measured of examples besides their loss, as :class:`Evaluation` says."""
    if isinstance(container, TokenPairLogps):
        container = _of_sequences(container)
    if isinstance(container, PairLogps):
        return _of_pairs(container, weight, with_reference=with_reference)
    if isinstance(container, UnpairedLogps):
        return _of_judged(container, weight, with_reference=with_reference)
    if isinstance(container, PairRewards):
        margin = container.chosen - container.rejected
        return {
            "margin": (margin, weight),
            "reward_accuracy": ((margin > 0).to(weight.dtype), weight),
        }
    if isinstance(container, ClassLogits):
        is_right = container.logits.argmax(dim=-1) == container.label
        return {"accuracy": (is_right.to(weight.dtype), weight)}
    return {}


def _of_sequences(tokens: TokenPairLogps[Tensor]) -> PairLogps[Tensor]:
    return PairLogps(
        chosen=masked_sum(tokens.chosen, tokens.chosen_mask),
        rejected=masked_sum(tokens.rejected, tokens.rejected_mask),
        ref_chosen=masked_sum(tokens.ref_chosen, tokens.chosen_mask),
        ref_rejected=masked_sum(tokens.ref_rejected, tokens.rejected_mask),
    )


def _of_pairs(
    pairs: PairLogps[Tensor], weight: Tensor, *, with_reference: bool
) -> dict[str, Measure]:
    values = {
        "chosen_logp": pairs.chosen,
        "rejected_logp": pairs.rejected,
        "ranking_accuracy": pairs.chosen > pairs.rejected,
    }
    if with_reference:
        chosen, rejected = log_ratios(pairs)
        values |= {
            "chosen_log_ratio": chosen,
            "rejected_log_ratio": rejected,
            "margin": chosen - rejected,
            "reward_accuracy": chosen > rejected,
        }
    return {name: (value.to(weight.dtype), weight) for name, value in values.items()}


def _of_judged(
    judged: UnpairedLogps[Tensor], weight: Tensor, *, with_reference: bool
) -> dict[str, Measure]:
    found = {}
    desirable: Tensor = torch.as_tensor(judged.desirable)
    for name, counts in (("desirable", desirable), ("undesirable", ~desirable)):
        own = weight * counts
        found[f"{name}_logp"] = (judged.logp, own)
        if with_reference:
            found[f"{name}_log_ratio"] = (judged.logp - judged.ref_logp, own)
    return found


def check_best_by(evaluation: Evaluation, kind: type, *, with_reference: bool) -> None:
    """Raise unless examples of ``kind`` have the measure that the best evaluation is chosen by."""
    if evaluation.best_by == "loss":
        return
    example: Any = kind.example()  # type: ignore[attr-defined]
    tensors = example._replace(
        **{
            name: torch.as_tensor(value)
            for name, value in example._asdict().items()
            if value is not None
        }
    )
    known = measures(tensors, torch.ones(()), with_reference=with_reference)
    if evaluation.best_by not in known:
        raise ValueError(
            f"best_by must be 'loss', which every training has, got {evaluation.best_by!r}, which"
            f" is not measured of {kind.__name__}{'' if with_reference else ' without a reference'}"
        )


def reference_on(evaluation: Evaluation, of_training: Reference) -> Reference:
    """Return the reference of the rows that are evaluated: training's own, if it is a model."""
    if not isinstance(of_training, StoredReference):
        if evaluation.reference is not None:
            raise ValueError(
                "the evaluation has log-probabilities for a reference, and training has"
                f" {of_training.description}: leave them out, one reference serves both"
            )
        return of_training
    if evaluation.reference is None:
        raise ValueError(
            "training's reference is log-probabilities of its own rows; give the evaluation those"
            " of its rows (prefsim.lm.references_of)"
        )
    return StoredReference(evaluation.reference)


class HeldOut:
    """Evaluates a policy in training, and remembers how good it was.

    Parameters
    ----------
    evaluation
        What was asked for.
    rows
        Its data as tokens.
    training
        What evaluates the loss on the data of training.
    split
        How its rows are split.
    batch_size
        Examples at a time where no tokens are counted; a loss that couples its batch sees so many
        at least, where there are.
    accelerator
        Whose processes share the rows.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        rows: TokenRows,
        training: LossEvaluator,
        *,
        split: Split,
        batch_size: int,
        accelerator: Any,
    ) -> None:
        self.evaluation, self.training, self.accelerator = evaluation, training, accelerator
        data: TextData = evaluation.data
        self.evaluator = replace(
            training,
            data=data,
            rows=rows,
            reference=reference_on(evaluation, training.reference),
        )
        self.batches = split.of_evaluation(batch_size)
        self.values: list[tuple[int, float]] = []

    def is_due(self, step: int, total: int) -> bool:
        """Return whether a policy that has done so many of all steps is to be evaluated."""
        return step % self.evaluation.every == 0 or step == total

    def restore(self, values: list[tuple[int, float]], total: int) -> None:
        """Take up the evaluations of a training that now goes on to ``total`` steps.

        One that was made because the training ended there is none of the longer one's, but where
        its model is kept as the best.
        """
        self.values = values
        kept = self.best_step if self.evaluation.keep_best else None
        self.values = [each for each in values if self.is_due(each[0], total) or each[0] == kept]

    def measure(self, log_prob_model: LogProbModel | ResponseScorer, step: int) -> dict[str, float]:
        """Return the measures by name, of all processes together, and remember how good it is."""
        # A running loss is measured with the state that it has by now.
        self.evaluator.loss = self.training.loss
        log_prob_model.eval()
        with torch.no_grad():
            found = self._means(log_prob_model)
        log_prob_model.train()
        if not np.isfinite(found["eval_loss"]):
            raise ValueError(
                f"the loss on the evaluation data must be finite, got {found['eval_loss']} after"
                f" {step} steps"
            )
        self.values.append((step, found[f"eval_{self.evaluation.best_by}"]))
        return found

    @property
    def best_step(self) -> int | None:
        """After how many steps the policy was best, the first time; None before any evaluation."""
        if not self.values:
            return None
        choose: Callable[..., Any] = min if self.evaluation.best_by == "loss" else max
        step, _ = choose(self.values, key=lambda evaluated: evaluated[1])
        return int(step)

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        patience, steps = self.evaluation.patience, [step for step, _ in self.values]
        if patience is None or self.best_step is None:
            return False
        return len(steps) - 1 - steps.index(self.best_step) >= patience

    def _means(self, log_prob_model: LogProbModel | ResponseScorer) -> dict[str, float]:
        totals: dict[str, Tensor] = {}
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        for first in range(0, len(self.batches), processes):
            # A forward of a sharded model needs all processes: who has no batch left counts one
            # with weight zero.
            is_own = first + own < len(self.batches)
            rows = self.batches[first + own if is_own else 0]
            seen = self.evaluator.examples(log_prob_model, log_prob_model, rows)
            with_reference = self.evaluator.reference.is_given
            found = {"loss": (self.evaluator.loss(seen.container), seen.weight)} | measures(
                seen.container, seen.weight, with_reference=with_reference
            )
            for name, (value, weight) in found.items():
                counted = weight if is_own else torch.zeros_like(weight)
                sums = torch.stack([(counted * value).sum(), counted.sum()])
                totals[name] = totals.get(name, torch.zeros_like(sums)) + sums
        means = {}
        for name, sums in totals.items():
            total, weight = self.accelerator.reduce(sums, reduction="sum").tolist()
            # Of what no row is there is no mean.
            if weight > 0:
                means[f"eval_{name}"] = total / weight
        return means
