"""Loops: methods that make their own data, round after round."""

from prefsim.loops.preference_queue import QueuedSelfPlay, queue_win_rates, queued_self_play
from prefsim.loops.self_play import JudgedSamples, SelfPlayRound, descent, judged_samples, sampled_pairs, self_play, table_judge
from prefsim.loops.self_preferring import Round, self_preferring

__all__ = [
    "JudgedSamples",
    "QueuedSelfPlay",
    "Round",
    "SelfPlayRound",
    "descent",
    "judged_samples",
    "queue_win_rates",
    "queued_self_play",
    "sampled_pairs",
    "self_play",
    "self_preferring",
    "table_judge",
]
