"""What a training of a reward model or a classifier is checked for, and what its loss sees."""

from __future__ import annotations

from typing import Any

from prefsim.containers import (
    ClassLogits,
    ClassPairs,
    DegreeLogits,
    DegreePairLogps,
    DistillationLogits,
    GaussianRewards,
    PairRewards,
    TokenValues,
)
from prefsim.lm.data.classes import TextClasses, TextVersions
from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.model.token_critic import TokenCritic
from prefsim.lm.training.options import TrainingOptions
from prefsim.lm.training.stored_model import Trainable
from prefsim.lm.training.token_rows import TokenRows

__all__ = ["check_kind", "check_scorer"]

# What gives the scores that a loss takes.
_GIVEN_BY = {
    PairRewards: "PreferenceModel(policy, dim=1, seed=0)",
    ClassLogits: "ResponseClassifier(policy, classes=K, seed=0)",
    DegreeLogits: "ResponseClassifier(policy, classes=K, seed=0)",
    TokenValues: "TokenCritic(policy, seed=0)",
}
_GIVEN_BY_NONE = {
    ClassPairs: "scores of classes and rewards of preference heads",
    DegreePairLogps: "log-probabilities and scores of degrees",
    DistillationLogits: "scores of a student and of its teacher",
    GaussianRewards: "means and deviations of rewards",
}


def check_kind(policy: Trainable, kind: type, reference: Any) -> None:
    """Raise unless a model gives what a loss of ``kind`` takes, with a reference where it has one.

    Raises
    ------
    ValueError
        It says which model to give.
    """
    name = type(policy).__name__
    if not isinstance(policy, ResponseScorer):
        if kind in _GIVEN_BY_NONE:
            raise ValueError(
                f"a loss of {kind.__name__} takes {_GIVEN_BY_NONE[kind]}, and no model of"
                " prefsim.lm gives both"
            )
        if kind in _GIVEN_BY:
            raise ValueError(
                f"a loss of {kind.__name__} takes scores: fit prefsim.lm.{_GIVEN_BY[kind]}, got a"
                f" {name}"
            )
        return
    if kind not in policy.kinds:
        names = " and ".join(each.__name__ for each in policy.kinds)
        own = _GIVEN_BY.get(kind, "the language model itself")
        raise ValueError(
            f"a {name} is fitted with losses of {names}, got a loss of {kind.__name__}, which is"
            f" for {own}"
        )
    if reference is not None:
        raise ValueError(
            f"a {name} is fitted without a reference, for its loss takes no log-ratios; got a"
            f" {type(reference).__name__}"
        )


def check_scorer(
    policy: ResponseScorer, data: TextData, rows: TokenRows, options: TrainingOptions
) -> None:
    """Raise unless a model fits its data, and nothing is asked of it that it has not."""
    name = type(policy).__name__
    if options.measured.names:
        raise ValueError(
            f"diagnostics are of log-probabilities, which a {name} does not have, got"
            f" {options.measured.names[0]!r}"
        )
    if isinstance(data, TextClasses | TextVersions) and data.classes > policy.dim:
        raise ValueError(
            f"the {name} must have as many classes as the data, {data.classes}, got {policy.dim}"
        )
    if isinstance(policy, TokenCritic):
        # It reads at every token, and a policy may draw any of them.
        return
    pad = policy.plain.config.get_text_config().pad_token_id
    for number, row in enumerate(rows.tokens):
        if row.completion_ids[-1] == pad:
            raise ValueError(
                f"example {number // rows.per_example}: a completion must not end with the token"
                f" for padding, {pad}, behind which transformers reads no score"
            )
