"""Regret by the number of episodes, how negative estimates become, and inverses from draws."""

from __future__ import annotations

import numpy as np

from paper_repros.mdp.adversarial_mdp.exact import (
    EMPIRICAL,
    LENGTH,
    RESAMPLED,
    SIMULATED_GAMMA,
    Layers,
    Simulated,
    distances,
    shares,
    simulate,
)
from paper_repros.mdp.adversarial_mdp.figure import CAPTION, draw
from paper_repros.mdp.adversarial_mdp.play import (
    ACTIONS,
    DRAWS,
    FROM_DRAWS,
    LARGE,
    LAYERS,
    LEARNERS,
    METHODS,
    PLAIN,
    REDUCED,
    SETTINGS,
    SMALL,
    Runs,
    miss_of_the_leader,
    play_all,
)
from prefsim.analysis import log_log_slope
from prefsim.papers import (
    Criterion,
    Reproduction,
    Run,
    at_most,
    below,
    between,
    falling,
)


def reproduce(run: Run) -> Reproduction:
    runs = play_all(run)
    last = layers_at_the_end(runs)
    draws = tuple(LENGTH * m for m in ((1, 4, 16) if run.quick else (1, 4, 16, 64)))
    simulated = simulate(last[REDUCED], draws, np.random.default_rng(run.seed))
    estimates, inverses = criteria_of_estimates(runs, last), criteria_of_inverses(simulated)
    criteria = (*criteria_of_regret(runs, quick=run.quick), *estimates, *inverses)
    table = [*rows_of_regret(runs), *rows_of_inverses(simulated)]
    cut = "200 and 800 episodes rather than 500, 2,000 and 8,000; fewer draws from the simulator"
    return Reproduction(draw(runs, simulated), table, criteria, CAPTION, cut)


def layers_at_the_end(runs: Runs) -> dict[str, Layers]:
    """Return the last policies of each method, with the first table of losses and γ = 1/K."""
    k = runs.sizes[-1]
    process, losses = runs.worlds.process, runs.worlds.losses[0]
    return {
        method: Layers(process, losses, runs.played[method, k].policy[0], 1 / k)
        for method in METHODS
    }


# --- criteria ---


def criteria_of_regret(runs: Runs, *, quick: bool) -> tuple[Criterion, ...]:
    sizes = runs.sizes
    shares = {method: runs.share(method, SMALL) for method in LEARNERS}
    exact = dict(zip(sizes, runs.regret(REDUCED, SMALL), strict=True))
    small, large = (
        [runs.regret(method, setting)[-1 if quick else 0 :] for method in LEARNERS]
        for setting in (SMALL, LARGE)
    )
    found = [
        between(
            f"{SMALL}: regret of the two algorithms as a share of playing at random,"
            f" {sizes[-1]} episodes",
            [share[-1] for share in shares.values()],
            0.05,
            0.6 if quick else 0.35,
            stated="chosen",
            paper="order √K, where playing at random is of order K",
        ),
        *(
            falling(
                f"{SMALL}, {method}: that share by the number of episodes", share, stated="paper"
            )
            for method, share in shares.items()
        ),
        below(
            f"mean regret: {SMALL} below {LARGE}, "
            + (f"{sizes[-1]} episodes" if quick else "all numbers of episodes"),
            np.ravel(small),
            np.ravel(large),
            stated="paper",
            paper="a bias of order γK/β: γ must be of order 1/K",
        ),
        between(
            "regret without a bonus, and with fifteen times the bonus, over that with it,"
            f" {sizes[-1]} episodes",
            [
                runs.regret(method, setting)[-1] / runs.regret(method, SMALL)[-1]
                for method in LEARNERS
                for setting in ("no bonus", "bonus times 15")
            ],
            0.75,
            1.4,
            stated="chosen",
        ),
        between(
            "exponential weights: regret with standard estimates over that with reduced ones,"
            f" {sizes[-1]} episodes",
            runs.regret(PLAIN, SMALL)[-1] / runs.regret(REDUCED, SMALL)[-1],
            0.75,
            1.35,
            stated="chosen",
            paper="a regret of √K is proved with reduced estimates alone",
        ),
        at_most(
            f"regret with covariances from {DRAWS} draws over that with exact ones",
            [each / exact[k] for k, each in runs.from_draws.items()],
            1.3,
            stated="chosen",
        ),
    ]
    if not quick:
        slopes = [log_log_slope(sizes, runs.regret(method, SMALL)) for method in LEARNERS]
        found.append(
            between(
                f"{SMALL}: exponent of the regret in the number of episodes",
                slopes,
                0.4,
                0.85,
                stated="chosen",
                paper="1/2, up to logarithms",
            )
        )
    return tuple(found)


def criteria_of_estimates(runs: Runs, last: dict[str, Layers]) -> tuple[Criterion, ...]:
    sizes = np.array(runs.sizes)
    reduced, plain = runs.smallest(REDUCED, SMALL), runs.smallest(PLAIN, SMALL)
    apart = [
        distances(layers, np.full_like(layers.policy, 1 / ACTIONS), 1.0)
        for layers in (last[method] for method in LEARNERS)
    ]
    used = [shares(last[method]) for method in LEARNERS]
    return (
        below(
            "exponential weights: least standard estimate below the least reduced one, by the"
            " number of episodes",
            plain,
            reduced,
            stated="paper",
        ),
        at_most(
            "least reduced estimates as a share of their bound −H√K/2",
            -np.array(reduced) / (LAYERS * np.sqrt(sizes) / 2),
            1.0,
            stated="derived",
            paper="−H/√γ",
        ),
        at_most(
            "least standard estimates as a share of their bound −HK",
            -np.array(plain) / (LAYERS * sizes),
            1.0,
            stated="paper",
        ),
        at_most(
            "last policies: visits, values, bonuses, means of estimates, covariances and the"
            " performance difference, from sums over all episodes",
            [value for each in apart for value in each],
            1e-8,
            stated="derived",
        ),
        at_most(
            "last policies: second moment of reduced estimates over H² E x²",
            [each.square for each in used],
            1 + 1e-9,
            stated="derived",
        ),
        at_most(
            "last policies: H² E x² over H² times the squared norm of the features",
            [each.norm for each in used],
            1 + 1e-9,
            stated="derived",
        ),
        at_most(
            "last policies: mean of the weights after magnitude reduction less that before,"
            " relative to the largest",
            [each.mean for each in used],
            1e-9,
            stated="derived",
            paper="the same",
        ),
        at_most(
            "log-barrier: excess of the objective at the uniform policy less the divergence of"
            " the barrier, relative",
            miss_of_the_leader(runs),
            1e-9,
            stated="derived",
        ),
    )


def criteria_of_inverses(found: Simulated) -> tuple[Criterion, ...]:
    return (
        between(
            f"eigenvalues of the empirical inverse times γI + Σ, {found.needed} draws,"
            f" γ = {SIMULATED_GAMMA}",
            found.spectra[EMPIRICAL, found.needed],
            1 - found.allowed,
            1 + found.allowed,
            stated="paper",
        ),
        below(
            "error of the empirical inverse below that of geometric resampling, by the number of"
            " draws",
            found.errors(EMPIRICAL)[: len(found.sizes(RESAMPLED))],
            found.errors(RESAMPLED),
            stated="chosen",
            paper="fewer draws from the simulator",
        ),
        at_most(
            "means of 3,000 inverses of both kinds from what is expected, largest of all entries in"
            " standard errors",
            list(found.z_scores.values()),
            6.0,
            stated="derived",
        ),
    )


# --- the table ---


def rows_of_regret(runs: Runs) -> list[dict[str, str | float | int]]:
    rows: list[dict[str, str | float | int]] = [
        {"episodes": k, "method": "at random", "regret": value} for k, value in runs.uniform.items()
    ]
    for method in METHODS:
        for setting in SETTINGS:
            columns = {
                "episodes": runs.sizes,
                "regret": runs.regret(method, setting),
                "standard error": runs.error(method, setting),
                "of that at random": runs.share(method, setting),
                "least estimate": runs.smallest(method, setting),
            }
            names = {"method": method, "setting": setting}
            rows += [
                names | dict(zip(columns, values, strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
    rows += [
        {"episodes": k, "method": REDUCED, "setting": FROM_DRAWS, "regret": value}
        for k, value in runs.from_draws.items()
    ]
    return rows


def rows_of_inverses(found: Simulated) -> list[dict[str, str | float | int]]:
    return [
        {
            "method": kind,
            "draws": size,
            "error of the inverse": error,
            "least eigenvalue": float(found.spectra[kind, size].min()),
            "largest eigenvalue": float(found.spectra[kind, size].max()),
        }
        for kind in (RESAMPLED, EMPIRICAL)
        for size, error in zip(found.sizes(kind), found.errors(kind), strict=True)
    ]
