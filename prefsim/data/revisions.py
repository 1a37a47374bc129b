"""Comparisons for a policy that answers and revises.

Every response as an answer, and as a revision of either response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import like, to_numpy
from prefsim.checks import (
    as_index_array,
    as_probabilities,
    check_integer,
    check_kind,
    check_shape,
)
from prefsim.containers import SelfImprovementLogps, map_fields
from prefsim.data.columns import both_ways, supported
from prefsim.data.comparisons import Comparisons
from prefsim.numerics import array_namespace
from prefsim.policies.base import InMemoryPolicy
from prefsim.policies.tabular import TabularPolicy
from prefsim.typing import Array

__all__ = ["Revisions"]


@readable
@dataclass(frozen=True, init=False, eq=False)
class Revisions:
    """Comparisons in a tabular world for one policy with two kinds of prompts.

    As a language model has them: it answers a prompt, and it revises a draft.

    With X contexts and Y responses the policy has ``X + X·Y`` prompts: prompt x is answered, and
    prompt ``X + x·Y + a`` asks for a revision of the draft a to x.

    Parameters
    ----------
    comparisons
        Compared pairs, with their preference probabilities and weights.
    n_contexts, n_responses
        X and Y.

    Raises
    ------
    ValueError
        If a size is no integer >= 1, or a comparison names a context or response beyond it.

    Examples
    --------
    >>> from prefsim.worlds import ContextualBandit
    >>> world = ContextualBandit(reward=[[0.0, 1.0]])
    >>> reference = TabularPolicy.uniform(1, 2)
    >>> data = Revisions(Comparisons.population(world, reference), n_contexts=1, n_responses=2)
    >>> data.joint_policy(reference.probs).probs.shape
    (3, 2)
    """

    comparisons: Comparisons
    n_contexts: int
    n_responses: int

    def __init__(self, comparisons: Comparisons, *, n_contexts: int, n_responses: int) -> None:
        check_kind(Comparisons, comparisons=comparisons)
        check_integer(low=1, n_contexts=n_contexts, n_responses=n_responses)
        as_index_array(comparisons.prompt, "prompt", size=n_contexts)
        as_index_array(comparisons.chosen, "chosen", size=n_responses)
        as_index_array(comparisons.rejected, "rejected", size=n_responses)
        set_fields(
            self,
            comparisons=comparisons,
            n_contexts=int(n_contexts),
            n_responses=int(n_responses),
        )

    def __len__(self) -> int:
        return len(self.comparisons)

    def joint_policy(self, generator: Any, improver: Any = None) -> TabularPolicy:
        """Return the policy that answers with ``generator`` and revises with ``improver``.

        ``(..., X, Y)`` and ``(..., X, Y, Y)``.

        Every draft is revised to a draw of the generator unless an improver is given (rows:
        drafts).
        """
        x, y = self.n_contexts, self.n_responses
        answers = as_probabilities(generator, "generator", min_ndim=2)
        check_shape(answers, "generator", (x, y))
        if improver is None:
            revised = np.broadcast_to(answers[..., :, None, :], (*answers.shape, y))
        else:
            revised = as_probabilities(improver, "improver", min_ndim=3)
            check_shape(revised, "improver", (x, y, y))
        batch = np.broadcast_shapes(answers.shape[:-2], revised.shape[:-3])
        answers = np.broadcast_to(answers, (*batch, x, y))
        revised = np.broadcast_to(revised, (*batch, x, y, y)).reshape(*batch, x * y, y)
        return TabularPolicy.from_probs(np.concatenate([answers, revised], axis=-2))

    def split(self, policy: InMemoryPolicy) -> tuple[Array, Array]:
        """Return the generator and the improver of a policy over both kinds of prompts.

        ``(..., X, Y)`` and ``(..., X, Y, Y)``.
        """
        x, y = self.n_contexts, self.n_responses
        table = policy.probs
        check_shape(table, "policy.probs", (x + x * y, y))
        xp = array_namespace(table)
        return table[..., :x, :], xp.reshape(table[..., x:, :], (*table.shape[:-2], x, y, y))

    def log_probs(self, policy: InMemoryPolicy) -> dict[str, Array]:
        """Return the log-probabilities of answers and revisions by the names of their fields.

        The fields of :class:`~prefsim.losses.SelfImprovementLogps` that are not of the reference,
        each ``(..., n)`` in nats.
        """
        rows = self.comparisons
        prompt, chosen, rejected = np.broadcast_arrays(rows.prompt, rows.chosen, rows.rejected)
        first = self.n_contexts + prompt * self.n_responses
        after_chosen, after_rejected = first + chosen, first + rejected
        asked = {
            "chosen": (prompt, chosen),
            "rejected": (prompt, rejected),
            "chosen_from_rejected": (after_rejected, chosen),
            "rejected_from_chosen": (after_chosen, rejected),
            "chosen_from_chosen": (after_chosen, chosen),
            "rejected_from_rejected": (after_rejected, rejected),
        }
        return policy.log_prob_each(asked)

    def examples(
        self, policy: InMemoryPolicy, ref_logps: dict[str, Array] | None, kind: type
    ) -> tuple[SelfImprovementLogps, Array]:
        """Return what a loss sees and the weight of each value.

        The rows as they stand, then (where needed) reversed.
        """
        if kind is not SelfImprovementLogps:
            raise ValueError(
                f"Revisions feed losses of SelfImprovementLogps, got a loss of {kind.__name__}"
            )
        logps = self.log_probs(policy)
        some = logps["chosen"]
        xp = array_namespace(some)
        rows = self.comparisons
        ref_logps = ref_logps or {name: xp.zeros_like(column) for name, column in logps.items()}
        columns = logps | {f"ref_{name}": column for name, column in ref_logps.items()}
        *wide, weight, prob = xp.broadcast_arrays(
            *columns.values(), like(rows.weight, some), like(rows.prob, some)
        )
        pairs = SelfImprovementLogps(**dict(zip(columns, wide, strict=True)))
        if (to_numpy(rows.weight) == 0).any():
            pairs = map_fields(pairs, lambda column: supported(column, weight))
        if (rows.prob == 1).all():
            return pairs, weight
        return both_ways(pairs, weight, prob)
