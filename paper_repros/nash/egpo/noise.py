"""Play on sampled triples beside what a linear recursion of the noise foretells of it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.drawn import judged_triples
from prefsim.gradients import gradient
from prefsim.loops.rounds import Trainer, play_rounds
from prefsim.numerics import categorical_kl, softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective, solve_nash
from prefsim.worlds.game import PreferenceGame

# Each of three responses beats the next one.
CYCLE = np.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])


class NoisyGames(NamedTuple):
    """Games with a penalty β, their equilibria, and what is drawn for a gradient.

    Attributes
    ----------
    preference
        ``(games, n, n)``.
    reference, point
        ``(games, n)``: what the penalty is measured from, and the equilibria.
    beta
        Penalty β.
    triples
        Number m of triples for each game in a gradient.
    """

    preference: np.ndarray
    reference: np.ndarray
    point: np.ndarray
    beta: float
    triples: int

    @classmethod
    def of(
        cls, preference: np.ndarray, reference: np.ndarray, *, beta: float, triples: int
    ) -> NoisyGames:
        """Solve the games."""
        solved = solve_nash(preference, method="regularised", reference=reference, tau=beta)
        return cls(preference, reference, to_numpy(solved.policy), beta, triples)

    @classmethod
    def near_the_cycle(cls, n_games: int, *, beta: float, triples: int, seed: int) -> NoisyGames:
        """Draw games of three responses in which each beats the next with 90 % or more.

        The faster play turns about the equilibrium, the more a trial step has to mend.
        """
        rng = np.random.default_rng(seed)
        sizes = np.triu(0.4 + 0.1 * rng.random((n_games, 3, 3)), 1)
        preference = 0.5 + CYCLE * (sizes + np.swapaxes(sizes, -1, -2))
        reference = softmax(0.5 * rng.standard_normal((n_games, 3)))
        return cls.of(preference, reference, beta=beta, triples=triples)

    @property
    def n(self) -> int:
        """Number of responses."""
        return int(self.point.shape[-1])

    def gradient_covariance(self) -> np.ndarray:
        """Return that of the gradient from one triple at the equilibrium, ``(games, n, n)``.

        A pair (y, y') adds 2(e_y − e_y')r with r = ((Pπ)_y − (Pπ)_y' − P(y, y'') + P(y', y''))/β.
        """
        surprise = (self.preference @ self.point[..., None] - self.preference) / self.beta
        squares = (surprise[:, :, None, :] - surprise[:, None, :, :]) ** 2
        # Of each pair, twice as often as there are ordered pairs of a kind.
        pairs = 8 / self.n**2 * np.einsum("gijk,gk->gij", squares, self.point)
        return pairs.sum(axis=-1)[..., None] * np.eye(self.n) - pairs

    def foretold(self, step: float, rounds: int, *, trial: bool) -> np.ndarray:
        r"""Return the mean KL(π*‖π_t) of plays from π*, ``(rounds, games)``, to first order in 1/m.

        With logits :math:`\theta^* + x`, :math:`H = \mathrm{diag}(\pi^*) - \pi^*\pi^{*\top}` and
        :math:`A = 1 - \eta\beta + \eta PH`, mirror descent is :math:`x \leftarrow Ax + \nu` and
        EGPO :math:`x \leftarrow (1 - \eta\beta)x + \eta PH(Ax + \nu) + \nu'`, with noise ν of
        (nβη/4)² times the variance of a gradient; the distance is ½ tr(H Cov x).
        """
        eye = np.eye(self.n)
        fisher = self.point[..., None] * (eye - self.point[:, None, :])
        turned = step * self.preference @ fisher
        kept = (1 - step * self.beta) * eye
        noise = (self.n * self.beta * step / 4) ** 2 / self.triples * self.gradient_covariance()
        moved = kept + turned
        if trial:
            moved, noise = (
                kept + turned @ moved,
                noise + turned @ noise @ np.swapaxes(turned, -1, -2),
            )
        spread, found = np.zeros_like(noise), []
        for _ in range(rounds):
            spread = moved @ spread @ np.swapaxes(moved, -1, -2) + noise
            found.append(0.5 * np.einsum("gij,gji->g", fisher, spread))
        return np.stack(found)

    def played(
        self,
        step: float,
        rounds: int,
        *,
        trial: bool,
        plays: int,
        seed: int,
        judge: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return KL(π*‖π_t) in nats of plays from π*, ``(rounds, plays, games)``.

        Judged by the preferences unless given others.
        """
        n_games = len(self.point)
        world = PreferenceGame(self.preference if judge is None else judge).to_bandit()

        def drawn(policy: Any, opponent: Any, rng: np.random.Generator) -> Comparisons:
            return judged_triples(world, opponent, n_games * self.triples, seed=rng)

        path = play_rounds(
            TabularPolicy.from_probs(np.broadcast_to(self.point, (plays, n_games, self.n))),
            drawn,
            functools.partial(losses.online_ipo, tau=self.beta),
            rounds=rounds,
            seed=seed,
            reference=TabularPolicy.from_probs(self.reference),
            extragradient=trial,
            # The loss is the mean over the games.
            train=one_gradient_step(n_games * self.n * self.beta * step / 4),
        )
        log_point = np.log(self.point)
        return np.stack([categorical_kl(log_point, made.policy.log_probs) for made in path])


def one_gradient_step(size: float) -> Trainer:
    """Return the trainer that makes a single gradient step.

    :func:`prefsim.loops.descent` also evaluates where the step starts and ends, for twice the time.
    """

    def train(policy: Any, loss: Any, data: Any, reference: Any) -> Any:
        def value(parameters: Any) -> Any:
            return objective(policy.with_parameters(parameters), loss, data, reference=reference)

        return policy.with_parameters(policy.parameters - size * gradient(value, policy.parameters))

    return train
