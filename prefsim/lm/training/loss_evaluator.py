"""From rows of tokens to the values of a loss.

What has to be computed for its container, of the policy and of the reference.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefsim.containers import JudgedLogps, TokenPairLogps, map_fields, stacked
from prefsim.lm.data.text_data import TextData, TokenLogps
from prefsim.lm.model.log_prob_model import LogProbModel
from prefsim.lm.model.log_probs import as_wide
from prefsim.lm.model.packing import collate_packed, in_one_row
from prefsim.lm.model.response_scorer import Embedded, ResponseScorer
from prefsim.lm.model.tiled import TokenStatistics
from prefsim.lm.model.tokens import ScoredTokens, TokenBatch, collate
from prefsim.lm.training.reference import NoReference, Reference
from prefsim.lm.training.stored_model import Trainable
from prefsim.lm.training.token_rows import TokenRows
from prefsim.losses.catalogue import couples_batch
from prefsim.losses.registry import container_of
from prefsim.losses.running import RunningLoss
from prefsim.numerics import to_numpy

Loss = Callable[..., Any]

__all__ = ["LossEvaluator", "Needs", "Seen", "couples", "needs_of"]


class Needs(NamedTuple):
    """What a loss needs besides log-probabilities.

    Attributes
    ----------
    collision, kl
        Sums over the whole next-token distribution.
    weights
        How much each token counts.
    """

    collision: bool = False
    kl: bool = False
    weights: bool = False


class Seen(NamedTuple):
    """What a loss sees of some examples.

    Attributes
    ----------
    container
        What the loss takes.
    weight
        Of each of its values.
    router_loss
        The auxiliary loss of a mixture of experts on these examples, or None.
    """

    container: Any
    weight: Tensor
    router_loss: Tensor | None


def needs_of(loss: Loss) -> Needs:
    """Return what a loss needs, found by leaving it out: a loss says what it misses."""
    if container_of(loss) is not TokenPairLogps:
        return Needs()
    complete = TokenPairLogps.example()
    loss(complete)

    def is_missed(name: str) -> bool:
        left_out: dict[str, Any] = {f"chosen_{name}": None, f"rejected_{name}": None}
        try:
            loss(complete._replace(**left_out))
        except ValueError:
            return True
        return False

    return Needs(
        collision=is_missed("collision"),
        kl=is_missed("kl"),
        weights=is_missed("reward_weight") or is_missed("kl_weight"),
    )


def couples(loss: Loss) -> bool:
    """Return whether the value of one example depends on the others of its batch."""
    # Losses of judged samples are per example by their definition, and not in the catalogue.
    return container_of(loss) is not JudgedLogps and couples_batch(loss)


@dataclass
class LossEvaluator:
    """Evaluates a loss on examples.

    Training moves the state of a loss that has one; nothing else here changes.

    Attributes
    ----------
    policy
        Gives the padding.
    data, rows
        The examples, as text and as tokens.
    loss
        The loss, with its state as it is.
    needs
        What it needs besides log-probabilities.
    reference
        What the log-ratios are relative to.
    autocast
        Makes the context that the reference is evaluated in, that of the policy's own forward.
    packing
        Whether several sequences share a row of a batch.
    """

    policy: Trainable
    data: TextData
    rows: TokenRows
    loss: Loss
    needs: Needs = field(default_factory=Needs)
    reference: Reference = field(default_factory=NoReference)
    autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    packing: bool = False

    @functools.cached_property
    def kind(self) -> type:
        """The container that the loss takes."""
        return container_of(self.loss)

    def batch(self, examples: Sequence[int] | np.ndarray, device: torch.device) -> TokenBatch:
        """Return the sequences of the examples as one batch, padded or packed.

        One forward for all completions.
        """
        if not self.packing:
            return self.padded(examples, device)
        return collate_packed(
            [self.rows.tokens[i] for i in self.rows.of(examples)],
            pad_id=self.policy.pad_id,
            one_row=in_one_row(self.policy.plain),
            device=device,
        )

    def padded(self, examples: Sequence[int] | np.ndarray, device: torch.device) -> TokenBatch:
        """Return the sequences of the examples as one batch, one in each row."""
        return collate(
            [self.rows.tokens[i] for i in self.rows.of(examples)],
            pad_id=self.policy.pad_id,
            device=device,
        )

    def examples(
        self,
        wrapped: torch.nn.Module,
        log_prob_model: Any,
        examples: Sequence[int] | np.ndarray,
    ) -> Seen:
        """Return what the loss sees of examples, with the graph.

        Parameters
        ----------
        wrapped
            What is called: the policy's module or what wraps it.
        log_prob_model
            The policy's module itself.
        examples
            Row numbers of the data. A loss that couples its batch sees exactly these.
        """
        if isinstance(self.policy, ResponseScorer):
            return self._scored(self.policy, wrapped, examples)
        token_logps, router_loss = self._asked(wrapped, log_prob_model, examples)
        container, weight = self.data.take(examples).container(self.kind, token_logps)
        return Seen(container, weight, router_loss)

    def _scored(
        self, model: ResponseScorer, wrapped: torch.nn.Module, examples: Sequence[int] | np.ndarray
    ) -> Seen:
        """Return what a loss sees of the scores of examples, with the graph."""
        embedded: Embedded = wrapped(self.batch(examples, model.device))
        scales = None if embedded.scales is None else as_wide(embedded.scales)
        wide = Embedded(as_wide(embedded.vectors), scales)
        scores = model.seen_by_loss(wide, len(examples))
        container, weight = self.data.take(examples).scored(self.kind, scores)
        return Seen(container, weight, None)

    def token_logps(
        self,
        wrapped: torch.nn.Module,
        log_prob_model: LogProbModel,
        examples: Sequence[int] | np.ndarray,
    ) -> TokenLogps:
        """Return the token log-probabilities of the examples, with the graph of the policy's."""
        return self._asked(wrapped, log_prob_model, examples)[0]

    def _asked(
        self,
        wrapped: torch.nn.Module,
        log_prob_model: LogProbModel,
        examples: Sequence[int] | np.ndarray,
    ) -> tuple[TokenLogps, Tensor | None]:
        batch = self.batch(examples, log_prob_model.device)
        options: dict[str, Any] = {"collision": True} if self.needs.collision else {}
        ref_logp = None
        with torch.no_grad(), self.autocast():
            if self.needs.weights:
                ref_hidden, ref_head, layers = self.reference.layer_states(log_prob_model, batch)
                options |= {"ref_hidden": ref_hidden, "ref_head": ref_head, "ref_layers": layers}
            elif self.needs.kl:
                # The policy's forward finds the reference's log-probabilities along with the KL.
                ref_hidden, ref_head = self.reference.states(log_prob_model, batch)
                options |= {"ref_hidden": ref_hidden, "ref_head": ref_head}
            else:
                ref_logp = self.reference.log_probs(wrapped, batch, self.rows.of(examples))
        statistics: TokenStatistics = wrapped(batch, **options)
        if statistics.ref_logp is not None:
            ref_logp = statistics.ref_logp
        assert batch.scored is not None
        token_logps = _by_example(statistics, ref_logp, batch.scored, len(examples))
        return token_logps, statistics.router_loss

    def move_loss(self, seen: Seen, accelerator: Any, *, counts: bool) -> None:
        """Let the state of a loss that has one see a micro-batch, of all processes together.

        Parameters
        ----------
        seen
            What the loss sees of this process's examples.
        accelerator
            Of the processes.
        counts
            Whether they are its own: a process without any takes part, and adds none.
        """
        if not isinstance(self.loss, RunningLoss):
            return
        container: Any = map_fields(seen.container, to_numpy)
        weight = to_numpy(seen.weight)
        if accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            parts = gather_object([(container, weight)] if counts else [])
            if not parts:
                return
            containers, weights = zip(*parts, strict=True)
            container = functools.reduce(lambda a, b: stacked(a, b, axis=0), containers)
            weight = np.concatenate(weights)
        self.loss = self.loss.after(container, weight)


def _by_example(
    statistics: TokenStatistics, ref_logp: Tensor | None, scored: ScoredTokens, n: int
) -> TokenLogps:
    """Return statistics ``(B, T)`` as ``(n, S, T')`` with the completions moved to the left."""
    positions, places, width, counts = scored
    rows = len(counts)

    def moved(values: Tensor) -> Tensor:
        wide = as_wide(values).reshape(-1).index_select(0, positions)
        left = wide.new_zeros(rows * width).index_copy(0, places, wide)
        return left.reshape(n, -1, width)

    logp = moved(statistics.logp)
    is_token = torch.zeros(rows * width, dtype=torch.bool, device=places.device)
    return TokenLogps(
        logp=logp,
        ref_logp=torch.zeros_like(logp) if ref_logp is None else moved(ref_logp).detach(),
        mask=is_token.index_fill(0, places, True).reshape(n, -1, width),
        kl=None if statistics.kl is None else moved(statistics.kl),
        collision=None if statistics.collision is None else moved(statistics.collision),
        reward_weight=None if statistics.reward_weight is None else moved(statistics.reward_weight),
        kl_weight=None if statistics.kl_weight is None else moved(statistics.kl_weight),
    )
