"""Training pairs of other distributions, finite samples, revisions, and quality under shift."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paper_repros.nash.srpo.figure import draw
from paper_repros.nash.srpo.fitted import (
    Fitted,
    fit_ipo,
    fit_srpo,
    in_one_context,
    loss_at,
    pairs_of,
)
from paper_repros.nash.srpo.shifted import (
    criteria_of_shift,
    learn_from_behaviours,
)
from prefsim.analysis import log_log_slope
from prefsim.backend import to_numpy
from prefsim.data.replicates import replicated_comparisons
from prefsim.divergences import total_variation
from prefsim.numerics import softmax
from prefsim.papers import Reproduction, Run, at_least, at_most, near
from prefsim.solvers import revision_chain, solve_self_improvement
from prefsim.solvers.closed_forms.self_improvement import (
    self_improvement_errors,
    self_improvement_value,
)
from prefsim.solvers.games.certificates import expected_preference
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game

BETA, REVISION_BETA = 0.4, 0.1
REVISIONS = 5
# Games, comparisons, how often so many are drawn, and games under shift.
FULL = (20, (1000, 3000, 10_000, 30_000, 100_000), 200, 60)
QUICK = (6, FULL[1][:-1], 50, 40)
SAMPLERS = {"A": np.array([0.6, 0.2, 0.2]), "B": np.array([0.2, 0.2, 0.6])}
CYCLIC_WINS = (0.535, 0.499, 0.458, 0.513, 0.503)


class Robustness(NamedTuple):
    """Total variations ``(games,)`` between solutions from two samplers.

    Attributes
    ----------
    ipo, srpo
        Of the two losses.
    error
        The larger one of SRPO from its closed form.
    left, variance
        The loss at the closed form from each sampler, and the variance of the labels that it should
        be: ``(2, games)``.
    identities, at_reference
        The largest error of the solution's identities at what was fitted, and of those errors at
        the reference from P(b ≻ a) − ½.
    value, stated_value
        What the generator pays when both fitted policies meet, and the value of the problem.
    """

    ipo: np.ndarray
    srpo: np.ndarray
    error: np.ndarray
    left: np.ndarray
    variance: np.ndarray
    identities: np.ndarray
    at_reference: np.ndarray
    value: np.ndarray
    stated_value: np.ndarray


def compare_samplers(n_games: int, rng: np.random.Generator) -> Robustness:
    """Train on pairs from two random distributions, in random games of eight responses."""
    games = to_numpy(PreferenceGame.random(8, seed=rng, batch_shape=(n_games,)).preference)
    reference = rng.dirichlet(np.ones(8), size=n_games)
    samplers = rng.dirichlet(np.ones(8), size=(2, n_games))
    both = np.broadcast_to(games, (2, *games.shape))
    pairs = pairs_of(both, samplers)
    behind = np.broadcast_to(reference, samplers.shape)
    srpo, ipo = fit_srpo(pairs, behind, beta=BETA), fit_ipo(pairs, behind, beta=BETA)
    exact = solve_self_improvement(games, reference, beta=BETA)
    solution = Fitted(
        np.broadcast_to(to_numpy(exact.generator), samplers.shape),
        np.broadcast_to(to_numpy(exact.improver), both.shape),
    )
    drafts = np.broadcast_to(reference[:, None], games.shape)
    behind_it = self_improvement_errors(games, reference, drafts, reference, beta=BETA)
    margins = np.swapaxes(games, -1, -2) - 0.5
    found = self_improvement_errors(both, srpo.generator, srpo.improver, behind, beta=BETA)
    drawn = samplers[..., :, None] * samplers[..., None, :]
    # Of the joint term's labels once and of the improver's twice, half of each.
    variance = 1.5 * np.sum(drawn * both * (1 - both), axis=(-2, -1))
    return Robustness(
        total_variation(*ipo),
        total_variation(*srpo.generator),
        total_variation(srpo.generator, exact.generator).max(axis=0),
        loss_at(solution, pairs, behind, beta=BETA),
        variance,
        np.array([np.abs(part).max() for part in found]),
        np.array([np.abs(part - margins).max() for part in behind_it]),
        self_improvement_value(both, srpo.generator, srpo.improver, behind, beta=BETA),
        np.broadcast_to(exact.value, (2, n_games)),
    )


class Samples(NamedTuple):
    """Mean total variations ``(K,)`` by sampler, after so many comparisons ``(K,)``.

    SRPO is measured from its solution, IPO from its own under sampler A.
    """

    sizes: tuple[int, ...]
    srpo: dict[str, np.ndarray]
    ipo: dict[str, np.ndarray]

    def slope(self, name: str) -> float:
        """Return that of SRPO's log-distance against log-size."""
        return float(log_log_slope(self.sizes, self.srpo[name]))


def learn_from_samples(
    sizes: tuple[int, ...], replicates: int, rng: np.random.Generator
) -> Samples:
    """Fit both losses to labelled comparisons of the textbook game."""
    game = textbook_game()
    exact = to_numpy(
        solve_self_improvement(game.preference, TEXTBOOK_REFERENCE, beta=BETA).generator
    )
    pairs = pairs_of(np.asarray(game.preference), SAMPLERS["A"])
    goal = fit_ipo(pairs, TEXTBOOK_REFERENCE, beta=BETA)
    reference = np.broadcast_to(TEXTBOOK_REFERENCE, (replicates, 3))
    found = Samples(
        sizes,
        {name: np.empty(len(sizes)) for name in SAMPLERS},
        {name: np.empty(len(sizes)) for name in SAMPLERS},
    )
    for name, sampler in SAMPLERS.items():
        policy = in_one_context(sampler)
        for i, size in enumerate(sizes):
            pairs = replicated_comparisons(
                game.to_bandit(), size, replicates, seed=rng, policy=policy, distinct=True
            )
            generators = fit_srpo(pairs, reference, beta=BETA).generator
            found.srpo[name][i] = total_variation(generators, exact).mean()
            policies = fit_ipo(pairs, reference, beta=BETA)
            found.ipo[name][i] = total_variation(policies, goal).mean()
    return found


class Chain(NamedTuple):
    """Win rates against the reference after 0, 1, … revisions, and that of IPO.

    The drafts are those of the reference, or of the generator.
    """

    from_reference: np.ndarray
    from_generator: np.ndarray
    ipo: float


def revise(game: PreferenceGame, reference: np.ndarray) -> Chain:
    """Follow revisions by the exact improver."""
    preference = to_numpy(game.preference)
    solution = solve_self_improvement(preference, reference, beta=REVISION_BETA)

    def wins(start: np.ndarray) -> np.ndarray:
        chain = revision_chain(start, solution.improver, revisions=REVISIONS)
        behind = np.broadcast_to(reference, chain.shape)
        return to_numpy(expected_preference(preference, chain, behind))

    ipo = fit_ipo(pairs_of(preference, reference), reference, beta=REVISION_BETA)
    return Chain(
        wins(reference),
        wins(to_numpy(solution.generator)),
        float(expected_preference(preference, ipo, reference)),
    )


def revise_transitive() -> Chain:
    """Follow revisions in a Bradley–Terry world whose reference prefers bad responses."""
    reward = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    return revise(PreferenceGame.from_reward(reward), softmax(-reward))


def revise_cyclic() -> Chain:
    """Follow revisions in the textbook game."""
    return revise(textbook_game(), TEXTBOOK_REFERENCE)


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    n_games, sizes, replicates, n_shifted = QUICK if run.quick else FULL
    stages = iter(run.progress(("games", "samples", "revisions", "shift"), "stages"))
    next(stages)
    robustness = compare_samplers(n_games, rng)
    next(stages)
    samples = learn_from_samples(sizes, replicates, rng)
    next(stages)
    chains = {"transitive": revise_transitive(), "cyclic": revise_cyclic()}
    next(stages)
    shifted = learn_from_behaviours(n_shifted, rng, beta=REVISION_BETA)
    next(stages, None)

    transitive, cyclic = chains["transitive"], chains["cyclic"]
    criteria = (
        at_most(
            "SRPO: total variation between solutions from two samplers",
            robustness.srpo,
            1e-6,
            stated="chosen",
            paper="independent of the behaviour policy",
        ),
        at_most(
            "SRPO: total variation from the closed form",
            robustness.error,
            1e-6,
            stated="chosen",
        ),
        near(
            "SRPO: its loss at the closed form over the variance of the labels",
            robustness.left / robustness.variance,
            1,
            within=1e-9,
            stated="derived",
        ),
        at_most(
            "SRPO: errors of the solution's identities, the improver's and the joint one",
            robustness.identities,
            1e-6,
            stated="derived",
        ),
        at_most(
            "the same at the reference, less P(b ≻ a) − ½",
            robustness.at_reference,
            1e-12,
            stated="derived",
        ),
        near(
            "SRPO: what the fitted generator pays the fitted improver, against the value",
            robustness.value,
            robustness.stated_value,
            within=1e-6,
            stated="derived",
        ),
        at_least(
            "IPO: mean total variation between solutions from two samplers",
            robustness.ipo.mean(),
            0.05,
            stated="chosen",
        ),
        near(
            "finite samples: slope of SRPO's error in log n, samplers A and B",
            [samples.slope(name) for name in SAMPLERS],
            -0.5,
            # Fewer sizes and replicates leave more noise.
            within=0.1 if run.quick else 0.05,
            stated="derived",
        ),
        at_least(
            "finite samples: IPO's distance from its solution under A, learnt from B",
            samples.ipo["B"][-1],
            0.1,
            stated="chosen",
        ),
        at_most(
            "finite samples: IPO's distance from its solution under A, learnt from A",
            samples.ipo["A"][-1],
            0.02,
            stated="chosen",
        ),
        at_least(
            "transitive: win rate of the first revision of the reference",
            transitive.from_reference[1],
            0.68,
            stated="derived",
        ),
        at_most(
            "transitive: range of the win rates of later revisions",
            np.ptp(transitive.from_reference[2:]),
            0.01,
            stated="derived",
        ),
        near(
            "transitive: win rates of SRPO's generator and of IPO",
            [transitive.from_generator[0], transitive.ipo],
            (0.7001, 0.6909),
            within=5e-4,
            stated="derived",
        ),
        near(
            "cyclic: win rates of the generator and its revisions, which oscillate",
            cyclic.from_generator[: len(CYCLIC_WINS)],
            CYCLIC_WINS,
            within=1e-3,
            stated="derived",
        ),
        *criteria_of_shift(shifted),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "game": i,
            "TV between samplers, IPO": float(robustness.ipo[i]),
            "TV between samplers, SRPO": float(robustness.srpo[i]),
            "SRPO from its closed form": float(robustness.error[i]),
        }
        for i in range(robustness.ipo.size)
    ]
    table += [
        {
            "comparisons": size,
            **{f"TV, srpo from {name}": float(samples.srpo[name][i]) for name in SAMPLERS},
            **{f"TV, ipo from {name}": float(samples.ipo[name][i]) for name in SAMPLERS},
        }
        for i, size in enumerate(sizes)
    ]
    table += [
        {
            "preferences": name,
            "revisions": k,
            "wins, from the reference": float(chain.from_reference[k]),
            "wins, from the generator": float(chain.from_generator[k]),
            "wins, IPO": chain.ipo,
        }
        for name, chain in chains.items()
        for k in range(REVISIONS + 1)
    ]
    table += [
        {
            "trained on a shifted behaviour": name,
            "wins against the reference": float(wins.mean()),
            "after the worst behaviour": shifted.worst_wins(name),
            "wins against the strongest response": shifted.mean_least(name),
        }
        for name, wins in shifted.wins.items()
    ]
    figure = draw(robustness, samples, chains, shifted)
    caption = (
        "Top left: total variation between the solutions from two samplers, game by game; lower"
        f" means that the data's source matters less. IPO's are {robustness.ipo.mean():.2f} apart"
        f" on average, SRPO's at most {robustness.srpo.max():.0e}. Top middle: distance from the"
        " solution under sampler A by the number of labels, lower is better; IPO from B stays away."
        " Bottom left"
        " and middle: win rate against the reference after revisions of a draft, higher is better;"
        f" in a cycle the drafts of the generator go from {cyclic.from_generator[0]:.3f} to"
        f" {cyclic.from_generator[2]:.3f} in two. Right: mean win rate in random games after"
        " training on one of several behaviours, a mark each: against the reference, and against"
        " the response that is strongest against the policy; higher is better."
    )
    cut = (
        f"{QUICK[0]} games and {QUICK[3]} of the shift rather than {FULL[0]} and {FULL[3]}, no"
        f" {FULL[1][-1]} comparisons, {QUICK[2]} repetitions rather than {FULL[2]}"
    )
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)
