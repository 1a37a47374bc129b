"""Models of transformers that give a text some numbers: made, checked, merged, written, loaded.

Transformers calls them sequence classifiers, whatever the numbers are: a body, and a linear layer
``score`` on the state of the last token that is not padding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from prefsim.lm.model.digests import DIGESTS
from prefsim.lm.model.loading import library
from prefsim.lm.model.log_prob_model import evaluating
from prefsim.lm.model.tokens import TokenBatch

__all__ = [
    "classifier_around",
    "check_classifier",
    "has_adapters",
    "merged",
    "sizes_only",
    "write_classifier",
]


def classifier_around(
    body: Any, head: torch.nn.Linear, config: Any, tokenizer: Any, ends: Sequence[int]
) -> Any:
    """Return the sequence classifier of a body and a head, which it takes over.

    Parameters
    ----------
    body
        A model of transformers without a head.
    head
        From its hidden states.
    config
        Of the body's language model; copied.
    tokenizer, ends
        Of the language model, and the tokens that end its completions.

    Raises
    ------
    ValueError
        If transformers has no such classifier of this architecture.
    """
    config = copy.deepcopy(config)
    config.num_labels = head.out_features
    text = config.get_text_config()
    text.pad_token_id = _padding(tokenizer, text, ends)
    if set(ends) - set(_as_list(config.eos_token_id)):
        config.eos_token_id = list(ends)
    classifier = sizes_only(config)
    setattr(classifier, classifier.base_model_prefix, body)
    classifier.score = head
    left = [name for name, value in classifier.named_parameters() if value.is_meta]
    if left and not head.weight.is_meta:
        raise ValueError(
            f"a reward model is kept as a sequence classifier of a body and a layer 'score', but"
            f" {type(classifier).__name__} has {left[0]!r} besides"
        )
    return classifier


def _as_list(ids: int | list[int] | None) -> list[int]:
    if ids is None:
        return []
    return ids if isinstance(ids, list) else [ids]


def _padding(tokenizer: Any, config: Any, ends: Sequence[int]) -> int | None:
    """Return the token that padding is told by, or None, with which batches of one can be read.

    Transformers reads the number at the last token that is not this one: a token that ends texts
    would be taken for padding.
    """
    if tokenizer is None:
        candidates, last = [getattr(config, "pad_token_id", None)], tuple(ends)
    else:
        names = ("pad_token_id", "unk_token_id", "bos_token_id")
        candidates = [getattr(tokenizer, name, None) for name in names]
        # Of several ends this is the one that is put behind a text.
        last = (tokenizer.eos_token_id,)
    return next((token for token in candidates if token is not None and token not in last), None)


def sizes_only(config: Any) -> Any:
    """Return a classifier without memory.

    Raises
    ------
    ValueError
        If transformers has none of this architecture with a linear layer ``score``.
    """
    auto = library("transformers").AutoModelForSequenceClassification
    try:
        with torch.device("meta"):
            classifier = auto.from_config(config)
    except ValueError as error:
        raise ValueError(
            f"transformers has no sequence classifier of {config.model_type!r}, as which a reward"
            " model is kept"
        ) from error
    if not isinstance(getattr(classifier, "score", None), torch.nn.Linear):
        raise ValueError(
            f"a reward model is kept as a sequence classifier with a linear layer 'score', which"
            f" {type(classifier).__name__} does not have"
        )
    return classifier


def check_classifier(classifier: Any, hidden_of: Any) -> None:
    """Raise unless the classifier's own numbers are its head's on its last hidden states.

    Parameters
    ----------
    classifier
        In memory.
    hidden_of
        A batch to the hidden states, as they will be asked for.
    """
    pad = classifier.config.get_text_config().pad_token_id
    size = classifier.config.get_text_config().vocab_size
    usable = [token for token in range(min(size, 5)) if token != pad][:4]
    ids = torch.tensor([usable], device=next(classifier.parameters()).device)
    here = torch.ones_like(ids, dtype=torch.bool)
    with evaluating(classifier):
        expected = classifier(input_ids=ids, use_cache=False).logits[0].float()
        last = hidden_of(TokenBatch(ids, here, here))[0, -1]
        ours = classifier.score(last.to(classifier.score.weight.dtype)).float()
    error = (ours - expected).abs().max().item()
    narrow = last.dtype in (torch.float16, torch.bfloat16)
    # Not `error > tolerance`: NaN is an error too.
    if not error <= (5e-2 if narrow else 1e-3) * (1 + expected.abs().max().item()):
        raise ValueError(
            f"the numbers of {type(classifier).__name__} must be its layer 'score' on the last"
            f" hidden state, got a difference of {error:.3g}"
        )


def has_adapters(classifier: Any) -> bool:
    """Return whether layers of the body carry adapters."""
    return any(hasattr(part, "get_base_layer") for part in classifier.modules())


def merged(classifier: Any) -> Any:
    """Return a copy whose adapters are part of the weights; the classifier itself without any.

    Raises
    ------
    ValueError
        If something is left that a classifier does not have.
    """
    if not has_adapters(classifier):
        return classifier
    whole = copy.deepcopy(classifier)
    for name, layer in list(whole.named_modules()):
        if hasattr(layer, "get_base_layer") and hasattr(layer, "merge"):
            layer.merge()
            parent, _, own = name.rpartition(".")
            setattr(whole.get_submodule(parent), own, layer.get_base_layer())
    found, expected = set(whole.state_dict()), set(sizes_only(whole.config).state_dict())
    if found != expected:
        raise ValueError(
            "adapters of a reward model must be such that become part of the weights, got"
            f" {min(found ^ expected)!r}"
        )
    return whole


def write_classifier(
    classifier: Any, tokenizer: Any, folder: str | Path, state: dict[str, Any] | None = None
) -> None:
    """Write classifier and tokenizer in the layout of transformers, adapters merged.

    ``state`` replaces the classifier's own tensors where those are sharded.
    """
    # Those of a model that lay there before would be asked of this one.
    (Path(folder) / DIGESTS).unlink(missing_ok=True)
    merged(classifier).save_pretrained(folder, **({} if state is None else {"state_dict": state}))
    if tokenizer is None:
        return
    pad = classifier.config.get_text_config().pad_token_id
    if pad is not None and pad != tokenizer.pad_token_id:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.save_pretrained(folder)
