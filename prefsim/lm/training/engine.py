"""The training loop, on accelerate.

One process or many, each with its part of every step's batch.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.checks import trusted_values
from prefsim.lm.model.log_prob_model import whole_tensor
from prefsim.lm.training import checkpoint as disk
from prefsim.lm.training.carried import Carried, handed_over
from prefsim.lm.training.diagnostic_probe import DiagnosticProbe
from prefsim.lm.training.fingerprint import loss_name
from prefsim.lm.training.gradient_sums import GradientSums
from prefsim.lm.training.held_out import HeldOut
from prefsim.lm.training.keeper import History, Keeper, loss_state
from prefsim.lm.training.lock import only_training_in
from prefsim.lm.training.loss_evaluator import LossEvaluator
from prefsim.lm.training.metrics import Reporter
from prefsim.lm.training.online_kl import online_kl
from prefsim.lm.training.optimizer import make_optimizer, placement
from prefsim.lm.training.precision import as_precise, copy_of_trained, copy_to_move, widen
from prefsim.lm.training.process_state import accelerator_for, own_random_states, training_mode
from prefsim.lm.training.result import TrainResult
from prefsim.lm.training.schedule import learning_rate_factor
from prefsim.lm.training.setup import TrainingSetup
from prefsim.lm.training.sharding import check_sharding, placed, prepared
from prefsim.lm.training.stored_model import load_weights
from prefsim.lm.training.trackers import listeners, on_all_processes

__all__ = ["run", "run_on"]

# What accelerate puts over a module's own.
_LEFT_BY_ACCELERATE = ("forward", "_original_forward", "_is_accelerate_prepared")


def run(setup: TrainingSetup) -> TrainResult:
    """Do a training that has been checked, and return the result.

    Raises
    ------
    ValueError
        If loss or gradient stop being finite, or the launched processes cannot do what is asked.
    """
    return run_on(setup, None)[0]


def run_on(
    setup: TrainingSetup, carried: Carried | None, *, moves: bool = False
) -> tuple[TrainResult, Carried]:
    """Do a training that goes on from another; see :func:`run`.

    Parameters
    ----------
    setup
        The training.
    carried
        Of the training that the policy comes from; None to begin.
    moves
        Whether what is carried is let go of as it is taken over, and empty afterwards.
    """
    seed = setup.options.seed
    with (
        accelerator_for(setup.precision) as accelerator,
        own_random_states(seed),
        _held(setup, accelerator),
    ):
        engine = _Engine(setup, accelerator, carried, moves=moves)
        result = engine.run()
        return result, engine.carried()


@contextlib.contextmanager
def _held(setup: TrainingSetup, accelerator: Any) -> Iterator[None]:
    """Hold the folder of a training, if it has one, by the first of its processes."""
    if setup.folder is None or not accelerator.is_main_process:
        yield
        return
    with only_training_in(setup.folder):
        # Another may have come and gone since it was looked for.
        setup.check_still_newest()
        yield


class _Engine:
    """One training in this process: the model as accelerate wraps it, and its optimiser."""

    def __init__(
        self, setup: TrainingSetup, accelerator: Any, carried: Carried | None, *, moves: bool
    ) -> None:
        self.setup, self.options, self.accelerator = setup, setup.options, accelerator
        self.policy = setup.policy if setup.options.in_place else copy_of_trained(setup.policy)
        self.module: Any = self.policy.module
        self.dtypes = {name: parameter.dtype for name, parameter in self.module.named_parameters()}
        if setup.precision == "bf16":
            widen(self.module)
        if carried is not None:
            for name, value in handed_over(carried.weights, moves=moves):
                self.module.get_parameter(name).data.copy_(value)
        # Before the model is wrapped and sharded: these weights on disk are whole.
        if setup.checkpoint is not None and setup.checkpoint.shards is None:
            load_weights(self.policy, setup.checkpoint.model)
        check_sharding(setup, accelerator, self.module)
        self.wrapped, self.optimizer = self._prepared()
        self.names = {
            parameter: name
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad
        }
        if carried is not None:
            entries = handed_over(carried.optimizer, moves=moves)
            disk.put_optimizer(self.optimizer, self.names, entries, "the rounds before")
        self.update = self.options.reference_update
        fitted = as_precise if self.update is None else copy_to_move
        reference = setup.reference.with_model(
            lambda model: placed(fitted(model, self.module), accelerator)
        )
        self.evaluator = LossEvaluator(
            policy=self.policy,
            data=setup.data,
            rows=setup.rows,
            loss=setup.loss,
            needs=setup.needs,
            reference=reference,
            autocast=accelerator.autocast,
            packing=self.options.packing,
        )
        self.held_out = None
        if self.options.evaluation is not None:
            assert setup.held_out_rows is not None
            self.held_out = HeldOut(
                self.options.evaluation,
                setup.held_out_rows,
                self.evaluator,
                split=setup.split_of(setup.held_out_rows),
                batch_size=-(-self.options.batch_size // self.options.gradient_accumulation),
                accelerator=accelerator,
            )
        self.probe = DiagnosticProbe(self.options.measured, self.evaluator, self.options.seed)
        # Trained parameters before they are rounded to what they were given in.
        self.wide: dict[str, Tensor] = {}
        self.stopped = False
        self.mean_weight = float(setup.data.weight.mean())
        self.split = setup.split_of(setup.rows)
        self.keeper = Keeper(
            setup,
            self.policy,
            accelerator,
            self.optimizer,
            self.names,
            self.probe,
            self.evaluator,
            self.held_out,
        )

    def run(self) -> TrainResult:
        """Train and return the result."""
        history: History = []
        if self.setup.checkpoint is not None:
            history = self.keeper.restore(self.setup.checkpoint)
        try:
            with training_mode(self.module, self.options, self.evaluator.reference.modules):
                lines = self._loop(history)
            self.accelerator.wait_for_everyone()
            if self.accelerator.device.type != "cpu":
                self.accelerator.free_memory()  # collects garbage, longer than a toy trains
        finally:
            # What is trained in place is the caller's, who may go on with it after an error.
            self._leave()
        self.keeper.save_model(disk.MODEL)
        value, norm = history[-1]
        return TrainResult(
            policy=self.policy,
            value=value,
            grad_norm=norm,
            steps=len(history),
            history=np.asarray(history),
            metrics=tuple(lines),
            folder=self.setup.folder,
            loss=self.evaluator.loss,
            best_step=None if self.held_out is None else self.held_out.best_step,
        )

    def carried(self) -> Carried:
        """Return what the next training of the policy goes on from, after this one has run."""
        return Carried(self.wide, dict(disk.optimizer_entries(self.optimizer, self.names)))

    # --- accelerate

    def _prepared(self) -> tuple[Any, Any]:
        """Return the model and its optimiser as accelerate wraps, shards and places them."""
        # A gradient of before would be added to the first.
        self.module.zero_grad()
        how = placement(self.options, self.accelerator)
        make = functools.partial(make_optimizer, self.options, **how)
        return prepared(self.accelerator, self.module, make)

    def _leave(self) -> None:
        """Leave the policy's module as it was given, but for its weights."""
        for name in _LEFT_BY_ACCELERATE:
            vars(self.module).pop(name, None)
        self.module.zero_grad()
        self.wide = self._rounded()

    def _rounded(self) -> dict[str, Tensor]:
        """Round the parameters to what they were given in; return those that were wider."""
        wide: dict[str, Tensor] = {}
        if self.accelerator.is_fsdp2:
            return wide
        for name, parameter in self.module.named_parameters():
            if parameter.dtype != self.dtypes[name]:
                wide[name] = parameter.data
                parameter.data = parameter.data.to(self.dtypes[name])
        return wide

    @contextlib.contextmanager
    def _as_given(self) -> Iterator[None]:
        """Round the parameters to what they were given in, and put them back."""
        wide = self._rounded()
        try:
            yield
        finally:
            for name, value in wide.items():
                self.module.get_parameter(name).data = value

    # --- steps

    def _loop(self, history: History) -> list[dict[str, float]]:
        """Do the steps that are left, adding to ``history``; return the lines of metrics."""
        options, total = self.options, self.setup.total
        done = len(history)
        reporter = None
        with contextlib.ExitStack() as held:
            if self.accelerator.is_main_process:
                name = loss_name(self.setup.loss)
                heard = held.enter_context(
                    listeners(options.trackers, self.setup.folder, options, name)
                )
                folder, progress = self.setup.folder, options.progress
                reporter = Reporter(folder, done, total, progress=progress, heard=heard)
                held.enter_context(reporter)
            if done == 0:
                self._report(reporter, 0, self._evaluated(0))
            since, steps, tokens = time.perf_counter(), 0, 0
            for step, batch in enumerate(self._batches_left(done), start=done):
                history.append(self._step(step, batch))
                steps += 1
                tokens += self._tokens_of(batch)
                if reporter is not None:
                    reporter.step(step + 1)
                evaluated = self._evaluated(step + 1)
                is_last = step + 1 == total or self._is_over()
                if (step + 1) % options.log_every == 0 or is_last:
                    seconds = time.perf_counter() - since
                    # From the last multiple on, so that a resumed training writes the same line.
                    window = history[step // options.log_every * options.log_every :]
                    line = {
                        "epoch": (step + 1) / self.setup.plan.steps_per_epoch,
                        "loss": float(np.mean([value for value, _ in window])),
                        "grad_norm": float(np.mean([norm for _, norm in window])),
                        "learning_rate": self._learning_rate(step),
                        "tokens_per_second": tokens / max(seconds, 1e-9),
                        "seconds_per_step": seconds / steps,
                    }
                    line |= {
                        f"loss_{k}": v for k, v in (loss_state(self.evaluator.loss) or {}).items()
                    }
                    self._report(reporter, step + 1, line | evaluated)
                    since, steps, tokens = time.perf_counter(), 0, 0
                elif evaluated:
                    self._write(reporter, step + 1, evaluated)
                every = options.save_every
                if every is not None and ((step + 1) % every == 0 or is_last or self._is_over()):
                    self.keeper.save(step + 1, history)
            return [] if reporter is None else reporter.lines

    def _batches_left(self, done: int) -> Iterator[np.ndarray]:
        """Yield the batch of each step that is left, or fewer if the evaluations end it."""
        batches = self.setup.plan.batches(done, self.setup.total)
        return itertools.takewhile(lambda _: not self._is_over(), batches)

    def _is_over(self) -> bool:
        return self.stopped or (self.held_out is not None and self.held_out.is_over)

    def _evaluated(self, step: int) -> dict[str, float]:
        """Return what the evaluation after so many steps says; empty where none is due."""
        if self.held_out is None or not self.held_out.is_due(step, self.setup.total):
            return {}
        found = self.held_out.measure(self.module, step)
        if self.held_out.evaluation.keep_best and self.held_out.best_step == step:
            with self._as_given():
                self.keeper.save_model(disk.BEST)
        return found

    def _tokens_of(self, batch: np.ndarray) -> int:
        rows = self.setup.rows
        return sum(len(part) for i in rows.of(batch) for part in rows.tokens[i])

    def _report(self, reporter: Reporter | None, step: int, line: dict[str, float]) -> None:
        # Every process measures: a forward of a sharded model needs them all.
        self._write(reporter, step, line | self.probe.measure(self.module, self.policy, step))

    def _write(self, reporter: Reporter | None, step: int, line: dict[str, float]) -> None:
        if reporter is not None and line:
            reporter.write({"step": step, **line})
        said = reporter is not None and reporter.stopped
        self.stopped = on_all_processes(said, self.options.trackers, self.accelerator)

    def _learning_rate(self, step: int) -> float:
        factor = learning_rate_factor(
            step, self.setup.total, schedule=self.options.schedule, warmup=self.options.warmup
        )
        return self.options.learning_rate * factor

    def _step(self, step: int, batch: np.ndarray) -> tuple[float, float]:
        """Do one optimiser step; return its loss and the norm of its gradient."""
        accelerator, options = self.accelerator, self.options
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(step)
        value = accelerator.reduce(self._backward(step, batch), reduction="sum")
        limit = float("inf") if options.max_grad_norm is None else options.max_grad_norm
        found = whole_tensor(accelerator.clip_grad_norm_(self.module.parameters(), limit))
        # The one time in a step that the device is waited for.
        loss, norm = torch.stack([value, found.to(value)]).tolist()
        if not np.isfinite(loss) or not np.isfinite(norm):
            raise ValueError(
                f"loss and gradient must be finite, got {loss} and {norm} at step {step + 1} on"
                f" examples {sorted(batch.tolist())[:8]}; a smaller learning rate may help"
                f"{', and the last checkpoint is whole' if self.options.save_every else ''}"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.update is not None and self.update.is_due(step + 1):
            self.evaluator.reference.follow(self.module, self.update)
        return loss, norm

    def _backward(self, step: int, batch: np.ndarray) -> Tensor:
        """Accumulate the gradient of a step; return this process's share of its loss."""
        accelerator = self.accelerator
        # Sums over micro-batches divided by the number of examples of the whole step: how it is
        # split makes no difference. Processes are averaged over by the backward pass, which their
        # number takes back.
        processes = accelerator.num_processes
        split = self.split.of_step(batch, processes)
        accumulation = len(split) // processes
        scale = 1.0 / (len(batch) * self.mean_weight)
        # Apple's GPUs have no float64.
        dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64
        total = torch.zeros((), dtype=dtype, device=accelerator.device)
        # FSDP sums whole gradients by itself, before it shares them out.
        summed = () if accelerator.is_fsdp2 else self.module.parameters()
        sums = GradientSums(summed, self.options.seed, step)
        for k in range(accumulation):
            examples = split[k * processes + accelerator.process_index]
            if len(examples) == 0 and processes == 1:
                continue
            is_last = k == accumulation - 1
            with sums.of_micro_batch(k, is_last=is_last):
                total += self._micro_batch(
                    batch,
                    examples,
                    scale=scale,
                    seeds=(self.options.seed, step, k, accelerator.process_index),
                    exchanges=is_last or processes == 1,
                )
        sums.put_back()
        return total

    def _micro_batch(
        self,
        batch: np.ndarray,
        examples: np.ndarray,
        *,
        scale: float,
        seeds: tuple[int, ...],
        exchanges: bool,
    ) -> Tensor:
        """Add the gradient of some examples of a batch; return the loss that they add."""
        accelerator, is_empty = self.accelerator, len(examples) == 0
        processes = accelerator.num_processes
        if self.options.penalty is not None and not is_empty:
            # The exchange is that of the loss's own backward pass, below.
            with contextlib.nullcontext() if processes == 1 else accelerator.no_sync(self.wrapped):
                penalty = online_kl(
                    self.options.penalty,
                    self.evaluator,
                    self.wrapped,
                    self.module,
                    examples,
                    seeds,
                )
                accelerator.backward(penalty * scale * processes)
        with contextlib.nullcontext() if exchanges else accelerator.no_sync(self.wrapped):
            # Every process must take part in every exchange: one without examples counts
            # another's with weight zero.
            seen = self.evaluator.examples(
                self.wrapped, self.module, batch[:1] if is_empty else examples
            )
            self.evaluator.move_loss(seen, accelerator, counts=not is_empty)
            # What is not finite is told once a step, with the examples.
            with trusted_values():
                values = self.evaluator.loss(seen.container)
            value = (seen.weight * values).sum() * (0.0 if is_empty else scale)
            if seen.router_loss is not None:
                # A mean over tokens, and here over examples too.
                value = value + seen.router_loss * (len(examples) / len(batch))
            accelerator.backward(value * processes)
        return value.detach()
