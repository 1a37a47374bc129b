"""Training on disk.

Checkpoints that are whole or not there, in safetensors and JSON, never pickled.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prefsim.lm.model.digests import check_digests, sync, sync_folder, write_digests
from prefsim.lm.model.log_prob_model import whole_tensor
from prefsim.lm.training.stored_model import Trainable, save_weights

__all__ = [
    "Checkpoint",
    "checkpoint_folder",
    "latest",
    "load_tensors",
    "optimizer_entries",
    "optimizer_tensors",
    "partial_of",
    "put_optimizer",
    "random_states",
    "remove_older",
    "saved",
    "set_random_states",
    "write_checkpoint",
    "write_state",
]

STATE, MODEL, BEST = "state.json", "model", "best"
OPTIMIZER, RANDOM = "optimizer.safetensors", "random.safetensors"
CRITIC, CRITIC_OPTIMIZER = "critic", "critic_optimizer.safetensors"
REFERENCE = "reference.safetensors"
SHARDS = "shards"


class Checkpoint(NamedTuple):
    """A whole checkpoint: its folder and what its state file says."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps that were done."""
        return int(self.state["step"])

    @property
    def model(self) -> Path:
        """The model or its adapters in the layout of transformers, as they are loaded.

        Of a reward model with adapters its trained parameters.
        """
        return self.folder / MODEL

    @property
    def shards(self) -> Path | None:
        """The parts of model and optimiser that sharded processes wrote in place of wholes."""
        folder = self.folder / SHARDS
        return folder if folder.is_dir() else None

    def check(self) -> None:
        """Raise unless every file is as it was written."""
        try:
            check_digests(self.folder)
        except ValueError as error:
            raise _unreadable(self.folder, error) from error

    def random_states(self, process: int) -> dict[str, Tensor]:
        """Return the states of a process's generators; empty if it was not there."""
        from safetensors.torch import load_file

        prefix = f"{process}|"
        return {
            name.removeprefix(prefix): value
            for name, value in load_file(self.folder / RANDOM).items()
            if name.startswith(prefix)
        }


def latest(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint of a training, or None.

    Raises
    ------
    ValueError
        If a checkpoint's state cannot be read (they are moved into place whole, so that somebody
        else has written it).
    """
    files = sorted(folder.glob("step-*/" + STATE))
    if not files:
        return None
    newest = files[-1]
    try:
        state = json.loads(newest.read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("it does not say its step")
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(newest.parent, error) from error
    return Checkpoint(newest.parent, state)


def _unreadable(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"checkpoint {str(folder)!r} cannot be read ({error}); delete it to resume from the one"
        " before"
    )


@contextlib.contextmanager
def saved(target: Path) -> Iterator[Path]:
    """Give a folder to write into that appears as ``target`` when the block ends.

    It appears whole, and not at all if the block fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        sync_folder(partial)
        if target.exists():
            # A folder cannot take the place of another in one move; the old one stays readable
            # until the new one is there.
            old = target.with_name(f".{target.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            partial.rename(target)
            shutil.rmtree(old)
        else:
            partial.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_of(target: Path) -> Path:
    """Return the folder that is written into while ``target`` is not whole yet."""
    return target.with_name(f".{target.name}.partial")


def write_checkpoint(
    folder: Path,
    state: Mapping[str, Any],
    *,
    policy: Trainable,
    optimizer: dict[str, Tensor],
    random_states: Sequence[Mapping[str, Tensor]],
    reference: dict[str, Tensor] | None = None,
    critic: tuple[Trainable, dict[str, Tensor]] | None = None,
) -> None:
    """Write a checkpoint of the step that ``state`` names into its own folder.

    Parameters
    ----------
    folder
        Of all checkpoints.
    state
        What goes into JSON, ``step`` among it.
    policy
        As for :func:`prefsim.lm.training.stored_model.save_weights`.
    optimizer
        From :func:`optimizer_tensors`.
    random_states
        From :func:`random_states`, of every process.
    reference
        Parameters of a reference that follows the policy.
    critic
        A value function that learns along, and the tensors of its optimiser.
    """
    from safetensors.torch import save_file

    with saved(checkpoint_folder(folder, state["step"])) as partial:
        save_weights(policy, partial / MODEL)
        save_file(optimizer, partial / OPTIMIZER)
        if reference is not None:
            save_file(reference, partial / REFERENCE)
        if critic is not None:
            save_weights(critic[0], partial / CRITIC)
            save_file(critic[1], partial / CRITIC_OPTIMIZER)
        write_state(partial, state, random_states)


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    # Leading zeros, so that names sort as numbers do.
    return folder / f"step-{step:08d}"


def write_state(
    partial: Path, state: Mapping[str, Any], random_states: Sequence[Mapping[str, Tensor]]
) -> None:
    """Write what a checkpoint has besides tensors, and the digests of all of it, last."""
    from safetensors.torch import save_file

    by_process = {
        f"{process}|{name}": value
        for process, states in enumerate(random_states)
        for name, value in states.items()
    }
    save_file(by_process, partial / RANDOM)
    (partial / STATE).write_text(json.dumps(state), encoding="utf-8")
    write_digests(partial)


def remove_older(folder: Path, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints, and what an interrupted write left."""
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    for left in folder.glob(".*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def optimizer_entries(
    optimizer: torch.optim.Optimizer, names: Mapping[Any, str]
) -> Iterator[tuple[str, Any]]:
    """Yield the state of every parameter as it is, each entry named ``parameter|entry``."""
    for parameter, entries in optimizer.state.items():
        for entry, value in entries.items():
            yield f"{names[parameter]}|{entry}", value


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[Any, str]
) -> dict[str, Tensor]:
    """Return the state of every parameter as tensors on the CPU, named as above.

    Every process must call.
    """
    tensors = {}
    for name, value in optimizer_entries(optimizer, names):
        tensor = whole_tensor(value) if torch.is_tensor(value) else torch.tensor(value)
        # A copy of its own, which no later step changes and safetensors takes.
        tensors[name] = tensor.detach().cpu().contiguous().clone()
    return tensors


def put_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Mapping[Any, str],
    entries: Iterable[tuple[str, Any]],
    source: str,
) -> None:
    """Put a state back, sharded as the parameters are, as copies of the entries.

    Raises
    ------
    ValueError
        If it is of a parameter that is not there; ``source`` says where it came from.
    """
    by_name: dict[str, Any] = {name: parameter for parameter, name in names.items()}
    for key, given in entries:
        name, _, entry = key.rpartition("|")
        parameter = by_name.get(name)
        if parameter is None:
            raise ValueError(
                f"{source!r} holds the optimiser state of {name!r}, which is no parameter of"
                " this training"
            )
        value = given.clone() if torch.is_tensor(given) else given
        is_whole = not hasattr(value, "placements")
        # A scale for every block of a row goes where its row goes.
        has_its_rows = tuple(getattr(value, "shape", ()))[:1] == tuple(parameter.shape)[:1]
        if is_whole and hasattr(parameter, "placements") and has_its_rows:
            from torch.distributed.tensor import distribute_tensor

            value = distribute_tensor(
                value.to(parameter.device), parameter.device_mesh, parameter.placements
            )
        elif getattr(value, "ndim", 0):  # a count of steps stays where its optimiser keeps it
            # Accelerate has wrapped it; ours may keep its state elsewhere than the parameter.
            inner = getattr(optimizer, "optimizer", optimizer)
            home = getattr(inner, "home", lambda tensor, beside: tensor.to(beside.device))
            value = home(value, parameter)
        optimizer.state[parameter][entry] = value


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(file)
    return tensors


def random_states() -> dict[str, Tensor]:
    """Return the states of torch's random generators of this process."""
    states = {"cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """Put the states of the generators back."""
    torch.random.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
