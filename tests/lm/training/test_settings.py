"""How a training is done: memory, precision, optimisers, what is left alone, what is written."""

import functools

import numpy as np
import pytest
import torch
from lm_made import adapted_llama, largest_difference, random_pairs, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, TextComparisons
from prefsim.lm.training.metrics import read_metrics
from prefsim.solvers import fit

dpo = functools.partial(losses.dpo, beta=0.5)

QUICK = {"batch_size": 4, "learning_rate": 1e-3, "warmup": 0.0, "progress": False}


def test_adapters_alone_are_trained_and_the_given_policy_is_not_changed():
    policy, data = adapted_llama(), random_pairs(7)
    before = {name: p.detach().clone() for name, p in policy.log_prob_model.named_parameters()}
    found = fit(policy, dpo, data, reference=policy.without_adapters(), steps=3, **QUICK)
    for (name, p), q in zip(
        found.policy.log_prob_model.named_parameters(),
        policy.log_prob_model.parameters(),
        strict=True,
    ):
        assert torch.equal(q, before[name])
        assert ("lora_" in name) == p.requires_grad
        assert p is q if "lora_" not in name else not torch.equal(p, q) or "lora_A" in name
    assert found.history[0, 0] == pytest.approx(np.log(2), abs=1e-6)


def test_a_gradient_of_before_is_none_of_the_first_step():
    norms = []
    for adds in (False, True):
        policy = CausalLM.from_config(small_llama(64), seed=0)
        if adds:
            sum(p.sum() for p in policy.module.parameters()).backward()
        policy.plain.get_input_embeddings().requires_grad_(False)
        options = {"reference": None, "steps": 1, "in_place": True} | QUICK
        norms.append(fit(policy, losses.simpo, random_pairs(4), **options).grad_norm)
    assert norms[0] == norms[1]


def test_what_was_interrupted_in_place_can_be_gone_on_with():
    policy = CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16")
    data, calls = random_pairs(4), []
    before = policy.log_prob(data.prompt, data.chosen)

    def loss(logps: losses.PairLogps):
        calls.append(1)
        # In the second micro-batch of a step, behind the calls that look at the loss.
        if stops and len(calls) == looked + 2:
            raise KeyboardInterrupt
        return losses.simpo(logps)

    stops, looked = False, 0
    options = {"reference": None, "steps": 1, "in_place": True, "gradient_accumulation": 2}
    options |= QUICK | {"learning_rate": 1e-12}
    fit(policy, loss, data, **options)
    stops, looked = True, len(calls) - 2
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        fit(policy, loss, data, **options)
    assert {p.dtype for p in policy.module.parameters()} == {torch.bfloat16}
    assert all(p.grad is None for p in policy.module.parameters())
    assert torch.equal(policy.log_prob(data.prompt, data.chosen), before)


@pytest.mark.parametrize("frozen", ["embed_tokens", "layers.0", "norm"])
def test_at_the_start_a_policy_that_is_frozen_in_part_is_its_reference(frozen):
    policy, rng = CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16"), [0, 1, 2]
    for name, parameter in policy.model.named_parameters():
        parameter.requires_grad_(frozen not in name)
    data = TextComparisons(*(np.random.default_rng(i).integers(3, 64, (4, 40)) for i in rng))
    found = fit(policy, dpo, data, reference=policy, steps=1, **QUICK)
    assert found.value == pytest.approx(np.log(2), abs=1e-6)


def test_training_in_place(tiny):
    policy, data = tiny.frozen(), random_pairs(7)
    policy.log_prob_model.requires_grad_(True)
    copied = fit(policy, dpo, data, reference=tiny, steps=2, **QUICK)
    found = fit(policy, dpo, data, reference=tiny, steps=2, in_place=True, **QUICK)
    assert found.policy.log_prob_model is policy.log_prob_model
    assert largest_difference(found.policy, copied.policy) == 0
    with pytest.raises(ValueError, match="trained in place cannot be its own reference"):
        fit(policy, dpo, data, reference=policy, in_place=True)


def test_gradient_checkpointing_changes_nothing(tiny64):
    found = [
        fit(
            tiny64,
            dpo,
            random_pairs(),
            reference=tiny64,
            steps=2,
            gradient_checkpointing=flag,
            **QUICK,
        )
        for flag in (False, True)
    ]
    np.testing.assert_allclose(found[1].history, found[0].history, rtol=1e-12)
    assert not found[1].policy.log_prob_model.training
    assert not found[1].policy.log_prob_model.plain.is_gradient_checkpointing


@pytest.mark.parametrize("tied", [False, True])
def test_a_policy_in_bf16_is_its_own_reference_at_the_first_step(tied):
    start = CausalLM.from_config(
        small_llama(64, tie_word_embeddings=tied), seed=0, dtype="bfloat16"
    )
    kept = {name: parameter.clone() for name, parameter in start.log_prob_model.named_parameters()}
    for reference in (start, start.frozen()):
        result = fit(
            start, dpo, random_pairs(), reference=reference, steps=1, precision="bf16", **QUICK
        )
        assert result.history[0, 0] == pytest.approx(np.log(2), abs=1e-12)
    for name, parameter in start.log_prob_model.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter, kept[name])


def test_bf16_trains_in_float32_and_gives_the_dtype_back(tiny):
    wide = fit(tiny, dpo, random_pairs(), reference=tiny, steps=2, **QUICK)
    mixed = fit(tiny, dpo, random_pairs(), reference=tiny, steps=2, precision="bf16", **QUICK)
    assert mixed.history[0, 0] == pytest.approx(np.log(2), abs=1e-3)
    np.testing.assert_allclose(mixed.history, wide.history, rtol=0.2)
    assert "forward" not in vars(mixed.policy.log_prob_model)
    narrow = CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16")
    # A step of 1e-6 is below the resolution of bfloat16, but not of what is trained.
    kept = fit(
        narrow, dpo, random_pairs(), reference=narrow, steps=2, **(QUICK | {"learning_rate": 1e-2})
    )
    assert {p.dtype for p in kept.policy.log_prob_model.parameters()} == {torch.bfloat16}
    assert largest_difference(kept.policy, narrow) > 0
    with pytest.raises(
        ValueError, match="precision 'float32' needs parameters of float32 or float64, got bfloat16"
    ):
        fit(narrow, dpo, random_pairs(), reference=narrow, precision="float32")


def test_settings_of_another_accelerator_stay(tiny):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    before = dict(AcceleratorState._shared_state)
    AcceleratorState._shared_state.clear()
    try:
        other = Accelerator(cpu=True, mixed_precision="no")
        fit(tiny, dpo, random_pairs(), reference=tiny, steps=1, precision="bf16", **QUICK)
        assert other.mixed_precision == "no"
    finally:
        AcceleratorState._shared_state.clear()
        AcceleratorState._shared_state.update(before)


def test_the_callers_random_state_is_left_alone(tiny):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    fit(tiny, dpo, random_pairs(), reference=tiny, steps=1, **QUICK)
    assert torch.equal(torch.rand(3), wanted)


def test_optimisers(tiny64):
    made = functools.partial(torch.optim.AdamW, lr=1e-3, fused=True)
    named, given = (
        fit(tiny64, dpo, random_pairs(), reference=tiny64, steps=2, optimizer=how, **QUICK)
        for how in ("adamw", made)
    )
    assert largest_difference(named.policy, given.policy) == 0
    decayed = fit(
        tiny64,
        dpo,
        random_pairs(),
        reference=tiny64,
        steps=1,
        optimizer="sgd",
        weight_decay=1.0,
        **(QUICK | {"learning_rate": 1e-9}),
    )
    for (name, p), q in zip(
        decayed.policy.log_prob_model.named_parameters(),
        tiny64.log_prob_model.parameters(),
        strict=True,
    ):
        assert (p - q).abs().max() < (2e-8 if p.ndim >= 2 else 1e-8), name


def test_metrics_are_written(tiny, tmp_path):
    found = fit(
        tiny,
        dpo,
        random_pairs(),
        reference=tiny,
        steps=5,
        log_every=2,
        out=tmp_path / "run",
        diagnostics=["displacement"],
        **QUICK,
    )
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 2, 4, 5]
    assert tuple(lines) == found.metrics
    assert lines[1]["loss"] == pytest.approx(found.history[:2, 0].mean())
    assert lines[3]["grad_norm"] == pytest.approx(found.history[4, 1])
    assert {"chosen_drift", "rejected_drift", "displaced"} <= set(lines[0])
    again = CausalLM.load(tmp_path / "run" / "model")
    assert largest_difference(again, found.policy) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {
        "metrics.jsonl",
        "model",
        "tensorboard",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"steps": 1, "epochs": 1}, "steps or epochs may be given, got both: 1 and 1"),
        ({"epochs": -1}, "epochs must be a finite number > 0"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"learning_rate": 0}, "learning_rate must be a finite number > 0"),
        ({"warmup": 1.0}, "warmup must lie in"),
        (
            {"schedule": "step"},
            "schedule must be one of 'linear', 'cosine', 'constant', got 'step'",
        ),
        ({"optimizer": "lion"}, "optimizer must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"order": "sorted"}, "order must be one of"),
        ({"save_every": 2}, "save_every needs out"),
        ({"resume": True}, "resume needs out"),
        ({"max_grad_norm": 0}, "max_grad_norm must be a finite number > 0"),
        ({"diagnostics": ["ches", "loss"]}, "diagnostics must be one of .* got 'loss'"),
        ({"reference": "model"}, "reference must be a CausalLM, ReferenceLogps or None, got str"),
        (
            {"reference": CausalLM.from_config(small_llama(65), seed=0)},
            "must have the vocabulary of the policy, 64 tokens, got 65",
        ),
        (
            {"diagnostics": ["kl"], "reference": None},
            "diagnostics 'kl' need the reference model itself, got no reference",
        ),
        (
            {"learning_rate": 1e30, "steps": 5, "warmup": 0.0},
            "loss and gradient must be finite, got .* at step [2-5] on examples",
        ),
    ],
)
def test_bad_options(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        fit(tiny, dpo, random_pairs(), **({"reference": tiny, "progress": False} | options))
