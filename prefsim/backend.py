"""Which arrays the worlds and policies are made of, and random draws that do not depend on it.

NumPy float64 is the default. Inside ``use_backend("torch", device="cuda")`` the constructors make
torch tensors; the pure functions need no switch, they follow the arrays they are given. Every draw
is made by NumPy and then converted, so one seed gives the same numbers on every backend.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_torch_array

from prefsim.checks import check_choice, check_constant
from prefsim.numerics import as_tensor, like, to_numpy
from prefsim.typing import Array

Seed = int | np.random.Generator

__all__ = [
    "Backend",
    "asarray",
    "current_backend",
    "index_array",
    "like",
    "on_backend",
    "random_generator",
    "to_numpy",
    "use_backend",
]


class Backend(NamedTuple):
    """Array library, device and dtype name in force."""

    name: str = "numpy"
    device: str = "cpu"
    dtype: str = "float64"


_DEFAULT = Backend()
_current: contextvars.ContextVar[Backend] = contextvars.ContextVar(
    "prefsim_backend", default=_DEFAULT
)


def current_backend() -> Backend:
    """Return the backend in force in this context."""
    return _current.get()


@contextlib.contextmanager
def use_backend(name: str, *, device: str = "cpu", dtype: str = "float64") -> Iterator[Backend]:
    """Make the constructors produce arrays of another library inside a ``with`` block.

    Parameters
    ----------
    name
        ``"numpy"`` or ``"torch"``.
    device
        A torch device such as ``"cpu"`` or ``"cuda:1"``; NumPy knows ``"cpu"`` alone.
    dtype
        ``"float64"`` or ``"float32"``; with torch also ``"bfloat16"``.

    Raises
    ------
    ValueError
        If the library, device or dtype is unknown or not available.

    Examples
    --------
    >>> with use_backend("torch", dtype="float32"):
    ...     asarray([1.0, 2.0])
    tensor([1., 2.])
    """
    check_choice(("numpy", "torch"), backend=name)
    check_choice(
        ("float64", "float32") if name == "numpy" else ("float64", "float32", "bfloat16"),
        dtype=dtype,
    )
    if name == "numpy":
        if device != "cpu":
            raise ValueError(
                f"device must be 'cpu' for the backend numpy, got {device!r}: give torch"
            )
    else:
        import torch

        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"device must be one that torch can use here, got {device!r}: {error}"
            ) from error
    token = _current.set(Backend(name, device, dtype))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def asarray(value: Any) -> Array:
    """Return ``value`` as a floating array of the current backend.

    A torch tensor keeps its graph.
    """
    backend = _current.get()
    if backend.name == "numpy":
        return np.asarray(to_numpy(value), dtype=backend.dtype)
    import torch

    return as_tensor(value, dtype=getattr(torch, backend.dtype), device=backend.device)


def on_backend(given: Any, checked: np.ndarray, name: str) -> Array:
    """Return ``checked``, which was made of ``given``, as a floating array of the current backend.

    A torch tensor keeps its graph, so that what is made of it can be differentiated.

    Raises
    ------
    ValueError
        If it has one and the backend is NumPy, which would lose it.
    """
    if not is_torch_array(given):
        return asarray(checked)
    if _current.get().name == "numpy":
        check_constant(given, name)
    return asarray(given)


def index_array(value: Any) -> Array:
    """Return ``value`` as an int64 array of the current backend."""
    backend = _current.get()
    if backend.name == "numpy":
        return np.asarray(to_numpy(value), dtype=np.int64)
    import torch

    return as_tensor(value, dtype=torch.int64, device=backend.device)


def random_generator(seed: Seed) -> np.random.Generator:
    """Return the NumPy generator of ``seed``.

    A generator passes through, so that draws continue its stream.

    Raises
    ------
    ValueError
        If ``seed`` is neither an integer >= 0 nor a generator.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0 or a numpy.random.Generator, got {seed!r}")
    return np.random.default_rng(int(seed))
