"""What a training would take, told without loading weights or writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefsim.lm.command.job import make_setup, read_job
from prefsim.lm.command.memory import estimate_memory
from prefsim.lm.command.wording import fault_lines
from prefsim.lm.model.policy import CausalLM

__all__ = ["dry_run"]


def dry_run(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return rows, tokens, steps, parameters and memory of a training, whose weights stay away."""
    # Which would be written to.
    job = read_job({**given, "token_cache": None}, load=False)
    options, policy, reference = job.options, job.policy, job.reference
    second_model = None
    if given["precompute"]:
        # Its memory is free before training begins.
        job = job._replace(reference=None)
    elif isinstance(reference, CausalLM):
        shared = reference.module is policy.module
        second_model = None if shared else reference
    setup = make_setup(job)
    rows = setup.rows
    examples = -(-options.batch_size // options.gradient_accumulation)
    whole = min(examples, len(job.source)) * rows.per_example * int(rows.lengths.max())
    memory = estimate_memory(
        policy,
        precision=setup.precision,
        optimizer=str(options.optimizer),
        tokens=min(options.micro_batch_tokens or whole, whole),
        checkpointing=options.gradient_checkpointing,
        reference=second_model,
        offload=options.offload_optimizer,
    )
    parameters = list(policy.module.parameters())
    return {
        "data": {
            "rows": len(job.source),
            "skipped": len(job.source.skipped),
            "unused_columns": list(job.source.unused),
            "faults": fault_lines(setup, job.source),
        },
        "tokens": {
            "prompt": sum(len(row.prompt_ids) for row in rows.tokens),
            "completion": sum(len(row.completion_ids) for row in rows.tokens),
            "longest_sequence": int(rows.lengths.max()),
            "truncated_rows": rows.truncated,
        },
        "training": {
            "steps": setup.total,
            "epochs": setup.total / setup.plan.steps_per_epoch,
            "examples_per_step": options.batch_size,
        },
        "parameters": {
            "all": sum(p.numel() for p in parameters),
            "trained": sum(p.numel() for p in parameters if p.requires_grad),
        },
        "memory": {**memory._asdict(), "total": memory.total},
    }
