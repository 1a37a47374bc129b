"""Scored completions as data for a loss: lists, pairs, preferences, demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefsim.backend import Seed
from prefsim.checks import check_choice, check_integer, check_nonnegative
from prefsim.containers import PairLogps
from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.demonstrations import TextDemonstrations
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.lm.data.text_data import TextData
from prefsim.losses.catalogue import reads_rejected
from prefsim.losses.registry import container_of
from prefsim.solvers.closed_forms.rejection import rejection_sample
from prefsim.typing import Loss

__all__ = [
    "FORMS",
    "NothingToLearn",
    "ScoredCompletions",
    "check_form",
    "form_for",
    "scored_data",
]

FORMS = ("lists", "pairs", "preferences", "demonstrations")
_LEAST = {"lists": 1, "pairs": 2, "preferences": 2, "demonstrations": 1}


class NothingToLearn(ValueError):
    """What was drawn prefers nothing: all rewards tie."""


class ScoredCompletions(NamedTuple):
    """Completions of prompts with their rewards.

    Attributes
    ----------
    prompt
        Texts, an array of objects ``(m,)``.
    completions
        Lists of token ids, an array of objects ``(m, K)``.
    scores
        Rewards ``(m, K)``.
    logp
        ``(m, K, T)`` in nats, of every token under the policy that drew it, 0 behind the end.
    ended
        ``(m, K)``, whether the completion ended by itself.
    """

    prompt: np.ndarray
    completions: np.ndarray
    scores: np.ndarray
    logp: np.ndarray
    ended: np.ndarray

    def picked(self, places: np.ndarray) -> ScoredCompletions:
        """Return those at places ``(m, k)`` among the K."""

        def at(column: np.ndarray) -> np.ndarray:
            index = places.reshape(*places.shape, *[1] * (column.ndim - 2))
            return np.take_along_axis(column, index, axis=1)

        return self._replace(
            completions=at(self.completions),
            scores=at(self.scores),
            logp=at(self.logp),
            ended=at(self.ended),
        )


def scored_data(
    samples: ScoredCompletions,
    *,
    form: str = "lists",
    kept: int | None = None,
    kept_temperature: float = 0.0,
    seed: Seed = 0,
) -> TextData:
    r"""Return scored completions as data for a loss.

    Parameters
    ----------
    samples
        From :func:`scored_completions`.
    form
        ``"lists"``: all K with their rewards and the sampler's token log-probabilities
        (``reinforce``, ``rloo``, ``copg_group``, ``grpo``, ``ppo``). ``"pairs"``: each with its
        neighbour, the better one as chosen, with the rewards of both as scores (``copg``, ``p3o``).
        ``"preferences"``: the same pairs, of different rewards alone (``dpo`` and all that need no
        scores). ``"demonstrations"``: each one to be imitated (``sft``).
    kept, kept_temperature
        How many of the K are kept, all unless given, by statistical rejection sampling at this
        temperature β >= 0 of the reward: as from :math:`\pi e^{R/\beta}` (normalised), and the best
        ones at 0 (:func:`prefsim.solvers.closed_forms.rejection.rejection_sample`). ``kept=1`` with
        ``"demonstrations"`` is best-of-n; with ``"preferences"`` and a temperature it is RSO.
    seed
        Of what is kept at a temperature.

    Raises
    ------
    ValueError
        If an option is out of range, or there is nothing to learn from (:class:`NothingToLearn`).

    References
    ----------
    RSO: Liu et al. 2023, arXiv:2309.06657.
    """
    check_form(form, samples.scores.shape[1], kept, kept_temperature)
    if kept is not None:
        places = rejection_sample(samples.scores, kept, beta=kept_temperature, seed=seed)
        samples = samples.picked(places)
    return _FORMED[form](samples)


def check_form(form: str, n_samples: int, kept: int | None, kept_temperature: float) -> None:
    """Raise unless so many completions can be given this form."""
    check_choice(FORMS, form=form)
    used = n_samples if kept is None else kept
    check_integer(low=1, high=n_samples, kept=used)
    check_nonnegative(kept_temperature=kept_temperature)
    if used < _LEAST[form]:
        raise ValueError(f"form {form!r} needs at least {_LEAST[form]} completions, got {used}")


def form_for(loss: Loss) -> str:
    """Return the form of :func:`scored_data` that a loss needs.

    Raises
    ------
    ValueError
        If rewards are no data for it: it takes another container, or probabilities to win.

    Examples
    --------
    >>> from prefsim import losses
    >>> [form_for(loss) for loss in (losses.grpo, losses.copg, losses.dpo, losses.sft)]
    ['lists', 'pairs', 'preferences', 'demonstrations']
    """
    kind = container_of(loss)
    if kind in TextRollouts.kinds:
        return "lists"
    name = getattr(getattr(loss, "func", loss), "__name__", "the loss")
    if kind is not PairLogps:
        raise ValueError(f"{name} takes {kind.__name__}, which rewards of completions cannot give")
    if not reads_rejected(loss):
        return "demonstrations"
    pairs = PairLogps.example()
    try:
        loss(pairs._replace(chosen_score=None, rejected_score=None))
    except ValueError:
        try:
            loss(pairs._replace(chosen_score=pairs.chosen * 0 + 3, rejected_score=pairs.chosen))
        except ValueError as error:
            raise ValueError(
                f"{name} takes win rates of a judge, not rewards: see draw_pairs ({error})"
            ) from error
        return "pairs"
    return "preferences"


def _lists(samples: ScoredCompletions) -> TextRollouts:
    completions = [list(row) for row in samples.completions]
    return TextRollouts(list(samples.prompt), completions, samples.scores, old_logp=samples.logp)


def _pairs(samples: ScoredCompletions) -> TextComparisons:
    """Return each completion with its neighbour, the better one first."""
    m, k = samples.scores.shape
    matches = k // 2
    first, second = np.broadcast_to(
        np.arange(2 * matches).reshape(matches, 2).T[:, None], (2, m, matches)
    )
    scores = samples.scores
    worse_first = scores[:, 0 : 2 * matches : 2] < scores[:, 1 : 2 * matches : 2]
    better = samples.picked(np.where(worse_first, second, first))
    worse = samples.picked(np.where(worse_first, first, second))
    return TextComparisons(
        list(np.repeat(samples.prompt, matches)),
        list(better.completions.ravel()),
        list(worse.completions.ravel()),
        chosen_score=better.scores.ravel(),
        rejected_score=worse.scores.ravel(),
        old_chosen=better.logp.sum(axis=-1).ravel(),
        old_rejected=worse.logp.sum(axis=-1).ravel(),
    )


def _preferences(samples: ScoredCompletions) -> TextComparisons:
    pairs = _pairs(samples)
    assert pairs.chosen_score is not None
    assert pairs.rejected_score is not None
    decided = np.flatnonzero(pairs.chosen_score > pairs.rejected_score)
    if decided.size == 0:
        raise NothingToLearn(
            f"both completions of every one of {len(pairs)} pairs have the same reward: there is"
            " nothing to learn from"
        )
    return pairs.take(decided)


def _demonstrations(samples: ScoredCompletions) -> TextDemonstrations:
    prompts = np.repeat(samples.prompt, samples.completions.shape[1])
    return TextDemonstrations(list(prompts), list(samples.completions.ravel()))


_FORMED: dict[str, Callable[[ScoredCompletions], TextData]] = {
    "lists": _lists,
    "pairs": _pairs,
    "preferences": _preferences,
    "demonstrations": _demonstrations,
}
