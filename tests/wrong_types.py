"""Inputs of the wrong kind, and numbers in another form, for sweeps over losses and functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

# None of these holds numbers that a reader could not argue about.
NO_NUMBERS = {
    "text": lambda x: x.astype(str),
    "bytes": lambda x: x.astype("S8"),
    "dates": lambda x: np.full(x.shape, "2020-01-01", dtype="M8[D]"),
    "spans": lambda x: np.full(x.shape, 3, dtype="m8[D]"),
    "masked": lambda x: np.ma.masked_array(x, mask=np.arange(x.size).reshape(x.shape) == 0),
    "complex": lambda x: x + 0j,
    "objects": lambda x: x.astype(object),
    "records": lambda x: np.zeros(x.shape, dtype=[("a", float)]),
    "huge": lambda x: np.full(x.shape, 10**400, dtype=object).tolist(),
    "lists of text": lambda x: x.astype(str).tolist(),
    "ragged": lambda x: [*x.tolist()[1:], [0.5, [0.5]]] if x.ndim else [0.5, [0.5]],
    "nothing": lambda x: None,
    "complex tensors": lambda x: torch.as_tensor(x.copy()) + 0j,
    "a dict": lambda x: {"a": x},
    "a function": lambda x: x.sum,
    "words": lambda x: "abc",
}
# What holds numbers in another form.
OTHER_FORMS = {
    "int64": lambda x: np.round(x).astype(np.int64),
    "uint8": lambda x: np.round(np.abs(x)).astype(np.uint8),
    "uint64": lambda x: np.round(np.abs(x)).astype(np.uint64),
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "lists": lambda x: x.tolist(),
    "tensors": lambda x: torch.as_tensor(x.copy()),
    "integer tensors": lambda x: torch.as_tensor(np.round(x).astype(np.int64)),
    "uint8 tensors": lambda x: torch.as_tensor(np.round(np.abs(x)).astype(np.uint8)),
}
# The numbers in another shape.
OTHER_SHAPES = {
    "longer": lambda x: np.concatenate([x, x[..., -1:]], axis=-1) if x.ndim else np.stack([x, x]),
    "more rows": lambda x: np.concatenate([x, x[:1]], axis=0) if x.ndim else np.stack([x, x]),
    "more axes": lambda x: np.broadcast_to(x, (7, *x.shape)),
    "fewer axes": lambda x: x[..., 0] if x.ndim else x,
    "empty": lambda x: x[..., :0] if x.ndim else x,
}
# Torch's own default for integers is single precision.
PRECISION = {"float16": 1e-2, "float32": 1e-5, "integer tensors": 1e-5, "uint8 tensors": 1e-5}

STRANGE_OPTIONS = (
    "x",
    "false",
    b"1",
    None,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    -(10**400),
    1j,
    [0.1],
    np.array("x"),
    np.array([np.nan]),
    np.array([0.1j]),
    np.ma.array([0.5]),
    object(),
    {},
)


def doubles(form: Any) -> np.ndarray:
    """Return the doubles that numbers in another form stand for."""
    array = np.asarray(form)
    return array if array.dtype.kind == "b" else array.astype(np.float64)


def spoilt(column: np.ndarray, place: int) -> np.ndarray:
    """Return an array with NaN at one place."""
    return np.where(np.arange(column.size).reshape(column.shape) == place, np.nan, column)


def numbers_of(value: Any) -> Iterator[np.ndarray]:
    """Yield the arrays and numbers that a value is made of."""
    if isinstance(value, torch.Tensor):
        yield value.detach().to(torch.float64).numpy()
    elif isinstance(value, np.ndarray | np.generic | int | float):
        yield np.asarray(value, dtype=np.float64)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from numbers_of(each)
    elif hasattr(value, "log_probs"):
        yield from numbers_of(value.log_probs)
    elif hasattr(value, "__dict__"):
        yield from numbers_of([each for each in vars(value).values() if not callable(each)])
