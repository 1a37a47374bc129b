"""Log-probabilities of a reference computed once.

They are kept on disk under the hash of the model and of the data.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefsim.lm.model.log_prob_model import is_adapted, whole_tensor
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.text_model import TextModel
from prefsim.lm.model.tokens import TokenBatch, Tokens, to_device

__all__ = [
    "ReferenceLogps",
    "model_hash",
    "reference_logps",
    "rows_hash",
    "shared_reference_logps",
]

# What a configuration says of where it was stored and by whom, and nothing about its numbers.
_NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version")


class ReferenceLogps(NamedTuple):
    """Token log-probabilities of many completions, one after the other.

    Attributes
    ----------
    values
        ``(total,)`` in nats.
    offsets
        int64 ``(n + 1,)``: completion ``i`` has ``values[offsets[i]:offsets[i + 1]]``.
    rows
        :func:`rows_hash` of the prompts and completions that they are of; training refuses others.
        Empty for numbers of your own, whose counts alone can be checked.
    model
        :func:`model_hash` of the model that they are of; empty where it is not known.
    """

    values: np.ndarray
    offsets: np.ndarray
    rows: str = ""
    model: str = ""

    @property
    def sums(self) -> np.ndarray:
        """Log-probabilities of whole completions, float64 ``(n,)``."""
        return np.add.reduceat(self.values, self.offsets[:-1], dtype=np.float64)

    def place(self, batch: TokenBatch, rows: Sequence[int]) -> Tensor:
        """Return ``(B, T)`` with the completions ``rows`` at the batch's scored tokens.

        0 elsewhere, as the forward of a :class:`~prefsim.lm.LogProbModel` has it.

        Raises
        ------
        ValueError
            If the batch does not score as many tokens as the rows have.
        """
        parts = [self.values[self.offsets[i] : self.offsets[i + 1]] for i in rows]
        scored = batch.scored
        counts = (
            batch.completion_mask.sum(dim=1).tolist() if scored is None else list(scored.counts)
        )
        if counts != [len(part) for part in parts]:
            raise ValueError(
                f"the rows must have the batch's numbers of scored tokens {counts}, got"
                f" {[len(part) for part in parts]}"
            )
        flat = to_device(torch.from_numpy(np.concatenate(parts)), batch.input_ids.device)
        nothing = torch.zeros(batch.input_ids.shape, dtype=flat.dtype, device=flat.device)
        if scored is None:
            return nothing.masked_scatter(batch.completion_mask, flat)
        placed = nothing.reshape(-1).index_copy(0, scored.positions, flat)
        return placed.reshape(batch.input_ids.shape)


# Of where the base model lies, whether the adapters were saved since, and by which version.
_NOT_OF_ADAPTERS = ("base_model_name_or_path", "inference_mode", "peft_version")


def model_hash(policy: TextModel) -> str:
    """Return the SHA-256 of what the log-probabilities depend on.

    Configuration, and every parameter and buffer that is in force: the same wherever the model
    lies. Of a sharded model every process must ask.
    """
    config = policy.plain.config.to_dict()
    for name in _NOT_OF_THE_MODEL:
        config.pop(name, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    adapted = is_adapted(policy.model)
    if adapted and policy.adapters:
        settings = {
            name: config.to_dict() | dict.fromkeys(_NOT_OF_ADAPTERS)
            for name, config in policy.model.peft_config.items()
        }
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    switched_off: tuple[str, ...] = ()
    if adapted and not policy.adapters:
        # A tuner's own tensors carry its prefix ("lora_") in their names.
        switched_off = (f".{policy.model.base_model.prefix}", ".modules_to_save.")
    for name, value in sorted(policy.model.state_dict().items()):
        if any(part in name for part in switched_off):
            continue
        tensor = whole_tensor(value).detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def rows_hash(rows: Sequence[Tokens]) -> str:
    """Return the SHA-256 of prompts and completions as token ids, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        for ids in row:
            digest.update(np.asarray([len(ids), *ids], dtype="<i8").data)
    return digest.hexdigest()


def reference_logps(
    policy: CausalLM,
    rows: Sequence[Tokens],
    *,
    batch_size: int = 8,
    cache: str | Path | None = None,
) -> ReferenceLogps:
    """Return the token log-probabilities of all completions under a reference.

    From the cache if they are there.

    Parameters
    ----------
    policy
        The reference.
    rows
        Prompts and completions as token ids (:meth:`CausalLM.encode`).
    batch_size
        Completions in one forward; no number depends on it beyond rounding.
    cache
        Folder of cached results, made if it is not there; ``None`` keeps nothing. A file is named
        after the hashes of model and data, and after what autocast rounds products to where it is
        on, so that a changed model or data set never meets the numbers of another.

    Raises
    ------
    ValueError
        If a cached file cannot be read or does not fit the data; it is named, and may be deleted.
        If ``cache`` is no folder and none can be made there, before anything is computed.
    """
    return _found_or_computed(
        policy, rows, model_hash(policy), batch_size, None if cache is None else Path(cache)
    )


def shared_reference_logps(
    policy: CausalLM,
    rows: Sequence[Tokens],
    *,
    cache: str | Path,
    process: int,
    processes: int,
    wait: Callable[[], None],
    evaluated: CausalLM | None = None,
    batch_size: int = 8,
) -> ReferenceLogps:
    """Return what :func:`reference_logps` does, of which each of several processes computes a part.

    Parts lie in the cache until all have read them; what an interrupted computation has left there
    is not computed again by as many processes.

    Parameters
    ----------
    policy, rows, cache, batch_size
        As for :func:`reference_logps`; the folder is one that all processes see.
    process, processes
        Which of how many this is.
    wait
        Returns when all processes have called it.
    evaluated
        What is evaluated, under the policy's name: the policy as a training will hold it.
    """
    whose, folder = model_hash(policy), Path(cache)
    policy = policy if evaluated is None else evaluated
    of_all = _file(folder, policy, whose, rows_hash(rows))
    if processes == 1:
        return _found_or_computed(policy, rows, whose, batch_size, folder)
    # Another training with this cache may end at any moment, so that processes may see different
    # things: all wait as often. The part of a single row is the whole, which nobody writes before
    # all have looked for it.
    there = of_all.exists()
    wait()
    lengths = [len(row.prompt_ids) + len(row.completion_ids) for row in rows]
    longest_first = np.argsort(np.negative(lengths), kind="stable")
    # In turn, so that all take about as long.
    parts = [longest_first[first::processes] for first in range(min(processes, len(rows)))]

    def of(part: np.ndarray) -> ReferenceLogps:
        own = [rows[int(i)] for i in part]
        return _found_or_computed(policy, own, whose, batch_size, folder)

    if not there and process < len(parts):
        of(parts[process])
    wait()
    if there:
        parts, whole = [], _found_or_computed(policy, rows, whose, batch_size, folder)
    else:
        whole = _put_together(rows, parts, [of(part) for part in parts], whose)
    # Nobody reads a part any more.
    wait()
    if process == 0 and parts:
        _write(of_all, whole)
        for part in parts:
            each = _file(folder, policy, whose, rows_hash([rows[int(i)] for i in part]))
            if each != of_all:
                each.unlink(missing_ok=True)
    wait()
    return whole


def _put_together(
    rows: Sequence[Tokens], parts: list[np.ndarray], found: list[ReferenceLogps], whose: str
) -> ReferenceLogps:
    """Return the log-probabilities of all rows, of which ``found`` has those of each part."""
    offsets = _offsets(rows)
    values = np.empty(int(offsets[-1]), dtype=found[0].values.dtype)
    for part, logps in zip(parts, found, strict=True):
        for k, row in enumerate(part):
            start, stop = logps.offsets[k : k + 2]
            values[offsets[row] : offsets[row + 1]] = logps.values[start:stop]
    return ReferenceLogps(values, offsets, rows_hash(rows), whose)


def _found_or_computed(
    policy: CausalLM, rows: Sequence[Tokens], whose: str, batch_size: int, folder: Path | None
) -> ReferenceLogps:
    offsets, of_what = _offsets(rows), rows_hash(rows)
    file = None if folder is None else _file(folder, policy, whose, of_what)
    if file is not None and file.exists():
        # A part that another training has put together with others may be gone by now.
        with contextlib.suppress(FileNotFoundError):
            return ReferenceLogps(_read(file, offsets), offsets, of_what, whose)
    if folder is not None:
        _make_folder(folder)
    logps, mask = policy.token_log_probs(
        [row.prompt_ids for row in rows],
        [row.completion_ids for row in rows],
        batch_size=batch_size,
    )
    computed = ReferenceLogps(logps[mask].cpu().numpy(), offsets, of_what, whose)
    if file is not None:
        _write(file, computed)
    return computed


def _offsets(rows: Sequence[Tokens]) -> np.ndarray:
    counts = np.asarray([0, *(len(row.completion_ids) for row in rows)], dtype=np.int64)
    return np.cumsum(counts)


def _file(folder: Path, policy: CausalLM, whose: str, of_what: str) -> Path:
    kind, rounded = policy.device.type, ""
    if torch.is_autocast_enabled(kind):
        # Products that are rounded give other numbers.
        rounded = "-" + str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
    # Half of each digest, 128 bits, keeps names short, and no two will ever meet.
    return folder / f"{whose[:32]}-{of_what[:32]}{rounded}.safetensors"


def _read(file: Path, offsets: np.ndarray) -> np.ndarray:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as stored:
            digest = (stored.metadata() or {}).get("sha256")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"cached log-probabilities {str(file)!r} cannot be read ({error}); delete the file to"
            " recompute"
        ) from error
    if (
        set(tensors) != {"values", "offsets"}
        or not np.array_equal(tensors["offsets"], offsets)
        or len(tensors["values"]) != offsets[-1]
    ):
        raise ValueError(
            f"cached log-probabilities {str(file)!r} do not fit the data; delete the file to"
            " compute them again"
        )
    values: np.ndarray = tensors["values"]
    if digest != _digest_of(values):
        raise ValueError(
            f"cached log-probabilities {str(file)!r} are not those that were written; delete the"
            " file to compute them again"
        )
    return values


def _digest_of(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _make_folder(folder: Path) -> None:
    """Make the folder of a cache, or raise where nothing could be kept in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cache must be a folder that can be written to, got {str(folder)!r}: {error.strerror}"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cache must be a folder that can be written to, got {str(folder)!r}")


def _write(file: Path, logps: ReferenceLogps) -> None:
    from safetensors.numpy import save_file

    partial = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    stored = {"values": logps.values, "offsets": logps.offsets}
    try:
        save_file(stored, partial, metadata={"sha256": _digest_of(logps.values)})
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
