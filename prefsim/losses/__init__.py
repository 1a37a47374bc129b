"""Losses: pure functions of log-probabilities, one value per example, without hidden state.

A loss that follows its training (a running shift, a moving mean) is one of them together with its
state in sight: :class:`RunningLoss`.
"""

from prefsim.containers import (
    AnchoredLogps,
    ClassLogits,
    ClassPairs,
    DegreeLogits,
    DegreePairLogps,
    DistillationLogits,
    GaussianRewards,
    JudgedLogps,
    ListLogps,
    PairLogps,
    PairRewards,
    SelfImprovementLogps,
    TokenListLogps,
    TokenPairLogps,
    TokenValues,
    UnpairedLogps,
)
from prefsim.losses.adaptive_classification import aldr_kl
from prefsim.losses.advantages import (
    finished_scores,
    gae,
    group_advantage,
    kl_shaped_rewards,
    leave_one_out,
    rewards_to_go,
    whitened,
)
from prefsim.losses.anchored import d2o
from prefsim.losses.batchwise import aot, aot_unpaired, beta_dpo, drdpo
from prefsim.losses.binary_classifier import (
    RewardShift,
    RunningShift,
    bco_unpaired,
    density_ratio_weights,
    running_bco,
)
from prefsim.losses.catalogue import catalogue
from prefsim.losses.classification import (
    crammer_singer,
    cross_entropy,
    ldr_k_kl,
    ldr_kl,
    ldr_top_k,
    linear_symmetric,
    mae,
)
from prefsim.losses.clipped import reduced
from prefsim.losses.comp_sum import comp_sum, ramp_comp_sum
from prefsim.losses.contrastive import infonce, rgcl, simple_contrastive
from prefsim.losses.degree import ordinal_logits, preference_degree, spo_degree
from prefsim.losses.distillation import binary_kl, binary_kl_norm, distillation_kl
from prefsim.losses.dro import kl_dro
from prefsim.losses.flipped_labels import (
    flip_corrected,
    rdpo,
    robust_hinge,
    robust_ipo,
    robust_probit,
)
from prefsim.losses.gaussian_rewards import gaussian_bradley_terry
from prefsim.losses.kl_estimators import rloo_kl, score_function_kl, token_kl
from prefsim.losses.links import soft_logistic
from prefsim.losses.listwise import exo_rw, infonca, nca, pl_dpo
from prefsim.losses.margins import (
    chipo,
    discopop,
    dpop,
    exo_pair,
    flex_dpo,
    odpo,
    probit,
    rdpo_length,
    sigmoid_norm,
)
from prefsim.losses.mixtures import Mixture
from prefsim.losses.multipliers import (
    Multipliers,
    mixed_advantage,
    mixture_weights,
    multiplier_step,
    saturated,
)
from prefsim.losses.nash import dno, inpo, mirror_descent, nash_md_pg, online_ipo
from prefsim.losses.on_policy import grpo, ppo, rloo
from prefsim.losses.online import regret_loss
from prefsim.losses.paired_classes import p2c
from prefsim.losses.pairwise import (
    dpo,
    f_dpo,
    hinge,
    ipo,
    log_ratios,
    reward_margin,
    rpo,
    sft,
    soft,
    spce,
)
from prefsim.losses.pointwise import (
    apo_down,
    apo_zero,
    bco,
    bco_pair,
    cal_dpo,
    nca_pair,
    npo,
    simnpo,
)
from prefsim.losses.policy_gradient import RewardScale, copg, copg_group, p3o
from prefsim.losses.reference_free import asft, cpo, gradient_ascent, orpo, rrhf, simpo, slic
from prefsim.losses.registry import container_of, loss_functions
from prefsim.losses.reinforce import reinforce
from prefsim.losses.response_regression import gpo, sppo, sppo_hard, sppo_single
from prefsim.losses.reward import bradley_terry, score_regression
from prefsim.losses.running import RunningLoss, RunningState
from prefsim.losses.running_beta import MovingMargin, guided_filter, running_beta_dpo
from prefsim.losses.segments import cpl, cpl_ranked, regret
from prefsim.losses.self_improvement import srpo
from prefsim.losses.semantic import from_structure, semantic
from prefsim.losses.token_rewards import log_ratio_rewards, rto_rewards
from prefsim.losses.token_weights import activation_weights, relu_weights, token_sparsity
from prefsim.losses.tokenwise import ld_dpo, sparse_po, tdpo1, tdpo2, wpo
from prefsim.losses.unlearning import ga_kl, ga_rt, npo_kl, npo_rt
from prefsim.losses.unpaired import kto
from prefsim.losses.value_function import value_loss
from prefsim.losses.value_incentive import vpo

__all__ = [
    "AnchoredLogps",
    "ClassLogits",
    "ClassPairs",
    "DegreeLogits",
    "DegreePairLogps",
    "DistillationLogits",
    "GaussianRewards",
    "JudgedLogps",
    "ListLogps",
    "Mixture",
    "MovingMargin",
    "Multipliers",
    "PairLogps",
    "PairRewards",
    "RewardScale",
    "RewardShift",
    "RunningLoss",
    "RunningShift",
    "RunningState",
    "SelfImprovementLogps",
    "TokenListLogps",
    "TokenPairLogps",
    "TokenValues",
    "UnpairedLogps",
    "activation_weights",
    "aldr_kl",
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "asft",
    "bco",
    "bco_pair",
    "bco_unpaired",
    "beta_dpo",
    "binary_kl",
    "binary_kl_norm",
    "bradley_terry",
    "cal_dpo",
    "catalogue",
    "chipo",
    "comp_sum",
    "container_of",
    "copg",
    "copg_group",
    "cpl",
    "cpl_ranked",
    "cpo",
    "crammer_singer",
    "cross_entropy",
    "d2o",
    "density_ratio_weights",
    "discopop",
    "distillation_kl",
    "dno",
    "dpo",
    "dpop",
    "drdpo",
    "exo_pair",
    "exo_rw",
    "f_dpo",
    "flex_dpo",
    "finished_scores",
    "flip_corrected",
    "from_structure",
    "ga_kl",
    "ga_rt",
    "gae",
    "gaussian_bradley_terry",
    "gpo",
    "gradient_ascent",
    "group_advantage",
    "grpo",
    "guided_filter",
    "hinge",
    "infonca",
    "infonce",
    "inpo",
    "ipo",
    "kl_dro",
    "kl_shaped_rewards",
    "kto",
    "ld_dpo",
    "ldr_k_kl",
    "ldr_kl",
    "ldr_top_k",
    "leave_one_out",
    "linear_symmetric",
    "log_ratio_rewards",
    "log_ratios",
    "loss_functions",
    "mae",
    "mirror_descent",
    "mixed_advantage",
    "mixture_weights",
    "multiplier_step",
    "nash_md_pg",
    "nca",
    "nca_pair",
    "npo",
    "npo_kl",
    "npo_rt",
    "odpo",
    "online_ipo",
    "ordinal_logits",
    "orpo",
    "p2c",
    "p3o",
    "pl_dpo",
    "ppo",
    "preference_degree",
    "probit",
    "ramp_comp_sum",
    "rdpo",
    "rdpo_length",
    "reduced",
    "regret",
    "regret_loss",
    "reinforce",
    "reward_margin",
    "relu_weights",
    "rewards_to_go",
    "rgcl",
    "rloo",
    "rloo_kl",
    "robust_hinge",
    "robust_ipo",
    "robust_probit",
    "rpo",
    "rrhf",
    "rto_rewards",
    "running_bco",
    "running_beta_dpo",
    "saturated",
    "score_function_kl",
    "score_regression",
    "semantic",
    "sft",
    "sigmoid_norm",
    "simnpo",
    "simple_contrastive",
    "simpo",
    "slic",
    "soft",
    "soft_logistic",
    "sparse_po",
    "token_sparsity",
    "spce",
    "spo_degree",
    "sppo",
    "sppo_hard",
    "sppo_single",
    "srpo",
    "tdpo1",
    "tdpo2",
    "token_kl",
    "value_loss",
    "vpo",
    "whitened",
    "wpo",
]


def __dir__() -> list[str]:
    return sorted(__all__)
