"""One call, two policies.

What a transformer learns from a loss, beside the exact optimum of the same loss on a tree of
tokens.

A vocabulary of three tokens and completions of at most three make a world of fifteen completions.
There ``fit`` finds the optimum of any loss by Newton's method, and the same ``fit`` trains a
transformer by gradient steps; its whole distribution can be read off. Run
``python examples/bridge.py``: the figure and the numbers are in ``results/bridge``. It takes about
a minute.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.data.formats import atomic_path
from prefsim.loops.rounds import play_rounds
from prefsim.papers import Reproduction, at_least, at_most
from prefsim.solvers import fit, solve_nash
from prefsim.worlds import ContextualBandit, PreferenceGame, TokenTree

LETTERS = "ab."
PROMPTS = [[0]]
BOUND = 0.02
FLIPS, STEP, TAU = 0.1, 1.0, 0.5

#: Name, loss, and what the figure says about it.
METHODS: dict[str, tuple[Callable[..., Any], str]] = {
    "dpo": (functools.partial(losses.dpo, beta=0.5), "DPO"),
    "ipo": (functools.partial(losses.ipo, tau=0.3), "IPO"),
    "rdpo": (
        functools.partial(losses.rdpo, beta=0.5, flip_rate=FLIPS),
        f"robust DPO on {FLIPS:.0%} flips",
    ),
    "sppo": (functools.partial(losses.sppo, beta=0.3), "SPPO, one round"),
    "inpo": (functools.partial(losses.inpo, step=STEP, tau=TAU), "INPO, six rounds"),
}
COLOURS = {"dpo": "C0", "ipo": "C1", "rdpo": "C2", "sppo": "C3", "inpo": "C4"}


class Trace(NamedTuple):
    """What one method found.

    Attributes
    ----------
    exact, found
        Probabilities ``(N,)`` of the exact optimum (or equilibrium) and of the transformer.
    steps, distance
        Gradient steps, and the total variation between the two after them.
    seconds
        It took.
    exact_distance
        That of the exact updates of a method that goes in rounds, at the same places.
    """

    exact: np.ndarray
    found: np.ndarray
    steps: list[int]
    distance: list[float]
    seconds: float
    exact_distance: list[float] | None = None


def small_transformer(seed: int) -> Any:
    """Return a GPT-2 of a few thousand parameters over the tree's vocabulary.

    Its positions are learned: with rotary ones and no first token of its own, attention over "a"
    and over "aa" averages the same values, so that the model could not tell the two prefixes apart.
    """
    from transformers import GPT2Config

    from prefsim.lm import CausalLM

    sizes: dict[str, Any] = {"n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 8}
    return CausalLM.from_config(
        GPT2Config(vocab_size=3, bos_token_id=None, eos_token_id=2, initializer_range=0.1, **sizes),
        seed=seed,
    )


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the total variation between two distributions."""
    return float(0.5 * np.abs(first - second).sum())


def train_on_population(tree: TokenTree, start: Any, name: str, steps: int, rate: float) -> Trace:
    """Return what Newton's method and gradient steps make of one loss.

    It is taken on all pairs of the reference, each with its weight.
    """
    from prefsim.lm import CausalLM, tree_pairs, tree_policy

    since, loss = time.perf_counter(), METHODS[name][0]
    reference = tree_policy(start, tree, PROMPTS)
    population = Comparisons.self_play(tree.to_bandit(), reference)
    if name == "rdpo":
        population = population.relabelled(
            (1 - FLIPS) * population.prob + FLIPS * (1 - population.prob)
        )
    exact = fit(reference, loss, population, reference=reference).policy.probs[0]
    pairs: Any = tree_pairs(tree, population, PROMPTS)
    every = steps // 20
    with tempfile.TemporaryDirectory() as folder:
        options = _options(steps, len(pairs), rate) | {
            "out": folder,
            "save_every": every,
            "keep": steps,
        }
        trained = fit(start, loss, pairs, reference=start, **options).policy
        saved = sorted(Path(folder).glob("checkpoints/step-*"))
        policies = [start, *(CausalLM.load(checkpoint / "model") for checkpoint in saved)]
        path = [distance(tree_policy(policy, tree, PROMPTS).probs[0], exact) for policy in policies]
    found = tree_policy(trained, tree, PROMPTS).probs[0]
    done = [0, *(int(checkpoint.name.removeprefix("step-")) for checkpoint in saved)]
    return Trace(exact, found, done, path, time.perf_counter() - since)


def train_by_self_play(
    tree: TokenTree, start: Any, preference: np.ndarray, rounds: int, steps: int, rate: float
) -> Trace:
    """Return the equilibrium of a game among the completions, and how near INPO comes to it.

    INPO learns from the transformer's own pairs, round after round.
    """
    from prefsim.lm import trainer, tree_pairs, tree_policy

    since = time.perf_counter()
    world, reference = ContextualBandit(preference=preference), tree_policy(start, tree, PROMPTS)
    equilibrium = solve_nash(preference, method="regularised", reference=reference.probs, tau=TAU)
    exact = equilibrium.policy[0]

    def pairs_of_round(policy: Any, opponent: Any, rng: Any) -> Any:
        table = tree_policy(policy, tree, PROMPTS)
        return tree_pairs(tree, Comparisons.self_play(world, table), PROMPTS)

    pairs = tree.n_sequences * (tree.n_sequences + 1) // 2
    train = trainer(**_options(steps, pairs, rate))
    played = play_rounds(
        start,
        pairs_of_round,
        METHODS["inpo"][0],
        rounds=rounds,
        seed=0,
        reference=start,
        train=train,
    )
    tables = [
        reference.probs[0],
        *(tree_policy(each.policy, tree, PROMPTS).probs[0] for each in played),
    ]
    done = [steps * i for i in range(rounds + 1)]
    path = [distance(table, exact) for table in tables]
    updates = {
        "step": STEP,
        "tau": TAU,
        "reference": reference.probs,
        "initial": reference.probs,
    }
    history: Any = solve_nash(
        preference, method="inpo", max_iterations=rounds, tolerance=0.0, record=1, **updates
    ).history
    return Trace(
        exact,
        tables[-1],
        done,
        path,
        time.perf_counter() - since,
        [distance(table[0], exact) for table in history.policy],
    )


def _options(steps: int, batch_size: int, rate: float) -> dict[str, Any]:
    """Every step sees the whole population.

    What is left of the distance is neither noise of sampling nor of batches.
    """
    schedule = {"learning_rate": rate, "schedule": "cosine", "warmup": 0.05, "max_grad_norm": None}
    return {
        "steps": steps,
        "batch_size": batch_size,
        "order": "given",
        "progress": False,
        **schedule,
    }


def bridge(
    *, quick: bool = False, seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> Reproduction:
    """Train a transformer with every method and hold it against the exact answer.

    Parameters
    ----------
    quick
        A tree of seven completions and fewer steps.
    seed
        Of the rewards, the game and the transformer.
    say
        Told of every method that is done.
    """
    from prefsim.lm import tree_completions, tree_policy

    tree = TokenTree.random(3, 2 if quick else 3, seed=seed, end_token=2)
    preference = PreferenceGame.random(tree.n_sequences, seed=seed, batch_shape=(1,)).preference
    start = small_transformer(seed)
    parameters = sum(weights.numel() for weights in start.model.parameters())
    traces = {}
    for name in METHODS:
        if name == "inpo":
            traces[name] = train_by_self_play(tree, start, preference, 6, 40, 5e-3)
        else:
            traces[name] = train_on_population(tree, start, name, 120 if quick else 180, 1e-2)
        found = traces[name]
        say(
            f"{name}: total variation {found.distance[0]:.3f} before, {found.distance[-1]:.1e}"
            f" after, {found.seconds:.0f} s"
        )
    labels = ["".join(LETTERS[token] for token in ids) for ids in tree_completions(tree)]
    reference = tree_policy(start, tree, PROMPTS).probs[0]
    rows: list[dict[str, str | float | int]] = [
        {
            "loss": name,
            "TV before": round(trace.distance[0], 4),
            "TV after": round(distance(trace.found, trace.exact), 6),
            "largest error of a probability": round(
                float(np.abs(trace.found - trace.exact).max()), 6
            ),
            "steps": trace.steps[-1],
        }
        for name, trace in traces.items()
    ]
    criteria = (
        *(
            at_most(
                f"{name}: total variation of the transformer's policy from the exact optimum",
                distance(trace.found, trace.exact),
                BOUND,
                stated="chosen",
            )
            for name, trace in traces.items()
        ),
        at_least(
            "the same of each before training",
            [trace.distance[0] for trace in traces.values()],
            BOUND,
            stated="chosen",
        ),
    )
    return Reproduction(draw_bridge(traces, reference, labels, parameters), rows, criteria)


def draw_bridge(
    traces: dict[str, Trace], reference: np.ndarray, labels: list[str], parameters: int
) -> Any:
    """Return the figure.

    A panel of probabilities for each method, and the distance by gradient step.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7.6), layout="constrained")
    axes = figure.subplots(2, 3)
    worst = max(distance(trace.found, trace.exact) for trace in traces.values())
    figure.suptitle(
        f"A transformer of {parameters:,} parameters, trained by gradient steps, lands on the exact"
        f" optimum of every loss (total variation, TV, at most {worst:.1g})"
    )
    place = np.arange(len(labels))
    top = 1.5 * max(reference.max(), *(trace.exact.max() for trace in traces.values()))
    for panel, (name, trace) in zip(axes.flat, traces.items(), strict=False):
        panel.bar(
            place,
            reference,
            color="0.85",
            width=0.8,
            label="reference, where the transformer starts",
        )
        goal = "Nash equilibrium" if name == "inpo" else "exact optimum"
        panel.plot(
            place, trace.exact, "s", color="black", fillstyle="none", markersize=9, label=f"{goal}"
        )
        panel.plot(
            place, trace.found, "o", color=COLOURS[name], markersize=4.5, label="transformer"
        )
        panel.set_title(
            f"{METHODS[name][1]}: TV {trace.distance[0]:.2f} →"
            f" {distance(trace.found, trace.exact):.1g}"
        )
        panel.set_xticks(place, labels, family="monospace", rotation=90)
        panel.set(xlabel="completion (the dot ends it)", ylabel="probability", ylim=(0, top))
        panel.legend(fontsize=8, loc="upper right")
    last = axes.flat[-1]
    for name, trace in traces.items():
        width = 5 if name == "dpo" else 1.5  # robust DPO goes the very same way
        last.plot(
            trace.steps,
            trace.distance,
            "o-",
            color=COLOURS[name],
            linewidth=width,
            markersize=3.5,
            label=METHODS[name][1],
        )
        if trace.exact_distance is not None:
            exact = {"markersize": 9, "fillstyle": "none", "label": "exact updates of INPO"}
            last.plot(trace.steps, trace.exact_distance, "s", color="black", **exact)
    last.axhline(
        BOUND, color="black", linestyle="--", linewidth=1, label=f"bound of the test, {BOUND}"
    )
    last.set(
        yscale="log",
        xlabel="gradient steps",
        ylabel="TV to the exact optimum",
        title="Distance while training",
    )
    last.set_ylim(top=1e3)
    last.set_yticks([1, 1e-2, 1e-4, 1e-6])
    last.legend(fontsize=8, loc="upper right", ncols=2)
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Run, write figure and numbers, and return 0 if every method met the bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seven completions and fewer steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/bridge"))
    given = parser.parse_args(arguments)
    from transformers.utils import logging

    logging.disable_progress_bar()  # one for every checkpoint otherwise
    found = bridge(
        quick=given.quick,
        seed=given.seed,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    given.out.mkdir(parents=True, exist_ok=True)
    with atomic_path(given.out / "figure.png") as partial:
        found.figure.savefig(partial, dpi=120, format="png")
    result = {
        "table": found.table,
        "criteria": [criterion._asdict() for criterion in found.criteria],
    }
    with atomic_path(given.out / "result.json") as partial:
        Path(partial).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for criterion in found.criteria:
        print(
            f"{'pass' if criterion.passed else 'FAIL'}  {criterion.name}: {criterion.measured}"
            f" ({criterion.bound})"
        )
    return 0 if all(criterion.passed for criterion in found.criteria) else 1


if __name__ == "__main__":
    sys.exit(main())
