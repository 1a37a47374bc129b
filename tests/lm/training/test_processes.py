"""Training in processes that were launched together, and what is imported when."""

import json
import subprocess
import sys
import textwrap

import pytest
from lm_made import largest_difference, small_llama

from prefsim.lm import (
    CausalLM,
)
from prefsim.lm.training.metrics import read_metrics

# What accelerate launch does, two processes with these variables, but forked from one that has
# imported everything. Accelerate takes FSDP for a matter of GPUs alone; torch does not.
LAUNCHED = """
import os, sys
import numpy as np, torch, torch.distributed.fsdp
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


class Unpinned(torch.distributed.fsdp.CPUOffloadPolicy):
    made = 0
    def __init__(self):
        Unpinned.made += 1
        super().__init__(pin_memory=False)  # there is no GPU to pin memory for


def launched(name):
    if name in ("sharded", "offloaded"):
        torch.distributed.fsdp.CPUOffloadPolicy = Unpinned
        PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
        torch.accelerator.is_available = lambda: True
    diagnostics = ("displacement", "entanglement") if name == "two" else ("displacement",)
    # Of padded rows the one process is trained.
    trained = train(name, diagnostics=diagnostics, packing=True).policy
    assert torch.distributed.get_world_size() == 2
    parameter = next(trained.log_prob_model.parameters())
    assert hasattr(parameter, "placements") == (name != "two")
    assert (Unpinned.made > 0) == (name == "offloaded")
    if os.environ["RANK"] == "0":
        folder = f"{{sys.argv[1]}}/{{name}}"
        os.rename(f"{{folder}}/checkpoints/step-00000005", f"{{folder}}/first-end")
    torch.distributed.barrier()
    train(name, diagnostics=diagnostics, packing=True, resume=True)
    torch.distributed.destroy_process_group()


shared = dict(WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
children = [fork(train, "one")]
for name, port, further in (
    ("two", "{ports[0]}", {{}}),
    ("sharded", "{ports[1]}", {fsdp!r}),
    ("offloaded", "{ports[2]}", {fsdp!r} | dict(FSDP_OFFLOAD_PARAMS="true")),
):
    for rank in map(str, range(2)):
        own = dict(RANK=rank, LOCAL_RANK=rank, MASTER_PORT=port)
        children.append(fork(launched, name, **own, **shared, **further))
assert not any([os.waitpid(child, 0)[1] for child in children])
"""


def test_two_processes_train_as_one(tmp_path, launch):
    """Gloo on two CPU processes, replicated, sharded and offloaded, batches of 3 in four parts.

    Some process has nothing to do and takes part.
    """
    launch(LAUNCHED, tmp_path, ports=3)
    one = read_metrics(tmp_path / "one/metrics.jsonl")
    whole = CausalLM.load(tmp_path / "one/model")
    assert largest_difference(whole, CausalLM.from_config(small_llama(64), seed=0)) > 1e-3
    for name in ("two", "sharded", "offloaded"):
        other = read_metrics(tmp_path / name / "metrics.jsonl")
        for a, b in zip(one, other[-5:], strict=True):
            for key in ("step", "loss", "grad_norm"):
                assert b[key] == pytest.approx(a[key], rel=1e-4, abs=1e-4), (name, key, a["step"])
        assert largest_difference(CausalLM.load(tmp_path / name / "model"), whole) < 1e-4
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
