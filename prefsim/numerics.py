"""Stable elementary functions, written once against the array-API standard.

Everything that the losses and solvers share lives here: log-space primitives, entropies and
gathers. The same lines run on NumPy, on torch (with autograd, on any device) and on
``array_api_strict``; a fused torch kernel is taken where one exists and has the same value and
gradient.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import numpy as np
from array_api_compat import array_namespace as _namespace_of
from array_api_compat import is_torch_array

from prefsim import _numpy_kernels
from prefsim.typing import Array, ArrayT

__all__ = [
    "array_namespace",
    "as_tensor",
    "bounded_exp",
    "categorical_entropy",
    "categorical_kl",
    "gather",
    "gather_places",
    "host_values",
    "is_traced",
    "like",
    "log1mexp",
    "log_odds",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "normal_cdf",
    "normal_log_cdf",
    "over_rows",
    "row_sums",
    "sigmoid",
    "softmax",
    "softplus",
    "sort",
    "stop_gradient",
    "to_numpy",
    "widened",
    "xlogy",
]


@functools.cache
def _numpy() -> Any:
    """Return NumPy by the standard; importing that takes as long as NumPy, and waits for arrays."""
    return _namespace_of(np.empty(0))


def array_namespace(*arrays: Any) -> Any:
    """Return the library of arrays, with the functions of the array-API standard.

    Raises
    ------
    TypeError
        If they are of several libraries, or of none.
    """
    # In loops over small arrays to ask in general costs more than what is then computed.
    if len(arrays) == 1 and type(arrays[0]) is np.ndarray:
        return _numpy()
    return _namespace_of(*arrays)


def stop_gradient(x: ArrayT) -> ArrayT:
    """Return ``x`` as a constant of differentiation (a no-op outside torch)."""
    constant: Any = x.detach() if is_torch_array(x) else x
    return constant


def _torch() -> Any:
    """Return torch, imported only where a tensor has come in."""
    import torch

    return torch


def _kernels() -> Any:
    """Return our own nodes of torch's graph; with them torch is imported."""
    from prefsim import _torch_kernels

    return _torch_kernels


def log_sigmoid(x: ArrayT) -> ArrayT:
    r"""Return :math:`\log\sigma(x)`, without overflow for any finite ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> log_sigmoid(np.asarray([0.0, -1e4]))
    array([-6.93147181e-01, -1.00000000e+04])
    """
    if is_torch_array(x):
        return _torch().nn.functional.logsigmoid(x)
    return -softplus(-x)


def softplus(x: ArrayT) -> ArrayT:
    r"""Return :math:`\log(1 + e^x)`, without overflow for any finite ``x``."""
    if is_torch_array(x):
        return -_torch().nn.functional.logsigmoid(-x)
    xp = array_namespace(x)
    positive_part = xp.where(x > 0, x, xp.zeros_like(x))
    return positive_part + xp.log1p(xp.exp(-xp.abs(x)))


def sigmoid(x: ArrayT) -> ArrayT:
    r"""Return the logistic function :math:`\sigma(x)`, accurate in both tails."""
    if is_torch_array(x):
        return _torch().sigmoid(x)
    xp = array_namespace(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def widened(x: ArrayT) -> ArrayT:
    """Return ``x`` in at least float32.

    Half-precision inputs are summed and exponentiated in single precision.
    """
    xp = array_namespace(x)
    return xp.astype(x, xp.float32) if xp.finfo(x.dtype).bits < 32 else x


def logsumexp(x: ArrayT, *, axis: int | tuple[int, ...] = -1, keepdims: bool = False) -> ArrayT:
    """Return ``log(sum(exp(x)))`` along ``axis``; entries of ``-inf`` carry no mass."""
    if is_torch_array(x):
        return _torch().logsumexp(x, dim=axis, keepdim=keepdims)
    if isinstance(x, np.ndarray):
        total: Any = np.asarray(_numpy_kernels.logsumexp(x, axis, keepdims))
        return total
    xp = array_namespace(x)
    peak = xp.max(x, axis=axis, keepdims=True)
    peak = xp.where(xp.isfinite(peak), peak, xp.zeros_like(peak))
    total = xp.sum(xp.exp(x - peak), axis=axis, keepdims=True)
    # Asked as == 0 so that a NaN total stays NaN.
    safe = xp.where(total == 0, xp.ones_like(total), total)
    result = xp.where(total == 0, xp.full_like(total, -math.inf), xp.log(safe) + peak)
    return result if keepdims else xp.squeeze(result, axis=axis)


def log_softmax(x: ArrayT, *, axis: int = -1) -> ArrayT:
    """Return ``x - logsumexp(x)`` along ``axis``: normalised log-probabilities in nats."""
    if is_torch_array(x):
        return _torch().log_softmax(x, dim=axis)
    if isinstance(x, np.ndarray):
        rows: Any = x - _numpy_kernels.logsumexp(x, axis, x.ndim != 1)
        return rows
    return x - logsumexp(x, axis=axis, keepdims=True)


def softmax(x: ArrayT, *, axis: int = -1) -> ArrayT:
    """Return the probabilities of the logits ``x`` along ``axis``."""
    xp = array_namespace(x)
    return xp.exp(log_softmax(x, axis=axis))


def log1mexp(x: ArrayT) -> ArrayT:
    r"""Return :math:`\log(1 - e^x)` for ``x < 0`` (``-inf`` at 0), accurate at both ends.

    References
    ----------
    Maechler 2012, "Accurately computing ``log(1 - exp(-|a|))``", eq. 7: the branch switches at
    ``-log 2``.
    """
    if is_torch_array(x):
        return _kernels().log1mexp(x)
    xp = array_namespace(x)
    near_zero = x > -math.log(2.0)
    # Each branch sees only arguments it is accurate for, so no infinite value leaks into a
    # gradient.
    for_expm1 = xp.where(near_zero, x, xp.full_like(x, -1.0))
    for_exp = xp.where(near_zero, xp.full_like(x, -1.0), x)
    return xp.where(near_zero, xp.log(-xp.expm1(for_expm1)), xp.log1p(-xp.exp(for_exp)))


def log_odds(logp: ArrayT) -> ArrayT:
    r"""Return :math:`\log\frac{p}{1-p}` from ``logp = log p``.

    Probabilities within one rounding of 1 count as that far from it.
    """
    xp = array_namespace(logp)
    nearest = -float(xp.finfo(logp.dtype).eps)
    if is_torch_array(logp):
        return _kernels().log_odds(logp, nearest)
    logp = xp.clip(logp, None, nearest)
    # One branch of log1mexp is enough: beside logp its absolute error, one rounding of 1, is what
    # counts.
    return logp - xp.log(-xp.expm1(logp))


def bounded_exp(x: ArrayT) -> ArrayT:
    """Return ``exp(x)``, continued by its tangent where it would overflow the dtype.

    Exact up to an exponent of ``log(max) - 16`` (694 in float64, 73 in float32 and bfloat16);
    beyond, the tangent keeps value and gradient finite and the order of arguments intact.
    """
    xp = array_namespace(x)
    largest = math.log(xp.finfo(x.dtype).max)
    cap = max(largest - 16.0, 0.5 * largest)
    if is_torch_array(x):
        return _kernels().bounded_exp(x, cap)
    return xp.exp(xp.clip(x, None, cap)) * (1.0 + xp.clip(x - cap, 0.0, None))


def xlogy(x: ArrayT, y: Array) -> ArrayT:
    """Return ``x * log(y)`` with ``0 * log(0) = 0``, also in the gradient."""
    xp = array_namespace(x, y)
    x, y = xp.broadcast_arrays(x, y)
    safe = xp.where(x == 0, xp.ones_like(y), y)
    return x * xp.log(safe)


def categorical_entropy(logp: ArrayT, *, axis: int = -1) -> ArrayT:
    r"""Return :math:`-\sum_y p_y \log p_y` in nats from log-probabilities."""
    xp = array_namespace(logp)
    safe = xp.where(xp.isfinite(logp), logp, xp.zeros_like(logp))
    return -xp.sum(xp.exp(logp) * safe, axis=axis)


def categorical_kl(logp: ArrayT, logq: Array, *, axis: int = -1) -> ArrayT:
    r"""Return :math:`\sum_y p_y (\log p_y - \log q_y)` in nats.

    ``inf`` where q misses mass of p, never NaN.
    """
    xp = array_namespace(logp, logq)
    logp, logq = xp.broadcast_arrays(logp, logq)
    # Asked as != so that a NaN stays one.
    supported = logp != -math.inf
    covered = supported & (logq != -math.inf)
    log_ratio = xp.where(covered, logp, xp.zeros_like(logp)) - xp.where(
        covered, logq, xp.zeros_like(logq)
    )
    terms = xp.where(supported & ~covered, xp.full_like(logp, math.inf), xp.exp(logp) * log_ratio)
    return xp.sum(terms, axis=axis)


def normal_cdf(x: ArrayT) -> ArrayT:
    r"""Return :math:`\Phi(x)` of the standard normal, several times as fast as its logarithm."""
    if is_torch_array(x):
        wide = x.float() if x.element_size() < 4 else x
        return _torch().special.ndtr(wide).to(x.dtype)
    from scipy.special import ndtr

    xp = array_namespace(x)
    return xp.asarray(ndtr(np.asarray(x)), dtype=x.dtype)


def normal_log_cdf(x: ArrayT) -> ArrayT:
    r"""Return :math:`\log\Phi(x)` of the standard normal, accurate in the lower tail."""
    if is_torch_array(x):
        # torch has no such kernel in half precision.
        wide = x.float() if x.element_size() < 4 else x
        return _torch().special.log_ndtr(wide).to(x.dtype)
    from scipy.special import log_ndtr

    xp = array_namespace(x)
    return xp.asarray(log_ndtr(np.asarray(x)), dtype=x.dtype)


def gather(table: ArrayT, row: Array, column: Array) -> ArrayT:
    """Return ``table[..., row, column]`` for integer arrays of rows and columns.

    Parameters
    ----------
    table
        ``(*batch, R, C)``.
    row, column
        Integer arrays of one common shape. With an unbatched table any shape is taken; with a
        batched one either ``(n,)``, shared by the whole batch, or ``(*batch, ...)``, one set of
        indices for each member.

    Returns
    -------
    Array of the indices' shape, or ``(*batch, n)`` for shared indices.

    Raises
    ------
    ValueError
        If the indices fit neither form.
    """
    return gather_places(table, row * table.shape[-1] + column)


def gather_places(table: ArrayT, index: Array) -> ArrayT:
    """Return entries of a table ``(*batch, R, C)`` at the places ``row * C + column``.

    See :func:`gather`.
    """
    xp = array_namespace(table)
    batch = tuple(table.shape[:-2])
    flat = xp.reshape(table, (*batch, -1))
    if not batch:
        return xp.reshape(xp.take(flat, xp.reshape(index, (-1,)), axis=-1), tuple(index.shape))
    if index.ndim == 1:
        return xp.take(flat, index, axis=-1)
    if tuple(index.shape[: len(batch)]) != batch:
        raise ValueError(
            f"indices have shape {tuple(index.shape)}; expected (n,) or {batch} followed by any"
            " axes"
        )
    picked = xp.take_along_axis(flat, xp.reshape(index, (*batch, -1)), axis=-1)
    return xp.reshape(picked, tuple(index.shape))


def sort(x: ArrayT) -> ArrayT:
    """Return ``x`` in ascending order along the last axis.

    Its gradient goes back to where each value came from.
    """
    tensor: Any = x
    values = host_values(x) if is_torch_array(x) else None
    if values is None:
        return array_namespace(x).sort(x, axis=-1)
    torch, kernels = _torch(), _kernels()
    # On the host NumPy sorts many times faster than torch, and what needs no gradient needs no
    # permutation.
    if not (torch.is_grad_enabled() and tensor.requires_grad):
        return torch.from_numpy(np.sort(values, axis=-1)).to(x.dtype)
    return kernels.in_order(tensor, torch.from_numpy(kernels.ascending_order(values)))


def host_values(array: Array) -> np.ndarray | None:
    """Return the values as NumPy, or None where that would wait for a device or break a trace."""
    if not is_torch_array(array):
        return to_numpy(array)
    if array.device.type != "cpu" or is_traced():
        return None
    try:
        return to_numpy(array)
    except RuntimeError:  # inside a function transform such as vmap there are no values yet
        return None


def is_traced() -> bool:
    """Return whether a compiler traces what runs: then there are no values to look at."""
    return "torch" in sys.modules and bool(_torch().compiler.is_compiling())


def like(value: Any, other: Array, *, integer: bool = False) -> Array:
    """Return ``value`` in the library and on the device of ``other``.

    In int64 if ``integer``, else in the dtype of ``other``.
    """
    if is_torch_array(other):
        dtype = _torch().int64 if integer else other.dtype
        return as_tensor(value, dtype=dtype, device=other.device)
    xp = array_namespace(other)
    return xp.asarray(
        to_numpy(value) if is_torch_array(value) else value,
        dtype=xp.int64 if integer else other.dtype,
    )


def as_tensor(value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """Return ``value`` as a tensor, which shares its memory where torch can."""
    # It takes none that runs backwards, and warns of what is not to be written to.
    if isinstance(value, np.ndarray) and not (
        value.flags.writeable and all(stride >= 0 for stride in value.strides)
    ):
        value = value.copy()
    return _torch().as_tensor(value, dtype=dtype, device=device)


def row_sums(x: ArrayT) -> ArrayT:
    """Return the sums over the last axis, which stays, of length one."""
    if type(x) is np.ndarray:
        sums: Any = np.add.reduce(x, axis=-1, keepdims=True)
        return sums
    return array_namespace(x).sum(x, axis=-1, keepdims=True)


def over_rows(value: Any) -> Any:
    """Return a number as it is, and an array with a further last axis.

    What is one number a row then broadcasts against the entries of the rows.
    """
    return value[..., None] if getattr(value, "ndim", 0) else value


def to_numpy(value: Any) -> np.ndarray:
    """Return any array as a NumPy array on the host, detached from autograd.

    bfloat16 becomes float32. A masked array keeps its mask, so that a check can refuse it.
    """
    if is_torch_array(value):
        on_host = value.detach().cpu()
        # NumPy has no bfloat16.
        return (on_host.float() if on_host.dtype == _torch().bfloat16 else on_host).numpy()
    return value if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
