"""What the tiled log-probabilities cost and how exact they are: types, memory, paths, imports."""

import subprocess
import sys

import pytest
import torch
from head_problems import problem

from prefsim.lm import Head, sequence_log_probs
from prefsim.lm.model.fused import faster_path


@pytest.mark.parametrize("frozen", [False, True])
def test_bf16_is_summed_in_float32(frozen):
    hidden, weight, _, labels, mask = problem(
        batch=2, length=40, d=64, size=1000, dtype=torch.bfloat16, bias=False
    )
    exact = sequence_log_probs(hidden.double(), weight.double(), labels, mask)
    leaves = [x.requires_grad_(not frozen or x is hidden) for x in (hidden, weight)]
    ours = sequence_log_probs(hidden, weight, labels, mask)
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-3)
    doubles = [x.detach().double().requires_grad_(x.requires_grad) for x in leaves]
    expected = torch.autograd.grad(
        sequence_log_probs(*doubles, labels, mask).sum(), [x for x in doubles if x.requires_grad]
    )
    for found, wanted in zip(
        torch.autograd.grad(ours.sum(), [x for x in leaves if x.requires_grad]),
        expected,
        strict=True,
    ):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), wanted, rtol=2**-8, atol=1e-4)


def test_autocast_does_not_narrow_the_products():
    hidden, weight, bias, labels, mask = problem(dtype=torch.float32)
    weight.requires_grad_()
    outside = sequence_log_probs(hidden, weight, labels, mask, head_bias=bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sequence_log_probs(hidden, weight, labels, mask, head_bias=bias)
        (gradient,) = torch.autograd.grad(inside.sum(), weight)
    assert torch.equal(inside, outside)
    assert torch.equal(gradient, torch.autograd.grad(outside.sum(), weight)[0])


def test_float32_sums_are_float64():
    hidden, weight, bias, labels, mask = problem(
        batch=1, length=2000, dtype=torch.float32, size=1000
    )
    exact = sequence_log_probs(
        hidden.double(), weight.double(), labels, mask, head_bias=bias.double()
    )
    found = sequence_log_probs(hidden, weight, labels, mask, head_bias=bias)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-4)


def test_memory_is_a_tile_and_not_the_matrix():
    code = """
import resource, torch
from prefsim.lm import sequence_log_probs
torch.set_num_threads(1)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def step(n):
    h = torch.randn(1, n, 16, requires_grad=True); w = torch.randn(40000, 16, requires_grad=True)
    y = torch.zeros(1, n, dtype=torch.long); m = torch.ones(1, n, dtype=torch.bool); m[:, 0] = False
    sequence_log_probs(h, w, y, m).sum().backward()
step(64); base = peak(); step(4096)
print(peak() - base)
"""
    used = float(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )
    assert used < 120, "4096 x 40000 float32 logits are 655 MB"


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, prefsim.lm; prefsim.lm.__all__; print([m for m in ('torch', 'transformers',"
        " 'peft') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_only_tiles_run_on_a_cpu():
    hidden, weight, *_ = problem(dtype=torch.float32)
    assert faster_path(hidden, Head(weight.requires_grad_())) == "tiled"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("path", ["tiled", "liger"])
def test_paths_on_cuda_equal_float64(path, dtype):
    if path == "liger":
        pytest.importorskip("liger_kernel")
    hidden, weight, _, labels, mask = problem(
        batch=4, length=100, d=64, size=5000, dtype=dtype, bias=False
    )
    hidden, weight, labels, mask = (x.cuda() for x in (hidden, weight, labels, mask))
    leaves = [x.requires_grad_() for x in (hidden, weight)]
    doubles = [x.detach().double().requires_grad_() for x in leaves]
    ours = sequence_log_probs(*leaves, labels, mask, softcap=30.0, path=path, tile_bytes=2**20)
    exact = sequence_log_probs(*doubles, labels, mask, softcap=30.0, path="tiled")
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-2)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    for found, wanted in zip(
        torch.autograd.grad(ours.sum(), leaves),
        torch.autograd.grad(exact.sum(), doubles),
        strict=True,
    ):
        assert (found.double() - wanted).norm() <= tolerance * wanted.norm()
