r"""Online learning of language models: sample, have the samples judged, learn from them, repeat.

The loop is that of the tabular policies, :func:`prefsim.loops.rounds.play_rounds`; here are the judges, the draws that it makes with a
language model, and the trainer. Which loss makes which method:

==================== ================================================================================ ================================
method               loss                                                                             draw
==================== ================================================================================ ================================
online DPO, IPO      ``dpo``, ``ipo``, ...; the reference is fixed                                    ``labels="sampled"`` or ``"rank"``
SPPO                 ``sppo``; the reference is the last iterate                                      defaults
DNO                  ``dno``; the reference is the last iterate                                       ``labels="soft"`` is iterative DPO
INPO                 ``inpo``; fixed reference                                                        ``labels="sampled"``, ``n_samples=2``
Nash-MD              ``mirror_descent``; fixed reference                                              ``mixture`` = ητ
EGPO                 ``mirror_descent``; fixed reference                                              ``extragradient=True`` of the loop
Nash-MD-PG           ``nash_md_pg``; fixed reference                                                  :func:`draw_judged`
==================== ================================================================================ ================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim._validate import check_callable, check_choice, check_integer, check_interval, check_positive, check_preference, check_shape
from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.data.ranked_pairs import PAIRINGS
from prefsim.lm.data import Completions, PreferencePairs
from prefsim.lm.policy import CausalLM
from prefsim.lm.tokens import Text
from prefsim.lm.train import TrainingOptions
from prefsim.loops.rounds import Draw
from prefsim.loops.self_play import LABELS, Judge, Loss, Trainer, picked, ranked_places, win_rates
from prefsim.losses.nash import antisymmetrised
from prefsim.numerics import sigmoid
from prefsim.solvers.fit import fit

Array = Any

__all__ = [
    "JudgedCompletions",
    "as_rows",
    "completion_pairs",
    "draw_judged",
    "draw_pairs",
    "judged_completions",
    "pairwise_judge",
    "reward_judge",
    "trainer",
]


def as_rows(nested: Sequence[Any], *, depth: int = 1) -> np.ndarray:
    """Return texts as an array of objects with ``depth`` axes: a list of token ids is one entry, not an axis.

    Examples
    --------
    >>> as_rows([[[1, 2], [3]]], depth=2).shape
    (1, 2)
    """
    shape, level = [], nested
    for _ in range(depth):
        shape.append(len(level))
        level = level[0] if len(level) else []
    found = np.empty(shape, dtype=object)
    for where in np.ndindex(*shape):
        entry: Any = nested
        for i in where:
            entry = entry[i]
        found[where] = entry
    return found


# --- judges ----------------------------------------------------------------------------------------------------------------------------


def _key(text: Any) -> Any:
    """Return something hashable that is equal for equal texts."""
    if isinstance(text, str):
        return text
    return tuple(tuple(sorted(item.items())) if isinstance(item, Mapping) else int(item) for item in text)


def reward_judge(
    reward: Callable[..., Any], *, scale: float = 1.0, batched: bool = False, abstain_on: tuple[type[Exception], ...] = ()
) -> Judge:
    r"""Return the judge that prefers by the Bradley–Terry model on a reward: :math:`P(y \succ y') = \sigma(s\,(r - r'))`.

    Parameters
    ----------
    reward
        ``(prompt, completion) -> number``; with ``batched`` ``(prompts, completions) -> numbers``, lists in and an array out, for a reward
        model on a GPU. Every different completion is scored once in a call.
    scale
        Inverse temperature s, > 0; ``inf`` prefers the higher reward for certain.
    batched
        See ``reward``.
    abstain_on
        Exceptions of ``reward`` that mean no judgement instead of an error, such as ``TimeoutError``.

    Returns
    -------
    Judge, see :func:`judged_completions`. NaN (and None) as a reward is an abstention.

    Examples
    --------
    >>> judge = reward_judge(lambda prompt, completion: len(completion), scale=0.5)
    >>> judge(as_rows(["Q"]), as_rows([["abc", "a"]], depth=2), as_rows([["a"]], depth=2)).round(3)
    array([[[0.731],
            [0.5  ]]])
    """
    check_callable(reward=reward)
    if scale != np.inf:
        check_positive(scale=scale)

    def scores(rows: list[tuple[Any, Any]]) -> np.ndarray:
        if batched:
            try:
                given = to_numpy(reward([prompt for prompt, _ in rows], [completion for _, completion in rows]))
            except abstain_on:
                return np.full(len(rows), np.nan)
            found = np.asarray(given, dtype=np.float64)
            if found.shape != (len(rows),):
                raise ValueError(f"a batched reward must return one number for each of {len(rows)} completions, got shape {found.shape}")
            return found
        found = np.full(len(rows), np.nan)
        for i, (prompt, completion) in enumerate(rows):
            with contextlib.suppress(*abstain_on):
                value = reward(prompt, completion)
                found[i] = np.nan if value is None else float(value)
        return found

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        both = np.concatenate([first, second], axis=1)
        rows: dict[Any, tuple[int, Any, Any]] = {}
        place = np.empty(both.shape, dtype=np.int64)
        for m, k in np.ndindex(both.shape):
            row = rows.setdefault((_key(prompt[m]), _key(both[m, k])), (len(rows), prompt[m], both[m, k]))
            place[m, k] = row[0]
        value = scores([(question, answer) for _, question, answer in rows.values()])[place]
        if np.isinf(value).any():
            raise ValueError(f"rewards must be finite or NaN, got {value[np.isinf(value)][0]}")
        split = first.shape[1]
        gap = value[:, :split, None] - value[:, None, split:]
        if scale == np.inf:
            return np.where(np.isnan(gap), np.nan, 0.5 * (1 + np.sign(gap)))
        return sigmoid(scale * gap)

    return judge


def pairwise_judge(prefer: Callable[[Any, Any, Any], Any], *, abstain_on: tuple[type[Exception], ...] = ()) -> Judge:
    r"""Return the judge that asks a function which of two completions is better, in both orders.

    Its preference is :func:`prefsim.losses.antisymmetrised`: what the function gives to the completion that it sees first cancels. Equal
    completions are not asked about, and no pair is asked about twice in a call.

    Parameters
    ----------
    prefer
        ``(prompt, first, second) ->`` probability that the first is better (or whether it is). ``None``, NaN and numbers outside [0, 1] are
        abstentions.
    abstain_on
        Exceptions of ``prefer`` that mean no judgement instead of an error, such as ``TimeoutError``.

    Returns
    -------
    Judge, see :func:`judged_completions`.

    Examples
    --------
    >>> judge = pairwise_judge(lambda prompt, first, second: None if "?" in first + second else len(first) > len(second))
    >>> judge(as_rows(["Q"]), as_rows([["abc", "a", "?"]], depth=2), as_rows([["a"]], depth=2))
    array([[[1. ],
            [0.5],
            [nan]]])
    """
    check_callable(prefer=prefer)

    def asked(question: Any, first: Any, second: Any) -> float:
        try:
            value = prefer(question, first, second)
        except abstain_on:
            return -1.0
        return -1.0 if value is None else float(value)

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        answers: dict[Any, float] = {}
        forward = np.empty((*first.shape, second.shape[1]))
        backward = np.empty_like(forward)
        for m, i, j in np.ndindex(forward.shape):
            question, a, b = prompt[m], first[m, i], second[m, j]
            key = _key(question), _key(a), _key(b)
            if key[1] == key[2]:
                forward[m, i, j] = backward[m, i, j] = 0.5
                continue
            for table, (one, other), name in ((forward, (a, b), key), (backward, (b, a), (key[0], key[2], key[1]))):
                if name not in answers:
                    answers[name] = asked(question, one, other)
                table[m, i, j] = answers[name]
        found = antisymmetrised(forward, backward)
        return np.where(found.kept, found.win_prob, np.nan)

    return judge


# --- samples ---------------------------------------------------------------------------------------------------------------------------


class JudgedCompletions(NamedTuple):
    """Completions of prompts, compared with each other: :class:`prefsim.loops.JudgedSamples` of a language model.

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
        ``(m, K)``, the estimated probability to be preferred to a draw of the opponent; NaN where the judge abstained from all.
    """

    prompt: np.ndarray
    completions: np.ndarray
    logp: np.ndarray
    preference: np.ndarray
    win_rate: np.ndarray


def _log_probs(policy: CausalLM, prompt: np.ndarray, completions: np.ndarray, batch_size: int) -> np.ndarray:
    questions = [text for text in prompt for _ in range(completions.shape[1])]
    return policy.log_prob(questions, list(completions.ravel()), batch_size=batch_size).cpu().numpy().reshape(completions.shape)


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
        Function of prompts ``(m,)`` and completions ``(m, K)`` and ``(m, L)``, arrays of objects, that returns how likely each of the first
        is preferred to each of the second, ``(m, K, L)``, or NaN for an abstention. It reads text where the policy has a tokenizer, token ids
        where it has none. See :func:`reward_judge`, :func:`pairwise_judge` and :func:`prefsim.lm.trees.tree_judge`.
    prompts
        What is asked; a prompt may be asked several times.
    n_samples
        Completions K of each, >= 2.
    opponent
        Win rates are against ``n_samples`` fresh draws of this policy; against the completions themselves unless given.
    reference, mixture
        Win rates are against the mixture :math:`\propto \pi^{1-\kappa}\mu^{\kappa}` of the opponent π and the reference μ with κ =
        ``mixture`` in [0, 1], as Nash-MD needs them: draws of the opponent weighted by :math:`(\mu/\pi)^\kappa`, normalised among
        those of a prompt. It is the mixture of whole completions, and no other sampler is needed; the larger κ and the longer the
        completions, the fewer of the draws count.
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
        raise ValueError(f"mixture = {mixture} needs the reference that the opponent is mixed with, got none")
    if len(prompts) == 0:
        raise ValueError("prompts must hold at least one, got 0")
    rng, asked = random_generator(seed), as_rows(prompts)

    def drawn(by: CausalLM) -> tuple[np.ndarray, np.ndarray]:
        """Return completions and what the judge reads of them."""
        ids = as_rows(by.sample(list(prompts), n_samples, rng, batch_size=batch_size, **sampling), depth=2)
        return ids, ids if by.tokenizer is None else as_rows([[by.decode(each) for each in row] for row in ids], depth=2)

    completions, read = drawn(policy)
    shape = (len(prompts), n_samples, n_samples)
    preference = _judged(judge, asked, read, read, shape)
    check_preference(np.where(np.isnan(preference), 0.5, preference), "preferences of the judge")
    logp = _log_probs(policy, asked, completions, batch_size)
    against, theirs, by, wins = completions, logp, policy, preference
    if opponent is not None:
        against, their_text = drawn(opponent)
        by, wins = opponent, _judged(judge, asked, read, their_text, shape)
    weight = None
    if mixture > 0 and reference is not None:
        theirs = logp if opponent is None else _log_probs(by, asked, against, batch_size)
        tilt = mixture * (_log_probs(reference, asked, against, batch_size) - theirs)
        weight = np.exp(tilt - tilt.max(axis=-1, keepdims=True))
    rate = win_rates(wins, weight=weight, include_self=include_self or opponent is not None)
    return JudgedCompletions(asked, completions, logp, preference, rate)


def _judged(judge: Judge, prompt: np.ndarray, first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = np.asarray(to_numpy(judge(prompt, first, second)), dtype=np.float64)
    check_shape(found, "preferences of the judge", shape)
    bad = (found < 0) | (found > 1)
    if bad.any():
        raise ValueError(f"preferences of the judge must lie in [0, 1] or be NaN for an abstention, got {found[bad][0]}")
    return found


def completion_pairs(samples: JudgedCompletions, *, pairing: str = "best_worst", labels: str = "rank", seed: Seed = 0) -> PreferencePairs:
    """Pair judged completions, with win rates as scores and the log-probabilities of the policy that drew them as ``old_*``.

    Parameters
    ----------
    samples
        From :func:`judged_completions`.
    pairing, labels, seed
        As in :func:`prefsim.loops.sampled_pairs`.

    Returns
    -------
    PreferencePairs, as token ids. Pairs that the judge abstained from are left out.

    Raises
    ------
    ValueError
        If ``pairing`` or ``labels`` is unknown, or the judge abstained from every pair.
    """
    known = ~np.isnan(samples.preference)
    places, prob = ranked_places(np.where(known, samples.preference, 0.5), pairing=pairing, labels=labels, seed=seed)
    n, k = samples.completions.shape
    first, second = places
    kept = known.reshape(n, -1)[np.arange(n)[:, None], first * k + second].ravel()
    scores = [picked(samples.win_rate, place) for place in places]
    kept &= ~np.isnan(scores[0]) & ~np.isnan(scores[1])
    if not kept.any():
        raise ValueError(f"the judge abstained from every one of {kept.size} pairs: there is nothing to learn from")
    chosen, rejected = (list(picked(samples.completions, place)[kept]) for place in places)
    old = [picked(samples.logp, place)[kept] for place in places]
    return PreferencePairs(
        list(np.repeat(samples.prompt, first.shape[1])[kept]),
        chosen,
        rejected,
        prob=prob.ravel()[kept] if labels == "soft" else None,
        chosen_score=scores[0][kept],
        rejected_score=scores[1][kept],
        old_chosen=old[0],
        old_rejected=old[1],
    )


# --- draws and training of the loop ----------------------------------------------------------------------------------------------------


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

    def draw(policy: CausalLM, opponent: CausalLM, rng: np.random.Generator) -> PreferencePairs:
        samples = _round(policy, opponent, judge, prompts, per_round, rng, n_samples, options)
        return completion_pairs(samples, pairing=pairing, labels=labels, seed=rng)

    return draw


def draw_judged(prompts: Sequence[Text], judge: Judge, *, n_samples: int = 4, per_round: int | None = None, **options: Any) -> Draw:
    """Return what draws single completions with their win rates, for :func:`prefsim.losses.nash_md_pg`.

    The parameters are those of :func:`draw_pairs`. Completions that the judge abstained from are left out.
    """

    def draw(policy: CausalLM, opponent: CausalLM, rng: np.random.Generator) -> Completions:
        samples = _round(policy, opponent, judge, prompts, per_round, rng, n_samples, options)
        kept = ~np.isnan(samples.win_rate).ravel()
        if not kept.any():
            raise ValueError(f"the judge abstained from every one of {kept.size} completions: there is nothing to learn from")
        asked = np.repeat(samples.prompt, samples.completions.shape[1])
        return Completions(list(asked[kept]), list(samples.completions.ravel()[kept]), samples.win_rate.ravel()[kept])

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
    return judged_completions(policy, judge, [prompts[i] for i in rows], n_samples=n_samples, opponent=against, seed=rng, **options)


def trainer(**options: Any) -> Trainer:
    """Return the trainer that fits a language model to the pairs of a round.

    Parameters
    ----------
    options
        Of ``fit`` for language models, see :class:`~prefsim.lm.TrainingOptions`. ``steps`` or ``epochs`` and the rates are those of one
        round, which begins with a fresh optimiser. Rounds write nothing to disk: save the policy that a round yields.

    Raises
    ------
    ValueError
        If an option is out of range or writes to disk.
    """
    settings = {"progress": False} | options
    for name in ("out", "save_every", "resume"):
        if settings.get(name):
            raise ValueError(f"{name} has no meaning for the rounds of a loop, got {settings[name]!r}: save the policy of a round instead")
    TrainingOptions(**settings)

    def train(policy: CausalLM, loss: Loss, data: Any, reference: CausalLM) -> CausalLM:
        return fit(policy, loss, data, reference=reference, **settings).policy

    return train
