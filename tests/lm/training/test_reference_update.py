"""References that follow a language model in training, softly or in hard steps, and resume."""

import copy
import functools

import numpy as np
import pytest
import torch
from lm_made import adapted_llama, largest_difference, random_pairs, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, TrainingOptions, references_of, trainer
from prefsim.lm.model.digests import DIGESTS, write_digests
from prefsim.lm.training import checkpoint as disk
from prefsim.loops import staged_reference
from prefsim.solvers import fit

dpo = functools.partial(losses.dpo, beta=0.5)
DATA = random_pairs(8)
OPTIONS = {
    "batch_size": 4,
    "learning_rate": 3e-3,
    "schedule": "constant",
    "warmup": 0.0,
    "max_grad_norm": None,
    "optimizer": "sgd",
    "order": "given",
    "progress": False,
}


def test_a_soft_update_after_every_step(tiny64):
    """Against single steps, each with the reference mixed by hand."""
    found = fit(tiny64, dpo, DATA, reference=tiny64, steps=3, reference_weight=0.6, **OPTIONS)
    policy, reference = tiny64, copy.deepcopy(tiny64)
    for step in range(3):
        part = DATA.take(np.arange(4 * step, 4 * step + 4) % 8)
        one = fit(policy, dpo, part, reference=reference, steps=1, **OPTIONS)
        assert one.value == pytest.approx(found.history[step, 0], rel=1e-9)
        policy = one.policy
        with torch.no_grad():
            for theirs, ours in zip(
                reference.log_prob_model.parameters(),
                policy.log_prob_model.parameters(),
                strict=True,
            ):
                theirs.copy_(0.6 * ours + 0.4 * theirs)
    assert largest_difference(found.policy, policy) < 1e-12
    fixed = fit(tiny64, dpo, DATA, reference=tiny64, steps=3, **OPTIONS)
    assert largest_difference(found.policy, fixed.policy) > 1e-6


def test_a_hard_update_is_training_in_stages(tiny64):
    """Two epochs with an update between them, and two stages of one epoch."""
    hard = {"reference_weight": 1.0, "reference_every": 2}
    whole = fit(tiny64, dpo, DATA, reference=tiny64, steps=4, **hard, **OPTIONS)
    stages = staged_reference(tiny64, dpo, [DATA, DATA], train=trainer(steps=2, **OPTIONS))
    assert largest_difference(whole.policy, stages[-1].policy) < 1e-12


def test_what_was_given_is_not_changed(tiny):
    other = CausalLM.from_config(small_llama(64), seed=3)
    before = copy.deepcopy(other)
    fit(tiny, dpo, DATA, reference=other, steps=2, reference_weight=1.0, **OPTIONS)
    assert largest_difference(other, before) == 0


@pytest.mark.parametrize("every", [1, 3])
def test_a_resumed_training_has_its_reference_back(tiny, tmp_path, every):
    options = OPTIONS | {"steps": 6, "reference_weight": 0.6, "reference_every": every}
    whole = fit(tiny, dpo, DATA, reference=tiny, **options)
    options |= {"out": tmp_path, "save_every": 2, "keep": 9}
    fit(tiny, dpo, DATA, reference=tiny, **options)
    for step in (4, 6):
        # As if the training had ended after its second step.
        (tmp_path / f"checkpoints/step-{step:08d}" / disk.STATE).unlink()
    resumed = fit(tiny, dpo, DATA, reference=tiny, resume=True, **options)
    np.testing.assert_array_equal(resumed.history, whole.history)
    assert largest_difference(resumed.policy, whole.policy) == 0
    changed = options | {"reference_weight": 0.5}
    with pytest.raises(ValueError, match="reference_weight must be what it was"):
        fit(tiny, dpo, DATA, reference=tiny, resume=True, **changed)


def test_a_training_of_a_version_that_kept_less_is_refused_in_words(tiny, tmp_path):
    """What it does not say cannot be checked."""
    import json

    options = OPTIONS | {"steps": 2, "out": tmp_path, "save_every": 2}
    fit(tiny, dpo, DATA, reference=tiny, **options)
    folder = tmp_path / "checkpoints/step-00000002"
    state = json.loads((folder / disk.STATE).read_text())
    del state["fingerprint"]["reference_weight"]
    (folder / disk.STATE).write_text(json.dumps(state))
    write_digests(folder)
    with pytest.raises(ValueError, match="does not say its reference_weight: it was written by an"):
        fit(tiny, dpo, DATA, reference=tiny, resume=True, **options)
    (folder / DIGESTS).unlink()
    with pytest.raises(ValueError, match=f"cannot be checked against its {DIGESTS}"):
        fit(tiny, dpo, DATA, reference=tiny, resume=True, **options)


def test_a_reference_in_half_precision_follows_in_single():
    """A step of 10⁻⁵ of a parameter is nothing in bfloat16."""
    policy = CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16")
    options = OPTIONS | {"learning_rate": 1e-4, "steps": 4, "precision": "bf16"}
    soft = fit(policy, dpo, DATA, reference=policy, reference_weight=1.0, **options)
    # Against the policy of the step before every margin is small, and its loss close to log 2.
    fixed = fit(policy, dpo, DATA, reference=policy, **options)
    assert np.isfinite(soft.history).all()
    assert (soft.history[1:, 0] != fixed.history[1:, 0]).any()


def test_what_cannot_follow_is_refused(tiny):
    update = {"steps": 1, "reference_weight": 0.6, **OPTIONS}
    stored = references_of(tiny, DATA, dpo)
    with pytest.raises(ValueError, match="model of its own, got its log-probabilities alone"):
        fit(tiny, dpo, DATA, reference=stored, **update)
    with pytest.raises(ValueError, match="model of its own, got no reference"):
        fit(tiny, losses.simpo, DATA, **update)
    adapted = adapted_llama()
    without = copy.copy(adapted)
    object.__setattr__(without, "adapters", False)
    with pytest.raises(ValueError, match="got the policy with its adapters switched off"):
        fit(adapted, dpo, DATA, reference=without, **update)
    with pytest.raises(ValueError, match="must have its parameters, got a difference in"):
        fit(adapted, dpo, DATA, reference=tiny, **update)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference_weight": 0.0}, r"reference_weight must lie in \(0.0, 1.0\]"),
        ({"reference_weight": 0.5, "reference_every": 0}, "reference_every must be an integer"),
        ({"reference_every": -1}, "reference_every must be an integer >= 1, got -1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)
