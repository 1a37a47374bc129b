"""The regret-loss of one layer of linear attention: its optimum in closed form, and by training."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import trusted_values
from prefsim.loops.online_play import Learner
from prefsim.losses import regret_loss
from prefsim.losses.online import regret_path
from prefsim.numerics import softmax
from prefsim.solvers.online_learning.ftrl import ftrl_ball
from prefsim.solvers.online_learning.linear_attention import (
    LinearAttention,
    attention_decisions,
    cumulative_before,
)
from prefsim.solvers.optimisers.newton import value_and_gradient
from prefsim.solvers.optimisers.updates import adam

SQUARE: dict[str, Any] = {"k": 0.0, "growth": "square", "comparator": "ball"}
"""The regret-loss of one sequence, the square of its regret against the unit ball."""


class Law(NamedTuple):
    """Independent losses of one law with finitely many values.

    Attributes
    ----------
    values
        ``(m, d)``.
    probs
        ``(m,)``.
    """

    values: np.ndarray
    probs: np.ndarray

    def sequences(self, rounds: int) -> tuple[np.ndarray, np.ndarray]:
        """Return all sequences ``(m^T, T, d)`` and their probabilities."""
        places = np.array(list(itertools.product(range(len(self.probs)), repeat=rounds)))
        return self.values[places], self.probs[places].prod(axis=-1)


def signs(size: int) -> Law:
    """Return the law of independent fair signs."""
    values = np.array(list(itertools.product([-1.0, 1.0], repeat=size)))
    return Law(values, np.full(len(values), 1.0 / len(values)))


def expected_loss(decisions: Any, losses: Any, weight: Any, **options: Any) -> Any:
    """Return the regret-loss of single sequences, in expectation over them, ``(...)``."""
    each = regret_loss(decisions[..., None, :, :], losses[..., None, :, :], **SQUARE | options)
    return (each * weight).sum(axis=-1)


def best_step(losses: np.ndarray, weight: np.ndarray) -> float:
    r"""Return a* of the best leader :math:`-aL_{t-1}`, in closed form.

    :math:`2E[\|L_T\|D]/E[D^2]` with :math:`D = \|L_T\|^2 - \sum_t\|\ell_t\|^2`.
    """
    length = np.linalg.norm(losses.sum(axis=-2), axis=-1)
    cross = length**2 - (losses**2).sum(axis=(-2, -1))
    return float(2 * (weight @ (length * cross)) / (weight @ cross**2))


def best_matrix(law: Law, rounds: int) -> np.ndarray:
    r"""Return the matrix B of the best leader :math:`BL_{t-1}`, in closed form.

    :math:`-\Sigma^{-1}\,E[\|L_T\|\,\ell_1\ell_2^\top]\,\Sigma^{-1}` with Σ the covariance of a
    loss.
    """
    losses, weight = law.sequences(rounds)
    length = np.linalg.norm(losses.sum(axis=-2), axis=-1)
    mixed = np.einsum("s,s,si,sj->ij", weight, length, losses[:, 0], losses[:, 1])
    covariance = law.values.T @ (law.probs[:, None] * law.values)
    return np.asarray(-np.linalg.solve(covariance, np.linalg.solve(covariance, mixed.T).T))


def least_loss(losses: np.ndarray, weight: np.ndarray) -> float:
    r"""Return the least expected squared regret of every sum :math:`\sum_{i<t} g(\ell_i)`.

    With g any quadratic function: a linear layer is one of them, and the problem is one of least
    squares, so that there is no local minimum to end in.
    """
    ones = np.ones((*losses.shape[:-1], 1))
    token = np.concatenate([losses, ones], axis=-1)
    quadratic = (token[..., :, None] * token[..., None, :]).reshape(*losses.shape[:-1], -1)
    seen = cumulative_before(quadratic)
    features = np.einsum("stc,stf->scf", losses, seen).reshape(len(losses), -1)
    root = np.sqrt(weight)
    # What a learner that does nothing regrets.
    base = regret_path(np.zeros_like(losses), losses, comparator="ball")[:, -1]
    solved = np.linalg.lstsq(root[:, None] * features, -root * base, rcond=None)[0]
    return float(weight @ (features @ solved + base) ** 2)


# --- training ---


def _layer(flat: Any, size: int) -> LinearAttention:
    """Return layers whose parameters are the rows ``(B, D)``."""
    sizes = (size * size, size, size * size, size, size)
    cuts = np.cumsum((0, *sizes))
    parts = [flat[:, cuts[i] : cuts[i + 1]] for i in range(len(sizes))]
    square = (len(flat), size, size)
    # An axis for the sequences.
    return LinearAttention(
        *(p.reshape(square)[:, None] if i in (0, 2) else p[:, None] for i, p in enumerate(parts))
    )


class Trained(NamedTuple):
    """Layers trained from several starts.

    Attributes
    ----------
    loss
        Expected regret-loss at the ends, ``(starts,)``.
    worst, mean
        Largest and mean regret over the sequences, ``(starts,)``.
    longest
        Largest length of a decision, ``(starts,)``.
    """

    loss: np.ndarray
    worst: np.ndarray
    mean: np.ndarray
    longest: np.ndarray


def train(
    losses: np.ndarray, weight: np.ndarray, *, starts: int, seed: Seed, iterations: int = 300
) -> Trained:
    """Train layers on all sequences ``(S, T, d)`` at once by BFGS, from several starts.

    Starts are normal with deviation one half.
    """
    import torch
    from scipy.optimize import minimize

    rng = random_generator(seed)
    size = losses.shape[-1]
    data, mass = torch.as_tensor(losses), torch.as_tensor(weight)

    def objective(theta: Any) -> Any:
        return expected_loss(attention_decisions(_layer(theta, size), data), data, mass)

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope, _ = value_and_gradient(objective, torch.as_tensor(flat)[None])
        return float(value[0]), to_numpy(slope[0])

    ends = []
    # One by one: each start has steps of its own length.
    for _ in range(starts):
        begin = np.concatenate(
            [to_numpy(p).ravel() for p in LinearAttention.random(size, seed=rng)]
        )
        with trusted_values():
            options = {"maxiter": iterations, "gtol": 1e-2}
            found = minimize(value_and_slope, begin, jac=True, method="BFGS", options=options)
        ends.append(found.x)
    theta = torch.as_tensor(np.stack(ends))
    decisions = to_numpy(attention_decisions(_layer(theta, size), data))
    regrets = regret_path(decisions, losses, comparator="ball")[..., -1]
    return Trained(
        to_numpy(objective(theta)),
        regrets.max(axis=-1),
        regrets @ weight,
        np.linalg.norm(decisions, axis=-1).max(axis=(-2, -1)),
    )


class Learned(NamedTuple):
    """Layers without a projection, against the unit ball, on all sequences of signs.

    Attributes
    ----------
    trained
        The ends of training.
    loss, worst
        Expected regret-loss and largest regret, by the name of a learner.
    least
        Least loss of all sums of quadratic tokens.
    step
        a* of the closed form.
    """

    trained: Trained
    loss: dict[str, float]
    worst: dict[str, float]
    least: float
    step: float


BEST, ON_BALL, SHORT, LEADER, NOTHING = (
    "−a*L",
    "−a*L, projected",
    "−1.25 a*L, projected",
    "the leader",
    "nothing",
)


def learn_from_signs(starts: int, seed: Seed) -> Learned:
    losses, weight = signs(2).sequences(4)
    seen = cumulative_before(losses)
    step = best_step(losses, weight)
    decisions = {
        BEST: -step * seen,
        ON_BALL: ftrl_ball(seen, step=step),
        SHORT: ftrl_ball(seen, step=1.25 * step),
        # Of the shortest sum but zero, signs make the length √2.
        LEADER: ftrl_ball(seen, step=1.0),
        NOTHING: np.zeros_like(seen),
    }
    return Learned(
        train(losses, weight, starts=starts, seed=seed),
        {k: float(expected_loss(d, losses, weight)) for k, d in decisions.items()},
        {
            k: float(regret_path(d, losses, comparator="ball")[:, -1].max())
            for k, d in decisions.items()
        },
        least_loss(losses, weight),
        step,
    )


# --- a learner of distributions, trained without labels ---


class Lesson(NamedTuple):
    """What a layer is trained on.

    Attributes
    ----------
    sequences, rounds
        N of a batch, and T.
    batches, steps
        Batches of one step, and steps of Adam.
    k
        Sharpness of the regret-loss.
    """

    sequences: int = 4
    rounds: int = 25
    batches: int = 128
    steps: int = 300
    k: float = 2.0


def fair_coins(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    """Draw losses of 0 or 1 of two actions, ``(n, T, 2)``."""
    return (rng.random((n, rounds, 2)) < 0.5).astype(float)


def uniform_losses(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    """Draw uniform losses of two actions, ``(n, T, 2)``."""
    return rng.random((n, rounds, 2))


def taught(draw: Any, *, seed: Seed, lesson: Lesson) -> LinearAttention:
    """Train a layer, by the regret-loss of its softmax on fresh sequences, from a small start."""
    import torch

    rng = random_generator(seed)
    begin = LinearAttention.random(2, seed=rng, scale=0.1)
    theta = np.concatenate([to_numpy(part).ravel() for part in begin])[None]
    update = adam(0.05)
    shape = (lesson.batches, lesson.sequences, lesson.rounds, 2)
    for _ in range(lesson.steps):
        drawn = draw(rng, lesson.batches * lesson.sequences, lesson.rounds)
        data = torch.as_tensor(drawn.reshape(shape))

        def objective(at: Any, data: Any = data) -> Any:
            decisions = attention_decisions(_layer(at, 2), data, output="softmax")
            return regret_loss(decisions, data, k=lesson.k).mean()[None]

        with trusted_values():
            theta = theta - update(
                to_numpy(value_and_gradient(objective, torch.as_tensor(theta))[1])
            )
    return LinearAttention(*(part[0, 0] for part in _layer(theta, 2)))


def layer_agent(layer: LinearAttention) -> Learner:
    """Return the learner that plays the softmax of a layer."""

    def play(history: np.ndarray) -> Any:
        # The decision of a round does not see its losses, so that any will do.
        unseen = np.zeros((*history.shape[:-2], 1, history.shape[-1]))
        losses = np.concatenate([history, unseen], axis=-2)
        return attention_decisions(layer, losses, output="softmax")[..., -1, :]

    return play


# --- laws of losses, and labels ---


def symmetric_law(seed: int) -> Law:
    """Return a law in which a loss is as likely as its negative."""
    rng = np.random.default_rng(seed)
    values, probs = rng.standard_normal((2, 2)), rng.dirichlet(np.ones(2))
    return Law(np.concatenate([values, -values]), np.concatenate([probs, probs]) / 2)


def skewed_law(seed: int) -> Law:
    """Return a law of mean zero in which it is not."""
    rng = np.random.default_rng(seed)
    values, probs = rng.standard_normal((4, 2)), rng.dirichlet(np.ones(4))
    return Law(values - probs @ values, probs)


def isotropic_law(value: np.ndarray) -> Law:
    """Return the law of a value in two coordinates under all signs and exchanges of these."""
    flips = np.array(list(itertools.product((1.0, -1.0), repeat=2)))
    return Law(np.concatenate([flips * value, flips * value[::-1]]), np.full(8, 1 / 8))


class Pretraining(NamedTuple):
    """Histories, worlds and labels, all enumerated.

    Attributes
    ----------
    chance
        Joint probabilities of histories and labels, ``(histories, d)``.
    predictor
        Log-probabilities of labels, ``(histories, d)``.
    """

    chance: np.ndarray
    predictor: np.ndarray


def pretraining(seed: int, label: Callable[[Any, Any], Any]) -> tuple[Pretraining, np.ndarray]:
    """Draw a finite world of means and noisy losses; return it and the posterior chances.

    The posterior chance is how likely each action is the best for the means, given the history.
    """
    rng = np.random.default_rng(seed)
    means = rng.random((4, 2))
    prior, chances = rng.dirichlet(np.ones(4)), means
    # Two rounds, losses 0 or 1 with chances that are the means.
    histories = np.array(list(itertools.product([0.0, 1.0], repeat=4))).reshape(-1, 2, 2)
    each = np.where(histories[None] == 1, chances[:, None, None, :], 1 - chances[:, None, None, :])
    joint = prior[:, None] * each.prod(axis=(-2, -1))
    best = np.eye(2)[means.argmin(axis=-1)]
    posterior = np.einsum("zh,za->ha", joint, best) / joint.sum(axis=0)[:, None]
    chosen = label(means[:, None, :], histories.sum(axis=1)[None])
    chance = np.einsum("zh,zha->ha", joint, np.eye(2)[np.broadcast_to(chosen, joint.shape)])
    logits = rng.standard_normal((len(histories), 2))
    return Pretraining(chance, np.log(softmax(logits))), posterior


def best_mean(means: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Label with the action that is best for the means."""
    return np.argmin(means, axis=-1)


def best_seen(means: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Label with the action that was best in the history."""
    return np.argmin(seen, axis=-1)
