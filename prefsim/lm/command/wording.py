"""What the commands of training say in words: of the data, of the plan and of the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefsim.lm.command.read import TextSource
from prefsim.lm.training.pair_faults import pair_faults
from prefsim.lm.training.setup import TrainingSetup

__all__ = ["cut_lines", "fault_lines", "remarks", "report_lines", "rounds_lines"]


def remarks(source: TextSource) -> list[str]:
    """Return what was left out of the data and what of them nothing reads."""
    told = []
    if source.skipped:
        told.append(f"{len(source.skipped)} rows skipped, the first: {source.skipped[0]}")
    if source.unused:
        told.append(f"columns not used: {', '.join(source.unused)}")
    return told


def fault_lines(setup: TrainingSetup, source: TextSource) -> list[str]:
    """Return which pairs cannot be learned from, or contradict one another."""
    faults = pair_faults(setup.rows, source.data)
    lines = []
    if faults.equal:
        lines.append(
            f"{len(faults.equal)} rows compare a completion with itself, as tokens; the first:"
            f" {source.place(faults.equal[0])}"
        )
    if faults.contradictory:
        late, early = faults.contradictory[0]
        lines.append(
            f"{len(faults.contradictory)} rows say the opposite of an earlier one; the first:"
            f" {source.place(late)}, against {source.place(early)}"
        )
    return lines


def cut_lines(setup: TrainingSetup) -> list[str]:
    """Return how many rows were shortened, where any were."""
    return _cut(setup.rows.truncated)


def _cut(rows: int) -> list[str]:
    return [f"{rows:,} rows shortened to fit --max-tokens"] if rows else []


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Return a report as lines of text."""
    return _plan_lines(report) if "memory" in report else _result_lines(report)


def _result_lines(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{report['steps']} steps, loss {report['loss']:.6g} and gradient norm"
        f" {report['grad_norm']:.3g} at the last",
        f"Model: {report['model']}",
        f"Metrics: {report['metrics']}",
    ]
    if "merged" in report:
        lines.append(f"Merged model: {report['merged']}")
    if "best_step" in report:
        kept = f": {report['best']}" if "best" in report else ""
        lines.append(f"Best evaluation: after {report['best_step']} steps{kept}")
    return lines


def _plan_lines(report: Mapping[str, Any]) -> list[str]:
    data, tokens, training = report["data"], report["tokens"], report["training"]
    rows = f"Rows: {data['rows']:,}"
    if data["skipped"]:
        rows += f", {data['skipped']:,} skipped"
    if data["unused_columns"]:
        rows += f"; columns not used: {', '.join(data['unused_columns'])}"
    lines = [
        rows,
        *data["faults"],
        *_cut(tokens["truncated_rows"]),
        f"Tokens: {tokens['prompt']:,} of prompts and {tokens['completion']:,} of completions;"
        f" the longest sequence has {tokens['longest_sequence']:,}",
        f"Steps: {training['steps']:,} of {training['examples_per_step']:,} examples,"
        f" {training['epochs']:.3g} epochs",
        _parameters(report["parameters"]),
    ]
    return lines + _memory_lines(report["memory"])


def rounds_lines(report: Mapping[str, Any]) -> list[str]:
    """Return a report of rounds as lines of text."""
    if "memory" in report:
        prompts, each = report["prompts"], report["round"]
        return [
            f"Prompts: {prompts['rows']:,}, the longest of {prompts['longest']:,} tokens",
            f"Rounds: {report['rounds']:,}, each of {each['completions']:,} completions of at most"
            f" {each['new_tokens']:,} tokens and {each['steps']:,} steps",
            _parameters(report["parameters"]),
            *_memory_lines(report["memory"]),
        ]
    lines = [
        f"{report['rounds']} rounds, reward {report['first_reward']:.4g} at first and"
        f" {report['last_reward']:.4g} at last",
        f"Model: {report['model']}",
    ]
    if "critic" in report:
        lines.append(f"Critic: {report['critic']}")
    return [*lines, f"Metrics: {report['metrics']}"]


def _parameters(counts: Mapping[str, int]) -> str:
    return f"Parameters: {counts['all']:,}, of which {counts['trained']:,} are trained"


def _memory_lines(memory: Mapping[str, int]) -> list[str]:
    parts = [name for name in memory if name not in ("total", "offloaded") and memory[name]]
    lines = [
        f"Memory, estimated: {_size(memory['total'])}",
        *(f"  {name.replace('_', ' ')}: {_size(memory[name])}" for name in parts),
    ]
    if memory["offloaded"]:
        lines.append(f"Main memory for the optimiser: {_size(memory['offloaded'])}")
    return lines


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
