"""Losses and gradients of ``fit`` and of TRL's trainers: the same tiny Llama, the same tokens.

TRL is the oracle, where it is installed. Its kernels compute in float32, and so do these tests; the
largest difference found is a few units of float32's rounding.
"""

import copy
import functools
import importlib.util
import math
import os

import numpy as np
import pytest
import torch

from prefsim.solvers import fit

if importlib.util.find_spec("trl") is None:
    pytest.skip(
        "TRL, the oracle of these tests, is not installed (the extra bench has it)",
        allow_module_level=True,
    )

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

TOLERANCE = 1e-5
TEXT = [
    ("was it a good film?", " it was a great film, a really great film!", " the plot was dull"),
    ("the cat", " sat on the mat", " and the dog sat on the log. hello there, hello"),
    ("cats and dogs", " are friends.", " sat"),
    ("hello", " world, hello there. was it good?", " the acting was worse. and the plot was dull."),
]
ROWS = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in TEXT]
p = functools.partial


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


def softplus(x):
    return np.logaddexp(0.0, x)
