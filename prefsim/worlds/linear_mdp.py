"""Linear decision processes in layers: features mix the laws of the next state and the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, asarray, on_backend, random_generator, to_numpy
from prefsim.checks import (
    as_float_array,
    as_index_array,
    as_probabilities,
    check_entries,
    check_integer,
    check_positive,
    check_shape,
    names_shapes,
    widened_probabilities,
)
from prefsim.numerics import array_namespace, like
from prefsim.typing import Array
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.transitions import draw_successors

__all__ = ["LinearMDP"]


@readable
@dataclass(frozen=True, init=False, eq=False)
class LinearMDP:
    r"""A process of H decisions in which everything is linear in known features.

    The next state has the law :math:`P_h(s' \mid s, a) = \sum_i \phi_{h,i}(s, a)\,\mu_{h,i}(s')`
    and losses are :math:`\ell_h(s, a) = \phi_h(s, a) \cdot \theta_h`, so that the action values of
    every policy are linear in the features of their layer.

    Parameters
    ----------
    features
        φ, ``(*batch, H, S, A, d)``: weights of a mixture, >= 0 with sum 1; no longer than 1.
    measures
        μ, ``(*batch, H - 1, d, S)``: the d laws of the next state that are mixed.
    start_probs
        ``(S,)`` or ``(*batch, S)``; the first state unless given.

    Attributes
    ----------
    transitions
        ``(*batch, H - 1, S, A, S)``, from each layer to the next.

    Raises
    ------
    ValueError
        If a shape does not fit, an entry is not finite, or a row is no distribution.

    Examples
    --------
    >>> features = [[[[1.0, 0.0], [0.5, 0.5]]], [[[0.0, 1.0], [1.0, 0.0]]]]
    >>> world = LinearMDP(features, measures=[[[1.0], [1.0]]])
    >>> world.n_layers, world.n_states, world.n_actions, world.dim
    (2, 1, 2, 2)
    >>> world.losses([[0.2, 0.6], [0.0, 1.0]])
    array([[[0.2, 0.4]],
    <BLANKLINE>
           [[1. , 0. ]]])
    """

    features: Array
    measures: Array
    start_probs: Array
    transitions: Array

    def __init__(self, features: Any, measures: Any, *, start_probs: Any = None) -> None:
        mixed = as_probabilities(features, "features", min_ndim=4, graph=True)
        layers, states, _, dim = mixed.shape[-4:]
        laws = as_probabilities(measures, "measures", min_ndim=3, graph=True)
        check_shape(laws, "measures", (layers - 1, dim, states))
        given = np.eye(states)[0] if start_probs is None else start_probs
        start = as_probabilities(given, "start_probs", graph=True)
        check_shape(start, "start_probs", (states,))
        batches = (mixed.shape[:-4], laws.shape[:-3], start.shape[:-1])
        try:
            np.broadcast_shapes(*batches)
        except ValueError as error:
            raise ValueError(
                f"batch axes of features, measures and start_probs must agree, got {batches}"
            ) from error
        phi, mu, first = (
            widened_probabilities(on_backend(value, table, name), value)
            for value, table, name in (
                (features, mixed, "features"),
                (measures, laws, "measures"),
                (given, start, "start_probs"),
            )
        )
        moves = array_namespace(phi).matmul(phi[..., :-1, :, :, :], mu[..., None, :, :])
        set_fields(self, features=phi, measures=mu, start_probs=first, transitions=moves)

    @property
    def n_layers(self) -> int:
        """Number of decisions H."""
        return int(self.features.shape[-4])

    @property
    def n_states(self) -> int:
        """Number of states of a layer, S."""
        return int(self.features.shape[-3])

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return int(self.features.shape[-2])

    @property
    def dim(self) -> int:
        """Number of features d."""
        return int(self.features.shape[-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: independent processes."""
        return tuple(
            np.broadcast_shapes(
                tuple(self.transitions.shape[:-4]), tuple(self.start_probs.shape[:-1])
            )
        )

    @property
    def pair_features(self) -> Array:
        """The features ``(*batch, H, S * A, d)`` of the pairs of a layer, actions fastest."""
        xp = array_namespace(self.features)
        pairs = self.n_states * self.n_actions
        return xp.reshape(self.features, (*self.features.shape[:-3], pairs, self.dim))

    @names_shapes
    def losses(self, weights: Any) -> Array:
        r"""Return the losses :math:`\phi_h(s, a) \cdot \theta_h`, ``(*more, *batch, H, S, A)``.

        Parameters
        ----------
        weights
            θ, ``(*more, *batch, H, d)``.

        Raises
        ------
        ValueError
            If a loss lies outside [0, 1].
        """
        theta = as_float_array(weights, "weights", min_ndim=2, graph=True)
        check_shape(theta, "weights", (self.n_layers, self.dim))
        xp = array_namespace(self.features)
        column = like(weights, self.features)[..., None, :, None]
        found = xp.matmul(self.features, column)[..., 0]
        check_entries(found, "losses", "lie in [0, 1]", lambda loss: (loss >= 0) & (loss <= 1))
        return found

    def sample_next(self, layer: int, state: Any, action: Any, *, seed: Seed) -> np.ndarray:
        """Draw the next state of pairs of one layer of one unbatched process: a simulator.

        Integers of the indices' shape.

        Raises
        ------
        ValueError
            If the process is a batch, the layer has none after it, or an index is out of range.
        """
        if self.batch_shape:
            raise ValueError(f"sample_next needs one process, got batch shape {self.batch_shape}")
        check_integer(low=0, high=self.n_layers - 2, layer=layer)
        s = as_index_array(state, "state", size=self.n_states)
        a = as_index_array(action, "action", size=self.n_actions)
        return draw_successors(self.transitions[layer], s, a, seed=seed)

    @names_shapes
    def to_mdp(self, losses: Any) -> TabularMDP:
        """Return the process as one table: state ``h * S + s``, and last the end of the episode.

        Its rewards are the losses, negated. It has the horizon H, and time tells the layer.

        Parameters
        ----------
        losses
            ``(*more, *batch, H, S, A)``, of any size.
        """
        table = as_float_array(losses, "losses", min_ndim=3)
        layers, states, actions = self.n_layers, self.n_states, self.n_actions
        check_shape(table, "losses", (layers, states, actions))
        moves, start = to_numpy(self.transitions), to_numpy(self.start_probs)
        size = layers * states + 1
        whole = np.zeros((*moves.shape[:-4], size, actions, size))
        for h in range(layers - 1):
            rows = slice(h * states, (h + 1) * states)
            after = slice((h + 1) * states, (h + 2) * states)
            whole[..., rows, :, after] = moves[..., h, :, :, :]
        whole[..., (layers - 1) * states :, :, -1] = 1.0
        reward = np.zeros((*table.shape[:-3], size, actions))
        reward[..., :-1, :] = -table.reshape(*table.shape[:-3], layers * states, actions)
        first = np.zeros((*start.shape[:-1], size))
        first[..., :states] = start
        return TabularMDP(
            whole,
            reward,
            discount=1.0,
            horizon=layers,
            start_probs=first,
            terminal=np.arange(size) == size - 1,
        )

    @classmethod
    def tabular(cls, transitions: Any, *, start_probs: Any = None) -> Self:
        """Return the process whose features tell every pair of a layer from every other.

        Parameters
        ----------
        transitions
            ``(*batch, H - 1, S, A, S)``.
        start_probs
            As in the constructor.
        """
        moves = as_probabilities(transitions, "transitions", min_ndim=4)
        layers, states, actions = moves.shape[-4] + 1, *moves.shape[-3:-1]
        check_shape(moves, "transitions", (states,))
        pairs = states * actions
        each = np.eye(pairs).reshape(states, actions, pairs)
        return cls(
            np.broadcast_to(each, (layers, *each.shape)),
            moves.reshape(*moves.shape[:-3], pairs, states),
            start_probs=start_probs,
        )

    @classmethod
    def random(
        cls,
        n_layers: int,
        n_states: int,
        n_actions: int,
        dim: int,
        *,
        seed: Seed,
        concentration: float = 0.5,
        batch_shape: tuple[int, ...] = (),
    ) -> Self:
        """Draw a process: features from a symmetric Dirichlet, laws uniform on the simplex."""
        check_integer(low=1, n_layers=n_layers, n_states=n_states, n_actions=n_actions, dim=dim)
        check_positive(concentration=concentration)
        rng = random_generator(seed)
        shape = (*batch_shape, n_layers, n_states, n_actions)
        features = rng.dirichlet(np.full(dim, concentration), shape)
        measures = rng.dirichlet(np.ones(n_states), (*batch_shape, n_layers - 1, dim))
        return cls(asarray(features), asarray(measures))
