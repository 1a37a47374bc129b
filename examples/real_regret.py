"""The regret of a real model: what it plays when it is told what two actions have cost.

    python examples/real_regret.py --model FOLDER [--rounds 25] [--seeds 3] [--out FILE]

Families of losses, told as a chat; the answer that the model has begun ends where the action
is named. Prints regret, both tests and how much the model favours the first action, as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefsim.analysis import regret_regression_test, regret_trend_test
from prefsim.lm import CausalLM, TextGame, told_losses
from prefsim.lm.online.learners import action_ids
from prefsim.loops.online_play import (
    Learner,
    OnlinePlay,
    most_likely_loses,
    play_against,
    play_online,
)
from prefsim.losses.online import regret_path
from prefsim.solvers.online_learning.hedge import hedge_bound
from prefsim.worlds.loss_sequences import drawn_losses

ANSWER = "I choose action"


def told_in_chat(history: np.ndarray) -> list[dict[str, str]]:
    """Return the rounds as a message of the user, and an answer that has begun."""
    told = told_losses(history).removesuffix(ANSWER).rstrip()
    return [
        {"role": "user", "content": f"{told} which action do you choose, A or B?"},
        {"role": "assistant", "content": ANSWER},
    ]


def cached_learner(policy: CausalLM, game: TextGame) -> Learner:
    """Return the learner of one sequence at a time that reads only what is new in a round."""
    from transformers import DynamicCache

    names = action_ids(policy, game)
    read: list[int] = []
    cache: Any = DynamicCache()

    def learner(history: np.ndarray) -> np.ndarray:
        nonlocal read
        ids = policy.encode([game.describe(history)], [[names[0]]])[0].prompt_ids
        # The last token is read anew, so that something is.
        shared = next((i for i, (a, b) in enumerate(zip(read, ids, strict=False)) if a != b), None)
        known = min(len(read), len(ids) - 1) if shared is None else min(shared, len(ids) - 1)
        if len(read) > known:
            cache.crop(known - len(read))
        with torch.no_grad():
            new = torch.tensor([ids[known:]], device=policy.device)
            logits = policy.model(input_ids=new, past_key_values=cache, use_cache=True).logits
        read = ids
        return torch.softmax(logits[0, -1, names].double(), dim=-1).cpu().numpy()

    return learner


def plays(learner: Learner, rounds: int, seeds: int) -> dict[str, list[OnlinePlay]]:
    """Play the families: those that draw nothing once, the others with every seed."""
    found = {}
    for name in ("uniform", "gap", "alternating"):
        runs = 1 if name == "alternating" else seeds
        losses = drawn_losses([name], runs, rounds, seed=0)[0].round(2)
        found[name] = [play_online(learner, each) for each in losses]
        if name == "gap":
            # What favours a name shows where the names change places.
            found["gap, B is better"] = [play_online(learner, each[:, ::-1]) for each in losses]
    found["adaptive"] = [play_against(learner, most_likely_loses, rounds=rounds, shape=(2,))]
    return found


def summary(runs: list[OnlinePlay]) -> dict[str, Any]:
    """Return regrets, what the tests say of them, and how the model names the first action."""
    path = np.stack([regret_path(*play) for play in runs])
    trend, line = regret_trend_test(path), regret_regression_test(path)
    return {
        "regret": path[:, -1].round(2).tolist(),
        "p of the trend": trend.p_value.round(3).tolist(),
        "p of the regression": line.p_value.round(3).tolist(),
        "exponent": line.slope.round(2).tolist(),
        "mean probability of A": round(float(np.mean([r.decisions[:, 0] for r in runs])), 3),
        "its deviation over rounds": round(
            float(np.mean([r.decisions[:, 0].std() for r in runs])), 3
        ),
    }


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    policy = CausalLM.load(options.model, dtype="float32")
    learner = cached_learner(policy, TextGame(told_in_chat))
    found: dict[str, Any] = {
        name: summary(runs) for name, runs in plays(learner, options.rounds, options.seeds).items()
    }
    found["bound of Hedge"] = round(hedge_bound(options.rounds, 2), 2)
    text = json.dumps(found, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
