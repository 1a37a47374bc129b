"""DPO and PPO of a tiny language model on reviews, all combinations in small."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "vaderSentiment", reason="the judge needs the VADER lexicon: pip install vaderSentiment"
)
EXAMPLES = str(Path(__file__).resolve().parents[2] / "examples")


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        import dpo_or_ppo

        yield dpo_or_ppo
    for name in ("dpo_or_ppo", "frontier_runs", "reviews", "attainable"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def small(study):
    return study.Settings(
        count=240,
        hidden=32,
        pretraining_steps=12,
        pairs=24,
        more_pairs=48,
        steps=3,
        rounds=2,
        drawn=12,
        round_steps=1,
        batch_size=8,
        evaluation=2,
        max_new_tokens=6,
        rows=64,
        seeds=(3,),
    )


@pytest.fixture(scope="module")
def done(study, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dpo_or_ppo")
    study.everything(small, folder)
    return folder


def test_every_combination_is_measured_and_nothing_is_done_twice(study, small, done, capsys):
    cells = json.loads((done / "seed-3.json").read_text())["cells"]
    # DPO reads no reward model: one training where PPO has two.
    assert len(cells) == 2 * (1 + 2) + 2
    assert all(np.isfinite([cell["reward"], cell["kl"]]).all() for cell in cells.values())
    trained = {name: cell["kl"] for name, cell in cells.items() if not name.startswith("the ")}
    # Estimates of a few texts, which may be negative: but none is that of a model that stayed.
    assert 0.0 not in trained.values() and len(set(trained.values())) == 6
    optimum, reference = (cells[f"the {name}"] for name in ("optimum", "reference"))
    assert optimum["reward"] > reference["reward"] and optimum["kl"] > 0
    before = (done / "seed-3.json").stat().st_mtime_ns
    study.everything(small, done)
    assert (done / "seed-3.json").stat().st_mtime_ns == before
    assert not capsys.readouterr().out


def test_the_factorial_has_dpo_wherever_there_is_no_reward_model(study, small, done):
    found = study.factorial_of(small, done)
    assert found.scores.shape == (2, 2, 2, 1)
    dpo = found.at(algorithm="DPO").scores
    np.testing.assert_array_equal(dpo[:, 0], dpo[:, 1])
    cells = json.loads((done / "seed-3.json").read_text())["cells"]
    assert found.at(flips=0.3, algorithm="PPO", labels="more").scores.tolist() == [
        cells["PPO, flips 0.3, more labels"]["reward"]
    ]


def test_what_is_printed(study, small, done, tmp_path):
    alone = study.lines_of(small, done)
    assert len(alone) == 1 + 8 and "PPO, flips 0.3, more labels" in alone[6]
    cells = json.loads((done / "seed-3.json").read_text())
    for seed in (0, 1):
        for name, cell in cells["cells"].items():
            cell["reward"] = (name.startswith("PPO")) * 0.25 - 0.5 * ("0.3" in name) + seed
        (tmp_path / f"seed-{seed}.json").write_text(json.dumps(cells))
    lines = study.lines_of(dataclasses.replace(small, seeds=(0, 1)), tmp_path)
    effects = [line.split() for line in lines[10:]]
    assert [row[-3] for row in effects] == ["0.500", "0.250", "0.000", "0.000"]
    assert [row[-1] for row in effects] == ["0.000"] * 4


def test_labels_are_flipped_at_their_rate(study, small, done):
    reference = study._reference(done, small)
    pairs = study.drawn_pairs(reference, 0, small)
    assert len(pairs) == 48
    none, all_ = (study.flipped(pairs, rate, 0) for rate in (0.0, 1.0))
    assert none.chosen == pairs.chosen and all_.chosen == pairs.rejected
    some = study.flipped(pairs, 0.3, 0)
    moved = [list(one) != list(other) for one, other in zip(some.chosen, pairs.chosen, strict=True)]
    assert 4 <= sum(moved) <= 26


def test_results_of_other_settings_are_not_mixed(study, small, done):
    with pytest.raises(ValueError, match="holds results of other settings"):
        study.everything(dataclasses.replace(small, steps=6), done)
