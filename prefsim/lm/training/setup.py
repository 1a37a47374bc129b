"""A training before it runs: what was asked for, checked before anything is loaded or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefsim.lm.data.text_data import TextData, TokenLogps
from prefsim.lm.model.compiled import check_compiles
from prefsim.lm.model.limits import check_positions
from prefsim.lm.model.packing import check_packing, in_one_row
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference_logps import ReferenceLogps
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.model.router import check_router
from prefsim.lm.training.batches import BatchPlan, Split
from prefsim.lm.training.checkpoint import Checkpoint, latest
from prefsim.lm.training.constant_batches import check_batches
from prefsim.lm.training.diagnostic_probe import check_diagnostics
from prefsim.lm.training.fingerprint import check_fingerprint, fingerprint_of
from prefsim.lm.training.held_out import check_best_by, reference_on
from prefsim.lm.training.loss_evaluator import couples, needs_of
from prefsim.lm.training.options import BF16_WEIGHTS, TrainingOptions
from prefsim.lm.training.reference import ModelReference, NoReference, Reference, as_reference
from prefsim.lm.training.scoring import check_kind, check_scorer
from prefsim.lm.training.stored_model import Trainable
from prefsim.lm.training.token_rows import TokenRows, token_rows
from prefsim.lm.training.trackers import check_trackers
from prefsim.losses.registry import container_of
from prefsim.losses.running import RunningLoss
from prefsim.solvers.fit import Loss

__all__ = ["HELD_OUT", "TrainingSetup"]

# What messages call the data of the evaluation.
HELD_OUT = "the evaluation's data"


class TrainingSetup:
    """A training that was asked for, checked; :func:`prefsim.lm.training.engine.run` does it.

    Attributes
    ----------
    policy, loss, data, options
        As given.
    reference
        What was given as one, as a :class:`~prefsim.lm.training.reference.Reference`.
    rows
        The data as tokens.
    held_out_rows
        The data of the evaluation as tokens, or None.
    needs
        What the loss needs besides log-probabilities.
    couples
        Whether the loss couples the examples of its batch, by its value or by its state.
    total
        Optimiser steps.
    plan
        The batch of each.
    precision
        ``"float32"``, ``"bf16"`` or ``"bf16_weights"``.
    folder
        Where things are written, or None.
    checkpoint
        Where to go on from, or None.
    fingerprint
        What decides where the training ends; empty where no checkpoint is read or written.

    Raises
    ------
    ValueError
        As :func:`prefsim.lm.fitting.train`.
    """

    def __init__(
        self,
        policy: Trainable,
        loss: Loss,
        data: TextData,
        reference: CausalLM | ReferenceLogps | None,
        options: TrainingOptions,
    ) -> None:
        kind = container_of(loss)
        check_kind(policy, kind, reference)
        _check_data(data, loss, "data")
        self.policy, self.loss, self.data, self.options = policy, loss, data, options
        # Measured by evaluating the loss, and so once.
        is_coupled = couples(loss)
        if is_coupled:
            _check_labels_of_a_batch(data, "data")
        # What a state sees of a micro-batch follows from which rows are in it, as for a loss that
        # couples them.
        self.couples = is_coupled or isinstance(loss, RunningLoss)
        self.rows = token_rows(policy, data, kind, options.truncation, cache=options.token_cache)
        check_positions(policy.plain, self.rows.lengths.tolist(), "example")
        self.total = options.total_steps(len(data))
        self.plan = BatchPlan(self.rows.lengths, options.batch_size, options.order, options.seed)
        if is_coupled and isinstance(policy, CausalLM):
            check_batches(
                loss,
                kind,
                data,
                self.rows.per_example,
                self.plan,
                steps=self.total,
                accumulation=options.gradient_accumulation,
            )
        self.split_of(self.rows).check("the data")
        self.needs = needs_of(loss)
        self.reference: Reference = NoReference()
        if isinstance(policy, CausalLM):
            self.reference = as_reference(reference, policy, in_place=options.in_place)
            self.reference.check_rows(self.rows.tokens, policy)
            check_router(policy.plain)
        else:
            check_scorer(policy, data, self.rows, options)
        _check_columns(self, data, self.rows.per_example)
        if self.needs.kl and not self.reference.is_model:
            raise ValueError(
                "the loss needs the KL divergence at every token, and so the reference model"
                f" itself; got {self.reference.description}"
            )
        if self.needs.weights and isinstance(policy, CausalLM):
            _check_masks(policy, self.reference)
        if options.penalty is not None and not self.reference.is_model:
            raise ValueError(
                "the online penalty is on fresh completions, and needs the reference model itself;"
                f" got {self.reference.description}"
            )
        if options.reference_update is not None:
            self.reference.check_follows(policy)
        self.held_out_rows = self._held_out(kind, is_coupled=is_coupled)
        self.precision = self._precision()
        if options.packing:
            _check_packing(policy, self.reference)
        if options.compile:
            check_compiles(policy.plain)
        check_trackers(options.trackers, has_folder=options.out is not None)
        check_diagnostics(options.measured, data, self.reference, loss)
        self.folder = None if options.out is None else Path(options.out)
        self.checkpoint = None if self.folder is None else latest(self.folder / "checkpoints")
        # Now, while the parameters are those that training starts from.
        keeps = self.folder is not None and options.save_every is not None
        self.fingerprint = self._fingerprint() if keeps or self.checkpoint is not None else {}
        if self.checkpoint is not None:
            self._check_resumable(self.checkpoint)

    def check_still_newest(self) -> None:
        """Raise if a checkpoint was written into the folder since this training was set up."""
        if self.folder is None:
            return
        now = latest(self.folder / "checkpoints")
        if (now and now.folder) != (self.checkpoint and self.checkpoint.folder):
            raise ValueError(
                f"folder {str(self.folder)!r} was written to by another training meanwhile; start"
                " this one again"
            )

    def split_of(self, rows: TokenRows) -> Split:
        """Return how rows are split into micro-batches."""
        return Split(
            lengths=rows.lengths,
            per_example=rows.per_example,
            accumulation=self.options.gradient_accumulation,
            tokens=self.options.micro_batch_tokens,
            couples=self.couples,
            packed=rows.sizes if self.options.packing else None,
        )

    def _held_out(self, kind: type, *, is_coupled: bool) -> TokenRows | None:
        """Return the data of the evaluation as tokens, checked as those of training are."""
        evaluation = self.options.evaluation
        if evaluation is None:
            return None
        data = evaluation.data
        _check_data(data, self.loss, HELD_OUT)
        if is_coupled:
            _check_labels_of_a_batch(data, HELD_OUT)
        try:
            options = self.options
            rows = token_rows(
                self.policy, data, kind, options.truncation, cache=options.token_cache
            )
            check_positions(self.policy.plain, rows.lengths.tolist(), "example")
            if isinstance(self.policy, CausalLM):
                reference_on(evaluation, self.reference).check_rows(rows.tokens, self.policy)
            else:
                check_scorer(self.policy, data, rows, self.options)
        except ValueError as error:
            raise ValueError(f"{HELD_OUT}: {error}") from error
        self.split_of(rows).check(HELD_OUT)
        _check_columns(self, data, rows.per_example)
        check_best_by(evaluation, kind, with_reference=self.reference.is_given)
        return rows

    def _precision(self) -> str:
        parameters = list(self.policy.module.parameters())
        dtypes = {parameter.dtype for parameter in parameters if parameter.is_floating_point()}
        narrow = dtypes & {torch.bfloat16, torch.float16}
        precision = self.options.precision or ("bf16" if narrow else "float32")
        if precision == "float32" and narrow:
            name = str(narrow.pop()).removeprefix("torch.")
            raise ValueError(
                f"precision 'float32' needs parameters of float32 or float64, got {name}; load the"
                " model with dtype='float32'"
            )
        if precision == "bf16" and torch.float64 in dtypes:
            raise ValueError("precision 'bf16' needs parameters of float32 or less, got float64")
        if precision == BF16_WEIGHTS and (wider := dtypes - {torch.bfloat16}):
            names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in wider))
            raise ValueError(
                f"precision {BF16_WEIGHTS!r} needs parameters of bfloat16, got some of {names};"
                " load the model with dtype='bfloat16' (adapters are in float32, and small)"
            )
        if not any(parameter.requires_grad for parameter in parameters):
            raise ValueError(
                "the policy must have a parameter that requires a gradient, got none (a frozen copy"
                " is for reference)"
            )
        return precision

    def _fingerprint(self) -> dict[str, Any]:
        return fingerprint_of(
            self.policy,
            self.loss,
            self.data,
            self.rows,
            self.reference,
            self.options,
            held_out_rows=self.held_out_rows,
            precision=self.precision,
            steps=self.total,
        )

    def _check_resumable(self, checkpoint: Checkpoint) -> None:
        if not self.options.resume:
            raise ValueError(
                f"folder {str(self.folder)!r} holds a training of {checkpoint.step} steps; give"
                " resume=True or another folder"
            )
        checkpoint.check()
        check_fingerprint(checkpoint.state["fingerprint"], self.fingerprint)


def _check_data(data: Any, loss: Loss, name: str) -> None:
    """Raise unless it is text that feeds a loss, and there is some."""
    if not isinstance(data, TextData):
        raise ValueError(
            f"{name} must be TextComparisons or the like of prefsim.lm, which a language model is"
            f" trained on, got {type(data).__name__}"
        )
    data.check_loss(loss)
    if len(data) == 0:
        raise ValueError(f"{name} must hold at least one row, got 0")


def _check_columns(setup: TrainingSetup, data: TextData, per_example: int) -> None:
    """Let a loss look at the columns of all rows, before any log-probability is computed.

    It says what it misses, and which values are out of its range.
    """
    loss, kind, needs = setup.loss, container_of(setup.loss), setup.needs
    if isinstance(setup.policy, ResponseScorer):
        scores = torch.zeros(len(data), per_example, setup.policy.dim, dtype=torch.float64)
        loss(data.scored(kind, scores)[0])
        return
    stand_in = -torch.ones(len(data), per_example, 1, dtype=torch.float64)
    logps = TokenLogps(
        logp=stand_in,
        ref_logp=stand_in,
        mask=stand_in < 0,
        kl=-stand_in if needs.kl else None,
        collision=stand_in if needs.collision else None,
        reward_weight=-stand_in if needs.weights else None,
        kl_weight=-stand_in if needs.weights else None,
    )
    loss(data.container(kind, logps)[0])


def _check_packing(policy: Trainable, reference: Reference) -> None:
    """Raise unless policy and reference can be given packed rows."""
    if not isinstance(policy, CausalLM):
        raise ValueError(
            "packing is for losses of log-probabilities; a model of scores reads one state of each"
            " row"
        )
    one_row = in_one_row(policy.plain)
    for model in (policy.module, *reference.modules):
        check_packing(model, one_row=one_row)


def _check_masks(policy: CausalLM, reference: Reference) -> None:
    """Raise unless a policy has masks that fit its reference, which is a model."""
    if policy.module.masks is None:
        raise ValueError(
            "the loss needs weights of tokens, and so a policy with masks:"
            " policy.with_masks('common'), or --token-masks common"
        )
    if not reference.is_model:
        raise ValueError(
            "masks read the states of the reference, and so need the model itself; got"
            f" {reference.description}"
        )
    read = reference.policy if isinstance(reference, ModelReference) else policy
    policy.module.masks.check_fits(read.plain.config)


def _check_labels_of_a_batch(data: TextData, name: str) -> None:
    """Raise unless all labels of some data are hard and count alike."""
    soft = getattr(data, "prob", getattr(data, "label", np.ones(1)))
    if np.ptp(data.weight) > 0 or not np.isin(soft, (0.0, 1.0)).all():
        raise ValueError(
            f"the loss couples the examples of its batch and sees no weights, so that {name} must"
            " have hard labels of equal weight; got unequal weights or soft labels"
        )
