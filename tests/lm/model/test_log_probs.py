"""The tiled log-probabilities against a plain log-softmax.

Values, gradients, shapes, bad inputs.
"""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.lm import Head, sequence_log_probs, token_log_probs, token_statistics
from prefsim.lm.model.fused import faster_path
from prefsim.lm.model.tiled import tiled_statistics

# Tiles of a few entries, so that small problems have many of them in both directions.
TINY = 8 * 64


def problem(seed=0, batch=3, length=7, d=5, size=150, dtype=torch.float64, bias=True, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = (scale * torch.randn(batch, length, d, generator=generator, dtype=torch.float64)).to(
        dtype
    )
    weight = torch.randn(size, d, generator=generator, dtype=torch.float64).to(dtype)
    offset = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) if bias else None
    labels = torch.randint(0, size, (batch, length), generator=generator)
    mask = torch.rand(batch, length, generator=generator) < 0.6
    mask[:, 0] = False
    return hidden, weight, offset, labels, mask


def plain_logits(hidden, weight, bias=None, softcap=None):
    z = hidden @ weight.T
    z = z if bias is None else z + bias
    return z if softcap is None else softcap * torch.tanh(z / softcap)


def plain(hidden, weight, labels, mask, bias=None, softcap=None):
    """Shift by hand, log-softmax over everything, gather, zero what is not scored."""
    logp = torch.log_softmax(plain_logits(hidden[:, :-1], weight, bias, softcap), dim=-1)
    logp = logp.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    return torch.nn.functional.pad(torch.where(mask[:, 1:], logp, 0), (1, 0))


@given(
    seed=st.integers(0, 1000),
    batch=st.integers(1, 4),
    length=st.integers(2, 9),
    size=st.integers(1, 200),
    softcap=st.sampled_from([None, 2.0, 30.0]),
    bias=st.booleans(),
    tile_bytes=st.sampled_from([1, TINY, 10 * TINY, None]),
)
def test_values_and_gradients_equal_a_plain_log_softmax(
    seed, batch, length, size, softcap, bias, tile_bytes
):
    hidden, weight, offset, labels, mask = problem(seed, batch, length, size=size, bias=bias)
    upstream = torch.randn(
        batch, length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    leaves = [x.requires_grad_() for x in (hidden, weight, offset) if x is not None]
    ours = token_log_probs(
        hidden, weight, labels, mask, head_bias=offset, softcap=softcap, tile_bytes=tile_bytes
    )
    theirs = plain(hidden, weight, labels, mask, offset, softcap)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(theirs, leaves, upstream)
    for found, wanted in zip(torch.autograd.grad(ours, leaves, upstream), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    # The frozen head takes another way: its gradient is made in the forward.
    frozen = None if offset is None else offset.detach()
    ours = token_log_probs(
        hidden,
        weight.detach(),
        labels,
        mask,
        head_bias=frozen,
        softcap=softcap,
        tile_bytes=tile_bytes,
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    if mask.any():
        torch.testing.assert_close(
            torch.autograd.grad(ours, hidden, upstream)[0], expected[0], rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradcheck(softcap, frozen):
    hidden, weight, bias, labels, mask = problem(batch=2, length=4, d=3, size=70)
    leaves = [x.requires_grad_(not frozen or x is hidden) for x in (hidden, weight, bias)]

    def call(h, w, b):
        return token_log_probs(h, w, labels, mask, head_bias=b, softcap=softcap, tile_bytes=TINY)

    assert torch.autograd.gradcheck(call, leaves)


def test_gradcheck_of_the_statistics():
    hidden, weight, bias, labels, mask = problem(batch=2, length=4, d=3, size=70)
    ref_hidden, ref_weight, *_ = problem(seed=1, batch=2, length=4, d=4, size=70)

    def call(h, w, b):
        reference = {"ref_hidden": ref_hidden, "ref_head": Head(ref_weight)}
        found = token_statistics(
            h, Head(w, b, 3.0), labels, mask, collision=True, tile_bytes=TINY, **reference
        )
        return found.logp, found.collision, found.kl

    assert torch.autograd.gradcheck(call, [x.requires_grad_() for x in (hidden, weight, bias)])


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_statistics_equal_their_definitions(softcap):
    hidden, weight, bias, labels, mask = problem(size=300)
    ref_hidden, ref_weight, ref_bias, *_ = problem(seed=1, d=4, size=300)
    reference = Head(ref_weight, ref_bias, 4.0)
    found = token_statistics(
        hidden,
        Head(weight, bias, softcap),
        labels,
        mask,
        collision=True,
        ref_hidden=ref_hidden,
        ref_head=reference,
        tile_bytes=TINY,
    )
    logs = torch.log_softmax(plain_logits(hidden[:, :-1], weight, bias, softcap), dim=-1)
    ref = torch.log_softmax(plain_logits(ref_hidden[:, :-1], ref_weight, ref_bias, 4.0), dim=-1)
    kl = torch.where(mask[:, 1:], (ref.exp() * (ref - logs)).sum(-1), 0)
    collision = torch.where(mask[:, 1:], torch.logsumexp(2 * logs, -1), 0)
    torch.testing.assert_close(found.kl[:, 1:], kl, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found.collision[:, 1:], collision, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(
        found.ref_logp,
        plain(ref_hidden, ref_weight, labels, mask, ref_bias, 4.0),
        rtol=1e-12,
        atol=1e-12,
    )
    assert not found.ref_logp.requires_grad
    alone = token_statistics(hidden, Head(weight, bias, softcap), labels, mask)
    assert alone.kl is alone.collision is alone.ref_logp is None
    torch.testing.assert_close(alone.logp, found.logp)


def test_kl_of_a_policy_to_itself_is_zero_with_zero_gradient():
    hidden, weight, bias, labels, mask = problem()
    hidden.requires_grad_()
    found = token_statistics(
        hidden,
        Head(weight, bias),
        labels,
        mask,
        ref_hidden=hidden,
        ref_head=Head(weight, bias),
        tile_bytes=TINY,
    )
    assert found.kl.abs().max() < 1e-12
    assert torch.autograd.grad(found.kl.sum(), hidden)[0].abs().max() < 1e-12


def test_each_token_is_predicted_by_the_state_before_it():
    # State t points at token t + 1 alone, so that every shift but the right one scores near minus
    # 50.
    labels = torch.tensor([[3, 1, 4, 1, 5]])
    hidden = 50 * torch.nn.functional.one_hot(labels.roll(-1, dims=1), 8).double()
    mask = torch.tensor([[False, False, True, True, True]])
    assert (
        token_log_probs(hidden, torch.eye(8, dtype=torch.float64), labels, mask).abs().max() < 1e-12
    )


def test_padding_on_either_side_changes_nothing():
    hidden, weight, bias, labels, mask = problem(length=6)
    junk = torch.full((3, 4, 5), 1e3, dtype=torch.float64)
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    ignored = torch.full((3, 4), -100)
    expected = sequence_log_probs(hidden, weight, labels, mask, head_bias=bias)
    for order in (1, -1):
        padded, tokens, scored = (
            torch.cat(pair[::order], dim=1)
            for pair in ((hidden, junk), (labels, ignored), (mask, nothing))
        )
        torch.testing.assert_close(
            sequence_log_probs(padded, weight, tokens, scored, head_bias=bias),
            expected,
            rtol=1e-12,
            atol=1e-12,
        )


def test_an_empty_completion_scores_zero_and_pulls_on_nothing():
    hidden, weight, bias, labels, mask = problem()
    mask[1] = False
    leaves = [x.requires_grad_() for x in (hidden, weight, bias)]
    scores = sequence_log_probs(hidden, weight, labels, mask, head_bias=bias)
    assert scores[1] == 0
    assert not torch.autograd.grad(scores.sum(), leaves, retain_graph=True)[0][1].any()
    nothing = sequence_log_probs(hidden, weight, labels, torch.zeros_like(mask), head_bias=bias)
    assert nothing.tolist() == [0, 0, 0]
    assert not any(g.any() for g in torch.autograd.grad(nothing.sum(), leaves))


def test_prompts_never_meet_the_head():
    hidden, weight, bias, labels, mask = problem()
    hidden[:, :-1][~mask[:, 1:]] = float("nan")
    assert torch.isfinite(sequence_log_probs(hidden, weight, labels, mask, head_bias=bias)).all()


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_logits_of_any_size_stay_finite(scale):
    hidden, weight, bias, labels, mask = problem(scale=scale)
    hidden.requires_grad_()
    ours = token_log_probs(hidden, weight, labels, mask, head_bias=bias, tile_bytes=TINY)
    torch.testing.assert_close(
        ours, plain(hidden, weight, labels, mask, bias), rtol=1e-12, atol=1e-9
    )
    assert torch.isfinite(torch.autograd.grad(ours.sum(), hidden)[0]).all()


def test_a_masked_vocabulary_has_probability_zero():
    hidden, weight, bias, labels, mask = problem(size=200)
    bias[64:160] = -torch.inf
    labels = labels % 64
    ours = token_log_probs(hidden, weight, labels, mask, head_bias=bias, tile_bytes=TINY)
    torch.testing.assert_close(
        ours, plain(hidden, weight, labels, mask, bias), rtol=1e-12, atol=1e-12
    )


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


def test_more_than_one_leading_axis_and_none():
    hidden, weight, bias, labels, mask = problem(batch=4)
    flat = sequence_log_probs(hidden, weight, labels, mask, head_bias=bias)
    square = sequence_log_probs(
        hidden.reshape(2, 2, 7, 5),
        weight,
        labels.reshape(2, 2, 7),
        mask.reshape(2, 2, 7),
        head_bias=bias,
    )
    torch.testing.assert_close(square.reshape(4), flat)
    one = sequence_log_probs(hidden[0], weight, labels[0], mask[0], head_bias=bias)
    torch.testing.assert_close(one, flat[0])


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"mask": torch.ones(3, 7, dtype=torch.bool)},
            r"mask must be False at the first token.*\(0, 0\)",
        ),
        ({"mask": torch.zeros(3, 6, dtype=torch.bool)}, "labels and mask must have the shape"),
        ({"mask": torch.zeros(3, 7)}, "mask must hold booleans"),
        ({"labels": torch.zeros(3, 7)}, "labels must hold integers"),
        (
            {"labels": torch.full((3, 7), 150)},
            r"labels must lie in \[0, 150\) where the mask is True, got 150 at index",
        ),
        ({"labels": torch.full((3, 7), -100)}, "labels must lie in"),
        (
            {"head_weight": torch.zeros(150, 4, dtype=torch.float64)},
            "hidden states must have trailing shape",
        ),
        ({"head_weight": torch.zeros(5, dtype=torch.float64)}, "head_weight must have shape"),
        (
            {"head_bias": torch.zeros(4, dtype=torch.float64)},
            "the bias of head_weight must have shape",
        ),
        ({"softcap": 0.0}, "softcap must be a finite number > 0"),
        ({"tile_bytes": 0}, "tile_bytes must be an integer >= 1"),
        ({"path": "fast"}, "path must be one of"),
        ({"path": "liger"}, "needs liger-kernel and a CUDA device"),
    ],
)
def test_bad_inputs(change, message):
    hidden, weight, bias, labels, mask = problem()
    given = {
        "hidden": hidden,
        "head_weight": weight,
        "labels": labels,
        "mask": mask,
        "head_bias": bias,
    } | change
    with pytest.raises(ValueError, match=message):
        token_log_probs(**given)


def test_a_reference_must_be_whole_and_fit():
    hidden, weight, bias, labels, mask = problem()
    with pytest.raises(ValueError, match="given together"):
        token_statistics(hidden, Head(weight, bias), labels, mask, ref_hidden=hidden)
    with pytest.raises(ValueError, match="the vocabulary of the policy"):
        token_statistics(
            hidden, Head(weight, bias), labels, mask, ref_hidden=hidden, ref_head=Head(weight[:9])
        )


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


def test_the_statistics_take_flat_tokens_too():
    hidden, weight, bias, labels, _ = problem(batch=1)
    logp, collision, kl, ref_logp = tiled_statistics(hidden[0], Head(weight, bias), labels[0])
    wanted = torch.log_softmax(plain_logits(hidden[0], weight, bias), -1).gather(
        1, labels[0][:, None]
    )[:, 0]
    torch.testing.assert_close(logp, wanted)
    assert collision is kl is ref_logp is None
