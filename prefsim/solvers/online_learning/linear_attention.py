r"""One layer of linear attention as an online learner: parameters in, decisions out.

The tokens are the losses of the rounds before, the query is one constant token:

.. math:: \pi_{t+1} = \sum_{i \le t} (V\ell_i + v)\,\langle K\ell_i + \kappa, q\rangle
"""

from __future__ import annotations

from typing import NamedTuple, cast

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    as_floats,
    check_choice,
    check_integer,
    check_kind,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace, softmax
from prefsim.solvers.online_learning.ftrl import project_to_ball
from prefsim.typing import Array, ArrayT

OUTPUTS = ("plain", "ball", "softmax")

__all__ = ["OUTPUTS", "LinearAttention", "attention_decisions", "cumulative_before"]


class LinearAttention(NamedTuple):
    """Parameters of a layer for losses of d coordinates.

    Attributes
    ----------
    value, key
        V and K, ``(..., d, d)``.
    value_bias, key_bias, query
        v, κ and q, ``(..., d)``.
    """

    value: Array
    value_bias: Array
    key: Array
    key_bias: Array
    query: Array

    @classmethod
    def random(cls, size: int, *, seed: Seed, scale: float = 0.5) -> LinearAttention:
        """Return normal parameters for losses of ``size`` coordinates, of deviation ``scale``."""
        check_integer(low=1, size=size)
        check_positive(scale=scale)
        rng = random_generator(seed)
        square, row = (size, size), (size,)
        return cls(*(scale * rng.standard_normal(s) for s in (square, row, square, row, row)))

    @classmethod
    def of_leader(cls, matrix: Array) -> LinearAttention:
        """Return the layer that plays ``matrix`` times the cumulative loss."""
        (matrix,) = as_floats(matrix=matrix)
        check_shape(matrix, "matrix", (matrix.shape[-1], matrix.shape[-1]))
        xp = array_namespace(matrix)
        zero = xp.zeros_like(matrix[..., 0])
        # One entry of the bias, which the query reads.
        first = xp.arange(zero.shape[-1], dtype=xp.int64, device=matrix.device) == 0
        one = xp.where(first, xp.ones_like(zero), zero)
        return cls(matrix, zero, xp.zeros_like(matrix), one, one)


def cumulative_before(losses: ArrayT) -> ArrayT:
    r"""Return :math:`L_{t-1} = \sum_{i < t}\ell_i` for every round, ``(..., T, d)``.

    What a learner knows when it decides at round t; zero at the first.

    Examples
    --------
    >>> import numpy as np
    >>> cumulative_before(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]))
    array([[0., 0.],
           [1., 0.],
           [1., 2.]])
    """
    (losses,) = as_floats(losses=losses)
    check_shape(losses, "losses", (None, None))
    xp = array_namespace(losses)
    # Shifted, not subtracted: what is seen later is in no digit of it.
    return xp.concat(
        [xp.zeros_like(losses[..., :1, :]), xp.cumulative_sum(losses[..., :-1, :], axis=-2)],
        axis=-2,
    )


def attention_decisions(
    layer: LinearAttention, losses: ArrayT, *, output: str = "plain", radius: float = 1.0
) -> ArrayT:
    r"""Return the decisions of a layer at every round of sequences, ``(..., T, d)``.

    Parameters
    ----------
    layer
        The parameters; their leading axes broadcast against those of the sequences.
    losses
        ``(..., T, d)``; the decision of a round sees those before it.
    output
        What is done with the sum: nothing (``"plain"``, whose decisions may be of any length), the
        projection onto the ``"ball"``, or the ``"softmax"`` of its entries. The first decision is
        that of an empty sum: zero, or uniform.
    radius
        Of the ball, > 0.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN, or the output is unknown.

    References
    ----------
    Park et al. 2024, single-layer linear self-attention, arXiv:2403.16843.

    Examples
    --------
    >>> import numpy as np
    >>> layer = LinearAttention.of_leader(-0.5 * np.eye(2))
    >>> attention_decisions(layer, np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])) + 0.0
    array([[ 0. ,  0. ],
           [-0.5,  0. ],
           [-0.5, -1. ]])
    """
    check_choice(OUTPUTS, output=output)
    check_positive(radius=radius)
    check_kind(LinearAttention, layer=layer)
    named = {f"layer.{name}": part for name, part in layer._asdict().items()}
    *parts, losses = as_floats(**named, losses=losses)
    layer = LinearAttention(*parts)
    d = layer.query.shape[-1] if layer.query.ndim else 1
    for name, part in zip(named, layer, strict=True):
        check_shape(part, name, (d, d) if name in ("layer.value", "layer.key") else (d,))
    check_shape(losses, "losses", (None, d))
    xp = array_namespace(losses)
    values = losses @ xp.matrix_transpose(layer.value) + layer.value_bias[..., None, :]
    keys = losses @ xp.matrix_transpose(layer.key) + layer.key_bias[..., None, :]
    scores = keys @ layer.query[..., None]
    found = cumulative_before(values * scores)
    if output == "plain":
        return cast(ArrayT, found)
    return project_to_ball(found, radius=radius) if output == "ball" else softmax(found)
