"""People compare pieces of behaviour by regret rather than by the reward they saw: what follows for learning rewards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros import _regret_checks as checks
from paper_repros import _regret_experiments as experiments
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run
from prefsim.solvers.likelihood.rationality import cross_validated_loss
from prefsim.testing.segments import segment_processes
from prefsim.worlds.delivery import delivery_task

PAPER = Paper(
    slug="regret_preference",
    title="Models of human preference for learning reward functions",
    arxiv="2206.02231",
    year=2022,
    family="mdp",
    summary=(
        "People who compare two trajectory segments judge how far each falls short of optimal"
        " behaviour, not only what it collects. Modelled so, their preferences identify the reward"
        " up to its optimal policies and teach better policies from few labels."
    ),
    implements=(
        "prefsim.raters.regret.segment_regret",
        "prefsim.raters.regret.regret_preference",
        "prefsim.losses.segments.regret",
        "prefsim.solvers.likelihood.reward_learning.fit_regret_reward",
        "prefsim.solvers.likelihood.reward_learning.fit_regret_reward_library",
        "prefsim.solvers.likelihood.reward_learning.fit_partial_return_reward",
        "prefsim.worlds.delivery.delivery_task",
        "prefsim.data.delivery.read_delivery",
    ),
)


CLAIMS = (
    Claim(
        "telescoping",
        "identity",
        "The discounted sum of V* − Q* along a segment is V*(start) − discounted rewards − γ^T"
        " V*(end).",
        "section 3, deterministic and general regret",
        segment_processes(deterministic=True),
        checks.check_telescoping,
        1e-12,
        breaks=segment_processes(deterministic=False, min_states=2, min_actions=2),
    ),
    Claim(
        "telescoping_in_the_mean",
        "identity",
        "Where moves are random the regret by start and end is a random number whose mean is that"
        " of the general regret.",
        "section 3",
        segment_processes(),
        checks.check_telescoping_in_the_mean,
        1e-12,
    ),
    Claim(
        "shaping",
        "invariance",
        "Potential-based shaping leaves optimal advantages and regret preferences as they are.",
        "section 3; Ng, Harada and Russell 1999",
        checks.shaped(),
        checks.check_shaping,
        1e-10,
        breaks=checks.shaped(ended_at=1.5),
    ),
    Claim(
        "shaping_changes_returns",
        "identity",
        "Shaping changes a partial return by γ^T Φ(end) − Φ(start), hence the preferences of the"
        " partial-return model.",
        "section 3",
        st.builds(checks.Telescoped, checks.certain_shaped(), st.just(True)),
        checks.check_shaping_changes_returns,
        1e-12,
        breaks=st.builds(checks.Telescoped, checks.certain_shaped(), st.just(False)),
    ),
    Claim(
        "shift",
        "invariance",
        "A constant added to every reward changes no preference of either model, if nothing ends"
        " and segments have one length.",
        "section 3",
        st.builds(
            checks.Shifted, segment_processes(terminal=False, max_actions=2), st.floats(-3, 3)
        ),
        checks.check_shift,
        1e-10,
        breaks=st.builds(
            checks.Shifted,
            segment_processes(terminal=True, min_actions=2, max_actions=2),
            st.floats(-3, 3),
        ),
    ),
    Claim(
        "shift_flips_the_optimum",
        "counterexample",
        "With terminal states a constant can flip the optimal policy while every partial-return"
        " label stays: a short costly way out against two cheaper steps.",
        "section 3.2, after theorem 3.2",
        st.just((0.0, -1.0)),
        checks.check_flip,
        1e-12,
        breaks=st.just((0.0, -0.1)),
        examples=1,
    ),
    Claim(
        "identifiable",
        "consistency",
        "An action is optimal exactly if no single step is preferred to it by regret, with or"
        " without noise: the preferences determine all optimal policies.",
        "theorem 3.1 (label from memory)",
        checks.compared(),
        checks.check_identifiable,
        0.0,
        breaks=checks.compared(dropped=True),
    ),
    Claim(
        "partial_return_blind_to_risk",
        "counterexample",
        "Noiseless partial-return labels are the same for a gamble that pays on average and one"
        " that does not.",
        "theorem 3.2 (label from memory)",
        st.just(checks.Gamble((-10.0, -0.5), noise=False)),
        checks.check_gamble,
        0.0,
        breaks=st.just(checks.Gamble((-10.0, -0.5), noise=True)),
        examples=1,
    ),
    Claim(
        "nonnegative",
        "inequality",
        "Regret is >= 0, and 0 exactly if every action of the segment is optimal.",
        "section 3",
        st.builds(checks.Judged, segment_processes(), st.just(True)),
        checks.check_nonnegative,
        1e-12,
        breaks=st.builds(checks.Judged, segment_processes(min_actions=2), st.just(False)),
    ),
    Claim(
        "better_fit",
        "statistical",
        "Held-out labels are predicted better by regret than by partial return, and by both better"
        " than by chance.",
        "section 5, descriptive results",
        st.just("people"),
        checks.check_better_fit,
        0.0,
        breaks=st.just("partial return"),
        examples=1,
    ),
    Claim(
        "better_policy",
        "statistical",
        "From 89 labels, reward learned by regret is more often near-optimal (scaled return above"
        " 0.9) than by partial return.",
        "section 6, rewards learned from human preferences",
        st.just(checks.Learned(None)),
        checks.check_better_policy,
        0.0,
        breaks=st.builds(checks.Learned, st.sampled_from((8, 40, 0))),
        examples=1,
    ),
)


# --- reproduction
# ------------------------------------------------------------------------------------------------------------------------

PAPER_LOSSES = {
    "Privileged-Control": (0.6202, 0.5732),
    "Trained-Control": (0.5268, 0.4368),
    "Question-Control": (0.5307, 0.4839),
}

Row = dict[str, str | float | int]


def _row(part: str, model: str, labels: int, measure: str, value: float) -> Row:
    return {"part": part, "model": model, "labels": labels, "measure": measure, "value": value}


def _share_rows(part: str, curve: experiments.Curve) -> list[Row]:
    return [
        _row(part, model, size, "share near-optimal", experiments.share_near_optimal(returns))
        for size, found in curve.items()
        for model, returns in found.items()
    ]


def _percent(found: dict[str, np.ndarray]) -> str:
    return ", ".join(
        f"{model} {experiments.share_near_optimal(returns):.0%}" for model, returns in found.items()
    )


def _people(run: Run, table: list[Row], criteria: list[Criterion]) -> dict[str, Any]:
    """Reproduce the parts on human labels; empty where there are none."""
    human = experiments.human(run.data)
    if human is None:
        return {}
    n = len(human.segments)
    by_return, by_regret = experiments.margins(delivery_task(), human.segments)
    total, start, end = human.statistics.T  # second minus first
    gap = float(max(np.abs(by_return + total).max(), np.abs(by_regret + total + end - start).max()))
    criteria.append(
        Criterion(
            f"{n:,} human comparisons replayed on the board",
            "recorded returns and values",
            f"gap {gap:g}",
            gap < 1e-9,
        )
    )
    losses = {}
    for condition, told in PAPER_LOSSES.items():
        if (found := experiments.human(run.data, condition)) is None:
            continue
        margins = experiments.margins(delivery_task(), found.segments)
        first, second = losses[condition] = tuple(
            cross_validated_loss(margin, found.segments.prob) for margin in margins
        )
        close = (
            abs(first - told[0]) <= 0.002
            and abs(second - told[1]) <= 0.002
            and second < first < math.log(2)
        )
        texts = [f"partial return {a:.4f}, regret {b:.4f}" for a, b in (told, (first, second))]
        criteria.append(
            Criterion(f"held-out cross-entropy, {condition} (± 0.002)", texts[0], texts[1], close)
        )
        for model, value in zip(experiments.MODELS, (first, second), strict=True):
            table.append(
                _row(
                    f"people, {condition}",
                    model,
                    len(found.segments),
                    "held-out cross-entropy",
                    value,
                )
            )
    curve = experiments.human_curve(run, human.segments)
    table += _share_rows("people", curve)
    best = {model: float(returns[0]) for model, returns in curve[n].items()}
    name, stated = (
        f"scaled return of what all {n:,} human labels teach",
        "regret 0.997 (> 0.98), partial return 0.929",
    )
    text = ", ".join(f"{model} {value:.3f}" for model, value in best.items())
    criteria.append(
        Criterion(name, stated, text, best["regret"] > max(0.98, best["partial return"]))
    )
    few = curve[n // 20]
    shares = {model: experiments.share_near_optimal(returns) for model, returns in few.items()}
    passed = shares["regret"] > max(shares["partial return"], shares[experiments.EARLY])
    criteria.append(
        Criterion(
            f"near-optimal policies from {n // 20} human labels",
            "regret 80 %, partial return 50 %",
            _percent(few),
            passed,
        )
    )
    return {"losses": losses, "curve": curve}


def reproduce(run: Run) -> Reproduction:
    table: list[Row] = []
    criteria: list[Criterion] = []
    people = _people(run, table, criteria)
    boards = experiments.simulated(run)
    simulated = {
        source: {size: found.returns for size, found in sizes.items()}
        for source, sizes in boards.items()
    }
    for source, curve in simulated.items():
        table += _share_rows(f"simulated rater by {source}", curve)
    text = "; ".join(f"{size}: {_percent(found)}" for size, found in simulated["regret"].items())
    share = experiments.share_near_optimal
    leads = [
        share(found["regret"]) - share(found["partial return"])
        for found in simulated["regret"].values()
    ]
    criteria.append(
        Criterion(
            "labels by regret: the regret model leads at every size",
            "regret curve dominates",
            text,
            min(leads) >= 0,
        )
    )
    most = {source: sizes[max(sizes)].losses for source, sizes in boards.items()}
    text = "; ".join(
        f"by {source}: " + ", ".join(f"{m} {x:.3f}" for m, x in found.items())
        for source, found in most.items()
    )
    passed = all(
        min(found, key=lambda model: found[model]) == source for source, found in most.items()
    )
    criteria.append(
        Criterion(
            "labels of either kind are fitted best by their own model (nats)",
            "both kinds are shown",
            text,
            passed,
        )
    )
    toys = experiments.gymnasium_curves(run)
    for name, sizes in toys.items():
        table += [
            _row(name, model, size, "return", values[model])
            for size, values in sizes.items()
            for model in experiments.MODELS
        ]
        last = sizes[max(sizes)]
        text = f"regret {last['regret']:.6f}, partial return {last['partial return']:.6f}"
        passed = abs(last["regret"] - last["optimum"]) <= 1e-6 * abs(last["optimum"])
        stated = f"exact optimum {last['optimum']:.6f}"
        criteria.append(
            Criterion(
                f"{name}: return after {max(sizes)} recorded comparisons", stated, text, passed
            )
        )
    return Reproduction(
        experiments.draw(people, simulated, toys, PAPER_LOSSES), table, tuple(criteria)
    )
