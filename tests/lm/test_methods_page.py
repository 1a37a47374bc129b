"""The page of methods: up to date, and every draw that it names feeds its loss."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from prefsim.lm import draw_judged, draw_negatives, draw_pairs, draw_scored, reward_judge, trainer
from prefsim.lm.command.settings import trainable_losses
from prefsim.loops import play_rounds
from prefsim.papers.discovery import cards

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))
make_methods = importlib.import_module("make_methods")

PROMPTS = ["Was it good?", "Was it long?"]
DRAWN = sorted(
    {
        (name, make_methods.draws_for(loss))
        for _, paper in cards()
        for name, loss in make_methods.losses_of(paper).items()
        if make_methods.draws_for(loss)
    }
)


def test_the_page_is_what_the_cards_say():
    page = make_methods.FILE.read_text(encoding="utf-8")
    assert page == make_methods.page(), "run `make docs`"
    for family, paper in cards():
        assert f"| [{paper.slug}](../paper_repros/{family}/{paper.slug}/) |" in page


def test_every_diagnostic_has_its_functions():
    assert set(make_methods.MEASURES) == set(make_methods.DIAGNOSTICS)


def length(prompt, completion):
    return float(len(completion))


def drawing(draw, prompts):
    sampled = {"n_samples": 4, "max_new_tokens": 4}
    judge = reward_judge(length, scale=0.1)
    form = draw.partition('"')[2].rstrip('")') or "lists"
    return {
        "draw_scored": lambda: draw_scored(prompts, length, form=form, **sampled),
        "draw_pairs": lambda: draw_pairs(prompts, judge, **sampled),
        "draw_judged": lambda: draw_judged(prompts, judge, **sampled),
        "draw_negatives": lambda: draw_negatives(
            prompts, [" No."] * len(prompts), n_samples=2, max_new_tokens=4
        ),
    }[draw.partition("(")[0]]()


@pytest.mark.parametrize(("name", "draw"), DRAWN)
def test_a_round_of_what_is_drawn_trains(name, draw, llama):
    loss = trainable_losses()[name]
    train = trainer(steps=1, batch_size=8, learning_rate=1e-2, schedule="constant", warmup=0.0)
    start = llama.with_masks("common") if name == "sparse_po" else llama
    rounds = play_rounds(
        start, drawing(draw, PROMPTS), loss, rounds=1, seed=0, reference=llama, train=train
    )
    (played,) = rounds
    before, after = (dict(each.model.named_parameters()) for each in (start, played.policy))
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(torch.isfinite(value).all() for value in after.values())
