"""Data for the checks of every loss: random examples, and clear winners with the same reversed."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.containers import map_fields
from prefsim.losses import container_of

ROWS = 6
# The fields that a gradient is taken of; lengths and what is of the reference are constants.
OF_THE_POLICY = {
    "chosen",
    "rejected",
    "samples",
    "logp",
    "logps",
    "logits",
    "values",
    "chosen_logits",
    "rejected_logits",
    "chosen_rewards",
    "rejected_rewards",
    "chosen_log_deviation",
    "rejected_log_deviation",
    "chosen_from_chosen",
    "chosen_from_rejected",
    "rejected_from_chosen",
    "rejected_from_rejected",
}


def example_of(loss: Callable[..., Any], *, seed: int = 0) -> Any:
    """Return random data of the container that a loss takes."""
    return container_of(loss).example(ROWS, seed=seed)


def differentiable(container: Any) -> list[str]:
    """Names of the fields that are there and that a gradient is taken of."""
    return [
        name
        for name in container._fields
        if name in OF_THE_POLICY and getattr(container, name) is not None
    ]


def to_torch(container: Any, dtype: torch.dtype = torch.float64, *, grad: bool = False) -> Any:
    moved = map_fields(
        container,
        lambda x: torch.as_tensor(np.array(x), dtype=dtype if x.dtype.kind == "f" else None),
    )
    leaves = {name: getattr(moved, name).requires_grad_(grad) for name in differentiable(container)}
    return moved._replace(**leaves)


def total_gradient(loss: Callable[..., Any], container: Any) -> dict[str, torch.Tensor]:
    loss(container).sum().backward()
    leaves = {name: getattr(container, name) for name in differentiable(container)}
    return {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in leaves.items()
    }


@contextlib.contextmanager
def nothing_detached() -> Iterator[None]:
    """Differentiate through what a loss holds constant: a difference quotient cannot hold it."""
    modules = [
        importlib.import_module(m.name)
        for m in pkgutil.iter_modules(losses.__path__, "prefsim.losses.")
    ]
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            if hasattr(module, "stop_gradient"):
                patch.setattr(module, "stop_gradient", lambda x: x)
        yield


def is_coupled(loss: Callable[..., Any], container: Any) -> bool:
    """Whether the value of one example depends on the others."""
    alone = loss(map_fields(container, lambda x: x[:1]))
    return not np.allclose(alone, loss(container)[:1], rtol=1e-12, atol=1e-12)


def clear_winners(kind: type) -> tuple[Any, Any]:
    """Return data on which a policy is clearly right, and the same on which it is clearly wrong."""
    return CLEAR_WINNERS[kind](kind.example(ROWS, seed=7))


def _pairs(pairs: Any) -> tuple[Any, Any]:
    right = pairs._replace(chosen=np.full(ROWS, -0.1), rejected=np.full(ROWS, -4.0))
    if "ref_chosen" in pairs._fields:
        right = right._replace(ref_chosen=np.full(ROWS, -2.0), ref_rejected=np.full(ROWS, -2.0))
    if "old_chosen" in pairs._fields:
        right = right._replace(old_chosen=right.ref_chosen, old_rejected=right.ref_rejected)
    # The policy alone is wrong here: scores and references stay with the responses.
    return right, right._replace(chosen=right.rejected, rejected=right.chosen)


def _token_pairs(pairs: losses.TokenPairLogps) -> tuple[Any, Any]:
    shape = pairs.chosen.shape
    high, low, middle = (np.full(shape, total / shape[-1]) for total in (-0.1, -4.0, -2.0))
    every = np.ones(shape, dtype=bool)
    right = pairs._replace(
        chosen=high,
        rejected=low,
        ref_chosen=middle,
        ref_rejected=middle,
        chosen_mask=every,
        rejected_mask=every,
    )
    return right, right._replace(chosen=low, rejected=high)


def _gaussian(pairs: losses.GaussianRewards) -> tuple[Any, Any]:
    shape = pairs.chosen.shape
    right = pairs._replace(
        chosen=np.full(shape, -0.1),
        rejected=np.full(shape, -4.0),
        chosen_mask=np.ones(shape, dtype=bool),
        rejected_mask=np.ones(shape, dtype=bool),
    )
    return right, right._replace(chosen=right.rejected, rejected=right.chosen)


def _unpaired(completions: losses.UnpairedLogps) -> tuple[Any, Any]:
    logp = np.where(completions.desirable, -0.1, -4.0)
    # Thumbs are reversed here, and a ratio weighs those that are down alone.
    right = completions._replace(logp=logp, ref_logp=np.full(ROWS, -2.0), density_ratio=None)
    return right, right._replace(desirable=~right.desirable)


def _lists(lists: losses.ListLogps) -> tuple[Any, Any]:
    ranks = np.broadcast_to(np.arange(float(lists.logps.shape[-1])), lists.logps.shape)
    middle = np.full(ranks.shape, -1.4)
    right = lists._replace(logps=-0.5 - ranks, ref_logps=middle, scores=-ranks, old_logps=middle)
    return right, right._replace(logps=right.logps[:, ::-1])


def _token_lists(lists: losses.TokenListLogps) -> tuple[Any, Any]:
    shape = lists.logp.shape
    ranks = np.broadcast_to(np.arange(float(shape[-2]))[:, None], shape)
    middle = np.full(shape, -1.4)
    right = lists._replace(
        logp=-0.5 - ranks,
        ref_logp=middle,
        mask=np.ones(shape, dtype=bool),
        scores=-ranks[..., 0],
        old_logp=middle,
        advantage=1.5 - ranks,
    )
    return right, right._replace(logp=right.logp[:, ::-1])


def _token_values(said: losses.TokenValues) -> tuple[Any, Any]:
    right = said._replace(values=said.returns)
    return right, said._replace(values=said.returns + 3.0)


def _anchored(negatives: losses.AnchoredLogps) -> tuple[Any, Any]:
    rejected, samples = negatives.ref_rejected, negatives.ref_samples
    right = negatives._replace(rejected=rejected - 2, samples=samples + 0.1)
    return right, negatives._replace(rejected=rejected + 0.1, samples=samples - 2)


def _self_improvement(pairs: losses.SelfImprovementLogps) -> tuple[Any, Any]:
    levels = {"chosen": -0.1, "rejected": -4.0, "ref": -2.0}
    right = pairs._replace(
        **{name: np.full(ROWS, levels[name.partition("_")[0]]) for name in pairs._fields}
    )
    return right, right.swapped()


def _degrees(graded: losses.DegreeLogits) -> tuple[Any, Any]:
    classes = np.arange(graded.logits.shape[-1])
    right = graded._replace(logits=3.0 * (classes == graded.degree[..., None]))
    wrong = (graded.degree + 1) % classes.size
    return right, right._replace(degree=np.where(graded.degree < 0, -1, wrong))


def _classes(classes: losses.ClassLogits) -> tuple[Any, Any]:
    every = np.arange(classes.logits.shape[-1])
    right = classes._replace(logits=3.0 * (every == classes.label[:, None]), margin=None)
    return right, right._replace(label=(right.label + 1) % every.size)


def _class_pairs(pairs: losses.ClassPairs) -> tuple[Any, Any]:
    every = np.arange(pairs.chosen_logits.shape[-1]) == pairs.label[:, None]
    size = every.shape[-1]
    votes = np.where(every, 0.9, 0.1 / (size - 1)), np.full(every.shape, 1 / size)
    right = pairs._replace(
        chosen_logits=6.0 * every,
        rejected_logits=0.0 * every,
        chosen_rewards=np.full_like(pairs.chosen_rewards, 1.0),
        rejected_rewards=np.full_like(pairs.chosen_rewards, -1.0),
        chosen_score=np.full(ROWS, 0.9),
        rejected_score=np.full(ROWS, 0.2),
        chosen_votes=votes[0],
        rejected_votes=votes[1],
    )
    # The judgements stay with the inputs.
    return right, right._replace(
        chosen_logits=-right.chosen_logits,
        chosen_rewards=right.rejected_rewards,
        rejected_rewards=right.chosen_rewards,
    )


def _distillation(pair: losses.DistillationLogits) -> tuple[Any, Any]:
    right = pair._replace(logits=pair.teacher_logits)
    return right, pair._replace(logits=-3.0 * pair.teacher_logits)


CLEAR_WINNERS: dict[type, Callable[[Any], tuple[Any, Any]]] = {
    losses.PairLogps: _pairs,
    losses.DegreePairLogps: _pairs,
    losses.PairRewards: _pairs,
    losses.TokenPairLogps: _token_pairs,
    losses.GaussianRewards: _gaussian,
    losses.UnpairedLogps: _unpaired,
    losses.ListLogps: _lists,
    losses.TokenListLogps: _token_lists,
    losses.TokenValues: _token_values,
    losses.AnchoredLogps: _anchored,
    losses.SelfImprovementLogps: _self_improvement,
    losses.DegreeLogits: _degrees,
    losses.ClassLogits: _classes,
    losses.ClassPairs: _class_pairs,
    losses.DistillationLogits: _distillation,
}
