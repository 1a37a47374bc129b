"""What losses ask of the fields of pairs: one shape, what cannot be left out, lengths, chances."""

from __future__ import annotations

from typing import Any

from prefsim.checks import check_same_shape, check_within
from prefsim.containers import JudgedLogps, PairLogps
from prefsim.typing import Array, ArrayT

__all__ = [
    "check_judged",
    "check_last_axis",
    "check_shapes",
    "check_win_probability",
    "length_of",
    "lengths_of",
    "needed",
    "scores_of",
    "win_probabilities",
]


def check_shapes(logps: PairLogps[ArrayT]) -> None:
    """Raise unless all fields of a pair container have one shape."""
    check_same_shape(**logps._asdict())


def needed(value: ArrayT | None, name: str) -> ArrayT:
    """Return an optional field of a container, or raise where a loss cannot do without it."""
    if value is None:
        raise ValueError(f"{name} is needed by this loss, got None")
    return value


def length_of(logps: PairLogps[Any], name: str) -> Any:
    """Return the numbers of tokens of a response, or raise where there is none."""
    length = needed(getattr(logps, name), name)
    check_within(length, name, "be >= 1, for a response has a token", low=1.0)
    return length


def lengths_of(logps: PairLogps[Any]) -> tuple[Any, Any]:
    """Return the numbers of tokens of chosen and rejected, or raise where there is none."""
    return length_of(logps, "chosen_length"), length_of(logps, "rejected_length")


def check_win_probability(prob: Array, name: str) -> None:
    """Raise unless a score is a probability."""
    check_within(prob, name, "be a probability in [0, 1]", low=0.0, high=1.0)


def check_last_axis(array: Array, name: str, of: str) -> None:
    """Raise unless there is a last axis, with at least one entry."""
    if not any(array.shape[-1:]):
        raise ValueError(
            f"{name} must hold at least one {of} along the last axis, got shape"
            f" {tuple(array.shape)}"
        )


def check_judged(logps: JudgedLogps[Any]) -> None:
    """Raise unless the fields of judged responses fit each other, with probabilities to win."""
    check_same_shape(logp=logps.logp, ref_logp=logps.ref_logp, mask=logps.mask)
    check_last_axis(logps.logp, "logp", "token")
    check_same_shape(win_prob=logps.win_prob, responses=logps.logp[..., 0])
    check_win_probability(logps.win_prob, "win_prob")


def scores_of(logps: PairLogps[Any]) -> tuple[Any, Any]:
    """Return the scores of chosen and rejected, or raise where there is none."""
    return needed(logps.chosen_score, "chosen_score"), needed(
        logps.rejected_score, "rejected_score"
    )


def win_probabilities(logps: PairLogps[Any]) -> tuple[Any, Any]:
    """Return the scores of both responses, or raise unless they are probabilities."""
    chosen, rejected = scores_of(logps)
    check_win_probability(chosen, "chosen_score")
    check_win_probability(rejected, "rejected_score")
    return chosen, rejected
