"""Token trees: the tabular language model, with every sequence enumerated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, asarray, on_backend, random_generator
from prefsim.checks import alike, as_context_probs, as_float_array, check_integer, check_shape
from prefsim.numerics import array_namespace, like
from prefsim.typing import Array, ArrayT
from prefsim.worlds.bandit import ContextualBandit

MOST_SEQUENCES = 2_000_000

__all__ = ["TokenTree"]


@readable
@dataclass(frozen=True, init=False, eq=False)
class TokenTree:
    """All sequences over a vocabulary of V tokens, up to length T.

    They end with the end token or are cut at length T.

    A *node* is a prefix without the end token and shorter than T; node 0 is the empty prefix.
    Sequences are ordered by their tokens, so that the sequences below a node are contiguous.

    Parameters
    ----------
    vocabulary_size
        V >= 1, the end token included.
    max_length
        T >= 1.
    end_token
        Token that ends a sequence, in [0, V); ``None`` for sequences of exactly T tokens.
    reward
        ``(X, N)`` reward of each of the N sequences to each of X prompts; optional.
    context_probs
        ``(X,)``, uniform unless given.

    Raises
    ------
    ValueError
        If a size is out of range, the tree has more than two million sequences, or the reward has
        another shape.

    Examples
    --------
    >>> tree = TokenTree(3, 2, end_token=2)
    >>> tree.n_sequences, tree.n_nodes
    (7, 3)
    >>> tree.sequences.tolist()
    [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, -1]]
    """

    vocabulary_size: int
    max_length: int
    end_token: int | None
    reward: Array | None
    context_probs: Array

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        *,
        end_token: int | None = None,
        reward: Any = None,
        context_probs: Any = None,
    ) -> None:
        # Neither can be larger than the tree.
        check_integer(low=1, high=MOST_SEQUENCES, vocabulary_size=vocabulary_size)
        check_integer(low=1, high=MOST_SEQUENCES, max_length=max_length)
        if end_token is not None:
            check_integer(low=0, high=vocabulary_size - 1, end_token=end_token)
        inner = vocabulary_size - (end_token is not None)
        count = inner**max_length + sum(
            inner**t for t in range(max_length) if end_token is not None
        )
        if count > MOST_SEQUENCES:
            raise ValueError(
                f"the tree would have {count} sequences; the most that is enumerated is"
                f" {MOST_SEQUENCES}"
            )
        set_fields(
            self,
            vocabulary_size=int(vocabulary_size),
            max_length=int(max_length),
            end_token=end_token,
        )
        contexts = 1
        if reward is not None:
            table = as_float_array(reward, "reward", ndim=2, graph=True)
            check_shape(table, "reward", (None, count))
            contexts = table.shape[0]
            reward = on_backend(reward, table, "reward")
        elif context_probs is not None:
            contexts = len(context_probs)
        probs = as_context_probs(context_probs, contexts)
        set_fields(self, reward=reward, context_probs=asarray(probs))

    @cached_property
    def _paths(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Tokens and nodes of every sequence, ``(N, T)``, and the number of nodes.

        −1 behind the end.
        """
        tokens = np.zeros((1, 0), dtype=np.int64)
        nodes = np.zeros((1, 0), dtype=np.int64)
        alive = np.ones(1, dtype=bool)
        first_free = 0
        for _ in range(self.max_length):
            ids = np.where(alive, first_free + np.cumsum(alive) - 1, -1)
            first_free += int(alive.sum())
            repeats = np.where(alive, self.vocabulary_size, 1)
            parent = np.repeat(np.arange(alive.size), repeats)
            offset = np.arange(parent.size) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            step = np.where(alive[parent], offset, -1)
            tokens = np.concatenate([tokens[parent], step[:, None]], axis=1)
            nodes = np.concatenate([nodes[parent], ids[parent][:, None]], axis=1)
            alive = alive[parent] & (step != (-2 if self.end_token is None else self.end_token))
        return tokens, nodes, first_free

    @property
    def sequences(self) -> np.ndarray:
        """Tokens of every sequence, int64 ``(N, T)``, −1 behind the end."""
        return self._paths[0]

    @property
    def nodes(self) -> np.ndarray:
        """Node before each token of every sequence, int64 ``(N, T)``, −1 behind the end."""
        return self._paths[1]

    @property
    def mask(self) -> np.ndarray:
        """Which positions hold a token, boolean ``(N, T)``."""
        return self.sequences >= 0

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of every sequence, the end token included, int64 ``(N,)``."""
        return self.mask.sum(axis=1)

    def along(self, table: ArrayT) -> ArrayT:
        """Return what a table of prefixes and next tokens holds along every sequence.

        Parameters
        ----------
        table
            ``(..., nodes, V)``.

        Returns
        -------
        Array ``(..., N, T)``, 0 behind the end.

        Examples
        --------
        >>> TokenTree(2, 2, end_token=1).along(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([[1., 3.],
               [1., 4.],
               [2., 0.]])
        """
        (table,) = alike(table=table)
        check_shape(table, "table", (self.n_nodes, self.vocabulary_size))
        xp = array_namespace(table)
        flat = xp.reshape(table, (*table.shape[:-2], -1))
        mask = self.mask
        index = np.where(mask, self.nodes * self.vocabulary_size + self.sequences, 0)
        taken = xp.take(flat, like(index.reshape(-1), flat, integer=True), axis=-1)
        taken = xp.reshape(taken, (*taken.shape[:-1], *mask.shape))
        return xp.where(like(mask, flat, integer=True) > 0, taken, xp.zeros_like(taken))

    @property
    def n_sequences(self) -> int:
        """Number of sequences N."""
        return int(self.sequences.shape[0])

    @property
    def n_nodes(self) -> int:
        """Number of prefixes at which a token is drawn."""
        return self._paths[2]

    @property
    def n_contexts(self) -> int:
        """Number of prompts X."""
        return int(self.context_probs.shape[0])

    def index_of(self, tokens: Any) -> int:
        """Return the index of a sequence given by its tokens (without padding).

        Raises
        ------
        ValueError
            If the tree has no such sequence.
        """
        padded = np.full(self.max_length, -1)
        given = np.asarray(tokens, dtype=np.int64)
        if given.ndim == 1 and given.size <= self.max_length:
            padded[: given.size] = given
            places = np.flatnonzero((self.sequences == padded).all(axis=1))
            if given.size and places.size:
                return int(places[0])
        raise ValueError(
            f"tokens must form a whole sequence of the tree, got {list(np.atleast_1d(given))}"
        )

    def to_bandit(self) -> ContextualBandit:
        """Return the bandit whose responses are the sequences."""
        if self.reward is None:
            raise ValueError("to_bandit needs a reward (X, N), and this tree has none")
        return ContextualBandit(reward=self.reward, context_probs=self.context_probs)

    @classmethod
    def random(
        cls,
        vocabulary_size: int,
        max_length: int,
        *,
        seed: Seed,
        n_contexts: int = 1,
        end_token: int | None = None,
    ) -> TokenTree:
        """Return a tree with standard normal rewards of its sequences."""
        shape = (n_contexts, cls(vocabulary_size, max_length, end_token=end_token).n_sequences)
        return cls(
            vocabulary_size,
            max_length,
            end_token=end_token,
            reward=random_generator(seed).standard_normal(shape),
        )
