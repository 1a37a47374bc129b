"""The experiment of the paper on robust DPO in small: inject flips of the labels, compare the reward that is lost."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.papers import Criterion, Reproduction, Run
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit
from prefsim.worlds import ContextualBandit
from prefsim.worlds.bandit import bradley_terry_matrix

NAMES = ("DPO", "cDPO", "rDPO")


class LinearTask(NamedTuple):
    """Rewards ``β⟨φ, θ*⟩``, plus an offset outside the class; labels flipped at a rate; pairs drawn from ``sampling``."""

    features: np.ndarray
    weights: np.ndarray
    beta: float
    flip_rate: float
    sampling: TabularPolicy
    offset: float = 0.0

    def world(self, flip_rate: float = 0.0) -> ContextualBandit:
        """Return the bandit whose rater's labels are flipped at this rate."""
        reward = self.beta * (self.features @ self.weights)
        reward = reward + self.offset * np.cos(np.arange(reward.size)).reshape(reward.shape)
        return ContextualBandit(
            reward=reward, preference=flip_labels(bradley_terry_matrix(reward), flip_rate)
        )

    def population(self, flip_rate: float = 0.0) -> Comparisons:
        """Return all comparisons of different responses, with the labels flipped at this rate."""
        return Comparisons.population(self.world(flip_rate), self.sampling, distinct=True)

    def samples(self, n: int, repeats: int, seed: int) -> Comparisons:
        """Draw data sets of n comparisons with flipped labels."""
        return replicated_comparisons(
            self.world(self.flip_rate), n, repeats, seed=seed, policy=self.sampling
        )

    def loss(self, name: str) -> functools.partial[Any]:
        """Return the loss of this name, told the true rate."""
        options: dict[str, Any] = {
            "DPO": {},
            "cDPO": {"label_smoothing": self.flip_rate},
            "rDPO": {"flip_rate": self.flip_rate},
        }[name]
        return functools.partial(
            losses.rdpo if name == "rDPO" else losses.dpo, beta=self.beta, **options
        )

    def fit(self, name: str, data: Comparisons, **options: Any) -> LogLinearPolicy:
        """Fit the log-linear policy to the data."""
        start = LogLinearPolicy.from_features(self.features)
        return fit(start, self.loss(name), data, reference=start, **options).policy

    @property
    def optimum(self) -> LogLinearPolicy:
        """The policy that the clean population teaches."""
        return LogLinearPolicy.from_features(self.features, weights=self.weights)


def linear_task(
    seed: int,
    flip_rate: float,
    beta: float = 0.5,
    *,
    offset: float = 0.0,
    covered: bool = True,
    scale: float = 1.0,
    contexts: int = 5,
) -> LinearTask:
    rng = np.random.default_rng(seed)
    features, weights = (
        rng.standard_normal((contexts, 4, 3)) / math.sqrt(3),
        scale * rng.standard_normal(3) / beta,
    )
    sampling = TabularPolicy.uniform(contexts, 4)
    if not covered:
        # Only the last response says anything about the last weight, and it is never compared.
        features[:, :-1, -1] = 0.0
        sampling = TabularPolicy.from_probs(np.tile([1 / 3, 1 / 3, 1 / 3, 0.0], (contexts, 1)))
    return LinearTask(features, weights, beta, flip_rate, sampling, offset)


RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
STYLE = {"DPO": ("C0", "o"), "cDPO": ("C1", "s"), "rDPO": ("C2", "D")}


def flip_study(seed: int) -> LinearTask:
    features = np.random.default_rng(seed).standard_normal((10, 5, 4)) / 2
    return LinearTask(
        features, 4 * np.asarray([1.5, -1.0, 0.5, 2.0]), 0.5, 0.0, TabularPolicy.uniform(10, 5)
    )


def _gaps(
    task: LinearTask, names: tuple[str, ...], n: int, repeats: int, seed: int
) -> dict[str, np.ndarray]:
    """Return the reward lost against π*, ``(repeats,)``, of every loss on the same data sets."""
    data = task.samples(n, repeats, seed)

    def ridge(policy: Any) -> Any:
        return 0.5e-3 * task.beta**2 * (policy.parameters**2).sum(-1)

    fitted = {name: task.fit(name, data, penalty=ridge).log_probs for name in names}
    return {
        name: to_numpy(suboptimality(table, task.world(), comparator=task.optimum.log_probs))
        for name, table in fitted.items()
    }


def flip_experiment(run: Run) -> Reproduction:
    from matplotlib.figure import Figure

    study, repeats = flip_study(run.seed), 30 if run.quick else 300
    by_rate = {
        rate: _gaps(study._replace(flip_rate=rate), NAMES, 2000, repeats, run.seed + 1000)
        for rate in run.progress(RATES, "flip rates")
    }
    by_size = {
        n: _gaps(study._replace(flip_rate=0.4), ("DPO", "rDPO"), n, repeats, run.seed + 1000)
        for n in run.progress((500, 2000, 8000), "data sizes at flip rate 0.4")
    }
    mean = {
        rate: {name: float(gap.mean()) for name, gap in gaps.items()}
        for rate, gaps in by_rate.items()
    }
    sized = {
        name: [float(gaps[name].mean()) for gaps in by_size.values()] for name in ("DPO", "rDPO")
    }

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    panels: list[tuple[Any, tuple[Any, ...], dict[Any, dict[str, np.ndarray]], tuple[str, ...]]] = [
        (left, RATES, by_rate, NAMES),
        (right, tuple(by_size), by_size, ("DPO", "rDPO")),
    ]
    for axes, at, gaps, names in panels:
        for name in names:
            colour, marker = STYLE[name]
            rows = np.asarray([gaps[x][name] for x in at])
            error = 1.96 * rows.std(axis=1) / math.sqrt(repeats)
            axes.errorbar(
                at,
                rows.mean(axis=1),
                yerr=error,
                color=colour,
                marker=marker,
                capsize=3,
                label=name,
            )
        axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
        axes.set_ylabel("reward lost against π*  (units of reward)")
    left.set(xlabel="flip rate ε of the labels", title="n = 2000 comparisons", xticks=RATES)
    right.set(
        xlabel="comparisons n",
        title="flip rate ε = 0.4",
        xscale="log",
        xticks=list(by_size),
        xticklabels=[str(n) for n in by_size],
    )
    right.minorticks_off()
    left.legend(title="loss")
    right.legend(title="loss")
    figure.suptitle(
        "Correcting the loss for flipped labels keeps the reward; smoothing loses it  (mean, 95 %"
        f" interval, {repeats} data sets)"
    )

    noisy = [mean[rate] for rate in RATES if rate > 0]
    kept = max(gap["rDPO"] / gap["DPO"] for gap in noisy)
    worse = min(gap["cDPO"] / gap["DPO"] for gap in noisy)
    at_zero = max(float(np.abs(by_rate[0.0][name] - by_rate[0.0]["DPO"]).max()) for name in NAMES)
    falls = bool(np.all(np.diff(sized["rDPO"]) < 0))
    steady = max(sized["DPO"]) / min(sized["DPO"]) - 1
    criteria = (
        Criterion(
            "rDPO keeps its reward",
            "gap < 0.2 × gap of DPO for ε ≥ 0.1",
            f"largest ratio {kept:.3f}",
            kept < 0.2,
        ),
        Criterion(
            "smoothing loses more",
            "gap of DPO < gap of cDPO for ε ≥ 0.1",
            f"smallest ratio cDPO/DPO {worse:.2f}",
            worse > 1,
        ),
        Criterion("no flips, no difference", "equal at ε = 0 to 1e-10", at_zero, at_zero <= 1e-10),
        Criterion(
            "more data help rDPO",
            "gap falls with n at ε = 0.4",
            " → ".join(f"{gap:.4f}" for gap in sized["rDPO"]),
            falls,
        ),
        Criterion(
            "more data do not help DPO",
            "gap stays at ε = 0.4 (within 10 %; near 2.1)",
            " → ".join(f"{gap:.3f}" for gap in sized["DPO"]),
            steady < 0.1,
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {"flip rate": rate, "n": 2000, **mean[rate]} for rate in RATES
    ]
    table += [
        {"flip rate": 0.4, "n": n, **{name: float(gap.mean()) for name, gap in by_size[n].items()}}
        for n in (500, 8000)
    ]
    return Reproduction(figure, table, criteria)
