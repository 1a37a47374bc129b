"""``--packing``: several sequences in a row, and the same training."""

import pytest
from lm_made import TRAIN, TWO_STEPS, report_of

from prefsim.lm.training import loss_evaluator


def test_the_command_packs(prefsim, monkeypatch):
    collated = loss_evaluator.collate_packed
    rows = []

    def noted(sequences, **options):
        batch = collated(sequences, **options)
        rows.append((len(sequences), len(batch.input_ids)))
        return batch

    monkeypatch.setattr(loss_evaluator, "collate_packed", noted)
    data = [f"{{'prompt': 'a', 'chosen': ' {'x' * n}', 'rejected': ' y'}}" for n in (30, 1, 2)]
    with open("uneven.jsonl", "w") as file:
        file.write("\n".join(data).replace("'", '"') + "\n")
    settings = (*TRAIN[:-1], "uneven.jsonl", *TWO_STEPS)
    padded = report_of(prefsim, *settings, "--out", "padded")
    assert not rows
    packed = report_of(prefsim, *settings, "--packing", "--out", "packed")
    assert packed["loss"] == pytest.approx(padded["loss"], rel=1e-5)
    assert all(held < given for given, held in rows) and len(rows) == 2
