"""EGPO: the extragradient method on a regularised preference game, each half step a gradient step of a square loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros._egpo_checks import (
    GOLDEN,
    REFERENCE,
    Cycle,
    Noise,
    check_bias,
    check_contraction,
    check_cycle,
    check_equilibrium,
    check_gradient_steps,
    check_noise,
    check_same_field,
    drawn_games,
    plays,
    sampled_distances,
    unstable,
)
from paper_repros._egpo_experiments import ALGORITHMS, SETTINGS, Curve, draw_figure, play
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run
from prefsim.testing.games import cyclic_games

PAPER = Paper(
    slug="egpo",
    title=(
        "Extragradient Preference Optimization (EGPO): Beyond Last-Iterate Convergence for Nash"
        " Learning from Human Feedback"
    ),
    arxiv="2503.08942",
    year=2025,
    family="nash",
    summary=(
        "The regularised preference game is strongly monotone, so that the extragradient method"
        " converges linearly in its last iterate where plain gradient play may cycle. Each half"
        " step is one gradient step of an online IPO loss: no inner problem has to be solved."
    ),
    implements=(
        "prefsim.solvers.games.updates.egpo_update",
        "prefsim.losses.nash.online_ipo",
        "prefsim.data.drawn.judged_triples",
        "prefsim.loops.rounds.play_rounds",
    ),
)

CLAIMS = (
    Claim(
        "C1",
        "inequality",
        "KL(π*‖π_{t+1}) <= (1 − ηβ) KL(π*‖π_t) for η <= min(1/(2β + 1), ½), from any start",
        "linear convergence; one step",
        plays(),
        check_contraction,
        1e-12,
        breaks=plays(cyclic_games(least=0.3), beta=(0.005, 0.02), variant="mirror_descent"),
    ),
    Claim(
        "C2",
        "identity",
        "With uniform pairs the gradient of online IPO is (4/n)(q − mean q), q = log(π/μ) − Pπ'/β,"
        " and two gradient steps of size nβη/4, the second from π_t against the first, are one step"
        " of EGPO",
        "gradient form of the update",
        plays(),
        check_gradient_steps,
        1e-12,
        breaks=plays(variant="sampler"),
    ),
    Claim(
        "C3",
        "identity",
        "At π*_β online IPO against the policy itself is zero, with its gradient, whatever"
        " full-support sampler draws pairs; with pairs that play against each other the gradient is"
        " zero, too, but not the value",
        "fixed point of the losses",
        plays(beta=(0.1, 2.0)),
        check_equilibrium,
        1e-12,
        breaks=plays(variant="elsewhere"),
    ),
    Claim(
        "C4",
        "identity",
        "The gradient of online IPO with pairs from the policy, each response the opponent of the"
        " other, is −4/β times the policy gradient of self-play",
        "derived",
        plays(),
        check_same_field,
        1e-12,
        breaks=plays(variant="sampler"),
    ),
    Claim(
        "C5",
        "inequality",
        "The duality gap of the game without penalty is at most that with it plus 2β(log 1/μ_min −"
        " KL(π‖μ)): β = ε/(4 log 1/μ_min) and a gap of ε/2 give ε",
        "reduction to the original game",
        plays(),
        check_bias,
        1e-12,
        breaks=plays(variant="uniform", spread=4.0),
    ),
    Claim(
        "C6",
        "counterexample",
        "With β = 0.01 and the authors' step η = 0.8, mirror descent (online IPO 1) has a gap above"
        " 1e-2 after 5000 steps on one of ten random games, EGPO at most 1e-12 on all",
        "simulation of the authors",
        st.builds(Cycle, st.integers(0, 20), st.just(0.8)),
        check_cycle,
        0.0,
        breaks=st.builds(Cycle, st.integers(0, 20), st.just(0.1)),
        examples=2,
    ),
    Claim(
        "C7",
        "rate",
        "With gradients from m sampled triples the last iterate settles at a distance KL(π*‖π_t) of"
        " order 1/m: the fitted slope is −1",
        "noise theorem; constants unknown",
        st.builds(Noise, st.integers(0, 99), st.just((16, 64, 256)), st.just(0.0)),
        check_noise,
        0.0,
        breaks=st.builds(Noise, st.integers(0, 99), st.just((16, 64, 256)), st.just(0.1)),
        examples=1,
    ),
)

SEEDS = 20
TRIPLES = (50, 200, 800)


def reproduce(run: Run) -> Reproduction:
    games, reference = drawn_games(run.seed)
    settings = SETTINGS[:2] if run.quick else SETTINGS
    curves: dict[float, dict[str, Curve]] = {}
    for setting in run.progress(settings, "penalties"):
        curves[setting.beta] = {name: play(name, games, reference, setting) for name in ALGORITHMS}
    options: dict[str, Any] = {
        "beta": 0.1,
        "step": 0.4,
        "rounds": 120 if run.quick else 400,
        "seeds": SEEDS,
        "seed": run.seed,
    }
    game = (GOLDEN, REFERENCE) if run.quick else (games[0], reference[0])
    sampled = {
        m: sampled_distances(*game, triples=m, **options)
        for m in run.progress(TRIPLES, "sampled play")
    }
    # Once the start is forgotten.
    late = np.array([distance[2 * len(distance) // 3 :].mean() for distance in sampled.values()])
    slope = float(np.polyfit(np.log(TRIPLES), np.log(late), 1)[0])

    ends = {
        beta: {name: curve.gap[-1] for name, curve in by_name.items()}
        for beta, by_name in curves.items()
    }
    criteria = [
        Criterion(
            f"EGPO, β = {setting.beta:g}",
            f"worst game at most {1e-6 if setting.beta < 0.01 else 1e-12:.0e}; found before"
            f" {setting.found['EGPO']}",
            curves[setting.beta]["EGPO"].text(),
            bool(ends[setting.beta]["EGPO"].max() <= (1e-6 if setting.beta < 0.01 else 1e-12)),
        )
        for setting in settings
    ]
    stuck = {name: float(gap.max()) for name, gap in ends[0.01].items() if name != "EGPO"}
    failed, turning = (
        ends[0.01]["online IPO 1"] > 1e-2,
        unstable(games, reference, beta=0.01, step=0.8),
    )
    criteria += [
        Criterion(
            "the other algorithms, β = 0.01",
            "worst game of each above 1e-2",
            ", ".join(f"{name} {gap:.2g}" for name, gap in stuck.items()),
            min(stuck.values()) > 1e-2,
        ),
        Criterion(
            "where mirror descent fails",
            "above 1e-2 on all games with η > 2β/(β² + ω²), where the equilibrium is unstable; β ="
            " 0.01, η = 0.8",
            f"{failed.sum()} of 10 games above 1e-2, {(failed & turning).sum()} of them unstable,"
            f" {turning.sum()} unstable in all",
            bool(turning.any() and failed[turning].all()),
        ),
        Criterion(
            f"EGPO from sampled triples, {SEEDS} seeds",
            "settles at a distance of the order of the gradient's variance: slope in the number of"
            " triples within −1 ± 0.25",
            f"{', '.join(f'{d:.1e} nats with {m}' for m, d in zip(TRIPLES, late, strict=True))};"
            f" slope {slope:.2f}",
            abs(slope + 1) <= 0.25,
        ),
    ]
    table: list[dict[str, str | float | int]] = [
        {
            "algorithm": name,
            **{
                f"gap, median [largest], β = {s.beta:g}": curves[s.beta][name].text()
                for s in settings
            },
            **{f"found before, β = {s.beta:g}": s.found[name] for s in settings},
        }
        for name in ALGORITHMS
    ]
    table += [
        {"triples a gradient": m, "mean distance (nats)": float(distance), "seeds": SEEDS}
        for m, distance in zip(TRIPLES, late, strict=True)
    ]
    return Reproduction(draw_figure(curves, sampled, slope), table, tuple(criteria))
