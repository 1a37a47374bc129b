"""How a language model is trained: the options. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefsim.checks import (
    check_choice,
    check_flag,
    check_integer,
    check_interval,
    check_kind,
    check_nonnegative,
    check_positive,
)
from prefsim.lm.training.batches import ORDERS
from prefsim.lm.training.evaluation import Evaluation
from prefsim.lm.training.schedule import SCHEDULES
from prefsim.lm.training.truncation import Truncation
from prefsim.solvers.reference_update import ReferenceUpdate

__all__ = [
    "DIAGNOSTICS",
    "Diagnostics",
    "OnlineKL",
    "TrainingOptions",
]

OPTIMIZERS = ("adamw", "adamw_bf16", "adamw_8bit", "sgd")
# Trained parameters in bfloat16 themselves.
BF16_WEIGHTS = "bf16_weights"
PRECISIONS = ("float32", "bf16", BF16_WEIGHTS)
DIAGNOSTICS = (
    "displacement",
    "accuracy",
    "idealised",
    "ches",
    "entanglement",
    "kl",
    "coverage",
    "dispersion",
)


@dataclass(frozen=True)
class Diagnostics:
    """What is measured on some of the data during training.

    Attributes
    ----------
    names
        ``"displacement"``: drift of the log-probabilities of chosen and rejected since the start,
        in nats, and the share of displaced pairs; ``"accuracy"``: ranking accuracy by summed and by
        averaged token log-probabilities, and implicit-reward accuracy where there is a reference;
        ``"idealised"``: the ranking accuracy that the optimum of the loss's KL penalty β would have
        on these labels, what the policy lacks of it, and how hard the pairs are to turn
        (:mod:`prefsim.analysis.ranking`); ``"ches"``: CHES score and its length-normalised form;
        ``"entanglement"``: inner product and cosine of the gradients of the two log-probabilities,
        and the share of pairs whose next step raises the chosen and lowers the rejected one;
        ``"kl"``: ``KL(π‖π_ref)`` by samples from the policy; ``"coverage"``: how far the density
        ratio to the reference goes on them (:func:`prefsim.analysis.sampled_coverage`);
        ``"dispersion"``: how completions moved that the policy drew at the start, and that no pair
        names (:func:`prefsim.analysis.dispersion`).
    examples
        How many of the rows, spread evenly over the data.
    gradient_examples
        Of these, how many for ``"entanglement"``: two backward passes each.
    samples, max_new_tokens
        Completions drawn for each prompt for ``"kl"``, ``"coverage"`` and ``"dispersion"``, and
        where they are cut off.
    """

    names: tuple[str, ...] = ("displacement", "accuracy")
    examples: int = 16
    gradient_examples: int = 4
    samples: int = 1
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        for name in self.names:
            check_choice(DIAGNOSTICS, diagnostics=name)
        check_integer(
            low=1,
            examples=self.examples,
            gradient_examples=self.gradient_examples,
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
        )

    @property
    def need_whole_parameters(self) -> bool:
        """Whether a diagnostic needs more than forward passes of the wrapped model."""
        return bool({"entanglement", "kl", "ches", "coverage", "dispersion"} & set(self.names))


@dataclass(frozen=True, kw_only=True)
class OnlineKL:
    r"""A penalty on the divergence from the reference, by completions drawn while training.

    Added to DPO's loss it is hybrid preference optimisation (HyPO): at every step the policy as it
    then is answers the step's prompts, and the leave-one-out estimate
    (:func:`prefsim.losses.rloo_kl`) of the gradient of :math:`\lambda\,\mathrm{KL}(\pi\|\pi_{ref})`
    joins that of the loss. The loss that is reported is that of the data alone.

    Attributes
    ----------
    weight
        λ > 0.
    samples
        Completions of each example's prompt, >= 2.
    max_new_tokens
        Where they are cut off.

    References
    ----------
    Song et al. 2024, arXiv:2406.01462.
    """

    weight: float
    samples: int = 2
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        check_positive(weight=self.weight)
        check_integer(low=2, samples=self.samples)
        check_integer(low=1, max_new_tokens=self.max_new_tokens)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a language model is trained: the options of ``fit`` for a :class:`~prefsim.lm.CausalLM`.

    Attributes
    ----------
    steps, epochs
        Optimiser steps, or passes over the data (a fraction is allowed); one of the two, one epoch
        unless given.
    batch_size
        Examples of one step, over all processes and micro-batches together: how a step is split
        changes no number of a per-example loss.
    gradient_accumulation
        Micro-batches that a step is split into on each process. A loss that couples its batch sees
        one micro-batch at a time, and so depends on this and on the number of processes. The state
        of a loss that has one moves with each micro-batch of all processes together.
    micro_batch_tokens
        Instead: the most tokens of a micro-batch, padding included, of which each step has as many
        as it takes. Long rows then come few at a time and short ones many, and the gradient is that
        of the whole step. Not for a loss that couples its batch.
    packing
        Put several sequences into one row of a micro-batch, as many as there is room for beside
        its longest, so that little is padding (nothing with flash attention, which has one row).
        No token sees another sequence, and log-probabilities are the same to rounding; a model that
        does not keep sequences apart is refused. A training may be resumed with it or without.
    learning_rate, schedule, warmup
        Peak rate; how it falls to zero behind the warm-up (``"linear"``, ``"cosine"``) or not
        (``"constant"``); the fraction of all steps over which it rises linearly.
    optimizer, weight_decay
        ``"adamw"``, ``"adamw_bf16"`` (its moments in bfloat16, stochastically rounded: four bytes
        a parameter for eight), ``"adamw_8bit"`` (in eight bits, with a scale for every block of
        256: two), ``"sgd"``, or a function from parameter groups to a torch optimiser. Decay is of
        matrices, not of biases and norms.
    offload_optimizer
        Keep what the optimiser remembers in main memory where a GPU trains, and bring it to each
        parameter in turn. FSDP does so by its own setting, for the parameters too.
    max_grad_norm
        Bound on the norm of the gradient; ``None`` for none.
    precision
        ``"float32"``: everything as the model is. ``"bf16"``: products in bfloat16 (autocast),
        trained parameters and optimiser in float32; a reference model is evaluated alike, while
        log-probabilities that :func:`references_of` made from a model stored in bfloat16 are that
        model's own, some tenths of a nat from it: make them from the model loaded in float32.
        ``"bf16_weights"``: everything in bfloat16, gradients and trained parameters too, which
        AdamW rounds stochastically after each step
        (:mod:`prefsim.lm.training.narrow_adamw`): eight bytes a parameter for eighteen with
        ``"adamw_bf16"``, six with ``"adamw_8bit"``. The model must be in bfloat16. A function for
        an optimiser is to round by itself. ``None``: what the model's own dtype asks for.
    gradient_checkpointing
        Compute activations again in the backward pass: less memory, a third more time.
    compile
        Run the layers of policy and reference by code that ``torch.compile`` makes of one of them,
        for any length (:mod:`prefsim.lm.model.compiled`). Compiled code rounds otherwise; what
        is saved is the same, and a training may be resumed with it or without.
    reference_weight, reference_every
        α in (0, 1] and τ >= 1: after every τ steps the reference's parameters become α times the
        policy's plus 1 − α times their own, as :class:`prefsim.solvers.ReferenceUpdate` says
        (TR-DPO). ``None``: the reference stays. It must be a model of the policy's parameters, of
        which a copy is made; what was given is not changed.
    penalty
        :class:`~prefsim.lm.OnlineKL`, whose completions the policy draws while it is trained;
        ``None`` for none. The reference must be a model. Its draws depend on the number of
        processes and on how a step is split.
    truncation
        :class:`~prefsim.lm.Truncation`: how sequences are made to fit that are too long; ``None``
        leaves them whole, and those beyond the model's positions are refused.
    token_cache
        Folder where the tokens of data are kept, for the next training on the same text with the
        same tokenizer, and for the other processes; ``None`` keeps none.
    order
        ``"by_length"`` (shuffled, with rows of similar length together), ``"shuffled"`` or
        ``"given"``.
    seed
        Of the order of the data.
    in_place
        Train the given policy itself instead of a copy of its trained parameters, to save memory.
        It cannot be its own reference then.
    out
        Folder for metrics, checkpoints and the trained model; ``None`` writes nothing.
    save_every, keep
        Steps between checkpoints (``None`` for none), and how many of the newest are kept.
    resume
        Go on from the newest checkpoint in ``out`` if there is one, to the same end as without the
        interruption. The options must be the same, but for the number of processes and how a step
        is split; with a constant rate without warm-up there may be more steps.
    log_every
        Steps between lines of metrics.
    diagnostics
        What is measured on some of the pairs as training goes on: names out of
        ``prefsim.lm.DIAGNOSTICS``, or
        :class:`~prefsim.lm.Diagnostics` with more settings.
    trackers
        Where lines of metrics go besides ``metrics.jsonl`` and TensorBoard: names of accelerate's
        trackers (``"wandb"``, ``"mlflow"``, …) or trackers of its kind, and functions, which are
        called with each line as it is written, a dict with ``step``, on the first process. One that
        returns ``True`` ends the training there; what it has learned is kept and saved.
    evaluation
        :class:`~prefsim.lm.Evaluation`: other data, what is measured on them and what follows from
        it; ``None`` for none.
    progress
        Whether a bar is shown on a terminal.
    """

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 8
    gradient_accumulation: int = 1
    micro_batch_tokens: int | None = None
    packing: bool = False
    learning_rate: float = 1e-6
    schedule: str = "linear"
    warmup: float = 0.1
    optimizer: str | Callable[[list[dict[str, Any]]], Any] = "adamw"
    weight_decay: float = 0.0
    offload_optimizer: bool = False
    max_grad_norm: float | None = 1.0
    precision: str | None = None
    gradient_checkpointing: bool = False
    compile: bool = False
    reference_weight: float | None = None
    reference_every: int = 1
    penalty: OnlineKL | None = None
    truncation: Truncation | None = None
    token_cache: str | Path | None = None
    order: str = "by_length"
    seed: int = 0
    in_place: bool = False
    out: str | Path | None = None
    save_every: int | None = None
    keep: int = 2
    resume: bool = False
    log_every: int = 10
    diagnostics: Diagnostics | Sequence[str] = ()
    trackers: Sequence[Any] = ()
    evaluation: Evaluation | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"steps or epochs may be given, got both: {self.steps} and {self.epochs}"
            )
        check_integer(
            low=1,
            batch_size=self.batch_size,
            gradient_accumulation=self.gradient_accumulation,
            log_every=self.log_every,
            keep=self.keep,
        )
        if self.steps is not None:
            check_integer(low=1, steps=self.steps)
        if self.save_every is not None:
            check_integer(low=1, save_every=self.save_every)
        if self.micro_batch_tokens is not None:
            check_integer(low=1, micro_batch_tokens=self.micro_batch_tokens)
            if self.gradient_accumulation > 1:
                raise ValueError(
                    "a step is split by micro_batch_tokens or by gradient_accumulation, got both:"
                    f" {self.micro_batch_tokens} and {self.gradient_accumulation}"
                )
        check_integer(low=0, seed=self.seed)
        check_flag(
            offload_optimizer=self.offload_optimizer,
            gradient_checkpointing=self.gradient_checkpointing,
            compile=self.compile,
            packing=self.packing,
            in_place=self.in_place,
            resume=self.resume,
            progress=self.progress,
        )
        check_positive(learning_rate=self.learning_rate)
        if self.epochs is not None:
            check_positive(epochs=self.epochs)
        check_nonnegative(weight_decay=self.weight_decay)
        check_interval(low=0.0, high=1.0, warmup=self.warmup)
        check_choice(SCHEDULES, schedule=self.schedule)
        check_choice(ORDERS, order=self.order)
        if not callable(self.optimizer):
            check_choice(OPTIMIZERS, optimizer=self.optimizer)
        elif self.offload_optimizer:
            raise ValueError("offload_optimizer is for an optimiser by name, got a function")
        if self.max_grad_norm is not None:
            check_positive(max_grad_norm=self.max_grad_norm)
        if self.precision is not None:
            check_choice(PRECISIONS, precision=self.precision)
        if self.precision == BF16_WEIGHTS:
            self._check_narrow()
        if self.reference_update is not None:
            self.reference_update.checked()
        check_integer(low=1, reference_every=self.reference_every)
        if self.truncation is not None:
            check_kind(Truncation, truncation=self.truncation)
        if not isinstance(self.penalty, OnlineKL | None):
            raise TypeError(
                "penalty of a language model must be prefsim.lm.OnlineKL or None, got"
                f" {type(self.penalty).__name__}"
            )
        if self.evaluation is not None:
            check_kind(Evaluation, evaluation=self.evaluation)
            if self.out is None and self.evaluation.keep_best:
                raise ValueError("keep_best of the evaluation needs out, where the model goes")
        if self.out is None and (self.save_every is not None or self.resume):
            raise ValueError(
                f"{'resume' if self.resume else 'save_every'} needs out, the folder of the training"
            )
        if not isinstance(self.diagnostics, Diagnostics):
            object.__setattr__(self, "diagnostics", Diagnostics(tuple(self.diagnostics)))

    def _check_narrow(self) -> None:
        """Raise if something would be rounded away in bfloat16 without a word."""
        if self.optimizer == "sgd":
            raise ValueError(
                f"precision {BF16_WEIGHTS!r} needs an optimiser that rounds stochastically, one of"
                " the adamw, got sgd"
            )
        if self.reference_weight is not None and self.reference_weight < 1:
            raise ValueError(
                f"a reference that moves by a share {self.reference_weight:g} needs parameters in"
                f" float32, got precision {BF16_WEIGHTS!r}"
            )

    @property
    def measured(self) -> Diagnostics:
        """The diagnostics with their settings, in whichever form they were given."""
        assert isinstance(self.diagnostics, Diagnostics)
        return self.diagnostics

    @property
    def reference_update(self) -> ReferenceUpdate | None:
        """How the reference follows the policy, or None where it stays."""
        if self.reference_weight is None:
            return None
        return ReferenceUpdate(self.reference_weight, self.reference_every)

    def total_steps(self, examples: int) -> int:
        """Return the number of optimiser steps on data of so many examples."""
        if self.steps is not None:
            return self.steps
        steps_per_epoch = math.ceil(examples / self.batch_size)
        # A fraction such as 0.1 of 30 steps is 3 and no more, though the product is 3 + 4e-16.
        return max(1, math.ceil((self.epochs or 1) * steps_per_epoch - 1e-9))
