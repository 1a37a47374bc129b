"""``fit`` for language models.

Every loss that text can feed, against a plain loop, however a step is split and whatever the
reference.
"""

import functools
import itertools
import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from checks import base_options
from lm_made import small_llama

import prefsim
from prefsim import losses
from prefsim.containers import map_fields
from prefsim.lm import (
    CausalLM,
    TextComparisons,
    TextFeedback,
    TextNegatives,
    TextRankings,
    TrainingOptions,
    references_of,
)
from prefsim.lm.training.batches import BatchPlan, epoch_batches, micro_batches
from prefsim.lm.training.metrics import read_metrics
from prefsim.lm.training.options import learning_rate_factor
from prefsim.solvers import fit

# What no text can feed, and why.
NOT_FROM_TEXT = {
    losses.PairRewards: (
        "scalar rewards come from a reward head, which a causal language model does not have"
    ),
    losses.ClassLogits: "class scores come from a classification head",
    losses.DegreeLogits: (
        "degree scores come from a head of their own on the policy's representation"
    ),
    losses.DegreePairLogps: "as DegreeLogits",
}
LOSSES = losses.loss_functions()
FED = sorted(
    name for name, loss in LOSSES.items() if losses.container_of(loss) not in NOT_FROM_TEXT
)


def ids(rng, n, low=2, high=8, vocabulary=64):
    return [rng.integers(3, vocabulary, rng.integers(low, high)).tolist() for _ in range(n)]


def pairs(n=7, seed=0, **options):
    rng = np.random.default_rng(seed)
    return TextComparisons(ids(rng, n), ids(rng, n), ids(rng, n), **options)


def rich_data(kind, n=6):
    """Data with every column that a loss of ``kind`` may ask for."""
    rng = np.random.default_rng(1)
    prompts, lists = ids(rng, n), [ids(rng, 3) for _ in range(n)]
    if kind in TextFeedback.kinds:
        return TextFeedback(prompts, ids(rng, n), np.arange(n) % 2)
    if kind in TextRankings.kinds:
        return TextRankings(prompts, lists, rng.standard_normal((n, 3)))
    if kind in TextNegatives.kinds:
        return TextNegatives(prompts, ids(rng, n), lists)
    scores = {"chosen_score": 0.5 + 0.4 * rng.random(n), "rejected_score": 0.4 * rng.random(n)}
    return pairs(n, **scores, old_chosen=-9 - rng.random(n), old_rejected=-9 - rng.random(n))


@pytest.fixture(scope="module")
def tiny():
    return CausalLM.from_config(small_llama(64), seed=0)


@pytest.fixture(scope="module")
def tiny64():
    return CausalLM.from_config(small_llama(64), seed=0, dtype="float64")


def adapted(**options):
    from peft import LoraConfig

    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])
    return CausalLM.from_config(small_llama(64), seed=0, adapter=lora, **options)


def distance(a, b):
    return max(
        float((p - q).detach().abs().max())
        for p, q in zip(a.log_prob_model.parameters(), b.log_prob_model.parameters(), strict=True)
    )


dpo = functools.partial(losses.dpo, beta=0.5)
QUICK = {"batch_size": 4, "learning_rate": 1e-3, "warmup": 0.0, "progress": False}


@pytest.mark.parametrize("name", FED)
def test_every_loss_trains(tiny, name):
    loss = functools.partial(LOSSES[name], **base_options(LOSSES[name]))
    found = fit(
        tiny,
        loss,
        rich_data(losses.container_of(loss)),
        reference=tiny,
        steps=2,
        schedule="constant",
        **QUICK,
    )
    assert found.steps == len(found.history) == 2
    assert np.isfinite(found.history).all()
    assert found.history[0, 1] > 0
    assert distance(found.policy, tiny) > 0


def test_what_text_cannot_feed_is_refused(tiny):
    assert not [
        kind
        for kind in NOT_FROM_TEXT
        if any(kind in data.kinds for data in (TextComparisons, TextFeedback, TextRankings))
    ]
    with pytest.raises(
        ValueError, match=r"TextComparisons feed losses of .* got a loss of PairRewards"
    ):
        fit(tiny, losses.bradley_terry, pairs(), reference=tiny)


def plain_dpo(policy, data, order, *, steps, rate, beta, decay=0.0):
    """DPO in the plainest PyTorch.

    One sequence at a time, logits and a log-softmax, no accelerate.
    """
    import copy

    model, reference = copy.deepcopy(policy.model), copy.deepcopy(policy.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)

    def log_prob(net, prompt, completion):
        logs = torch.log_softmax(
            net(input_ids=torch.tensor([prompt + completion])).logits[0], dim=-1
        )
        return sum(logs[len(prompt) + t - 1, token] for t, token in enumerate(completion))

    values = []
    for step in range(steps):
        rows = order[step]
        total = 0.0
        for i in rows:
            x, w, low = data.prompt[i], data.chosen[i], data.rejected[i]
            with torch.no_grad():
                start = log_prob(reference, x, w) - log_prob(reference, x, low)
            margin = log_prob(model, x, w) - log_prob(model, x, low) - start
            total = total - torch.nn.functional.logsigmoid(beta * margin) / len(rows)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(float(total.detach()))
    return model, values


def test_training_equals_a_plain_loop(tiny64):
    data = pairs(7)
    options = {
        "steps": 5,
        "batch_size": 3,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup": 0.0,
        "max_grad_norm": None,
    }
    found = fit(tiny64, dpo, data, reference=tiny64, seed=3, progress=False, **options)
    order = [
        epoch_batches(found_lengths(data), 3, order="by_length", seed=3, epoch=epoch)
        for epoch in (0, 1)
    ]
    model, values = plain_dpo(tiny64, data, order[0] + order[1], steps=5, rate=1e-3, beta=0.5)
    np.testing.assert_allclose(found.history[:, 0], values, rtol=0, atol=1e-9)
    for (name, p), q in zip(found.policy.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6, msg=name)


def found_lengths(data):
    rows = zip(data.prompt, data.chosen, data.rejected, strict=True)
    return np.asarray([len(x) + max(len(w), len(low)) for x, w, low in rows])


@pytest.mark.parametrize(
    "loss", [dpo, functools.partial(losses.ld_dpo, alpha=0.3)], ids=["sequences", "tokens"]
)
def test_how_a_step_is_split_changes_nothing(tiny64, loss):
    rng = np.random.default_rng(2)
    data = pairs(7, weight=1 + 5 * rng.random(7), prob=rng.random(7) if loss is dpo else None)
    options = QUICK | {"batch_size": 7, "optimizer": "sgd", "learning_rate": 1e-2}
    whole = fit(tiny64, loss, data, reference=tiny64, steps=2, **options)
    for accumulation in (2, 7, 9):
        split = fit(
            tiny64,
            loss,
            data,
            reference=tiny64,
            steps=2,
            gradient_accumulation=accumulation,
            **options,
        )
        np.testing.assert_allclose(split.history, whole.history, rtol=1e-11)
        assert distance(split.policy, whole.policy) < 1e-12


def test_weights_are_relative_and_weigh_examples(tiny64):
    """Batches of one example.

    Each step's gradient is that of its example times its weight over the mean weight.
    """
    data = pairs(2, weight=[1.0, 3.0])
    options = QUICK | {"batch_size": 1, "order": "given", "max_grad_norm": None}
    found = fit(
        tiny64, dpo, data, reference=tiny64, steps=2, **(options | {"learning_rate": 1e-12})
    )
    np.testing.assert_allclose(found.history[:, 0], [0.5 * np.log(2), 1.5 * np.log(2)], rtol=1e-9)


def test_a_batch_coupled_loss_sees_the_micro_batch(tiny64):
    data, options = pairs(6), QUICK | {"batch_size": 6, "order": "given", "max_grad_norm": None}
    whole = fit(tiny64, losses.aot, data, reference=None, steps=1, **options)
    chosen, rejected = (
        tiny64.log_prob(data.prompt, side).numpy() for side in (data.chosen, data.rejected)
    )
    zero = np.zeros(6)
    logps = losses.PairLogps(chosen=chosen, rejected=rejected, ref_chosen=zero, ref_rejected=zero)
    assert whole.value == pytest.approx(losses.aot(logps).mean(), rel=1e-9)
    split = fit(
        tiny64, losses.aot, data, reference=None, steps=1, gradient_accumulation=2, **options
    )
    halves = [
        losses.aot(map_fields(logps, lambda column, part=part: column[part])).mean()
        for part in (slice(3), slice(3, 6))
    ]
    assert split.value == pytest.approx(np.mean(halves), rel=1e-9)


@pytest.mark.parametrize("loss", [dpo, losses.tdpo2, losses.wpo], ids=["dpo", "tdpo2", "wpo"])
def test_references_give_the_same_numbers(tmp_path, loss):
    policy, data = adapted(), pairs(7)
    fixed = CausalLM.from_config(small_llama(64), seed=0)
    options = QUICK | {"steps": 3, "learning_rate": 1e-2}
    ways = [policy.without_adapters(), fixed, policy.frozen()]
    if loss is not losses.tdpo2:
        ways += [
            references_of(fixed, data, loss, cache=tmp_path),
            references_of(fixed, data, loss, cache=tmp_path),
        ]
    found = [fit(policy, loss, data, reference=way, **options) for way in ways]
    for other in found[1:]:
        np.testing.assert_allclose(other.history, found[0].history, rtol=1e-5, atol=1e-5)
        assert distance(other.policy, found[0].policy) < 1e-5
    if loss is losses.tdpo2:
        with pytest.raises(
            ValueError,
            match=r"needs the KL divergence at every token.* got its log-probabilities alone",
        ):
            fit(policy, loss, data, reference=references_of(fixed, data, loss), **options)


def test_adapters_alone_are_trained_and_the_given_policy_is_not_changed():
    policy, data = adapted(), pairs(7)
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


def test_training_in_place(tiny):
    policy, data = tiny.frozen(), pairs(7)
    policy.log_prob_model.requires_grad_(True)
    copied = fit(policy, dpo, data, reference=tiny, steps=2, **QUICK)
    found = fit(policy, dpo, data, reference=tiny, steps=2, in_place=True, **QUICK)
    assert found.policy.log_prob_model is policy.log_prob_model
    assert distance(found.policy, copied.policy) == 0
    with pytest.raises(ValueError, match="trained in place cannot be its own reference"):
        fit(policy, dpo, data, reference=policy, in_place=True)


def test_gradient_checkpointing_changes_nothing(tiny64):
    found = [
        fit(tiny64, dpo, pairs(), reference=tiny64, steps=2, gradient_checkpointing=flag, **QUICK)
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
        result = fit(start, dpo, pairs(), reference=reference, steps=1, precision="bf16", **QUICK)
        assert result.history[0, 0] == pytest.approx(np.log(2), abs=1e-12)
    for name, parameter in start.log_prob_model.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter, kept[name])


def test_bf16_trains_in_float32_and_gives_the_dtype_back(tiny):
    wide = fit(tiny, dpo, pairs(), reference=tiny, steps=2, **QUICK)
    mixed = fit(tiny, dpo, pairs(), reference=tiny, steps=2, precision="bf16", **QUICK)
    assert mixed.history[0, 0] == pytest.approx(np.log(2), abs=1e-3)
    np.testing.assert_allclose(mixed.history, wide.history, rtol=0.2)
    assert "forward" not in vars(mixed.policy.log_prob_model)
    narrow = CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16")
    # A step of 1e-6 is below the resolution of bfloat16, but not of what is trained.
    kept = fit(narrow, dpo, pairs(), reference=narrow, steps=2, **(QUICK | {"learning_rate": 1e-2}))
    assert {p.dtype for p in kept.policy.log_prob_model.parameters()} == {torch.bfloat16}
    assert distance(kept.policy, narrow) > 0
    with pytest.raises(
        ValueError, match="precision 'float32' needs parameters of float32 or float64, got bfloat16"
    ):
        fit(narrow, dpo, pairs(), reference=narrow, precision="float32")


def test_settings_of_another_accelerator_stay(tiny):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    before = dict(AcceleratorState._shared_state)
    AcceleratorState._shared_state.clear()
    try:
        other = Accelerator(cpu=True, mixed_precision="no")
        fit(tiny, dpo, pairs(), reference=tiny, steps=1, precision="bf16", **QUICK)
        assert other.mixed_precision == "no"
    finally:
        AcceleratorState._shared_state.clear()
        AcceleratorState._shared_state.update(before)


def test_the_callers_random_state_is_left_alone(tiny):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    fit(tiny, dpo, pairs(), reference=tiny, steps=1, **QUICK)
    assert torch.equal(torch.rand(3), wanted)


def test_optimisers(tiny64):
    made = functools.partial(torch.optim.AdamW, lr=1e-3)
    named, given = (
        fit(tiny64, dpo, pairs(), reference=tiny64, steps=2, optimizer=how, **QUICK)
        for how in ("adamw", made)
    )
    assert distance(named.policy, given.policy) == 0
    decayed = fit(
        tiny64,
        dpo,
        pairs(),
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


def test_fitting_lowers_the_loss(tiny):
    found = fit(
        tiny,
        dpo,
        pairs(16),
        reference=tiny,
        epochs=6,
        batch_size=16,
        learning_rate=3e-3,
        progress=False,
    )
    assert found.steps == 6
    assert found.history[-1, 0] < 0.5 * found.history[0, 0]


def test_metrics_are_written(tiny, tmp_path):
    found = fit(
        tiny,
        dpo,
        pairs(),
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
    assert distance(again, found.policy) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {
        "metrics.jsonl",
        "model",
        "tensorboard",
    }


# What accelerate launch does, two processes with these variables, but forked from one that has
# imported everything. Accelerate takes FSDP for a matter of GPUs alone; torch does not.
LAUNCHED = """
import os, sys
import numpy as np, torch
sys.path[:0] = {paths!r}
import accelerate, peft, prefsim.lm.training.engine
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from lm_made import small_llama
from prefsim import losses
from prefsim.lm import CausalLM, TextComparisons
from prefsim.solvers import fit

def ids(i, k):
    return np.random.default_rng([i, k]).integers(3, 64, 2 + (5 * i + k) % 6).tolist()


made = [[ids(i, k) for i in range(7)] for k in range(3)]
policy, reference = (CausalLM.from_config(small_llama(64), seed=seed) for seed in range(2))
data = TextComparisons(*made, weight=1 + np.arange(7) % 3)


def train(name, **options):
    return fit(
        policy, losses.dpo, data, reference=reference,
        batch_size=3, gradient_accumulation=2, learning_rate=1e-3, steps=5,
        out=f"{{sys.argv[1]}}/{{name}}", log_every=1, progress=False, save_every=3, keep=9,
        **options,
    )


def fork(run, *arguments, **variables):
    child = os.fork()
    if child == 0:
        os.environ.update(variables)
        try:
            run(*arguments)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def launched(name):
    if name == "sharded":
        PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
        torch.accelerator.is_available = lambda: True
    diagnostics = ("displacement", "entanglement") if name == "two" else ("displacement",)
    trained = train(name, diagnostics=diagnostics).policy
    assert torch.distributed.get_world_size() == 2
    parameter = next(trained.log_prob_model.parameters())
    assert hasattr(parameter, "placements") == (name == "sharded")
    if os.environ["RANK"] == "0":
        folder = f"{{sys.argv[1]}}/{{name}}"
        os.rename(f"{{folder}}/checkpoints/step-00000005", f"{{folder}}/first-end")
    torch.distributed.barrier()
    train(name, diagnostics=diagnostics, resume=True)
    torch.distributed.destroy_process_group()


shared = dict(WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
children = [fork(train, "one")]
for name, port, further in (("two", "{ports[0]}", {{}}), ("sharded", "{ports[1]}", {fsdp!r})):
    for rank in map(str, range(2)):
        own = dict(RANK=rank, LOCAL_RANK=rank, MASTER_PORT=port)
        children.append(fork(launched, name, **own, **shared, **further))
assert not any([os.waitpid(child, 0)[1] for child in children])
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_as_one(tmp_path):
    """Gloo on two CPU processes, replicated and sharded, batches of 3 in four parts.

    Some process has nothing to do and takes part.
    """
    from accelerate.commands.config.config_args import load_config_from_file

    root = Path(prefsim.__file__).parents[1]
    config = load_config_from_file(str(root / "prefsim/lm/fsdp.yaml"))
    fsdp = {name.upper(): str(value).lower() for name, value in config.fsdp_config.items()}
    fsdp |= {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_TORCH_DEVICE": "cpu"}
    script = tmp_path / "launched.py"
    script.write_text(
        LAUNCHED.format(
            paths=[str(root / "tests"), str(root)], ports=(free_port(), free_port()), fsdp=fsdp
        )
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    one = read_metrics(tmp_path / "one/metrics.jsonl")
    whole = CausalLM.load(tmp_path / "one/model")
    assert distance(whole, CausalLM.from_config(small_llama(64), seed=0)) > 1e-3
    for name in ("two", "sharded"):
        other = read_metrics(tmp_path / name / "metrics.jsonl")
        for a, b in zip(one, other[-5:], strict=True):
            for key in ("step", "loss", "grad_norm"):
                assert b[key] == pytest.approx(a[key], rel=1e-4, abs=1e-4), (name, key, a["step"])
        assert distance(CausalLM.load(tmp_path / name / "model"), whole) < 1e-4
        ends = [
            json.loads((tmp_path / name / end / "state.json").read_text())
            for end in ("first-end", "checkpoints/step-00000005")
        ]
        assert ends[0] == ends[1], "resumed to the last bit"


def test_importing_prefsim_imports_neither_torch_nor_transformers():
    code = """
        import sys, prefsim, prefsim.lm, prefsim.solvers, prefsim.losses
        import prefsim.lm.data.comparisons, prefsim.lm.training.options
        assert not {"torch", "transformers", "accelerate"} & set(sys.modules)
        from prefsim.lm import CausalLM
        assert CausalLM in prefsim.solvers.fit.registry
        assert "accelerate" not in sys.modules or "transformers" in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


def test_every_row_is_in_one_batch_of_an_epoch():
    lengths = np.random.default_rng(0).integers(1, 100, 103)
    for order in ("by_length", "shuffled", "given"):
        batches = epoch_batches(lengths, 4, order=order, seed=0, epoch=0)
        assert sorted(np.concatenate(batches).tolist()) == list(range(103))
        assert sorted(map(len, batches)) == [3] + [4] * 25
        again = epoch_batches(lengths, 4, order=order, seed=0, epoch=0)
        assert all((a == b).all() for a, b in zip(batches, again, strict=True))
        other = epoch_batches(lengths, 4, order=order, seed=0, epoch=1)
        assert (order == "given") == all(
            (a == b).all() for a, b in zip(batches, other, strict=True)
        )
    by_length = epoch_batches(lengths, 4, order="by_length", seed=0, epoch=0)
    assert lengths.max() in lengths[by_length[0]]
    padding = [
        sum(
            int(lengths[batch].max()) * len(batch)
            for batch in epoch_batches(lengths, 4, order=order, seed=0, epoch=0)
        )
        for order in ("by_length", "shuffled")
    ]
    assert padding[0] < 0.75 * padding[1]


def test_a_plan_goes_on_where_it_is_asked_to():
    plan = BatchPlan(np.arange(10), 4, "shuffled", 7)
    whole = list(plan.batches(0, 8))
    assert [batch.tolist() for batch in plan.batches(5, 8)] == [
        batch.tolist() for batch in whole[5:]
    ]
    split = micro_batches(whole[0], plan.lengths, 6, regroup=True)
    assert sorted(len(part) for part in split) == [0, 0, 1, 1, 1, 1]


def test_learning_rates():
    rates = [learning_rate_factor(step, 10, schedule="cosine", warmup=0.2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[2:]))
    assert learning_rate_factor(9, 10, schedule="constant", warmup=0.0) == 1.0
    assert TrainingOptions(epochs=2.5, batch_size=4).total_steps(10) == 8
    assert TrainingOptions().total_steps(3) == 1


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
        fit(tiny, dpo, pairs(), **({"reference": tiny, "progress": False} | options))


def test_bad_data(tiny):
    from prefsim.data import Comparisons

    cases = [
        (
            dpo,
            Comparisons([0], [0], [1]),
            tiny,
            "trained on TextComparisons and the like of prefsim.lm, got Comparisons",
        ),
        (dpo, TextComparisons([], [], []), tiny, "data must hold at least one row, got 0"),
        (
            dpo,
            TextComparisons([[1], [1]], [[2], []], [[3], [3]]),
            tiny,
            "example 1: row 0 has a completion without tokens",
        ),
        (
            losses.aot,
            pairs(weight=np.arange(7)),
            tiny,
            "couples the examples of its batch and sees no weights",
        ),
        (
            losses.aot,
            pairs(prob=np.full(7, 0.5)),
            tiny,
            "couples the examples of its batch and sees no weights",
        ),
        (losses.tdpo1, pairs(), None, "needs the KL divergence at every token.* got no reference"),
        (losses.odpo, pairs(), tiny, "chosen_score is needed by this loss, got None"),
        (
            dpo,
            pairs(7),
            references_of(tiny, pairs(6), dpo),
            "must be of the data's 14 sequences of",
        ),
    ]
    for loss, data, reference, message in cases:
        with pytest.raises(ValueError, match=message):
            fit(tiny, loss, data, reference=reference)
    with pytest.raises(TypeError, match="unexpected keyword argument 'tolerance'"):
        fit(tiny, dpo, pairs(), reference=tiny, tolerance=1e-3)
    with pytest.raises(ValueError, match="must have a parameter that requires a gradient"):
        fit(tiny.frozen(), dpo, pairs(), reference=tiny)
