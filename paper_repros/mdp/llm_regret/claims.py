"""What the paper says of noisy choice, of regret and of the regret-loss, on random instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.llm_regret import agents, layers
from paper_repros.mdp.llm_regret.agents import FAILURES, Evidence
from prefsim.analysis import (
    dynamic_regret,
    external_regret,
    loss_variation,
    regret_regression_test,
    regret_trend_test,
    swap_regret,
)
from prefsim.losses import regret_loss
from prefsim.losses.online import regret_path
from prefsim.numerics import softmax
from prefsim.papers import Verdict, above, apart, claim, rises, worst
from prefsim.solvers.games.correlated import averaged_play, coarse_correlated_gaps, correlated_gaps
from prefsim.solvers.online_learning.ftpl import NOISES, ftpl, posterior_scale
from prefsim.solvers.online_learning.ftrl import ENTROPY, Regulariser, ftrl, ftrl_ball
from prefsim.solvers.online_learning.hedge import hedge, hedge_bound, importance_weighted_loss
from prefsim.solvers.online_learning.linear_attention import LinearAttention, attention_decisions
from prefsim.testing.bandits import tables
from prefsim.testing.sequences import Opponent, Played, Rounds, opponents, played_games, rounds_of

SEEDS = st.integers(0, 99_999)
STEPS = st.floats(0.05, 2.0)
LOSSES = st.integers(3, 5).flatmap(lambda d: tables((d,), low=-3.0, high=3.0))

# --- noisy choice is the perturbed leader ---


@claim(
    "hedge",
    "identity",
    source="section 4 (quantal response; follow the perturbed leader)",
    stated="paper",
    tolerance=1e-11,
    given={"cumulative": LOSSES, "step": STEPS, "noise": st.just("gumbel")},
    breaks={"noise": st.just("gaussian")},
)
def noisy_choice_is_hedge(cumulative: np.ndarray, step: float, noise: str) -> Verdict:
    """Choice with Gumbel noise of scale 1/η is Hedge and the leader regularised by entropy; with
    Gaussian noise and three actions it is no softmax of the losses at any step.
    """
    chosen = ftpl(cumulative, scale=1 / step, noise=NOISES[noise])
    played = hedge(cumulative, step=step)
    # The softmax that comes nearest, in log-odds.
    centred = cumulative - cumulative.mean()
    odds = np.log(chosen) - np.log(chosen).mean()
    slope = -(odds @ centred) / max(centred @ centred, 1e-300)
    return worst(
        apart(odds, -slope * centred),
        apart(ftpl(cumulative, scale=1 / step) if noise == "gumbel" else played, played),
        apart(ftrl(cumulative, step=step, regulariser=ENTROPY._replace(exact=None)), played),
        apart(chosen, played) if noise == "gumbel" else 0.0,
    )


@claim(
    "posterior",
    "identity",
    source="section 4 (pre-training on noisy humans)",
    stated="paper",
    tolerance=2e-5,
    given={"seen": agents.evidence(), "tail": st.just(agents.gaussian_tail)},
    breaks={"tail": st.just(agents.student_tail)},
)
def a_posterior_draw_is_the_perturbed_leader(
    seen: Evidence, tail: Callable[[np.ndarray], np.ndarray]
) -> Verdict:
    """With means N(0, σ²) and losses N(z, τ²), the action that is best for a posterior draw of z is
    the leader perturbed by Gaussian noise of scale τ√(t + τ²/σ²).
    """
    scale = posterior_scale(len(seen.losses), prior=seen.prior, noise=seen.noise)
    leader = ftpl(seen.losses.sum(axis=0), scale=scale, noise="gaussian")
    return apart(leader, agents.chance_to_be_best(seen, tail))


@claim(
    "pretraining",
    "minimiser",
    source="section 4 (supervised pre-training)",
    stated="paper",
    given={"seed": SEEDS, "label": st.just(layers.best_mean)},
    breaks={"label": st.just(layers.best_seen)},
)
def pretraining_learns_the_posterior_choice(seed: int, label: Callable[..., Any]) -> Verdict:
    """Where labels are the actions that are best for the means, the cross-entropy of a predictor is
    that of the posterior choice plus the mean KL between the two: the choice is its minimum.
    """
    data, posterior = layers.pretraining(seed, label)
    history = data.chance.sum(axis=-1)
    logs = np.log(np.clip(posterior, 1e-300, None))
    excess = (data.chance * (logs - data.predictor)).sum()
    return apart(excess, history @ (posterior * (logs - data.predictor)).sum(axis=-1))


# --- leaders ---


@claim(
    "leader",
    "minimiser",
    source="section 2 (follow the regularised leader)",
    stated="paper",
    tolerance=1e-9,
    given={
        "cumulative": LOSSES,
        "step": STEPS,
        "regulariser": st.sampled_from(agents.REGULARISERS),
        "share_of_step": st.just(1.0),
    },
    breaks={"share_of_step": st.floats(0.2, 0.8)},
)
def the_leader_minimises(
    cumulative: np.ndarray, step: float, regulariser: Regulariser, share_of_step: float
) -> Verdict:
    """Nothing in the simplex, or in the ball, lowers η⟨p, L⟩ + R(p) from the regularised leader."""
    policy = ftrl(cumulative, step=share_of_step * step, regulariser=regulariser)
    slope = step * cumulative + agents.slopes(regulariser, policy)
    ball = ftrl_ball(cumulative, step=share_of_step * step, radius=0.5)
    pull = step * cumulative + ball
    return worst(
        apart(policy.sum(), 1.0),
        above(slope @ policy, slope.min()),
        above(pull @ ball, -0.5 * np.linalg.norm(pull)),
        above(np.linalg.norm(ball), 0.5),
    )


@claim(
    "bound",
    "inequality",
    source="section 2; Cesa-Bianchi and Lugosi 2006",
    stated="paper",
    tolerance=1e-9,
    given={"opponent": opponents(), "share_of_step": st.just(1.0)},
    breaks={"opponent": FAILURES, "share_of_step": st.floats(20.0, 50.0)},
)
def hedge_keeps_its_bound(opponent: Opponent, share_of_step: float) -> Verdict:
    """The regret of Hedge with η = √(8 ln d/T) is at most √(T ln d/2) on all losses in [0, 1]."""
    play = opponent.play(agents.hedge_of(opponent, share_of_step))
    return above(external_regret(*play), hedge_bound(opponent.rounds, opponent.actions))


@claim(
    "perturbed_bound",
    "inequality",
    source="section 4; constant derived",
    stated="derived",
    tolerance=1e-9,
    examples=20,
    given={"opponent": opponents(most=60, actions=3), "growth": st.just(0.5)},
    breaks={"opponent": FAILURES, "growth": st.just(-2.0)},
)
def the_growing_noise_keeps_its_bound(opponent: Opponent, growth: float) -> Verdict:
    """The leader perturbed by Gaussian noise of scale √t has regret at most 1.5 √(2T ln d) on all
    losses in [0, 1].
    """
    play = opponent.play(agents.perturbed_leader(growth, "gaussian"))
    bound = 1.5 * np.sqrt(2 * opponent.rounds * np.log(opponent.actions))
    return above(external_regret(*play), bound)


@claim(
    "leader_fails",
    "counterexample",
    source="section 3 (cases of failure)",
    stated="paper",
    given={"half": st.integers(5, 200), "order": st.just(None)},
    breaks={"order": SEEDS},
)
def the_leader_fails_on_alternating_losses(half: int, order: int | None) -> Verdict:
    """On (½, 0), (0, 1), (1, 0), … the leader regrets T/2 (T even, ties to the first action) while
    Hedge keeps its bound; in a random order of the rounds it does not.
    """
    leader, careful = agents.on_alternating(2 * half, order)
    return worst(
        apart(external_regret(*leader), half),
        above(external_regret(*careful), hedge_bound(2 * half, 2)),
    )


@claim(
    "bandit",
    "identity",
    source="section 2 (bandit feedback)",
    stated="paper",
    given={"rounds": rounds_of(), "tilt": st.just(0.0)},
    breaks={"tilt": st.floats(0.5, 1.0)},
)
def importance_weights_are_unbiased(rounds: Rounds, tilt: float) -> Verdict:
    """The loss of the action that is drawn, over its chance, has the mean of the losses of all."""
    policy, losses = rounds.decisions[0], rounds.losses[0]
    d = losses.size
    said = softmax(np.log(policy) + tilt * np.arange(d))
    each = importance_weighted_loss(losses, np.arange(d), np.tile(said, (d, 1)))
    return apart(policy @ each, losses)


# --- regrets ---


@claim(
    "dynamic",
    "inequality",
    source="section 2 (dynamic regret)",
    stated="paper",
    given={"rounds": rounds_of(), "best_of_each": st.just(1.0)},
    breaks={"best_of_each": st.floats(0.0, 0.5)},
)
def no_regret_is_below_the_external(rounds: Rounds, best_of_each: float) -> Verdict:
    """Dynamic and swap regret are at least the external one; the dynamic one is larger by what the
    best fixed action loses beyond the best of each round.
    """
    decisions, losses = rounds
    external, dynamic = external_regret(decisions, losses), dynamic_regret(decisions, losses)
    beyond = losses.sum(axis=0).min() - best_of_each * losses.min(axis=1).sum()
    paid = (decisions * losses).sum()
    return worst(
        above(external, dynamic),
        above(max(external, 0.0), swap_regret(decisions, losses)),
        apart(dynamic - external, beyond),
        apart(external, paid - losses.sum(axis=0).min()),
    )


@claim(
    "variation",
    "inequality",
    source="section 2 (variation); constant derived",
    stated="derived",
    given={"opponent": opponents(("adaptive",), actions=4), "answers": st.just(True)},
    breaks={"answers": st.just(False)},
)
def losses_that_answer_cost_every_learner(opponent: Opponent, answers: bool) -> Verdict:
    """Against losses of 1 on the most likely action the dynamic regret of any learner is at least
    T/d, and the variation at most T − 1; against losses that stay it need not be.
    """
    rounds, play = opponent.rounds, agents.answered(opponent, answers=answers)
    moves = np.abs(np.diff(play.losses, axis=0)).max(axis=-1)
    return worst(
        above(rounds / opponent.actions, dynamic_regret(*play)),
        above(loss_variation(play.losses), rounds - 1),
        apart(loss_variation(play.losses), moves.sum()),
    )


@claim(
    "yardsticks",
    "counterexample",
    source="section 3 (validation by two tests)",
    stated="derived",
    tolerance=1e-9,
    given={"half": st.integers(20, 100), "tau": st.floats(0.25, 0.4), "growth": st.just(0.0)},
    breaks={"growth": st.just(0.5)},
)
def the_tests_err_both_ways(half: int, tau: float, growth: float) -> Verdict:
    """Against losses of 1 on the most likely of two actions, noise of one scale τ regrets exactly
    (T/2)(σ(1/τ) − ½), linear in T, and passes the regression test; Hedge regrets as much with
    τ = 1/η, keeps its bound, and fails the trend test.
    """
    rounds, runs = 2 * half, agents.noisy_and_hedge(2 * half, tau, growth)
    linear, sublinear = (regret_path(*play) for play in runs)
    trend, line = regret_trend_test(sublinear), regret_regression_test(linear)
    return worst(
        apart(linear[-1], half * agents.gain(1 / tau)),
        apart(sublinear[-1], half * agents.gain(agents.hedge_step(rounds, 2))),
        above(sublinear[-1], hedge_bound(rounds, 2)),
        apart([line.slope, line.p_value], agents.line_of(linear)),
        above(line.p_value, 0.05),
        above(0.05, trend.p_value),
        apart(trend.p_value, agents.binomial_tail(rounds - 1, int(trend.falls))),
    )


# --- games ---


@claim(
    "coarse",
    "identity",
    source="section 2 (games)",
    stated="paper",
    given={"played": played_games(), "average": st.just(averaged_play)},
    breaks={"average": st.just(agents.separately)},
)
def regret_is_the_gap_to_coarse_correlation(played: Played, average: Callable[..., Any]) -> Verdict:
    """The gain of a player by one fixed action, in the joint average of what was played, is its
    external regret over T, and by another action in the place of each its swap regret over T.
    """
    joint, rounds = average(played.decisions), len(played.decisions[0])
    met = list(zip(played.decisions, played.met(), strict=True))
    fixed = [external_regret(*pair) / rounds for pair in met]
    instead = [swap_regret(*pair) / rounds for pair in met]
    return worst(
        apart(coarse_correlated_gaps(played.losses, joint), fixed),
        apart(correlated_gaps(played.losses, joint), instead),
    )


@claim(
    "zero_sum",
    "identity",
    source="section 2 (games)",
    stated="paper",
    given={"played": played_games(zero_sum=True)},
    breaks={"played": played_games()},
)
def averages_are_nash_where_sums_are_zero(played: Played) -> Verdict:
    """In a game of sum zero what both gain by leaving their averages is the sum of their external
    regrets over T: with regrets of at most εT the averages are a 2ε-Nash equilibrium.
    """
    gaps = coarse_correlated_gaps(played.losses, agents.separately(played.decisions))
    rounds = len(played.decisions[0])
    met = zip(played.decisions, played.met(), strict=True)
    return apart(gaps.sum(), sum(external_regret(*pair) for pair in met) / rounds)


# --- the regret-loss ---


@claim(
    "soft_maximum",
    "limit",
    source="section 5 (regret-loss)",
    stated="paper",
    tolerance=1e-9,
    given={
        "logits": tables((4, 3, 2), low=-2.0, high=2.0),
        "losses": tables((4, 3, 2), low=-1.0, high=1.0),
        "growth": st.sampled_from([agents.squared, agents.rising]),
    },
    breaks={"growth": st.just(agents.falling)},
)
def the_soft_maximum_rises_to_the_worst_case(
    logits: np.ndarray, losses: np.ndarray, growth: Callable[[Any], Any]
) -> Verdict:
    """For h that does not fall the regret-loss rises with k from the mean to the largest h(R_j),
    for exponential weights and for powers; on average it rises with N, to no more than the largest.
    """
    decisions = softmax(logits)
    regrets = np.array([external_regret(*pair) for pair in zip(decisions, losses, strict=True)])
    each, parts = growth(regrets), []
    for weighting in ("exp", "power"):
        options: dict[str, Any] = {"growth": growth, "weighting": weighting}
        strengths = (0.0, 1.0, 3.0, 10.0, 1e12)
        values = [float(regret_loss(decisions, losses, k=k, **options)) for k in strengths]
        # Of powers those of regrets below zero count alike.
        last = each.max() if weighting == "exp" or (regrets > 0).any() else each.mean()
        parts += [rises(values), apart(values[0], each.mean()), apart(values[-1], last)]
        parts.append(apart(values[2], agents.weighted(each, regrets, strengths[2], weighting)))
        # The mean over all batches of one, two and three of the sequences.
        batches = [np.indices((4,) * n).reshape(n, -1).T for n in (1, 2, 3)]
        wider = [regret_loss(decisions[b], losses[b], **options).mean() for b in batches]
        parts += [rises(wider), above(wider, each.max())]
    return worst(*parts)


@claim(
    "attention",
    "minimiser",
    source="section 5 (single-layer linear attention)",
    stated="paper",
    tolerance=1e-8,
    examples=20,
    given={"law": SEEDS.map(layers.symmetric_law), "rounds": st.integers(2, 3)},
    breaks={"law": SEEDS.map(layers.skewed_law)},
)
def training_ends_at_a_regularised_leader(law: layers.Law, rounds: int) -> Verdict:
    """For independent losses of one symmetric law the least expected R² against the unit ball, of
    linear layers and of all sums of quadratic tokens, is that of BL with B = −Σ⁻¹E[‖L_T‖ℓ₁ℓ₂ᵀ]Σ⁻¹;
    where no sign and no exchange of coordinates changes the law, that of −a*L, gradient descent
    with a* = 2E[‖L_T‖D]/E[D²] and D = ‖L_T‖² − Σ‖ℓ_t‖², not projected.
    """
    parts = []
    for given, alike in ((law, False), (layers.isotropic_law(law.values[0]), True)):
        losses, weight = given.sequences(rounds)
        matrix = layers.best_matrix(given, rounds)
        found = attention_decisions(LinearAttention.of_leader(matrix), losses)
        least = layers.least_loss(losses, weight)
        parts.append(apart(layers.expected_loss(found, losses, weight), least, relative=True))
        if alike:
            parts.append(apart(matrix, -layers.best_step(losses, weight) * np.eye(2)))
    return worst(*parts)


@claim(
    "every_sequence",
    "inequality",
    source="section 5; derived",
    stated="derived",
    given={"rounds": rounds_of(), "step": st.floats(0.1, 2.0), "radius": st.floats(0.5, 2.0)}
    | {"times": st.just(1.0)},
    breaks={"times": st.floats(2.0, 4.0)},
)
def the_leader_that_is_learned_keeps_a_bound(
    rounds: Rounds, step: float, radius: float, times: float
) -> Verdict:
    """Without projection −aL regrets ρ‖L‖ − a(‖L‖² − Σ‖ℓ‖²)/2 <= ρ²/(2a) + aΣ‖ℓ‖²/2 against the
    ball of radius ρ on every sequence: with a of order 1/√T it is no-regret.
    """
    losses = rounds.losses
    layer = LinearAttention.of_leader(-step * np.eye(losses.shape[-1]))
    options: dict[str, Any] = {"comparator": "ball", "radius": times * radius}
    path = regret_path(attention_decisions(layer, losses), losses, **options)
    length, squares = np.linalg.norm(losses.sum(axis=0)), (losses**2).sum()
    return worst(
        apart(path[-1], radius * length - step * (length**2 - squares) / 2),
        above(path[-1], radius**2 / (2 * step) + step * squares / 2),
    )
