"""The experiments of ``srpo``: training data of other distributions, finite samples, revisions, and the figure."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons, Revisions
from prefsim.data.replicates import replicated_comparisons
from prefsim.numerics import softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, revision_chain, solve_self_improvement
from prefsim.solvers.games.certificates import expected_preference
from prefsim.worlds import ContextualBandit, PreferenceGame

Array = np.ndarray

GOLDEN = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
GOLDEN_REFERENCE = np.array([0.5, 0.3, 0.2])
BETA = 0.4
REVISION_BETA = 0.1
REVISIONS = 5


def total_variation(first: Array, second: Array) -> Array:
    """Return half the sum of absolute differences along the last axis."""
    return 0.5 * np.abs(first - second).sum(axis=-1)


def in_one_context(policy: Array) -> TabularPolicy:
    """Return the policies ``(..., n)`` in a world of one context."""
    return TabularPolicy.from_probs(np.asarray(policy)[..., None, :])


def pairs_of(preference: Array, sampler: Array) -> Comparisons:
    """Return every pair of two independent draws of ``sampler`` ``(..., n)``, with its preference."""
    return Comparisons.population(
        ContextualBandit(preference=preference[..., None, :, :]), in_one_context(sampler)
    )


def fit_srpo(
    pairs: Comparisons,
    reference: Array,
    *,
    beta: float,
    start: Array | None = None,
    alpha: float = 0.5,
) -> tuple[Array, Array]:
    """Return generator ``(..., n)`` and improver ``(..., n, n)`` that minimise the offline loss; from the reference or ``start``."""
    data = Revisions(pairs, n_contexts=1, n_responses=reference.shape[-1])
    behind = data.joint_policy(reference[..., None, :])
    first = behind if start is None else data.joint_policy(start[..., None, :])
    found = fit(
        first, functools.partial(losses.srpo, beta=beta, alpha=alpha), data, reference=behind
    )
    generator, improver = data.split(found.policy)
    return to_numpy(generator)[..., 0, :], to_numpy(improver)[..., 0, :, :]


def fit_ipo(pairs: Comparisons, reference: Array, *, beta: float) -> Array:
    """Return the policies ``(..., n)`` that minimise IPO's loss."""
    policy = in_one_context(reference)
    return to_numpy(
        fit(policy, functools.partial(losses.ipo, tau=beta), pairs, reference=policy).policy.probs
    )[..., 0, :]


class Robustness(NamedTuple):
    """Distances, one for each game: between what two data distributions teach, and of SRPO from its closed form."""

    ipo: Array
    srpo: Array
    error: Array


def compare_data(n_games: int, rng: np.random.Generator) -> Robustness:
    """Train on pairs from two random distributions, in random games of eight responses."""
    games = to_numpy(PreferenceGame.random(8, seed=rng, batch_shape=(n_games,)).preference)
    reference = rng.dirichlet(np.ones(8), size=n_games)
    samplers = rng.dirichlet(np.ones(8), size=(2, n_games))
    pairs = pairs_of(np.broadcast_to(games, (2, *games.shape)), samplers)
    behind = np.broadcast_to(reference, samplers.shape)
    srpo, ipo = fit_srpo(pairs, behind, beta=BETA)[0], fit_ipo(pairs, behind, beta=BETA)
    exact = solve_self_improvement(games, reference, beta=BETA).generator
    return Robustness(
        total_variation(*ipo), total_variation(*srpo), total_variation(srpo, exact).max(axis=0)
    )


class Samples(NamedTuple):
    """Mean distances ``(K,)`` from the population's SRPO solution after n comparisons from one of two samplers, with their slopes."""

    sizes: tuple[int, ...]
    srpo: dict[str, Array]
    ipo: dict[str, Array]

    def slope(self, name: str) -> float:
        """Of log-distance against log-size, SRPO."""
        return float(np.polyfit(np.log(self.sizes), np.log(self.srpo[name]), 1)[0])


SAMPLERS = {"A": np.array([0.6, 0.2, 0.2]), "B": np.array([0.2, 0.2, 0.6])}


def learn_from_samples(
    sizes: tuple[int, ...], replicates: int, rng: np.random.Generator
) -> Samples:
    """Fit both losses to labelled comparisons of the golden game; IPO is measured against its own solution under sampler A."""
    world = ContextualBandit(preference=GOLDEN[None])
    exact = solve_self_improvement(GOLDEN, GOLDEN_REFERENCE, beta=BETA).generator
    goal = fit_ipo(pairs_of(GOLDEN, SAMPLERS["A"]), GOLDEN_REFERENCE, beta=BETA)
    reference = np.broadcast_to(GOLDEN_REFERENCE, (replicates, 3))
    srpo: dict[str, list[float]] = {name: [] for name in SAMPLERS}
    ipo: dict[str, list[float]] = {name: [] for name in SAMPLERS}
    for name, sampler in SAMPLERS.items():
        for size in sizes:
            pairs = replicated_comparisons(
                world, size, replicates, seed=rng, policy=in_one_context(sampler)
            )
            srpo[name].append(
                total_variation(fit_srpo(pairs, reference, beta=BETA)[0], exact).mean()
            )
            ipo[name].append(total_variation(fit_ipo(pairs, reference, beta=BETA), goal).mean())
    return Samples(
        sizes, {k: np.array(v) for k, v in srpo.items()}, {k: np.array(v) for k, v in ipo.items()}
    )


class Chain(NamedTuple):
    """Win rates against the reference: of the chain of revisions that starts there, of the generator and its revisions, and of IPO."""

    from_reference: Array
    from_generator: Array
    ipo: float


def revise(preference: Array, reference: Array, *, beta: float) -> Chain:
    solution = solve_self_improvement(preference, reference, beta=beta)

    def wins(start: Array) -> Array:
        chain = revision_chain(start, solution.improver, revisions=REVISIONS)
        return expected_preference(preference, chain, np.broadcast_to(reference, chain.shape))

    ipo = fit_ipo(pairs_of(preference, reference), reference, beta=beta)
    return Chain(
        wins(reference),
        wins(solution.generator),
        float(expected_preference(preference, ipo, reference)),
    )


def transitive_world() -> tuple[Array, Array]:
    """Return preferences and reference of the Bradley–Terry world whose reference prefers bad responses."""
    reward = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    return to_numpy(PreferenceGame.from_reward(reward).preference), softmax(-reward)


def draw(robustness: Robustness, samples: Samples, transitive: Chain, cyclic: Chain) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    (top_left, top_right), (low_left, low_right) = figure.subplots(2, 2)
    order = np.argsort(robustness.ipo)
    rank = np.arange(1, order.size + 1)
    top_left.plot(rank, robustness.ipo[order], "C3s", label="IPO")
    top_left.plot(rank, np.maximum(robustness.srpo[order], 1e-17), "C0o", label="SRPO (generator)")
    top_left.set(
        yscale="log",
        ylim=(3e-18, 1),
        xlabel="game, ordered by IPO's distance",
        ylabel="total variation between two solutions",
    )
    top_left.set_xticks(rank)
    top_left.set_title("trained on all pairs from two different samplers")
    top_left.legend(loc="center right")

    for (name, line), colour in zip(samples.srpo.items(), ("C0", "C9"), strict=True):
        top_right.plot(
            samples.sizes,
            line,
            "o-",
            color=colour,
            label=f"SRPO, sampler {name}: slope {samples.slope(name):.2f}",
        )
    for (name, line), colour in zip(samples.ipo.items(), ("C1", "C3"), strict=True):
        top_right.plot(samples.sizes, line, "s--", color=colour, label=f"IPO, sampler {name}")
    top_right.set(xscale="log", yscale="log", xlabel="labelled comparisons", ylim=(4e-4, 0.5))
    top_right.set_ylabel("mean total variation from the solution under A")
    top_right.set_title("trained on finite data of one cyclic game")
    top_right.legend(fontsize=8, loc="center right")

    rounds = np.arange(REVISIONS + 1)
    for axes, chain, title in (
        (low_left, transitive, "transitive (Bradley–Terry) preferences: one revision is enough"),
        (low_right, cyclic, "cyclic preferences: each revision chases the last draft"),
    ):
        axes.plot(
            rounds, chain.from_reference, "C0o-", label="revisions of drafts of the reference"
        )
        axes.plot(
            rounds, chain.from_generator, "C2^-", label="revisions of drafts of SRPO's generator"
        )
        axes.axhline(chain.ipo, color="C3", ls="--", label="IPO, no revision")
        axes.axhline(0.5, color="grey", lw=0.8)
        axes.set(
            xlabel="number of revisions", ylabel="win rate against the reference", xticks=rounds
        )
        axes.set_title(title)
        axes.legend(fontsize=8, loc="center right" if chain is transitive else "upper right")
    low_right.set_ylim(top=0.56)
    for axes in (top_left, top_right, low_left, low_right):
        axes.grid(alpha=0.3)
    figure.suptitle("SRPO's solution does not depend on who drew the training pairs; IPO's does")
    return figure
