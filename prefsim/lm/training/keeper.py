"""What a training leaves on disk, and what it finds there when it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from prefsim.lm.model.digests import write_digests
from prefsim.lm.model.log_prob_model import whole_tensor
from prefsim.lm.training import checkpoint as disk
from prefsim.lm.training.diagnostic_probe import DiagnosticProbe
from prefsim.lm.training.held_out import HeldOut
from prefsim.lm.training.loss_evaluator import LossEvaluator
from prefsim.lm.training.setup import TrainingSetup
from prefsim.lm.training.shards import read_shards, write_shards
from prefsim.lm.training.stored_model import Trainable, save_model
from prefsim.losses.running import RunningLoss

__all__ = ["History", "Keeper", "loss_state"]

History = list[tuple[float, float]]


class Keeper:
    """Writes checkpoints and the result of one training, and restores the former.

    Every process has one and calls it. Of a checkpoint of sharded parameters each writes its part;
    of the result they are gathered by all, and written by one.

    Parameters
    ----------
    setup
        The training.
    policy
        What is trained.
    accelerator, optimizer
        As accelerate has made them.
    names
        The name of every trained parameter.
    probe, evaluator, held_out
        Whose state goes along.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        policy: Trainable,
        accelerator: Any,
        optimizer: Any,
        names: Mapping[Any, str],
        probe: DiagnosticProbe,
        evaluator: LossEvaluator,
        held_out: HeldOut | None,
    ) -> None:
        self.setup, self.policy, self.accelerator = setup, policy, accelerator
        self.optimizer, self.names = optimizer, names
        self.probe, self.evaluator, self.held_out = probe, evaluator, held_out
        self.follows = setup.options.reference_update is not None

    def save(self, step: int, history: History) -> None:
        """Write a checkpoint, and remove those that are too many."""
        from accelerate.utils import gather_object

        assert self.setup.folder is not None
        folder = self.setup.folder / "checkpoints"
        random_states = gather_object([disk.random_states()])
        state = {
            "step": step,
            "fingerprint": self.setup.fingerprint,
            "history": history,
            "probe": self.probe.state,
            "loss_state": loss_state(self.evaluator.loss),
            "evaluations": None if self.held_out is None else self.held_out.values,
        }
        if self.accelerator.is_fsdp2:
            self._save_shards(folder, state, random_states)
        elif self.accelerator.is_main_process:
            disk.write_checkpoint(
                folder,
                state,
                policy=self.policy,
                optimizer=disk.optimizer_tensors(self.optimizer, self.names),
                random_states=random_states,
                reference=self.evaluator.reference.moved_tensors() if self.follows else None,
            )
        if self.accelerator.is_main_process:
            disk.remove_older(folder, self.setup.options.keep)
        self.accelerator.wait_for_everyone()

    def _save_shards(
        self, folder: Path, state: Mapping[str, Any], random_states: Sequence[Mapping[str, Tensor]]
    ) -> None:
        """Write a checkpoint of which each process has a part; it appears when all are there."""
        target = disk.checkpoint_folder(folder, state["step"])
        is_main = self.accelerator.is_main_process
        appears = disk.saved(target) if is_main else contextlib.nullcontext(disk.partial_of(target))
        with appears as partial:
            self.accelerator.wait_for_everyone()
            write_shards(partial / disk.SHARDS, self.optimizer, self.names)
            if is_main:
                disk.write_state(partial, state, random_states)

    def restore(self, checkpoint: disk.Checkpoint) -> History:
        """Put optimiser, random states and diagnostics back; return the history until then.

        And the parameters, where each process has written its part of them.
        """
        if checkpoint.shards is not None:
            read_shards(checkpoint.shards, self.optimizer, self.names)
        else:
            file = checkpoint.folder / disk.OPTIMIZER
            entries = disk.load_tensors(file).items()
            disk.put_optimizer(self.optimizer, self.names, entries, str(file))
        random_states = checkpoint.random_states(self.accelerator.process_index)
        # There are none for a process more than there were.
        if random_states:
            disk.set_random_states(random_states)
        self.probe.restore(checkpoint.state["probe"])
        if self.follows:
            self.evaluator.reference.put_back(disk.load_tensors(checkpoint.folder / disk.REFERENCE))
        loss, state = self.evaluator.loss, checkpoint.state.get("loss_state")
        if isinstance(loss, RunningLoss) and state is not None:
            self.evaluator.loss = replace(loss, state=type(loss.state)(**state))
        if self.held_out is not None:
            evaluations = [tuple(each) for each in checkpoint.state["evaluations"]]
            self.held_out.restore(evaluations, self.setup.total)
        return [(value, norm) for value, norm in checkpoint.state["history"]]

    def save_model(self, name: str) -> None:
        """Write the model as it is by now under a name, if the training has a folder."""
        folder: Path | None = self.setup.folder
        if folder is None:
            return
        model = self._whole_tensors()
        if self.accelerator.is_main_process:
            with disk.saved(folder / name) as partial:
                save_model(self.policy, partial, model)
                write_digests(partial)
        self.accelerator.wait_for_everyone()

    def _whole_tensors(self) -> dict[str, Tensor] | None:
        """Return the model's tensors where they are sharded, else None; all to the first process.

        The others take part, one tensor after the other, and keep none.
        """
        if not self.accelerator.is_fsdp2:
            return None
        kept = {}
        for name, value in self.policy.model.state_dict().items():
            whole = whole_tensor(value)
            if self.accelerator.is_main_process:
                kept[name] = whole.cpu()
        return kept


def loss_state(loss: Any) -> dict[str, Any] | None:
    """Return the numbers that a loss remembers by name, or None where it remembers nothing."""
    return dict(loss.state._asdict()) if isinstance(loss, RunningLoss) else None
