"""The training loop, on accelerate.

One process or many, each with its part of every step's batch.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference import ReferenceLogps
from prefsim.lm.model.scorer import is_adapted
from prefsim.lm.training import checkpoint as disk
from prefsim.lm.training.batches import Plan, parts
from prefsim.lm.training.data import TextData
from prefsim.lm.training.diagnostics import Diagnostics, Probe
from prefsim.lm.training.metrics import Reporter
from prefsim.lm.training.objective import ADAPTERS_OFF, Scores, couples, needs_of, rows_of
from prefsim.lm.training.options import TrainingOptions, TrainResult, learning_rate_factor
from prefsim.lm.training.precision import as_precise, copy_of_trained, widen
from prefsim.losses.registry import container_of
from prefsim.solvers.fit import Loss

__all__ = ["Engine"]


class Engine:
    """One training: everything is checked when it is made, and done by :meth:`run`."""

    def __init__(
        self,
        policy: CausalLM,
        loss: Loss,
        data: TextData,
        reference: CausalLM | ReferenceLogps | None,
        options: TrainingOptions,
    ) -> None:
        kind = container_of(loss)
        if not isinstance(data, TextData):
            raise ValueError(
                "a language model is trained on TextComparisons and the like of prefsim.lm, got"
                f" {type(data).__name__}"
            )
        data.check(kind)
        if len(data) == 0:
            raise ValueError("data must hold at least one row, got 0")
        self.coupled = couples(loss)
        soft = getattr(data, "prob", getattr(data, "label", np.ones(1)))
        if self.coupled and (np.ptp(data.weight) > 0 or not np.isin(soft, (0.0, 1.0)).all()):
            raise ValueError(
                "the loss couples the examples of its batch and sees no weights, so that it needs"
                " hard labels of equal weight; got unequal weights or soft labels"
            )
        self.given, self.loss, self.data, self.options = policy, loss, data, options
        self.rows = rows_of(policy, data, kind)
        self.total = options.total_steps(len(data))
        self.plan = Plan(self.rows.lengths, options.batch_size, options.order, options.seed)
        self.mean_weight = float(data.weight.mean())
        self.needs = needs_of(loss)
        self.reference = self._checked(reference)
        self.precision = self._precision()
        assert isinstance(options.diagnostics, Diagnostics)
        options.diagnostics.check(data, reference)
        self.folder = None if options.out is None else Path(options.out)
        self.found = None if self.folder is None else disk.latest(self.folder / "checkpoints")
        if self.found is not None:
            self._check_resumable(self.found)

    # --- what is checked before anything is loaded or written
    # ------------------------------------------------------------------------

    def _checked(self, reference: Any) -> Any:
        """Return the reference in the form that :class:`Scores` takes, or raise."""
        if reference is None or isinstance(reference, ReferenceLogps):
            if self.needs.kl:
                raise ValueError(
                    "the loss needs the KL divergence at every token, and so the reference model"
                    " itself; got "
                    + ("no reference" if reference is None else "its log-probabilities alone")
                )
            if reference is not None:
                counts = [len(row.completion_ids) for row in self.rows.tokens]
                if np.diff(reference.offsets).tolist() != counts:
                    found = (
                        f"{len(reference.offsets) - 1} sequences of {int(reference.offsets[-1])}"
                        " tokens"
                    )
                    raise ValueError(
                        f"the reference's log-probabilities must be of the data's {len(counts)}"
                        f" sequences of {sum(counts)} tokens in their order"
                        f" (prefsim.lm.references_of makes them), got {found}"
                    )
            return reference
        if not isinstance(reference, CausalLM):
            raise ValueError(
                "reference must be a CausalLM, ReferenceLogps or None, got"
                f" {type(reference).__name__}"
            )
        sizes = [
            each.scorer.plain.config.get_text_config().vocab_size
            for each in (self.given, reference)
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"the reference must have the vocabulary of the policy, {sizes[0]} tokens, got"
                f" {sizes[1]}"
            )
        if (
            reference.scorer is self.given.scorer
            and is_adapted(reference.model)
            and not reference.adapters
        ):
            return ADAPTERS_OFF
        if self.options.in_place and reference.scorer is self.given.scorer:
            raise ValueError(
                "a policy that is trained in place cannot be its own reference: take"
                " policy.frozen() or references_of first"
            )
        return reference

    def _precision(self) -> str:
        dtypes = {
            parameter.dtype
            for parameter in self.given.scorer.parameters()
            if parameter.is_floating_point()
        }
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
        if not any(parameter.requires_grad for parameter in self.given.scorer.parameters()):
            raise ValueError(
                "the policy must have a parameter that requires a gradient, got none (a frozen copy"
                " is for reference)"
            )
        return precision

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a resumed training to end where it would have ended."""
        digest = hashlib.sha256()
        for row in self.rows.tokens:
            digest.update(json.dumps(row).encode())
        for name in sorted(vars(self.data)):
            value = getattr(self.data, name)
            if isinstance(value, np.ndarray):
                digest.update(name.encode() + value.tobytes())
        names = (
            "batch_size",
            "learning_rate",
            "schedule",
            "warmup",
            "weight_decay",
            "max_grad_norm",
            "order",
            "seed",
        )
        found: dict[str, Any] = {name: getattr(self.options, name) for name in names}
        optimizer = self.options.optimizer
        found |= {
            "optimizer": optimizer if isinstance(optimizer, str) else _named(optimizer),
            "precision": self.precision,
        }
        form = (
            None
            if self.reference is None
            else "logps"
            if isinstance(self.reference, ReferenceLogps)
            else "model"
        )
        return found | {
            "steps": self.total,
            "loss": _named(self.loss),
            "data": digest.hexdigest(),
            "reference": form is not None,
        }

    def _check_resumable(self, found: disk.Checkpoint) -> None:
        if not self.options.resume:
            raise ValueError(
                f"folder {str(self.folder)!r} holds a training of {found.step} steps; give"
                " resume=True or another folder"
            )
        before = found.state["fingerprint"]
        for name, value in self.fingerprint.items():
            if before.get(name) != value:
                raise ValueError(
                    f"{name} must be what it was before the interruption, {before.get(name)!r}, got"
                    f" {value!r}"
                )

    # --- the run
    # ---------------------------------------------------------------------------------------------------------------------

    def run(self) -> TrainResult:
        """Train and return the result."""
        with _accelerator(self.precision) as accelerator, _own_random_states(self.options.seed):
            return self._run(accelerator)

    def _run(self, accelerator: Any) -> TrainResult:
        policy = self.given if self.options.in_place else copy_of_trained(self.given)
        dtypes = {name: parameter.dtype for name, parameter in policy.scorer.named_parameters()}
        if self.precision == "bf16":
            widen(policy.scorer)
        if self.found is not None:
            disk.load_weights(policy, self.found.model)
        self.accelerator, self.policy = accelerator, policy
        model, self.optimizer = self._prepared(policy)
        self.scorer, self.model = policy.scorer, model
        reference = self.reference
        if isinstance(reference, CausalLM):
            reference = replace(
                reference, scorer=self._placed(as_precise(reference.scorer, policy.scorer))
            )
        self.scores = Scores(
            policy, self.data, self.rows, self.loss, self.needs, reference, accelerator.autocast
        )
        self.names = {
            parameter: name
            for name, parameter in self.scorer.named_parameters()
            if parameter.requires_grad
        }
        diagnostics = self.options.diagnostics
        assert isinstance(diagnostics, Diagnostics)
        self.probe = Probe(diagnostics, self.scores, self.options.seed)
        done, history = 0, list[tuple[float, float]]()
        if self.found is not None:
            done, history = self._restore(self.found)
        with _training(self.scorer, self.options.gradient_checkpointing):
            lines = self._loop(done, history)
        accelerator.wait_for_everyone()
        if accelerator.device.type != "cpu":
            accelerator.free_memory()  # collects garbage, which takes longer than a small training
        for name in (
            "forward",
            "_original_forward",
            "_is_accelerate_prepared",
        ):  # what accelerate put over the module's own
            vars(self.scorer).pop(name, None)
        if not accelerator.is_fsdp2:
            for name, parameter in self.scorer.named_parameters():
                parameter.data = parameter.data.to(dtypes[name])
        self._save_result()
        value, norm = history[-1]
        return TrainResult(
            policy, value, norm, len(history), np.asarray(history), tuple(lines), self.folder
        )

    def _prepared(self, policy: CausalLM) -> tuple[Any, Any]:
        """Return the scorer and its optimiser as accelerate wraps, shards and places them."""
        accelerator, options = self.accelerator, self.options
        if accelerator.distributed_type.value == "FSDP":
            if not accelerator.is_fsdp2:
                raise ValueError(
                    "FSDP of version 2 is needed: set fsdp_version: 2 in accelerate's configuration"
                )
            if self.needs.kl or diagnostics_need_gradients(options.diagnostics):
                raise ValueError(
                    "KL at every token and diagnostics by gradients or samples need whole"
                    " parameters, which FSDP shards"
                )
            # Accelerate asks the module itself where to cut.
            vars(policy.scorer)["_no_split_modules"] = list(
                policy.scorer.plain._no_split_modules or ()
            )
        trained = [parameter for parameter in policy.scorer.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": options.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return accelerator.prepare(
            policy.scorer, _optimizer(options, [group for group in groups if group["params"]])
        )

    def _placed(self, scorer: Any) -> Any:
        if self.accelerator.is_fsdp2:
            from accelerate.utils.fsdp_utils import fsdp2_prepare_model

            vars(scorer)["_no_split_modules"] = list(scorer.plain._no_split_modules or ())
            return fsdp2_prepare_model(self.accelerator, scorer)
        return scorer.to(self.accelerator.device)

    def _loop(self, done: int, history: list[tuple[float, float]]) -> list[dict[str, float]]:
        options, main = self.options, self.accelerator.is_main_process
        reporter = (
            Reporter(self.folder, done, self.total, progress=options.progress) if main else None
        )
        with reporter or contextlib.nullcontext():
            if done == 0:
                self._report(reporter, 0, {})
            since = time.perf_counter(), done, 0
            tokens = 0
            for step, batch in enumerate(self.plan.batches(done, self.total), start=done):
                history.append(self._step(step, batch))
                tokens += sum(
                    len(part) for i in self.rows.of(batch) for part in self.rows.tokens[i]
                )
                if reporter is not None:
                    reporter.step(step + 1)
                if (step + 1) % options.log_every == 0 or step + 1 == self.total:
                    window = history[step // options.log_every * options.log_every :]
                    seconds = time.perf_counter() - since[0]
                    line = {
                        "epoch": (step + 1) / self.plan.steps_per_epoch,
                        "loss": float(np.mean([value for value, _ in window])),
                        "grad_norm": float(np.mean([norm for _, norm in window])),
                        "learning_rate": self._learning_rate(step),
                        "tokens_per_second": (tokens - since[2]) / max(seconds, 1e-9),
                        "seconds_per_step": seconds / (step + 1 - since[1]),
                    }
                    self._report(reporter, step + 1, line)
                    since = time.perf_counter(), step + 1, tokens
                if options.save_every is not None and (
                    (step + 1) % options.save_every == 0 or step + 1 == self.total
                ):
                    self._save(step + 1, history)
            return [] if reporter is None else reporter.lines

    def _report(self, reporter: Reporter | None, step: int, line: dict[str, float]) -> None:
        line = line | self.probe.measure(self.scorer, self.policy, step)
        if reporter is not None and line:
            reporter.write({"step": step, **line})

    def _learning_rate(self, step: int) -> float:
        factor = learning_rate_factor(
            step, self.total, schedule=self.options.schedule, warmup=self.options.warmup
        )
        return self.options.learning_rate * factor

    def _step(self, step: int, batch: np.ndarray) -> tuple[float, float]:
        """Do one optimiser step; return its loss and the norm of its gradient."""
        accelerator, options = self.accelerator, self.options
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(step)
        # Sums over parts divided by the number of examples of the whole step: how it is split makes
        # no difference. Processes are averaged over by the backward pass, which their number takes
        # back.
        processes, accumulation = accelerator.num_processes, options.gradient_accumulation
        split = parts(batch, self.rows.lengths, processes * accumulation, regroup=not self.coupled)
        scale = 1.0 / (len(batch) * self.mean_weight)
        total = torch.zeros(
            (),
            dtype=torch.float32 if accelerator.device.type == "mps" else torch.float64,
            device=accelerator.device,
        )
        for k in range(accumulation):
            examples = split[k * processes + accelerator.process_index]
            empty = len(examples) == 0
            if empty and processes == 1:
                continue
            last = k == accumulation - 1 or processes == 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                # Every process must take part in every exchange: one without examples counts
                # another's with weight zero.
                values, weight, _ = self.scores.values(
                    self.model, self.scorer, batch[:1] if empty else examples
                )
                value = (weight * values).sum() * (0.0 if empty else scale)
                accelerator.backward(value * processes)
            total += value.detach()
        loss = float(accelerator.reduce(total, reduction="sum"))
        limit = float("inf") if options.max_grad_norm is None else options.max_grad_norm
        norm = float(
            disk.whole_tensor(accelerator.clip_grad_norm_(self.scorer.parameters(), limit))
        )
        if not np.isfinite(loss) or not np.isfinite(norm):
            raise ValueError(
                f"loss and gradient must be finite, got {loss} and {norm} at step {step + 1} on"
                f" examples {sorted(batch.tolist())[:8]}; a smaller learning rate may help, and the"
                " last checkpoint is whole"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, norm

    # --- disk
    # ------------------------------------------------------------------------------------------------------------------------

    def _model_state(self) -> dict[str, Tensor] | None:
        if not self.accelerator.is_fsdp2:
            return None
        return {
            name: disk.whole_tensor(value).cpu()
            for name, value in self.policy.model.state_dict().items()
        }

    def _save(self, step: int, history: list[tuple[float, float]]) -> None:
        from accelerate.utils import gather_object
        from safetensors.torch import save_file

        assert self.folder is not None
        folder = self.folder / "checkpoints"
        tensors = disk.optimizer_tensors(self.optimizer, self.names)
        model = self._model_state()
        states = gather_object([disk.random_states()])
        if self.accelerator.is_main_process:
            with disk.saved(folder / f"step-{step:08d}") as partial:
                disk.save_model(self.policy, partial / disk.MODEL, model)
                save_file(tensors, partial / disk.OPTIMIZER)
                flat = {
                    f"{rank}|{name}": value
                    for rank, each in enumerate(states)
                    for name, value in each.items()
                }
                save_file(flat, partial / disk.RANDOM)
                state = {
                    "step": step,
                    "fingerprint": self.fingerprint,
                    "history": history,
                    "probe": self.probe.state,
                }
                (partial / disk.STATE).write_text(json.dumps(state), encoding="utf-8")
            disk.remove_older(folder, self.options.keep)
        self.accelerator.wait_for_everyone()

    def _restore(self, found: disk.Checkpoint) -> tuple[int, list[tuple[float, float]]]:
        from safetensors.torch import load_file

        disk.load_optimizer(self.optimizer, self.names, found.folder / disk.OPTIMIZER)
        rank = f"{self.accelerator.process_index}|"
        states = {
            name.removeprefix(rank): value
            for name, value in load_file(found.folder / disk.RANDOM).items()
            if name.startswith(rank)
        }
        if states:
            disk.set_random_states(states)
        self.probe.restore(found.state["probe"])
        return found.step, [tuple(row) for row in found.state["history"]]

    def _save_result(self) -> None:
        if self.folder is None:
            return
        model = self._model_state()
        if self.accelerator.is_main_process:
            with disk.saved(self.folder / disk.MODEL) as partial:
                disk.save_model(self.policy, partial, model)
        self.accelerator.wait_for_everyone()


def diagnostics_need_gradients(diagnostics: Any) -> bool:
    """Return whether a diagnostic needs more than forward passes of the wrapped model."""
    return bool(set(diagnostics.names) & {"entanglement", "kl", "ches"})


def _named(function: Callable[..., Any]) -> str:
    """Return a text that says which function it is, with the options bound to it, the same in every process."""
    if isinstance(function, functools.partial):
        options = [
            f"{name}={_named(value) if callable(value) else repr(value)}"
            for name, value in sorted(function.keywords.items())
        ]
        return f"{_named(function.func)}({', '.join([*map(repr, function.args), *options])})"
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _optimizer(options: TrainingOptions, groups: list[dict[str, Any]]) -> Any:
    if not isinstance(options.optimizer, str):
        return options.optimizer(groups)
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate)
    return torch.optim.AdamW(groups, lr=options.learning_rate)


@contextlib.contextmanager
def _accelerator(precision: str) -> Iterator[Any]:
    """Give an accelerator for this process (of those that were launched together), whatever settings another has left.

    Accelerate keeps its settings, the precision among them, for the life of the process; here they
    are put back as they were.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    cpu, wanted = not torch.accelerator.is_available(), "bf16" if precision == "bf16" else "no"
    kind, settings = PartialState(cpu=cpu).distributed_type, AcceleratorState._shared_state
    before = dict(settings)
    # Sharding is set up with the first settings of a process alone.
    if kind.value != "FSDP" and before.get("_mixed_precision") != wanted:
        settings.clear()
    try:
        yield Accelerator(cpu=cpu, mixed_precision=wanted)
    finally:
        settings.clear()
        settings.update(before)
        PartialState._shared_state["distributed_type"] = kind


@contextlib.contextmanager
def _own_random_states(seed: int) -> Iterator[None]:
    """Seed torch inside and leave the caller's random states alone."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _training(scorer: Any, gradient_checkpointing: bool) -> Iterator[None]:
    """Put the scorer into training mode, with gradient checkpointing or not, and back."""
    scorer.train()
    # Transformers 5 has named it anew.
    name = "activation" if hasattr(scorer.plain, "activation_checkpointing_enable") else "gradient"
    if gradient_checkpointing:
        options = {f"{name}_checkpointing_kwargs": {"use_reentrant": False}}
        getattr(scorer.plain, f"{name}_checkpointing_enable")(**options)
    try:
        yield
    finally:
        if gradient_checkpointing:
            getattr(scorer.plain, f"{name}_checkpointing_disable")()
        scorer.eval()
