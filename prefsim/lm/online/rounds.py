"""Online learning of language models: sample, have the samples judged, learn from them, repeat.

The loop is that of the tabular policies, :func:`prefsim.loops.rounds.play_rounds`; here are the draws that it makes with a language model,
and the trainer. Judges are in :mod:`prefsim.lm.online.judges`. Which method it is, the loss, its reference and the draw decide:

================ =================== ================ ====================================================================================
method           loss                reference        draw
================ =================== ================ ====================================================================================
online DPO, IPO  ``dpo``, ``ipo``    fixed            ``draw_pairs``; ``labels="sampled"`` for a label drawn with the judge's probability
iterative DPO    ``dpo``             last iterate     ``draw_pairs``
SPPO             ``sppo``            last iterate     ``draw_pairs``
DNO              ``dno``             last iterate     ``draw_pairs``
INPO             ``inpo``            fixed            ``draw_pairs`` with ``labels="sampled"`` (or ``"soft"``) and two samples
Nash-MD          ``mirror_descent``  fixed            ``draw_pairs`` with ``reference`` and ``mixture`` = step · tau
EGPO             ``mirror_descent``  fixed            ``draw_pairs``, and ``extragradient=True`` of the loop
Nash-MD-PG       ``nash_md_pg``      fixed            ``draw_judged``, one plain gradient step a round
================ =================== ================ ====================================================================================

The reference is fixed where ``play_rounds`` is given one, and the last iterate where it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    check_callable,
    check_choice,
    check_integer,
    check_interval,
    check_preference,
    check_shape,
)
from prefsim.data.ranked_pairs import PAIRINGS
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import Text
from prefsim.lm.online.judges import as_rows
from prefsim.lm.training.data import TextComparisons, TextFeedback
from prefsim.lm.training.options import TrainingOptions
from prefsim.loops.rounds import Draw, Loss, Trainer
from prefsim.loops.self_play import LABELS, Judge, picked, ranked_places, win_rates
from prefsim.solvers.fit import fit

__all__ = [
    "JudgedCompletions",
    "completion_pairs",
    "draw_judged",
    "draw_pairs",
    "judged_completions",
    "trainer",
]


# --- samples
# ---------------------------------------------------------------------------------------------------------------------------


class JudgedCompletions(NamedTuple):
    """TextFeedback of prompts, compared with each other.

    :class:`prefsim.loops.JudgedSamples` of a language model.

    Attributes
    ----------
    prompt
        Texts, an array of objects ``(m,)``.
    completions
        Lists of token ids, an array of objects ``(m, K)``.
    logp
        ``(m, K)`` in nats, under the policy that drew them.
    preference
        ``(m, K, K)``, of each completion over each other; NaN where the judge abstained.
    win_rate
        ``(m, K)``, the estimated probability to be preferred to a draw of the opponent; NaN where
        the judge abstained from all.
    """

    prompt: np.ndarray
    completions: np.ndarray
    logp: np.ndarray
    preference: np.ndarray
    win_rate: np.ndarray


def _log_probs(
    policy: CausalLM, prompt: np.ndarray, completions: np.ndarray, batch_size: int
) -> np.ndarray:
    questions = [text for text in prompt for _ in range(completions.shape[1])]
    return (
        policy.log_prob(questions, list(completions.ravel()), batch_size=batch_size)
        .cpu()
        .numpy()
        .reshape(completions.shape)
    )


def judged_completions(
    policy: CausalLM,
    judge: Judge,
    prompts: Sequence[Text],
    *,
    n_samples: int,
    opponent: CausalLM | None = None,
    reference: CausalLM | None = None,
    mixture: float = 0.0,
    include_self: bool = False,
    seed: Seed,
    batch_size: int = 8,
    **sampling: Any,
) -> JudgedCompletions:
    r"""Draw completions and have them judged, against each other and for their win rates.

    Parameters
    ----------
    policy
        Draws the completions.
    judge
        Says which completions are preferred, see :mod:`prefsim.lm.online.judges`. It reads text
        where the policy has a tokenizer, and token ids where it has none.
    prompts
        What is asked; a prompt may be asked several times.
    n_samples
        TextFeedback K of each, >= 2.
    opponent
        Win rates are against ``n_samples`` fresh draws of this policy; against the completions
        themselves unless given.
    reference, mixture
        Win rates are against the mixture :math:`\propto \pi^{1-\kappa}\mu^{\kappa}` of the opponent
        π and the reference μ with κ = ``mixture`` in [0, 1], as Nash-MD needs them: draws of the
        opponent weighted by :math:`(\mu/\pi)^\kappa`, normalised among those of a prompt. It is the
        mixture of whole completions, and no other sampler is needed; the larger κ and the longer
        the completions, the fewer of the draws count.
    include_self
        As in :func:`prefsim.loops.judged_samples`.
    seed
        Of the draws.
    batch_size, sampling
        As for :meth:`CausalLM.sample <prefsim.lm.CausalLM.sample>`, such as ``max_new_tokens``.

    Returns
    -------
    JudgedCompletions

    Raises
    ------
    ValueError
        If a number is out of range, or the judge returns no preferences.
    """
    check_callable(judge=judge)
    check_integer(low=2, n_samples=n_samples)
    check_interval(low=0.0, high=1.0, closed="both", mixture=mixture)
    if mixture > 0 and reference is None:
        raise ValueError(
            f"mixture = {mixture} needs the reference that the opponent is mixed with, got none"
        )
    if len(prompts) == 0:
        raise ValueError("prompts must hold at least one, got 0")
    rng, asked = random_generator(seed), as_rows(prompts)

    def drawn(by: CausalLM) -> tuple[np.ndarray, np.ndarray]:
        """Return completions and what the judge reads of them."""
        ids = as_rows(
            by.sample(list(prompts), n_samples, rng, batch_size=batch_size, **sampling), depth=2
        )
        return ids, (
            ids
            if by.tokenizer is None
            else as_rows([[by.decode(each) for each in row] for row in ids], depth=2)
        )

    completions, read = drawn(policy)
    shape = (len(prompts), n_samples, n_samples)
    preference = _judged(judge, asked, read, read, shape)
    check_preference(np.where(np.isnan(preference), 0.5, preference), "preferences of the judge")
    logp = _log_probs(policy, asked, completions, batch_size)
    against, wins = completions, preference
    if opponent is not None:
        against, their_text = drawn(opponent)
        wins = _judged(judge, asked, read, their_text, shape)
    weight = None
    if mixture > 0 and reference is not None:
        theirs = logp if opponent is None else _log_probs(opponent, asked, against, batch_size)
        tilt = mixture * (_log_probs(reference, asked, against, batch_size) - theirs)
        weight = np.exp(tilt - tilt.max(axis=-1, keepdims=True))
    rate = win_rates(wins, weight=weight, include_self=include_self or opponent is not None)
    return JudgedCompletions(asked, completions, logp, preference, rate)


def _judged(
    judge: Judge, prompt: np.ndarray, first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    found = np.asarray(to_numpy(judge(prompt, first, second)), dtype=np.float64)
    check_shape(found, "preferences of the judge", shape)
    bad = (found < 0) | (found > 1)
    if bad.any():
        raise ValueError(
            "preferences of the judge must lie in [0, 1] or be NaN for an abstention, got"
            f" {found[bad][0]}"
        )
    return found


def completion_pairs(
    samples: JudgedCompletions, *, pairing: str = "best_worst", labels: str = "rank", seed: Seed = 0
) -> TextComparisons:
    """Pair judged completions, with win rates as scores and the log-probabilities of the policy that drew them as ``old_*``.

    Parameters
    ----------
    samples
        From :func:`judged_completions`.
    pairing, labels, seed
        As in :func:`prefsim.loops.sampled_pairs`.

    Returns
    -------
    TextComparisons, as token ids. Pairs that the judge abstained from are left out; where
    completions are ranked, an abstention is a tie.

    Raises
    ------
    ValueError
        If ``pairing`` or ``labels`` is unknown, or the judge abstained from every pair.
    """
    known = ~np.isnan(samples.preference)
    places, prob = ranked_places(
        np.where(known, samples.preference, 0.5), pairing=pairing, labels=labels, seed=seed
    )
    n, k = samples.completions.shape
    first, second = places
    kept = known.reshape(n, -1)[np.arange(n)[:, None], first * k + second].ravel()
    scores = [picked(samples.win_rate, place) for place in places]
    kept &= ~np.isnan(scores[0]) & ~np.isnan(scores[1])
    if not kept.any():
        raise ValueError(
            f"the judge abstained from every one of {kept.size} pairs: there is nothing to learn"
            " from"
        )
    chosen, rejected = (list(picked(samples.completions, place)[kept]) for place in places)
    old = [picked(samples.logp, place)[kept] for place in places]
    return TextComparisons(
        list(np.repeat(samples.prompt, first.shape[1])[kept]),
        chosen,
        rejected,
        prob=prob.ravel()[kept] if labels == "soft" else None,
        chosen_score=scores[0][kept],
        rejected_score=scores[1][kept],
        old_chosen=old[0],
        old_rejected=old[1],
    )


# --- draws and training of the loop
# ----------------------------------------------------------------------------------------------------


def draw_pairs(
    prompts: Sequence[Text],
    judge: Judge,
    *,
    n_samples: int = 5,
    pairing: str = "best_worst",
    labels: str = "rank",
    per_round: int | None = None,
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
        How many of the prompts a round asks, drawn anew without replacement; all of them unless given.
    options
        Further options of :func:`judged_completions`: ``reference`` and ``mixture``, ``include_self``, ``max_new_tokens`` and so on.

    Examples
    --------
    A language model plays against itself, judged by the length of its answers::

        draw = draw_pairs(prompts, reward_judge(lambda prompt, answer: -len(answer)), labels="sampled", n_samples=2, max_new_tokens=64)
        loss = functools.partial(losses.inpo, eta=0.3, tau=0.1)
        train = trainer(epochs=1, learning_rate=1e-5)
        for round in play_rounds(policy, draw, loss, rounds=10, seed=0, reference=policy, train=train):
            print(round.pairs.chosen_score.mean())
    """
    check_choice(PAIRINGS, pairing=pairing)
    check_choice(LABELS, labels=labels)

    def draw(policy: CausalLM, opponent: CausalLM, rng: np.random.Generator) -> TextComparisons:
        samples = _round(policy, opponent, judge, prompts, per_round, rng, n_samples, options)
        return completion_pairs(samples, pairing=pairing, labels=labels, seed=rng)

    return draw


def draw_judged(
    prompts: Sequence[Text],
    judge: Judge,
    *,
    n_samples: int = 4,
    per_round: int | None = None,
    **options: Any,
) -> Draw:
    """Return what draws single completions with their win rates, for :func:`prefsim.losses.nash_md_pg`.

    The parameters are those of :func:`draw_pairs`. TextFeedback that the judge abstained from are
    left out.
    """

    def draw(policy: CausalLM, opponent: CausalLM, rng: np.random.Generator) -> TextFeedback:
        samples = _round(policy, opponent, judge, prompts, per_round, rng, n_samples, options)
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

    return draw


def _round(
    policy: CausalLM,
    opponent: CausalLM,
    judge: Judge,
    prompts: Sequence[Text],
    per_round: int | None,
    rng: np.random.Generator,
    n_samples: int,
    options: Mapping[str, Any],
) -> JudgedCompletions:
    rows = np.arange(len(prompts))
    if per_round is not None:
        check_integer(low=1, high=len(prompts), per_round=per_round)
        rows = np.sort(rng.permutation(rows)[:per_round])
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
        ``epochs`` and the rates are those of one round, which begins with a fresh optimiser. Rounds
        write nothing to disk: save the policy that a round yields.

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

    def train(policy: CausalLM, loss: Loss, data: Any, reference: CausalLM) -> CausalLM:
        return fit(policy, loss, data, reference=reference, **settings).policy

    return train
