"""AdamW in bfloat16: what rounding loses, and stochastic rounding does not."""

import math

import numpy as np
import pytest
import torch
from lm_made import adapted_llama, random_pairs, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, TextComparisons, TrainingOptions
from prefsim.lm.training.narrow_adamw import NarrowAdamW, pieces, stochastically_rounded
from prefsim.solvers import fit

BF16 = torch.bfloat16


def rounded(values, seed=0):
    return stochastically_rounded(values, torch.Generator().manual_seed(seed))


def test_rounding_goes_to_a_neighbour_and_keeps_the_mean():
    x = torch.randn(64, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(-32, 32)
    many = 4096
    found = rounded(x.expand(many, -1)).double()
    toward = x.view(torch.int32).bitwise_and(-(2**16))
    below, above = toward.view(torch.float32), (toward + 2**16).view(torch.float32)
    assert ((found == below) | (found == above)).all()
    gap = (above.double() - below.double()).abs()
    share = (x.double() - below.double()).abs() / gap
    deviation = gap * torch.sqrt(share * (1 - share) / many)
    assert ((found.mean(0) - x.double()).abs() <= 5 * deviation + 1e-300).all()


def test_what_bfloat16_has_and_what_is_not_finite_stays():
    kept = torch.tensor([0.0, -0.0, 1.5, -3.0, 2.0**-120, torch.finfo(BF16).max])
    for seed in range(20):
        assert torch.equal(rounded(kept, seed).float(), kept)
        found = rounded(torch.tensor([math.inf, -math.inf, math.nan]), seed)
        assert found[0] == math.inf and found[1] == -math.inf and found[2].isnan()
        # All bits of a NaN may be set, so that one more would make it zero.
        assert rounded(torch.tensor([2**31 - 1], dtype=torch.int32).view(torch.float32)).isnan()


def ends(made, steps=5):
    """Where an optimiser leaves a matrix and a vector after steps on a curved function."""
    start = torch.linspace(-1, 1, 12)
    parameters = [torch.nn.Parameter(start.reshape(3, 4).clone()), torch.nn.Parameter(start[:5])]
    optimizer = made([{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:]}])
    for _ in range(steps):
        sum((p**3 - p).sum() for p in parameters).backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([p.detach().reshape(-1) for p in parameters])


def test_in_float32_it_is_the_one_of_torch():
    ours = ends(lambda groups: NarrowAdamW(groups, lr=0.1, moments=torch.float32, seed=0))
    theirs = ends(lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.0))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_parameters_in_float64_keep_their_precision():
    start = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)

    def moved(made):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = made([parameter])
        for _ in range(5):
            (parameter**3 - parameter).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return parameter.detach()

    exact = moved(lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.0))
    for moments, near in ((torch.float32, 1e-12), (BF16, 0.05), (torch.uint8, 0.1)):
        found = moved(lambda p, moments=moments: NarrowAdamW(p, lr=0.1, moments=moments, seed=0))
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, exact, rtol=0, atol=near)


def test_a_second_moment_falls_in_bfloat16():
    """A thousandth of it is less than bfloat16 can tell: rounded to nearest it would stay."""
    parameter = torch.nn.Parameter(torch.zeros(2000))
    optimizer = NarrowAdamW([parameter], lr=1e-3, moments=BF16, seed=0)
    parameter.grad = torch.ones(2000)
    optimizer.step()
    parameter.grad = torch.zeros(2000)
    for _ in range(500):
        optimizer.step()
    second = optimizer.state[parameter]["exp_avg_sq"]
    assert second.dtype == BF16
    expected = 1e-3 * 0.999**500
    stays = torch.tensor(1e-3, dtype=BF16)
    assert (stays * 0.999).to(BF16) == stays
    assert float(second.double().mean()) == pytest.approx(expected, rel=0.03)


def test_small_steps_add_up_in_bfloat16():
    parameter = torch.nn.Parameter(torch.ones(4000, dtype=BF16))
    optimizer = NarrowAdamW([parameter], lr=1e-4, moments=torch.float32, seed=0)
    for _ in range(100):
        parameter.grad = torch.ones(4000, dtype=BF16)
        optimizer.step()
    # AdamW's step along an unchanging gradient is its rate; to nearest 1 - 1e-4 is 1.
    assert torch.tensor(1 - 1e-4).to(BF16) == 1
    assert float(parameter.detach().double().mean()) == pytest.approx(1 - 0.01, abs=1e-3)


def test_large_tensors_go_piece_by_piece(monkeypatch):
    made = lambda groups: NarrowAdamW(groups, lr=0.1, moments=torch.float32, seed=0)  # noqa: E731
    whole = ends(made)
    monkeypatch.setattr("prefsim.lm.training.narrow_adamw._PIECE", 5)
    assert torch.equal(ends(made), whole)
    turned = torch.zeros(3, 4).T
    assert [piece[0].shape for piece in pieces(torch.zeros(3, 4))] == [(5,), (5,), (2,)]
    assert next(pieces(turned, turned))[0] is turned


OPTIONS = {"batch_size": 4, "progress": False, "learning_rate": 1e-3, "steps": 6}


@pytest.fixture(scope="module")
def narrow():
    return CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16")


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_bf16", "adamw_8bit"])
def test_a_training_in_bfloat16_ends_near_one_in_float32(narrow, optimizer):
    data = random_pairs(8)
    wide = CausalLM.from_config(small_llama(64), seed=0)
    wide.model.load_state_dict(narrow.model.state_dict())
    exact = fit(wide, losses.dpo, data, reference=wide, **OPTIONS)
    found = fit(
        narrow,
        losses.dpo,
        data,
        reference=narrow,
        precision="bf16_weights",
        optimizer=optimizer,
        **OPTIONS,
    )
    assert {p.dtype for p in found.policy.model.parameters()} == {BF16}
    # At the start policy and reference are one function.
    assert found.history[0, 0] == pytest.approx(math.log(2), abs=1e-6)
    fell, should = (1 - run.history[-1, 0] / run.history[0, 0] for run in (found, exact))
    assert fell == pytest.approx(should, rel=0.3) and should > 0.02


@pytest.mark.parametrize("optimizer", ["adamw_bf16", "adamw_8bit"])
def test_it_goes_on_bit_for_bit(narrow, optimizer, tmp_path):
    data = random_pairs(8)
    how = OPTIONS | {"schedule": "constant", "warmup": 0.0, "precision": "bf16_weights"}
    how |= {"optimizer": optimizer, "save_every": 2, "reference": narrow}
    how |= {"gradient_accumulation": 4}
    whole = fit(narrow, losses.dpo, data, out=tmp_path / "whole", **how)
    fit(narrow, losses.dpo, data, out=tmp_path / "parts", **(how | {"steps": 2}))
    parts = fit(narrow, losses.dpo, data, out=tmp_path / "parts", resume=True, **how)
    np.testing.assert_array_equal(whole.history, parts.history)
    for one, other in zip(*(run.policy.model.parameters() for run in (whole, parts)), strict=True):
        assert torch.equal(one, other)


def test_what_would_be_rounded_away_is_refused(narrow):
    data = TextComparisons([[3]], [[4]], [[5]])
    for change, message in (
        (
            {"optimizer": "sgd"},
            "needs an optimiser that rounds stochastically, one of the adamw",
        ),
        ({"reference_weight": 0.5}, "moves by a share 0.5 needs parameters in float32"),
        ({"precision": "bfloat16"}, "precision must be"),
    ):
        with pytest.raises(ValueError, match=message):
            TrainingOptions(**({"precision": "bf16_weights"} | change))
    assert TrainingOptions(precision="bf16_weights", reference_weight=1.0).reference_weight == 1
    for policy in (CausalLM.from_config(small_llama(64), seed=0), adapted_llama(dtype="bfloat16")):
        with pytest.raises(ValueError, match="needs parameters of bfloat16, got some of float32"):
            fit(policy, losses.simpo, data, steps=1, precision="bf16_weights")
