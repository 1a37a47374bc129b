"""How many mutants the tests kill, and which live: what `make mutants` prints at its end.

Mutants that are equivalent to the original, or differ in nothing that is promised, stand with the
reason in ``mutants.toml`` beside this file, under their function and the line as they write it.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

GOAL = 0.95
REASONS = Path(__file__).with_name("mutants.toml")
# A worker that died, or ran far longer than the tests do, was noticed.
NOTICED = {"killed", "timeout", "segfault"}


def changed_line(name: str) -> str:
    """Return the line as a mutant writes it."""
    diff = get_diff_for_mutant(name).splitlines()
    added = [line[1:].strip() for line in diff if line.startswith("+") and line[1:2] != "+"]
    removed = [line[1:].strip() for line in diff if line.startswith("-") and line[1:2] != "-"]
    return " ".join(added) or f"without {' '.join(removed)}"


def function_of(name: str) -> str:
    """Return the dotted name of the function that a mutant comes from."""
    module, _, mangled = name.rpartition(".")
    function = mangled.rpartition("__mutmut_")[0].removeprefix("x_").removeprefix("xǁ")
    return f"{module}.{function.replace('ǁ', '.')}"


def main() -> int:
    """Print a row for each room, then the survivors without a reason."""
    held = tomllib.loads(REASONS.read_text(encoding="utf-8"))["mutant"] if REASONS.exists() else []
    reasons = {(row["function"], row["line"]): row["reason"] for row in held}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        room = str(path.parent if path.parent.name != "prefsim" else path)
        for name, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            if status in NOTICED:
                counts[room]["killed"] += 1
            elif status == "not checked":
                counts[room]["not checked"] += 1
            elif (found := (function_of(name), changed_line(name))) in reasons:
                counts[room]["equivalent"] += 1
            else:
                counts[room]["lives"] += 1
                survivors.append((*found, status))
    print("| room | killed | lives | equivalent | not checked | share killed |")
    print("|---|---|---|---|---|---|")
    total = sum(counts.values(), Counter())
    for room, count in [*sorted(counts.items()), ("all", total)]:
        judged = count["killed"] + count["lives"]
        share = f"{count['killed'] / judged:.1%}" if judged else "–"
        columns = (count[key] for key in ("killed", "lives", "equivalent", "not checked"))
        print(f"| {room} | {' | '.join(map(str, columns))} | {share} |")
    for function, line, status in sorted(survivors):
        print(f"{status}: {function}: {line}")
    judged = total["killed"] + total["lives"]
    return int(not judged or total["killed"] < GOAL * judged or total["not checked"] > 0)


if __name__ == "__main__":
    sys.exit(main())
