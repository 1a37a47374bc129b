"""Every loss type of TRL's DPO trainer, and a whole training."""

import functools

import numpy as np
import pytest
import torch
from trl_oracle import (
    ROWS,
    TOLERANCE,
    assert_same,
    of_fit,
    of_trl,
    trainer_of,
)

from prefsim import losses
from prefsim.lm import TextComparisons, references_of
from prefsim.solvers import fit

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

p = functools.partial


def test_tokens_are_the_same(models, pairs):
    policy, _ = models
    for column in ("chosen", "rejected"):
        rows = policy.encode([row["prompt"] for row in ROWS], [row[column] for row in ROWS])
        assert [row.prompt_ids for row in rows] == pairs.prompt
        assert [row.completion_ids for row in rows] == getattr(pairs, column)


# TRL's loss type, its settings, and ours.
SAME = {
    "sigmoid": (["sigmoid"], {"beta": 0.3}, p(losses.dpo, beta=0.3)),
    "hinge": (["hinge"], {"beta": 0.3}, p(losses.hinge, beta=0.3)),
    "ipo": (["ipo"], {"beta": 0.3}, p(losses.ipo, tau=0.3, average=True)),
    "exo_pair": (
        ["exo_pair"],
        {"beta": 0.3, "label_smoothing": 1e-3},
        p(losses.exo_pair, beta=0.3, epsilon=1e-3),
    ),
    "nca_pair": (["nca_pair"], {"beta": 0.3}, p(losses.nca_pair, beta=0.3)),
    "robust": (
        ["robust"],
        {"beta": 0.3, "label_smoothing": 0.2},
        p(losses.rdpo, beta=0.3, flip_rate=0.2),
    ),
    "bco_pair": (["bco_pair"], {"beta": 0.3}, p(losses.bco_pair, beta=0.3)),
    "sppo_hard": (["sppo_hard"], {"beta": 0.3}, p(losses.sppo_hard, beta=0.3)),
    "aot": (["aot"], {"beta": 0.3}, p(losses.aot, beta=0.3)),
    "aot_unpaired": (["aot_unpaired"], {"beta": 0.3}, p(losses.aot_unpaired, beta=0.3)),
    "apo_zero": (["apo_zero"], {"beta": 0.3}, p(losses.apo_zero, beta=0.3)),
    "apo_down": (["apo_down"], {"beta": 0.3}, p(losses.apo_down, beta=0.3)),
    "discopop": (["discopop"], {"beta": 0.05}, p(losses.discopop, beta=0.05, tau=0.05)),
    "sigmoid_norm": (["sigmoid_norm"], {"beta": 3.0}, p(losses.sigmoid_norm, beta=3.0)),
    "forward KL": (
        ["sigmoid"],
        {"beta": 0.3, "f_divergence_type": "forward_kl"},
        p(losses.f_dpo, beta=0.3, divergence="forward_kl"),
    ),
    "Jensen-Shannon": (
        ["sigmoid"],
        {"beta": 0.3, "f_divergence_type": "js_divergence"},
        p(losses.f_dpo, beta=0.3, divergence="jensen_shannon"),
    ),
    # TRL's coefficient c is 1 - α.
    "alpha": (
        ["sigmoid"],
        {"beta": 0.3, "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
        p(losses.f_dpo, beta=0.3, divergence="alpha", alpha=0.3),
    ),
    "LD-DPO": (["sigmoid"], {"beta": 0.3, "ld_alpha": 0.4}, p(losses.ld_dpo, beta=0.3, alpha=0.4)),
}


@pytest.mark.parametrize("name", SAME)
def test_dpo_trainer(models, dpo_trainer, pairs, name):
    kinds, attributes, loss = SAME[name]
    theirs = of_trl(dpo_trainer, loss_types=kinds, **attributes)
    assert_same(of_fit(models[0], loss, pairs, models[1]), theirs)


def test_every_loss_type_of_the_dpo_trainer_is_compared(dpo_trainer):
    with pytest.raises(ValueError, match=r"Unknown loss type: .*Should be one of") as error:
        of_trl(dpo_trainer, loss_types=["no such loss"])
    known = str(error.value).partition("one of ")[2].strip("[]").replace("'", "").split(", ")
    assert set(known) - {kind for kinds, _, _ in SAME.values() for kind in kinds} == {
        "sft"
    }  # sft has its own test


def test_dpo_trainer_sft(models, dpo_trainer, pairs):
    """TRL averages over all chosen tokens of the batch, ours over a completion's.

    Weights by length make them one.
    """
    theirs = of_trl(dpo_trainer, loss_types=["sft"])
    weighted = TextComparisons(
        pairs.prompt, pairs.chosen, pairs.rejected, weight=[len(row) for row in pairs.chosen]
    )
    assert_same(of_fit(models[0], p(losses.sft, reduction="mean"), weighted, models[1]), theirs)
    one = pairs.take([1])
    theirs = of_trl(
        dpo_trainer, rows=[1], loss_types=["sigmoid", "sft"], loss_weights=[1.0, 0.2], beta=0.3
    )
    assert_same(
        of_fit(models[0], p(losses.rpo, beta=0.3, eta=0.2, reduction="mean"), one, models[1]),
        theirs,
    )


def test_dpo_trainer_with_weights_of_wpo(models, tokenizer, pairs, tmp_path):
    trainer = trainer_of(models, tokenizer, tmp_path, use_weighting=True, beta=0.3)
    assert_same(
        of_fit(models[0], p(losses.wpo, beta=0.3, clamp=False), pairs, models[1]), of_trl(trainer)
    )


@pytest.mark.parametrize(
    ("optimizer", "rate", "precompute"), [("adamw", 2e-3, False), ("sgd", 0.05, True)]
)
def test_whole_training(models, tokenizer, pairs, tmp_path, optimizer, rate, precompute):
    """Six steps with clipping, end to end, the reference in memory or computed before.

    Every loss, and the parameters at the end.
    """
    options = {
        "max_steps": 6,
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
    }
    options |= {
        "optim": {"adamw": "adamw_torch", "sgd": "sgd"}[optimizer],
        "per_device_train_batch_size": 2,
        "max_grad_norm": 0.5,
    }
    trainer = trainer_of(
        models, tokenizer, tmp_path, beta=0.3, precompute_ref_log_probs=precompute, **options
    )
    values = []
    compute = trainer.compute_loss

    def recorded(*args, **kwargs):
        loss = compute(*args, **kwargs)
        values.append(float(loss.detach()))
        return loss

    trainer.compute_loss = recorded
    trainer.train()
    reference = references_of(models[1], pairs, losses.dpo) if precompute else models[1]
    ours = {
        "steps": 6,
        "batch_size": 2,
        "learning_rate": rate,
        "schedule": "constant",
        "warmup": 0.0,
        "max_grad_norm": 0.5,
    }
    loss = p(losses.dpo, beta=0.3)
    result = fit(
        models[0],
        loss,
        pairs,
        reference=reference,
        optimizer=optimizer,
        order="given",
        progress=False,
        **ours,
    )
    np.testing.assert_allclose(result.history[:, 0], values, rtol=TOLERANCE)
    # Adam divides by the size of the gradient: where that is rounding, so is the step.
    tolerance = {"adamw": 0.1 * rate, "sgd": 1e-6}[optimizer]
    for (name, found), expected in zip(
        result.policy.model.named_parameters(), trainer.model.parameters(), strict=True
    ):
        torch.testing.assert_close(
            found.detach(), expected.detach(), rtol=0, atol=tolerance, msg=name
        )
