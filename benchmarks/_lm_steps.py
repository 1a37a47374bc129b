"""Whole training steps of one Llama.

Prefsim's ``fit`` against TRL's ``DPOTrainer``, on a CPU and, where there is one, on a GPU.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _lm_settings import SETTINGS, Setting, rows_of, tokenizer_of
from _processes import in_own_process, resident_mb, restart_peak

BETA, RATE = 0.1, 1e-4
SCRIPT = str(Path(__file__).with_name("lm.py"))


COMPETITORS = {"prefsim": "prefsim", "TRL": "trl"}


class Clock:
    """Notes the time at the end of every step of any optimiser."""

    def __init__(self, device: str) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self.device, self.cpu, self.wall = device, list[float](), list[float]()
        register_optimizer_step_post_hook(self.note)

    def note(self, *_: Any) -> None:
        """Note the time now."""
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())


def made(setting: Setting, device: str) -> Any:
    """Return the policy: float32 on a CPU; bfloat16 on a GPU, drawn there."""
    import torch
    from transformers import AutoModelForCausalLM

    from prefsim.lm import CausalLM

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            setting.config, dtype=torch.bfloat16 if device == "cuda" else torch.float32
        )
    return CausalLM.from_model(model, tokenizer_of(setting.vocabulary))


def adapter_of(setting: Setting) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=setting.rank,
        lora_alpha=2 * setting.rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def by_prefsim(setting: Setting, reference: str, steps: int, device: str) -> list[float]:
    from prefsim import losses
    from prefsim.lm import CausalLM, TextComparisons, references_of
    from prefsim.solvers import fit

    policy = made(setting, device)
    if setting.rank:
        policy = CausalLM.from_model(policy.model, policy.tokenizer, adapter=adapter_of(setting))
    columns: dict[str, Any] = {
        name: [row[name] for row in rows_of(setting, steps)]
        for name in ("prompt", "chosen", "rejected")
    }
    data: Any = TextComparisons(**columns)
    loss = functools.partial(losses.dpo, beta=BETA)
    if reference == "precomputed":
        fixed: Any = references_of(policy, data, loss)
    else:
        fixed = policy.without_adapters() if reference == "adapters off" else policy.frozen()
    options: dict[str, Any] = {
        "steps": steps,
        "batch_size": setting.pairs,
        "learning_rate": RATE,
        "schedule": "constant",
        "warmup": 0.0,
    }
    options |= {
        "order": "given",
        "in_place": True,
        "progress": False,
        "gradient_checkpointing": setting.checkpointing,
    }
    if setting.narrow:
        options |= {"precision": "bf16_weights", "optimizer": "adamw_bf16"}
    return [
        float(value) for value in fit(policy, loss, data, reference=fixed, **options).history[:, 0]
    ]


def by_trl(setting: Setting, reference: str, steps: int, device: str) -> list[float]:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    values = []

    class Recorded(DPOTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            values.append(loss.detach())
            return loss

    policy = made(setting, device)
    other = copy.deepcopy(policy.model) if reference == "model" else None
    if device == "cuda" and not setting.rank and not setting.narrow:
        # Trained parameters in float32 and products in bfloat16, as prefsim holds them.
        policy.model.float()
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            beta=BETA,
            max_steps=steps,
            per_device_train_batch_size=setting.pairs,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            max_length=None,
            precompute_ref_log_probs=reference == "precomputed",
            gradient_checkpointing=setting.checkpointing,
            use_cpu=device == "cpu",
            bf16=device == "cuda",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        lora = {"peft_config": adapter_of(setting)} if setting.rank else {}
        dataset = Dataset.from_list(rows_of(setting, steps))
        trainer = Recorded(
            policy.model,
            other,
            arguments,
            train_dataset=dataset,
            processing_class=policy.tokenizer,
            **lora,
        )
        trainer.train()
    return [float(value) for value in values]


def by_hand(setting: Setting, reference: str, steps: int, device: str) -> list[float]:
    """Do the same steps in plain torch and float64.

    Whole logits and a log-softmax, one pair at a time.
    """
    import torch

    policy = made(setting, device)
    model = policy.model.double()
    start, tokenizer = copy.deepcopy(model), policy.tokenizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)

    def log_prob(net: Any, prompt: list[int], completion: list[int]) -> Any:
        ids = torch.tensor([prompt + completion])
        logs = net(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        return logs.gather(-1, ids[0, len(prompt) :, None]).sum()

    values, rows = [], rows_of(setting, steps)
    for step in range(steps):
        value = 0.0
        for row in rows[step * setting.pairs :][: setting.pairs]:
            prompt, *completions = (
                tokenizer(row[name])["input_ids"] for name in ("prompt", "chosen", "rejected")
            )
            with torch.no_grad():
                fixed = [log_prob(start, prompt, completion) for completion in completions]
            chosen, rejected = (log_prob(model, prompt, completion) for completion in completions)
            loss = (
                -torch.nn.functional.logsigmoid(BETA * (chosen - fixed[0] - rejected + fixed[1]))
                / setting.pairs
            )
            loss.backward()
            value += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        values.append(value)
    return values


def matmul_rate(device: str, repeats: int = 20) -> float:
    """Return floating-point operations a second of one large product, as training multiplies.

    In bfloat16 on a GPU, in float32 on a CPU.
    """
    import torch

    on_gpu = device == "cuda"
    size, dtype = (8192, torch.bfloat16) if on_gpu else (512, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def finished() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(3):
        a @ b
    start = finished()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / (finished() - start)


def useful_operations(setting: Setting, reference: str) -> float:
    """Return the floating-point operations that a step asks for.

    Every product once, attention causal, the head at scored tokens only.

    What is computed again in the backward pass is not counted. A frozen layer needs no gradient of
    its own: two thirds of the work.
    """
    d, head = setting.hidden, setting.hidden // setting.heads
    layer = 2 * d * d + 2 * d * head * setting.keys + 3 * d * setting.inner
    tokens = 2 * setting.pairs * setting.tokens
    scored = 2 * setting.pairs * (setting.tokens - setting.prompt)
    forward = (
        2 * tokens * setting.layers * (layer + setting.tokens * d)
        + 2 * scored * d * setting.vocabulary
    )
    return forward * ((2 if setting.rank else 3) + (reference != "precomputed"))


def run_steps(
    name: str, setting_name: str, reference: str, steps: int, threads: int, device: str
) -> dict[str, Any]:
    """Run one competitor in this process: the first step warms up."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    for package in (
        "transformers.models.llama.modeling_llama",
        "prefsim.lm.training.engine",
        "accelerate",
        "datasets",
        "trl",
    ):
        if package != "trl" or name == "TRL":
            importlib.import_module(package)
    if name == "TRL":
        from trl import DPOTrainer  # noqa: F401, the package imports it on first use
    torch.set_num_threads(threads)
    setting, clock = SETTINGS[setting_name], Clock(device)
    rate = matmul_rate(device)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    base = restart_peak()
    values = {"prefsim": by_prefsim, "TRL": by_trl, "exact": by_hand}[name](
        setting, reference, steps, device
    )
    cpu, wall = (
        [after - before for before, after in itertools.pairwise(times)]
        for times in (clock.cpu, clock.wall)
    )
    on_gpu = device == "cuda"
    peak = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else resident_mb("VmHWM") - base
    seconds = statistics.median(wall)
    return {
        "seconds": statistics.median(cpu),
        "wall": seconds,
        "memory": peak,
        "tokens per second": 2 * setting.pairs * setting.tokens / seconds,
        "rate": useful_operations(setting, reference) / seconds,
        "matmul rate": rate,
        "losses": values,
    }


def steps_table(
    names: list[str],
    threads: list[int],
    steps: int,
    rounds: int,
    device: str,
    *,
    minutes: float | None = None,
) -> list[dict[str, Any]]:
    """Return one row for each model, reference, number of threads and competitor.

    The median of rounds that go through them in turn.

    On a CPU the losses are compared with plain torch in float64, on a GPU and of adapters with
    TRL's. What ``minutes`` leave no time for is left out, and named.
    """
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    rows: list[dict[str, Any]] = []
    here = [
        name
        for name, package in COMPETITORS.items()
        if importlib.util.find_spec(package) is not None
    ]
    for name in COMPETITORS.keys() - here:
        print(f"{name} left out: {COMPETITORS[name]} is not installed", file=sys.stderr)

    def run(name: str, setting: str, reference: str, count: int) -> dict[str, Any] | None:
        options = [
            "--step-case",
            name,
            "--setting",
            setting,
            "--reference",
            reference,
            "--device",
            device,
        ]
        left = until - time.monotonic()
        if left <= 0:
            print(f"{name}, {setting}, reference {reference}, left out: no time", file=sys.stderr)
            return None
        options += ["--steps", str(steps), "--threads", str(count)]
        timeout = None if left == math.inf else left
        found = in_own_process(SCRIPT, options, count, timeout=timeout)
        if isinstance(found, str):
            print(f"{name}, {setting}, reference {reference}, failed: {found}", file=sys.stderr)
            return None
        print(
            f"{name}, {setting}, reference {reference}, {count} threads: {found}", file=sys.stderr
        )
        return found

    for setting in names:
        is_whole = device == "cpu" and not SETTINGS[setting].rank
        exact = run("exact", setting, "model", 1) if is_whole else None
        for reference, count in itertools.product(SETTINGS[setting].references, threads):
            found = [
                (name, run(name, setting, reference, count)) for _ in range(rounds) for name in here
            ]
            runs = {
                name: [each for who, each in found if who == name and each is not None]
                for name in here
            }
            oracle = exact or next(iter(runs.get("TRL", [])), None)
            for name, results in runs.items():
                if not results:
                    continue
                middle = {
                    key: statistics.median(each[key] for each in results)
                    for key in results[0]
                    if key != "losses"
                }
                row = {
                    "model": setting,
                    "reference": reference,
                    "threads": count,
                    "trainer": name,
                    **middle,
                }
                values = results[0]["losses"]
                off = (
                    [abs(a - b) / abs(b) for a, b in zip(values, oracle["losses"], strict=True)]
                    if oracle
                    else [float("nan")]
                )
                rows.append(row | {"losses": values, "loss error": max(off)})
    return rows


def show_steps(rows: list[dict[str, Any]]) -> None:
    """Print the rows, each with its ratios to TRL's."""
    print(
        "Training steps, DPO, AdamW: prefsim's fit and TRL's DPOTrainer, each in its own process;"
        " the median step after the first"
    )
    head = (
        f"{'model':<9}{'reference':<14}{'threads':>7}"
        f" {'trainer':<9}{'CPU s':>8}{'wall s':>8}{'MB':>8}{'x CPU':>7}{'x wall':>7}{'x MB':>6}"
    )
    print(f"{head}{'loss error':>11}{'tokens/s':>10}{'of matmul':>10}")
    for row in rows:
        place = ("model", "reference", "threads")
        peer = next(
            (
                each
                for each in rows
                if each["trainer"] == "TRL" and all(each[k] == row[k] for k in place)
            ),
            None,
        )
        seconds, wall, memory = (
            "-" if peer is None else f"{row[key] / peer[key]:.2f}"
            for key in ("seconds", "wall", "memory")
        )
        numbers = f"{row['seconds']:>8.2f}{row['wall']:>8.2f}{row['memory']:>8.0f}"
        numbers += f"{seconds:>7}{wall:>7}{memory:>6}"
        rate = f"{row['tokens per second']:>10.0f}{row['rate'] / row['matmul rate']:>10.2f}"
        where = f"{row['model']:<9}{row['reference']:<14}{row['threads']:>7} {row['trainer']:<9}"
        print(f"{where}{numbers}{row['loss error']:>11.1e}{rate}")
