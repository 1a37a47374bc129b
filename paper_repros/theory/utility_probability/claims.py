"""What maximum likelihood does to utilities, and what probabilities made of them decide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from paper_repros.theory.utility_probability.decoding import Ending
from paper_repros.theory.utility_probability.linear_scores import (
    Observed,
    drawn,
    likelihood_flow,
    nll,
    pair_losses,
    perceptron_updates,
)
from prefsim.analysis import (
    improvement_direction,
    map_decision,
    mbr_decision,
    noisy_token_accuracy,
    revealed_margin,
    sharpening_slope,
    utility_probability,
)
from prefsim.gradients import gradient
from prefsim.losses import ClassLogits, cross_entropy
from prefsim.numerics import log_softmax, softplus
from prefsim.papers import Verdict, above, apart, claim, falls, outside, worst
from prefsim.testing.bandits import tables

Y = 5
UTILITIES = tables((Y,), low=-5.0, high=5.0)
# Apart by a tenth or equal, so that no increasing function brings two together.
COARSE = UTILITIES.map(lambda utility: np.round(utility, 1))
TEMPERATURES = st.floats(0.3, 3.0)
UTILITY_AND_TEMPERATURE = {"utility": COARSE, "temperature": TEMPERATURES}
PLACES = st.integers(0, Y - 1)
SEEDS = st.integers(0, 10**6)
CANDIDATE = "derived here, of our own conversion"


def nll_of(utility: Any, chosen: int) -> Any:
    """Return the negative log-likelihood of a response under utilities ``(Y,)``."""
    place = torch.as_tensor(chosen) if isinstance(utility, torch.Tensor) else np.asarray(chosen)
    return cross_entropy(ClassLogits(utility, place))


# --- maximum likelihood is improvement of utility ---


@claim(
    "C1",
    "identity",
    source="abstract: the step of maximum likelihood is a utility-improvement step",
    stated="paper",
    given={
        "instance": st.integers(2, 8).flatmap(
            lambda y: st.tuples(tables((y, 3), low=-8.0, high=8.0), st.integers(0, y - 1))
        ),
        "theta": tables((3,), low=-2.0, high=2.0),
        "temperature": st.just(1.0) | TEMPERATURES,
        "head": st.just("softmax"),
    },
    breaks={"head": st.just("one against rest"), "temperature": st.just(1.0)},
)
def likelihood_improves_utility_over_the_models_choice(
    instance: tuple[np.ndarray, int], theta: np.ndarray, temperature: float, head: str
) -> Verdict:
    """In any parameters τ ∇log P_τ(y) = E_{y'~P_τ} ∇(U(y) − U(y')), the gradient of the
    log-likelihood at τ = 1.
    """
    mixing, chosen = instance

    def loss(parameters: torch.Tensor) -> torch.Tensor:
        utility = parameters.new_tensor(mixing) @ parameters.tanh()
        if head == "one against rest":
            return -(utility[chosen] - softplus(utility).sum())
        return temperature * nll_of(utility / temperature, chosen)

    utility = mixing @ np.tanh(theta)
    jacobian = mixing * (1 - np.tanh(theta) ** 2)
    lift = improvement_direction(utility, np.asarray(chosen), temperature)
    return apart(-gradient(loss, theta), lift @ jacobian, scale=1 + np.abs(mixing).max())


@claim(
    "C2",
    "inequality",
    source="derivation",
    stated="derived",
    given={
        "utility": st.integers(2, 8).flatmap(lambda y: tables((y,), low=-8.0, high=8.0)),
        "left_out": st.just(0),
    },
    breaks={"left_out": st.just(1)},
)
def likelihood_lies_between_two_losses_of_pairs(utility: np.ndarray, left_out: int) -> Verdict:
    """The negative log-likelihood is at least the Bradley–Terry loss of y against its hardest
    rival, which is log(1 + e^−margin), and at most the sum of those against all rivals.
    """
    pairs, loss = np.sort(pair_losses(utility, np.asarray(0))), nll_of(utility, 0)
    every = pairs[: pairs.size - left_out].sum()
    margin = revealed_margin(utility, np.asarray(0))
    return worst(
        apart(pairs[-1], softplus(-margin), relative=True),
        above(pairs[-1], loss, relative=True),
        above(loss, every, relative=True),
        detail=f"{pairs[-1]:.5g} <= {loss:.5g} <= {every:.5g}",
    )


# --- sharpening ---


@claim(
    "C3",
    "identity",
    source=CANDIDATE,
    stated="derived",
    given={
        "utility": tables((6,), low=-3.0, high=3.0),
        "quality": tables((6,), low=-3.0, high=3.0),
        "temperature": TEMPERATURES,
        "divided": st.just("utility"),
    },
    breaks={"divided": st.just("quality")},
    tolerance=1e-11,
)
def sharpening_pays_where_quality_and_utility_agree(
    utility: np.ndarray, quality: np.ndarray, temperature: float, divided: str
) -> Verdict:
    """The expected quality has the derivative −Cov(R, U)/τ² in the temperature, under P_τ."""

    def expected(tau: torch.Tensor) -> torch.Tensor:
        level, value = (tau.new_tensor(part) for part in (utility, quality))
        if divided == "quality":
            return utility_probability(level, 1.0) @ value / tau
        return utility_probability(level, tau) @ value

    slope = gradient(expected, np.array([temperature]))
    return apart(slope[0], sharpening_slope(utility, quality, temperature), relative=True)


@claim(
    "C4",
    "monotone",
    source=CANDIDATE,
    stated="derived",
    given={"utility": UTILITIES, "quality": st.none()},
    breaks={"quality": UTILITIES},
)
def sharpening_raises_the_expected_utility(utility: np.ndarray, quality: Any) -> Verdict:
    """The expected utility falls as the temperature grows."""
    probs = utility_probability(utility, np.geomspace(0.05, 20.0, 25))
    return falls(probs @ (utility if quality is None else quality))


@claim(
    "C5",
    "limit",
    source=CANDIDATE,
    stated="derived",
    given={
        "utility": COARSE,
        "mask": st.lists(st.booleans(), min_size=Y, max_size=Y).filter(any).map(np.asarray),
        "shrunk": st.just(1.0),
    },
    breaks={"shrunk": st.floats(1e-4, 3e-3)},
    tolerance=1e-5,
)
def cold_it_is_the_best_and_hot_it_is_uniform(
    utility: np.ndarray, mask: np.ndarray, shrunk: float
) -> Verdict:
    """Where utilities differ by .1 or more, P_τ at τ = 10⁻³ is uniform on the best candidates, and
    at τ = 10⁶ on all of them.
    """
    cold, hot = utility_probability(shrunk * utility, np.array([1e-3, 1e6]), mask)
    best = mask & (utility == utility[mask].max())
    return worst(apart(cold, best / best.sum()), apart(hot, mask / mask.sum()))


# --- the order comes first ---


@st.composite
def separable(draw: Any) -> Observed:
    """Draw inputs, few or many, with the labels that some linear scores rank first."""
    n, d = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    world = drawn([draw(SEEDS)])
    inputs = world.inputs[0, :n, :d]
    weights = np.random.default_rng(draw(SEEDS)).standard_normal((3, d))
    return Observed(inputs, (inputs @ weights.T).argmax(axis=-1))


@claim(
    "C6",
    "inequality",
    source="derivation; Novikoff",
    stated="derived",
    given={"world": separable(), "contradicted": st.just(False)},
    breaks={"contradicted": st.just(True)},
)
def a_perceptron_ranks_what_was_observed(world: Observed, contradicted: bool) -> Verdict:
    """Where linear scores can rank all observed labels first, improving utility over the best other
    label does so after at most max‖Δφ‖²/γ*² updates.
    """
    bound = float(world.perceptron_bound())
    seen = world
    if contradicted:
        again = np.append(world.labels, (world.labels[0] + 1) % 3)
        seen = Observed(np.append(world.inputs, world.inputs[:1], axis=0), again)
    updates = perceptron_updates(seen, limit=math.floor(bound) + 2)
    return above(updates, bound, relative=True, detail=f"{updates} updates, bound {bound:.4g}")


@claim(
    "C7",
    "limit",
    source="derivation; Soudry et al. 2018",
    stated="chosen",
    given={"seed": SEEDS, "noise": st.just(0.0)},
    breaks={"noise": st.just(0.2)},
    tolerance=0.0,
    examples=2,
)
def likelihood_grows_weights_for_ever_once_the_order_is_right(seed: int, noise: float) -> Verdict:
    """From time 5·10⁶ to 5·10⁷ the norm of the weights grows by .95 to 1.01 of ln 10/γ*, and the
    negative log-likelihood falls tenfold (exponent .98 to 1.01).
    """
    batch = drawn([seed])
    world = Observed(batch.inputs[0], batch.labels[0])
    flow = likelihood_flow(world, noise, duration=5e7)
    early, late = flow.at(5e6), flow.at(5e7)
    growth = np.linalg.norm(late) - np.linalg.norm(early)
    margin = float(world.largest_margin().margin)
    fall = np.log10(nll(world, early).mean() / nll(world, late).mean())
    return worst(
        outside(growth * margin / math.log(10), 0.95, 1.01),
        outside(fall, 0.98, 1.01),
        detail=f"γ* {margin:.4f}, ‖W‖ grows by {growth:.4f}, NLL falls by 10^{fall:.4f}",
    )


@claim(
    "C8",
    "invariance",
    source="derivation",
    stated="derived",
    given=UTILITY_AND_TEMPERATURE
    | {"chosen": PLACES, "shift": st.floats(-5.0, 5.0), "unit": st.floats(0.1, 10.0)},
    breaks={"shift": UTILITIES},
)
def only_differences_of_utility_count(
    utility: np.ndarray, chosen: int, shift: Any, unit: float, temperature: float
) -> Verdict:
    """A constant added to the utilities of one input changes neither P_τ nor the step of
    likelihood, and other units are another temperature: P_τ of aU + c is P_{τ/a} of U.
    """
    place, moved = np.asarray(chosen), unit * utility + shift
    scaled = temperature * unit
    return worst(
        apart(utility_probability(moved, scaled), utility_probability(utility, temperature)),
        apart(
            improvement_direction(moved, place, scaled),
            improvement_direction(utility, place, temperature),
        ),
    )


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cube": lambda u: u**3,
    "exponential": np.exp,
    "mostly flat": lambda u: np.arctan(5 * u),
    "reversed": lambda u: -u,
}


@claim(
    "C8-order",
    "invariance",
    source="abstract: an ordinal utility",
    stated="derived",
    given={
        "utility": COARSE,
        "chosen": PLACES,
        "function": st.sampled_from(["cube", "exponential", "mostly flat"]),
    },
    breaks={"function": st.just("reversed")},
)
def the_order_alone_says_what_is_preferred(
    utility: np.ndarray, chosen: int, function: str
) -> Verdict:
    """What was observed leads under U exactly if it leads under every increasing function of U, and
    the MAP is the same.
    """
    moved, place = FUNCTIONS[function](utility), np.asarray(chosen)
    before, after = (np.sign(revealed_margin(scores, place)) for scores in (utility, moved))
    choice = map_decision(utility).choice
    best = map_decision(moved)
    return worst(apart(after, before), apart(best.choice, choice), apart(best.value, moved[choice]))


@claim(
    "C9",
    "identity",
    source="derivation",
    stated="derived",
    given={
        "log_law": tables((2, Y), low=-3.0, high=3.0).map(log_softmax),
        "shift": st.floats(-5.0, 5.0),
        "shared": st.just(False),
    },
    breaks={"shared": st.just(True)},
)
def of_noisy_data_utilities_are_log_probabilities(
    log_law: np.ndarray, shift: float, shared: bool
) -> Verdict:
    """Where every response of an input may be observed, U = log P* + c minimises the negative
    log-likelihood, the inputs having utilities of their own.
    """
    start = log_law[:1] + shift if shared else log_law + shift

    def loss(utility: torch.Tensor) -> torch.Tensor:
        every = utility.expand(2, Y)[:, None].expand(2, Y, Y)
        labels = torch.arange(Y).expand(2, Y)
        return utility.new_tensor(np.exp(log_law)) * cross_entropy(ClassLogits(every, labels))

    return apart(gradient(loss, start), 0.0)


# --- decisions ---


@claim(
    "MBR",
    "identity",
    source="definition of the decision rules",
    stated="derived",
    given=UTILITY_AND_TEMPERATURE | {"similarity": st.just(np.eye(Y))},
    breaks={"similarity": tables((Y, Y), low=0.0, high=1.0)},
)
def the_map_is_a_decision_by_exact_match(
    utility: np.ndarray, temperature: float, similarity: np.ndarray
) -> Verdict:
    """Where only equal responses are similar, the MBR decision is the MAP at every temperature, and
    worth its probability.
    """
    probs = utility_probability(utility, temperature)
    found, best = mbr_decision(probs, similarity), map_decision(utility)
    # Of equal utilities rounding may choose.
    return worst(apart(utility[found.choice], best.value), apart(found.value, probs[best.choice]))


@claim(
    "C10",
    "identity",
    source=CANDIDATE,
    stated="derived",
    given={
        "noise": st.floats(0.01, 0.45),
        "temperature": TEMPERATURES,
        "length": st.integers(1, 4),
        "correlation": st.just(0.0),
    },
    breaks={"correlation": st.floats(0.3, 0.9), "length": st.integers(2, 4)},
)
def noise_in_every_token_spoils_sampled_outputs(
    noise: float, temperature: float, length: int, correlation: float
) -> Verdict:
    """With independent token noise an output drawn from P_τ is right with probability a_τ^L, over
    all V^L outputs, and the MAP is right.
    """
    wrong = np.array(list(itertools.product([0, 1, 2], repeat=length))) > 0
    each = np.where(wrong, noise / 2, 1 - noise).prod(axis=-1)
    count = wrong.sum(axis=-1)
    together = np.select([count == 0, count == length], [1 - noise, noise / 2**length], 0.0)
    law = (1 - correlation) * each + correlation * together
    utility = np.log(law)
    found = utility_probability(utility, temperature)[0]
    single = noisy_token_accuracy(noise, temperature, vocabulary_size=3)
    return worst(
        apart(found, single**length),
        apart(map_decision(utility).choice, 0),
        detail=f"{found:.6g}, of one token {float(single):.6g}",
    )


@claim(
    "C11",
    "counterexample",
    source="derivation",
    stated="derived",
    given={"words": st.integers(2, 8), "length": st.integers(2, 4), "share": st.floats(0, 1)},
    breaks={"share": st.floats(-1.0, -0.5)},
)
def the_most_likely_output_may_be_empty(words: int, length: int, share: float) -> Verdict:
    """Where ending at once is likelier than any full output, up to 1/(1 + words), the MAP is empty
    though most outputs are full; by log-probability per token it is full.
    """
    low, high = 1.05 / (1 + float(words) ** length), 1 / (1 + words)
    ending = Ending(low ** (1 - share) * high**share, words, length)
    log_probs = ending.log_probs()
    by_sum, by_token = (map_decision(ending.utility(power)) for power in (0.0, 1.0))
    return worst(
        apart(np.exp(log_probs).sum(), 1.0),
        apart(by_sum.choice, 0),
        apart(by_sum.value, log_probs[0]),
        above(1, by_token.choice),
        apart(by_token.value * (length + 1), log_probs[-1], relative=True),
        detail=f"{ending}: empty {log_probs[0]:.4f}, full {log_probs[-1]:.4f} nats",
    )
