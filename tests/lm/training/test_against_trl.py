"""Losses and gradients of ``fit`` against TRL's trainers: the same tiny Llama, the same tokens.

TRL is the oracle, where it is installed.

TRL's kernels compute in float32, and so does this file; the largest difference found is a few units
of float32's rounding.
"""

import copy
import functools
import importlib.util
import math
import os

import numpy as np
import pytest
import torch
from lm_made import byte_tokenizer, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, TextComparisons, TextFeedback, references_of
from prefsim.solvers import fit

if importlib.util.find_spec("trl") is None:
    pytest.skip(
        "TRL, the oracle of this file, is not installed (the extra bench has it)",
        allow_module_level=True,
    )

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

TOLERANCE = 1e-5
TEXT = [
    ("was it a good film?", " it was a great film, a really great film!", " the plot was dull"),
    ("the cat", " sat on the mat", " and the dog sat on the log. hello there, hello"),
    ("cats and dogs", " are friends.", " sat"),
    ("hello", " world, hello there. was it good?", " the acting was worse. and the plot was dull."),
]
ROWS = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in TEXT]
p = functools.partial


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="module")
def models(tokenizer):
    """A policy, and a reference that is another model, so that no log-ratio is zero."""
    config = small_llama(len(tokenizer), initializer_range=0.15)
    return tuple(CausalLM.from_config(config, tokenizer, seed=seed) for seed in (0, 1))


def settings(folder, **changes):
    found = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
    }
    return (
        found
        | {"save_strategy": "no", "per_device_train_batch_size": len(ROWS), "disable_tqdm": True}
        | changes
    )


def trainer_of(models, tokenizer, folder, rows=ROWS, trainer="DPOTrainer", **changes):
    """A trainer of TRL on copies of the models."""
    import trl
    from datasets import Dataset, disable_progress_bars
    from trl.experimental import cpo, orpo

    disable_progress_bars()
    where = {"CPOTrainer": cpo, "ORPOTrainer": orpo}.get(trainer, trl)
    arguments = getattr(where, trainer.replace("Trainer", "Config"))(**settings(folder, **changes))
    policy, reference = (copy.deepcopy(each.model) for each in models)
    both = {} if where is not trl else {"ref_model": reference}
    dataset = Dataset.from_list(rows)
    return getattr(where, trainer)(
        model=policy, args=arguments, train_dataset=dataset, processing_class=tokenizer, **both
    )


@pytest.fixture(scope="module")
def dpo_trainer(models, tokenizer, tmp_path_factory):
    return trainer_of(models, tokenizer, tmp_path_factory.mktemp("dpo"))


@pytest.fixture(scope="module")
def pairs(dpo_trainer):
    """The pairs in TRL's own tokens."""
    data = dpo_trainer.train_dataset
    return TextComparisons(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"])


def batch_of(trainer, rows=None):
    data = trainer.train_dataset
    rows = range(len(data)) if rows is None else rows
    columns = trainer._signature_columns or ["prompt_ids", "chosen_ids", "rejected_ids"]
    return trainer.data_collator(
        [{k: v for k, v in data[i].items() if not isinstance(v, str) or k in columns} for i in rows]
    )


def of_trl(trainer, rows=None, inputs=None, **attributes):
    """Loss and gradients of one batch, with the trainer's settings changed for it."""
    before = {name: getattr(trainer, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(trainer, name, value)
        trainer.model.train()
        trainer.model.zero_grad()
        loss = trainer.compute_loss(
            trainer.model, batch_of(trainer, rows) if inputs is None else inputs
        )
        loss.backward()
    finally:
        for name, value in before.items():
            setattr(trainer, name, value)
    zero = torch.zeros(())
    found = {
        name: zero.expand(q.shape) if q.grad is None else q.grad.clone()
        for name, q in trainer.model.named_parameters()
    }
    return float(loss.detach()), found


class Recorder(torch.optim.SGD):
    """Keeps the gradients of its step."""

    found: tuple[torch.Tensor, ...] = ()

    def step(self, closure=None):
        type(self).found = tuple(
            q.grad.clone() for group in self.param_groups for q in group["params"]
        )
        return super().step(closure)


def of_fit(policy, loss, data, reference):
    """Loss and gradients of one step of ``fit``."""
    options = {
        "steps": 1,
        "batch_size": len(data),
        "max_grad_norm": None,
        "schedule": "constant",
        "warmup": 0.0,
        "progress": False,
    }
    result = fit(
        policy,
        loss,
        data,
        reference=reference,
        optimizer=p(Recorder, lr=1e-6),
        order="given",
        **options,
    )
    trained = [(name, q) for name, q in policy.model.named_parameters() if q.requires_grad]
    names = [name for name, q in trained if q.ndim >= 2] + [
        name for name, q in trained if q.ndim < 2
    ]
    return result.value, dict(zip(names, Recorder.found, strict=True))


def assert_same(ours, theirs):
    (value, gradients), (expected, wanted) = ours, theirs
    assert math.isfinite(expected)
    assert value == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE * 1e-2)
    assert gradients.keys() == wanted.keys()
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert largest > 0
    for name, gradient in wanted.items():
        assert float((gradients[name] - gradient).abs().max()) <= TOLERANCE * largest, name


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


# --- where TRL is not the oracle: its value and ours against an expression of their own


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


def softplus(x):
    return np.logaddexp(0.0, x)


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


# --- the other trainers

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
