"""The options that losses have unless they are given: a changed default is a changed loss."""

import inspect

import numpy as np
import pytest
from loss_examples import example_of
from loss_settings import base_options

from prefsim.losses.registry import loss_functions

DEFAULTS = {
    "aldr_kl": {"lambda_0": 1.0, "alpha": None, "variant": "exact", "previous": None},
    "aot": {"beta": 0.1},
    "aot_unpaired": {"beta": 0.1},
    "apo_down": {"beta": 0.1},
    "apo_zero": {"beta": 0.1},
    "asft": {"lambda_": 1.0, "beta": 1.0, "sft_weight": 1.0},
    "bco": {"beta": 0.1},
    "bco_pair": {"beta": 0.1, "shift": 0.0},
    "bco_unpaired": {"beta": 0.1, "shift": None, "density_ratio": None},
    "beta_dpo": {
        "beta": 0.1,
        "alpha": 0.6,
        "margin_mean": 0.0,
        "smallest_beta": 0.001,
        "kept": None,
    },
    "binary_kl": {"tau": 2.0},
    "binary_kl_norm": {"tau": 2.0},
    "bradley_terry": {"margin": 0.0, "label_smoothing": 0.0, "floor": 0.0},
    "cal_dpo": {"beta": 0.1, "lambda_": 1.0},
    "chipo": {"beta": 0.1, "clip": None},
    "comp_sum": {"tau": 1.0},
    "copg": {"beta": 0.1, "form": "square"},
    "copg_group": {"beta": 0.1, "form": "square"},
    "cpl": {"alpha": 0.1, "lambda_": 0.5, "discount": 1.0, "bc_coeff": 0.0, "bc_chosen_coeff": 0.0},
    "cpl_ranked": {"alpha": 0.1, "lambda_": 0.5},
    "cpo": {"beta": 0.1, "alpha": 1.0},
    "d2o": {"beta": 0.1, "alpha": 0.1, "level": "distribution"},
    "discopop": {"beta": 0.05, "tau": 0.05},
    "distillation_kl": {"temperature": 4.0},
    "dno": {"step": 10.0},
    "dpo": {"beta": 0.1, "label_smoothing": 0.0},
    "dpop": {"beta": 0.3, "penalty": 50.0},
    "drdpo": {"beta": 0.1, "beta_prime": 1.0},
    "exo_pair": {"beta": 0.1, "epsilon": 0.001},
    "exo_rw": {"beta": 0.1, "alpha": 1.0},
    "f_dpo": {"beta": 0.1, "divergence": "reverse_kl", "alpha": 0.5},
    "flex_dpo": {"beta": 0.1, "beta_rejected": 0.08},
    "ga_kl": {"retain_weight": 1.0, "reduction": "mean"},
    "ga_rt": {"retain_weight": 1.0, "reduction": "mean"},
    "gaussian_bradley_terry": {
        "form": "expected",
        "mean_weight": 1.0,
        "spread_weight": 1.0,
        "entropy_weight": 0.1,
        "entropy_floor": 0.5,
    },
    "gpo": {"beta": 0.1},
    "grpo": {
        "beta": 0.04,
        "kl": "loss",
        "estimator": "k3",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "scale": True,
        "reduction": "response",
    },
    "hinge": {"beta": 0.1},
    "infonca": {"beta": 0.1, "alpha": 1.0},
    "infonce": {"temperature": 0.1, "share": 1.0},
    "inpo": {"step": 10 / 3, "tau": 0.1},
    "ipo": {"tau": 0.1, "average": False},
    "kto": {
        "beta": 0.1,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
        "reference_point": None,
    },
    "ld_dpo": {"beta": 0.1, "alpha": 0.5},
    "ldr_k_kl": {"k": 2, "lambda_": 1.0},
    "ldr_kl": {"lambda_": 1.0},
    "ldr_top_k": {"k": 2},
    "mirror_descent": {"step": 1.0, "tau": 0.1},
    "nash_md_pg": {"tau": 0.1, "kl": "sequence"},
    "nca": {"beta": 0.1, "alpha": 1.0},
    "nca_pair": {"beta": 0.1},
    "npo": {"beta": 0.1},
    "npo_kl": {"beta": 0.1, "retain_weight": 1.0, "reduction": "mean"},
    "npo_rt": {"beta": 0.1, "retain_weight": 1.0, "reduction": "mean"},
    "odpo": {"beta": 0.1, "alpha": 1.0},
    "online_ipo": {"tau": 0.1},
    "orpo": {"lambda_": 0.1},
    "p2c": {
        "consistency_weight": 1.0,
        "preference_weight": 1.0,
        "diversity_weight": 0.1,
        "consistency": "preference",
    },
    "p3o": {"beta": 0.05, "epsilon": 0.2, "weight_clip": 10.0, "clip": "joint", "scale_q": False},
    "pl_dpo": {"beta": 0.1},
    "ppo": {
        "beta": 0.05,
        "kl": "reward",
        "estimator": "k3",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "reduction": "batch",
        "whiten": False,
    },
    "probit": {"beta": 0.1},
    "ramp_comp_sum": {"tau": 1.0, "rho": 1.0},
    "rdpo": {"beta": 0.1, "flip_rate": 0.1},
    "rdpo_length": {"beta": 0.1, "alpha": 0.05},
    "reinforce": {"beta": 0.1, "baseline": 0.0},
    "rgcl": {"temperature": None, "radius": 0.3, "lowest": 0.05, "highest": np.inf},
    "rloo": {"beta": 0.05, "clip_low": np.inf, "clip_high": np.inf},
    "robust_hinge": {"beta": 0.1, "flip_rate": 0.1},
    "robust_ipo": {"tau": 0.1, "flip_rate": 0.1, "average": False},
    "robust_probit": {"beta": 0.1, "flip_rate": 0.1},
    "rpo": {"beta": 0.1, "eta": 0.005, "reduction": "sum", "scale_by_beta": None},
    "rrhf": {"lambda_": 1.0},
    "semantic": {
        "structure": "cCPO",
        "link": "logistic",
        "beta": 1.0,
        "reference": "none",
        "average": False,
    },
    "sft": {"reduction": "sum"},
    "score_regression": {"target": 10.0},
    "sigmoid_norm": {"beta": 0.1},
    "simnpo": {"beta": 2.5, "gamma": 0.0},
    "simple_contrastive": {"weight": None, "share": 1.0},
    "simpo": {"beta": 2.0, "gamma": 0.5},
    "slic": {"delta": 1.0, "lambda_": 0.1},
    "soft": {"beta": 0.1, "target": 0.7},
    "sparse_po": {"beta": 0.1, "reward_l1": 0.0, "kl_l1": 0.0},
    "spce": {"beta": 0.1},
    "spo_degree": {"gamma_chosen": 0.1, "gamma_rejected": 0.1},
    "sppo": {"beta": 0.1},
    "sppo_hard": {"beta": 0.1},
    "sppo_single": {"beta": 0.1},
    "srpo": {"beta": 0.01, "alpha": 0.5},
    "tdpo1": {"beta": 0.1},
    "tdpo2": {"beta": 0.1, "alpha": 0.5},
    "value_loss": {"clip": 0.2, "reduction": "batch"},
    "vpo": {"beta": 0.1, "alpha": 0.1, "optimistic": False, "calibration": "chosen"},
    "wpo": {"beta": 0.01, "clamp": True},
}


def test_defaults():
    found = {}
    for name, loss in loss_functions().items():
        options = {
            key: parameter.default
            for key, parameter in inspect.signature(loss).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        # The loss that aligns whole sequences is DPO, a function.
        align = options.pop("align", None)
        assert (align is not None) == (name == "spo_degree")
        if options:
            found[name] = options
    assert found == DEFAULTS


def test_a_loss_of_degree_aligns_by_dpo():
    align = inspect.signature(loss_functions()["spo_degree"]).parameters["align"].default
    assert align is loss_functions()["dpo"]


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_what_is_not_given_is_the_default(name):
    loss = loss_functions()[name]
    needed = base_options(loss)
    stated = {
        option: value
        for option, value in DEFAULTS[name].items()
        if value is not inspect.Parameter.empty
    }
    np.testing.assert_array_equal(
        loss(example_of(loss), **needed), loss(example_of(loss), **{**stated, **needed})
    )
