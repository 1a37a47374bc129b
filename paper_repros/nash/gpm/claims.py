"""What the paper says of skew scores, of the cycles that they hold, and of self-play on them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.gpm.cycles import (
    change_of_basis,
    cycle,
    equilibria_of_a_cycle,
    models_of_a_cycle,
    on_circle,
    skew,
)
from paper_repros.nash.gpm.self_play import Match
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.numerics import categorical_kl, sigmoid
from prefsim.papers import Verdict, above, apart, claim, falls, worst
from prefsim.raters import (
    embedding_preference,
    learned_temperature,
    pairwise_preference,
    prompt_scales,
    reward_embedding,
    score_matrix,
    skew_score,
)
from prefsim.solvers import decompose_skew, gpo_update
from prefsim.solvers.games.preference_embedding import embedding_lower_bound, embedding_objective
from prefsim.testing import references, skew_scores, tables

UNSEEN = {("prefsim.losses.gpo", "swap"): "each response has a term and a score of its own"}

# Up to six responses with two, four or six numbers each.
EMBEDDINGS = st.tuples(st.integers(1, 6), st.integers(1, 3)).flatmap(
    lambda shape: tables((shape[0], 2 * shape[1]), low=-3.0, high=3.0)
)

# --- the score ---


@claim(
    "C1",
    "identity",
    source="expressiveness theorem; dimension derived",
    stated="derived",
    given={"scores": skew_scores(1), "missing": st.just(0)},
    breaks={"missing": st.just(2)},
)
def every_skew_matrix_is_reached(scores: np.ndarray, missing: int) -> Verdict:
    """Every skew matrix S of scores is reached exactly with rank(S) <= 2⌊n/2⌋ numbers a response;
    the strengths of its planes are its singular values, each of which it has twice.
    """
    decomposed = decompose_skew(scores)
    rank, twice = int(decomposed.rank), np.linalg.svd(scores, compute_uv=False)
    dim = max(rank - missing, 2)
    vectors = to_numpy(decompose_skew(scores, dim=dim).embedding)
    form = np.kron(np.eye(dim // 2), [[0.0, -1.0], [1.0, 0.0]])
    return worst(
        apart(vectors @ form.T @ vectors.T, scores, scale=np.abs(scores).max(initial=1.0)),
        above(rank, 2 * (len(scores) // 2)),
        # A zero beside them: a single response has no plane.
        apart(np.append(decomposed.strengths, 0.0), np.append(twice[1::2], 0.0), relative=True),
    )


@claim(
    "C2",
    "identity",
    source="definition of the score",
    stated="paper",
    tolerance=1e-14,
    given={"vectors": EMBEDDINGS, "scale": st.floats(0.0, 2.0), "symmetric": st.just(0.0)},
    # A classifier of pairs without structure is no skew form.
    breaks={"symmetric": st.floats(0.1, 1.0)},
)
def scores_are_antisymmetric(vectors: np.ndarray, scale: float, symmetric: float) -> Verdict:
    """s(i ≻ j) = −s(j ≻ i), s(i ≻ i) = 0 and P + Pᵀ = 1, whatever the vectors and scales are, from
    all pairs at once or one by one; the loss of a pair is −log P.
    """
    scales = scale * np.arange(1, vectors.shape[1] // 2 + 1)
    scores = score_matrix(vectors, scales=scales) + symmetric * vectors @ vectors.T
    first, second = np.broadcast_arrays(vectors[:, None], vectors[None, :])
    one_by_one = skew_score(first, second, scales=scales)
    chance, size = sigmoid(scores), np.abs(scores).max(initial=1.0)
    pairs = losses.PairRewards(scores, np.zeros_like(scores))
    return worst(
        apart(scores, -scores.T),
        apart(chance + chance.T, 1.0),
        apart(np.diag(chance), 0.5),
        apart(one_by_one, scores, scale=size),
        apart(losses.bradley_terry(pairs), -np.log(chance), scale=size),
    )


@claim(
    "C3",
    "identity",
    source="Bradley–Terry as a special case",
    stated="paper",
    tolerance=0.0,
    given={"reward": tables((5,), low=-5.0, high=5.0), "height": st.just(1.0)},
    breaks={"height": tables((5,), low=-5.0, high=5.0)},
)
def rewards_are_vectors_of_height_one(reward: np.ndarray, height: np.ndarray) -> Verdict:
    """Vectors (r, 1) are the Bradley–Terry model of the rewards r, to the last bit."""
    vectors = reward_embedding(reward).copy()
    vectors[:, 1] *= height
    return worst(
        apart(score_matrix(vectors), np.subtract.outer(reward, reward)),
        apart(embedding_preference(vectors), pairwise_preference(reward)),
    )


@claim(
    "C13",
    "identity",
    source="scales of a prompt and learned temperature (released code)",
    stated="derived",
    given={
        "logits": tables((3,), low=-8.0, high=8.0),
        "width": st.integers(1, 64),
        "wider": st.just(1),
        "raw": st.floats(-4.5, 30.0),
    },
    # The gate of a state of another width; a temperature at its least, one hundredth.
    breaks=({"wider": st.integers(2, 9)}, {"raw": st.floats(-40.0, -6.0)}),
)
def a_gate_shares_out_its_planes(logits: np.ndarray, width: int, wider: int, raw: float) -> Verdict:
    """The scales of a prompt sum to k and have the log-ratios (w_l − w_m)/√d; the temperature is
    log(1 + e^x) down to one hundredth, about one tenth (to .002) at the authors' start of −2.25.
    """
    scales = prompt_scales(logits, width=wider * width)
    ratios = np.exp(np.subtract.outer(logits, logits) / np.sqrt(width))
    raws = np.array([raw, -2.25])
    temperatures = learned_temperature(raws)
    return worst(
        apart(np.sum(scales), len(logits)),
        apart(scales[:, None], scales[None, :] * ratios, relative=True),
        apart(temperatures, np.log1p(np.exp(raws)), relative=True),
        above(np.abs(temperatures[1] - 0.1), 0.002),
    )


ANGLES = tables((6,), low=0.0, high=6.3)


@claim(
    "C5",
    "identity",
    source="derived",
    stated="derived",
    tolerance=1e-15,
    given={"angle": ANGLES, "radius": st.just(1.0)},
    breaks={"radius": st.floats(1.1, 2.0)},
)
def scores_on_a_circle_are_sines(angle: np.ndarray, radius: float) -> Verdict:
    """Responses on the unit circle have the scores sin(θ_j − θ_i)."""
    scores = score_matrix(on_circle(angle, radius))
    return apart(scores, np.sin(angle[None, :] - angle[:, None]))


ANGLE = st.floats(0.0, 6.3)


@claim(
    "C6",
    "invariance",
    source="derived",
    stated="derived",
    tolerance=1e-13,
    given={
        "vectors": EMBEDDINGS,
        "turns": st.tuples(ANGLE, ANGLE),
        "stretch": st.floats(-1.0, 1.0),
        "determinant": st.just(1.0),
    },
    breaks={"determinant": st.floats(1.5, 3.0)},
)
def a_change_of_basis_leaves_scores_unchanged(
    vectors: np.ndarray, turns: tuple[float, float], stretch: float, determinant: float
) -> Verdict:
    """One change of basis of determinant 1 within each pair of coordinates, the same for all
    responses, leaves the scores unchanged.
    """
    change = change_of_basis(turns, stretch, determinant)
    moved = vectors @ np.kron(np.eye(vectors.shape[1] // 2), change).T
    scores = score_matrix(vectors)
    return apart(score_matrix(moved), scores, scale=np.abs(scores).max(initial=1.0))


# --- cycles ---


@claim(
    "C4",
    "counterexample",
    source="cyclic preferences",
    stated="paper",
    tolerance=1e-9,
    examples=12,
    given={"weights": st.builds(np.full, st.integers(3, 5), st.floats(0.1, 10.0))},
    # Labels of different weights tip the rewards.
    breaks={"weights": tables((3,), low=0.1, high=10.0)},
)
def no_reward_holds_a_cycle(weights: np.ndarray) -> Verdict:
    """On a cycle of certain labels every Bradley–Terry fit has all rewards equal and a loss of
    log 2 (regressed on an advantage of m, m²/2), and no order ranks more than (n − 1)/n right; two
    numbers a response rank all right with a loss as near to 0 as one likes (0), and with a prior on
    them the fit is the best of any dimension.
    """
    n, models = len(weights), models_of_a_cycle(weights)
    return worst(
        apart(models.reward_loss, np.log(2)),
        apart(models.reward, 0.0),
        apart(models.order, (n - 1) / n),
        falls(models.circle_losses),
        apart(models.circle_losses[-1], 0.0),
        apart(models.accuracy, 1.0),
        apart(models.regressions, [0.5, 0.0]),
        apart(models.reported, models.reached, relative=True),
        above(models.reached, models.least, relative=True),
        detail=f"Bradley–Terry {models.reward_loss:.7f} nats, best order {models.order:.3f}",
    )


LEAST_DIFFERENCE = 1e-3
LEVELS = tables((3,), low=0.8, high=4.0)


@claim(
    "C7",
    "counterexample",
    source="derived",
    stated="derived",
    tolerance=1e-9,
    given={"levels": LEVELS.filter(lambda levels: levels.max() > 1.5 * levels.min())},
    breaks={"levels": st.floats(0.8, 4.0).map(lambda level: np.full(3, level))},
)
def scores_and_probabilities_are_two_games(levels: np.ndarray) -> Verdict:
    """A cycle of three with unequal scores (a, b, c) has the equilibrium (b, c, a)/(a+b+c) in the
    scores, and another one in the probabilities, with a replaced by σ(a) − ½ and so on.
    """
    solved, stated = np.transpose(
        [equilibria_of_a_cycle(levels), equilibria_of_a_cycle(sigmoid(levels) - 0.5)], (1, 0, 2)
    )
    difference = np.abs(solved[0] - solved[1]).max()
    return worst(apart(solved, stated), above(LEAST_DIFFERENCE, difference))


# --- self-play on scores ---


def matches(
    scores: st.SearchStrategy[np.ndarray], *, spread: float = 2.0
) -> st.SearchStrategy[Match]:
    """Skew scores and a policy, whose log-odds are within twice the spread."""
    return scores.flatmap(
        lambda table: st.builds(Match, st.just(table), references(len(table), spread=spread))
    )


MATCHES = matches(skew_scores())
NEAR_CYCLES = tables((3, 3), low=-0.3, high=0.3).map(
    lambda table: 2 * (cycle(3) - cycle(3).T) + skew(table)
)
NEAR_CYCLE = matches(NEAR_CYCLES, spread=0.5)
BETAS = st.floats(0.2, 10.0)


@claim(
    "C8",
    "monotone",
    source="derived",
    stated="derived",
    given={"match": MATCHES, "beta": BETAS, "steps": st.just(1)},
    # Half a turn round a cycle later the policy that was left wins.
    breaks={"match": NEAR_CYCLE, "beta": st.just(1.0), "steps": st.integers(5, 7)},
)
def a_step_does_not_lose_to_its_start(match: Match, beta: float, steps: int) -> Verdict:
    """An exact step of GPO is not worse than the policy that it starts from: s(π_{t+1} ≻ π_t) is β
    times KL(π_{t+1}‖π_t) + KL(π_t‖π_{t+1}) >= 0 (two and more steps may be worse).
    """
    start = log_policy = np.log(match.policy)
    for _ in range(steps):
        log_policy = gpo_update(log_policy, match.scores, beta=beta)
    ahead = np.exp(log_policy) @ match.payoffs
    moved = categorical_kl(log_policy, start) + categorical_kl(start, log_policy)
    detail = f"score against the policy of {steps} steps ago {ahead:.3g}"
    if steps > 1:
        # What several steps move is no measure of how far ahead they are: only the sign is left.
        return above(-ahead, 0.0, detail=detail)
    return apart(ahead, beta * moved, detail=detail)


@claim(
    "C9",
    "minimiser",
    source="the GPO loss",
    stated="derived",
    tolerance=1e-9,
    examples=15,
    given={
        "match": matches(skew_scores(2, 5, limit=2.0)),
        "beta": st.floats(0.3, 5.0),
        "share_of_partition": st.just(1.0),
    },
    breaks={"share_of_partition": st.just(0.0)},
)
def regressions_end_at_the_exact_step(
    match: Match, beta: float, share_of_partition: float
) -> Verdict:
    """GPO's regression of log π/π_t on (s(y ≻ π_t) − β log Z)/β has the minimum 0 over policies, at
    the exact step, as has the regression on differences in pairs, which needs no log Z; with
    log Z → 0 the first is biased, and at π_t its value is the mean of (s(y ≻ π_t)/β)².
    """
    payoffs = match.payoffs
    log_z = share_of_partition * match.log_partition(payoffs, beta)
    pointwise, paired = match.regress_pointwise(beta, log_z), match.regress_in_pairs(beta)
    exact = np.exp(gpo_update(np.log(match.policy), match.scores, beta=beta))
    return worst(
        apart(pointwise.policy.probs[0], exact),
        apart(paired.policy.probs[0], exact),
        apart(match.loss_before(beta), match.policy @ (payoffs / beta) ** 2, relative=True),
        above([pointwise.value, paired.value], 0.0),
    )


@claim(
    "C10",
    "inequality",
    source="log Z → 0; bound by Hoeffding's lemma",
    stated="derived",
    given={"match": MATCHES, "beta": BETAS, "offset": st.just(0.0)},
    # Scores whose mean is not 0 under the policy.
    breaks={"offset": st.just(-1.0)},
)
def the_partition_function_is_nearly_one(match: Match, beta: float, offset: float) -> Verdict:
    """0 <= log Z <= (range of s(y ≻ π_t))²/(8β²), because the mean of s(y ≻ π_t) under π_t is 0."""
    payoffs = match.payoffs + offset
    log_z, bound = match.log_partition(payoffs, beta), np.ptp(payoffs) ** 2 / (8 * beta**2)
    return worst(above(-log_z, 0.0), above(log_z, bound), detail=f"log Z {log_z:.3g}")


# --- how good an embedding can be ---


@claim(
    "C11",
    "minimiser",
    source="Eckart and Young",
    stated="derived",
    tolerance=1e-11,
    given={
        "scores": skew_scores(2),
        "planes": st.integers(1, 3),
        "more_planes": st.just(0),
        "noise": st.floats(0.0, 1.0),
        "seed": st.integers(0, 999),
    },
    breaks={"more_planes": st.integers(1, 2), "noise": st.just(0.0)},
)
def the_cut_decomposition_is_best(
    scores: np.ndarray, planes: int, more_planes: int, noise: float, seed: int
) -> Verdict:
    """The decomposition cut to 2k numbers is the best embedding of that size: it leaves out a
    Frobenius norm of √(2 Σ_{l>k} λ_l²).
    """
    cut = decompose_skew(scores, dim=2 * planes)
    rival = decompose_skew(scores, dim=2 * (planes + more_planes)).embedding
    rival = rival + noise * np.random.default_rng(seed).standard_normal(rival.shape)
    left_out, by_rival = (
        np.linalg.norm(scores - score_matrix(vectors)) for vectors in (cut.embedding, rival)
    )
    return worst(
        apart(left_out, np.sqrt(2 * np.sum(cut.strengths[planes:] ** 2))),
        above(left_out, by_rival),
    )


@claim(
    "C12",
    "inequality",
    source="derived",
    stated="derived",
    tolerance=1e-10,
    given={
        "vectors": EMBEDDINGS,
        "ridge": st.floats(0.0, 3.0),
        "ridge_factor": st.just(1.0),
        "seed": st.integers(0, 999),
    },
    # Only near the minimum does a bound with too strong a penalty show.
    breaks={
        "vectors": EMBEDDINGS.map(lambda vectors: 0.1 * vectors),
        "ridge": st.floats(0.1, 1.0),
        "ridge_factor": st.floats(3.0, 10.0),
    },
)
def the_dual_bounds_every_embedding(
    vectors: np.ndarray, ridge: float, ridge_factor: float, seed: int
) -> Verdict:
    """The penalised likelihood is convex in the scores, with half their nuclear norm as the
    penalty: its dual bounds what embeddings of any dimension reach.
    """
    n, rng = len(vectors), np.random.default_rng(seed)
    wins = rng.integers(0, 4, (n, n)) * (1.0 - np.eye(n))
    guess = skew(rng.standard_normal((n, n)))
    reached = embedding_objective(vectors, wins, ridge=ridge)
    bounds = [
        embedding_lower_bound(scores, wins, ridge=ridge_factor * ridge)
        for scores in (guess, score_matrix(vectors))
    ]
    return above(bounds, reached)
