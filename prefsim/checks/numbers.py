"""What is read as numbers: real ones alone, in floating point, of one library.

Text, bytes, dates, objects, complex and masked arrays hold no numbers here: what would be read into
them is a guess. Integers and booleans become floating point, so that no difference wraps round and
no probability is cut to 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj, is_torch_array

from prefsim.checks.values import check_entries, check_no_nan
from prefsim.numerics import array_namespace, like

__all__ = [
    "NUMBERS",
    "alike",
    "as_array",
    "as_floats",
    "as_one_library",
    "as_signed",
    "in_floats",
    "is_array",
    "is_floating",
    "is_plain_float",
]


def is_array(value: Any) -> bool:
    """Return whether a value is an array of some library with at least one axis."""
    return hasattr(value, "dtype") and bool(getattr(value, "shape", ()))


NUMBERS = ("real floating", "integral", "bool")


def as_array(value: Any, name: str, *kinds: str, empty: bool = False) -> Any:
    """Return a value as an array of its own library, of NumPy for lists and numbers, or raise.

    Parameters
    ----------
    value
        An array, a number, or nested sequences of numbers.
    name
        Of the argument.
    kinds
        Which entries are taken: some of ``"bool"``, ``"integral"`` and ``"real floating"``.
    empty
        Whether an array without an entry may be of any kind.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"{name} must hold {_words(kinds)}, got a masked array: say by its method filled what"
            " stands behind the mask"
        )
    # Another library's array is asked in the words of its own.
    if is_array_api_obj(value) and not isinstance(value, np.generic):
        array = value
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ValueError(
                f"{name} must be an array of {_words(kinds)} of one rectangular shape, got"
                f" {type(value).__name__}"
            ) from error
    if isinstance(array, np.ndarray):
        array = _plain(array)
        fits = array.dtype.kind in "".join(_NUMPY_KINDS[kind] for kind in kinds)
    else:
        fits = array_namespace(array).isdtype(array.dtype, kinds)
    if fits or (empty and 0 in array.shape):
        return array
    if "real floating" in kinds:
        raise ValueError(
            f"{name} must be an array of numbers of one rectangular shape, got"
            f" {_described(value, array)}"
        )
    raise ValueError(f"{name} must hold {_words(kinds)}, got {_described(value, array)}")


def _plain(array: np.ndarray) -> np.ndarray:
    """Return numbers in the byte order of the machine, and of double precision at most."""
    if array.dtype.kind == "f" and not is_plain_float(array):
        return array.astype(
            np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def is_plain_float(array: np.ndarray) -> bool:
    """Return whether an array holds floating-point numbers that all libraries calculate with.

    NumPy's clipping takes no foreign byte order, and linear algebra and SciPy no long doubles.
    """
    dtype = array.dtype
    return dtype.kind == "f" and dtype.isnative and dtype.itemsize <= 8


_NUMPY_KINDS = {"bool": "b", "integral": "iu", "real floating": "f"}


def _words(kinds: tuple[str, ...]) -> str:
    if "real floating" in kinds:
        return "numbers"
    return "integers" if "integral" in kinds else "booleans"


def _described(value: Any, array: Any) -> str:
    """Return what was given: its dtype, or its type where NumPy has none for it."""
    unknown = not hasattr(value, "dtype") and (array.ndim == 0 or array.dtype == object)
    if value is None:
        return "None"
    return type(value).__name__ if unknown else f"dtype {array.dtype}"


def as_floats(
    *, nan: bool = False, optional: tuple[str, ...] = (), **named: Any
) -> tuple[Any, ...]:
    """Return real arrays in floating point, all of one library, or raise.

    Parameters
    ----------
    nan
        Whether NaN may stay.
    optional
        Names of the arguments that may be None, which they then stay.
    **named
        Arrays, numbers or nested sequences by the names of the arguments. Where one of them is a
        torch tensor, the others follow it, to its device and in its dtype. Tensors keep their
        graph.

    Examples
    --------
    >>> as_floats(low=[0, 1], high=None, optional=("high",))
    (array([0., 1.]), None)
    """
    arrays = {
        name: None if value is None and name in optional else _floating(value, name)
        for name, value in named.items()
    }
    arrays = _numbers_follow(as_one_library(arrays), named)
    if not nan:
        for name, array in arrays.items():
            if array is not None:
                check_no_nan(array, name)
    return tuple(arrays.values())


def alike(*, optional: tuple[str, ...] = (), **named: Any) -> tuple[Any, ...]:
    """Return floating arrays of one library as they are, anything else as such, or raise.

    For what runs in loops: entries are not looked at, and what is fine costs no more than to see
    it. ``optional`` names the arguments that may be None.
    """
    for name, each in named.items():
        if type(each) is np.ndarray:
            if not is_plain_float(each):
                break
        elif each is not None or name not in optional:
            break
    else:
        return tuple(named.values())
    given = [each for name, each in named.items() if each is not None or name not in optional]
    if all(map(is_torch_array, given)) and all(map(is_floating, given)):
        return tuple(named.values())
    return as_floats(nan=True, optional=optional, **named)


def _floating(value: Any, name: str) -> Any:
    return in_floats(as_array(value, name, *NUMBERS))


def _numbers_follow(arrays: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """Return arrays of which Python's numbers have the precision of the others."""
    numbers = {name for name, value in named.items() if isinstance(value, int | float)}
    dtype = next(
        (a.dtype for name, a in arrays.items() if a is not None and name not in numbers), None
    )
    if dtype is None or not numbers:
        return arrays
    return {
        name: array_namespace(array).astype(array, dtype) if name in numbers else array
        for name, array in arrays.items()
    }


def in_floats(array: Any, dtype: Any = None) -> Any:
    """Return a real array in floating point: as it is, or in a dtype.

    Integers without a dtype become double precision, and torch's what torch makes of numbers.
    """
    xp = array_namespace(array)
    if xp.isdtype(array.dtype, "real floating"):
        return array
    if dtype is None:
        # The default dtype of torch is the caller's choice.
        dtype = (1.0 * array).dtype if is_torch_array(array) else xp.float64
    return xp.astype(array, dtype)


def as_signed(array: Any, name: str) -> Any:
    """Return integers in a signed type, int64 for those without a sign, or raise."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind == "i":
            return array
        check_entries(array, name, "be below 2**63", lambda x: x <= np.iinfo(np.int64).max)
        return array.astype(np.int64)
    return array_namespace(array).astype(array, array_namespace(array).int64, copy=False)


def as_one_library(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return arrays of which NumPy's follow those of another library, if there are any."""
    others = [array for array in arrays.values() if not isinstance(array, _OF_NUMPY)]
    if not others:
        return arrays
    leader = next((array for array in others if is_floating(array)), others[0])
    tensors = [array for array in others if is_torch_array(array)]
    # A tensor without axes goes to any device.
    devices = {str(tensor.device) for tensor in tensors if tensor.ndim}
    if len(devices) > 1:
        raise ValueError(
            f"{', '.join(arrays)} must be on one device, got {' and '.join(sorted(devices))}"
        )
    return {
        name: _beside(array, leader) if isinstance(array, np.ndarray) else array
        for name, array in arrays.items()
    }


_OF_NUMPY = (np.ndarray, np.generic, type(None))


def is_floating(array: Any) -> bool:
    """Return whether an array holds real numbers in floating point."""
    return bool(array_namespace(array).isdtype(array.dtype, "real floating"))


def _beside(array: np.ndarray, leader: Any) -> Any:
    """Return a NumPy array in the library and on the device of another; numbers in its dtype."""
    xp = array_namespace(leader)
    if array.dtype.kind == "f":
        # Beside integers the precision is the array's own to say.
        return like(array, leader if is_floating(leader) else xp.astype(leader, xp.float64))
    moved = like(array, leader, integer=True)
    return xp.astype(moved, xp.bool) if array.dtype.kind == "b" else moved
