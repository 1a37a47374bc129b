"""GPM: preferences from a fixed skew form of two embeddings, cycles included, and self-play on its scores (GPO)."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from paper_repros import _gpm_checks as checks
from paper_repros._gpm_experiments import (
    DIMS,
    MODELS,
    cycle,
    draw,
    elect,
    fit_models,
    mixture,
    play_cycle,
)
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run
from prefsim.raters import reward_embedding
from prefsim.testing import tables
from prefsim.testing.games import references
from prefsim.worlds.ballots import synthetic_ballots

PAPER = Paper(
    slug="gpm",
    title=(
        "General Preference Modeling with Preference Representations for Aligning Language Models"
    ),
    arxiv="2410.02197",
    year=2024,
    family="nash",
    summary=(
        "Each response gets a vector, and a fixed skew form of two vectors is the log-odds of the"
        " preference: antisymmetric by construction, it holds every preference matrix, cycles"
        " included. GPO is multiplicative weights on these scores."
    ),
    implements=(
        "prefsim.raters.skew_score",
        "prefsim.raters.score_matrix",
        "prefsim.raters.embedding_preference",
        "prefsim.raters.prompt_scales",
        "prefsim.raters.learned_temperature",
        "prefsim.solvers.decompose_skew",
        "prefsim.solvers.fit_preference_embedding",
        "prefsim.solvers.gpo_update",
    ),
)


def _scores(low: int = 2, high: int = 8, limit: float = 4.0) -> st.SearchStrategy[np.ndarray]:
    return (
        st.integers(low, high)
        .flatmap(lambda n: tables((n, n), low=-limit, high=limit))
        .map(checks.skew)
    )


def _embeddings(planes: int = 3) -> st.SearchStrategy[np.ndarray]:
    shape = st.tuples(st.integers(1, 6), st.integers(1, planes)).map(
        lambda pair: (pair[0], 2 * pair[1])
    )
    return shape.flatmap(lambda shape: tables(shape, low=-3.0, high=3.0))


def _steps(
    scores: st.SearchStrategy[np.ndarray],
    *,
    beta: tuple[float, float] = (0.2, 10.0),
    steps: tuple[int, int] = (1, 1),
    exact: bool = True,
    offset: float = 0.0,
) -> st.SearchStrategy[checks.Step]:
    def build(table: np.ndarray) -> st.SearchStrategy[checks.Step]:
        fixed = st.just(exact), st.just(offset)
        return st.builds(
            checks.Step,
            st.just(table),
            references(len(table)),
            st.floats(*beta),
            st.integers(*steps),
            *fixed,
        )

    return scores.flatmap(build)


_TURNS = st.tuples(st.floats(0.0, 6.3), st.floats(0.0, 6.3))
_LEVELS = tables((3,), low=0.8, high=4.0)

CLAIMS = (
    Claim(
        "C1",
        "identity",
        "Every skew matrix S of scores is reached exactly with rank(S) <= 2⌊n/2⌋ numbers a"
        " response",
        "expressiveness theorem; dimension derived",
        st.tuples(_scores(1), st.just(0)),
        checks.check_representation,
        1e-12,
        breaks=st.tuples(_scores(4), st.just(2)),
    ),
    Claim(
        "C2",
        "identity",
        "s(i ≻ j) = −s(j ≻ i), s(i ≻ i) = 0 and P + Pᵀ = 1, whatever the vectors and scales are",
        "definition of the score",
        st.builds(checks.Classifier, _embeddings(), st.floats(0.0, 2.0), st.just(0.0)),
        checks.check_antisymmetry,
        1e-14,
        breaks=st.builds(
            checks.Classifier, _embeddings(), st.floats(0.0, 2.0), st.floats(0.1, 1.0)
        ),
    ),
    Claim(
        "C3",
        "identity",
        "Vectors (r, 1) are the Bradley–Terry model of the rewards r, to the last bit",
        "Bradley–Terry as a special case",
        tables((5,), low=-5.0, high=5.0).map(reward_embedding),
        checks.check_rewards,
        0.0,
        breaks=tables((5, 2), low=-5.0, high=5.0),
    ),
    Claim(
        "C4",
        "counterexample",
        "On a cycle of certain labels every Bradley–Terry fit has all rewards equal and a loss of"
        " log 2, and no order ranks more than (n − 1)/n right; two numbers a response rank all"
        " right with a loss as near to 0 as one likes",
        "cyclic preferences",
        st.builds(np.full, st.integers(3, 5), st.floats(0.1, 10.0)),
        checks.check_cycle,
        1e-9,
        breaks=tables((3,), low=0.1, high=10.0),
        examples=12,
    ),
    Claim(
        "C5",
        "identity",
        "Responses on the unit circle have the scores sin(θ_j − θ_i)",
        "derived",
        st.tuples(tables((6,), low=0.0, high=6.3), st.just(1.0)),
        checks.check_circle,
        1e-15,
        breaks=st.tuples(tables((6,), low=0.0, high=6.3), st.floats(1.1, 2.0)),
    ),
    Claim(
        "C6",
        "invariance",
        "One change of basis of determinant 1 within each pair of coordinates, the same for all"
        " responses, leaves the scores unchanged",
        "derived",
        st.builds(checks.Basis, _embeddings(), _TURNS, st.floats(-1.0, 1.0), st.just(1.0)),
        checks.check_basis,
        1e-13,
        breaks=st.builds(
            checks.Basis, _embeddings(), _TURNS, st.floats(-1.0, 1.0), st.floats(1.5, 3.0)
        ),
    ),
    Claim(
        "C7",
        "counterexample",
        "A cycle of three with unequal scores (a, b, c) has the equilibrium (b, c, a)/(a+b+c) in"
        " the scores, and another one in the probabilities, with a replaced by σ(a) − ½ and so on",
        "derived",
        _LEVELS.filter(lambda levels: levels.max() > 1.5 * levels.min()),
        checks.check_equilibria,
        1e-9,
        breaks=st.floats(0.8, 4.0).map(lambda level: np.full(3, level)),
    ),
    Claim(
        "C8",
        "monotone",
        "An exact step of GPO is not worse than the policy that it starts from: s(π_{t+1} ≻ π_t) >="
        " 0 (two and more steps may be)",
        "derived",
        _steps(_scores()),
        checks.check_improvement,
        1e-12,
        breaks=_steps(_scores(3), steps=(2, 15)),
    ),
    Claim(
        "C9",
        "minimiser",
        "GPO's regression of log π/π_t on (s(y ≻ π_t) − β log Z)/β is SPPO's loss on the game ½ +"
        " S/2M; its minimum over policies is 0, at the exact step, as is that of the regression on"
        " differences in pairs, which needs no log Z; with log Z → 0 the first is biased",
        "the GPO loss",
        _steps(_scores(2, 5, 2.0), beta=(0.3, 5.0)),
        checks.check_regression,
        1e-9,
        breaks=_steps(_scores(2, 5, 2.0), beta=(0.3, 1.0), exact=False),
        examples=15,
    ),
    Claim(
        "C10",
        "inequality",
        "0 <= log Z <= (range of s(y ≻ π_t))²/(8β²), because the mean of s(y ≻ π_t) under π_t is 0",
        "log Z → 0; bound by Hoeffding's lemma",
        _steps(_scores()),
        checks.check_partition,
        1e-12,
        breaks=_steps(_scores(), offset=-1.0),
    ),
    Claim(
        "C11",
        "minimiser",
        "The decomposition cut to 2k numbers is the best embedding of that size: it leaves out a"
        " Frobenius norm of √(2 Σ_{l>k} λ_l²)",
        "Eckart and Young",
        st.builds(
            checks.Rival,
            _scores(2),
            st.integers(1, 3),
            st.just(0),
            st.integers(0, 999),
            st.floats(0.0, 1.0),
        ),
        checks.check_truncation,
        1e-11,
        breaks=st.builds(
            checks.Rival,
            _scores(6),
            st.just(1),
            st.integers(1, 2),
            st.integers(0, 999),
            st.just(0.0),
        ),
    ),
    Claim(
        "C12",
        "inequality",
        "The penalised likelihood is convex in the scores, with half their nuclear norm as the"
        " penalty: its dual bounds what embeddings of any dimension reach",
        "derived",
        st.builds(
            checks.Bound, _embeddings(), st.integers(0, 999), st.floats(0.0, 3.0), st.just(1.0)
        ),
        checks.check_bound,
        1e-10,
        breaks=st.builds(
            checks.Bound,
            _embeddings().map(lambda v: 0.1 * v),
            st.integers(0, 999),
            st.floats(0.1, 1.0),
            st.floats(3.0, 10.0),
        ),
    ),
)


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    groups = [(f"cycle of {n}", cycle(n)[None]) for n in (3, 4, 5)]
    groups.append(
        ("mixtures,\n20 items", np.stack([mixture(rng) for _ in range(2 if run.quick else 12)]))
    )
    fits = [
        fit_models(name, wins, 2 if run.quick else 6)
        for name, wins in run.progress(groups, "groups of labels")
    ]
    play = play_cycle(2000, 0.1, run.seed)
    files = [
        synthetic_ballots(),
        *(sorted((run.data / "preflib").glob("*.so[ci]")) if run.data else ()),
    ]
    elections = [elect(path) for path in files]

    pure = fits[:3]
    coin = max(float(np.max(np.abs(f.probability[0] - 0.5))) for f in pure)
    excess = max(float(np.max(f.accuracy[0] - f.order)) for f in fits)
    least = min(float(f.accuracy[1 + DIMS.index(4) :].min()) for f in fits)
    residual = max(election.residual for election in elections)
    criteria = (
        Criterion(
            "GPM with 4 numbers or more",
            "accuracy at least 0.99 on every instance",
            least,
            least >= 0.99,
        ),
        Criterion(
            "Bradley–Terry cannot beat an order",
            "accuracy at most that of the best strict order (2/3 on a cycle of 3)",
            ", ".join(f"{f.accuracy[0].max():.3f} of {f.order.max():.3f}" for f in fits),
            excess <= 1e-12 and abs(pure[0].order[0] - 2 / 3) <= 1e-12,
        ),
        Criterion(
            "Bradley–Terry on pure cycles",
            "probability ½ within 1e-6: a random guess",
            f"off by {coin:.2e}",
            coin <= 1e-6,
        ),
        Criterion(
            "GPO on the cycle",
            "e(average) at most 0.02 after 2000 steps of 0.1",
            float(play.average[-1]),
            play.average[-1] <= 0.02,
        ),
        Criterion(
            "one arm by a reward",
            "e = σ(2) − ½ = 0.3807971; the policy trained on the reward goes there (above 0.2 by"
            " now)",
            f"{play.best_arm:.7f}, trained {play.rewarded[-1]:.7f}",
            abs(play.best_arm - 0.3807971) <= 1e-7 and play.rewarded[-1] >= 0.2,
        ),
        Criterion("ballots", "log-odds reached exactly, to 1e-12", residual, residual <= 1e-12),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "labels": f.group.replace("\n", " "),
            "instances": f.order.size,
            "best strict order": float(f.order.mean()),
            "model": name,
            "accuracy, least": float(f.accuracy[m].min()),
            "accuracy, mean": float(f.accuracy[m].mean()),
            "loss of a label, nats": float(f.loss[m].mean()),
        }
        for f in fits
        for m, name in enumerate(MODELS)
    ]
    table += [
        {
            "labels": f.group.replace("\n", " "),
            "model": MODELS[-1],
            "distance from the global minimum, nats a label, at most": f.gap,
        }
        for f in fits
    ]
    table += [election.row() for election in elections]
    return Reproduction(draw(fits, play), table, criteria)
