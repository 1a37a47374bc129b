"""The tiled log-probabilities against a plain log-softmax: values, gradients and bad inputs."""

import pytest
import torch
from head_problems import TINY, plain, problem
from hypothesis import given
from hypothesis import strategies as st

from prefsim.lm import sequence_log_probs, token_log_probs


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
