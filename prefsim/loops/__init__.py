"""Loops: methods that make their own data, round after round."""

from prefsim.loops.acceleration import (
    AcceleratedRound,
    accelerate,
    extrapolate_policy,
    momentum_coefficients,
)
from prefsim.loops.front_extension import (
    Archive,
    ExtensionRound,
    extend_front,
    least_returns,
)
from prefsim.loops.preference_queue import QueuedSelfPlay, queue_win_rates, queued_self_play
from prefsim.loops.refreshed import refreshed_negatives
from prefsim.loops.rounds import SelfPlayRound, descent, play_rounds
from prefsim.loops.self_consuming import self_consuming
from prefsim.loops.self_play import (
    JudgedSamples,
    judged_samples,
    sampled_pairs,
    self_play,
    table_judge,
)
from prefsim.loops.self_preferring import Round, self_preferring
from prefsim.loops.staged import staged_reference

__all__ = [
    "AcceleratedRound",
    "Archive",
    "ExtensionRound",
    "JudgedSamples",
    "QueuedSelfPlay",
    "Round",
    "SelfPlayRound",
    "accelerate",
    "descent",
    "extend_front",
    "extrapolate_policy",
    "judged_samples",
    "least_returns",
    "momentum_coefficients",
    "play_rounds",
    "queue_win_rates",
    "queued_self_play",
    "refreshed_negatives",
    "sampled_pairs",
    "self_consuming",
    "self_play",
    "self_preferring",
    "staged_reference",
    "table_judge",
]


def __dir__() -> list[str]:
    return sorted(__all__)
