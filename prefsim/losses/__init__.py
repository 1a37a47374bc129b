"""Losses: pure functions of log-probabilities, one value per example, no reduction, no hidden state."""

from prefsim.losses.containers import ClassLogits, ListLogps, PairLogps, PairRewards, TokenPairLogps, UnpairedLogps
from prefsim.losses.pairwise import dpo, f_dpo, hinge, ipo, log_ratios, rdpo, reward_margin, rpo, sft, soft_logistic
from prefsim.losses.registry import container_of
from prefsim.losses.reward import bradley_terry
from prefsim.losses.unpaired import kto

__all__ = [
    "ClassLogits",
    "ListLogps",
    "PairLogps",
    "PairRewards",
    "TokenPairLogps",
    "UnpairedLogps",
    "bradley_terry",
    "container_of",
    "dpo",
    "f_dpo",
    "hinge",
    "ipo",
    "kto",
    "log_ratios",
    "rdpo",
    "reward_margin",
    "rpo",
    "sft",
    "soft_logistic",
]
