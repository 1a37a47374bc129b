"""What packing saves on dialogues that people compared: tokens of padding, and CPU time of steps.

The tokenizer is trained on them (byte-level, vocabulary 8,000); dialogues of more than 512 tokens
are left out.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import sys
from typing import Any

import numpy as np
from _lm_settings import CPU
from _lm_steps import BETA, RATE, Clock, made

__all__ = ["packing", "show_packing"]

VOCABULARY, LONGEST, BATCH = 8000, 512, 8
WAYS: dict[str, dict[str, Any]] = {
    "by length": {"order": "by_length"},
    "shuffled": {"order": "shuffled"},
    "shuffled, 4,096 tokens": {"order": "shuffled", "batch_size": 32, "micro_batch_tokens": 4096},
}


def dialogues() -> tuple[Any, Any] | None:
    """Return a tokenizer and pairs of dialogues, or None where the real data are not."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    from prefsim.data.locate import data_folder
    from prefsim.lm import TextComparisons
    from prefsim.lm.command.dialogues import read_compared

    folder = data_folder()
    path = None if folder is None else folder / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if path is None or not path.exists():
        return None
    found = read_compared(path)
    words = ByteLevelBPETokenizer()
    special = ["<pad>", "<s>", "</s>"]
    texts = itertools.chain(*found)
    words.train_from_iterator(
        texts, vocab_size=VOCABULARY, special_tokens=special, show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    sizes = [
        max(len(tokenizer(prompt + answer)["input_ids"]) for answer in answers) + 2
        for prompt, *answers in zip(*found, strict=True)
    ]
    kept = [i for i, size in enumerate(sizes) if size <= LONGEST]
    return tokenizer, TextComparisons(*([column[i] for i in kept] for column in found))


def tokens_of_epoch(sizes: np.ndarray, way: dict[str, Any], *, packed: bool) -> int:
    """Return the tokens of all micro-batches of an epoch, padding included."""
    from prefsim.lm.model.bins import packed_size
    from prefsim.lm.training.batches import Split, epoch_batches

    lengths = sizes.max(axis=1)
    tokens = way.get("micro_batch_tokens")
    split = Split(lengths, 2, 1, tokens, couples=False, packed=sizes if packed else None)
    batches = epoch_batches(
        lengths, way.get("batch_size", BATCH), order=way["order"], seed=0, epoch=0
    )
    return sum(
        packed_size(sizes[part].ravel()) if packed else 2 * len(part) * int(lengths[part].max())
        for batch in batches
        for part in split.of_step(batch, 1)
    )


def packing(steps: int, rounds: int) -> list[dict[str, Any]]:
    """Return one row for each way to batch: tokens of an epoch and CPU seconds a step, both ways.

    Ways take turns; the median of all steps but the first of a run.
    """
    import torch

    from prefsim import losses
    from prefsim.lm import CausalLM
    from prefsim.lm.training.token_rows import token_rows
    from prefsim.losses import container_of
    from prefsim.solvers import fit

    found = dialogues()
    if found is None:
        print("packing left out: the human pairs are in no folder of PREFSIM_DATA", file=sys.stderr)
        return []
    tokenizer, data = found
    torch.set_num_threads(1)
    loss = functools.partial(losses.dpo, beta=BETA)
    setting = CPU["small"]._replace(vocabulary=VOCABULARY, tokens=LONGEST)

    def policy() -> Any:
        return CausalLM.from_model(made(setting, "cpu").model, tokenizer)

    sizes = token_rows(policy(), data, container_of(loss)).sizes
    clock, seconds = Clock("cpu"), dict[tuple[str, bool], list[float]]()
    for _, (name, way), packed in itertools.product(range(rounds), WAYS.items(), (False, True)):
        clock.cpu.clear()
        model = policy()
        options = {"batch_size": BATCH} | way
        fit(
            model,
            loss,
            data,
            reference=model.frozen(),
            steps=steps,
            learning_rate=RATE,
            schedule="constant",
            warmup=0.0,
            in_place=True,
            progress=False,
            packing=packed,
            **options,
        )
        taken = [b - a for a, b in itertools.pairwise(clock.cpu)]
        seconds.setdefault((name, packed), []).extend(taken)
    return [
        {
            "way": name,
            "tokens": int(sizes.sum()),
            **{
                f"{kind} tokens": tokens_of_epoch(sizes, way, packed=packed)
                for kind, packed in (("padded", False), ("packed", True))
            },
            **{
                f"{kind} seconds": statistics.mean(seconds[name, packed])
                for kind, packed in (("padded", False), ("packed", True))
            },
        }
        for name, way in WAYS.items()
    ]


def show_packing(rows: list[dict[str, Any]]) -> None:
    """Print the rows: padding as a share of the tokens that are there."""
    print("DPO on human dialogues, reference in memory; padding of an epoch, CPU seconds a step")
    print(f"{'batches':<24}{'padded':>9}{'packed':>9}{'padded s':>10}{'packed s':>10}{'ratio':>7}")
    for row in rows:
        shares = (row[f"{kind} tokens"] / row["tokens"] - 1 for kind in ("padded", "packed"))
        share = "".join(f"{each:>9.0%}" for each in shares)
        before, after = row["padded seconds"], row["packed seconds"]
        print(f"{row['way']:<24}{share}{before:>10.2f}{after:>10.2f}{after / before:>7.2f}")
