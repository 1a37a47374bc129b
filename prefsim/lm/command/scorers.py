"""The head that a loss of rewards or classes is trained with, put on the model of the command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from prefsim.containers import PairRewards
from prefsim.lm.command.models import attention_of, config_of, policy_of, tokenizer_of
from prefsim.lm.data.classes import TextClasses, TextVersions
from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.preference_model import PreferenceModel
from prefsim.lm.model.response_classifier import ResponseClassifier
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.model.sequence_classifier import sizes_only
from prefsim.lm.training.stored_model import Trainable

__all__ = ["check_head", "holds_scorer", "stored_scorer", "trained_model"]

Given = Mapping[str, Any]


def _is_scored(kind: type) -> bool:
    """Return whether a loss of ``kind`` is of scores, and so of a model with a head for them."""
    return kind in (*PreferenceModel.kinds, *ResponseClassifier.kinds)


def check_head(given: Given, kind: type) -> None:
    """Raise unless what is said of a head and a reference fits the loss."""
    if given["preference_dim"] is not None and kind is not PairRewards:
        raise ValueError(
            "--preference-dim is for losses of rewards, such as bradley_terry, got a loss of"
            f" {kind.__name__}"
        )
    if _is_scored(kind) and given["merge"]:
        raise ValueError(
            f"--merge has no use for a loss of {kind.__name__}, whose model is saved with its"
            " adapters in it"
        )
    if _is_scored(kind) and given["reference"] not in (None, "none"):
        raise ValueError(
            "--reference is for losses of log-probabilities: a loss of"
            f" {kind.__name__} has none, got {given['reference']}"
        )


def trained_model(
    given: Given, kind: type, data: TextData, template: Any, *, load: bool
) -> Trainable:
    """Return what is trained: the model, with the head that a loss of ``kind`` asks for.

    Parameters
    ----------
    given
        The options of the command.
    kind
        What the loss takes.
    data
        They say how many classes there are.
    template
        Options of the chat template, or None.
    load
        False for a model without memory.
    """
    if _is_scored(kind) and holds_scorer(given["model"]):
        return _further_trained(kind, given, template, load=load)
    policy = replace(policy_of(given, load=load), chat_template_kwargs=template)
    return _with_head(policy, kind, data, given) if _is_scored(kind) else policy


def holds_scorer(path: str) -> bool:
    """Return whether a folder holds a sequence classifier, such as a trained reward model."""
    file = Path(path) / "config.json"
    try:
        written = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        architectures = list(written.get("architectures") or ())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        # Who loads it tells what is wrong.
        return False
    return any(str(name).endswith("ForSequenceClassification") for name in architectures)


def _with_head(policy: CausalLM, kind: type, data: TextData, given: Given) -> ResponseScorer:
    """Return the model with a fresh head, of as many numbers as the loss and the data ask for."""
    if kind is PairRewards:
        return PreferenceModel(policy, dim=given["preference_dim"] or 1, seed=given["seed"])
    assert isinstance(data, TextClasses | TextVersions)
    return ResponseClassifier(policy, classes=max(2, data.classes), seed=given["seed"])


def _further_trained(kind: type, given: Given, template: Any, *, load: bool) -> ResponseScorer:
    """Return the model of a folder with the head that it has, to train it on."""
    name = given["model"]
    if given["lora_rank"]:
        raise ValueError(
            f"--model {name} is a reward model, which is trained as a whole: adapters are put on a"
            " language model"
        )
    made = PreferenceModel if kind is PairRewards else ResponseClassifier
    found = stored_scorer(made, name, given, template, load=load)
    if given["preference_dim"] not in (None, found.dim):
        raise ValueError(
            f"--preference-dim must be that of --model {name}, {found.dim}, got"
            f" {given['preference_dim']}"
        )
    return found


def stored_scorer(
    made: type[ResponseScorer], name: str, given: Given, template: Any, *, load: bool
) -> ResponseScorer:
    """Return the scorer of a folder as a ``made``, or its sizes alone."""
    other = given["tokenizer"]
    if load:
        found = made.load(
            name, dtype=given["dtype"], chat_template_kwargs=template, **attention_of(given)
        )
        if other is not None:
            found.tokenizer = tokenizer_of(other)
        return found
    classifier = sizes_only(config_of(name, "reward model"))
    if given["dtype"] != "auto":
        classifier = classifier.to(getattr(torch, given["dtype"]))
    tokenizer = tokenizer_of(other or name, needed=other is not None)
    return made.around(classifier, tokenizer, chat_template_kwargs=template)
