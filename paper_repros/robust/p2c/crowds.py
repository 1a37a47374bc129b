"""Small classifiers of examples that several annotators labelled: by majority, by votes, by P2C."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from prefsim.backend import to_numpy
from prefsim.checks import trusted_values
from prefsim.containers import ClassLogits, ClassPairs
from prefsim.data.class_pairs import (
    annealed_law,
    disagreement_law,
    drawn_partners,
    inconsistency_law,
    random_partner_law,
)
from prefsim.losses import cross_entropy, p2c
from prefsim.losses.paired_classes import vote_consistency
from prefsim.numerics import log_softmax, sigmoid, softmax
from prefsim.policies.preference_heads import encoded_label, head_rewards, initial_heads
from prefsim.policies.stacked_networks import initial_layers, stacked_outputs, tensor_options
from prefsim.solvers.optimisers.updates import adam

HEADS, WIDTH = 3, 16
STEP, DECAY = 1e-2, 1e-3  # of Adam
EPOCH = 20  # steps between two draws of partners
SLOPES = np.asarray([0.8, -0.6, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0])


class Crowd(NamedTuple):
    """S sets of n examples with the shares of annotators for each class, and examples to test on.

    Attributes
    ----------
    inputs, votes
        ``(S, n, d)`` and ``(S, n, K)``.
    test_inputs, test_votes
        ``(S, m, d)`` and what annotators in general say, ``(S, m, K)``.
    """

    inputs: np.ndarray
    votes: np.ndarray
    test_inputs: np.ndarray
    test_votes: np.ndarray

    @property
    def label(self) -> np.ndarray:
        """The class that most annotators chose, ``(S, n)``; the first of several."""
        return np.asarray(self.votes.argmax(axis=-1))


def drawn_crowd(sets: int, n: int, annotators: int, *, seed: int, tests: int = 2000) -> Crowd:
    """Return sets of normal inputs whose annotators choose class 1 with chance σ(w·x)."""
    rng = np.random.default_rng(seed)
    inputs, test_inputs = (rng.standard_normal((sets, size, SLOPES.size)) for size in (n, tests))
    chance, test_chance = sigmoid(inputs @ SLOPES), sigmoid(test_inputs @ SLOPES)
    share = rng.binomial(annotators, chance) / annotators
    return Crowd(inputs, of_two(share), test_inputs, of_two(test_chance))


def of_two(share: np.ndarray) -> np.ndarray:
    """Return the shares of both classes from that of class 1."""
    return np.stack([1 - share, share], axis=-1)


class Method(NamedTuple):
    """What a classifier is trained with; weights as in :func:`prefsim.losses.p2c`."""

    name: str
    consistency_weight: float = 1.0
    preference_weight: float = 1.0
    diversity_weight: float = 0.1
    consistency: str = "votes"
    partners: str = "random"


MAJORITY, SHARES = (
    Method(name, preference_weight=0.0, diversity_weight=0.0, consistency_weight=0.0)
    for name in ("majority label", "vote shares")
)
PAIRS = MAJORITY._replace(name="majority label, pairs")
P2C = Method("P2C")
NO_CONSISTENCY = Method("P2C, no consistency", consistency_weight=0.0)
NO_HEADS = Method("P2C, no heads", preference_weight=0.0, diversity_weight=0.0)
NO_DIVERSITY = Method("P2C, no diversity", diversity_weight=0.0)
ORDER_ONLY = Method("P2C, order of the votes", consistency="preference")
DISAGREEMENT = Method("P2C, disagreement", partners="disagreement")
INCONSISTENCY = Method("P2C, inconsistency", partners="inconsistency")


def predicted(crowd: Crowd, method: Method, *, steps: int, seed: int) -> np.ndarray:
    """Return class probabilities ``(S, m, K)`` at the test inputs, of a network for each set."""
    import torch

    sets, _, d = crowd.inputs.shape
    classes = crowd.votes.shape[-1]
    rng = np.random.default_rng(seed)
    # Encoder and classifier, then heads: methods start from the same networks.
    parts = [
        *initial_layers((d, WIDTH), sets, seed=rng),
        *initial_layers((WIDTH, classes), sets, seed=rng),
        *initial_heads(WIDTH + classes, HEADS, sets, seed=rng),
    ]
    options = tensor_options()
    layers = [torch.as_tensor(part, **options).requires_grad_() for part in parts]
    # A method without heads leaves them where they are.
    trained = layers if method.preference_weight > 0 else layers[:4]
    updates = [adam(STEP) for _ in trained]
    data = Training(crowd, rng)
    for step in range(steps):
        with trusted_values():
            values = data.losses(layers, method, step, steps)
        # The sum over sets of each one's mean: no network touches another.
        slopes = torch.autograd.grad(values.sum() / values.shape[-1], trained)
        with torch.no_grad():
            for layer, update, slope in zip(trained, updates, slopes, strict=True):
                layer -= update(slope + DECAY * layer)
    with torch.no_grad():
        test = torch.as_tensor(crowd.test_inputs, **options)
        return to_numpy(softmax(stacked_outputs(layers[2:4], encoded(layers, test))))


def encoded(layers: list[Any], inputs: Any) -> Any:
    """Return the features ``(S, n, WIDTH)`` of inputs."""
    import torch

    return torch.tanh(stacked_outputs(layers[:2], inputs))


class Training:
    """A crowd as tensors, and who is compared with whom in this epoch."""

    def __init__(self, crowd: Crowd, rng: np.random.Generator) -> None:
        import torch

        options = tensor_options()
        self.rng, self.label = rng, crowd.label
        self.inputs, self.votes = (
            torch.as_tensor(x, **options) for x in (crowd.inputs, crowd.votes)
        )
        self.classes = torch.as_tensor(crowd.label, device=options["device"])
        k = crowd.votes.shape[-1]
        self.class_features = torch.as_tensor(
            encoded_label(crowd.label, n_classes=k, width=WIDTH), **options
        )
        self.partner = self.classes

    def losses(self, layers: list[Any], method: Method, step: int, steps: int) -> Any:
        """Return the losses ``(S, n)`` of the examples, each with its partner where it has one."""
        import torch

        features = encoded(layers, self.inputs)
        logits = stacked_outputs(layers[2:4], features)
        if method.name == MAJORITY.name:
            return cross_entropy(ClassLogits(logits, self.classes))
        if method.name == SHARES.name:
            return -(self.votes * log_softmax(logits)).sum(-1)
        rewards = head_rewards(layers[4:], torch.cat([features, self.class_features], dim=-1))
        if step % EPOCH == 0:
            law = self.law(logits.detach(), rewards.detach(), method, step / steps)
            drawn = drawn_partners(law, seed=self.rng)
            self.partner = torch.as_tensor(drawn, device=self.classes.device)
        return p2c(
            self.pairs(logits, rewards),
            consistency_weight=method.consistency_weight,
            preference_weight=method.preference_weight,
            diversity_weight=method.diversity_weight,
            consistency=method.consistency,
        )

    def pairs(self, logits: Any, rewards: Any) -> ClassPairs[Any]:
        """Return each example with its partner."""
        own = self.votes.gather(-1, self.classes[..., None])

        def of_partner(values: Any) -> Any:
            places = self.partner[..., None].expand(*self.partner.shape, values.shape[-1])
            return values.gather(-2, places)

        return ClassPairs(
            chosen_logits=logits,
            rejected_logits=of_partner(logits),
            chosen_rewards=rewards,
            rejected_rewards=of_partner(rewards),
            label=self.classes,
            chosen_score=own[..., 0],
            rejected_score=of_partner(own)[..., 0],
            chosen_votes=self.votes,
            rejected_votes=of_partner(self.votes),
        )

    def law(self, logits: Any, rewards: Any, method: Method, progress: float) -> np.ndarray:
        """Return the law of partners of this epoch."""
        if method.partners == "random":
            return random_partner_law(self.label)
        if method.partners == "disagreement":
            chosen = disagreement_law(rewards, self.label)
        else:
            probs = softmax(logits)
            cost = vote_consistency(gaps(probs), gaps(self.votes))
            chosen = inconsistency_law(cost, self.label)
        return annealed_law(chosen, self.label, progress=progress)


def gaps(values: Any) -> Any:
    """Return the differences ``(..., n, n, K)`` of all pairs of examples."""
    return values[..., :, None, :] - values[..., None, :, :]


class Scores(NamedTuple):
    """How well the test examples are told apart, one number for each set.

    Accuracy against what most annotators say; mean squared error and mean rank correlation of the
    class probabilities against what annotators say in general.
    """

    accuracy: np.ndarray
    error: np.ndarray
    rank: np.ndarray


def scores(probs: np.ndarray, votes: np.ndarray) -> Scores:
    """Return how probabilities ``(S, m, K)`` compare with the shares of annotators."""
    right = probs.argmax(axis=-1) == votes.argmax(axis=-1)
    ranks = [rankdata(values, axis=-2) for values in (probs, votes)]
    centred = [r - r.mean(axis=-2, keepdims=True) for r in ranks]
    spread = np.sqrt(np.prod([(c**2).sum(axis=-2) for c in centred], axis=0))
    rank = (centred[0] * centred[1]).sum(axis=-2) / spread
    return Scores(
        right.mean(axis=-1), ((probs - votes) ** 2).mean(axis=(-2, -1)), rank.mean(axis=-1)
    )
