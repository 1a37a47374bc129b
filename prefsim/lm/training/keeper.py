"""What a training leaves on disk, and what it finds there when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
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
from prefsim.lm.training.stored_model import Trainable, save_model
from prefsim.losses.running import RunningLoss

__all__ = ["History", "Keeper", "loss_state"]

History = list[tuple[float, float]]


class Keeper:
    """Writes checkpoints and the result of one training, and restores the former.

    Every process has one and calls it: what is sharded is gathered by all, and written by one.

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
        tensors = disk.optimizer_tensors(self.optimizer, self.names)
        model = self._whole_tensors()
        random_states = gather_object([disk.random_states()])
        if self.accelerator.is_main_process:
            state = {
                "step": step,
                "fingerprint": self.setup.fingerprint,
                "history": history,
                "probe": self.probe.state,
                "loss_state": loss_state(self.evaluator.loss),
                "evaluations": None if self.held_out is None else self.held_out.values,
            }
            folder = self.setup.folder / "checkpoints"
            disk.write_checkpoint(
                folder,
                state,
                policy=self.policy,
                model=model,
                optimizer=tensors,
                random_states=random_states,
                reference=self.evaluator.reference.moved_tensors() if self.follows else None,
            )
            disk.remove_older(folder, self.setup.options.keep)
        self.accelerator.wait_for_everyone()

    def restore(self, checkpoint: disk.Checkpoint) -> History:
        """Put optimiser, random states and diagnostics back; return the history until then."""
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
        """Return the model's tensors where they are sharded, else None."""
        if not self.accelerator.is_fsdp2:
            return None
        state = self.policy.model.state_dict()
        return {name: whole_tensor(value).cpu() for name, value in state.items()}


def loss_state(loss: Any) -> dict[str, Any] | None:
    """Return the numbers that a loss remembers by name, or None where it remembers nothing."""
    return dict(loss.state._asdict()) if isinstance(loss, RunningLoss) else None
