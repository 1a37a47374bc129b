"""Nash equilibria of preference games.

Exact and first-order solvers against their peers, and batches against loops.

Every method runs in this process on one BLAS thread, on the same games. The certificate, the
exploitability, is recomputed from each policy by one line that belongs to none of them. CPU
seconds; compiled peers are warmed up first.

    python benchmarks/nash.py [--large] [--loop 1000] [--budget 20] [--json]
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _table import Row, beside_best
from scipy.optimize import linprog
from threadpoolctl import threadpool_limits

from prefsim.solvers import solve_nash
from prefsim.worlds.game import PreferenceGame

TARGET = 1e-9


def exploitability(preference: np.ndarray, policy: np.ndarray) -> np.ndarray:
    return ((preference - 0.5) @ policy[..., None])[..., 0].max(axis=-1)


def cpu_seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def best_cpu_seconds(call: Callable[[], Any], repeats: int = 7) -> tuple[float, Any]:
    """Return the best of some rounds of at least two milliseconds; what takes long is run once."""
    seconds, result = cpu_seconds(call)
    if seconds > 0.05:
        return seconds, result
    calls = range(1 + int(2e-3 / max(seconds, 1e-6)))
    for _ in range(repeats):
        spent, _ = cpu_seconds(lambda: [call() for _ in calls])
        seconds = min(seconds, spent / len(calls))
    return seconds, result


def by_highs(method: str) -> Callable[[np.ndarray], np.ndarray]:
    def solve(preference: np.ndarray) -> np.ndarray:
        n = len(preference)
        # max t such that the payoff against every response is at least t.
        upper = np.hstack([-(preference - 0.5).T, np.ones((n, 1))])
        total = np.append(np.ones(n), 0.0)[None]
        found = linprog(
            np.append(np.zeros(n), -1.0),
            A_ub=upper,
            b_ub=np.zeros(n),
            A_eq=total,
            b_eq=[1.0],
            bounds=[(0, None)] * n + [(None, None)],
            method=method,
        )
        return found.x[:n]

    return solve


def by_quantecon(preference: np.ndarray) -> np.ndarray:
    from quantecon.optimize.minmax import minmax

    return minmax(preference - 0.5)[1]


def by_nashpy(preference: np.ndarray) -> np.ndarray:
    import nashpy

    return nashpy.Game(preference - 0.5).linear_program()[0]


def by_openspiel(preference: np.ndarray) -> np.ndarray:
    import pyspiel
    from open_spiel.python.algorithms import lp_solver

    payoff = preference - 0.5
    game = pyspiel.create_matrix_game(payoff.tolist(), (-payoff).tolist())
    return np.asarray(lp_solver.solve_zero_sum_matrix_game(game)[0])[:, 0]


def by_prefsim(preference: np.ndarray) -> np.ndarray:
    return solve_nash(preference, method="lp").policy


def exact(sizes: dict[int, int]) -> list[dict[str, Any]]:
    solvers: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "prefsim lp": by_prefsim,
        "scipy HiGHS interior point": by_highs("highs-ipm"),
        "scipy HiGHS dual simplex": by_highs("highs-ds"),
    }
    peers = (
        ("quantecon minmax", "quantecon", by_quantecon),
        ("nashpy linear_program", "nashpy", by_nashpy),
        # OpenSpiel's program asks cvxpy for the solver ECOS by name.
        ("OpenSpiel lp_solver", "ecos", by_openspiel),
    )
    for name, package, solve in peers:
        try:
            importlib.import_module(package)
        except ImportError:
            print(f"{package} is not installed: left out")
        else:
            solvers[name] = solve
    rows = []
    for n, seeds in sizes.items():
        games = [PreferenceGame.random(n, seed=seed).preference for seed in range(seeds)]
        for name, peer in solvers.items():
            peer(PreferenceGame.random(5, seed=0).preference)
            runs = [best_cpu_seconds(functools.partial(peer, game)) for game in games]
            worst = max(
                float(exploitability(game, policy))
                for game, (_, policy) in zip(games, runs, strict=True)
            )
            rows.append(
                {
                    "n": n,
                    "games": seeds,
                    "solver": name,
                    "seconds": statistics.median(t for t, _ in runs),
                    "exploitability": worst,
                }
            )
    return rows


FIRST_ORDER: dict[str, dict[str, Any]] = {
    "regret_matching": {},
    "optimistic": {"step": 1.0},
    "egpo": {},
    "mwu": {},
    "fictitious_play": {},
}
FIRST_ORDER_TARGET = 1e-6


Run = tuple[np.ndarray, int]  # a policy and the iterations that were made


def by_openspiel_regret_matching(preference: np.ndarray, iterations: int) -> Run:
    from open_spiel.python.algorithms.regret_matching import regret_matching

    payoff = preference - 0.5
    return np.asarray(regret_matching([payoff, -payoff], iterations=iterations)[0]), iterations


def by_openspiel_replicator(preference: np.ndarray, iterations: int) -> Run:
    from open_spiel.python.algorithms.projected_replicator_dynamics import (
        projected_replicator_dynamics,
    )

    payoff = preference - 0.5
    return (
        np.asarray(
            projected_replicator_dynamics([payoff, -payoff], prd_iterations=iterations, prd_dt=1.0)[
                0
            ]
        ),
        iterations,
    )


def by_first_order(method: str, preference: np.ndarray, iterations: int) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = solve_nash(
            preference,
            method=method,
            max_iterations=iterations,
            tolerance=FIRST_ORDER_TARGET,
            **FIRST_ORDER[method],
        )
    averaged = (
        result.average_policy is not None and result.average_exploitability < result.exploitability
    )
    return np.asarray(result.average_policy if averaged else result.policy), int(result.iterations)


def products(matrix: np.ndarray, n: int) -> None:
    for _ in range(n):
        matrix @ matrix[0]


def first_order(sizes: dict[int, int], budget: float) -> list[dict[str, Any]]:
    """Return how far each method comes within ``budget`` CPU seconds a game.

    With ten times the iterations as long as they fit.
    """
    solvers: dict[str, Callable[[np.ndarray, int], Run]] = {
        f"prefsim {method}": functools.partial(by_first_order, method) for method in FIRST_ORDER
    }
    if importlib.util.find_spec("open_spiel"):
        solvers["OpenSpiel regret matching"] = by_openspiel_regret_matching
        solvers["OpenSpiel replicator"] = by_openspiel_replicator
    rows = []
    for n, seeds in sizes.items():
        games = [PreferenceGame.random(n, seed=seed).preference for seed in range(seeds)]
        product = (
            min(cpu_seconds(functools.partial(products, games[0], 100))[0] for _ in range(3)) / 100
        )
        for name, solve in solvers.items():
            solve(PreferenceGame.random(5, seed=0).preference, 10)
            ends = []
            for game in games:
                iterations, spent = 100, 0.0
                while True:
                    seconds, (policy, made) = cpu_seconds(
                        functools.partial(solve, game, iterations)
                    )
                    gap = float(exploitability(game, policy))
                    spent += seconds
                    if gap <= FIRST_ORDER_TARGET or 11 * spent > budget:
                        break
                    iterations *= 10
                ends.append((seconds, gap, seconds / max(made, 1) / product))
            seconds, gap, cost = (statistics.median(column) for column in zip(*ends, strict=True))
            rows.append(
                {
                    "n": n,
                    "games": seeds,
                    "solver": name,
                    "seconds": seconds,
                    "exploitability": gap,
                    "products": cost,
                }
            )
    return rows


def one_by_one(solve: Callable[..., Any], games: np.ndarray) -> list[Any]:
    return [solve(game) for game in games]


def batches(n_games: int, looped: int) -> list[dict[str, Any]]:
    """Return one call for all games against a loop over ``looped`` of them, scaled up."""
    games = PreferenceGame.random(10, seed=0, batch_shape=(n_games,)).preference
    rows = []
    settings: dict[str, dict[str, Any]] = {
        "lp": {},
        "regularised, tau 0.1": {"tau": 0.1},
        "regularised, tau 0.01": {"tau": 0.01},
    }
    for name, options in settings.items():
        method = name.split(",")[0]
        solve: Callable[..., Any] = functools.partial(solve_nash, method=method, **options)
        # What is compiled is compiled before, for one game and for many.
        solve(games[:5]), solve(games[0])
        together, result = min(
            (cpu_seconds(functools.partial(solve, games)) for _ in range(3)), key=lambda run: run[0]
        )
        alone, _ = cpu_seconds(functools.partial(one_by_one, solve, games[:looped]))
        gap = result.exploitability if method == "lp" else result.regularised_gap
        loop = alone * n_games / looped
        rows.append(
            {
                "method": name,
                "games": n_games,
                "one call": together,
                "loop": loop,
                "ratio": loop / together,
                "gap": float(gap.max()),
            }
        )
    return rows


def rows(*, quick: bool) -> list[Row]:
    """Return single games, first-order methods and batches, each beside the best peer or a loop."""
    sizes = {30: 5, 100: 5} if quick else {10: 5, 30: 5, 100: 5, 300: 3}
    n_games, looped = (2000, 200) if quick else (10_000, 1000)
    with threadpool_limits(1):
        solved = exact(sizes)
        # None of the peers comes near the target, in any time that there is.
        iterated = [] if quick else first_order({100: 3, 300: 3}, 3.0)
        batched = batches(n_games, looped)
    made = []
    for n in sizes:
        ours, *peers = (row for row in solved if row["n"] == n)
        good = [row for row in peers if row["exploitability"] <= TARGET]
        made.append(
            beside_best(
                f"nash/exact-{n}",
                f"equilibrium, n = {n}",
                ours["seconds"],
                {row["solver"]: row["seconds"] for row in good},
                limit=1.0,
                certificate=f"exploitability {ours['exploitability']:.0e}",
            )
        )
    for n in {row["n"]: None for row in iterated}:
        mine = [row for row in iterated if row["n"] == n and row["solver"].startswith("prefsim")]
        theirs = [row for row in iterated if row["n"] == n and row not in mine]
        best = min(mine, key=lambda row: max(row["exploitability"], FIRST_ORDER_TARGET))
        there = [row for row in theirs if row["exploitability"] <= FIRST_ORDER_TARGET]
        gap = min((row["exploitability"] for row in theirs), default=float("nan"))
        made.append(
            beside_best(
                f"nash/first-order-{n}",
                f"first-order methods to 1e-6, n = {n}: {best['solver'].removeprefix('prefsim ')}",
                best["seconds"],
                {row["solver"]: row["seconds"] for row in there},
                limit=1.0 if there else float("nan"),
                certificate=f"exploitability {best['exploitability']:.0e}"
                + ("" if there or not theirs else f"; no peer below {gap:.0e}"),
            )
        )
    made += [
        beside_best(
            f"nash/batch-{row['method'].replace(', tau ', '-')}-{n_games}",
            f"{n_games:,} games of ten responses in one call, {row['method']}",
            row["one call"],
            {"loop over ours": row["loop"]},
            # A compiled game takes microseconds: many in one call save the calls alone.
            limit=1.0 if row["method"] == "lp" else 50.0,
            certificate=f"largest gap {row['gap']:.0e}",
        )
        for row in batched
    ]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--large", action="store_true", help="also one game of 1000 responses (minutes)"
    )
    parser.add_argument(
        "--loop",
        type=int,
        default=1000,
        help="games of the loop that the batch is compared with; scaled to 10,000",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=20.0,
        help="CPU seconds for each first-order method and game",
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with threadpool_limits(1):
        solved = exact({10: 5, 30: 5, 100: 5, 300: 3, **({1000: 1} if arguments.large else {})})
        iterated = first_order(
            {100: 3, 300: 3, **({1000: 1} if arguments.large else {})}, arguments.budget
        )
        batched = batches(10_000, arguments.loop)
    if arguments.json:
        print(json.dumps({"exact": solved, "first order": iterated, "batches": batched}))
        return
    print(f"{'n':>5} {'solver':<28} {'CPU s':>10} {'x prefsim':>10} {'exploitability':>15}")
    for row in solved:
        ours = next(other["seconds"] for other in solved if other["n"] == row["n"])
        missed = "" if row["exploitability"] <= TARGET else "  misses 1e-9"
        ratio = row["seconds"] / ours
        print(
            f"{row['n']:>5} {row['solver']:<28} {row['seconds']:>10.4g} {ratio:>10.2f}"
            f" {row['exploitability']:>15.1e}{missed}"
        )
    print(
        f"\n{'n':>5} {'first-order solver':<28} {'CPU s':>10} {'exploitability':>15}"
        f" {'products an iteration':>22}"
    )
    for row in iterated:
        missed = "" if row["exploitability"] <= FIRST_ORDER_TARGET else "  misses 1e-6"
        print(
            f"{row['n']:>5} {row['solver']:<28} {row['seconds']:>10.4g}"
            f" {row['exploitability']:>15.1e} {row['products']:>22.1f}{missed}"
        )
    print(
        f"\n{'method':<24} {'games':>7} {'one call s':>11} {'loop s*':>9} {'ratio':>7}"
        f" {'largest gap':>12}"
    )
    for row in batched:
        print(
            f"{row['method']:<24} {row['games']:>7} {row['one call']:>11.3f}"
            f" {row['loop']:>9.1f} {row['ratio']:>7.0f} {row['gap']:>12.1e}"
        )
    print(f"* {arguments.loop} games, scaled")


if __name__ == "__main__":
    main()
