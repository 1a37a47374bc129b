"""Losses: pure functions of log-probabilities, one value per example, no reduction, no hidden state."""

from prefsim.losses.batchwise import aot, aot_unpaired, beta_dpo, drdpo
from prefsim.losses.containers import ClassLogits, ListLogps, PairLogps, PairRewards, TokenPairLogps, UnpairedLogps
from prefsim.losses.listwise import exo_rw, infonca, nca, pl_dpo
from prefsim.losses.margins import chipo, discopop, dpop, exo_pair, odpo, rdpo_length, sigmoid_norm
from prefsim.losses.pairwise import dpo, f_dpo, hinge, ipo, log_ratios, rdpo, reward_margin, rpo, sft, soft, soft_logistic
from prefsim.losses.pointwise import apo_down, apo_zero, bco, bco_pair, cal_dpo, nca_pair, npo, simnpo, sppo, sppo_hard
from prefsim.losses.reference_free import asft, cpo, orpo, rrhf, simpo, slic
from prefsim.losses.registry import container_of, loss_functions
from prefsim.losses.reward import bradley_terry
from prefsim.losses.tokenwise import ld_dpo, tdpo1, tdpo2, wpo
from prefsim.losses.unpaired import kto

__all__ = [
    "ClassLogits",
    "ListLogps",
    "PairLogps",
    "PairRewards",
    "TokenPairLogps",
    "UnpairedLogps",
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "asft",
    "bco",
    "bco_pair",
    "beta_dpo",
    "bradley_terry",
    "cal_dpo",
    "chipo",
    "container_of",
    "cpo",
    "discopop",
    "dpo",
    "dpop",
    "drdpo",
    "exo_pair",
    "exo_rw",
    "f_dpo",
    "hinge",
    "infonca",
    "ipo",
    "kto",
    "ld_dpo",
    "log_ratios",
    "loss_functions",
    "nca",
    "nca_pair",
    "npo",
    "odpo",
    "orpo",
    "pl_dpo",
    "rdpo",
    "rdpo_length",
    "reward_margin",
    "rpo",
    "rrhf",
    "sft",
    "sigmoid_norm",
    "simnpo",
    "simpo",
    "slic",
    "soft",
    "soft_logistic",
    "sppo",
    "sppo_hard",
    "tdpo1",
    "tdpo2",
    "wpo",
]
