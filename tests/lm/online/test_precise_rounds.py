"""Rounds go on with what a model's own precision would forget: wide weights and the optimiser."""

import functools

import numpy as np
import pytest
import torch
from lm_made import largest_difference, random_pairs, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, trainer
from prefsim.loops.rounds import play_rounds
from prefsim.solvers import fit

ROUNDS = 6
DATA = random_pairs(4)
STEP = {
    "batch_size": 4,
    "learning_rate": 1e-5,
    "schedule": "constant",
    "warmup": 0.0,
    "order": "given",
}
dpo = functools.partial(losses.dpo, beta=0.5)


def start(dtype):
    return CausalLM.from_config(small_llama(64), seed=0, dtype=dtype)


def moved(policy, before):
    """How far the parameters moved, in all."""
    pairs = zip(policy.log_prob_model.parameters(), before.log_prob_model.parameters(), strict=True)
    return float(sum((p - q).detach().double().square().sum() for p, q in pairs).sqrt())


def rounds_of(policy, **options):
    train = trainer(steps=1, **STEP | options)
    played = play_rounds(
        policy, lambda *_: DATA, dpo, rounds=ROUNDS, seed=0, reference=policy, train=train
    )
    return [each.policy for each in played]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_rounds_of_a_step_are_one_training(dtype, optimizer):
    """The same data each round: nothing is forgotten between rounds, to the last bit."""
    policy = start(dtype)
    last = rounds_of(policy, optimizer=optimizer)[-1]
    whole = fit(
        policy,
        dpo,
        DATA,
        reference=policy,
        steps=ROUNDS,
        optimizer=optimizer,
        progress=False,
        **STEP,
    ).policy
    assert largest_difference(last, whole) == 0
    assert moved(last, policy) > 0
    assert {p.dtype for p in last.log_prob_model.parameters()} == {getattr(torch, dtype)}


def test_a_trial_leaves_no_trace():
    """An extragradient trains twice from one policy; either time the state is that policy's."""
    policy = start("float32")
    train = trainer(steps=1, **STEP)
    first = train(policy, dpo, DATA, policy)
    trial = train(first, dpo, DATA, policy)
    again = train(first, dpo, DATA, policy)
    assert largest_difference(trial, again) == 0
    # A policy from elsewhere begins with an optimiser of its own.
    fresh = trainer(steps=1, **STEP)(first, dpo, DATA, policy)
    assert largest_difference(fresh, again) > 0
    assert largest_difference(trainer(steps=1, **STEP)(policy, dpo, DATA, policy), first) == 0


def test_what_is_kept_for_a_policy_goes_with_the_rounds():
    """Two policies' worth, however many rounds a caller holds on to."""
    train = trainer(steps=1, **STEP)
    policies = [start("bfloat16")]
    for _ in range(4):
        policies.append(train(policies[-1], dpo, DATA, policies[0]))
    (made,) = [
        cell.cell_contents for cell in train.__closure__ if isinstance(cell.cell_contents, list)
    ]
    assert [made_by() for made_by, _ in made] == policies[-2:]
    assert np.isfinite(moved(policies[-1], policies[0]))
