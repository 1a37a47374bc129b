"""Many copies of one tabular process as a single environment of gymnasium, stepped in one call."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import as_index_array, check_integer

__all__ = ["make_vector_environment"]


@functools.cache
def _vector_class() -> type:
    """Define the environment on first use, so that gymnasium is imported no earlier."""
    import gymnasium
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space

    class TabularVectorEnv(VectorEnv):
        """Copies of a tabular process, all drawn from one generator."""

        metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (gymnasium's form)

        def __init__(self, mdp: Any, num_envs: int) -> None:
            self.mdp = mdp
            self.num_envs = num_envs
            self.single_observation_space = gymnasium.spaces.Discrete(mdp.n_states)
            self.single_action_space = gymnasium.spaces.Discrete(mdp.n_actions)
            self.observation_space = batch_space(self.single_observation_space, num_envs)
            self.action_space = batch_space(self.single_action_space, num_envs)
            start = to_numpy(mdp.start_probs).astype(np.float64)
            # Draws are stricter than single precision sums.
            self._start_probs = start / start.sum()
            self._terminal = np.asarray(to_numpy(mdp.terminal), dtype=bool)
            self.states = np.zeros(num_envs, dtype=np.int64)
            self.elapsed = np.zeros(num_envs, dtype=np.int64)
            self._over = np.ones(num_envs, dtype=bool)

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[np.ndarray, dict[str, Any]]:
            super().reset(seed=seed, options=options)
            self._over = np.ones(self.num_envs, dtype=bool)
            self._start_again()
            return self.states.copy(), {}

        def _start_again(self) -> None:
            drawn = self.np_random.choice(
                self._start_probs.size, size=int(self._over.sum()), p=self._start_probs
            )
            self.states[self._over] = drawn
            self.elapsed[self._over] = 0
            self._over = np.zeros(self.num_envs, dtype=bool)

        def step(
            self, actions: Any
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
            chosen = as_index_array(actions, "actions", size=self.mdp.n_actions)
            if chosen.shape != (self.num_envs,):
                raise ValueError(
                    f"actions must hold one action for each of {self.num_envs} copies, got shape"
                    f" {chosen.shape}"
                )
            playing = ~self._over
            # As gymnasium's own vector environments: where an episode ended, this step begins the
            # next, and what was chosen there counts for nothing.
            self._start_again()
            before, taken = self.states[playing], chosen[playing]
            after = self.mdp.sample_next(before, taken, seed=self.np_random)
            rewards = np.zeros(self.num_envs)
            rewards[playing] = self.mdp.transition_reward_at(before, taken, after)
            self.states[playing] = after
            self.elapsed[playing] += 1
            ended = playing & self._terminal[self.states]
            if self.mdp.horizon is not None:
                # The horizon belongs to the process: reaching it is an end, not a truncation.
                ended |= playing & (self.elapsed >= self.mdp.horizon)
            self._over = ended
            return self.states.copy(), rewards, ended.copy(), np.zeros_like(ended), {}

    return TabularVectorEnv


def make_vector_environment(mdp: Any, num_envs: int) -> Any:
    """Return copies of an unbatched :class:`~prefsim.worlds.TabularMDP` as one ``VectorEnv``.

    See :meth:`TabularMDP.to_gymnasium`.
    """
    check_integer(low=1, num_envs=num_envs)
    return _vector_class()(mdp, int(num_envs))
