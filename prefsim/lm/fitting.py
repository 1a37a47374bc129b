"""``fit`` for language models.

The same call as for every other policy, on one CPU, one GPU or many. Importing this file makes
:func:`prefsim.solvers.fit` know language models, and ``prefsim.lm.CausalLM`` comes from here, so
that whoever has a language model can fit it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.preference_model import PreferenceModel
from prefsim.lm.model.reference_logps import ReferenceLogps
from prefsim.lm.model.response_classifier import ResponseClassifier
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.model.token_critic import TokenCritic
from prefsim.lm.training.engine import run
from prefsim.lm.training.options import TrainingOptions
from prefsim.lm.training.result import TrainResult
from prefsim.lm.training.setup import TrainingSetup
from prefsim.losses.catalogue import as_loss
from prefsim.solvers.fit import Loss, fit
from prefsim.solvers.reference import NOT_GIVEN, stated_reference

__all__ = ["CausalLM", "PreferenceModel", "ResponseClassifier", "TokenCritic", "train"]


@fit.register(CausalLM)
@fit.register(ResponseScorer)
def train(
    policy: CausalLM | ResponseScorer,
    loss: Loss | str,
    data: TextData,
    *,
    reference: CausalLM | ReferenceLogps | None = NOT_GIVEN,
    **options: Any,
) -> TrainResult:
    """Train a language model; what :func:`prefsim.solvers.fit` does for one.

    Parameters
    ----------
    policy
        Where to start: a language model, or for a loss of rewards a
        :class:`~prefsim.lm.PreferenceModel`, for one of classes a
        :class:`~prefsim.lm.ResponseClassifier`, for one of values a
        :class:`~prefsim.lm.TokenCritic`. It is not changed, but for the device that its
        frozen parameters lie on.
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``, or the name of one;
        the annotation of its first argument says what is computed.
    data
        Preference pairs, completions or lists of them, see :mod:`prefsim.lm.data`.
    reference
        A policy (the one given, with its adapters switched off where it has some, or any other of
        the same vocabulary), its log-probabilities from :func:`prefsim.lm.references_of`, or
        ``None``, which stands for log-probabilities of zero and makes the loss reference-free; it
        must be said where the loss reads the reference. In which of the forms a reference is given
        changes no number. A model of rewards or classes has none.
    **options
        See :class:`~prefsim.lm.TrainingOptions`.

    Returns
    -------
    TrainResult

    Raises
    ------
    TypeError
        If an option is not known.
    ValueError
        If the loss reads a reference and none was given, it does not fit the data or the reference,
        it is constant on a micro-batch of the size asked for, an option is out of range, ``out``
        holds another training, or the loss stops being finite. Everything that can be is checked
        before the first step.
    """
    loss = as_loss(loss)
    unknown = sorted(options.keys() - {field.name for field in fields(TrainingOptions)})
    if unknown:
        known = ", ".join(field.name for field in fields(TrainingOptions))
        raise TypeError(
            f"fit of a language model has no option {unknown[0]!r}: it takes steps or epochs, at no"
            f" tolerance; there are {known}"
        )
    reference = stated_reference(loss, reference)
    return run(TrainingSetup(policy, loss, data, reference, TrainingOptions(**options)))
