"""The token-tree policy: a softmax over the next token at every prefix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, asarray, like, random_generator, to_numpy
from prefsim.checks import as_probabilities, check_constant, check_kind, check_number, check_shape
from prefsim.numerics import array_namespace, log_softmax
from prefsim.policies.base import InMemoryPolicy, as_parameters
from prefsim.typing import Array
from prefsim.worlds.tokens import TokenTree

__all__ = ["TokenTreePolicy"]


@readable
@dataclass(frozen=True, eq=False)
class TokenTreePolicy(InMemoryPolicy):
    """An autoregressive policy over the sequences of a :class:`~prefsim.worlds.TokenTree`.

    Parameters
    ----------
    tree
        The world.
    logits
        ``(*batch, X, nodes, V)``, in nats.

    Examples
    --------
    >>> tree = TokenTree(2, 2, end_token=1)
    >>> TokenTreePolicy.uniform(tree).probs
    array([[0.25, 0.25, 0.5 ]])
    """

    tree: TokenTree
    logits: Array

    def __post_init__(self) -> None:
        check_kind(TokenTree, tree=self.tree)
        set_fields(self, logits=as_parameters(self.logits, "logits"))
        check_shape(self.logits, "logits", (None, self.tree.n_nodes, self.tree.vocabulary_size))

    @classmethod
    def uniform(cls, tree: TokenTree) -> Self:
        """Return the policy that draws every next token uniformly."""
        check_kind(TokenTree, tree=tree)
        return cls(tree, asarray(np.zeros((tree.n_contexts, tree.n_nodes, tree.vocabulary_size))))

    @classmethod
    def random(cls, tree: TokenTree, *, seed: Seed, scale: float = 1.0) -> Self:
        """Return a policy with normal logits of standard deviation ``scale``."""
        check_kind(TokenTree, tree=tree)
        check_number(scale=scale)
        shape = (tree.n_contexts, tree.n_nodes, tree.vocabulary_size)
        return cls(tree, asarray(scale * random_generator(seed).standard_normal(shape)))

    @classmethod
    def from_sequence_probs(cls, tree: TokenTree, probs: Any) -> Self:
        """Return the policy whose sequences have these probabilities ``(X, N)``.

        Each next token follows by Bayes' rule.

        Raises
        ------
        ValueError
            If a row is no distribution. A prefix of probability zero gets uniform next tokens,
            which no sequence probability sees.
        """
        check_kind(TokenTree, tree=tree)
        check_constant(probs, "probs")
        table = as_probabilities(probs, "probs", ndim=2)
        check_shape(table, "probs", (None, tree.n_sequences))
        rows, columns = np.nonzero(tree.mask)
        cells = tree.nodes[rows, columns] * tree.vocabulary_size + tree.sequences[rows, columns]
        flat = np.arange(table.shape[0])[:, None] * tree.n_nodes * tree.vocabulary_size + cells
        size = table.shape[0] * tree.n_nodes * tree.vocabulary_size
        counted = np.bincount(flat.ravel(), weights=table[:, rows].ravel(), minlength=size)
        mass = counted.reshape(table.shape[0], tree.n_nodes, tree.vocabulary_size)
        mass = np.where(mass.sum(axis=-1, keepdims=True) > 0, mass, 1.0)
        with np.errstate(divide="ignore"):
            return cls(tree, asarray(np.log(mass)))

    @property
    def parameters(self) -> Array:
        """The logits, flattened to ``(*batch, X·nodes·V)``."""
        return array_namespace(self.logits).reshape(self.logits, (*self.logits.shape[:-3], -1))

    def with_parameters(self, parameters: Array) -> Self:
        """Return the policy with these logits ``(*batch, X·nodes·V)``."""
        shape = (*parameters.shape[:-1], *self.logits.shape[-3:])
        return replace(self, logits=array_namespace(parameters).reshape(parameters, shape))

    @property
    def token_log_prob_table(self) -> Array:
        """Log-probability of every token of every sequence, ``(*batch, X, N, T)`` in nats.

        0 behind the end.
        """
        return self.tree.along(log_softmax(self.logits))

    @property
    def log_probs(self) -> Array:
        """Log-probability of every sequence, ``(*batch, X, N)`` in nats."""
        table = self.token_log_prob_table
        return array_namespace(table).sum(table, axis=-1)

    def token_log_probs(self, prompt: Array, response: Array) -> tuple[Array, Array]:
        """Return per-token log-probabilities and the boolean mask of scored tokens.

        Each ``(*batch, *prompt.shape, T)``.
        """
        table = self.token_log_prob_table
        xp = array_namespace(table)
        n, t = self.tree.mask.shape
        index = like(np.asarray(to_numpy(prompt)) * n + to_numpy(response), table, integer=True)
        rows = xp.reshape(table, (*table.shape[:-3], -1, t))
        taken = xp.take(rows, xp.reshape(index, (-1,)), axis=-2)
        taken = xp.reshape(taken, (*table.shape[:-3], *index.shape, t))
        mask = like(self.tree.mask[to_numpy(response)], table, integer=True) > 0
        return taken, mask

    def length(self, prompt: Array, response: Array) -> Array:
        """Return the number of tokens of each response, the end token included."""
        return like(
            np.broadcast_to(self.tree.lengths[to_numpy(response)], np.shape(prompt)), self.logits
        )
