"""Last iterates in random games, opponents of Nash-MD-PG, its descent, transformers, elections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.nash_md.convergence import (
    Convergence,
    Curve,
    converge,
    curve_of,
    draw_horizons,
    draw_iterates,
    slope_of_the_bias,
)
from paper_repros.nash.nash_md.policy_gradient import (
    MEASURED_PAIRS,
    Descent,
    descend_everywhere,
    draw_descent,
)
from paper_repros.nash.nash_md.transformer import (
    NEEDED,
    Trained,
    criteria_of,
    draw_trained,
    is_installed,
    rows_of,
    train_transformers,
)
from prefsim.analysis.elections import Election, elect
from prefsim.backend import to_numpy
from prefsim.numerics import categorical_kl, softmax
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    between,
    holds,
    near,
    panels,
    rising,
)
from prefsim.papers.figures import BLUE, OLIVE, WINE
from prefsim.solvers import solve_nash
from prefsim.solvers.games.certificates import (
    best_response,
    expected_preference,
    exploitability,
    regularised_gap,
)
from prefsim.solvers.games.stationary_point import nash_md_pg_stationary_point
from prefsim.testing.games import random_games
from prefsim.worlds import synthetic_ballots

TAUS = (0.01, 0.1, 1.0)
SHOWN_TAU = 0.1
MIXTURES = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
# The differences between κ = 0 and .125 are a hundredth: in 20 games they may go the other way.
N_RIVALS, RIVAL_TAU = 100, 0.05
# Horizons, and token trees.
FULL, QUICK = ((30, 100, 300, 1000, 3000, 10_000), 20), ((30, 100, 300, 1000), 8)
# Transformers that are trained, each for each mixture.
N_MODELS = 3
OTHERS = {"multiplicative weights": "mwu", "mirror descent": "mirror_descent"}


class Rivals(NamedTuple):
    """Stationary points of Nash-MD-PG against each other.

    Attributes
    ----------
    exploitability
        ``(mixtures, games)``.
    wins
        ``(mixtures, mixtures)``: how often the first is preferred to the second, over the games.
    penalised_lead
        ``(mixtures,)``: how often self-play is preferred to each, less one half and with the
        penalties of both, over the games.
    far
        ``(mixtures,)``: τ KL(π‖π*) in that mean.
    gap, stated_gap
        ``(mixtures,)``: the regularised gap, and 2τ KL(π‖BR_τ(π)).
    """

    exploitability: np.ndarray
    wins: np.ndarray
    penalised_lead: np.ndarray
    far: np.ndarray
    gap: np.ndarray
    stated_gap: np.ndarray


def rivals_in(games: np.ndarray, references: np.ndarray) -> Rivals:
    """Return how the stationary points of all mixtures κ fare in games ``(B, n, n)``."""
    penalty: Any = {"reference": references, "tau": RIVAL_TAU}
    points = [
        to_numpy(nash_md_pg_stationary_point(games, references, tau=RIVAL_TAU, mixture=kappa))
        for kappa in MIXTURES
    ]
    target = solve_nash(games, method="regularised", **penalty).policy
    best = [best_response(games, policy, **penalty) for policy in points]

    def distance(policies: Any, others: Any) -> np.ndarray:
        return RIVAL_TAU * categorical_kl(np.log(policies), np.log(others)).mean(axis=-1)

    wins = [[expected_preference(games, a, b).mean() for b in points] for a in points]
    ahead = [expected_preference(games, target, policy, **penalty).mean() for policy in points]
    gaps = [regularised_gap(games, policy, **penalty).mean() for policy in points]
    return Rivals(
        np.stack([exploitability(games, policy) for policy in points]),
        np.array(wins),
        np.array(ahead) - 0.5,
        np.array([distance(policy, target) for policy in points]),
        np.array(gaps),
        np.array([2 * distance(policy, other) for policy, other in zip(points, best, strict=True)]),
    )


class Contest(NamedTuple):
    """An election, and how far the last iterate of Nash-MD is from its regularised equilibrium."""

    election: Election
    distance: float

    @property
    def is_sensible(self) -> bool:
        """Whether the Condorcet winner wins or, where there is none, several do."""
        election = self.election
        has_winner = election.condorcet_winner >= 0
        return election.respects_majorities and (has_winner or election.is_mixed)

    def row(self) -> dict[str, str | float | int]:
        """Return what the table says of it."""
        return self.election.row() | {
            "exploitability": self.election.exploitability,
            f"KL(π*‖Nash-MD), τ = {SHOWN_TAU:g}": self.distance,
        }


def contest(path: Path) -> Contest:
    """Solve an election exactly, and by 2000 steps of Nash-MD."""
    election = elect(path)
    games = to_numpy(election.game.preference)[None]
    return Contest(election, float(curve_of("nash_md", games, SHOWN_TAU, 2000).mean[-1]))


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    games = random_games(10, seed=rng)
    horizons, n_trees = QUICK if run.quick else FULL
    converged = {tau: converge(games, tau, horizons) for tau in run.progress(TAUS, "penalties")}
    others = {
        name: curve_of(method, games, SHOWN_TAU, horizons[-1]) for name, method in OTHERS.items()
    }
    rivals = rivals_in(
        random_games(N_RIVALS, seed=rng), softmax(rng.standard_normal((N_RIVALS, 10)))
    )
    descent = descend_everywhere(n_trees, rng)
    # Minutes, and packages that not everyone has.
    trained = None if run.quick or not is_installed() else train_transformers(run, N_MODELS)
    real = sorted((run.data / "preflib").glob("*.so[ci]")) if run.data else []
    contests = [contest(p) for p in run.progress([synthetic_ballots(), *real], "ballot files")]

    mean_exploitability = rivals.exploitability.mean(axis=1)
    criteria = (
        at_most(
            "KL(π*‖π_t) less its bound (1 − ητ)^t KL(π*‖π₀) + η/(8τ), largest for each τ",
            [c.excess for c in converged.values()],
            1e-12,
            stated="derived",
            paper="2η² a step, for which the bound here has η²/8",
        ),
        at_most(
            "slope of log KL(π*‖π_T) against log T, τ = .01",
            converged[0.01].slope,
            -0.9,
            stated="chosen",
            paper="O(log T/(τ² T))",
        ),
        between(
            "the same for τ = .1, 1: T⁻² is left of the start, (log T/T)² is the bias of a step",
            [converged[tau].slope for tau in TAUS[1:]],
            # The distances are squares of one or the other; neither is pure.
            -2,
            slope_of_the_bias(horizons) + 0.05,
            stated="derived",
            paper="O(log T/(τ² T))",
        ),
        between(
            "KL(π*‖π_T) over that of the limit of so large a constant step, τ = .1, longest run",
            converged[SHOWN_TAU].over_bias,
            0.8,
            1.6,
            stated="chosen",
        ),
        rising(
            "exploitability of the stationary point, as κ rises from 0 to 1",
            mean_exploitability,
            stated="chosen",
            paper="small mixtures beat the best response to the reference",
        ),
        below(
            "how often κ = 1 wins against every κ from .125, below ½",
            rivals.wins[-1, 1:-1],
            0.5,
            stated="chosen",
            paper="small mixtures beat the best response to the reference",
        ),
        near(
            "by how much self-play leads every κ > 0, penalties counted, over τ KL(π‖π*)",
            rivals.penalised_lead[1:] / rivals.far[1:],
            1,
            within=1e-6,
            stated="derived",
        ),
        near(
            "regularised gap of the stationary point over 2τ KL(π‖BR_τ(π)), κ > 0",
            rivals.gap[1:] / rivals.stated_gap[1:],
            1,
            within=1e-6,
            stated="derived",
        ),
        at_most(
            "token trees: the loss's mean gradient less that of τ KL(π‖μ) − E P(y ≻ y')",
            descent.gradient_error,
            1e-12,
            stated="derived",
        ),
        at_most(
            "token trees: total variation from the stationary point after 300 steps, κ = 0, .5",
            [far[-1].max() for far in descent.sequence.values()],
            1e-3,
            stated="derived",
        ),
        at_least(
            "token trees: the same with the penalty of single tokens, largest of the games",
            [far[-1].max() for far in descent.token.values()],
            2e-3,
            stated="chosen",
        ),
        at_most(
            f"mean of {MEASURED_PAIRS} estimates of the gradient, standard errors from it",
            list(descent.standard_errors.values()),
            6,
            stated="derived",
        ),
        at_most(
            "ascent on 32 pairs a step: mean total variation from the stationary point, κ = 0, .5",
            [far[-1].mean() for far in descent.sampled.values()],
            0.03,
            stated="chosen",
        ),
        at_most(
            "Nash-EMA-PG: total variation from the equilibrium after 1500 steps, largest",
            descent.averaged,
            1e-3,
            stated="derived",
        ),
        at_most(
            "ballots: exploitability of the exact equilibria",
            [c.election.exploitability for c in contests],
            1e-9,
            stated="chosen",
        ),
        holds(
            "ballots: who wins",
            [c.is_sensible for c in contests],
            "the Condorcet winner; a mixture where there is none",
            stated="derived",
        ),
        at_most(
            "ballots: KL(π*‖π_T) of Nash-MD after 2000 steps, τ = 0.1",
            [c.distance for c in contests],
            1e-4,
            stated="chosen",
        ),
        *(criteria_of(trained) if trained else ()),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "penalty τ": tau,
            **{f"KL(π*‖π_T), T = {horizon}": value for horizon, value in c.last.items()},
            "slope": c.slope,
        }
        for tau, c in converged.items()
    ]
    table += [
        {
            "mixture κ": kappa,
            "exploitability": float(mean_exploitability[i]),
            **{f"wins against κ = {k:g}": float(rivals.wins[i, j]) for j, k in enumerate(MIXTURES)},
        }
        for i, kappa in enumerate(MIXTURES)
    ]
    table += [c.row() for c in contests]
    if trained:
        table += rows_of(trained)
    elif not run.quick:
        table.append({"policy": "transformers", "steps": f"not run: needs {' and '.join(NEEDED)}"})
    figure = draw(converged, others, rivals, descent, trained)
    shown = converged[SHOWN_TAU]
    caption = (
        "Top left: distance of the last policy from the regularised equilibrium by iteration, lower"
        " is better; Nash-MD stays below its bound and stops at the bias of its constant step."
        f" Top middle: its last distance by the length of the run, slope {shown.slope:.2f} for"
        f" τ = {SHOWN_TAU:g} where the theorem has −1. Top right: how far the stationary points of"
        " Nash-MD-PG can be exploited, by how much of the reference is in the opponent: from"
        f" {mean_exploitability[0]:.2f} in self-play to {mean_exploitability[-1]:.2f}. Bottom left:"
        " how often these points win against the two extremes; κ = 1 loses to what lies between."
        " Bottom middle and right: distance of gradient descent from its stationary point, on all"
        " sequences and on samples; with the penalty token by token it ends beside that point."
    )
    if trained:
        caption += " Last row: the same of transformers, and their regularised gaps."
    cut = (
        f"runs of {QUICK[0][-1]} steps at most rather than {FULL[0][-1]}, {QUICK[1]} token trees"
        f" rather than {FULL[1]}, no transformers"
    )
    return Reproduction(figure, table, criteria, caption=caption.replace(" -", " −"), cut=cut)


def draw(
    converged: dict[float, Convergence],
    others: dict[str, Curve],
    rivals: Rivals,
    descent: Descent,
    trained: Trained | None,
) -> Any:
    figure, axes = panels(
        3 if trained else 2,
        3,
        title=(
            "Nash-MD reaches the regularised equilibrium; the more its opponent is the reference,"
            " the more it can be exploited"
        ),
        height=4,
    )
    (iterates, horizons, mixtures), (wins, exact, sampled) = axes[:2]
    draw_iterates(iterates, converged[SHOWN_TAU], others, SHOWN_TAU)
    draw_horizons(horizons, converged)
    draw_rivals(mixtures, wins, rivals)
    draw_descent(exact, sampled, descent)
    if trained:
        draw_trained(axes[2], trained)
    return figure


def draw_rivals(mixtures: Any, wins: Any, rivals: Rivals) -> None:
    """Draw how far stationary points can be exploited, and how they fare against two others."""
    exploited = rivals.exploitability
    low, high = np.quantile(exploited, (0.1, 0.9), axis=1)
    label = f"8 in 10 of {N_RIVALS} games"
    mixtures.fill_between(MIXTURES, low, high, color=BLUE, alpha=0.2, lw=0, label=label)
    mixtures.plot(MIXTURES, exploited.mean(axis=1), "o-", color=BLUE, label="mean")
    mixtures.set(
        ylabel="exploitability (probability)",
        ylim=(0, None),
        title="stationary points of Nash-MD-PG",
    )
    wins.plot(MIXTURES, rivals.wins[:, 0], "s--", color=OLIVE, label="κ against self-play (κ = 0)")
    label = "κ against κ = 1, the reference for opponent"
    wins.plot(MIXTURES, rivals.wins[:, -1], "D-", color=WINE, label=label)
    wins.axhline(0.5, color="grey", lw=0.8)
    wins.set(
        ylabel="how often κ wins, mean of the games",
        title="the same points against each other",
    )
    # Below the curves there is room for words.
    low, high = wins.get_ylim()
    wins.set_ylim(low - 0.3 * (high - low), high)
    wins.legend(fontsize=8, loc="lower left")
    mixtures.legend(fontsize=8, loc="upper left")
    for axis in (mixtures, wins):
        axis.set_xlabel("mixture κ of the opponent (0: self, 1: reference)")
