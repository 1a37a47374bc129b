"""AdamW with moments in eight bits: what a code loses, and how near float32 the steps are."""

import os
import subprocess
import sys

import pytest
import torch

from prefsim.lm.training.eight_bit import _code, blocks_of, decoded, encoded, moment_bytes
from prefsim.lm.training.narrow_adamw import NarrowAdamW


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def there_and_back(values, *, signed, seed=0):
    return decoded(*encoded(values, generator(seed), signed=signed), signed=signed)


@pytest.mark.parametrize("signed", [True, False])
def test_a_number_goes_to_a_neighbour_and_keeps_its_mean(signed):
    one = torch.randn(64, generator=generator(1)) * 10.0 ** (-torch.arange(64) / 9)
    one = torch.cat([one if signed else one.abs(), torch.tensor([3.0])])
    many = 4096
    found = there_and_back(one.expand(many, -1).contiguous(), signed=signed).double()
    code = 3.0 * _code(signed, torch.device("cpu")).double()
    above = torch.searchsorted(code, one.double()).clamp(1, len(code) - 1)
    low, high = code[above - 1], code[above]
    off = torch.minimum((found - low).abs(), (found - high).abs())
    assert (off <= 1e-6 * one.abs() + 1e-12).all()
    share = ((one - low) / (high - low)).clamp(0, 1)
    deviation = (high - low) * torch.sqrt(share * (1 - share) / many)
    # What would become zero goes up where zero is left out: only there the mean is not kept.
    kept = torch.full_like(one, True, dtype=torch.bool) if signed else low > 0
    error = (found.mean(0) - one).abs()
    assert (error[kept] <= 5 * deviation[kept] + 1e-6 * one.abs()[kept]).all()
    assert int(kept.sum()) >= 50


def test_zero_stays_and_a_root_never_becomes_it():
    row = torch.tensor([[1.0, 0.0, 1e-9, 0.5]])
    for seed in range(20):
        back = there_and_back(row, signed=False, seed=seed)
        assert back[0, 1] == 0 and back[0, 2] > 0 and back[0, 0] == 1
        zeros = torch.zeros(2, 5)
        assert torch.equal(there_and_back(zeros, signed=True, seed=seed), zeros)


@pytest.mark.parametrize("shape", [(3, 5), (2, 256), (2, 300), (4, 3, 200), (1, 1)])
def test_a_row_has_blocks_of_its_own(shape):
    values = torch.randn(shape, generator=generator())
    codes, scales = encoded(values, generator(), signed=True)
    assert codes.shape == shape and scales.shape == (shape[0], blocks_of(shape))
    rows = values.flatten(1)
    torch.testing.assert_close(scales.amax(1), rows.abs().amax(1), rtol=0, atol=0)
    for i in range(shape[0]):
        _, alone = encoded(values[i : i + 1], generator(), signed=True)
        assert torch.equal(alone[0], scales[i])
    assert moment_bytes(shape) == codes.nbytes + scales.nbytes


def walk(made, gradients, start):
    parameter = torch.nn.Parameter(start.clone())
    optimizer = made([parameter])
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach(), optimizer.state[parameter]


def coded(parameters):
    return NarrowAdamW(parameters, lr=1e-3, moments=torch.uint8, seed=0)


def exact(parameters):
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)


def test_numbers_far_below_the_largest_of_their_block_go_as_far_as_in_float32():
    """Codes of the second moment itself, zero among them, take the least eight times too far."""
    sizes = torch.logspace(0, -5, 256).repeat(32, 1)
    noise = generator(3)
    gradients = [sizes * (1 + 0.5 * torch.randn(32, 256, generator=noise)) for _ in range(50)]
    (ours, _), (theirs, _) = (
        walk(made, gradients, torch.zeros(32, 256)) for made in (coded, exact)
    )
    moved = ours.mean(0) / theirs.mean(0)
    assert float((moved[:128] - 1).abs().max()) < 0.06  # down to three hundredths of the largest
    assert float(moved.min()) > 0.9 and float(moved.max()) < 1.5


@pytest.mark.parametrize(("decades", "bound"), [(0.0, 0.03), (0.5, 0.1), (1.0, 0.3)])
def test_a_walk_stays_near_that_of_float32(decades, bound):
    """By how much of its way it ends elsewhere, where gradients are noise of different sizes.

    Measured .017, .067 and .22. Codes of the moment itself, with zero: .011, .56 and 222.
    """
    noise = generator(4)
    sizes = 10.0 ** (decades * torch.randn(32, 256, generator=noise))
    gradients = [sizes * (0.3 + torch.randn(32, 256, generator=noise)) for _ in range(100)]
    ours, theirs = (walk(made, gradients, torch.zeros(32, 256))[0] for made in (coded, exact))
    assert 1e-4 < float((ours - theirs).norm() / theirs.norm()) < bound


def test_a_second_moment_falls():
    """A thousandth of it is less than a code can tell: rounded to nearest it would stay."""
    quiet = torch.zeros(8, 256)
    loud = torch.zeros(8, 256)
    loud[:, 0] = 1.0  # which keeps the scale of each block where it is
    before = torch.full((8, 256), 0.5)
    before[:, 0] = 1.0
    _, state = walk(coded, [before] * 5 + [quiet + loud] * 500, torch.zeros(8, 256))
    _, wide = walk(exact, [before] * 5 + [quiet + loud] * 500, torch.zeros(8, 256))
    assert state["exp_avg_sq"].dtype == torch.uint8
    root = decoded(state["exp_avg_sq"], state["exp_avg_sq_scale"], signed=False)
    found = float(root[:, 1:].double().square().mean())
    assert found == pytest.approx(float(wide["exp_avg_sq"][:, 1:].mean()), rel=0.1)


def test_vectors_stay_wide_and_large_matrices_go_some_rows_at_a_time(monkeypatch):
    gradients = [torch.linspace(-1, 1, 12)] * 3
    (ours, state), (theirs, _) = (walk(made, gradients, torch.ones(12)) for made in (coded, exact))
    assert state["exp_avg"].dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    gradients = [torch.randn(7, 20, generator=generator()) for _ in range(3)]
    _, whole = walk(coded, gradients[:1], torch.zeros(7, 20))
    monkeypatch.setattr("prefsim.lm.training.narrow_adamw._PIECE", 50)
    _, parts = walk(coded, gradients[:1], torch.zeros(7, 20))
    # The scales depend on no noise.
    assert torch.equal(whole["exp_avg_scale"], parts["exp_avg_scale"])
    ends, _ = walk(coded, gradients, torch.zeros(7, 20))
    expected, _ = walk(exact, gradients, torch.zeros(7, 20))
    assert float((ends - expected).norm() / expected.norm()) < 0.1


SHARDED = """
import os, sys
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from prefsim.lm.model.log_prob_model import whole_tensor
from prefsim.lm.training.checkpoint import optimizer_tensors, put_optimizer
from prefsim.lm.training.narrow_adamw import NarrowAdamW

def made(parameter):
    return NarrowAdamW([parameter], lr=1e-3, moments=torch.uint8, seed=0)

def check():
    torch.distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    whole = torch.nn.Parameter(torch.randn(5, 300, generator=torch.Generator().manual_seed(0)))
    cut = torch.nn.Parameter(distribute_tensor(whole.detach(), mesh, [Shard(0)]))
    gradient = whole.detach() ** 3
    whole.grad, cut.grad = gradient, distribute_tensor(gradient, mesh, [Shard(0)])
    one, two = made(whole), made(cut)
    one.step(), two.step()
    assert torch.equal(whole, whole_tensor(cut.detach()))
    kept, names = optimizer_tensors(two, {cut: "w"}), {cut: "w"}
    expected = optimizer_tensors(one, {whole: "w"})
    for name in expected:
        if name.endswith("_scale"):
            assert torch.equal(kept[name], expected[name])
        assert kept[name].shape == expected[name].shape and kept[name].dtype == expected[name].dtype
    again = made(cut)
    put_optimizer(again, names, kept.items(), "here")
    assert again.state[cut]["exp_avg_scale"].to_local().shape == (3 - int(os.environ["RANK"]), 2)
    for name, value in two.state[cut].items():
        assert torch.equal(whole_tensor(again.state[cut][name]), whole_tensor(value)), name
    columns = torch.nn.Parameter(distribute_tensor(whole.detach(), mesh, [Shard(1)]))
    columns.grad = torch.zeros_like(columns)
    try:
        made(columns).step()
    except ValueError as error:
        assert "sharded by their rows" in str(error)
    else:
        raise AssertionError("columns were taken for rows")
    torch.distributed.destroy_process_group()

children = []
for rank in "01":
    child = os.fork()
    if child == 0:
        os.environ |= {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = sys.argv[1]
        try:
            check()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    children.append(child)
assert not any([os.waitpid(child, 0)[1] for child in children])
"""


def test_codes_are_the_same_however_rows_are_shared_out(free_port):
    ended = subprocess.run(
        [sys.executable, "-c", SHARDED, str(free_port())],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
