"""Self-play by the policy gradient on gymnasium's cart and pole, against learned rewards.

Four families of raters compare trajectories. Two kinds of learner ask them equally often: rewards
of the one are win rates in queues of its own trajectories, those of the other come from a network
that is fitted to the answers. All else they share: networks, steps, trajectories of an iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.nash.spo_minimax.trajectories import (
    ANSWERS,
    FLIPPED,
    GROUPS,
    RETURN,
    SIDES,
    Behaviour,
    Raters,
)
from prefsim import losses
from prefsim.loops import queue_win_rates
from prefsim.numerics import log_softmax
from prefsim.papers import Criterion, Run, at_least, at_most, between
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE
from prefsim.policies import NetworkPolicy

if TYPE_CHECKING:
    from torch import Tensor

ENVIRONMENT, STEPS = "CartPole-v1", 200
# Networks see the pole's angle in tenths of a radian: it falls at two of them.
UNITS = np.array([1, 1, 0.1, 1], dtype=np.float32)
# A queue holds ten trajectories, all of the current policy; four of them make an iteration.
QUEUES, QUEUE = 4, 10
DRAWN = QUEUES * QUEUE
ASKED = QUEUES * QUEUE * (QUEUE - 1) // 2
RATE, REWARD_RATE = 0.005, 0.01
# The answers of this many iterations are remembered, and fitted in so many steps of each one.
REMEMBERED, FITTED = 10, 4
# The last policies, of which one is drawn at random.
LAST = 10
# Trajectories that are tried against a policy.
POOL = 2000
METHODS = ("SPO", "reward model")
STANDS = 0.9
ITERATIONS = {RETURN: 60, FLIPPED: 60, GROUPS: 100, SIDES: 200}


class Networks:
    """One network of 32 hidden units for each of L learners, trained by Adam, each for itself.

    Parameters
    ----------
    seeds
        One for each learner, of the first weights.
    inputs, outputs
        Numbers that go in and come out.
    rate
        Of Adam.
    """

    def __init__(self, seeds: Sequence[Any], inputs: int, outputs: int, rate: float) -> None:
        import torch

        nothing = np.zeros((1, inputs))
        modules = [NetworkPolicy.mlp(nothing, outputs, seed=s).module.float() for s in seeds]
        self.module = modules[0]
        self.parameters, _ = torch.func.stack_module_state(modules)
        self.optimiser = torch.optim.Adam(list(self.parameters.values()), lr=rate)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return ``(L, n, outputs)`` of ``(L, n, inputs)``."""
        import torch

        def one(parameters: dict[str, Tensor], rows: Tensor) -> Any:
            return torch.func.functional_call(self.module, parameters, (rows,))

        return torch.vmap(one)(self.parameters, inputs)

    def descend(self, value: Tensor) -> None:
        """Make a step down the sum of the learners' losses."""
        self.optimiser.zero_grad()
        value.backward()
        self.optimiser.step()


class Played(NamedTuple):
    """Trajectories of L learners, ``(L, STEPS, DRAWN)`` each.

    Attributes
    ----------
    states
        With the environment's four numbers as a last axis.
    actions
        0 or 1.
    alive
        Whether the episode goes on.
    """

    states: Tensor
    actions: Tensor
    alive: Tensor

    def of(self, learners: slice) -> Played:
        """Return the trajectories of some of the learners."""
        return Played(*(part[learners] for part in self))

    def seen(self) -> Behaviour:
        """Return what raters see of them, ``(L, QUEUES, QUEUE)``."""
        alive = self.alive.numpy()
        position, speed = np.moveaxis(self.states[..., :2].numpy(), -1, 0) * alive
        steps = alive.sum(axis=1)
        behaviour = Behaviour(
            steps / STEPS,
            position.sum(axis=1) / steps,
            np.abs(speed).sum(axis=1) / steps,
            np.minimum(position.max(axis=1), -position.min(axis=1)),
        )
        return Behaviour(*(in_queues(part) for part in behaviour))

    def log_probs(self, policies: Networks) -> Tensor:
        """Return the log-probabilities of what was done, ``(L, QUEUES, QUEUE)``."""
        table = log_softmax(policies(self.states.flatten(1, 2))).unflatten(1, self.alive.shape[1:])
        chosen = table.gather(-1, self.actions[..., None])[..., 0]
        return in_queues((chosen * self.alive).sum(1))

    def rewards(self, models: Networks) -> Tensor:
        """Return the sums of the rewards of states and actions, ``(L, QUEUES, QUEUE)``."""
        rewards = models(self.states.flatten(1, 2)).unflatten(1, self.alive.shape[1:])
        of_action = rewards.gather(-1, self.actions[..., None])[..., 0]
        # In tenths: what a new network says of 200 steps would be too sure.
        return in_queues((of_action * self.alive).sum(1)) / 10


def in_queues(part: Any) -> Any:
    """Return numbers ``(L, DRAWN)`` as ``(L, QUEUES, QUEUE)``."""
    return part.reshape(len(part), QUEUES, QUEUE)


def play(environment: Any, policies: Networks, rng: np.random.Generator) -> Played:
    """Let each learner act in its share of a vector of environments, up to STEPS or the fall."""
    import torch

    state, _ = environment.reset(seed=int(rng.integers(2**31)))
    shape = (len(state) // DRAWN, DRAWN)
    alive = np.ones(len(state), dtype=bool)
    states, actions, lived = [], [], []
    for _ in range(STEPS):
        here = torch.from_numpy(state / UNITS).reshape(*shape, -1)
        with torch.no_grad():
            second = log_softmax(policies(here))[..., 1].exp()
        action = torch.from_numpy(rng.random(shape)) < second
        states.append(here)
        actions.append(action.long())
        lived.append(torch.from_numpy(alive.copy()).reshape(shape))
        state, _, fell, _, _ = environment.step(actions[-1].flatten().numpy())
        # What the environment shows behind an end is of another episode, and is masked.
        alive &= ~fell
    return Played(*(torch.stack(part, dim=1) for part in (states, actions, lived)))


def fit_rewards(models: Networks, played: Played, answers: np.ndarray) -> None:
    """Make one step of the rewards towards the answers ``(L, QUEUES, QUEUE, QUEUE)``."""
    import torch

    first, second = np.triu_indices(QUEUE, 1)
    wins = torch.from_numpy(answers[..., first, second]) > 0.5
    rewards = played.rewards(models)
    one, other = rewards[..., first], rewards[..., second]
    pairs = losses.PairRewards(torch.where(wins, one, other), torch.where(wins, other, one))
    # The learners' losses are added: none of them sees another's.
    models.descend(losses.bradley_terry(pairs).mean((-2, -1)).sum())


class Learnt(NamedTuple):
    """How trajectories changed: behaviour ``(iterations, 2, learners, DRAWN)``, by method."""

    raters: Raters
    seen: Behaviour

    @property
    def comparisons(self) -> np.ndarray:
        """How often each learner had asked before each iteration."""
        return ASKED * np.arange(len(self.seen.upright))

    @property
    def n_learners(self) -> int:
        """Learners of each method."""
        return int(self.seen.upright.shape[2])

    def last(self, part: np.ndarray) -> np.ndarray:
        """Return the means ``(2, learners)`` over the trajectories of the last policies."""
        return np.asarray(part[-LAST:].mean(axis=(0, -1)))

    def asked_until(self, share: float) -> np.ndarray:
        """Return the comparisons ``(2, learners)`` until so many of the steps are stood."""
        stands = self.seen.upright.mean(axis=-1) >= share
        never = ASKED * len(stands)
        return np.where(stands.any(axis=0), self.comparisons[stands.argmax(axis=0)], never)

    def lasts_of(self, method: int, learner: int) -> Behaviour:
        """Return all trajectories of a learner's last policies."""
        return Behaviour(*(part[-LAST:, method, learner].ravel() for part in self.seen))

    def win_rates(self) -> np.ndarray:
        """Return how often SPO's last trajectories are preferred to the others', by learner."""
        return np.array(
            [
                self.raters.preference(self.lasts_of(0, i), self.lasts_of(1, i)).mean()
                for i in range(self.n_learners)
            ]
        )

    def exploitability(self) -> np.ndarray:
        """Return by how much over ½ the best of many trajectories beats the last ones.

        By method and learner, ``(2, learners)``. The many are of all learners; which is best is
        seen on other trajectories than those that it is measured on.
        """
        late = [part[len(part) // 2 :].ravel() for part in self.seen]
        pool = Behaviour(*(part[:: max(1, part.size // POOL)] for part in late))
        found = np.empty((2, self.n_learners))
        for place in np.ndindex(*found.shape):
            mine = self.lasts_of(*place)
            wins = self.raters.preference(pool, mine.at(slice(0, None, 2))).mean(axis=-1)
            best = pool.at(slice(wins.argmax(), wins.argmax() + 1))
            found[place] = self.raters.preference(best, mine.at(slice(1, None, 2))).mean() - 0.5
        return found


def learn(raters: Raters, n_learners: int, iterations: int, rng: np.random.Generator) -> Learnt:
    """Train so many learners of each method from the same networks."""
    import gymnasium
    import torch

    starts = rng.integers(2**31, size=n_learners).tolist()
    policies = Networks(starts * len(METHODS), 4, 2, RATE)
    models = Networks(starts, 4, 2, REWARD_RATE)
    spo, modelled = slice(n_learners), slice(n_learners, None)
    environment = gymnasium.make_vec(
        ENVIRONMENT,
        num_envs=len(METHODS) * n_learners * DRAWN,
        vectorization_mode="vector_entry_point",
        max_episode_steps=STEPS,
    )
    remembered: list[tuple[Played, np.ndarray]] = []
    history = []
    for _ in range(iterations):
        played = play(environment, policies, rng)
        seen = played.seen()
        history.append(seen)
        answers = raters.answers(seen, rng)
        remembered = [*remembered, (played.of(modelled), answers[modelled])][-REMEMBERED:]
        # The newest first, then what is remembered.
        fit_rewards(models, *remembered[-1])
        for place in rng.integers(len(remembered), size=FITTED - 1):
            fit_rewards(models, *remembered[place])
        wins = queue_win_rates(
            answers[spo], np.broadcast_to(np.arange(QUEUE), answers[spo].shape[:-1])
        )
        with torch.no_grad():
            rewards = played.of(modelled).rewards(models)
        scores = torch.cat([torch.from_numpy(wins).float(), rewards])
        logps = played.log_probs(policies)
        # Without a penalty the reference is nothing: the policy gradient, self excluded.
        lists = losses.ListLogps(logps, logps.detach(), scores)
        policies.descend(losses.copg_group(lists, beta=0.0, form="gradient").mean(-1).sum())
    environment.close()
    shape = (iterations, len(METHODS), n_learners, DRAWN)
    columns = (np.stack(parts).reshape(shape) for parts in zip(*history, strict=True))
    return Learnt(raters, Behaviour(*columns))


def learn_all(run: Run, n_learners: int) -> dict[str, Learnt]:
    """Train by the answers of each family of raters."""
    rng = np.random.default_rng((run.seed, n_learners))
    return {
        name: learn(ANSWERS[name], n_learners, iterations, rng)
        for name, iterations in run.progress(list(ITERATIONS.items()), "cart and pole")
    }


def criteria_of(learnt: dict[str, Learnt]) -> tuple[Criterion, ...]:
    """Return what is expected of the learners, whatever the seed."""
    easy = [learnt[RETURN], learnt[FLIPPED]]
    asked = [of.asked_until(STANDS) + ASKED for of in easy]
    groups, sides = learnt[GROUPS], learnt[SIDES]
    reach = sides.last(sides.seen.reach)
    return (
        at_least(
            "CartPole, SPO: share of steps upright in the end, without flips and with",
            [of.last(of.seen.upright)[0].mean() for of in easy],
            0.9,
            stated="chosen",
        ),
        between(
            f"CartPole: comparisons until {100 * STANDS:g} % are upright, SPO's over the reward"
            " model's, without flips and with",
            [np.exp(np.log(spo / model).mean()) for spo, model in asked],
            0.6,
            1.25,
            stated="chosen",
            paper="SPO needs no more than reward models",
        ),
        at_most(
            "CartPole, three groups: exploitability of SPO's last policies, mean; any single"
            " trajectory can be beaten by 1/6",
            groups.exploitability()[0].mean(),
            0.2,
            stated="chosen",
        ),
        at_least(
            "CartPole, three groups: how often SPO is preferred to the reward model, on average",
            groups.win_rates().mean(),
            0.5,
            stated="chosen",
            paper="SPO is at least as good as reward models",
        ),
        at_least(
            "CartPole, both sides: how often SPO is preferred to the reward model, on average",
            sides.win_rates().mean(),
            0.65,
            stated="chosen",
            paper="SPO copes with preferences that no reward of states has",
        ),
        at_least(
            "CartPole, both sides: reach of SPO over that of the reward model, mean of learners",
            reach[0].mean() / reach[1].mean(),
            2,
            stated="chosen",
        ),
    )


def rows_of(learnt: dict[str, Learnt]) -> list[dict[str, str | float | int]]:
    """Return what the table says: means over learners, and how often SPO is preferred."""
    rows: list[dict[str, str | float | int]] = []
    for name, of in learnt.items():
        row: dict[str, str | float | int] = {
            "family": name,
            "comparisons": int(ASKED * len(of.seen.upright)),
            "SPO preferred to the reward model": float(of.win_rates().mean()),
        }
        for i, method in enumerate(METHODS):
            row[f"{method}: upright"] = float(of.last(of.seen.upright)[i].mean())
            row[f"{method}: reach, m"] = float(of.last(of.seen.reach)[i].mean())
            row[f"{method}: comparisons until {100 * STANDS:g} % upright"] = float(
                of.asked_until(STANDS)[i].mean()
            )
            if name == GROUPS:
                row[f"{method}: exploitability"] = float(of.exploitability()[i].mean())
        rows.append(row)
    return rows


HUES = (BLUE, ORANGE, GREEN, PURPLE)


def draw_learnt(axes: Sequence[Any], learnt: dict[str, Learnt]) -> None:
    """Draw what is upright, and what was reached, against comparisons: two panels."""
    standing, reaching = axes
    for colour, (name, of) in zip(HUES, learnt.items(), strict=True):
        for style, (i, method) in zip(("-", "--"), enumerate(METHODS), strict=True):
            # The first learning is on an axis of logarithms, which has no zero.
            asked, label = of.comparisons + ASKED, f"{name.partition(': ')[2]}, {method}"
            if name == SIDES:
                each = of.seen.reach[:, i].mean(axis=-1)
                reaching.plot(asked, each, style, color=colour, alpha=0.25, lw=0.8)
                reaching.plot(asked, each.mean(axis=-1), style, color=colour, label=method)
            else:
                share = of.seen.upright[:, i].mean(axis=(-2, -1))
                standing.plot(asked, share, style, color=colour, label=label)
    standing.set(
        xscale="log",
        xlabel="comparisons asked",
        ylabel=f"share of {STEPS} steps upright",
        title="CartPole, by policy gradient: as fast as with learned rewards",
    )
    reaching.set(
        xlabel="comparisons asked",
        ylabel="reach to both sides, m",
        title="CartPole, raters who want both sides (thin: each learner)",
    )
