"""Completions drawn from one Llama: prefsim's ``sample`` and transformers' ``generate``.

The same prompts, as many completions and new tokens, no end token, with a cache; both in one
process, taking turns.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import sys
import time
from typing import Any

from _lm_settings import CPU, Setting
from _lm_steps import made

__all__ = ["generation", "show_generation"]

PROMPTS, COMPLETIONS, NEW_TOKENS = 4, 4, 64


def endless(setting: Setting) -> Any:
    """Return a policy of token ids that no token ends, so that all completions are of one size."""
    from prefsim.lm import CausalLM

    model = made(setting, "cpu").model.eval()
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return CausalLM.from_model(model, None)


def surprise(policy: Any, prompts: list[list[int]], completions: list[list[list[int]]]) -> float:
    """Return by how many standard errors log-probabilities of draws are off their expectation.

    Each token's, given those before it, is the negative entropy of the distribution that it is
    drawn from: the differences are a martingale.
    """
    import torch

    off = variance = 0.0
    for prompt, drawn in zip(prompts, completions, strict=True):
        for completion in drawn:
            ids = torch.tensor([prompt + completion])
            with torch.no_grad():
                logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            logs = logits.double().log_softmax(-1)
            probs = logs.exp()
            mean = (probs * logs).sum(-1)
            off += float((logs.gather(-1, ids[0, len(prompt) :, None])[:, 0] - mean).sum())
            variance += float(((probs * logs**2).sum(-1) - mean**2).sum())
    return abs(off) / math.sqrt(variance)


def generation(names: list[str], threads: list[int], rounds: int) -> list[dict[str, Any]]:
    """Return one row for each model and number of threads: CPU seconds of both, the median."""
    if importlib.util.find_spec("transformers") is None:
        print("generation left out: transformers is not installed", file=sys.stderr)
        return []
    import numpy as np
    import torch

    rows = []
    for name in names:
        setting = CPU[name]
        policy = endless(setting)
        drawn = np.random.default_rng(0).integers(3, setting.vocabulary, (PROMPTS, setting.prompt))
        ids, prompts = torch.from_numpy(drawn), drawn.tolist()

        def ours(policy: Any, prompts: list[list[int]], seed: int) -> list[list[list[int]]]:
            found: list[list[list[int]]] = policy.sample(
                prompts, COMPLETIONS, seed, max_new_tokens=NEW_TOKENS, batch_size=PROMPTS
            )
            return found

        def theirs(policy: Any, ids: Any, seed: int) -> Any:
            torch.manual_seed(seed)
            return policy.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                num_return_sequences=COMPLETIONS,
                max_new_tokens=NEW_TOKENS,
                pad_token_id=0,
            )

        for count in threads:
            torch.set_num_threads(count)
            seconds: dict[str, list[float]] = {"prefsim": [], "transformers": []}
            found: Any = None
            for seed in range(rounds + 1):
                start = time.process_time()
                found = ours(policy, prompts, seed)
                between = time.process_time()
                theirs(policy, ids, seed)
                seconds["prefsim"].append(between - start)
                seconds["transformers"].append(time.process_time() - between)
            rows.append(
                {
                    "model": name,
                    "threads": count,
                    "tokens": sum(len(each) for some in found for each in some),
                    # The first turn warms up.
                    **{who: statistics.median(each[1:]) for who, each in seconds.items()},
                    "surprise": surprise(policy, prompts, found),
                }
            )
    return rows


def show_generation(rows: list[dict[str, Any]]) -> None:
    """Print the rows, each with its ratio to transformers'."""
    print(
        f"{PROMPTS} prompts, {COMPLETIONS} completions of each, {NEW_TOKENS} new tokens,"
        " temperature 1, with a cache; tokens a second of CPU time"
    )
    print(
        f"{'model':<9}{'threads':>7}{'prefsim':>10}{'transformers':>14}{'ratio':>7}{'surprise':>10}"
    )
    for row in rows:
        ours, theirs = (row["tokens"] / row[who] for who in ("prefsim", "transformers"))
        print(
            f"{row['model']:<9}{row['threads']:>7}{ours:>10.0f}{theirs:>14.0f}"
            f"{ours / theirs:>7.2f}{row['surprise']:>10.1f}"
        )
