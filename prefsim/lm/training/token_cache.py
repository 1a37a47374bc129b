"""Tokens of data kept on disk: text is made into tokens once, whichever training reads it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.lm.model.text_model import TextModel
from prefsim.lm.model.tokens import Tokens
from prefsim.lm.training.altered_text import PROBE, Altered

__all__ = ["Encoded", "kept_tokens"]

# What a change of how text is made into tokens counts up.
_FORM = 1


class Encoded(NamedTuple):
    """Sequences as tokens, and of how many the tokens have another text than was given."""

    tokens: list[Tokens]
    altered: Altered


def kept_tokens(
    cache: Path, policy: TextModel, examples: Sequence[Any], encode: Callable[[], Encoded]
) -> Encoded:
    """Return the tokens of examples, out of the cache if they are there.

    Of several processes that were launched together the first makes them, and the others read.

    Parameters
    ----------
    cache
        A folder, made if it is not there. A file is named after a hash of the text, of the
        tokenizer and of how the model uses it.
    policy
        Whose tokens.
    examples
        What is to be made into tokens.
    encode
        Does it.

    Raises
    ------
    ValueError
        If a tokenizer cannot be told from others, or a file is not as it was written.
    """
    file = cache / f"{_digest(policy, examples)[:32]}.safetensors"
    with _first_process_first():
        if file.exists():
            return _read(file)
        encoded = encode()
        _write(file, encoded)
        return encoded


@contextlib.contextmanager
def _first_process_first() -> Any:
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    import torch
    from accelerate import PartialState

    with PartialState(cpu=not torch.accelerator.is_available()).main_process_first():
        yield


def _digest(policy: TextModel, examples: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    used = (_FORM, policy.append_eos, policy.end_ids, policy.vocabulary_size)
    told = [*used, policy.chat_template_kwargs, *_identity(policy.tokenizer)]
    for part in (told, *examples):
        digest.update(json.dumps(part, sort_keys=True, default=_plain).encode() + b"\n")
    return digest.hexdigest()


def _identity(tokenizer: Any) -> list[Any]:
    """Return what tells a tokenizer from every other."""
    if tokenizer is None:
        return []
    inner: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(inner, "to_str"):
        raise ValueError(
            f"token_cache needs a tokenizer of the library tokenizers, whose rules can be read, got"
            f" {type(tokenizer).__name__}"
        )
    import transformers

    return [
        transformers.__version__,
        type(tokenizer).__name__,
        inner.to_str(),
        tokenizer.special_tokens_map,
        getattr(tokenizer, "chat_template", None),
        getattr(tokenizer, "init_kwargs", {}),
        _probed(tokenizer),
    ]


def _probed(tokenizer: Any) -> list[int] | str:
    """Return what a tokenizer makes of a text with its special tokens in it.

    Settings of the object, such as ``split_special_tokens``, are in no rules.
    """
    text = " a".join([PROBE, *tokenizer.all_special_tokens])
    try:
        return list(tokenizer(text)["input_ids"])
    except Exception as error:
        # Tokenizers raise anything; one that has no tokens for this may well have some for data.
        return type(error).__name__


def _plain(value: Any) -> Any:
    """Return what is of NumPy as numbers of Python, and anything else as it is written."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _write(file: Path, encoded: Encoded) -> None:
    from safetensors.numpy import save_file

    flat = [token for row in encoded.tokens for part in row for token in part]
    arrays = {
        "ids": np.asarray(flat, dtype=np.int64),
        "counts": np.asarray([[len(part) for part in row] for row in encoded.tokens]).reshape(
            -1, 2
        ),
    }
    told = {"altered": json.dumps(encoded.altered), "sha256": _of(arrays)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"token_cache must be a folder that can be written to, got {str(file.parent)!r}:"
            f" {error.strerror}"
        ) from error
    partial = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        save_file(arrays, partial, metadata=told)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _read(file: Path) -> Encoded:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as stored:
            told = stored.metadata() or {}
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if told["sha256"] != _of(arrays):
            raise ValueError("it is not as it was written")
        altered = Altered(*json.loads(told["altered"]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"kept tokens {str(file)!r} cannot be read ({error}); delete the file to make them"
            " again"
        ) from error
    ids = arrays["ids"].tolist()
    ends = np.cumsum(arrays["counts"].reshape(-1)).tolist()
    starts = [0, *ends[:-1]]
    parts = [ids[start:end] for start, end in zip(starts, ends, strict=True)]
    tokens = [Tokens(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    return Encoded(tokens, altered)


def _of(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
