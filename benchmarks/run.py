"""All benchmarks in one table: prefsim, the best peer, the ratio, its limit, the certificate.

Each part is a module beside this one with a function ``rows``, and runs in a process of its own on
one thread. One whose peers are not installed is left out and named.

    python benchmarks/run.py [--only nash planning] [--quick]   prints the table
    python benchmarks/run.py --write    writes it to RESULTS.md, and the ratios to ratios.json;
                                        with --quick the ratios of small sizes alone
    python benchmarks/run.py --check    small sizes: no ratio a fifth below the last one recorded

``make bench`` writes, ``make nightly`` checks.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import json
import os
import platform
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

from _processes import in_own_process
from _table import Row, falls, markdown, ratios_of, read_ratios, with_block, write_whole

HERE = Path(__file__).resolve().parent
RESULTS, RATIOS = HERE / "RESULTS.md", HERE / "ratios.json"
PARTS = {
    "bradley_terry": "bradley_terry",
    "nash": "nash",
    "planning": "planning",
    "losses": "losses",
    "contrastive": "contrastive",
    "lm": "_lm_rows",
}
"""Each with the module that has its ``rows``."""
PEERS = ("choix", "quantecon", "numba")
"""Without these there is next to nothing to compare with."""
VERSIONS = ("numpy", "scipy", "torch", "choix", "quantecon", "nashpy", "open_spiel", "trl")
TRIES = 3
"""Times that a part is measured before a ratio that fell counts: machines have other work."""


class Measured(NamedTuple):
    """Rows of the parts that ran, and the parts that did not, each with its reason."""

    rows: list[Row]
    left_out: dict[str, str]


def measured(parts: tuple[str, ...], *, quick: bool) -> Measured:
    """Run each part in a process of its own."""
    rows: list[Row] = []
    left_out = {}
    for part in parts:
        start = time.perf_counter()
        found = in_own_process(__file__, ["--part", part, *(["--quick"] if quick else [])], 1)
        print(f"{part}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        if isinstance(found, str):
            left_out[part] = found
        else:
            rows += [Row(*each) for each in found["rows"]]
    return Measured(rows, left_out)


def processor() -> str:
    """Return the name of the processor, as far as it can be told."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def today() -> str:
    """Return the date."""
    return str(datetime.datetime.now(datetime.UTC).date())


def said_of(found: Measured, minutes: float) -> str:
    """Return when, where and with what a run was measured, and what was left out."""
    installed = {
        part.metadata["Name"].lower().replace("-", "_"): part.version for part in distributions()
    }
    versions = [f"{name} {installed[name]}" for name in VERSIONS if name in installed]
    load = f", load {os.getloadavg()[0]:.1f} at its end" if hasattr(os, "getloadavg") else ""
    lines = [
        f"{today()}, {processor()}, {os.cpu_count()} cores{load}; {minutes:.0f} minutes."
        f" Python {platform.python_version()}, {', '.join(versions)}.",
        "CPU time of one thread; the ratio is the best peer's over ours, and **bold** where it is"
        " at least its limit.",
    ]
    lines += [f"Left out: {part} ({why})." for part, why in found.left_out.items()]
    return "\n".join(lines)


def record(full: Measured, quick: Measured) -> None:
    """Write the ratios for the next run; what was left out keeps its last one."""
    before = read_ratios(RATIOS)
    ratios: dict[str, Any] = {
        "date": today(),
        "processor": processor(),
        "full": {**before["full"], **ratios_of(full.rows)},
        "quick": {**before["quick"], **ratios_of(quick.rows)},
    }
    write_whole(RATIOS, json.dumps(ratios, indent=1, ensure_ascii=False) + "\n")


def check() -> int:
    """Measure small sizes, and return 1 where a ratio fell by a fifth in every try, else 0."""
    before = read_ratios(RATIOS)["quick"]
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    if missing or not before:
        why = f"{', '.join(missing)} not installed" if missing else f"no ratios in {RATIOS.name}"
        print(f"benchmarks: not compared: {why}; `make bench` mends that")
        return 0
    found = measured(tuple(PARTS), quick=True)
    compared, fallen = falls(found.rows, before)
    for _ in range(TRIES - 1):
        again = {line.partition("/")[0] for line in fallen}
        if not again:
            break
        kept = {line.partition(":")[0] for line in fallen}
        more = measured(tuple(part for part in PARTS if part in again), quick=True)
        fallen = [line for line in falls(more.rows, before)[1] if line.partition(":")[0] in kept]
    for line in fallen:
        print(f"benchmarks: {line}")
    print(f"benchmarks: {compared} ratios compared, {len(fallen)} fell by more than a fifth")
    return 1 if fallen else 0


def main() -> int:
    """Parse the options and print, write or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute or two")
    job = parser.add_mutually_exclusive_group()
    job.add_argument("--write", action="store_true")
    job.add_argument("--check", action="store_true")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        rows = importlib.import_module(PARTS[options.part]).rows(quick=options.quick)
        print(json.dumps({"rows": rows}))
        return 0
    parts = tuple(options.only)
    if (options.write or options.check) and parts != tuple(PARTS):
        parser.error("--write and --check are of all parts")
    if options.check:
        return check()
    start = time.perf_counter()
    found = measured(parts, quick=options.quick)
    nothing = Measured([], {})
    small = measured(parts, quick=True) if options.write and not options.quick else found
    said = said_of(found, (time.perf_counter() - start) / 60)
    block = markdown(found.rows, read_ratios(RATIOS)["quick" if options.quick else "full"], said)
    if options.write:
        if not options.quick:
            write_whole(RESULTS, with_block(RESULTS.read_text(encoding="utf-8"), block))
        record(nothing if options.quick else found, small)
    print(block)
    return 0


if __name__ == "__main__":
    sys.exit(main())
