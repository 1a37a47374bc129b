"""Rounds of sampling with rewards: a policy's completions, scored, as data for a loss.

The policy draws the completions, or whatever has one method like its own, see :class:`Sample`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import check_callable, check_flag, check_integer, check_number
from prefsim.lm.data.text_data import TextData
from prefsim.lm.fitting import CausalLM
from prefsim.lm.model.tokens import Ids, Text
from prefsim.lm.online.judges import as_rows
from prefsim.lm.online.samples import rows_of_round
from prefsim.lm.online.scored_data import ScoredCompletions, check_form, scored_data
from prefsim.lm.online.scores import Score, completion_scores
from prefsim.loops.rounds import Draw
from prefsim.losses.advantages import finished_scores

__all__ = ["Sample", "draw_scored", "scored_completions"]


class Sample(Protocol):
    """What draws completions in the place of the policy: an engine, or a server."""

    def __call__(
        self, prompts: Sequence[Ids], n: int, seed: Seed, **options: Any
    ) -> list[list[Ids]]:
        """Return ``n`` completions of each prompt, token ids all of them.

        One that ended by itself ends with an end token of the policy.
        """
        ...


def scored_completions(
    policy: CausalLM,
    score: Score,
    prompts: Sequence[Text],
    *,
    n_samples: int,
    seed: Seed,
    unfinished: float | None = None,
    batched: bool = False,
    abstain_on: tuple[type[Exception], ...] = (),
    batch_size: int = 8,
    sample: Sample | None = None,
    **sampling: Any,
) -> ScoredCompletions:
    """Draw completions of prompts and score them.

    Parameters
    ----------
    policy
        Draws the completions, unless ``sample`` does, and says how likely they are.
    score
        The reward: ``(prompt, completion) -> number``, such as a function of your own, an executed
        checker, :func:`tree_score` or a reward model. It reads text where the policy has a
        tokenizer, and token ids where it has none.
    prompts
        What is asked.
    n_samples
        Completions K of each, >= 1.
    seed
        Of the draws.
    unfinished
        The reward of a completion that was cut off before it ended, instead of what ``score`` says;
        it is scored like any other unless given.
    batched, abstain_on
        As for :func:`completion_scores`. A prompt of which a completion has no score is left out.
    sample
        Draws in the policy's place, such as the method of a :class:`prefsim.lm.ServedModel`.
    batch_size, sampling
        As for :meth:`CausalLM.sample <prefsim.lm.CausalLM.sample>`, such as ``max_new_tokens``. The
        log-probabilities are the policy's at temperature 1, whatever draws and at whichever.

    Raises
    ------
    ValueError
        If an option is out of range or no prompt is left.

    References
    ----------
    ``unfinished``: Ivison et al. 2024, arXiv:2406.09279 (−10).
    """
    check_callable(score=score)
    check_integer(low=1, n_samples=n_samples, batch_size=batch_size)
    check_flag(batched=batched)
    if unfinished is not None:
        check_number(unfinished=unfinished)
    if len(prompts) == 0:
        raise ValueError("prompts must hold at least one, got 0")
    how = {**sampling, "batch_size": batch_size}
    if sample is None:
        drawn = policy.sample(list(prompts), n_samples, random_generator(seed), **how)
    else:
        check_callable(sample=sample)
        # With a completion of one token, `encode` says what generation is to see before it.
        asked_ids = [row.prompt_ids for row in policy.encode(prompts, [[0]] * len(prompts))]
        drawn = sample(asked_ids, n_samples, random_generator(seed), **how)
        _check_drawn(drawn, len(prompts), n_samples)
    read: Any = drawn
    if policy.tokenizer is not None:
        read = [[policy.decode(each) for each in row] for row in drawn]
    scores = completion_scores(score, prompts, read, batched=batched, abstain_on=abstain_on)
    ends = policy.end_ids
    ended = np.asarray([[each[-1] in ends for each in row] for row in drawn])
    if unfinished is not None:
        scores = finished_scores(scores, ended, unfinished=unfinished)
    told = ~np.isnan(scores).any(axis=-1)
    if not told.any():
        raise ValueError(
            f"a completion of every one of {told.size} prompts has no score: there is nothing to"
            " learn from"
        )
    asked, completions = as_rows(prompts)[told], as_rows(drawn, depth=2)[told]
    questions = [prompt for prompt in asked for _ in range(n_samples)]
    logp, _ = policy.token_log_probs(questions, list(completions.ravel()), batch_size=batch_size)
    tokens = logp.double().cpu().numpy().reshape(*completions.shape, -1)
    return ScoredCompletions(asked, completions, scores[told], tokens, ended[told])


def _check_drawn(drawn: Any, prompts: int, n_samples: int) -> None:
    counts = [len(row) for row in drawn]
    if counts != [n_samples] * prompts:
        raise ValueError(
            f"sample must return {n_samples} completions of each of {prompts} prompts, got {counts}"
        )
    if any(len(ids) == 0 for row in drawn for ids in row):
        raise ValueError("sample must return completions of at least one token, got an empty one")


def draw_scored(
    prompts: Sequence[Text],
    score: Score,
    *,
    n_samples: int = 4,
    form: str = "lists",
    kept: int | None = None,
    kept_temperature: float = 0.0,
    per_round: int | None = None,
    **options: Any,
) -> Draw:
    """Return what draws completions with rewards for :func:`prefsim.loops.rounds.play_rounds`.

    Parameters
    ----------
    prompts, score, n_samples
        As for :func:`scored_completions`.
    form, kept, kept_temperature
        As for :func:`scored_data`; :func:`form_for` says which form a loss needs.
    per_round
        How many of the prompts a round asks, drawn anew without replacement; all of them unless
        given.
    options
        Further options of :func:`scored_completions`: ``unfinished``, ``batched``,
        ``max_new_tokens`` and so on.

    Raises
    ------
    ValueError
        If an option is out of range; in a round, if nothing is left to learn from.

    Examples
    --------
    A language model learns to be short, by GRPO::

        draw = draw_scored(prompts, lambda prompt, answer: -len(answer), max_new_tokens=64)
        train = trainer(epochs=1, batch_size=len(prompts), learning_rate=1e-5)
        options = {"rounds": 10, "seed": 0, "reference": policy, "train": train}
        for round in play_rounds(policy, draw, losses.grpo, **options):
            print(round.pairs.scores.mean())
    """
    check_callable(score=score)
    check_integer(low=1, n_samples=n_samples)
    check_form(form, n_samples, kept, kept_temperature)

    def data_of_round(policy: CausalLM, opponent: CausalLM, rng: np.random.Generator) -> TextData:
        rows = rows_of_round(len(prompts), per_round, rng)
        asked = [prompts[int(i)] for i in rows]
        samples = scored_completions(policy, score, asked, n_samples=n_samples, seed=rng, **options)
        return scored_data(
            samples, form=form, kept=kept, kept_temperature=kept_temperature, seed=rng
        )

    return data_of_round
