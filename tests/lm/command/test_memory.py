"""Memory, estimated before a training, against what it holds."""

import pytest
import torch
from lm_made import FILM_PAIRS, TRAIN, report_of, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, TextComparisons, TrainingOptions
from prefsim.lm.command.memory import activation_bytes
from prefsim.lm.training.optimizer import make_optimizer
from prefsim.solvers import fit


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ((), "float32"),
        (("--dtype", "bfloat16"), "bfloat16"),
        (("--dtype", "bfloat16", "--lora-rank", "2"), "bfloat16"),
        (("--optimizer", "adamw_bf16"), "float32"),
        (("--optimizer", "adamw_8bit"), "float32"),
        (("--dtype", "float64", "--optimizer", "adamw_8bit"), "float64"),
        (("--dtype", "bfloat16", "--precision", "bf16_weights"), "bfloat16"),
        (
            *(("--dtype", "bfloat16", "--precision", "bf16_weights", "--optimizer", "adamw_bf16"),),
            "bfloat16",
        ),
    ],
)
def test_the_estimate_is_what_a_training_holds(prefsim, made, options, dtype):
    memory = report_of(prefsim, *TRAIN, "--dry-run", "--json", *options)["memory"]
    adapter = None
    if "--lora-rank" in options:
        from peft import LoraConfig

        adapter = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = CausalLM.load(made / "model", dtype=dtype, adapter=adapter)
    held, given = {}, dict(zip(options[::2], options[1::2], strict=True))
    how = {name: given[f"--{name}"] for name in ("optimizer", "precision") if f"--{name}" in given}

    def watched(groups):
        optimizer = make_optimizer(TrainingOptions(**how), [p for g in groups for p in g["params"]])
        optimizer.register_step_post_hook(lambda *_: measure(optimizer))
        return optimizer

    def measure(optimizer):
        every = list(policy.log_prob_model.parameters())
        held["weights"] = sum(p.numel() * p.itemsize for p in every)
        held["gradients"] = sum(
            p.grad.numel() * p.grad.itemsize for p in every if p.grad is not None
        )
        states = [value for state in optimizer.state.values() for value in state.values()]
        held["optimizer"] = sum(value.numel() * value.itemsize for value in states if value.ndim)

    columns = {name: [row[name] for row in FILM_PAIRS] for name in FILM_PAIRS[0]}
    reference = policy.frozen() if adapter is None else policy.without_adapters()
    fit(
        policy,
        losses.dpo,
        TextComparisons(**columns),
        reference=reference,
        steps=1,
        precision=how.get("precision"),
        optimizer=watched,
        in_place=True,
        progress=False,
    )
    assert {name: memory[name] for name in held} == held
    shared = reference.log_prob_model is policy.log_prob_model
    assert memory["reference"] == (
        0 if shared else sum(p.numel() * p.itemsize for p in reference.log_prob_model.parameters())
    )


@pytest.mark.parametrize("precision", ["float32", "bf16", "bf16_weights"])
@pytest.mark.parametrize(("hidden", "inner", "groups"), [(64, 172, 2), (128, 512, 4), (96, 96, 1)])
def test_activations_are_nearly_those_that_autograd_keeps(hidden, inner, groups, precision):
    from transformers import AutoModelForCausalLM

    batch, length, layers = 3, 96, 6
    config = small_llama(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_key_value_heads=groups,
    )
    dtype = torch.bfloat16 if precision == "bf16_weights" else torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).train()
    owned = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    rounds = precision == "bf16"
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=rounds),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        output = model.base_model(
            input_ids=torch.zeros(batch, length, dtype=torch.long), use_cache=False
        ).last_hidden_state
    found = sum(size for size, _ in kept.values())
    assert output.requires_grad
    if rounds:
        # Copies of the weights are counted apart.
        products = (p for name, p in model.named_parameters() if "proj" in name)
        found -= sum(2 * p.numel() for p in products)
    for_a_token = activation_bytes(config, precision=precision)
    assert batch * length * for_a_token == pytest.approx(found, rel=0.15)


def test_checkpointing_keeps_less():
    config = small_llama(num_hidden_layers=10)
    assert activation_bytes(config, checkpointing=True) < activation_bytes(config) / 5


def test_a_dry_run_counts_it_in_main_memory(prefsim):
    found = {}
    for name in ("adamw", "adamw_8bit"):
        for more in ((), ("--offload-optimizer",)):
            arguments = (*TRAIN, "--dry-run", "--json", "--optimizer", name, *more)
            found[name, bool(more)] = report_of(prefsim, *arguments)["memory"]
        here, there = found[name, False], found[name, True]
        assert here["offloaded"] == 0 and there["optimizer"] == 0
        assert there["offloaded"] == here["optimizer"] > 0
        assert here["total"] - there["total"] == here["optimizer"]
    code, out, _ = prefsim(*TRAIN, "--dry-run", "--offload-optimizer")
    assert code == 0 and "Main memory for the optimiser: " in out
