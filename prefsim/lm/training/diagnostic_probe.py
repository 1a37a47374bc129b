"""Theory on the run: the quantities of :mod:`prefsim.analysis` on some of a training's rows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.analysis.dispersion import dispersion
from prefsim.analysis.displacement import (
    displacement,
    entanglement,
    kl_from_tokens,
    ranking_accuracy,
    reward_accuracy,
)
from prefsim.analysis.ranking import idealised_ranking_accuracy, ranking_loss
from prefsim.analysis.sampled_coverage import sampled_coverage
from prefsim.containers import PairLogps
from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.text_data import TextData, TokenLogps
from prefsim.lm.model.compiled import as_written
from prefsim.lm.model.log_prob_model import LogProbModel
from prefsim.lm.model.log_probs import sum_log_probs, token_statistics
from prefsim.lm.model.pair_measures import gradient_products, neighbours_ches
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.text_model import TextModel
from prefsim.lm.model.tokens import TokenBatch, Tokens, collate
from prefsim.lm.training.draws import drawn_rows
from prefsim.lm.training.loss_evaluator import LossEvaluator
from prefsim.lm.training.options import Diagnostics
from prefsim.lm.training.reference import Reference
from prefsim.solvers.fit import Loss

__all__ = ["DiagnosticProbe", "check_diagnostics"]

# Pairs and drawn completions of one forward; what is measured does not depend on them.
PAIRS_AT_ONCE, COMPLETIONS_AT_ONCE = 4, 8
# Of completions that the policy draws: any data have prompts for them.
OF_DRAWS = {"kl", "coverage", "dispersion"}
NEED_THE_MODEL = {"kl", "coverage"}


def check_diagnostics(
    diagnostics: Diagnostics, data: TextData, reference: Reference, loss: Loss
) -> None:
    """Raise unless the data, the reference and the loss have what is measured."""
    for name in diagnostics.names:
        if name not in OF_DRAWS and not isinstance(data, TextComparisons):
            raise ValueError(
                f"diagnostics {name!r} are of TextComparisons, got {type(data).__name__}"
            )
        if name in NEED_THE_MODEL and not reference.is_model:
            raise ValueError(
                f"diagnostics {name!r} need the reference model itself, got {reference.description}"
            )
        if name == "idealised":
            penalty_of(loss)
            if not reference.is_given:
                raise ValueError("diagnostics 'idealised' need a reference, got none")


def penalty_of(loss: Loss) -> float:
    """Return the strength β of the KL penalty of a loss, its option ``beta``, or raise."""
    option = inspect.signature(loss).parameters.get("beta")
    beta = None if option is None else option.default
    if isinstance(beta, bool) or not isinstance(beta, int | float):
        raise ValueError(
            "diagnostics 'idealised' need a loss with a number beta, the strength of the KL penalty"
        )
    return float(beta)


class DiagnosticProbe:
    """The rows that are measured, and their log-probabilities at the start of training."""

    def __init__(self, diagnostics: Diagnostics, evaluator: LossEvaluator, seed: int) -> None:
        n = len(evaluator.data)
        self.diagnostics, self.evaluator, self.seed = diagnostics, evaluator, seed
        spread = np.linspace(0, n - 1, min(diagnostics.examples, n))
        self.rows = np.unique(spread.round().astype(np.int64))
        self._start: tuple[Tensor, Tensor] | None = None
        self._unseen: tuple[list[Tokens], Tensor] | None = None

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed training needs."""
        start, unseen = self._start, self._unseen
        return {
            "start": None if start is None else [part.tolist() for part in start],
            "unseen": None if unseen is None else [unseen[0], unseen[1].tolist()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put the state back."""
        if state["start"] is not None:
            chosen, rejected = (_numbers(part) for part in state["start"])
            self._start = chosen, rejected
        if state["unseen"] is not None:
            rows, log_probs = state["unseen"]
            self._unseen = [Tokens(*row) for row in rows], _numbers(log_probs)

    def measure(
        self, log_prob_model: LogProbModel, policy: TextModel, step: int
    ) -> dict[str, float]:
        """Return all measurements by name.

        Nothing of the model, its gradients or the random state is changed.
        """
        names, measured = self.diagnostics.names, dict[str, float]()
        if {"displacement", "accuracy", "idealised"} & set(names):
            measured |= self._log_probabilities(log_prob_model)
        if "ches" in names:
            measured |= self._ches(log_prob_model)
        if "entanglement" in names:
            measured |= self._entanglement(log_prob_model)
        if not OF_DRAWS & set(names):
            return measured
        assert isinstance(policy, CausalLM)
        if NEED_THE_MODEL & set(names):
            measured |= self._of_draws(log_prob_model, policy, step)
        if "dispersion" in names:
            measured |= self._dispersion(log_prob_model, policy, step)
        return measured

    def _pairs(self, log_prob_model: LogProbModel) -> PairLogps:
        """Return log-probabilities and lengths of the pairs, ``(n,)`` float64 on the CPU."""
        sums, ref_sums, lengths = [], [], []
        with torch.no_grad():
            for rows in np.array_split(self.rows, -(-len(self.rows) // PAIRS_AT_ONCE)):
                token_logps = self.evaluator.token_logps(log_prob_model, log_prob_model, rows)
                sums.append(token_logps.sums.double().cpu())
                ref_sums.append(token_logps.ref_sums.double().cpu())
                lengths.append(token_logps.lengths.double().cpu())
        policy, reference, tokens = torch.cat(sums), torch.cat(ref_sums), torch.cat(lengths)
        return PairLogps(
            chosen=policy[:, 0],
            rejected=policy[:, 1],
            ref_chosen=reference[:, 0],
            ref_rejected=reference[:, 1],
            chosen_length=tokens[:, 0],
            rejected_length=tokens[:, 1],
        )

    def _log_probabilities(self, log_prob_model: LogProbModel) -> dict[str, float]:
        pairs = self._pairs(log_prob_model)
        if self._start is None:
            self._start = pairs.chosen, pairs.rejected
        measured = {
            "chosen_logp": float(pairs.chosen.mean()),
            "rejected_logp": float(pairs.rejected.mean()),
        }
        if "displacement" in self.diagnostics.names:
            drift = displacement(pairs.chosen, pairs.rejected, *self._start)
            measured |= {
                "chosen_drift": float(drift.chosen),
                "rejected_drift": float(drift.rejected),
                "displaced": float(drift.displaced),
            }
        if "accuracy" in self.diagnostics.names:
            assert pairs.chosen_length is not None
            assert pairs.rejected_length is not None
            chosen = pairs.chosen / pairs.chosen_length
            rejected = pairs.rejected / pairs.rejected_length
            measured |= {
                "ranking_accuracy": float(ranking_accuracy(pairs.chosen, pairs.rejected)),
                "ranking_accuracy_averaged": float(ranking_accuracy(chosen, rejected)),
            }
            if self.evaluator.reference.is_given:
                measured["reward_accuracy"] = float(
                    reward_accuracy(
                        pairs.chosen, pairs.rejected, pairs.ref_chosen, pairs.ref_rejected
                    )
                )
        if "idealised" in self.diagnostics.names:
            measured |= self._idealised(pairs)
        return measured

    def _idealised(self, pairs: PairLogps) -> dict[str, float]:
        """Return what the optimum would rank as the labels do, each pair as its majority votes."""
        data = self.evaluator.data
        assert isinstance(data, TextComparisons)
        votes = torch.as_tensor(data.prob[self.rows], dtype=torch.float64)
        won = votes >= 0.5
        exchanged = pairs.swapped()
        chosen, rejected, ref_chosen, ref_rejected = (
            torch.where(won, getattr(pairs, name), getattr(exchanged, name))
            for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")
        )
        share = torch.maximum(votes, 1 - votes)
        beta = penalty_of(self.evaluator.loss)
        best = idealised_ranking_accuracy(ref_chosen, ref_rejected, share, beta=beta)
        hardness = ranking_loss(ref_chosen, ref_rejected, beta=beta)
        return {
            "idealised_ranking_accuracy": float(best),
            "alignment_gap": float(best - ranking_accuracy(chosen, rejected)),
            "ranking_loss": float(hardness.mean()),
        }

    def _ches(self, log_prob_model: LogProbModel) -> dict[str, float]:
        plain, normalised = [], []
        for row in self.rows:
            batch = self.evaluator.padded([row], log_prob_model.device)
            with torch.no_grad(), self.evaluator.autocast():
                hidden, _ = log_prob_model.states(batch)
            args = hidden, batch.completion_mask
            plain.append(float(neighbours_ches(*args, normalised=False)))
            normalised.append(float(neighbours_ches(*args, normalised=True)))
        return {"ches": float(np.mean(plain)), "ches_normalised": float(np.mean(normalised))}

    def _entanglement(self, log_prob_model: LogProbModel) -> dict[str, float]:
        parameters = [
            parameter for parameter in log_prob_model.parameters() if parameter.requires_grad
        ]
        table = []
        for row in self.rows[: self.diagnostics.gradient_examples]:
            with torch.enable_grad(), as_written(log_prob_model):
                token_logps = self.evaluator.token_logps(log_prob_model, log_prob_model, [row])
                products = gradient_products(token_logps.sums[0], parameters)
            table.append([*products, *self._slopes(row, token_logps)])
        chosen_squared, rejected_squared, inner, falls, rises = np.asarray(table).T
        measured = entanglement(
            chosen_squared, rejected_squared, inner, chosen_slope=falls, rejected_slope=rises
        )
        return {
            "gradient_inner": float(measured.inner.mean()),
            "gradient_cosine": float(measured.cosine.mean()),
            "gradient_ratio": float(measured.ratio.mean()),
            "gradient_condition": float(measured.wanted.mean()),
        }

    def _slopes(self, row: int, token_logps: TokenLogps) -> tuple[float, float]:
        """Return how the loss falls with the chosen and rises with the rejected log-probability.

        One each where it is not of sequences.
        """
        if self.evaluator.kind is not PairLogps:
            return 1.0, 1.0
        detached = token_logps._replace(logp=token_logps.logp.detach())
        pair, weight = self.evaluator.data.take([row]).container(PairLogps, detached)
        chosen, rejected = pair.chosen.requires_grad_(), pair.rejected.requires_grad_()
        with torch.enable_grad():
            values = self.evaluator.loss(pair._replace(chosen=chosen, rejected=rejected))
            slopes = torch.autograd.grad(
                (weight * values).sum(), (chosen, rejected), allow_unused=True
            )
        up, down = (torch.zeros(()) if slope is None else slope for slope in slopes)
        if len(weight) == 1:
            return -float(up.sum()), float(down.sum())
        # A soft label enters both ways round: the second row's chosen is the first one's rejected.
        return -float(up[0] + down[1]), float(down[0] + up[1])

    def _of_draws(
        self, log_prob_model: LogProbModel, policy: CausalLM, step: int
    ) -> dict[str, float]:
        rows = self._drawn(policy, step)
        divergences, ratios = [], []
        for batch in self._batches(rows, policy, log_prob_model):
            with torch.no_grad(), self.evaluator.autocast():
                hidden, head = log_prob_model.states(batch)
                ref_hidden, ref_head = self.evaluator.reference.states(log_prob_model, batch)
                # The statistics give KL(second‖first).
                statistics = token_statistics(
                    ref_hidden,
                    ref_head,
                    batch.input_ids,
                    batch.completion_mask,
                    ref_hidden=hidden,
                    ref_head=head,
                )
            assert statistics.kl is not None
            assert statistics.ref_logp is not None
            divergences.append(kl_from_tokens(statistics.kl.double(), batch.completion_mask))
            ratios.append(sum_log_probs(statistics.ref_logp.double() - statistics.logp.double()))
        measured = {}
        if "kl" in self.diagnostics.names:
            measured["kl"] = float(torch.cat(divergences).mean())
        if "coverage" in self.diagnostics.names:
            coverage = sampled_coverage(torch.cat(ratios))
            measured |= {
                "log_largest_ratio": float(coverage.log_largest),
                "log_mean_ratio": float(coverage.log_mean),
            }
        return measured

    def _dispersion(
        self, log_prob_model: LogProbModel, policy: CausalLM, step: int
    ) -> dict[str, float]:
        """Return how the completions moved that the policy drew at the start."""
        rows = self._drawn(policy, step) if self._unseen is None else self._unseen[0]
        with torch.no_grad(), self.evaluator.autocast():
            log_probs = torch.cat(
                [
                    sum_log_probs(log_prob_model(batch).logp).cpu()
                    for batch in self._batches(rows, policy, log_prob_model)
                ]
            )
        if self._unseen is None:
            self._unseen = rows, log_probs
        found = dispersion(log_probs, self._unseen[1])
        return {
            "unseen_drift": float(found.drift),
            "unseen_spread": float(found.spread),
            "unseen_rises": float(found.rises),
        }

    def _drawn(self, policy: CausalLM, step: int) -> list[Tokens]:
        return drawn_rows(
            policy,
            self.evaluator.rows,
            self.rows,
            samples=self.diagnostics.samples,
            max_new_tokens=self.diagnostics.max_new_tokens,
            seed=[self.seed, step],
        )

    def _batches(
        self, rows: list[Tokens], policy: CausalLM, log_prob_model: LogProbModel
    ) -> Iterator[TokenBatch]:
        for start in range(0, len(rows), COMPLETIONS_AT_ONCE):
            yield collate(
                rows[start : start + COMPLETIONS_AT_ONCE],
                pad_id=policy.pad_id,
                device=log_prob_model.device,
            )


def _numbers(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
