"""What the regret rests on, each statement as a property of random instances."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.adversarial_mdp.exact import distances, moments
from paper_repros.mdp.adversarial_mdp.instances import (
    BARRIER,
    ENTROPY,
    Layer,
    Regulariser,
    added_by_a_step,
    costs_of_either_sign,
    dilated_by_hand,
    estimates_in_a_table,
    excess_and_divergence,
    extremes_and_more,
    layers_of,
    mean_by_parameters,
    other_policy,
    regret_and_bound,
    rough_losses,
    spectra_of_draws,
)
from paper_repros.mdp.adversarial_mdp.play import BARRIER as LOG_BARRIER
from paper_repros.mdp.adversarial_mdp.play import REDUCED, exponent
from prefsim.data.episodes import enumerate_episodes
from prefsim.papers import Verdict, above, apart, claim, outside, worst
from prefsim.solvers.bandit_feedback.bonuses import dilated_bonus
from prefsim.solvers.bandit_feedback.covariance import (
    relative_spectrum,
)
from prefsim.solvers.bandit_feedback.estimates import (
    expected_negative_part,
    magnitude_reduced,
    reduced_estimate,
    standard_estimate,
)
from prefsim.solvers.planning.layered import layered_optimum, layered_values, linear_q_residual

SEEDS = st.integers(0, 10**6)
GAMMAS = st.floats(-3.0, 0.0).map(lambda x: 10**x)
STEPS = st.floats(-3.0, 1.0).map(lambda x: 10**x)
EVERY = {"seed": SEEDS, "gamma": GAMMAS}
BOUND = 3.0

# --- the leader ---


@claim(
    "C1",
    "inequality",
    source="section on the log-barrier, first lemma",
    stated="paper",
    tolerance=1e-10,
    given={"seed": SEEDS, "step": STEPS, "regulariser": st.just(BARRIER)},
    breaks={"regulariser": st.just(ENTROPY), "step": st.floats(0.5, 10.0)},
)
def regret_of_the_barrier(seed: int, step: float, regulariser: Regulariser) -> Verdict:
    """With the log-barrier the regret of the leader is at most (Ψ(y) − Ψ(p₁))/η + η Σ p c² for
    costs of any size and sign, also of the size of inverse probabilities.
    """
    rng = np.random.default_rng(seed)
    actions, rounds = int(rng.integers(2, 7)), int(rng.integers(1, 21))
    comparator = rng.dirichlet(np.ones(actions)) if rng.random() < 0.3 else None
    costs = costs_of_either_sign(rng, step, actions)
    sides = regret_and_bound(regulariser, step, comparator, rounds, costs, actions)
    return above(sides.regret, sides.bound, scale=1 + abs(sides.bound), detail=f"{sides}")


@claim(
    "one_step",
    "inequality",
    source="section on the log-barrier, proof of the first lemma",
    stated="derived",
    tolerance=1e-9,
    given={"seed": SEEDS, "regulariser": st.just(BARRIER)},
    breaks={"regulariser": st.just(ENTROPY)},
)
def a_step_costs_a_quarter(seed: int, regulariser: Regulariser) -> Verdict:
    """What one step adds to the regret of the leader, ⟨p − p', c⟩ − D(p', p)/η, is at most a
    quarter of η Σ p c², which small opposite costs of two even actions reach. The leader is where
    the objective of other policies exceeds its own by their divergence.
    """
    excess, divergence = excess_and_divergence(seed, regulariser)
    added = added_by_a_step(seed, regulariser)
    return worst(above(added, 0.25), apart(excess, divergence, relative=True))


@claim(
    "C1_entropy",
    "counterexample",
    source="section on the log-barrier",
    stated="derived",
    tolerance=1e-12,
    given={"last": st.floats(-130.0, -90.0)},
    breaks={"last": st.floats(-3.0, -0.5)},
)
def entropy_needs_costs_that_are_not_negative(last: float) -> Verdict:
    """With the negative entropy in the place of the barrier the bound fails: η = 1, costs (5, 0)
    and (−100, 0), against the first action.
    """
    costs = iter([np.array([5.0, 0.0]), np.array([last, 0.0])])
    sides = regret_and_bound(ENTROPY, 1.0, np.array([1.0, 0.0]), 2, lambda _: next(costs))
    return above(sides.bound, sides.regret, detail=f"{sides}")


# --- the magnitude-reduced estimator ---


@claim(
    "C2",
    "inequality",
    source="section on magnitude reduction, first lemma",
    stated="derived",
    given={"seed": SEEDS, "same_law": st.just(True)},
    breaks={"same_law": st.just(False)},
)
def reduction_keeps_the_mean(seed: int, same_law: bool) -> Verdict:
    """Ẑ = Z − (Z)₋ + E(Z)₋ has the mean of Z, a second moment that is not larger (where four
    times would do), and no value below E(Z)₋, which is expected under the law of Z.
    """
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((20, 6)) * 10 ** rng.uniform(-2, 2, (20, 1))
    law, other = rng.dirichlet(np.ones(6), (2, 20))
    found = magnitude_reduced(values, law if same_law else other)
    size = 1 + np.abs(values).max(axis=-1)
    mean, square, below = (law * np.stack([values, values**2, np.minimum(values, 0)])).sum(axis=-1)
    return worst(
        apart((law * found).sum(axis=-1), mean, scale=size),
        above((law * found**2).sum(axis=-1), square, scale=size**2),
        above(below[:, None], found, scale=size[:, None]),
    )


@claim(
    "C3",
    "inequality",
    source="section on magnitude reduction",
    stated="derived",
    given=EVERY | {"low": st.just(0.0), "high": st.just(1.0)},
    breaks=(
        {"high": st.just(4.0), "low": st.just(3.0)},
        {"low": st.just(-4.0), "high": st.just(-3.0)},
    ),
)
def second_moment_is_bounded(seed: int, gamma: float, low: float, high: float) -> Verdict:
    """The second moment of the reduced estimate is at most H² E x², and that at most
    H² ‖φ‖² in the inverse covariance, for all losses L in [0, H].
    """
    layer, rng = Layer.draw(seed, gamma), np.random.default_rng([seed, 1])
    n = len(layer.law)
    losses = BOUND * (low + (high - low) * extremes_and_more(n, rng))
    found = reduced_estimate(layer.weights, layer.law, np.arange(n), losses, bound=BOUND)
    square, largest = layer.law @ found**2, BOUND**2 * layer.weights**2 @ layer.law
    return worst(
        above(square, largest, relative=True),
        above(largest, BOUND**2 * layer.norms, relative=True),
    )


@claim(
    "C4",
    "identity",
    source="section on the estimators",
    stated="derived",
    given=EVERY | {"linear": st.just(True), "own_law": st.just(True)},
    breaks=({"own_law": st.just(False)}, {"linear": st.just(False)}),
)
def both_estimators_have_one_mean(seed: int, gamma: float, linear: bool, own_law: bool) -> Verdict:
    """Over all episodes both estimates are φ·Σ̂†Σθ on average, where Q = φ·θ and the negative
    part is expected under the policy that plays.
    """
    layers = layers_of(seed, gamma)
    if not linear:
        layers = rough_losses(layers, seed)
    under = layers if own_law else layers._replace(policy=other_policy(layers, seed))
    episodes = enumerate_episodes(layers.process, layers.policy)
    found = moments(layers, episodes, law=under.law())
    stated, scale = mean_by_parameters(layers), 1 + np.abs(layers.weights()).max()
    return worst(*(apart(each.mean, stated, scale=scale) for each in found[:2]))


@claim(
    "C5",
    "inequality",
    source="section on magnitude reduction, second lemma",
    stated="derived",
    given=EVERY | {"radius": st.just(1.0)},
    breaks={"radius": st.just(20.0), "gamma": st.floats(5.0, 50.0)},
)
def reduced_estimates_are_not_very_negative(seed: int, gamma: float, radius: float) -> Verdict:
    """For features in the unit ball standard estimates are at least −H/γ, and reduced ones at
    least −H/(2√γ) and at least −H‖φ‖ in the inverse covariance.
    """
    layer = Layer.draw(seed, gamma, radius)
    n = len(layer.law)
    losses = BOUND * np.array([[0.0], [1.0]])
    standard = standard_estimate(layer.weights, np.arange(n), losses)
    reduced = reduced_estimate(layer.weights, layer.law, np.arange(n), losses, bound=BOUND)
    return worst(
        above(-standard.min(), BOUND / gamma, relative=True),
        above(-reduced.min(axis=(0, 1)), BOUND * np.sqrt(layer.norms), relative=True),
        above(-reduced.min(), BOUND / (2 * math.sqrt(gamma)), relative=True),
    )


@claim(
    "C5_sharp",
    "identity",
    source="section on magnitude reduction, second lemma",
    stated="derived",
    given={"gamma": GAMMAS, "times": st.just(1.0), "seldom": st.just(1e-12)},
    breaks=({"times": st.floats(2.0, 4.0)}, {"seldom": st.floats(0.1, 0.5)}),
    tolerance=1e-6,
)
def the_least_estimates_are_reached(gamma: float, times: float, seldom: float) -> Verdict:
    """−H/(2√γ) is reached by a pair opposite to one that is always played, of length √γ; −H/γ is
    approached where a pair opposite to the longest is hardly ever played.
    """
    law = np.array([0.0, 1.0])
    weights = Layer(np.array([[1.0], [-times * math.sqrt(gamma)]]), law, gamma).weights
    opposite = Layer(np.array([[1.0], [-1.0], [0.0]]), np.array([0, seldom, 1 - seldom]), gamma)
    standard = standard_estimate(opposite.weights, np.array(1), np.array(BOUND)).min()
    return worst(
        apart(BOUND * expected_negative_part(weights, law)[0] * 2 * math.sqrt(gamma), -BOUND),
        apart(standard * gamma, -BOUND),
    )


@claim(
    "C6",
    "identity",
    source="section on the estimators, tables",
    stated="derived",
    given=EVERY | {"dim": st.none()},
    breaks={"dim": st.just(2), "gamma": st.floats(1e-3, 1e-2)},
)
def in_a_table_it_is_implicit_exploration(seed: int, gamma: float, dim: int | None) -> Verdict:
    """Where features tell all pairs apart the estimate is 1{visited} L / (q + γ), which is never
    negative: reduction changes nothing, and norms are 1/(q + γ).
    """
    layers = layers_of(seed, gamma, dim=dim)
    standard, reduced, stated = estimates_in_a_table(layers, 0.7, BOUND)
    norms = np.diagonal(layers.weights(), axis1=-2, axis2=-1)
    return worst(
        apart(standard, stated, relative=True),
        apart(reduced, standard, relative=True),
        apart(norms, 1 / (layers.law() + gamma), relative=True),
    )


# --- inverses ---


@claim(
    "C7",
    "identity",
    source="section on simulators",
    stated="derived",
    given=EVERY | {"fresh": st.just(True)},
    breaks={"fresh": st.just(False), "gamma": st.floats(1e-3, 1e-1)},
)
def resampling_has_its_mean(seed: int, gamma: float, fresh: bool) -> Verdict:
    """Over all sequences of fresh draws matrix geometric resampling is
    (γI + Σ)⁻¹(I − (I − c(γI + Σ))^(N+1)) on average, as are the partial sums c Σ (I − c(γI + Σ))ⁿ.
    """
    layer = Layer.draw(seed, gamma).first_three()
    scale, length, long = 1 / (1 + gamma), 4, 50
    short, whole = (layer.expected_resampled(scale, each) for each in (length, long))
    return worst(
        apart(layer.mean_of_resampled(scale, length, fresh), short, relative=True),
        apart(layer.partial_sum(scale, long), whole, relative=True),
    )


@claim(
    "C7_bias",
    "inequality",
    source="section on simulators",
    stated="derived",
    tolerance=1e-9,
    given=EVERY | {"scale": st.floats(0.05, 1.0), "length": st.integers(0, 200)},
    breaks={"scale": st.floats(5.0, 8.0), "gamma": st.floats(0.5, 1.0)},
)
def resampling_is_hardly_biased(seed: int, gamma: float, scale: float, length: int) -> Verdict:
    """With c ≤ 1/(1 + γ) the bias of resampling is at most (1 − cγ)^(N+1)/γ in every direction;
    with c > 2/(γ + λ) of the largest eigenvalue λ it grows without end.
    """
    layer, c = Layer.draw(seed, gamma), scale / (1 + gamma)
    bias = np.linalg.norm(layer.expected_resampled(c, length) - layer.inverse, ord=2)
    return above(bias, abs(1 - c * gamma) ** (length + 1) / gamma, relative=True)


@claim(
    "C8",
    "statistical",
    source="section on linear processes, concentration of covariances",
    stated="paper",
    tolerance=0.0,
    examples=6,
    given={"seed": SEEDS, "gamma": st.sampled_from([0.05, 0.1]), "draws": st.none()},
    breaks={"gamma": st.just(0.01), "draws": st.just(20)},
)
def empirical_inverses_are_near(seed: int, gamma: float, draws: int | None) -> Verdict:
    """From 4d ln(d/δ)/γ² draws, δ = .01, the eigenvalues of Σ̂†(γI + Σ) lie in
    [1 − 2√γ, 1 + 2√γ] in all of sixty repeats.
    """
    allowed = 2 * math.sqrt(gamma)
    return outside(spectra_of_draws(seed, gamma, draws), 1 - allowed, 1 + allowed)


@claim(
    "empirical_mean",
    "identity",
    source="section on linear processes, concentration of covariances",
    stated="derived",
    given=EVERY | {"draws": st.integers(1, 4)},
)
def empirical_inverses_are_too_large(seed: int, gamma: float, draws: int) -> Verdict:
    """Over all sequences of draws the empirical inverse is larger on average than (γI + Σ)⁻¹."""
    layer = Layer.draw(seed, gamma).first_three()
    expected = layer.expected_empirical(draws)
    least = relative_spectrum(expected, layer.covariance, gamma=gamma).min()
    found = layer.mean_of_empirical(draws)
    return worst(apart(found, expected, scale=1 / gamma), above(1.0, least))


# --- layers ---


@claim(
    "C9",
    "identity",
    source="performance difference lemma",
    stated="paper",
    given=EVERY | {"elsewhere": st.just(True)},
    breaks={"elsewhere": st.just(False)},
)
def performance_difference(seed: int, gamma: float, elsewhere: bool) -> Verdict:
    """V^π − V^π' = Σ_h E_{s~π'}⟨π − π', Q^π⟩, of states that the other policy visits; the visits,
    values, bonuses and estimates are those of sums over all episodes, and no policy costs less
    than the best.
    """
    layers = layers_of(seed, gamma)
    other = other_policy(layers, seed)
    second = layers._replace(policy=other)
    visits = (second if elsewhere else layers).visits().sum(axis=-1)
    gain = visits * ((layers.policy - other) * layers.q_values()).sum(axis=-1)
    best = layered_optimum(layers.moves, layers.losses)
    greedy = layers._replace(policy=np.asarray(best.policy))
    return worst(
        apart(layers.value() - second.value(), gain.sum(axis=(-2, -1))),
        apart(greedy.value(), best.value[:, 0, 0]),
        above(greedy.value(), layers.value()),
        *distances(layers, other, 0.3),
    )


@claim(
    "dilated",
    "identity",
    source="section on the dilated bonus; Luo, Wei and Lee 2021",
    stated="paper",
    tolerance=1e-10,
    given=EVERY | {"same_policy": st.just(True)},
    breaks={"same_policy": st.just(False)},
)
def dilated_bonus_is_a_sum_along_the_way(seed: int, gamma: float, same_policy: bool) -> Verdict:
    """The dilated bonus is b plus (1 + 1/H) times what follows under the policy that played; it is
    at most e times the sum without dilation.
    """
    layers = layers_of(seed, gamma)
    bonus = layers.bonus(0.1)
    follows = layers.policy if same_policy else other_policy(layers, seed)
    found = np.asarray(dilated_bonus(layers.moves, bonus, follows))
    stated = dilated_by_hand(layers, bonus, found)
    plain = layered_values(layers.moves, bonus, follows)
    return worst(apart(found, stated, relative=True), above(found, math.e * plain, relative=True))


@claim(
    "linear",
    "identity",
    source="section on the setting, linear action values",
    stated="paper",
    given={"seed": SEEDS, "linear": st.just(True)},
    breaks={"linear": st.just(False)},
)
def action_values_are_linear(seed: int, linear: bool) -> Verdict:
    """In a linear process the action values of every policy are linear in the features."""
    layers = layers_of(seed, 0.1, dim=2)
    if not linear:
        layers = rough_losses(layers, seed)
    rng = np.random.default_rng([seed, 3])
    policies = rng.dirichlet(np.ones(layers.policy.shape[-1]), (5, *layers.policy.shape[:-1]))
    missed = linear_q_residual(layers.moves, layers.losses, layers.process.features, policies)
    return apart(missed, 0.0)


@claim(
    "C10",
    "rate",
    source="main theorems",
    stated="chosen",
    tolerance=0.0,
    examples=1,
    given={"seed": SEEDS, "name": st.sampled_from([LOG_BARRIER, REDUCED]), "rate": st.none()},
    breaks={"rate": st.just(1e-9), "name": st.just(REDUCED)},
)
def regret_grows_slower_than_linearly(seed: int, name: str, rate: float | None) -> Verdict:
    """With γ = 1/K, β and η of order 1/√K the regret grows with an exponent below .92 from 100 to
    800 episodes, in the mean of eight worlds; without learning it grows linearly.
    """
    found = exponent(seed, (100, 800), name, rate)
    return outside(found, 0.3, 0.92, detail=f"exponent {found:.3f}")
