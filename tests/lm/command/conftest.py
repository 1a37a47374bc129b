"""A folder with everything that ``prefsim train`` is given, and the command itself."""

import gzip
import json

import pytest
from lm_made import FILM_PAIRS, byte_tokenizer, small_llama

from prefsim import cli
from prefsim.lm import CausalLM


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with a model, a tokenizer, a configuration and files of data."""
    folder = tmp_path_factory.mktemp("made")
    tokenizer = byte_tokenizer()
    CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0).save(folder / "model")
    CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=1).save(folder / "other")
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | sizes))
    (folder / "small.json").write_text(
        json.dumps({"model_type": "llama", "vocab_size": 10} | sizes)
    )
    (folder / "what.json").write_text(json.dumps({"model_type": "lama"}))
    lines = {
        "pairs.jsonl": FILM_PAIRS,
        "bad.jsonl": [*FILM_PAIRS[:2], FILM_PAIRS[2] | {"chosen": 3}],
        "empty_prompt.jsonl": [
            FILM_PAIRS[0],
            FILM_PAIRS[0] | {"prompt": [], "chosen": [], "rejected": []},
        ],
        "big_ids.jsonl": [
            {"prompt": [1], "chosen": [5], "rejected": [6]},
            {"prompt": [1], "chosen": [5], "rejected": [999]},
        ],
        "long.jsonl": [*FILM_PAIRS, FILM_PAIRS[0] | {"chosen": " cat" * 300}],
        "labels.jsonl": [
            {"prompt": "hello", "completion": " there", "label": i % 2 == 0} for i in range(4)
        ],
        "dialogues.jsonl": [
            {
                "chosen": "\n\nHuman: hi\n\nAssistant: a",
                "rejected": f"\n\nHuman: {x}\n\nAssistant: b",
            }
            for x in ("hi", "ho")
        ],
    }
    for name, rows in lines.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def prefsim(capsys, tmp_path, monkeypatch, made):
    """Run a command in this process, in a folder with links to what was made.

    Return (exit code, stdout, stderr).
    """
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.fixture
def write(tmp_path):
    """Write rows as a file of the given name; rows in text are written as they are."""

    def make(*rows, name="data.jsonl"):
        path = tmp_path / name
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return make
