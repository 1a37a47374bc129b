"""INPO: mirror descent on a preference game by a pairwise loss, from labels alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros._inpo_checks import (
    Regret,
    Schedule,
    Spiral,
    amplified,
    check_constant,
    check_contraction,
    check_minimiser,
    check_regret,
    check_same_step,
    check_schedule,
    check_spans,
    check_spiral,
    from_reference,
    plays,
)
from paper_repros._inpo_experiments import (
    GOLDEN,
    REFERENCE,
    SEEDS,
    SIZES,
    average_rate,
    draw_figure,
    exact_gaps,
    last_iterate_rate,
    sampled_gaps,
    slope,
)
from paper_repros._nash_md_experiments import random_games
from prefsim.numerics import softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run
from prefsim.testing.games import cyclic_games, references

PAPER = Paper(
    slug="inpo",
    title=(
        "Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret"
        " Learning"
    ),
    arxiv="2407.00617",
    year=2024,
    family="nash",
    summary=(
        "Mirror descent on the game of a preference model with a KL penalty. Its step needs win"
        " rates against the current policy, but the minimiser of a square loss on labelled pairs"
        " drawn from that policy is the very same step."
    ),
    implements=(
        "prefsim.losses.nash.inpo",
        "prefsim.solvers.games.updates.mirror_descent_update",
        "prefsim.data.drawn.labelled_pairs",
    ),
)

_SHIFT = st.tuples(*[st.floats(0.05, 0.2)] * 2, st.just(0.0))

CLAIMS = (
    Claim(
        "C1",
        "minimiser",
        "The gradient of the binary loss on pairs drawn from π_t vanishes at the mirror step π ∝"
        " exp(P(y ≻ π_t)/η) μ^(τ/η) π_t^(1−τ/η)",
        "loss and mirror step; label form",
        plays(),
        check_minimiser,
        1e-12,
        breaks=plays(sampler=references),
    ),
    Claim(
        "C2",
        "identity",
        "The binary loss less the soft one is E[1/(4η²) − ((P − ½)/η)²], whatever the policy (error"
        " relative to the loss)",
        "equivalence of the losses; constant derived",
        plays(),
        check_constant,
        1e-12,
        breaks=plays(majority=True),
    ),
    Claim(
        "C3",
        "equivalence",
        "The step is that of mirror descent with step 1/η, a gradient step lr = nτ/(4η) of online"
        " IPO on uniform pairs, and magnetic mirror descent with step 1/(η − τ)",
        "mirror step; equivalences derived",
        plays(),
        check_same_step,
        1e-12,
        breaks=plays(sampler=references),
    ),
    Claim(
        "C4",
        "inequality",
        "From the reference on, log π_t/μ has span <= 1/τ and the gradient span <= 2: the paper's"
        " boundedness assumption holds by itself",
        "assumption of the theorems; derived",
        plays(high=1.0).map(from_reference),
        check_spans,
        1e-12,
        breaks=plays(tau=(1.0, 3.0)),
    ),
    Claim(
        "C5",
        "inequality",
        "KL(π*‖π₊) <= (1 − τ/η) KL(π*‖π) + min(s²/8, ½)/η², with s the span of the gradient",
        "one step of the last-iterate theorem; constants derived",
        plays(high=1.0).map(from_reference),
        check_contraction,
        1e-12,
        breaks=plays(low=0.1).map(from_reference).map(amplified),
    ),
    Claim(
        "C6",
        "rate",
        "With η_t = τ(t + 2)/2 the last iterate has KL(π*‖π_t) <= 2/(τ²(t + 1)); the fitted slope"
        " in t is at most −1",
        "last-iterate theorem; constant derived",
        st.builds(
            Schedule,
            st.integers(0, 999),
            st.sampled_from([0.03, 0.1, 0.3, 1.0]),
            st.just(400),
            st.none(),
        ),
        check_schedule,
        1e-9,
        breaks=st.builds(
            Schedule, st.integers(0, 999), st.just(0.1), st.just(400), st.floats(5.0, 10.0)
        ),
        examples=6,
    ),
    Claim(
        "C7",
        "rate",
        "Regret against any π is at most η KL(π‖π₁) + T/(2η); the average policy's gap is at most"
        " twice the mean regret, so O(1/√T)",
        "regret theorem; constants derived",
        st.builds(Regret, plays(high=1.0).map(from_reference), st.integers(1, 100)),
        check_regret,
        1e-10,
        breaks=st.builds(Regret, plays(tau=(2.0, 5.0), low=0.001, high=0.1), st.integers(1, 3)),
    ),
    Claim(
        "C8",
        "counterexample",
        "Without the penalty, on a cyclic game, no step brings the iterate closer to the"
        " equilibrium, and the last one leaves it",
        "role of the reference; golden game",
        st.builds(
            Spiral,
            cyclic_games(3, least=0.2).map(lambda game: game.preference),
            st.just(0.0),
            _SHIFT,
        ),
        check_spiral,
        1e-12,
        breaks=st.builds(
            Spiral,
            cyclic_games(3, least=0.2).map(lambda game: game.preference),
            st.floats(0.1, 0.5),
            _SHIFT,
        ),
        examples=10,
    ),
)

PLAY: dict[str, Any] = {"tau": 0.1, "step": 0.5, "iterations": 1000}
LARGEST_STEP = 1.2 * 0.4 / 1.04
SHOWN = (10, 100, 1000)
FOUND = {"INPO": ("7.8e-3", "1.6e-6", "below 1e-15"), "no penalty": ("7.8e-3", "2.2e-2", "2.2e-1")}


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    games, references_drawn = random_games(20, rng), softmax(rng.standard_normal((20, 10)))
    golden = {
        name: exact_gaps(GOLDEN, REFERENCE, penalised=on, **PLAY)
        for name, on in (("INPO", True), ("no penalty", False))
    }
    random = {
        name: exact_gaps(games, references_drawn, penalised=on, **PLAY)
        for name, on in (("INPO", True), ("no penalty", False))
    }
    within = exact_gaps(games, references_drawn, penalised=True, **(PLAY | {"step": LARGEST_STEP}))
    last = last_iterate_rate(
        games, references_drawn, tau=0.1, iterations=1000 if run.quick else 5000
    )
    average = average_rate(
        games,
        references_drawn,
        tau=0.1,
        horizons=(100, 300, 1000) if run.quick else (100, 300, 1000, 3000, 10_000),
    )
    settings: dict[str, Any] = {"tau": 0.1, "eta": 2.0, "rounds": 100, "progress": run.progress}
    sampled = {"golden game": sampled_gaps(GOLDEN, REFERENCE, seed=run.seed, **settings)}
    if not run.quick:
        sampled["a random game of 10 responses"] = sampled_gaps(
            games[0], references_drawn[0], seed=run.seed, **settings
        )
    means = {name: gaps.mean(axis=1) for name, gaps in sampled.items()}

    found = {name: [float(curve.at(t)) for t in SHOWN] for name, curve in golden.items()}
    criteria = (
        Criterion(
            "INPO on the golden game",
            "gap " + ", ".join(FOUND["INPO"]) + f" at t = {SHOWN}; at most 1e-10 at the end",
            ", ".join(f"{gap:.1e}" for gap in found["INPO"]),
            found["INPO"][-1] <= 1e-10
            and bool(np.allclose(found["INPO"][:2], [7.8e-3, 1.6e-6], rtol=0.05)),
        ),
        Criterion(
            "no penalty on the golden game",
            "gap " + ", ".join(FOUND["no penalty"]) + f" at t = {SHOWN}; above 1e-2 at the end",
            ", ".join(f"{gap:.1e}" for gap in found["no penalty"]),
            found["no penalty"][-1] > 1e-2
            and bool(np.allclose(found["no penalty"], [7.8e-3, 2.2e-2, 2.2e-1], rtol=0.05)),
        ),
        Criterion(
            f"INPO on 20 random games, step {LARGEST_STEP:.3f}",
            "worst gap at most 1e-10 at t = 1000 with a step of at most 1.2 · 4τ/(1 + 4τ²)",
            f"worst {within.gap[-1].max():.1e}; with step 0.5 {random['INPO'].gap[-1].max():.1e}; "
            f"no penalty, median {np.median(random['no penalty'].gap[-1]):.2g}",
            bool(within.gap[-1].max() <= 1e-10),
        ),
        Criterion(
            "last-iterate theorem",
            "KL(π*‖π_t) <= 2/(τ²(t + 1)), slope at most −1",
            f"{last.share:.1e} of the bound, slope {last.slope:.2f}",
            last.share <= 1 and last.slope <= -1,
        ),
        Criterion(
            "regret theorem",
            "gap of the average at most 2√(2 log(1/μ_min)/T), slope at most −½",
            f"{average.share:.1e} of the bound, slope {average.slope:.2f}",
            average.share <= 1 and average.slope <= -0.5,
        ),
        *(
            Criterion(
                f"sampled play, {name}",
                f"mean gap of {SEEDS} seeds decreases with the number of pairs {SIZES}",
                ", ".join(f"{mean:.2e}" for mean in mean_gaps)
                + f"; slope {slope(SIZES, mean_gaps):.2f}",
                bool(np.all(np.diff(mean_gaps) < 0)),
            )
            for name, mean_gaps in means.items()
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "golden game": name,
            **{f"gap at t = {t}": gap for t, gap in zip(SHOWN, gaps, strict=True)},
        }
        for name, gaps in found.items()
    ]
    table += [
        {
            "sampled play": name,
            "pairs per round": size,
            "mean gap": float(gaps.mean()),
            "largest gap": float(gaps.max()),
        }
        for name, by_size in sampled.items()
        for size, gaps in zip(SIZES, by_size, strict=True)
    ]
    return Reproduction(draw_figure(golden, random, last, average, sampled), table, criteria)
