"""What segments teach that are recorded in gymnasium's environments, with a rater by regret."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from paper_repros.mdp.regret_preference.delivery import CONVERGED
from prefsim.analysis.returns import mean_return
from prefsim.data import Segments
from prefsim.solvers.likelihood.reward_learning import fit_partial_return_reward, fit_regret_reward
from prefsim.solvers.planning import policy_iteration, uniform_over_reachable
from prefsim.solvers.planning.features import FeatureProcess
from prefsim.worlds import TabularMDP


class Environment(NamedTuple):
    """An environment of gymnasium with features of its steps.

    Attributes
    ----------
    mdp
        Its table.
    features
        Expected features of a step, ``(S, A, d)``.
    seen
        Features as they are seen, by where the step led, ``(S, A, S, d)``; or as expected.
    beta
        The rater's log-odds per unit of reward.
    """

    mdp: TabularMDP
    features: np.ndarray
    seen: np.ndarray
    beta: float


def frozen_lake() -> Environment:
    """Features of the tile that is entered: goal, hole, neither; the ice makes them random."""
    import gymnasium

    mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.97, is_slippery=True)
    tile = gymnasium.make("FrozenLake-v1").unwrapped.desc.astype(str).reshape(-1)  # type: ignore[attr-defined]
    neither = (tile == "F") | (tile == "S")
    entered = np.stack([tile == "G", tile == "H", neither], axis=-1).astype(float)
    seen = np.broadcast_to(entered, (*mdp.transitions.shape, 3))
    return Environment(mdp, mdp.transitions @ entered, seen, 50.0)


def cliff_walking() -> Environment:
    """Features of a step: one each, one for stepping off the cliff, one for arriving."""
    mdp = TabularMDP.from_gymnasium("CliffWalking-v1", discount=0.97)
    row, column = np.divmod(np.arange(48)[:, None], 12)
    below = np.clip(row + np.array([-1, 0, 1, 0]), 0, 3)  # up, right, down, left
    beside = np.clip(column + np.array([0, 1, 0, -1]), 0, 11)
    fell, arrived = (below == 3) & (beside > 0) & (beside < 11), mdp.transitions[..., 47]
    features = np.stack([np.ones_like(arrived), fell, arrived], axis=-1)
    return Environment(mdp, features, features, 1.0)


ENVIRONMENTS = {"FrozenLake-v1": frozen_lake, "CliffWalking-v1": cliff_walking}


class Recorded(NamedTuple):
    """What recorded segments taught.

    Attributes
    ----------
    optimum
        The largest return there is.
    returns
        True return of what each model learned, by the number of comparisons.
    """

    optimum: float
    returns: dict[int, dict[str, float]]


def learn_from_recorded(name: str, sizes: Iterable[int], *, seed: int) -> Recorded:
    """Return the true returns of what both models learn in an environment."""
    world = ENVIRONMENTS[name]()
    plan, start = policy_iteration(world.mdp), uniform_over_reachable(world.mdp)
    process = FeatureProcess(world.mdp, world.features)
    returns = {}
    for n in sizes:
        data = Segments.from_gymnasium(
            name, n, 3, seed=seed, scores=world.beta * plan.advantage, start=start
        )
        fits = {
            "partial return": fit_partial_return_reward(data, world.seen, **CONVERGED),
            "regret": fit_regret_reward(
                data,
                world.mdp,
                world.features,
                # The rater's weights are tens of nats: shorter steps end on plateaus before them.
                learning_rate=1.0,
                iterations=150,
                seed=seed,
            ),
        }
        returns[n] = {
            model: float(mean_return(world.mdp, process.greedy_policy(fit.weights)))
            for model, fit in fits.items()
        }
    return Recorded(float(plan.value @ world.mdp.start_probs), returns)
