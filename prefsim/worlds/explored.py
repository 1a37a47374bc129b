"""Environments whose tables are found by playing them: every action in every state, once.

Nothing is copied of their rules. What the environment does is what stands in the table.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import check_integer
from prefsim.worlds.outcomes import Outcomes

__all__ = ["HOMES", "Explored", "can_be_explored", "explore", "make_at_home"]

HOMES = {
    "deep-sea-treasure": "mo_gymnasium",
    "resource-gathering": "mo_gymnasium",
    "four-room": "mo_gymnasium",
    "fruit-tree": "mo_gymnasium",
    "breakable-bottles": "mo_gymnasium",
    "fishwood": "mo_gymnasium",
    "mo-": "mo_gymnasium",
    "MiniGrid-": "minigrid",
}
"""Packages that register environments when they are imported, by how the ids begin."""

SHARED = ("observation_space", "action_space", "reward_space", "spec")
"""Attributes that steps do not change."""

MOST_STATES = 2_000
"""An environment with more states than this is taken for one without end."""

LAST = float(np.nextafter(1.0, 0.0))
"""The largest number that a uniform draw gives."""

FIRST_LOOK = 33
"""Draws at which a step is tried, before changes between two of them are searched."""


class Explored(NamedTuple):
    """What was found.

    Attributes
    ----------
    states
        What tells states apart, in the order of their numbers: found breadth first, from the start.
    outcomes
        Of every action in every state that an episode goes on from.
    """

    states: list[Hashable]
    outcomes: Outcomes


class _Scripted:
    """A generator whose only draw was decided before, and which counts how often it is asked."""

    def __init__(self, draw: float) -> None:
        self.draw = draw
        self.asked = 0

    def random(self, *size: Any) -> float:
        self.asked += 1
        if size or self.asked > 1:
            raise ValueError("a step may draw one number random() at most, to be explored")
        return self.draw

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(f"a step that draws by {name!r} cannot be explored, one by random() can")


def make_at_home(name: str) -> None:
    """Import the package that registers an environment, where its id tells which one that is."""
    import importlib

    for prefix, package in HOMES.items():
        if name.startswith(prefix):
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise ImportError(
                    f"{name} needs {package}, which `pip install 'prefsim[worlds]'` brings",
                    name=package,
                ) from error


def can_be_explored(base: Any) -> bool:
    """Return whether an environment has several rewards, or is one of minigrid, and few actions."""
    known = hasattr(base, "reward_space") or _is_minigrid(base)
    return known and hasattr(base.action_space, "n")


def explore(environment: Any, *, most_states: int = MOST_STATES) -> Explored:
    """Return all outcomes of an environment, by copies of it that are stepped.

    Parameters
    ----------
    environment
        A ``gymnasium.Env`` with finitely many states and a discrete action, whose observation tells
        the state (of minigrid: grid, place, direction and what is carried). Its steps are certain,
        or draw one number ``np_random.random()``; where outcomes change with it is found by
        bisection, to the last bit. The episode starts where ``reset(seed=0)`` puts it.
    most_states
        When to give up.

    Returns
    -------
    Explored
        Rewards ``(k,)``, or ``(k, m)`` where the environment has several.

    Raises
    ------
    ValueError
        If a step draws in another way or more than once, two copies with one observation behave
        differently, or there are too many states.

    Notes
    -----
    Time limits are no part of the tables. Minigrid pays ``1 - 0.9 t / T`` for success, which is no
    function of the state; here success pays 1, and the discount is what makes it urgent.
    """
    check_integer(low=1, most_states=most_states)
    base = _copied(environment.unwrapped)
    observation, _ = base.reset(seed=0)
    player = _Player(_minigrid_state if _is_minigrid(base) else _observed)
    actions = range(int(base.action_space.n))
    first = int(base.action_space.start)
    states: dict[Hashable, int] = {player.state_of(base, observation): 0}
    waiting: deque[tuple[int, Any]] = deque([(0, base)])
    again: dict[int, Any] = {}
    reached = {0}
    answers: dict[int, list[Any]] = {}
    rows: list[tuple[Any, ...]] = []
    while waiting:
        place, here = waiting.popleft()
        found = [player.outcomes(here, first + action) for action in actions]
        answers[place] = _told(found)
        for action, outcomes in enumerate(found):
            for chance, step in outcomes:
                number = states.setdefault(step.state, len(states))
                rows.append((place, action, chance, number, step.reward, step.ended))
                if not step.ended and number not in reached:
                    reached.add(number)
                    waiting.append((number, step.environment))
                elif not step.ended:
                    again.setdefault(number, step.environment)
        if len(states) > most_states:
            raise ValueError(
                f"{type(base).__name__} has more than most_states={most_states} states"
            )
    for place, other in again.items():
        found = [player.outcomes(other, first + action) for action in actions]
        if _told(found) != answers[place]:
            raise ValueError(
                f"the observation of {type(base).__name__} does not tell its state: what is known"
                f" as {list(states)[place]} goes on in two ways"
            )
    return Explored(list(states), Outcomes(*(np.array(part) for part in zip(*rows, strict=True))))


class _Step(NamedTuple):
    """One step of a copy: the state that it leads to, the reward, and the copy after it."""

    state: Hashable
    reward: Any
    ended: bool
    environment: Any

    def told(self) -> tuple[Any, ...]:
        return self.state, np.asarray(self.reward).tolist(), self.ended


def _told(found: list[list[tuple[float, _Step]]]) -> list[Any]:
    """Return outcomes of all actions as plain values, to compare."""
    return [[(chance, step.told()) for chance, step in outcomes] for outcomes in found]


class _Player(NamedTuple):
    """Who steps copies of an environment, with what tells its states apart."""

    state_of: Callable[[Any, Any], Hashable]

    def step(self, environment: Any, action: int, draw: float) -> tuple[_Step, bool]:
        """Return a step of a copy, and whether it asked for the draw."""
        tried = _copied(environment)
        tried.np_random = script = _Scripted(draw)
        if _is_minigrid(tried):
            tried.step_count = -1  # so that this is step 0 of the episode, where success pays 1
        observation, reward, ended, _, _ = tried.step(action)
        paid = np.asarray(reward, dtype=np.float64)
        state = self.state_of(tried, observation)
        return _Step(state, paid, bool(ended), tried), script.asked > 0

    def outcomes(self, environment: Any, action: int) -> list[tuple[float, _Step]]:
        """Return the outcomes of an action with their probabilities."""
        start, asked = self.step(environment, action, 0.0)
        if not asked:
            return [(1.0, start)]

        def at(draw: float) -> _Step:
            return self.step(environment, action, draw)[0]

        def changes(low: float, high: float, below: _Step, above: _Step) -> list[Any]:
            middle = 0.5 * (low + high)
            if below.told() == above.told():
                return []
            if not low < middle < high:
                return [(high, above)]
            between = at(middle)
            return changes(low, middle, below, between) + changes(middle, high, between, above)

        looks = np.linspace(0.0, LAST, FIRST_LOOK).tolist()
        steps = [start, *(at(draw) for draw in looks[1:])]
        found = [(0.0, start)]
        for place in range(FIRST_LOOK - 1):
            found += changes(*looks[place : place + 2], *steps[place : place + 2])
        ends = [draw for draw, _ in found[1:]] + [1.0]
        return [(end - low, step) for end, (low, step) in zip(ends, found, strict=True)]


def _copied(environment: Any) -> Any:
    """Return a copy of an environment in the state that it is in, with the same spaces.

    Those that say how they are pickled come back as new ones, so that their attributes are copied.
    """
    copied = object.__new__(type(environment))
    memo: dict[int, Any] = {}
    for name, value in vars(environment).items():
        try:
            shared = name in SHARED
            copied.__dict__[name] = value if shared else copy.deepcopy(value, memo)
        except TypeError:
            # What draws on a screen has no copy, and no part in the dynamics.
            copied.__dict__[name] = value
    return copied


def _observed(environment: Any, observation: Any) -> Hashable:
    """Return an observation as a value that can be compared."""
    if isinstance(observation, dict):
        return tuple((name, _observed(environment, part)) for name, part in observation.items())
    if isinstance(observation, tuple | list):
        return tuple(_observed(environment, part) for part in observation)
    listed = np.asarray(observation).tolist()
    return tuple(map(_frozen, listed)) if isinstance(listed, list) else listed


def _frozen(value: Any) -> Hashable:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _is_minigrid(base: Any) -> bool:
    return all(hasattr(base, part) for part in ("agent_pos", "agent_dir", "carrying", "max_steps"))


def _minigrid_state(environment: Any, observation: Any) -> Hashable:
    """Return what tells the state of minigrid, of which only a part is observed."""
    x, y = environment.agent_pos
    carried = environment.carrying
    held = None if carried is None else carried.encode()
    return int(x), int(y), int(environment.agent_dir), held, environment.grid.encode().tobytes()
