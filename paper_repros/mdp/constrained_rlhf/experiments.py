"""What the reproduction measures: exact optima, drawn worlds, trainings, and searches.

Trainings are natural policy gradients on a table: every policy of a batch has a number for each
response, and a step adds the advantage of each response to it. Multipliers are learned along, as
the release does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paper_repros.mdp.constrained_rlhf.overoptimised import (
    MIXINGS,
    World,
    constrained,
    point_of,
    searched,
    unconstrained_gold,
)
from prefsim.analysis.proxy_points import ProxyPoint
from prefsim.losses.multipliers import (
    Multipliers,
    mixed_advantage,
    mixture_weights,
    multiplier_step,
    saturated,
)
from prefsim.numerics import log_softmax
from prefsim.solvers.closed_forms.constrained import constrained_dual
from prefsim.solvers.closed_forms.regularised import gibbs_log_policy
from prefsim.solvers.closed_forms.separation import separating_direction
from prefsim.solvers.threshold_search import ThresholdSearch, search_thresholds

SCALES = (0.9, 1.1)  # of the thresholds, in the paper's ablation
DRAWS = 256  # responses of which the multipliers see the mean reward
FAR_APART = (3.0, 0.5)  # multipliers that no squash has at β = 1
NAMES = ("fixed weights", "PPO-SAT", "All-PPO", "μ-PPO", "ξ-PPO", "ξ-PPO × 0.9", "ξ-PPO × 1.1")
BEYOND = 3.0  # times the proxy point, where no policy is
BETA = 0.2  # the release's coefficient of the penalty
STEP = 0.1  # of the logits
SPREAD = 0.01  # of the multipliers at first
WITHIN = 0.05  # how near to its threshold, as a share of it, ends a trial of the one training


# --- training ---


class Training(NamedTuple):
    """Policies as they are, and their multipliers.

    Attributes
    ----------
    log_policy
        ``(B, Y)``, nats.
    multipliers
        Of ``(B, 2)``.
    """

    log_policy: np.ndarray
    multipliers: Multipliers


class Learned(NamedTuple):
    """What a training passed through, every few steps.

    Attributes
    ----------
    steps
        ``(T,)``.
    achieved, raw
        Expected rewards and multipliers before the squash, ``(T, B, 2)``.
    gold
        ``(T, B)``.
    end
        The policies and multipliers at the end.
    """

    steps: np.ndarray
    achieved: np.ndarray
    raw: np.ndarray
    gold: np.ndarray
    end: Training


def beginning(world: World, batch: int, rng: np.random.Generator) -> Training:
    """Return policies that are the reference, and multipliers near zero, shared by both rewards."""
    raw = np.repeat(SPREAD * rng.standard_normal((batch, 1)), 2, axis=1)
    log_policy = np.repeat(world.log_reference, batch, axis=0)
    return Training(log_policy, Multipliers.starting(raw))


def train(
    world: World,
    thresholds: Any,
    start: Training,
    *,
    kind: str,
    steps: int,
    every: int = 10,
    beta: float = BETA,
    normalise: bool = False,
    fixed: bool = False,
    draws: int | None = None,
    rng: np.random.Generator | None = None,
) -> Learned:
    """Return what policies of worlds ``(B,)`` become, one for each row of thresholds ``(B, 2)``.

    Parameters
    ----------
    kind
        Of the multipliers, see :func:`prefsim.losses.multipliers.mixture_weights`.
    normalise
        Whether advantages are brought to a standard deviation of one under the policy.
    fixed
        Whether the multipliers stay as they are.
    draws
        Responses drawn for the expected rewards that the multipliers see; exact unless given.
    """
    rewards, gold = world.rewards[..., 0, :], world.gold[..., 0, :]
    rewards = np.broadcast_to(rewards, (len(thresholds), *rewards.shape[-2:]))
    reference = world.log_reference
    log_policy, multipliers = start
    seen: list[tuple[Any, Any, Any]] = []
    for step in range(steps + 1):
        policy = np.exp(log_policy)
        achieved = np.sum(policy[:, None] * rewards, axis=-1)
        if step % every == 0:
            seen.append((achieved, multipliers.raw, np.sum(policy * gold, axis=-1)))
        if step == steps:
            break
        paid = -beta * (log_policy - reference)
        each = np.concatenate([paid[:, None], rewards], axis=1)
        advantages = each - np.sum(policy[:, None] * each, axis=-1, keepdims=True)
        if normalise:
            variance = np.sum(policy[:, None] * advantages**2, axis=-1, keepdims=True)
            advantages = advantages / (np.sqrt(variance) + 1e-8)
        mixed = mixed_advantage(
            advantages[:, 0], advantages[:, 1:], multipliers.raw, kind=kind, normalise=False
        )
        log_policy = log_softmax(log_policy + STEP * mixed)
        if not fixed:
            estimate = achieved if draws is None else drawn_rewards(policy, rewards, draws, rng)
            multipliers = multiplier_step(multipliers, estimate, thresholds, kind=kind)
    rewards_seen, raw, golds = (np.stack(column) for column in zip(*seen, strict=True))
    end = Training(log_policy, multipliers)
    return Learned(np.arange(len(seen)) * every, rewards_seen, raw, golds, end)


def drawn_rewards(
    policy: np.ndarray, rewards: np.ndarray, draws: int, rng: np.random.Generator | None
) -> np.ndarray:
    """Return mean rewards ``(B, 2)`` of responses drawn from policies ``(B, Y)``."""
    assert rng is not None
    # Rounding of the sum is no probability.
    counts = rng.multinomial(draws, policy / policy.sum(axis=-1, keepdims=True))
    return np.einsum("by,biy->bi", counts, rewards) / draws


class OneTraining(NamedTuple):
    """Thresholds that were searched for within one training, its steps, and the gold at its end."""

    found: ThresholdSearch
    steps: int
    gold: float


def search_while_training(
    world: World, start: np.ndarray, longest: int, rng: np.random.Generator, **options: Any
) -> OneTraining:
    """Return what a simplex search finds whose trials go on from the policy of the one before.

    A trial trains until both rewards are near their thresholds, or for the longest that it may.
    """
    state = beginning(world, 1, rng)
    used = 0

    def score(thresholds: np.ndarray) -> float:
        nonlocal state, used
        gold = -np.inf
        for _ in range(longest // 10):
            run = train(world, thresholds[None], state, kind="tanh", steps=10)
            state, used = run.end, used + 10
            gold = float(run.gold[-1, 0])
            if (np.abs(run.achieved[-1, 0] - thresholds) <= WITHIN * np.abs(thresholds)).all():
                break
        return gold

    found = search_thresholds(score, start, **options)
    return OneTraining(found, used, float(world.gold_of(state.log_policy)))


# --- what is measured ---


class Exact(NamedTuple):
    """Optima of worlds ``(W,)``.

    Attributes
    ----------
    joint, first, second
        The proxy points of both rewards and of each alone.
    gold
        Of each method in NAMES, ``(W,)``.
    individually
        Of ξ-PPO at the proxy points of each reward alone, ``(W,)``, NaN where out of reach.
    excess
        Largest reward of All-PPO beyond its threshold.
    gap
        Largest difference of the dual at ξ-PPO's multipliers from what its policy is worth, and of
        the dual's gradient from zero.
    margin_error
        Largest difference of the margin of thresholds out of reach from that of its direction.
    ceiling_error
        Largest difference of the best saturated reward from its threshold.
    """

    joint: ProxyPoint
    first: ProxyPoint
    second: ProxyPoint
    gold: dict[str, np.ndarray]
    individually: np.ndarray
    excess: float
    gap: float
    margin_error: float
    ceiling_error: float


def solve(world: World) -> Exact:
    """Return the optima of worlds at β = 1."""
    joint, first, second = (
        point_of(world, along) for along in ((0.5, 0.5), (1.0, 0.0), (0.0, 1.0))
    )
    at = joint.achieved
    equal = constrained(world, at, sense="equal")
    # Weights so large that without constraints rewards are optimised too far.
    up_to = constrained(world, at, sense="at_most", weights=np.ones(2), beta=1 / 3)
    optima = {
        "All-PPO": up_to,
        "μ-PPO": constrained(world, at),
        "ξ-PPO": equal,
        **{f"ξ-PPO × {scale}": constrained(world, scale * at, sense="equal") for scale in SCALES},
    }
    gold = {
        "fixed weights": unconstrained_gold(world),
        "PPO-SAT": unconstrained_gold(world, thresholds=at),
        **{name: world.gold_of(found.log_policy) for name, found in optima.items()},
    }
    alone = np.stack([first.achieved[..., 0], second.achieved[..., 1]], axis=-1)
    each = constrained(world, alone, sense="equal", infeasible="report")
    tables = world.rewards, world.log_reference
    dual = constrained_dual(equal.multipliers, *tables, at, beta=1.0, sense="equal")
    apart = separating_direction(*tables, BEYOND * at)
    farthest = np.einsum("...i,...ixy->...xy", apart.direction, world.rewards).max(axis=(-2, -1))
    largest = np.abs(apart.direction).max(axis=-1)
    capped = saturated(world.rewards, at[..., None, None])
    short = BEYOND * np.sum(apart.direction * at, axis=-1) - farthest
    return Exact(
        joint,
        first,
        second,
        gold,
        world.gold_of(each.log_policy),
        float((up_to.achieved - at).max()),
        float(max(np.abs(dual.value - equal.value).max(), np.abs(dual.gradient).max())),
        float(np.abs(np.stack([apart.margin - short, largest - 1])).max()),
        float(np.abs(capped.max(axis=(-2, -1)) - at).max()),
    )


class DrawnWorlds(NamedTuple):
    """Gold less that of the joint proxy point in drawn worlds ``(W,)``, of some methods."""

    change: dict[str, np.ndarray]


def solve_drawn(n: int, rng: np.random.Generator) -> DrawnWorlds:
    """Return what methods gain over the joint proxy point of drawn worlds."""
    world = World.draw(n, rng)
    joint = point_of(world, steps=241)
    found = {
        f"ξ-PPO × {scale}": world.gold_of(
            constrained(world, scale * joint.achieved, sense="equal").log_policy
        )
        for scale in SCALES
    }
    found["fixed weights"] = unconstrained_gold(world)
    found["PPO-SAT"] = unconstrained_gold(world, thresholds=joint.achieved)
    return DrawnWorlds({name: gold - joint.gold for name, gold in found.items()})


class Trained(NamedTuple):
    """Trainings of S seeds in each textbook world, by name, with their thresholds ``(B, 2)``.

    ``ratio_error`` is how far weights learned with exact rewards are from the dual's multipliers,
    and from a sum of two; ``first_step_error`` how far the first step with fixed weights is from
    the natural gradient's.
    """

    seeds: int
    thresholds: np.ndarray
    gold: np.ndarray
    runs: dict[str, Learned]
    ratio_error: float
    first_step_error: float

    def by_world(self, values: np.ndarray) -> np.ndarray:
        """Return numbers ``(..., B)`` as ``(..., W, S)``."""
        return values.reshape(*values.shape[:-1], -1, self.seeds)

    def late_gold(self, name: str, part: float = 1.0) -> np.ndarray:
        """Return the mean gold of seeds after a part of the training, over a twentieth of it."""
        run = self.runs[name]
        end = int(part * (len(run.steps) - 1)) + 1
        return self.by_world(run.gold[end - len(run.steps) // 20 : end]).mean(axis=(0, -1))

    def swing(self, name: str) -> np.ndarray:
        """Return how far the first reward still moves in the last third, the least of seeds."""
        rewards = self.runs[name].achieved[..., 0]
        late = rewards[2 * len(rewards) // 3 :]
        return self.by_world(np.ptp(late, axis=0)).min(axis=-1)


def learn(joint: ProxyPoint, seeds: int, steps: int, rng: np.random.Generator) -> Trained:
    """Return trainings at the joint proxy points, three times as long as they need."""
    world = World.of(np.repeat(MIXINGS, seeds))
    thresholds = np.repeat(joint.achieved, seeds, axis=0)
    start = beginning(world, len(thresholds), rng)
    # Both sigmoids are one half: fixed weights, as a sum of rewards has.
    halves = start._replace(multipliers=start.multipliers._replace(raw=0 * thresholds))

    def run(kind: str, **options: object) -> Learned:
        given = {"steps": 3 * steps} | options
        return train(world, thresholds, start, kind=kind, **given)  # type: ignore[arg-type]

    sampled: dict[str, object] = {"draws": DRAWS, "rng": rng}
    runs = {
        "ξ-PPO": run("tanh", **sampled),
        "μ-PPO": run("sigmoid", **sampled),
        "ξ-PPO, normalised": run("tanh", normalise=True, **sampled),
        "fixed weights": train(
            world, thresholds, halves, kind="sigmoid", steps=3 * steps, fixed=True
        ),
    }
    exact = run("tanh")
    found = mixture_weights(exact.raw[-1], kind="tanh")
    stated = constrained(world, thresholds, sense="equal", beta=BETA).multipliers
    ratio_error = np.abs(found.rewards / found.penalty[:, None] - stated).max()
    ratio_error += np.abs(found.penalty + found.rewards.sum(axis=-1) - 2).max()
    one = train(world, thresholds, halves, kind="sigmoid", steps=1, fixed=True).end.log_policy
    tilted = world.log_reference + STEP * world.rewards.mean(axis=-3)[:, 0]
    first_step_error = np.abs(one - log_softmax(tilted)).max()
    gold = np.repeat(joint.gold, seeds)
    return Trained(seeds, thresholds, gold, runs, float(ratio_error), float(first_step_error))


class Reach(NamedTuple):
    """How far rewards end from thresholds whose multipliers no squash has, ``(W,)``."""

    squashed: np.ndarray
    free: np.ndarray
    smaller_penalty: np.ndarray


def beyond_the_squash(steps: int, rng: np.random.Generator) -> Reach:
    """Return where trainings end at β = 1, with and without a squash, and with one at β = .2."""
    world = World.of(np.array(MIXINGS))
    total = np.einsum("i,wixy->wxy", FAR_APART, world.rewards)
    log_policy, _ = gibbs_log_policy(total, world.log_reference, beta=1.0)
    thresholds = np.einsum("wxy,wixy->wi", np.exp(log_policy), world.rewards)
    ends = []
    for kind, beta in (("tanh", 1.0), ("free", 1.0), ("tanh", 0.2)):
        start = beginning(world, len(MIXINGS), rng)
        run = train(world, thresholds, start, kind=kind, steps=steps, beta=beta)
        ends.append(np.abs(run.achieved[-1] - thresholds).max(axis=-1))
    return Reach(*ends)


class Searches(NamedTuple):
    """Searches of thresholds in one world: by exact trials, and within one training.

    ``error`` is how far the score of the first is from the gold of the thresholds it found.
    """

    exact: ThresholdSearch
    single: OneTraining
    error: float


def search(mixing: float, point: np.ndarray, rng: np.random.Generator, *, quick: bool) -> Searches:
    """Return searches from half of the joint proxy point."""
    world, start = World.of(mixing), 0.5 * point
    close = {"tolerance": 1e-2, "nearby": 5e-3} if quick else {"tolerance": 1e-4, "nearby": 0.0}
    exact = searched(world, start, max_evaluations=120, **close)
    trials = 20 if quick else 40
    single = search_while_training(world, start, 300, rng, nearby=5e-3, max_evaluations=trials)
    again = constrained(world, exact.thresholds, sense="equal", infeasible="report", tolerance=1e-7)
    error = float(np.nan_to_num(np.abs(world.gold_of(again.log_policy) - exact.score), nan=np.inf))
    return Searches(exact, single, error)
