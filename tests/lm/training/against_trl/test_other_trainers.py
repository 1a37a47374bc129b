"""TRL's trainers of KTO, CPO and ORPO."""

import copy
import functools

import numpy as np
import pytest
import torch
from trl_oracle import (
    ROWS,
    TEXT,
    TOLERANCE,
    assert_same,
    of_fit,
    of_trl,
    softplus,
    trainer_of,
)

from prefsim import losses
from prefsim.lm import TextFeedback
from prefsim.solvers import ReferenceUpdate

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

p = functools.partial


LABELS = [True, False, False, True]


@pytest.fixture(scope="module")
def feedback():
    return [
        {"prompt": row[0], "completion": row[1 + (i % 2)], "label": LABELS[i]}
        for i, row in enumerate(TEXT)
    ]


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_kto_trainer(models, tokenizer, feedback, tmp_path, kind):
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.7}
    trainer = trainer_of(
        models, tokenizer, tmp_path, feedback, "KTOTrainer", loss_type=kind, beta=0.3, **weights
    )
    data = trainer.train_dataset
    point = 0.0
    if kind == "kto":
        # TRL's reference point: the mean log-ratio of prompts with another row's completion, from
        # our own log-probabilities.
        mismatched = [
            each.log_prob(data["prompt_ids"], data["KL_completion_ids"]) for each in models
        ]
        point = max(float((mismatched[0] - mismatched[1]).mean()), 0.0)
    ours = TextFeedback(data["prompt_ids"], data["completion_ids"], LABELS)
    assert_same(
        of_fit(
            models[0], p(losses.kto, beta=0.3, reference_point=point, **weights), ours, models[1]
        ),
        of_trl(trainer),
    )
    if kind == "kto":
        # The same completions as a column of the data.
        column = TextFeedback(
            data["prompt_ids"],
            data["completion_ids"],
            LABELS,
            mismatched=data["KL_completion_ids"],
        )
        assert_same(
            of_fit(models[0], p(losses.kto, beta=0.3, **weights), column, models[1]),
            of_trl(trainer),
        )


def test_a_reference_that_follows(models):
    """TRL's callback, with α as the paper and we mean it."""
    from trl.trainer.callbacks import SyncRefModelCallback

    policy, theirs = (copy.deepcopy(each.model) for each in models)
    # Its public form asks accelerate for DeepSpeed first.
    SyncRefModelCallback._sync_target_model(policy, theirs, 0.6)
    update = ReferenceUpdate(0.6)
    for name, parameter in models[1].model.named_parameters():
        mixed = update.mixed(parameter, policy.get_parameter(name))
        torch.testing.assert_close(theirs.get_parameter(name), mixed, rtol=0, atol=1e-6)


CPO = {
    "sigmoid": (1.0, lambda _: p(losses.cpo, beta=0.3, alpha=1.0)),
    "simpo": (0.0, lambda _: p(losses.simpo, beta=2.0, gamma=0.5)),
    "ipo": (0.0, lambda _: p(losses.ipo, tau=0.3, average=True)),
    # SLiC's likelihood term is of the whole completion, TRL's of a token.
    "hinge": (0.4, lambda length: p(losses.slic, delta=1.0, lambda_=0.4 / length)),
}


@pytest.mark.parametrize("kind", CPO)
def test_cpo_trainer(models, tokenizer, pairs, tmp_path, kind):
    """One pair: TRL averages the likelihood term over the tokens of the batch.

    Ours is over those of each completion.
    """
    alpha, loss = CPO[kind]
    beta = {"simpo": 2.0, "hinge": 1.0}.get(kind, 0.3)
    changes = {
        "loss_type": kind,
        "beta": beta,
        "cpo_alpha": alpha,
        "simpo_gamma": 0.5,
        "max_length": 128,
    }
    trainer = trainer_of(models, tokenizer, tmp_path, ROWS[1:2], "CPOTrainer", **changes)
    one = pairs.take([1])
    assert trainer.train_dataset[0]["chosen_input_ids"] == one.prompt[0] + one.chosen[0]
    assert_same(of_fit(models[0], loss(len(one.chosen[0])), one, None), of_trl(trainer, rows=[0]))


def test_orpo_trainer(models, tokenizer, pairs, tmp_path):
    """TRL's likelihood term also scores the prompt (as the authors' code).

    Ours the completion alone (as equation 6 of the paper).
    """
    trainer = trainer_of(
        models, tokenizer, tmp_path, ROWS[1:2], "ORPOTrainer", beta=0.3, max_length=128
    )
    one = pairs.take([1])
    x, y, z = one.prompt[0], one.chosen[0], one.rejected[0]
    model = models[0].model

    def logps(sequence):
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([sequence])).logits[0].double().log_softmax(-1)
        return np.asarray([float(logs[t, token]) for t, token in enumerate(sequence[1:])])

    every = logps(x + y)
    chosen, rejected = every[len(x) - 1 :].mean(), logps(x + z)[len(x) - 1 :].mean()
    odds = (chosen - np.log(-np.expm1(chosen))) - (rejected - np.log(-np.expm1(rejected)))
    term = 0.3 * softplus(-odds)
    ours, theirs = (
        of_fit(models[0], p(losses.orpo, lambda_=0.3), one, None),
        of_trl(trainer, rows=[0]),
    )
    assert ours[0] == pytest.approx(-chosen + term, rel=TOLERANCE)
    assert theirs[0] == pytest.approx(-every.mean() + term, rel=TOLERANCE)
    # The odds term alone agrees, gradients included: take the likelihood terms away on both sides.
    sft, whole = of_fit(models[0], p(losses.sft, reduction="mean"), one, None), copy.deepcopy(model)
    whole(input_ids=torch.tensor([x + y]), labels=torch.tensor([x + y])).loss.backward()
    whole_gradient = {name: q.grad for name, q in whole.named_parameters()}
    left = {name: ours[1][name] - sft[1][name] for name in ours[1]}
    right = {name: theirs[1][name] - whole_gradient[name] for name in theirs[1]}
    largest = max(float(gradient.abs().max()) for gradient in theirs[1].values())
    assert max(float(gradient.abs().max()) for gradient in right.values()) > 0.01 * largest
    assert (
        max(float((left[name] - right[name]).abs().max()) for name in left)
        <= 2 * TOLERANCE * largest
    )
