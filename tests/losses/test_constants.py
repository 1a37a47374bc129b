"""What losses declare constant: no derivative goes through it, whole or in part."""

import functools

import numpy as np
import pytest
from loss_examples import example_of, nothing_detached
from loss_settings import configurations

from prefsim import losses
from prefsim.gradients import loss_gradient
from prefsim.losses.registry import loss_functions

LOSSES = loss_functions()

# Read by the loss, and without any derivative.
WHOLLY = {
    "binary_kl": "teacher_logits",
    "binary_kl_norm": "teacher_logits",
    "copg": "chosen_score rejected_score",
    "copg_group": "scores",
    "kto": "mismatched ref_mismatched",
    "distillation_kl": "teacher_logits",
    "dno": "chosen_score rejected_score",
    "gaussian_bradley_terry": "chosen_noise rejected_noise",
    "gpo": "chosen_score rejected_score",
    "grpo": "scores",
    "mirror_descent": "chosen_score rejected_score",
    "nash_md_pg": "win_prob ref_logp",
    "online_ipo": "chosen_score rejected_score",
    "p3o": "chosen_score rejected_score",
    "ppo": "advantage",
    "reinforce": "scores",
    "rloo": "ref_logps scores",
    "spce": "chosen_score",
    "sppo_single": "win_prob",
    "tdpo2": "chosen_kl",
    "value_loss": "returns old_values",
    "wpo": "chosen_collision rejected_collision",
}
# With a derivative, though not through all that the loss makes of it: a baseline, a running shift,
# a temperature, a weight.
PARTLY = {
    "aldr_kl": "logits",
    "bco": "chosen rejected ref_chosen ref_rejected",
    "bco_unpaired": "logp ref_logp",
    "beta_dpo": "chosen rejected ref_chosen ref_rejected",
    "copg": "chosen rejected ref_chosen ref_rejected",
    "copg_group": "logps ref_logps",
    "grpo": "old_logp ref_logp",
    "nash_md_pg": "logp",
    "p2c": "chosen_rewards rejected_rewards",
    "p3o": "chosen rejected old_chosen old_rejected ref_chosen ref_rejected",
    "ppo": "old_logp ref_logp",
    "reinforce": "logps ref_logps",
    "rloo": "old_logps",
    "wpo": "chosen rejected",
}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_derivatives_that_are_stopped(name):
    loss, container = LOSSES[name], example_of(LOSSES[name], seed=3)
    stopped = set()
    for setting in configurations(loss):
        configured = functools.partial(loss, **setting)
        found = loss_gradient(configured, container)
        for field in WHOLLY.get(name, "").split():
            assert not getattr(found, field).any(), (setting, field)
        with nothing_detached():
            through = loss_gradient(configured, container)
        stopped |= {
            field
            for field in container._fields
            if getattr(found, field) is not None
            and not np.allclose(getattr(found, field), getattr(through, field), atol=1e-12)
        }
    declared = f"{WHOLLY.get(name, '')} {PARTLY.get(name, '')}"
    assert stopped == set(declared.split())


def test_a_judgement_is_a_constant_of_the_soft_cross_entropy():
    pair = losses.PairLogps([-1.0, -2.0], [-3.0, -2.5], [-2.0] * 2, [-2.0] * 2)
    judged = pair._replace(
        chosen_score=np.asarray([0.7, 0.2]), rejected_score=np.asarray([0.3, 0.8])
    )
    found = loss_gradient(functools.partial(losses.spce, beta=0.5), judged)
    assert not found.chosen_score.any()
    assert not found.rejected_score.any()
    # −β(p − σ(βh)), with margins of 2 and one half.
    expected = -0.5 * (np.asarray([0.7, 0.2]) - 1 / (1 + np.exp([-1.0, -0.25])))
    np.testing.assert_allclose(found.chosen, expected, rtol=1e-14)
