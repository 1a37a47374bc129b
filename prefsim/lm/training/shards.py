"""Checkpoints of parameters that are sharded: each process writes its part, any number reads them.

Nothing is gathered. The parts are files of safetensors, each of which says where its rows belong.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefsim.lm.training.checkpoint import optimizer_entries, put_optimizer

__all__ = ["read_shards", "write_shards", "zeros_by_rows"]


def zeros_by_rows(parameter: Any, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return zeros with a parameter's number of rows, shared out over processes as its rows are.

    Raises
    ------
    ValueError
        If it is not its rows that are shared out.
    """
    if not hasattr(parameter, "placements"):
        return torch.zeros(*shape, dtype=dtype, device=parameter.device)
    from torch.distributed.tensor import DTensor

    if any(placement.is_shard() and placement.dim != 0 for placement in parameter.placements):
        raise ValueError(
            f"parameters must be sharded by their rows, got the placements {parameter.placements}"
        )
    part = parameter.to_local()
    zeros = torch.zeros(len(part), *shape[1:], dtype=dtype, device=part.device)
    whole: Tensor = DTensor.from_local(
        zeros,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=torch.Size(shape),
        stride=torch.empty(*shape, device="meta").stride(),
    )
    # Where FSDP keeps parameters in main memory, the mesh is of another device.
    return whole.to(part.device)


def write_shards(folder: Path, optimizer: torch.optim.Optimizer, names: Mapping[Any, str]) -> None:
    """Write trained parameters, and what an optimiser remembers of them, into a folder.

    Every process must call, and none returns before all have written.

    Parameters
    ----------
    folder
        Seen by all processes.
    optimizer, names
        The optimiser, and the name of every trained parameter.

    Raises
    ------
    ValueError
        If this version of torch cannot.
    """
    from torch.distributed import checkpoint

    if not hasattr(checkpoint, "HuggingFaceStorageWriter"):
        raise ValueError(
            "checkpoints of sharded parameters need a newer torch, whose distributed ones can"
            f" be in safetensors, got {torch.__version__}"
        )
    tensors = _weights(names) | {
        name: value if torch.is_tensor(value) else torch.tensor(value)
        for name, value in optimizer_entries(optimizer, names)
    }
    writer = checkpoint.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    checkpoint.save(tensors, storage_writer=writer)


def read_shards(folder: Path, optimizer: torch.optim.Optimizer, names: Mapping[Any, str]) -> None:
    """Put back what :func:`write_shards` has written, into parameters sharded in any way or none.

    Every process must call; each reads its own rows.

    Raises
    ------
    ValueError
        If the parameters are not those that were written.
    """
    from torch.distributed import checkpoint

    reader = checkpoint.HuggingFaceStorageReader(str(folder))
    found: dict[str, Any] = reader.read_metadata().state_dict_metadata
    weights, by_name = _weights(names), {name: parameter for parameter, name in names.items()}
    stored = {name.rpartition("|")[0] or name for name in found}
    if different := sorted(stored ^ weights.keys()):
        raise ValueError(
            f"{str(folder)!r} must hold the trained parameters, got a difference in"
            f" {different[0]!r}"
        )
    state = {}
    for name, written in found.items():
        owner, _, entry = name.rpartition("|")
        if not entry or not owner:
            continue
        parameter, shape = by_name[owner], tuple(written.size)
        has_its_rows = shape[:1] == tuple(parameter.shape)[:1]
        make = zeros_by_rows if has_its_rows else _zeros
        state[name] = make(parameter, shape, written.properties.dtype)
    with warnings.catch_warnings():
        # One process may read what several have written.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        checkpoint.load(weights | state, storage_reader=reader)
    put_optimizer(optimizer, names, state.items(), str(folder))


def _weights(names: Mapping[Any, str]) -> dict[str, Any]:
    return {name: parameter.detach() for parameter, name in names.items()}


def _zeros(parameter: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return what every process has alike, such as a count of steps."""
    return torch.zeros(shape, dtype=dtype)
