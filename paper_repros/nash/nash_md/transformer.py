"""Nash-MD-PG on a small transformer, held against the exact solution of the game that it plays.

Its answers are the sequences of a token tree, all of which are enumerated: the gradient of the loss
is taken over all of them, or from samples with the library's rounds for language models.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.nash.nash_md.policy_gradient import TreeGames
from prefsim.backend import to_numpy
from prefsim.loops import play_rounds
from prefsim.losses import nash_md_pg
from prefsim.numerics import categorical_kl
from prefsim.papers import Criterion, Run, at_most, near
from prefsim.papers.figures import BLUE, VERMILION
from prefsim.solvers.games.certificates import regularised_gap
from prefsim.testing.games import random_games
from prefsim.worlds import TokenTree

if TYPE_CHECKING:
    from torch import Tensor

    from prefsim.lm import CausalLM

NEEDED = ("transformers", "accelerate")
# One game for each prompt; answers are three tokens long.
PROMPTS = ((0, 0), (0, 1), (1, 0), (1, 1))
TREE = TokenTree(3, 3, context_probs=np.full(len(PROMPTS), 1 / len(PROMPTS)))
TAU, MIXTURES = 0.1, (0.0, 0.5)
STEPS, RATE = 500, 0.004
# Of samples: two falling rates, and answers to each prompt in a round.
ROUNDS, SGD_RATES, ANSWERS = 40, (0.3, 0.1), 256


def is_installed() -> bool:
    """Return whether language models can be made here."""
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def small_transformer(seed: int) -> CausalLM:
    """Return a transformer of two layers and random weights, over the tree's tokens."""
    from transformers import GPT2Config

    from prefsim.lm import CausalLM

    config = GPT2Config(
        vocab_size=TREE.vocabulary_size,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=8,
        # Far from uniform, as a reference should be.
        initializer_range=0.3,
        # An answer is a sequence of the tree: no token ends it.
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return CausalLM.from_config(config, seed=seed, dtype="float64")


class ModelOnTree(NamedTuple):
    """What a language model says of all sequences, with a derivative.

    Attributes
    ----------
    token_log_prob_table
        ``(X, N, T)`` in nats.
    """

    token_log_prob_table: Tensor

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities of the sequences, ``(X, N)``."""
        return self.token_log_prob_table.sum(-1)


class Distances(NamedTuple):
    """How far a policy is from what is exact, means over the prompts.

    Attributes
    ----------
    step
        After how many.
    divergence
        KL(π^κ‖π) in nats, from the point at which the policy gradient vanishes.
    gap
        The regularised gap.
    """

    step: int
    divergence: float
    gap: float


class Course(NamedTuple):
    """What came of training with the mixture κ.

    Attributes
    ----------
    stated_gap
        The regularised gap of the point at which the policy gradient vanishes.
    distances
        From before the first step to the last one.
    """

    stated_gap: float
    distances: list[Distances]

    @property
    def left(self) -> float:
        """Share of the first divergence that is left in the end."""
        return self.distances[-1].divergence / self.distances[0].divergence


class Contest(NamedTuple):
    """The games of a transformer, which is their reference."""

    model: CausalLM
    games: TreeGames

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Contest:
        """Return a random transformer with a random game for each prompt."""
        from prefsim.lm.online.trees import tree_policy

        model = small_transformer(int(rng.integers(2**31)))
        table = random_games(len(PROMPTS), TREE.n_sequences, seed=rng)
        return cls(model, TreeGames(table, tree_policy(model, TREE, PROMPTS), TAU))

    def measured(self, policy: np.ndarray, mixture: float, step: int) -> Distances:
        """Measure the log-probabilities ``(X, N)`` of a policy."""
        point = np.log(self.games.stationary_point(mixture))
        return Distances(
            step, float(categorical_kl(point, policy).mean()), self.gap(np.exp(policy))
        )

    def gap(self, policy: np.ndarray) -> float:
        """Return the mean regularised gap of policies ``(X, N)``."""
        reference = np.exp(self.games.log_reference)
        return float(
            regularised_gap(self.games.preference, policy, reference=reference, tau=TAU).mean()
        )

    def course(self, mixture: float, distances: list[Distances]) -> Course:
        """Return distances with what they are held against."""
        return Course(self.gap(self.games.stationary_point(mixture)), distances)

    def descend(self, mixture: float, *, steps: int, record: int) -> Course:
        """Train by the mean loss of all sequences, with Adam and a rate that rises, then falls."""
        import torch

        trained = self.model.frozen()
        trained.log_prob_model.requires_grad_(True)
        enumerated = on_tree(trained)
        optimiser = torch.optim.Adam(trained.log_prob_model.parameters(), lr=RATE)
        # The first steps of Adam are as large as the later ones, and go astray at the full rate.
        shape = functools.partial(rate_at, steps=steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, shape)
        found = []
        for step in range(steps + 1):
            policy = enumerated()
            if step % record == 0 or step == steps:
                found.append(self.measured(to_numpy(policy.log_probs.detach()), mixture, step))
            optimiser.zero_grad()
            (self.games.mean_loss(policy, mixture) / len(PROMPTS)).backward()
            optimiser.step()
            schedule.step()
        return self.course(mixture, found)

    def play(self, mixture: float, *, rounds: int, record: int, seed: int) -> Course:
        """Train on samples: each round draws answers, has them judged, and makes one step."""
        from prefsim.lm.online.rounds import draw_judged, trainer
        from prefsim.lm.online.trees import tree_judge, tree_policy

        size = ANSWERS * len(PROMPTS)
        draw = draw_judged(
            PROMPTS,
            tree_judge(TREE, self.games.preference, PROMPTS),
            n_samples=ANSWERS,
            max_new_tokens=TREE.sequences.shape[-1],
            batch_size=size,
            reference=self.model,
            mixture=mixture,
        )
        policy, step, found = self.model, 0, [self.measured(self.games.log_reference, mixture, 0)]
        for phase, rate in enumerate(SGD_RATES):
            once = trainer(
                steps=1,
                optimizer="sgd",
                learning_rate=rate,
                schedule="constant",
                batch_size=size,
            )
            played = play_rounds(
                policy,
                draw,
                functools.partial(nash_md_pg, tau=TAU),
                rounds=rounds,
                seed=seed + phase,
                reference=self.model,
                train=once,
            )
            for each in played:
                policy, step = each.policy, step + 1
                if step % record == 0:
                    exact = to_numpy(tree_policy(policy, TREE, PROMPTS).log_probs)
                    found.append(self.measured(exact, mixture, step))
        return self.course(mixture, found)


def on_tree(model: CausalLM) -> Callable[[], ModelOnTree]:
    """Return what says how likely the model, as it is by then, finds all sequences."""
    from prefsim.lm.model.tokens import collate
    from prefsim.lm.online.trees import tree_completions

    leaves = tree_completions(TREE)
    prompts = [list(prompt) for prompt in PROMPTS for _ in leaves]
    batch = collate(model.encode(prompts, leaves * len(PROMPTS)), pad_id=model.pad_id)

    def now() -> ModelOnTree:
        tokens = model.log_prob_model(batch).logp[batch.completion_mask]
        return ModelOnTree(tokens.reshape(len(PROMPTS), len(leaves), -1))

    return now


def rate_at(step: int, *, steps: int) -> float:
    """Return the rate over its peak: from nothing to nothing, with the peak after a fifth."""
    share = step / steps
    return min(5 * share, 1.25 * (1 - share))


class Trained(NamedTuple):
    """Courses of training.

    Attributes
    ----------
    exact
        By mixture κ: of each transformer, by the loss of all sequences.
    sampled
        By mixture κ: of the first transformer, by rounds on samples.
    """

    exact: dict[float, list[Course]]
    sampled: dict[float, Course]


def train_transformers(run: Run, n_models: int) -> Trained:
    """Train transformers on random games, each from itself for each mixture κ."""
    rng = np.random.default_rng((run.seed, n_models))
    contests = [Contest.drawn(rng) for _ in range(n_models)]
    exact: dict[float, list[Course]] = {kappa: [] for kappa in MIXTURES}
    for contest in run.progress(contests, "transformers"):
        for kappa, courses in exact.items():
            courses.append(contest.descend(kappa, steps=STEPS, record=STEPS // 50))
    seed = int(rng.integers(2**31))
    sampled = {
        kappa: contests[0].play(kappa, rounds=ROUNDS, record=4, seed=seed)
        for kappa in run.progress(MIXTURES, "transformers on samples")
    }
    return Trained(exact, sampled)


def criteria_of(trained: Trained) -> tuple[Criterion, ...]:
    """Return what is expected of the transformers, whatever the seed."""
    gaps = trained.exact[0.0]
    mixed = trained.exact[MIXTURES[-1]]
    return (
        at_most(
            "transformers, all sequences: share that is left of KL(π^κ‖π) from the stationary"
            " point, κ = 0 and .5, mean",
            [np.mean([course.left for course in trained.exact[k]]) for k in MIXTURES],
            0.2,
            stated="chosen",
        ),
        at_most(
            "transformers, κ = 0: share that is left of the regularised gap",
            [course.distances[-1].gap / course.distances[0].gap for course in gaps],
            0.2,
            stated="chosen",
        ),
        near(
            "transformers, κ = .5: regularised gap in the end over that of the stationary point",
            [course.distances[-1].gap / course.stated_gap for course in mixed],
            1,
            within=0.3,
            stated="derived",
        ),
        at_most(
            f"transformer on {ANSWERS} samples a prompt and round: share that is left of KL(π^κ‖π)"
            " from the stationary point, κ = 0 and .5",
            [course.left for course in trained.sampled.values()],
            0.6,
            stated="chosen",
        ),
    )


def rows_of(trained: Trained) -> list[dict[str, str | float | int]]:
    """Return what the table says, of the first and the last step."""
    courses = [
        *(
            (f"transformer {i + 1}, all sequences", k, c)
            for k, cs in trained.exact.items()
            for i, c in enumerate(cs)
        ),
        *(("transformer 1, samples", k, c) for k, c in trained.sampled.items()),
    ]
    return [
        {
            "policy": name,
            "mixture κ": kappa,
            "steps": course.distances[-1].step,
            "KL(π^κ‖π), start": course.distances[0].divergence,
            "KL(π^κ‖π), end": course.distances[-1].divergence,
            "regularised gap, start": course.distances[0].gap,
            "regularised gap, end": course.distances[-1].gap,
            "regularised gap of π^κ": course.stated_gap,
        }
        for name, kappa, course in courses
    ]


def draw_trained(axes: Sequence[Any], trained: Trained) -> None:
    """Draw divergences and regularised gaps by step, and what the lines are, in three panels."""
    divergences, gaps, words = axes
    for colour, kappa in zip((BLUE, VERMILION), MIXTURES, strict=True):
        lines = [(course, "-", 1, "all sequences") for course in trained.exact[kappa]]
        lines.append((trained.sampled[kappa], "--", 2, "samples, one model"))
        for course, style, width, _ in lines:
            steps = [at.step for at in course.distances]
            shown = {"color": colour, "ls": style, "lw": width}
            divergences.plot(steps, [at.divergence for at in course.distances], **shown)
            gaps.plot(steps, [at.gap for at in course.distances], **shown)
        for _, style, width, name in lines[-2:]:
            label = f"{name}, κ = {kappa:g}"
            words.plot([], [], color=colour, ls=style, lw=width, label=label)
        if kappa:
            for course in trained.exact[kappa]:
                gaps.axhline(course.stated_gap, color=colour, ls=":", lw=0.8)
            label = f"gap of the stationary point, κ = {kappa:g}"
            words.plot([], [], color=colour, ls=":", lw=0.8, label=label)
    divergences.set(
        yscale="log",
        xlabel="gradient step",
        ylabel="KL(π$^κ$‖π) from its point (nats)",
        title="transformers of two layers",
    )
    gaps.set(
        yscale="log",
        xlabel="gradient step",
        ylabel="regularised gap",
        title="κ = .5 ends at the gap of its point",
    )
    words.set_axis_off()
    words.legend(loc="center", frameon=False)
