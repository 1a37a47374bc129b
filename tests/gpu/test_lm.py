"""Language models on a CUDA device, against the same on the CPU; skipped where there is none."""

import functools
import shutil

import numpy as np
import pytest
import torch
from lm_made import small_llama

from prefsim import losses
from prefsim.lm import CausalLM, TextComparisons, references_of, token_log_probs
from prefsim.lm.model.fused import has_liger
from prefsim.solvers import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

DEVICE = "cuda"
PATHS = [
    "tiled",
    pytest.param(
        "liger",
        marks=pytest.mark.skipif(not has_liger(), reason="liger-kernel or Triton is not installed"),
    ),
]
dpo = functools.partial(losses.dpo, beta=0.5)
OPTIONS = {
    "batch_size": 4,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "warmup": 0.0,
    "progress": False,
}


def problem(dtype, softcap, size=3000, d=64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 40, d, generator=generator)
    weight = torch.randn(size, d, generator=generator) * d**-0.5
    labels = torch.randint(0, size, (3, 40), generator=generator)
    mask = torch.rand(3, 40, generator=generator) < 0.7
    mask[:, 0] = False
    return hidden.to(dtype), weight.to(dtype), labels, mask, softcap


def value_and_gradients(hidden, weight, labels, mask, softcap, *, device, dtype, path):
    leaves = [tensor.to(device=device, dtype=dtype).requires_grad_() for tensor in (hidden, weight)]
    found = token_log_probs(*leaves, labels.to(device), mask.to(device), softcap=softcap, path=path)
    upstream = torch.linspace(0.5, 1.5, found.numel(), dtype=torch.float64).reshape(found.shape)
    gradients = torch.autograd.grad((found * upstream.to(device)).sum(), leaves)
    return [tensor.detach().double().cpu() for tensor in (found, *gradients)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_log_probabilities_equal_float64_on_the_cpu(path, softcap, dtype, tolerance):
    # Rounded to the narrow dtype before both, so that only the arithmetic differs.
    given = problem(dtype, softcap)
    exact = value_and_gradients(*given, device="cpu", dtype=torch.float64, path="tiled")
    found = value_and_gradients(*given, device=DEVICE, dtype=dtype, path=path)
    assert (
        float((found[0] - exact[0]).abs().max()) <= 1e-4
    )  # sums and logits in float32 whatever the factors
    for ours, wanted in zip(found[1:], exact[1:], strict=True):
        assert float((ours - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


def ids(rng, n):
    return [rng.integers(3, 64, rng.integers(2, 9)).tolist() for _ in range(n)]


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    return TextComparisons(ids(rng, 12), ids(rng, 12), ids(rng, 12))


def policy(**options):
    return CausalLM.from_config(small_llama(64), seed=0, **options)


@pytest.fixture(scope="module")
def on_the_cpu(pairs):
    """Losses of six steps in float64, on the CPU, one pair at a time in plain torch."""
    model, start = policy().model.double(), policy().model.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=OPTIONS["learning_rate"])

    def log_prob(net, prompt, completion):
        logs = net(input_ids=torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        return sum(logs[len(prompt) + t - 1, token] for t, token in enumerate(completion))

    values = []
    for step in range(6):
        total = 0.0
        for i in range(step % 3 * 4, step % 3 * 4 + 4):
            x, w, low = pairs.prompt[i], pairs.chosen[i], pairs.rejected[i]
            with torch.no_grad():
                fixed = log_prob(start, x, w) - log_prob(start, x, low)
            margin = log_prob(model, x, w) - log_prob(model, x, low) - fixed
            total = total - torch.nn.functional.logsigmoid(0.5 * margin) / 4
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(float(total.detach()))
    return np.asarray(values)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("reference", ["model", "computed"])
def test_training_equals_plain_torch_on_the_cpu(pairs, on_the_cpu, reference, accumulation):
    start = policy(device=DEVICE)
    fixed = start if reference == "model" else references_of(start, pairs, dpo)
    settings = {
        "steps": 6,
        "order": "given",
        "optimizer": "sgd",
        "max_grad_norm": None,
        "gradient_accumulation": accumulation,
    }
    result = fit(start, dpo, pairs, reference=fixed, **OPTIONS, **settings)
    assert result.policy.device.type == DEVICE
    np.testing.assert_allclose(result.history[:, 0], on_the_cpu, rtol=1e-4)
    assert on_the_cpu[-1] < on_the_cpu[0]


def test_a_policy_on_the_cpu_is_moved(pairs):
    start = policy()
    result = fit(start, dpo, pairs, reference=start, steps=2, **OPTIONS)
    assert result.policy.device.type == DEVICE
    assert np.isfinite(result.history).all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bfloat16_stays_near_float32(pairs, checkpointing):
    settings = {"steps": 12, "order": "given", "gradient_checkpointing": checkpointing}
    wide = policy(device=DEVICE)
    expected = fit(wide, dpo, pairs, reference=wide, **OPTIONS, **settings).history[:, 0]
    narrow = policy(device=DEVICE, dtype="bfloat16")
    result = fit(narrow, dpo, pairs, reference=narrow, **OPTIONS, **settings)
    assert {parameter.dtype for parameter in result.policy.log_prob_model.parameters()} == {
        torch.bfloat16
    }
    np.testing.assert_allclose(result.history[:, 0], expected, atol=0.1)
    assert result.history[0, 0] == pytest.approx(np.log(2), abs=1e-3)
    assert result.history[-3:, 0].mean() < result.history[:3, 0].mean()


def test_resuming_ends_at_the_same_parameters(pairs, tmp_path):
    start = policy(device=DEVICE)
    settings = OPTIONS | {"schedule": "constant", "steps": 6, "save_every": 2, "keep": 3}
    whole = fit(start, dpo, pairs, reference=start, out=tmp_path / "whole", **settings)
    fit(start, dpo, pairs, reference=start, out=tmp_path / "again", **settings)
    for step in (4, 6):  # as if it had been killed behind step 2
        shutil.rmtree(tmp_path / "again" / "checkpoints" / f"step-{step:08d}")
    again = fit(start, dpo, pairs, reference=start, out=tmp_path / "again", resume=True, **settings)
    np.testing.assert_allclose(again.history, whole.history, rtol=1e-4)


def test_samples_are_the_same_for_a_seed():
    start = policy(device=DEVICE)
    draws = [start.sample([[5, 6, 7]], 4, seed, max_new_tokens=8) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    found = start.log_prob([[5, 6, 7]] * 4, draws[0][0])
    expected = policy().log_prob([[5, 6, 7]] * 4, draws[0][0])
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)


def test_the_head_of_a_full_training_in_bf16_is_multiplied_narrow():
    """Its trained weights are float32, and so is what the last norm gives."""
    from prefsim.lm import collate
    from prefsim.lm.model.head import operands

    policy = CausalLM.from_config(small_llama(64), seed=0, device=DEVICE)
    batch = collate(policy.encode([[3, 4]], [[5, 6]]), pad_id=0, device=DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16):
        hidden, head = policy.log_prob_model.states(batch)
    assert head.weight.dtype == torch.float32
    assert operands(hidden, head.weight) == torch.bfloat16
    wide, _ = policy.log_prob_model.states(batch)
    assert operands(wide, head.weight) == torch.float32


def test_fused_steps_are_those_of_the_cpu():
    rng = np.random.default_rng(0)
    data = TextComparisons(*([rng.integers(3, 64, 6).tolist() for _ in range(8)] for _ in range(3)))
    policy = CausalLM.from_config(small_llama(64), seed=0)
    on_gpu = CausalLM.from_config(small_llama(64), seed=0, device=DEVICE)
    expected = fit(policy, dpo, data, reference=policy, steps=4, **OPTIONS)
    found = fit(on_gpu, dpo, data, reference=on_gpu, steps=4, **OPTIONS)
    np.testing.assert_allclose(found.history, expected.history, rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_bf16", "adamw_8bit"])
def test_an_optimiser_in_main_memory_takes_the_same_steps(pairs, optimizer, tmp_path):
    def held(*, offload):
        start = policy(device=DEVICE)
        settings = OPTIONS | {"steps": 4, "save_every": 2, "out": tmp_path / str(offload)}
        how = {"optimizer": optimizer, "offload_optimizer": offload}
        return fit(start, dpo, pairs, reference=start, **settings, **how)

    there, here = held(offload=True), held(offload=False)
    # Torch's own AdamW, in one kernel, rounds in another order.
    exactly = {"rtol": 1e-4} if optimizer == "adamw" else {"rtol": 1e-6}
    np.testing.assert_allclose(there.history, here.history, **exactly)
    shutil.rmtree(tmp_path / "True" / "checkpoints" / f"step-{4:08d}")
    settings = OPTIONS | {"steps": 4, "save_every": 2, "out": tmp_path / "True", "resume": True}
    how = {"optimizer": optimizer, "offload_optimizer": True}
    start = policy(device=DEVICE)
    again = fit(start, dpo, pairs, reference=start, **settings, **how)
    np.testing.assert_allclose(again.history, there.history, rtol=1e-6)


@pytest.mark.parametrize("moments", [torch.float32, torch.bfloat16, torch.uint8])
def test_an_offloaded_state_is_pinned_and_takes_no_memory_of_the_device(moments):
    from prefsim.lm.training.narrow_adamw import NarrowAdamW

    ends, held = [], []
    for offload in (True, False):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(2048, 2048, device=DEVICE))
        made = NarrowAdamW([parameter], lr=1e-3, moments=moments, seed=0, offload=offload)
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            parameter.grad = parameter.detach() ** 3
            made.step()
        parameter.grad = None
        held.append(torch.cuda.memory_allocated() - before)
        state = made.state[parameter]["exp_avg"]
        assert (state.device.type == "cpu") == offload
        assert state.is_pinned() == offload
        ends.append((parameter.detach(), state.to(DEVICE)))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert held[0] < 2048 * 2048 / 4 < held[1]
