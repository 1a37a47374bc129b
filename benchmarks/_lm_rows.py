"""The rows of the one table that are about language models: see lm.py, which measures."""

from __future__ import annotations

from _lm_generation import COMPLETIONS, NEW_TOKENS, PROMPTS, generation
from _lm_heads import SIZES, heads
from _lm_steps import steps_table
from _table import Row, beside_best

__all__ = ["rows"]


def rows(*, quick: bool) -> list[Row]:
    """Return heads, whole steps and generation beside the best peer; nothing of small size.

    A language model of any size that says something takes minutes.
    """
    if quick:
        return []
    found = [("head", SIZES["tokens"], "DPO head", row["head"], row) for row in heads([1], 1, 1)]
    found += [
        ("step", row["reference"], f"DPO step, reference {place}", row["trainer"], row)
        for row in steps_table(["small"], [1], 4, 1, "cpu")
        for place in [{"model": "in memory"}.get(row["reference"], "computed before")]
    ]
    made = []
    for kind, of in {(kind, of): None for kind, of, *_ in found}:
        here = [each for each in found if each[:2] == (kind, of)]
        (what, ours) = next((each[2], each[4]) for each in here if each[3] == "prefsim")
        for column, unit, limit in (("seconds", "s", 1 / 0.9), ("memory", "MB", 2.0)):
            made.append(
                beside_best(
                    f"lm/{kind}-{of}-{column}",
                    f"{what}, {'time' if unit == 's' else 'memory'}",
                    ours[column],
                    {each[3]: each[4][column] for each in here if each[3] != "prefsim"},
                    limit=limit,
                    certificate=f"loss error {ours['loss error']:.0e}",
                    unit=unit,
                )
            )
    made += [
        beside_best(
            f"lm/generation-{row['model']}",
            f"generation, {PROMPTS} × {COMPLETIONS} completions of {NEW_TOKENS} tokens",
            row["prefsim"],
            {"transformers generate": row["transformers"]},
            limit=1.0,
            certificate=(
                f"{row['tokens'] / row['prefsim']:.0f} tokens a second;"
                f" {row['surprise']:.1f} standard errors from their entropy"
            ),
        )
        for row in generation(["small"], [1], 5)
    ]
    return made
