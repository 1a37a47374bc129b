"""The benchmark of generation, with a toy."""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
generation = importlib.import_module("_lm_generation")
settings = importlib.import_module("_lm_settings")

TOY = settings.REHEARSAL["toy"]


def test_both_draw_the_same_number_of_tokens_and_ours_are_draws(monkeypatch, capsys):
    monkeypatch.setattr(generation, "CPU", {"toy": TOY})
    monkeypatch.setattr(generation, "NEW_TOKENS", 8)
    rows = generation.generation(["toy"], [1], 1)
    (row,) = rows
    assert row["tokens"] == generation.PROMPTS * generation.COMPLETIONS * 8
    assert row["prefsim"] > 0 and row["transformers"] > 0
    # A normal deviate: 5 has probability below 1e-6.
    assert row["surprise"] < 5
    generation.show_generation(rows)
    assert capsys.readouterr().out.splitlines()[-1].startswith("toy")


def test_what_is_no_draw_surprises():
    policy = generation.endless(TOY)
    likeliest = policy.sample([[5, 7]] * 2, 4, 0, max_new_tokens=32, temperature=0.01)
    assert generation.surprise(policy, [[5, 7]] * 2, likeliest) > 5
