"""The two added terms: MetaRM on responses that have shifted, and contrasts of dropout's views."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from paper_repros.robust.secrets_rm.doubted_labels import FLIP_RATE, SCALE, labelled
from prefsim.analysis import uniformity
from prefsim.checks import trusted_values
from prefsim.containers import PairRewards
from prefsim.losses import bradley_terry
from prefsim.losses.paired_views import simcse, sinkhorn_codes, swapped_prediction
from prefsim.numerics import sigmoid
from prefsim.policies.stacked_networks import initial_layers
from prefsim.solvers.look_ahead import look_ahead_gradient, look_ahead_step, reward_difference

RIDGE = 1e-3
STEP = 0.5

HIDDEN, PROTOTYPES = 16, 8
DROPOUT = 0.2
RATE = 2e-2  # of Adam
TEMPERATURE = 0.2

# --- MetaRM ---


class Shifted(NamedTuple):
    """Worlds whose old pairs and new responses vary in different directions, torch float64.

    Attributes
    ----------
    pairs
        Differences of chosen and rejected of the training set, ``(S, n, d)``.
    responses
        Features of k new responses to each of m prompts, ``(S, m, k, d)``.
    test
        Differences of new responses, the better one first, ``(S, t, d)``.
    """

    pairs: Any
    responses: Any
    test: Any

    @classmethod
    def draw(cls, seeds: range, *, n: int = 200, d: int = 8, prompts: int = 32) -> Shifted:
        """Draw worlds in which what varies most in one set varies a tenth as much in the other."""
        import torch

        worlds = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            direction = rng.standard_normal(d)
            direction /= np.linalg.norm(direction)
            spread = np.geomspace(1.0, 0.1, d)
            x = rng.standard_normal((n, d)) * spread
            responses = rng.standard_normal((prompts, 4, d)) * spread[::-1]
            test = rng.standard_normal((2000, d)) * spread[::-1]
            sign = labelled(SCALE * x @ direction, FLIP_RATE, rng)
            ordered = np.sign(test @ direction)[:, None] * test
            worlds.append((sign[:, None] * x, responses, ordered))
        return cls(*(torch.as_tensor(np.stack(part)) for part in zip(*worlds, strict=True)))

    def loss(self, theta: Any) -> Any:
        """Return the loss on the old pairs with a ridge, ``(S,)``, of rewards ``(S, d)``."""
        ahead = (self.pairs @ theta[..., None])[..., 0]
        plain = bradley_terry(PairRewards(ahead, 0 * ahead)).mean(dim=-1)
        return plain + RIDGE * (theta**2).sum(dim=-1)

    def difference(self, theta: Any) -> Any:
        """Return how clearly rewards tell new responses apart, mean over prompts, ``(S,)``."""
        rewards = (self.responses @ theta[:, None, :, None])[..., 0]
        return reward_difference(rewards).mean(dim=-1)

    def accuracy(self, theta: Any) -> Any:
        """Return the share of pairs of new responses in the right order, ``(S,)``."""
        return ((self.test @ theta[..., None])[..., 0] > 0).double().mean(dim=-1)


def slope_of(function: Callable[[Any], Any], *, graph: bool = False) -> Callable[[Any], Any]:
    """Return the gradient of a function of parameters in torch; differentiable with ``graph``."""
    import torch

    def slope(theta: Any) -> Any:
        leaf = theta if theta.requires_grad else theta.detach().requires_grad_()
        (found,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=graph)
        return found

    return slope


class Looked(NamedTuple):
    """What a training ends with: loss, difference and accuracy, each ``(S,)``."""

    loss: np.ndarray
    difference: np.ndarray
    accuracy: np.ndarray


def look_ahead(world: Shifted, *, ahead: float, steps: int, order: int = 1) -> Looked:
    """Train linear rewards by looking ahead; 0 is plain training on the old pairs."""
    import torch

    loss, up = slope_of(world.loss), slope_of(world.difference, graph=order == 2)
    # All rewards equal would be a tie, which pulls nowhere.
    theta = 1e-3 * world.pairs.mean(dim=1)
    with trusted_values():
        for _ in range(steps):
            theta = look_ahead_step(theta, loss, up, step=STEP, ahead=ahead, order=order).detach()
        with torch.no_grad():
            parts = world.loss(theta), world.difference(theta), world.accuracy(theta)
    return Looked(*(part.numpy() for part in parts))


class Small(NamedTuple):
    """Differences of a few pairs ``(n, d)``, and features of k new responses ``(k, d)``."""

    pairs: np.ndarray
    responses: np.ndarray

    @property
    def gaps(self) -> np.ndarray:
        """Differences of the new responses from each other, ``(k(k − 1)/2, d)``."""
        first, second = np.triu_indices(len(self.responses), 1)
        return np.asarray(self.responses[first] - self.responses[second])

    @property
    def scale(self) -> float:
        """The factor 2/k² of the difference of rewards."""
        return float(2 / len(self.responses) ** 2)

    @property
    def bend(self) -> float:
        """A bound of the curvature of the difference of rewards."""
        largest = np.linalg.eigvalsh(self.gaps.T @ self.gaps)[-1]
        # The second derivative of σ is at most 1/(6√3).
        return float(largest * self.scale / (6 * math.sqrt(3)))

    def loss(self, theta: np.ndarray) -> float:
        """Return the loss on the pairs."""
        return float(np.logaddexp(0, -self.pairs @ theta).mean())

    def loss_gradient(self, theta: np.ndarray) -> np.ndarray:
        """Return its gradient, ``(d,)``."""
        return np.asarray(-sigmoid(-self.pairs @ theta) @ self.pairs / len(self.pairs))

    def difference(self, theta: np.ndarray) -> float:
        """Return how clearly rewards tell the responses apart."""
        return float(self.scale * sigmoid(np.abs(self.gaps @ theta)).sum())

    def difference_gradient(self, theta: np.ndarray) -> np.ndarray:
        """Return its gradient, ``(d,)``."""
        apart = self.gaps @ theta
        q = sigmoid(np.abs(apart))
        return np.asarray(self.scale * (q * (1 - q) * np.sign(apart)) @ self.gaps)

    def difference_hessian(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the product of its second derivative with v, ``(d,)``."""
        q = sigmoid(np.abs(self.gaps @ theta))
        return np.asarray(self.scale * (q * (1 - q) * (1 - 2 * q) * (self.gaps @ v)) @ self.gaps)

    def slope_looked_ahead(self, theta: np.ndarray, ahead: float) -> np.ndarray:
        """Return the gradient of θ ↦ L(θ + η∇J(θ)), ``(d,)``, by difference quotients."""

        def cost(at: np.ndarray) -> float:
            return self.loss(at + ahead * self.difference_gradient(at))

        step = 1e-5
        sides = step * np.eye(theta.size)
        return np.array([cost(theta + side) - cost(theta - side) for side in sides]) / (2 * step)


# --- contrastive terms ---


class Task(NamedTuple):
    """Noisy pairs of responses ``(S, 2, n, d)`` and test pairs, the better response first."""

    train: np.ndarray
    test: np.ndarray

    @classmethod
    def draw(cls, seeds: range, *, n: int = 128, d: int = 8, tested: int = 1000) -> Task:
        """Draw one task for each seed, a quarter of its labels flipped."""
        tasks = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            direction = rng.standard_normal(d)
            direction /= np.linalg.norm(direction)
            pair, test = (rng.standard_normal((2, m, d)) / np.sqrt(2) for m in (n, tested))
            sign = labelled(SCALE * (pair[0] - pair[1]) @ direction, FLIP_RATE, rng)
            right = np.sign((test[0] - test[1]) @ direction)
            tasks.append(
                [
                    np.where(label[:, None] > 0, both, both[::-1])
                    for label, both in ((sign, pair), (right, test))
                ]
            )
        return cls(*(np.stack(part) for part in zip(*tasks, strict=True)))


class Contrasted(NamedTuple):
    """Test accuracy and uniformity of the differences of test pairs, each ``(S,)``."""

    accuracy: np.ndarray
    uniformity: np.ndarray


def unit(x: Any, axis: int) -> Any:
    return x / (x.norm(dim=axis, keepdim=True) + 1e-12)


def contrast(task: Task, term: str | None, weight: float, *, steps: int, seed: int) -> Contrasted:
    """Train one network for each task, with SimCSE, SwAV or no term on two draws of dropout."""
    import torch

    count, dimension = len(task.train), task.train.shape[-1]
    layers = [
        torch.as_tensor(part).requires_grad_()
        for part in initial_layers((dimension, HIDDEN, 1 + PROTOTYPES), count, seed=seed)
    ]
    into, bias, out = layers[:3]
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(layers[:3], lr=RATE)

    def encoded(pairs: np.ndarray) -> Any:
        """Return representations ``(S, 2, n, hidden)``."""
        return torch.tanh(torch.as_tensor(pairs) @ into[:, None] + bias[:, None])

    def rewards(encoded: Any) -> Any:
        return (encoded @ out[:, None, :, :1])[..., 0]

    def dropped(encoded: Any) -> Any:
        kept = torch.rand(encoded.shape, generator=generator, dtype=encoded.dtype) > DROPOUT
        return encoded * kept / (1 - DROPOUT)

    with trusted_values():
        for _ in range(steps):
            clean = encoded(task.train)
            views = [dropped(clean), dropped(clean)]
            value = bradley_terry(PairRewards(*rewards(views[0]).unbind(dim=1))).mean(dim=-1)
            apart = [view[:, 0] - view[:, 1] for view in views]
            if term == "SimCSE":
                value = value + weight * simcse(*apart, temperature=TEMPERATURE).mean(dim=-1)
            if term == "SwAV":
                prototypes = unit(out[..., 1:], 1)
                scores = [unit(view, -1) @ prototypes for view in apart]
                value = value + weight * swapped_prediction(*scores).mean(dim=-1)
            optimiser.zero_grad()
            value.sum().backward()
            optimiser.step()
        with torch.no_grad():
            better, worse = encoded(task.test).unbind(dim=1)
            ahead = rewards(better[:, None]) - rewards(worse[:, None])
            apart = unit((better - worse)[:, :200], -1).numpy()
    return Contrasted(
        (ahead[:, 0] > 0).double().mean(dim=-1).numpy(), np.asarray(uniformity(apart))
    )


# --- the functions, written out once more ---


def missed_by_terms(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return by how much contrastive terms and look-ahead steps miss what is written."""
    first, second = rng.standard_normal((2, 6, 4))
    cosine = np.array(
        [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in second] for a in first]
    )
    simple = [np.log(np.exp(row / 0.4).sum()) - row[i] / 0.4 for i, row in enumerate(cosine)]
    scores = np.tanh(rng.standard_normal((2, 6, 4)))
    codes = [written_codes(view, 0.5, 3) for view in scores]
    logs = [view / 0.3 - np.log(np.exp(view / 0.3).sum(axis=1))[:, None] for view in scores]
    swapped = -(codes[1] * logs[0] + codes[0] * logs[1]).sum(axis=1)
    found_codes = [sinkhorn_codes(view, temperature=0.5) for view in scores]
    found = swapped_prediction(
        *scores, temperature=0.3, first_codes=codes[0], second_codes=codes[1]
    )
    responses = rng.standard_normal((4, 3))
    world = Small(rng.standard_normal((7, 3)), responses)
    theta = rng.standard_normal(3)
    slope = world.loss_gradient(theta + 0.4 * world.difference_gradient(theta))
    turned = slope + 0.4 * world.difference_hessian(theta, slope)
    functions = (world.loss_gradient, world.difference_gradient)
    options: dict[str, Any] = {"ahead": 0.4, "ascent_hessian": world.difference_hessian}
    return {
        "SimCSE": simcse(first, second, temperature=0.4) - simple,
        "SwAV": np.concatenate([(np.stack(found_codes) - codes).ravel(), found - swapped]),
        "MetaRM": np.concatenate(
            [
                np.atleast_1d(reward_difference(responses @ theta) - world.difference(theta)),
                look_ahead_gradient(theta, *functions, order=2, **options) - turned,
                look_ahead_step(theta, *functions, step=0.1, **options) - (theta - 0.1 * slope),
            ]
        ),
    }


def written_codes(scores: np.ndarray, temperature: float, iterations: int) -> np.ndarray:
    """Return Sinkhorn's assignments by dividing columns and rows by their sums in turn."""
    q = np.exp(scores / temperature)
    for _ in range(iterations):
        q = q / q.sum(axis=0)
        q = q / q.sum(axis=1, keepdims=True)
    return q
