"""How many small changes of the library its tests notice: what `make mutants` runs and prints.

mutmut makes the changes (mutants) and runs the tests that reach each; this script adds four things.
Losses behind the door of ``prefsim.losses.edge`` are changed too. A random sample can be drawn, the
same for the same seed, and goes on where it was stopped. The share that is noticed comes with its
interval, for each room. Survivors that are equivalent to the original, or differ in nothing that is
promised, stand with the reason in ``mutants.toml`` beside this file; the others are listed.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from mutmut import __main__ as mutmut
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

GOAL = 0.95
REASONS = Path(__file__).with_name("mutants.toml")
# A worker that died, or ran far longer than the tests do, was noticed.
NOTICED = {"killed", "timeout", "segfault"}
# Decorators that leave a function a function; mutmut passes over every decorated one.
TRANSPARENT = {"checked"}


class Change(NamedTuple):
    """What a mutant does to one line.

    Attributes
    ----------
    function
        Dotted name.
    line
        As the mutant writes it.
    call
        The innermost call around the change, such as ``xp.argsort``; empty outside of calls.
    gone, come
        The text that was, and the text that is there now.
    """

    function: str
    line: str
    call: str
    gone: str
    come: str


# --- running ---


def change_checked_losses() -> None:
    """Let mutmut change functions behind a transparent decorator, as it does undecorated ones."""
    passes_over = MutationVisitor._skip_node_and_children

    def skips(visitor: MutationVisitor, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            names = [
                d.decorator.value for d in node.decorators if isinstance(d.decorator, cst.Name)
            ]
            if len(names) == len(node.decorators) and set(names) <= TRANSPARENT:
                return False
        return passes_over(visitor, node)

    MutationVisitor._skip_node_and_children = skips


def results() -> Iterator[tuple[Path, str, int | None]]:
    """Yield file, name and exit code of every mutant; None is one that was not tried."""
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            yield path, name, code


def make_mutants(jobs: int) -> None:
    """Write the mutants, as the first part of ``mutmut run`` does: then they have names."""
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.setup_source_paths()
    mutmut.store_lines_covered_by_tests()
    mutmut.create_mutants(jobs)


def drawn(size: int, seed: int) -> list[str]:
    """Return the names of a random sample in random order, the same for the same code."""
    names = sorted(name for _, name, _ in results())
    return random.Random(seed).sample(names, min(size, len(names)))


def run(sample: list[str] | None, jobs: int) -> None:
    """Try every mutant, or those of a sample, that has not been tried."""
    if sample is None:
        mutmut._run((), jobs)
        return
    tried = {name for _, name, code in results() if code is not None}
    if left := [name for name in sample if name not in tried]:
        # mutmut tries those with fast tests first, which are others than those with slow ones: in
        # the order of the draw, what was tried when it is stopped is a random sample too.
        place = {name: i for i, name in enumerate(left)}
        mutmut.estimated_worst_case_time = place.__getitem__
        mutmut._run(left, jobs)


# --- reporting ---


def change_of(name: str) -> Change:
    """Return what a mutant changes."""
    module, _, mangled = name.rpartition(".")
    function = mangled.rpartition("__mutmut_")[0].removeprefix("x_").removeprefix("xǁ")
    diff = get_diff_for_mutant(name).splitlines()
    removed, added = (
        " ".join(line[1:].strip() for line in diff if re.match(rf"{sign}(?!{sign})", line))
        for sign in (r"\-", r"\+")
    )
    start = shared(removed, added)
    end = min(shared(removed[::-1], added[::-1]), len(removed) - start, len(added) - start)
    return Change(
        function=f"{module}.{function.replace('ǁ', '.')}",
        line=added or f"without {removed}",
        call=innermost_call(removed[:start]),
        gone=removed[start : len(removed) - end],
        come=added[start : len(added) - end],
    )


def shared(first: str, second: str) -> int:
    """Return how many letters two texts begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def innermost_call(text: str) -> str:
    """Return the name of the call whose bracket is the last that a text leaves open."""
    closed = 0
    for place in range(len(text) - 1, -1, -1):
        if text[place] in ")]}":
            closed += 1
        elif text[place] in "([{":
            closed -= 1
            if closed < 0:
                called = re.search(r"[\w.]+$", text[:place])
                return called.group() if called and text[place] == "(" else ""
    return ""


def reason_of(change: Change, reasons: dict[str, list[dict[str, str]]]) -> str | None:
    """Return why a survivor is none, from ``mutants.toml``, or None."""
    for row in reasons.get("mutant", []):
        if (row["function"], row["line"]) == (change.function, change.line):
            return row["reason"]
    for kind in reasons.get("kind", []):
        if all(
            re.fullmatch(kind.get(part, ".*"), getattr(change, part))
            for part in ("function", "line", "call", "gone", "come")
        ):
            return kind["reason"]
    return None


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    z = 1.959964
    centre = (hits + z**2 / 2) / (trials + z**2)
    spread = z * math.sqrt(hits * (trials - hits) / trials + z**2 / 4) / (trials + z**2)
    return centre - spread, centre + spread


def report(sample: Collection[str] | None) -> int:
    """Print a row for each room, the reasons in use, then the survivors without a reason."""
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    used: Counter[str] = Counter()
    survivors = []
    among = None if sample is None else set(sample)
    for path, name, code in results():
        if among is not None and name not in among:
            continue
        status = status_by_exit_code[code]
        if status in NOTICED:
            verdict = "killed"
        elif status == "not checked":
            verdict = status
        elif reason := reason_of(change := change_of(name), reasons):
            verdict = "equivalent"
            used[reason] += 1
        else:
            verdict = "lives"
            survivors.append((change.function, change.line, status))
        counts[str(path.parent if path.parent.name != "prefsim" else path)][verdict] += 1
    columns = ("killed", "lives", "equivalent", "not checked")
    total = sum(counts.values(), Counter())
    print(f"| room | {' | '.join(columns)} | share killed |\n|---|---|---|---|---|---|")
    for room, count in [*sorted(counts.items()), ("all", total)]:
        judged = count["killed"] + count["lives"]
        share = f"{count['killed'] / judged:.1%}" if judged else "–"
        print(f"| {room} | {' | '.join(str(count[key]) for key in columns)} | {share} |")
    judged = total["killed"] + total["lives"]
    if not judged:
        return 1
    low, high = wilson(total["killed"], judged)
    print(f"\n{total['killed'] / judged:.1%} are noticed", end="")
    print(f", 95 % interval {low:.1%} to {high:.1%} (Wilson)" if among is not None else "")
    for reason, times in used.most_common():
        print(f"equivalent, {times}: {reason}")
    for function, line, status in sorted(survivors):
        print(f"{status}: {function}: {line}")
    return int(total["killed"] < GOAL * judged or total["not checked"] > 0)


def main() -> int:
    """Run and report; exit with 0 if nothing is left to try and the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sample", type=int, help="how many to draw; all unless given")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=1, help="how many to try at a time")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is known")
    options = parser.parse_args()
    change_checked_losses()
    if not options.report:
        make_mutants(options.jobs)
    sample = None if options.sample is None else drawn(options.sample, options.seed)
    if not options.report:
        run(sample, options.jobs)
    return report(sample)


if __name__ == "__main__":
    sys.exit(main())
