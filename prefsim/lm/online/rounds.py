"""Online learning of language models: sample, have the samples judged, learn from them, repeat.

The loop is that of the tabular policies, :func:`prefsim.loops.rounds.play_rounds`; here are the
draws of judged completions that it makes with a language model, and the trainer; draws with rewards
are in :mod:`prefsim.lm.online.scored`, judges in :mod:`prefsim.lm.online.judges`. Which method it
is, the loss, its reference and the draw decide:

================ ================== ============ ================================================
method           loss               reference    draw
================ ================== ============ ================================================
online DPO, IPO  ``dpo``, ``ipo``   fixed        ``draw_pairs``; ``labels="sampled"`` for a label
                                                 drawn with the judge's probability
iterative DPO    ``dpo``            last iterate ``draw_pairs``
SPPO             ``sppo``           last iterate ``draw_pairs``
                 ``sppo_single``    last iterate ``draw_judged``
DNO              ``dno``            last iterate ``draw_pairs``
INPO             ``inpo``           fixed        ``draw_pairs`` with ``labels="sampled"`` (or
                                                 ``"soft"``) and two samples
Nash-MD          ``mirror_descent`` fixed        ``draw_pairs`` with ``reference`` and
                                                 ``mixture`` = step · tau
EGPO             ``online_ipo``     fixed        ``draw_pairs`` with ``proposal``, two samples and
                                                 ``extragradient=True`` of the loop, one gradient
                                                 step a round (``trainer(steps=1)``); or the mirror
                                                 steps themselves, with ``mirror_descent``
Nash-MD-PG       ``nash_md_pg``     fixed        ``draw_judged``, one plain gradient step a round
online D²O       ``d2o``            last iterate ``draw_negatives``
online SRPO      ``srpo``           fixed        ``draw_pairs``, with ``revise``
REINFORCE        ``reinforce``      fixed        ``draw_scored``, one gradient step a round
RLOO             ``rloo``           fixed        ``draw_scored``
GRPO, Dr. GRPO   ``grpo``           fixed        ``draw_scored``
PPO              ``ppo``            fixed        ``draw_scored``; with a value function the loop
                                                 of :func:`~prefsim.lm.play_actor_critic`
CoPG             ``copg``           fixed        ``draw_scored`` with ``form="pairs"``
                 ``copg_group``     fixed        ``draw_scored``
P3O              ``p3o``            fixed        ``draw_scored`` with ``form="pairs"``
RSO              ``dpo``, ``hinge`` fixed        ``draw_scored`` with ``form="preferences"``,
                                                 ``kept`` and ``kept_temperature``
best-of-n        ``sft``            none         ``draw_scored`` with ``form="demonstrations"`` and
                                                 ``kept=1``
rejection        ``sft``            none         the same, more ``kept`` and a ``kept_temperature``
sampling
================ ================== ============ ================================================

The reference is fixed where ``play_rounds`` is given one, and the last iterate where it is not.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prefsim.checks import check_choice, check_integer
from prefsim.data.ranked_pairs import PAIRINGS
from prefsim.lm.data.comparisons import Revise, TextComparisons, revision_prompt
from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.data.negatives import TextNegatives
from prefsim.lm.fitting import CausalLM
from prefsim.lm.model.tokens import Text
from prefsim.lm.online.samples import (
    JudgedCompletions,
    completion_pairs,
    judged_completions,
    rows_of_round,
)
from prefsim.lm.training.carried import Carried
from prefsim.lm.training.engine import run_on
from prefsim.lm.training.options import TrainingOptions
from prefsim.lm.training.setup import TrainingSetup
from prefsim.loops.rounds import Draw, Loss, Trainer
from prefsim.loops.self_play import LABELS, Judge

__all__ = ["draw_judged", "draw_negatives", "draw_pairs", "trainer"]


def draw_pairs(
    prompts: Sequence[Text],
    judge: Judge,
    *,
    n_samples: int = 5,
    pairing: str = "best_worst",
    labels: str = "rank",
    per_round: int | None = None,
    revise: Revise = revision_prompt,
    **options: Any,
) -> Draw:
    """Return what draws the judged pairs of a round of :func:`prefsim.loops.rounds.play_rounds`.

    Parameters
    ----------
    prompts, judge, n_samples
        As for :func:`judged_completions`.
    pairing, labels
        As for :func:`completion_pairs`.
    per_round
        How many of the prompts a round asks, drawn anew without replacement; all of them unless
        given.
    revise
        For losses of self-improvement such as :func:`prefsim.losses.srpo`: the prompt that asks to
        improve a draft, which is text where the prompt is text or chat messages.
    options
        Further options of :func:`judged_completions`: ``reference`` and ``mixture``,
        ``include_self``, ``proposal``, ``max_new_tokens`` and so on.

    Examples
    --------
    A language model plays against itself, judged by the length of its answers::

        judge = reward_judge(lambda prompt, answer: -len(answer))
        sampled = {"labels": "sampled", "n_samples": 2, "max_new_tokens": 64}
        draw = draw_pairs(prompts, judge, **sampled)
        loss = functools.partial(losses.inpo, step=3.0, tau=0.1)
        train = trainer(epochs=1, learning_rate=1e-5)
        options = {"rounds": 10, "seed": 0, "reference": policy, "train": train}
        for round in play_rounds(policy, draw, loss, **options):
            print(round.pairs.chosen_score.mean())
    """
    check_choice(PAIRINGS, pairing=pairing)
    check_choice(LABELS, labels=labels)

    def pairs_of_round(
        policy: CausalLM, opponent: CausalLM, rng: np.random.Generator
    ) -> TextComparisons:
        samples = _judged_round(
            policy, opponent, judge, prompts, per_round, rng, n_samples, options
        )
        in_words = _in_words(policy, revise)
        return completion_pairs(samples, pairing=pairing, labels=labels, seed=rng, revise=in_words)

    return pairs_of_round


def _in_words(policy: CausalLM, revise: Revise) -> Revise:
    """Return a revision that is shown drafts as the prompt is: drawn tokens become text."""

    def revised(prompt: Text, draft: Text) -> Text:
        is_written = isinstance(prompt, str) or (len(prompt) and isinstance(prompt[0], Mapping))
        return revise(prompt, policy.decode(draft) if is_written else draft)  # type: ignore[arg-type]

    return revised


def draw_negatives(
    prompts: Sequence[Text],
    rejected: Sequence[Text],
    *,
    n_samples: int = 4,
    per_round: int | None = None,
    **options: Any,
) -> Draw:
    """Return what draws the anchoring samples of D²O's rounds anew from the current policy.

    The counterpart of :func:`prefsim.loops.refreshed_negatives`: rejected completions stay, and
    what stands against them are completions of the policy as it is by then.

    Parameters
    ----------
    prompts, rejected
        Lists of text, chat messages or token ids, of one length.
    n_samples
        Completions drawn for each row, >= 1.
    per_round
        How many of the rows a round takes, drawn anew without replacement; all of them unless
        given.
    options
        Of :meth:`prefsim.lm.CausalLM.sample`: ``max_new_tokens``, ``temperature`` and so on.

    Raises
    ------
    ValueError
        If the columns differ in length or an option is out of range.

    References
    ----------
    Duan et al. 2024, "Negating Negatives" (online), arXiv:2403.03419.
    """
    check_integer(low=1, n_samples=n_samples)
    if len(rejected) != len(prompts):
        raise ValueError(
            f"rejected must have as many rows as prompts, {len(prompts)}, got {len(rejected)}"
        )

    def negatives_of_round(
        policy: CausalLM, opponent: CausalLM, rng: np.random.Generator
    ) -> TextNegatives:
        rows = rows_of_round(len(prompts), per_round, rng)
        asked = [prompts[row] for row in rows]
        samples = policy.sample(asked, n_samples, rng, **options)
        return TextNegatives(asked, [rejected[row] for row in rows], samples)

    return negatives_of_round


def draw_judged(
    prompts: Sequence[Text],
    judge: Judge,
    *,
    n_samples: int = 4,
    per_round: int | None = None,
    **options: Any,
) -> Draw:
    """Return what draws single completions with their win rates.

    They are for :func:`prefsim.losses.nash_md_pg` and :func:`prefsim.losses.sppo_single`. The
    parameters are those of :func:`draw_pairs`. Completions that the judge abstained from are left
    out.
    """

    def feedback_of_round(
        policy: CausalLM, opponent: CausalLM, rng: np.random.Generator
    ) -> TextFeedback:
        samples = _judged_round(
            policy, opponent, judge, prompts, per_round, rng, n_samples, options
        )
        kept = ~np.isnan(samples.win_rate).ravel()
        if not kept.any():
            raise ValueError(
                f"the judge abstained from every one of {kept.size} completions: there is nothing"
                " to learn from"
            )
        asked = np.repeat(samples.prompt, samples.completions.shape[1])
        return TextFeedback(
            list(asked[kept]),
            list(samples.completions.ravel()[kept]),
            samples.win_rate.ravel()[kept],
        )

    return feedback_of_round


def _judged_round(
    policy: CausalLM,
    opponent: CausalLM,
    judge: Judge,
    prompts: Sequence[Text],
    per_round: int | None,
    rng: np.random.Generator,
    n_samples: int,
    options: Mapping[str, Any],
) -> JudgedCompletions:
    rows = rows_of_round(len(prompts), per_round, rng)
    # Against itself its own completions are judged, and no second ones are drawn.
    against = None if opponent is policy else opponent
    return judged_completions(
        policy,
        judge,
        [prompts[int(i)] for i in rows],
        n_samples=n_samples,
        opponent=against,
        seed=rng,
        **options,
    )


def trainer(**options: Any) -> Trainer:
    """Return the trainer that fits a language model to the pairs of a round.

    Parameters
    ----------
    options
        Of ``fit`` for language models, see :class:`~prefsim.lm.TrainingOptions`. ``steps`` or
        ``epochs`` and the rates are those of one round. Rounds write nothing to disk: save the
        policy that a round yields.

    A round goes on with the optimiser of the one before, and with its parameters as precise as they
    were trained: rounded to bfloat16 after each round, small steps would be lost. Both are kept for
    the last two policies that were made (the trial of an extragradient and the one before it), and
    a policy from elsewhere begins anew.

    Raises
    ------
    ValueError
        If an option is out of range or writes to disk.
    """
    settings = {"progress": False} | options
    for name in ("out", "save_every", "resume"):
        if settings.get(name):
            raise ValueError(
                f"{name} has no meaning for the rounds of a loop, got {settings[name]!r}: save the"
                " policy of a round instead"
            )
    TrainingOptions(**settings)

    made: list[tuple[weakref.ref[CausalLM], Carried]] = []

    def trained(policy: CausalLM, loss: Loss, data: Any, reference: CausalLM) -> CausalLM:
        setup = TrainingSetup(policy, loss, data, reference, TrainingOptions(**settings))
        before = next((carried for made_by, carried in made if made_by() is policy), None)
        result, carried = run_on(setup, before)
        made.append((weakref.ref(result.policy), carried))
        del made[:-2]
        return result.policy

    return trained
