"""Play with the loss of online IPO: on enumerated pairs, and in the authors' sampled settings.

The sampled settings are the authors' algorithms from 100 triples a game, of tables and networks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from paper_repros.nash.egpo.algorithms import Setting
from paper_repros.nash.egpo.noise import one_gradient_step
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.drawn import judged_triples
from prefsim.gradients import gradient
from prefsim.loops.rounds import Draw, play_rounds
from prefsim.policies import InMemoryPolicy, NetworkPolicy, TabularPolicy
from prefsim.solvers import objective
from prefsim.solvers.games.certificates import geometric_mixture, regularised_gap
from prefsim.testing.games import Play, random_games
from prefsim.worlds.bandit import ContextualBandit
from prefsim.worlds.game import PreferenceGame

TRIPLES = 100
SAMPLED = ("EGPO", "online IPO 1", "online IPO 2", "Nash-MD")

# The authors take 100 000 updates of rate 2e-4, and of networks 20 000 of .001. A tenth of the
# updates at ten times the rate go as far, with ten times the noise.
TABULAR = Setting(0.01, 10_000, 2e-3)
NEURAL = Setting(0.1, 2000, 0.01)


# --- enumerated pairs ---


def as_policy(probs: np.ndarray) -> TabularPolicy:
    """Return a policy ``(n,)`` as one of a single prompt."""
    return TabularPolicy.from_probs(probs[None])


def against(play: Play, opponent: np.ndarray, sampler: np.ndarray) -> Comparisons:
    """Enumerate the pairs of a sampler, with their expected wins against the opponent."""
    # The loss is the same for both orders of a pair.
    pairs = Comparisons.population(play.world(), as_policy(sampler)).relabelled(1.0)
    return Comparisons.self_play(play.world(), as_policy(opponent), pairs=pairs)


def against_each_other(play: Play, policy: np.ndarray) -> Comparisons:
    """Enumerate pairs of a policy's responses, each the opponent of the other: online IPO 2."""
    pairs = Comparisons.population(play.world(), as_policy(policy))
    return Comparisons(
        pairs.prompt,
        pairs.chosen,
        pairs.rejected,
        1.0,
        pairs.weight,
        chosen_score=pairs.prob,
        rejected_score=np.full(len(pairs), 0.5),
    )


def online_ipo(play: Play) -> Callable[..., Any]:
    """Return the loss with the penalty of a play."""
    return functools.partial(losses.online_ipo, tau=play.tau)


def value(play: Play, policy: np.ndarray, data: Comparisons) -> float:
    """Return online IPO's loss of a policy."""
    reference = as_policy(play.reference)
    return float(objective(as_policy(policy), online_ipo(play), data, reference=reference))


def slope(play: Play, policy: np.ndarray, data: Comparisons) -> np.ndarray:
    """Return the gradient of online IPO's loss in the logits, ``(n,)``."""
    reference = as_policy(play.reference)
    return gradient(
        lambda logits: objective(
            TabularPolicy(logits), online_ipo(play), data, reference=reference
        ),
        np.log(policy)[None],
    )[0]


Sampler = Callable[[np.ndarray], np.ndarray]
"""What draws the pairs of a playing policy: the policy in, a policy out."""


def round_with_a_trial(play: Play, size: float, sampler: Sampler) -> np.ndarray:
    """Return the policy ``(n,)`` after a round of two gradient steps of a size."""

    def drawn(policy: Any, opponent: Any, rng: np.random.Generator) -> Comparisons:
        playing, other = (to_numpy(each.probs)[0] for each in (policy, opponent))
        return against(play, other, sampler(playing))

    (made,) = play_rounds(
        as_policy(play.policy),
        drawn,
        online_ipo(play),
        rounds=1,
        seed=0,
        reference=as_policy(play.reference),
        extragradient=True,
        train=one_gradient_step(size),
    )
    return np.asarray(made.policy.probs[0])


# --- the authors' settings ---


def draw_for(
    algorithm: str, world: ContextualBandit, reference: InMemoryPolicy, weight: float
) -> Draw:
    """Return what draws the data of one of :data:`SAMPLED` in games, one a context.

    Nash-MD mixes so much of the reference into its opponent.
    """

    def draw(policy: Any, opponent: Any, rng: np.random.Generator) -> Comparisons:
        n = TRIPLES * world.n_contexts
        if algorithm == "online IPO 2":
            return pairs_against_each_other(world, policy, n, rng)
        if algorithm == "Nash-MD":
            logs, other = (to_numpy(each.log_probs) for each in (opponent, reference))
            opponent = TabularPolicy(geometric_mixture(logs, other, weight=weight))
        return judged_triples(world, opponent, n, seed=rng)

    return draw


def pairs_against_each_other(
    world: ContextualBandit, policy: InMemoryPolicy, n: int, rng: np.random.Generator
) -> Comparisons:
    """Draw pairs of the policy's responses, each the opponent of the other."""
    prompt = rng.integers(world.n_contexts, size=n)
    pair = to_numpy(policy.sample(prompt, 2, rng))
    wins = to_numpy(world.preference)[prompt, pair[:, 0], pair[:, 1]]
    even = np.full(n, 0.5)
    return Comparisons(prompt, pair[:, 0], pair[:, 1], chosen_score=wins, rejected_score=even)


def played(
    algorithm: str,
    games: np.ndarray,
    start: InMemoryPolicy,
    reference: InMemoryPolicy,
    setting: Setting,
    *,
    seed: int,
) -> Iterator[np.ndarray]:
    """Yield the policies ``(games, n)`` after each update of an algorithm."""
    n_games, n = games.shape[:2]
    weight = setting.mirror_step(n) * setting.beta
    rounds = play_rounds(
        start,
        draw_for(algorithm, PreferenceGame(games).to_bandit(), reference, weight),
        functools.partial(losses.online_ipo, tau=setting.beta),
        rounds=setting.iterations,
        seed=seed,
        reference=reference,
        extragradient=algorithm == "EGPO",
        # The loss is the mean over the games.
        train=one_gradient_step(n_games * setting.rate),
    )
    for one_round in rounds:
        yield to_numpy(one_round.policy.probs)


def gaps_of_tables(
    algorithm: str, games: np.ndarray, references: np.ndarray, *, seed: int, record: int
) -> np.ndarray:
    """Return regularised gaps ``(K, games)``, every ``record`` updates from the references."""
    reference = TabularPolicy.from_probs(references)
    path = played(algorithm, games, reference, reference, TABULAR, seed=seed)
    return np.stack(
        [
            regularised_gap(games, policy, reference=references, tau=TABULAR.beta)
            for t, policy in enumerate(path, start=1)
            if t % record == 0
        ]
    )


def network(n: int, seed: int) -> NetworkPolicy:
    """Return a ReLU network of width 10 with a learned input and ``n`` responses."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = torch.nn.Sequential(
            # Of the constant one: what it gives is the learned input.
            torch.nn.Linear(1, 10, bias=False, dtype=torch.float64),
            torch.nn.Linear(10, 10, dtype=torch.float64),
            torch.nn.ReLU(),
            torch.nn.Linear(10, 10, dtype=torch.float64),
            torch.nn.ReLU(),
            torch.nn.Linear(10, n, dtype=torch.float64),
        )
    return NetworkPolicy.from_module(module, np.ones((1, 1)))


def gaps_of_a_network(algorithm: str, *, seed: int, record: int, n: int = 100) -> np.ndarray:
    """Return regularised gaps ``(K,)`` in a random game of ``n`` responses.

    The first is that of the start, which is the reference.
    """
    games, start = random_games(1, n, seed=seed), network(n, seed)
    reference = to_numpy(start.probs)
    path = played(algorithm, games, start, start, NEURAL, seed=seed)
    policies = [reference] + [p for t, p in enumerate(path, start=1) if t % record == 0]
    return np.concatenate(
        [regularised_gap(games, p, reference=reference, tau=NEURAL.beta) for p in policies]
    )
