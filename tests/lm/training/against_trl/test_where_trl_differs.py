"""Where TRL is not the oracle: its value and ours against an expression of their own."""

import functools
import math

import numpy as np
import pytest
import torch
from trl_oracle import (
    TOLERANCE,
    batch_of,
    of_fit,
    of_trl,
    softplus,
)

from prefsim import losses
from prefsim.lm import TextComparisons

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

p = functools.partial


def log_ratios(models, pairs):
    """Log-ratios in float64 from whole logits, one sequence at a time."""
    found = []
    for column in (pairs.chosen, pairs.rejected):
        sums = []
        for each in models:
            rows = []
            for prompt, completion in zip(pairs.prompt, column, strict=True):
                with torch.no_grad():
                    logs = (
                        each.model(input_ids=torch.tensor([prompt + completion]))
                        .logits[0]
                        .double()
                        .log_softmax(-1)
                    )
                rows.append(
                    sum(
                        float(logs[len(prompt) + t - 1, token])
                        for t, token in enumerate(completion)
                    )
                )
            sums.append(np.asarray(rows))
        found.append(sums[0] - sums[1])
    return found


def value_of(models, loss, pairs):
    return of_fit(models[0], loss, pairs, models[1])[0]


def test_label_smoothing_is_ignored_by_trl(models, dpo_trainer, pairs):
    """TRL has no conservative DPO: 'sigmoid' drops the setting without a word."""
    chosen, rejected = log_ratios(models, pairs)
    z = 0.3 * (chosen - rejected)
    expected = np.mean(0.8 * softplus(-z) + 0.2 * softplus(z))
    assert value_of(models, p(losses.dpo, beta=0.3, label_smoothing=0.2), pairs) == pytest.approx(
        expected, rel=TOLERANCE
    )
    theirs = of_trl(dpo_trainer, loss_types=["sigmoid"], beta=0.3, label_smoothing=0.2)[0]
    assert theirs == pytest.approx(np.mean(softplus(-z)), rel=TOLERANCE)
    assert abs(theirs - expected) > 1e-2


@pytest.mark.parametrize("kind", ["ipo", "sigmoid_norm"])
def test_only_scored_tokens_are_counted(models, dpo_trainer, pairs, kind):
    """TRL 1.16 divides by one token too many where truncation left no prompt (its issue 6879).

    Nothing predicts that token, and so it is not scored.
    """
    inputs = batch_of(dpo_trainer)
    whole = [
        [prompt + row for prompt, row in zip(pairs.prompt, column, strict=True)]
        for column in (pairs.chosen, pairs.rejected)
    ]
    inputs["completion_mask"] = inputs["attention_mask"].clone()
    cut = TextComparisons(
        [row[:1] for row in whole[0]], *([row[1:] for row in side] for side in whole)
    )
    chosen, rejected = log_ratios(models, cut)

    def expected(extra):
        a, b = (
            ratio / np.asarray([len(row) + extra for row in side])
            for ratio, side in ((chosen, cut.chosen), (rejected, cut.rejected))
        )
        return (
            np.mean((a - b - 1 / 0.6) ** 2) if kind == "ipo" else np.mean(softplus(-3.0 * (a - b)))
        )

    loss = (
        p(losses.ipo, tau=0.3, average=True) if kind == "ipo" else p(losses.sigmoid_norm, beta=3.0)
    )
    assert value_of(models, loss, cut) == pytest.approx(expected(0), rel=TOLERANCE)
    theirs = of_trl(
        dpo_trainer, inputs=inputs, loss_types=[kind], beta=0.3 if kind == "ipo" else 3.0
    )[0]
    assert theirs == pytest.approx(
        expected(1), rel=TOLERANCE
    )  # a release that has repaired it fails here: compare with expected(0) then


def test_finite_where_trl_overflows(models, dpo_trainer, pairs):
    """TRL's discopop multiplies an overflowed exponential by a weight of zero."""
    turned = TextComparisons(pairs.prompt, pairs.rejected, pairs.chosen)
    inputs = {
        name: torch.cat(value.chunk(2)[::-1]) for name, value in batch_of(dpo_trainer).items()
    }
    chosen, rejected = log_ratios(models, turned)
    beta = float(200 / (rejected - chosen).max())
    z = beta * (chosen - rejected)
    assert z.min() == pytest.approx(-200)
    expected = np.mean(
        softplus(-z) / (1 + np.exp(np.minimum(z / 0.05, 700))) + np.exp(-softplus(-z / 0.05) - z)
    )
    value, gradients = of_fit(models[0], p(losses.discopop, beta=beta, tau=0.05), turned, models[1])
    assert value == pytest.approx(expected, rel=TOLERANCE)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values())
    assert math.isnan(of_trl(dpo_trainer, inputs=inputs, loss_types=["discopop"], beta=beta)[0])
