"""What is asked of data that a language model is not trained on, while it is trained.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefsim.checks import check_choice, check_flag, check_integer

if TYPE_CHECKING:
    from prefsim.lm.data.text_data import TextData
    from prefsim.lm.model.reference_logps import ReferenceLogps

__all__ = ["BEST_BY", "Evaluation"]

BEST_BY = ("loss", "ranking_accuracy", "reward_accuracy")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Data that a language model is measured on while it is trained, and what follows from it.

    All rows are measured before the first step, after every ``every`` steps and at the end, without
    dropout. Training is not changed by it, unless it is to end early. Of each measure the metrics
    have the mean over rows by their weights, named ``eval_…``:

    - ``loss``, of every loss;
    - of pairs the log-probabilities ``chosen_logp`` and ``rejected_logp`` in nats and
      ``ranking_accuracy``, the share of pairs whose chosen completion is the likelier one;
    - with a reference also ``chosen_log_ratio`` and ``rejected_log_ratio`` to it in nats, the
      implicit rewards over β, their difference ``margin``, and ``reward_accuracy``, the share of
      pairs where it is positive;
    - of rewards of pairs their difference ``margin`` in log-odds and ``reward_accuracy``;
    - of classes ``accuracy``, the share of rows whose class has the highest score;
    - of single judgements ``desirable_logp`` and ``undesirable_logp``, and with a reference both as
      ``…_log_ratio``.

    A soft label counts both ways, each with its probability.

    Attributes
    ----------
    data
        What is measured on: a container as that of training.
    every
        Steps between two evaluations, >= 1.
    best_by
        Which evaluation is the best: that of the lowest ``"loss"``, or of the highest
        ``"ranking_accuracy"`` or ``"reward_accuracy"``; of equal ones the first.
    patience
        How many evaluations in a row may pass without a new best before training ends, >= 1;
        ``None`` to train to the end.
    keep_best
        Whether the model of the best evaluation is written to ``best`` in the folder of the
        training, beside ``model``, which is that of the last step.
    reference
        Log-probabilities of the reference on these rows, where training has those of its own rows
        for a reference (:func:`prefsim.lm.references_of`).
    """

    data: TextData
    every: int = 100
    best_by: str = "loss"
    patience: int | None = None
    keep_best: bool = False
    reference: ReferenceLogps | None = None

    def __post_init__(self) -> None:
        check_integer(low=1, every=self.every)
        check_choice(BEST_BY, best_by=self.best_by)
        if self.patience is not None:
            check_integer(low=1, patience=self.patience)
        check_flag(keep_best=self.keep_best)
