"""Planning on sparse processes against QuantEcon's DiscreteDP.

10⁴ to 10⁶ states, to one certificate.

Every method runs in this process on one thread, after a warm-up that compiles QuantEcon's loops.
The goal is values within ``--error`` of the optimum; each method gets the tolerance that guarantees
just this by its own stopping rule, and the error bound ``max |Tv - v| / (1 - discount)`` is then
recomputed by one function that belongs to none of them. CPU seconds, median of the repeats, which
take turns among the methods (one repeat where a solve takes longer than five seconds).

Instances: random processes (4 actions, 5 successors, discount 0.95: they mix fast), and rings of
cells walked one or two steps at a time (3 successors), on which news travels slowly and the
discount alone sets the pace.

    python benchmarks/planning.py [--states 10000 100000 1000000] [--ring-discounts 0.95 0.99 0.999]
    [--json FILE]
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib.metadata
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from _table import Row, beside_best
from threadpoolctl import threadpool_limits

from prefsim.solvers import planning
from prefsim.worlds import TabularMDP

PATIENCE = 5.0
"""CPU seconds after which a solve is not repeated."""


class Method(NamedTuple):
    """A name and a call that returns values and the number of iterations."""

    name: str
    solve: Callable[[], tuple[np.ndarray, int]]


def ring(n_states: int, *, discount: float, seed: int) -> TabularMDP:
    """Return a walk on a ring.

    Each action aims one or two cells to either side, gets there with 0.8, opposite with 0.1, else
    stays.
    """
    here = np.arange(n_states)[:, None]
    step = np.array([-1, 1, -2, 2])
    columns = np.stack(
        [(here + step) % n_states, (here - step) % n_states, here + 0 * step], axis=-1
    ).reshape(-1, 3)
    order = np.argsort(columns, axis=1)
    mass = np.take_along_axis(np.broadcast_to([0.8, 0.1, 0.1], columns.shape), order, axis=1)
    columns = np.take_along_axis(columns, order, axis=1)
    table = sp.csr_array(
        (mass.ravel(), columns.ravel(), np.arange(0, columns.size + 1, 3)),
        shape=(4 * n_states, n_states),
    )
    reward = 0.1 * np.random.default_rng(seed).random((n_states, 1)) + np.zeros((n_states, 4))
    reward[0] += 1.0
    return TabularMDP(table, reward, discount=discount)


def error_bound(mdp: TabularMDP, value: np.ndarray) -> float:
    """Return ``max |Tv - v| / (1 - discount)``, which no error of ``value`` exceeds."""
    best = np.full(mdp.n_states, -np.inf)
    for action in range(mdp.n_actions):
        rows = mdp.transitions[action :: mdp.n_actions]
        best = np.maximum(best, mdp.reward[:, action] + mdp.discount * (rows @ value))
    return float(np.abs(best - value).max() / (1 - mdp.discount))


def methods(mdp: TabularMDP, error: float, *, value_iteration: bool) -> list[Method]:
    """Return every method, set to guarantee the error."""
    from quantecon.markov import DiscreteDP

    tolerance = error * (1 - mdp.discount)
    pairs = (
        np.repeat(np.arange(mdp.n_states), mdp.n_actions),
        np.tile(np.arange(mdp.n_actions), mdp.n_states),
    )
    peer = DiscreteDP(mdp.reward.ravel(), sp.csr_matrix(mdp.transitions), mdp.discount, *pairs)

    def ours(solver: Callable[..., planning.PlanningResult]) -> tuple[np.ndarray, int]:
        found = solver(mdp, tolerance=tolerance)
        return found.value, found.iterations

    def theirs(method: str) -> tuple[np.ndarray, int]:
        # QuantEcon stops where its values are within half of epsilon.
        found = peer.solve(method, epsilon=2 * error, max_iter=10**6)
        return found.v, found.num_iter

    listed = [
        Method(
            "prefsim modified_policy_iteration",
            functools.partial(ours, planning.modified_policy_iteration),
        ),
        Method("quantecon mpi (k=20)", functools.partial(theirs, "mpi")),
    ]
    if value_iteration:
        listed.append(
            Method("prefsim value_iteration", functools.partial(ours, planning.value_iteration))
        )
        listed.append(Method("quantecon vi", functools.partial(theirs, "vi")))
    return listed


def cpu_seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of ``call`` and its result."""
    gc.collect()
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def run(
    name: str, mdp: TabularMDP, *, error: float, repeats: int, value_iteration: bool
) -> list[dict[str, Any]]:
    """Time every method on one instance.

    ``ratio`` is CPU time over that of prefsim's modified policy iteration.
    """
    listed = methods(mdp, error, value_iteration=value_iteration)
    times: dict[str, list[float]] = {method.name: [] for method in listed}
    results: dict[str, tuple[np.ndarray, int]] = {}
    for _ in range(repeats):
        for method in listed:
            if times[method.name] and times[method.name][0] > PATIENCE:
                continue
            seconds, results[method.name] = cpu_seconds(method.solve)
            times[method.name].append(seconds)
    ours = statistics.median(times[listed[0].name])
    rows = []
    for method in listed:
        value, iterations = results[method.name]
        seconds = statistics.median(times[method.name])
        rows.append(
            {
                "instance": name,
                "states": mdp.n_states,
                "discount": mdp.discount,
                "method": method.name,
                "cpu_s": seconds,
                "repeats": len(times[method.name]),
                "iterations": iterations,
                "error_bound": error_bound(mdp, value),
                "ratio": seconds / ours,
            }
        )
    return rows


def rows(*, quick: bool) -> list[Row]:
    """Return modified policy iteration beside QuantEcon's best, both to a bound of 1e-6."""
    import numba

    numba.set_num_threads(1)
    error, seed = 1e-6, 0
    states, discounts, ring_states = (10**4, 10**5, 10**6), (0.95, 0.99, 0.999), 10**5
    if quick:
        states, discounts, ring_states = states[:1], discounts[:1], 10**4
    instances: list[tuple[str, str, float, Callable[[], TabularMDP]]] = [
        (
            f"random-{n}",
            f"planning, random, S = {n:,}",
            3.0 if n >= 10**6 else 1.0,
            functools.partial(TabularMDP.random_sparse, n, 4, 5, discount=0.95, seed=seed),
        )
        for n in states
    ]
    instances += [
        (
            f"ring-{ring_states}-{gamma:g}",
            f"planning, slow ring, S = {ring_states:,}, discount {gamma:g}",
            3.0,
            functools.partial(ring, ring_states, discount=gamma, seed=seed),
        )
        for gamma in discounts
    ]
    made = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warm_up = TabularMDP.random_sparse(50, 4, 5, discount=0.9, seed=0)
        run("warm-up", warm_up, error=error, repeats=1, value_iteration=False)
        for key, what, limit, make in instances:
            ours, *peers = run(key, make(), error=error, repeats=5, value_iteration=False)
            good = [row for row in peers if row["error_bound"] <= error]
            made.append(
                beside_best(
                    f"planning/{key}",
                    what,
                    ours["cpu_s"],
                    {row["method"]: row["cpu_s"] for row in good},
                    limit=limit,
                    certificate=f"error at most {ours['error_bound']:.1e}",
                )
            )
    return made


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [
        f"{'instance':22} {'method':34} {'CPU ms':>10} {'n':>3} {'iterations':>10}"
        f" {'error bound':>12} {'ratio':>7}"
    ]
    before = None
    for row in rows:
        if before not in (None, row["instance"]):
            lines.append("")
        before = row["instance"]
        lines.append(
            f"{row['instance']:22} {row['method']:34} {row['cpu_s'] * 1e3:10.1f} {row['repeats']:3}"
            f" {row['iterations']:10} {row['error_bound']:12.1e} {row['ratio']:7.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the options and print the table; with ``--json`` also write a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--states",
        type=int,
        nargs="*",
        default=[10**4, 10**5, 10**6],
        help="sizes of the random processes",
    )
    parser.add_argument("--discount", type=float, default=0.95, help="of the random processes")
    parser.add_argument("--ring-states", type=int, default=10**5)
    parser.add_argument("--ring-discounts", type=float, nargs="*", default=[0.95, 0.99, 0.999])
    parser.add_argument(
        "--error", type=float, default=1e-6, help="largest distance from the optimal values"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--no-value-iteration",
        action="store_true",
        help="leave out plain value iteration (a minute at 10⁶ states)",
    )
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    import numba

    numba.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warm_up = TabularMDP.random_sparse(50, 4, 5, discount=0.9, seed=0)
        run("warm-up", warm_up, error=options.error, repeats=1, value_iteration=True)
    instances: list[tuple[str, Callable[[], TabularMDP]]] = [
        (
            f"random S={n:.0e}",
            functools.partial(
                TabularMDP.random_sparse, n, 4, 5, discount=options.discount, seed=options.seed
            ),
        )
        for n in options.states
    ]
    instances += [
        (
            f"ring discount {gamma:g}",
            functools.partial(ring, options.ring_states, discount=gamma, seed=options.seed),
        )
        for gamma in options.ring_discounts
    ]
    rows: list[dict[str, Any]] = []
    for name, make in instances:
        slow = name.startswith("ring") and options.ring_discounts and float(name.split()[-1]) > 0.99
        with_vi = not options.no_value_iteration and not slow
        with threadpool_limits(limits=1):
            rows += run(
                name, make(), error=options.error, repeats=options.repeats, value_iteration=with_vi
            )
    versions = {
        package: importlib.metadata.version(package)
        for package in ("numpy", "scipy", "quantecon", "numba")
    }
    print(
        f"planning to an error of {options.error:g}, one thread, median CPU time, ratio to the"
        " first row of each instance"
    )
    print(f"{platform.processor() or platform.machine()}, {versions}\n")
    print(table(rows))
    if options.json:
        partial = options.json.with_suffix(".part")
        partial.write_text(
            json.dumps(
                {"error": options.error, "seed": options.seed, "versions": versions, "rows": rows},
                indent=1,
            )
            + "\n"
        )
        partial.replace(options.json)


if __name__ == "__main__":
    main()
