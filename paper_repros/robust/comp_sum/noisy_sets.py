"""Small networks on scikit-learn's data sets, whose training labels are flipped in three ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.intervals import mean_half_width
from prefsim.backend import Seed, to_numpy
from prefsim.containers import ClassLogits
from prefsim.data.labelled_sets import LabelledSet, SplitSet, labelled_set, split_set
from prefsim.losses import comp_sum
from prefsim.papers import Run
from prefsim.papers.figures import PURPLE, WINE
from prefsim.policies.stacked_networks import initial_layers, stacked_outputs, tensor_options
from prefsim.raters.class_noise import (
    drawn_labels,
    instance_flips,
    neighbour_flips,
    uniform_flips,
)

HIDDEN = 32  # width of the layer
ADAM, PLAIN = "Adam", "gradient descent"
STEP = {ADAM: 1e-2, PLAIN: 0.5}
N_TRAIN = {"digits": 400, "breast_cancer": 300, "wine": 100}
NOISES = ("none", "uniform", "class-dependent", "instance-dependent")
FLIPPED = {"none": 0.0, "uniform": 0.4, "class-dependent": 0.3, "instance-dependent": 0.3}


def observed_labels(split: SplitSet, noise: str, n_classes: int, seed: Seed) -> np.ndarray:
    """Return the training labels after one kind of noise."""
    rng = np.random.default_rng(seed)
    label, rate = split.label, FLIPPED[noise]
    if noise == "instance-dependent":
        law = instance_flips(split.inputs, label, rate, n_classes=n_classes, seed=rng)
    elif noise == "class-dependent":
        law = neighbour_flips(n_classes, rate)[label]
    else:
        law = uniform_flips(n_classes, rate)[label]
    return drawn_labels(law, seed=rng)


class Sets(NamedTuple):
    """Splits of one data set under every kind of noise: networks as ``(noises, splits)``, flat."""

    n_classes: int
    inputs: np.ndarray
    observed: np.ndarray
    test_inputs: np.ndarray
    test_label: np.ndarray


def splits_of(data: LabelledSet, n_train: int, noises: Sequence[str], seeds: range) -> Sets:
    """Return the same splits for every kind of noise."""
    splits = [split_set(data, n_train, seed=seed) for seed in seeds]
    rows = [
        (split, observed_labels(split, noise, data.n_classes, np.random.default_rng([seed, place])))
        for place, noise in enumerate(noises)
        for seed, split in zip(seeds, splits, strict=True)
    ]
    return Sets(
        data.n_classes,
        np.stack([split.inputs for split, _ in rows]),
        np.stack([observed for _, observed in rows]),
        np.stack([split.test_inputs for split, _ in rows]),
        np.stack([split.test_label for split, _ in rows]),
    )


def accuracies(
    sets: Sets, tau: float, *, steps: int, seed: Seed, optimiser: str = ADAM
) -> np.ndarray:
    """Return the test accuracy of a network for each set, trained with a comp-sum loss."""
    import torch

    options = tensor_options()
    inputs, test = (torch.as_tensor(x, **options) for x in (sets.inputs, sets.test_inputs))
    observed = torch.as_tensor(sets.observed, device=options["device"])
    sizes = (inputs.shape[-1], HIDDEN, sets.n_classes)
    layers: list[Any] = [
        torch.as_tensor(part, **options).requires_grad_()
        for part in initial_layers(sizes, len(inputs), seed=seed)
    ]
    method = torch.optim.Adam if optimiser == ADAM else torch.optim.SGD
    updates = method(layers, lr=STEP[optimiser])
    for _ in range(steps):
        value = comp_sum(ClassLogits(stacked_outputs(layers, inputs), observed), tau=tau)
        updates.zero_grad()
        # The sum over sets of each one's mean: no network touches another.
        (value.sum() / observed.shape[-1]).backward()
        updates.step()
    with torch.no_grad():
        guess = to_numpy(stacked_outputs(layers, test)).argmax(-1)
    return np.mean(guess == sets.test_label, axis=-1)


class Study(NamedTuple):
    """Test accuracy ``(noises, splits)`` of each τ on one data set."""

    name: str
    noises: tuple[str, ...]
    accuracy: dict[float, np.ndarray]

    def at(self, tau: float, noise: str) -> np.ndarray:
        """Return the accuracies ``(splits,)`` under one kind of noise."""
        return np.asarray(self.accuracy[tau][self.noises.index(noise)])

    def lead(self, tau: float, noise: str) -> np.ndarray:
        """Return by how much each split's accuracy exceeds that of cross-entropy."""
        return self.at(tau, noise) - self.at(1.0, noise)


def study(
    name: str,
    taus: Sequence[float],
    noises: Sequence[str],
    seeds: range,
    *,
    steps: int,
    run: Run,
    share: float = 1.0,
    optimiser: str = ADAM,
) -> Study | None:
    """Train every τ on every split of a set, or return None where scikit-learn is missing.

    ``share`` is that of the training examples which are used.
    """
    data = labelled_set(name)
    if data is None:
        return None
    sets = splits_of(data, round(share * N_TRAIN[name]), noises, seeds)
    found = {
        tau: accuracies(sets, tau, steps=steps, seed=run.seed, optimiser=optimiser).reshape(
            len(noises), -1
        )
        for tau in run.progress(taus, f"losses on {name}")
    }
    return Study(name, tuple(noises), found)


def rows_of_study(study: Study, optimiser: str) -> list[dict[str, str | float | int]]:
    """Return what was measured, a row for a loss and a noise."""
    return [
        {
            "part": f"{study.name}, {optimiser}",
            "loss": f"τ = {tau:g}",
            "noise": noise,
            "splits": study.at(tau, noise).size,
            "accuracy": round(float(study.at(tau, noise).mean()), 4),
            "ahead of τ = 1": round(float(study.lead(tau, noise).mean()), 4),
            "±": round(mean_half_width(study.lead(tau, noise)), 4),
        }
        for tau in study.accuracy
        for noise in study.noises
    ]


def draw_real_data(axis: Any, studies: list[Study]) -> None:
    """Draw how far two losses are ahead of cross-entropy, a row for a set and a noise."""
    if not studies:
        axis.text(0.5, 0.5, "scikit-learn is not installed", ha="center")
        return
    names: list[str] = []
    for study in studies:
        for noise in study.noises:
            for shift, tau, colour in ((-0.15, 1.7, PURPLE), (0.15, 2.0, WINE)):
                lead = study.lead(tau, noise)
                axis.errorbar(
                    lead.mean(),
                    len(names) + shift,
                    xerr=mean_half_width(lead),
                    fmt="o",
                    color=colour,
                    ms=4,
                    capsize=2,
                )
            names.append(f"{study.name.replace('_', ' ')}, {noise}")
    axis.errorbar([], [], fmt="o", color=PURPLE, label="τ = 1.7")
    axis.errorbar([], [], fmt="o", color=WINE, label="τ = 2, MAE")
    axis.axvline(0.0, color="0.5", lw=1)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set(
        xlabel="test accuracy ahead of cross-entropy, mean and 95 % interval",
        title="Flipped training labels of real data, Adam",
    )
    axis.legend(frameon=False, fontsize=8)
