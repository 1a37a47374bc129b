"""Checkpoints of which each process writes its part: any number of processes goes on from them."""

import json
import shutil

import numpy as np
import pytest
import torch
from lm_made import largest_difference, random_pairs, small_llama

from prefsim import losses
from prefsim.lm import CausalLM
from prefsim.lm.training import checkpoint as disk
from prefsim.solvers import fit

# Processes of a training under FSDP, which accelerate takes for a matter of GPUs, forked from one
# that has imported everything.
SCRIPT = """
import os, shutil, sys
import torch
sys.path[:0] = {paths!r}
import accelerate, peft, prefsim.lm.training.engine
import torch.distributed.checkpoint as dcp
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from lm_made import random_pairs, small_llama
from prefsim import losses
from prefsim.lm import CausalLM
from prefsim.solvers import fit

out, ports = sys.argv[1], iter({ports!r})
policy = CausalLM.from_config(small_llama(64), seed=0)


def train(folder, **options):
    return fit(
        policy, losses.simpo, random_pairs(7), out=f"{{out}}/{{folder}}", **({options!r} | options)
    )


def launched(fails, *arguments, **options):
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    torch.accelerator.is_available = lambda: True
    if fails:
        written, write = [], dcp.HuggingFaceStorageWriter.write_data
        def failing(self, plan, planner):
            written.append(1)
            if len(written) == 2 and os.environ["RANK"] == "1":
                raise OSError("no space left on the device")
            return write(self, plan, planner)
        dcp.HuggingFaceStorageWriter.write_data = failing
    train(*arguments, **options)
    torch.distributed.destroy_process_group()


def fork(processes, folder, fails=False, **options):
    port, children = next(ports), []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            os.environ.update({fsdp!r}, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
            os.environ.update(WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes))
            try:
                launched(fails, folder, **options)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return children


def ends(children):
    return [os.waitpid(child, 0)[1] == 0 for child in children]


together = [
    fork(2, "whole"),
    fork(2, "broken", fails=True),
    fork(2, "coded", optimizer="adamw_8bit"),
]
assert [ends(each) for each in together] == [[True, True], [False, False], [True, True]]
for name in ("three", "one"):
    shutil.copytree(f"{{out}}/broken", f"{{out}}/{{name}}")
os.rename(f"{{out}}/coded/checkpoints/step-00000004", f"{{out}}/coded-end")
os.rename(f"{{out}}/coded/model", f"{{out}}/coded-model")
together = [
    fork(2, "broken", resume=True),
    fork(3, "three", resume=True),
    fork(2, "coded", resume=True, optimizer="adamw_8bit"),
]
assert all(all(ends(each)) for each in together)
"""
OPTIONS = {
    "steps": 4,
    "batch_size": 3,
    "learning_rate": 1e-3,
    "save_every": 2,
    "log_every": 1,
    "progress": False,
    "keep": 9,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, launch):
    """Folders of trainings by two and three processes, some of which were interrupted."""
    out = tmp_path_factory.mktemp("sharded")
    assert "no space left" in launch(SCRIPT, out, ports=6, options=OPTIONS)
    return out


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def model(folder):
    return CausalLM.load(folder / "model")


def histories(folder):
    return np.asarray(disk.latest(folder / "checkpoints").state["history"])


def test_each_process_writes_its_part_and_nothing_else(trained):
    found = disk.latest(trained / "whole" / "checkpoints")
    found.check()
    files = sorted(path.name for path in found.shards.iterdir())
    assert files == [f"shard-0000{i}-model-00001-of-00001.safetensors" for i in (1, 2)]
    assert not (found.folder / disk.OPTIMIZER).exists() and not found.model.exists()
    parts = [disk.load_tensors(found.shards / file) for file in files]
    trained_parameters = dict(model(trained / "whole").log_prob_model.named_parameters())
    for name, parameter in trained_parameters.items():
        pieces = [part[name] for part in parts]
        assert [len(piece) for piece in pieces] == [len(parameter) // 2] * 2
        for entry in ("exp_avg", "exp_avg_sq"):
            assert sum(part[f"{name}|{entry}"].numel() for part in parts) == parameter.numel()
    # A count of steps is everywhere the same, and written once.
    assert sum(name.endswith("|step") for part in parts for name in part) == len(trained_parameters)


def test_a_write_that_fails_leaves_the_last_whole_checkpoint(trained):
    # Where three went on from it; the copy was made after the failure.
    assert checkpoints(trained / "three") == ["step-00000002", "step-00000004"]
    states = [
        json.loads((trained / name / "checkpoints/step-00000002/state.json").read_text())
        for name in ("one", "whole")
    ]
    assert states[0] == states[1]
    assert checkpoints(trained / "one") == ["step-00000002"]
    assert not (trained / "one" / "model").exists()


def test_the_same_number_of_processes_goes_on_bit_for_bit(trained):
    np.testing.assert_array_equal(histories(trained / "broken"), histories(trained / "whole"))
    assert largest_difference(model(trained / "broken"), model(trained / "whole")) == 0
    ends = [trained / "coded-end", trained / "coded/checkpoints/step-00000004"]
    parts = [sorted((end / disk.SHARDS).iterdir()) for end in ends]
    for first, second in zip(*parts, strict=True):
        one, other = disk.load_tensors(first), disk.load_tensors(second)
        assert one.keys() == other.keys() and any(
            value.dtype == torch.uint8 for value in one.values()
        )
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_number_of_processes_goes_on_to_rounding(trained):
    whole = histories(trained / "whole")
    np.testing.assert_allclose(histories(trained / "three"), whole, rtol=1e-4)
    assert largest_difference(model(trained / "three"), model(trained / "whole")) < 1e-4
    assert len(list(disk.latest(trained / "three/checkpoints").shards.iterdir())) == 3
    policy = CausalLM.from_config(small_llama(64), seed=0)
    out = trained / "one"
    found = fit(policy, losses.simpo, random_pairs(7), out=out, resume=True, **OPTIONS)
    np.testing.assert_allclose(found.history, whole, rtol=1e-4)
    assert largest_difference(found.policy, model(trained / "whole")) < 1e-4
    assert largest_difference(policy, model(trained / "whole")) > 1e-3


def test_the_result_is_one_folder_that_transformers_loads(trained):
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(trained / "whole" / "model")
    files = [path.name for path in (trained / "whole" / "model").glob("*.safetensors")]
    assert files == ["model.safetensors"]
    assert sum(p.numel() for p in loaded.parameters()) == sum(
        p.numel() for p in model(trained / "whole").model.parameters()
    )


def test_parts_of_another_model_are_refused(trained, tmp_path):
    from prefsim.lm.training.narrow_adamw import NarrowAdamW
    from prefsim.lm.training.shards import read_shards

    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = NarrowAdamW([parameter], lr=1e-3, moments=torch.float32, seed=0)
    found = disk.latest(trained / "whole" / "checkpoints").shards
    with pytest.raises(ValueError, match="must hold the trained parameters, got a difference in"):
        read_shards(found, optimizer, {parameter: "mine"})


def test_a_part_that_was_changed_is_noticed(trained, tmp_path):
    shutil.copytree(trained / "whole", tmp_path / "whole")
    file = next(disk.latest(tmp_path / "whole" / "checkpoints").shards.iterdir())
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    policy = CausalLM.from_config(small_llama(64), seed=0)
    with pytest.raises(ValueError, match="is not what was written there"):
        fit(
            policy,
            losses.simpo,
            random_pairs(7),
            out=tmp_path / "whole",
            resume=True,
            **(OPTIONS | {"steps": 4}),
        )
