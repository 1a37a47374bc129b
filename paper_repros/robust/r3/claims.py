"""What the paper says of the reward and of those that are hacked, on random instances."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from paper_repros.robust.r3.preferences import Confounded
from paper_repros.robust.r3.token_world import (
    LONGEST,
    REWARDS,
    VOCABULARY,
    all_responses,
    means,
    optimum,
    terms_of_relevances,
)
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import Verdict, above, apart, claim, falls, rises, worst
from prefsim.raters import proxy_reward, relevance_reward
from prefsim.raters.white_box import distinct_ngrams, length_incentive, mean_pooled
from prefsim.testing import tables

SEEDS = st.integers(0, 10**6)
ANY = tables((VOCABULARY,), low=-1.0, high=1.0)


def ordered(least: float) -> st.SearchStrategy[np.ndarray]:
    """Relevances of three tokens, the first the most relevant and all apart by ``least``."""
    gaps = st.tuples(st.floats(least, 1.0), st.floats(least, 1.0))
    return st.builds(
        lambda best, gap: np.array([best, best - gap[0], best - gap[0] - gap[1]]),
        st.floats(0.5, 1.0),
        gaps,
    )


def maximisers(reward: np.ndarray) -> np.ndarray:
    """Return which responses have the largest reward, to rounding."""
    return np.asarray(reward >= reward.max() - 1e-9)


def differing(found: np.ndarray, stated: np.ndarray) -> float:
    return float(np.sum(found != stated))


@claim(
    "T1",
    "identity",
    source="KL-regularised reward maximisation",
    stated="derived",
    given={
        "relevances": ANY,
        "reward": st.sampled_from(list(REWARDS)),
        "beta": st.floats(0.02, 1.0),
        "other": SEEDS,
        "held": st.just(1.0),
    },
    breaks={"held": st.floats(1.5, 3.0)},
)
def optimum_is_the_tilted_reference(
    relevances: np.ndarray, reward: str, beta: float, other: int, held: float
) -> Verdict:
    """The policy π_ref e^(R/β) / Z has the value β log Z, and any other policy π has less by
    β KL(π‖π*).
    """
    values = terms_of_relevances(relevances[None]).reward(reward)[0]
    best, log_z = optimum(values, 1 / (held * beta))
    log_reference = all_responses().log_reference
    policy = log_softmax(np.random.default_rng(other).standard_normal(values.shape))
    own, others = (
        means(log_policy, values) - beta * categorical_kl(log_policy, log_reference)
        for log_policy in (best, policy)
    )
    return worst(
        apart(own, beta * log_z),
        apart(beta * log_z - others, beta * categorical_kl(policy, best)),
        detail=f"J* {own:.6f}, β log Z {beta * log_z:.6f}",
    )


@claim(
    "T2",
    "counterexample",
    source="section on reward hacking of relevance",
    stated="derived",
    tolerance=0.0,
    given={"relevances": ordered(0.01), "shift": st.just(0.0)},
    breaks=(
        # Another token is as relevant as the best one.
        {"relevances": ordered(0.01).map(lambda q: q[[0, 0, 2]])},
        {"shift": st.floats(1.5, 2.0)},
    ),
)
def relevance_is_hacked_by_repeating_a_token(relevances: np.ndarray, shift: float) -> Verdict:
    """The largest relevance have the copies of the most relevant token, of whatever length; with
    the length incentive the longest copy alone; and of length alone all longest responses.
    """
    tokens = all_responses().tokens
    terms = terms_of_relevances((relevances - shift)[None])
    copies = np.all((tokens == 0) | (tokens < 0), axis=-1)
    longest = tokens[:, -1] >= 0
    stated = {"QR": copies, "LI·QR": copies & longest, "LI": longest}
    wrong = {
        name: differing(maximisers(terms.reward(name)[0]), which) for name, which in stated.items()
    }
    return worst(*wrong.values(), detail=f"maximisers that are others: {wrong}")


@claim(
    "T3",
    "identity",
    source="definition of R³",
    stated="derived",
    tolerance=1e-12,
    given={"relevances": ordered(0.01), "longest": st.just(LONGEST)},
    breaks=(
        {"longest": st.just(LONGEST + 1)},
        {"relevances": ordered(0.01).map(lambda q: q[[0, 1, 1]])},
    ),
)
def regularised_relevance_is_not(relevances: np.ndarray, longest: int) -> Verdict:
    """R³ is largest for the longest copy with one change in its middle, by the second most relevant
    token, which makes all trigrams different ones: two responses of six tokens.
    """
    responses = all_responses(VOCABULARY, longest)
    reward = terms_of_relevances(relevances[None], responses).reward("R³")[0]
    best = responses.tokens[maximisers(reward)]
    stated = np.zeros((2, longest), dtype=int)
    stated[0, 3] = stated[1, 2] = 1
    others = 0.0 if best.shape == stated.shape else abs(len(best) - len(stated)) + 1.0
    if not others:
        others = differing(best, stated)
    value = (5 * relevances[0] + relevances[1]) / 6
    return worst(
        others, apart(reward.max(), value), detail=f"{best[:3].tolist()}, {reward.max():.6f}"
    )


@claim(
    "T4",
    "monotone",
    source="section on regularised relevance",
    stated="derived",
    given={"relevances": tables((VOCABULARY,), low=0.0, high=1.0), "beta": st.floats(0.02, 0.5)},
    breaks={"relevances": tables((VOCABULARY,), low=-1.0, high=-0.2)},
)
def penalty_buys_variety_with_relevance_and_length(relevances: np.ndarray, beta: float) -> Verdict:
    """Where no token has a negative relevance, the optimum of R³ repeats less than that of LI·QR,
    and is somewhat shorter and less relevant.
    """
    terms = terms_of_relevances(relevances[None])
    policies = [optimum(terms.reward(name)[0], 1 / beta)[0] for name in ("LI·QR", "R³")]
    length, distinct, relevance = (
        [float(means(policy, term[0])) for policy in policies] for term in terms
    )
    return worst(
        above(distinct[0], distinct[1]),
        above(length[1], length[0]),
        above(relevance[1], relevance[0]),
        detail=f"E RP {distinct[0]:.4f} to {distinct[1]:.4f}, E QR {relevance[0]:.4f} to"
        f" {relevance[1]:.4f}, E LI {length[0]:.4f} to {length[1]:.4f}",
    )


@claim(
    "rises",
    "monotone",
    source="reverse reward engineering",
    stated="derived",
    given={
        "relevances": ANY,
        "reward": st.sampled_from(list(REWARDS)),
        "gold": st.just(False),
    },
    breaks={
        "relevances": tables((VOCABULARY,), low=0.0, high=1.0),
        "reward": st.just("LI·QR"),
        "gold": st.just(True),
    },
)
def what_is_pushed_rises(relevances: np.ndarray, reward: str, gold: bool) -> Verdict:
    """As β falls the mean of the reward under its optimum rises: whether a proxy tracks gold is
    whether gold rises with it.
    """
    terms = terms_of_relevances(relevances[None])
    log_policy, _ = optimum(terms.reward(reward), np.linspace(0.0, 100.0, 21))
    measured = means(log_policy, (terms.gold() if gold else terms.reward(reward)))
    return rises(measured, detail=f"{measured[0]:.5f} to {measured[-1]:.5f}")


@claim(
    "T5",
    "monotone",
    source="definition of R³",
    stated="derived",
    given={
        "relevance": st.floats(-2.0, -0.05),
        "first": st.floats(0.0, 1.0),
        "more": st.floats(0.05, 2.0),
        "distinct": st.floats(0.1, 1.0),
    },
    breaks={"relevance": st.floats(0.05, 2.0)},
)
def negative_relevance_turns_every_factor_round(
    relevance: float, first: float, more: float, distinct: float
) -> Verdict:
    """With a negative dot product the open-ended reward falls with length, and with every trigram
    that is not repeated.
    """
    longer = proxy_reward(np.array([first, first + more]), distinct, relevance)
    varied = proxy_reward(np.array(more), np.array([0.5 * distinct, distinct]), relevance)
    return worst(
        falls(longer),
        falls(varied),
        apart(longer[1] - longer[0], more * distinct * relevance),
        apart(varied[1] - varied[0], 0.5 * more * distinct * relevance),
        detail=f"{longer.round(4).tolist()}, {varied.round(4).tolist()}",
    )


def texts(least: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 3), min_size=least, max_size=most)


@claim(
    "T6",
    "invariance",
    source="definition of the repetition penalty",
    stated="derived",
    given={"text": texts(3, 20), "names": st.permutations(range(4))},
    breaks=({"text": texts(2, 2)}, {"names": st.just([0, 0, 1, 1])}),
)
def repetition_is_seen_whatever_the_words(text: list[int], names: list[int]) -> Verdict:
    """The repetition penalty does not depend on what the tokens are called, and is at most 1; that
    of a text of n >= 3 tokens falls by 1/((n − 2)(2n − 2)) or more when a copy is appended.
    """
    tokens, n = np.array(text), len(text)
    once, renamed, twice = (
        distinct_ngrams(row) for row in (tokens, np.array(names)[tokens], np.tile(tokens, 2))
    )
    return worst(
        apart(renamed, once),
        above(once, 1.0),
        above(twice + 1 / (max(n - 2, 1) * (2 * n - 2)), once),
        detail=f"{n} tokens: {float(once):.4f}, twice {float(twice):.4f}",
    )


@claim(
    "T7",
    "identity",
    source="reward branching",
    stated="paper",
    given={
        "relevance": st.floats(-4.0, 4.0),
        "distinct": st.floats(0.1, 1.0),
        "longest": st.integers(64, 2048),
        "largest": st.floats(0.5, 5.0),
        "assumed": st.just(1.0),
    },
    breaks={"assumed": st.floats(1.5, 3.0), "relevance": st.floats(0.5, 4.0)},
)
def constrained_queries_count_as_answers_of_one_length(
    relevance: float, distinct: float, longest: int, largest: float, assumed: float
) -> Verdict:
    """A constrained query is rewarded like an open-ended one with L_max/ρ_max tokens, whatever the
    length of its answer: 146 of 512 tokens at 3.5, where the factor is 1.4629.
    """
    length = np.array(assumed * longest / largest / 100)
    reward = functools.partial(proxy_reward, longest=longest, largest_relevance=largest)
    kinds = [
        reward(length, distinct, relevance, constrained=constrained)
        for constrained in (False, True)
    ]
    other = reward(3 * length, distinct, relevance, constrained=True)
    stated = proxy_reward(np.array(0.0), 1.0, 1.0, constrained=True)
    return worst(
        apart(*kinds, relative=True),
        apart(other, kinds[1]),
        apart(stated, 512 / 350),
        detail=f"{float(kinds[0]):.6f} and {float(kinds[1]):.6f}",
    )


WORDS = ("aa", "bb", "cc")


@claim(
    "texts",
    "identity",
    source="definition of R³",
    stated="derived",
    given={
        "tokens": st.lists(st.integers(0, 2), min_size=1, max_size=30),
        "embeddings": tables((3, 2), low=-2.0, high=2.0),
        "query": st.integers(0, 2),
        "mark": st.just(""),
    },
    # Punctuation is a token of its own.
    breaks={"mark": st.sampled_from("-.'"), "embeddings": tables((3, 2), low=0.5, high=2.0)},
)
def texts_and_tokens_agree(
    tokens: list[int], embeddings: np.ndarray, query: int, mark: str
) -> Verdict:
    """The reward of a text is that of its tokens, for the mean of the embeddings of its words."""
    place = {word: k for k, word in enumerate(WORDS)}

    def embed(lines: Sequence[str]) -> np.ndarray:
        rows = [[place[word] for word in line.replace(mark, "").split()] for line in lines]
        return np.stack([mean_pooled(embeddings, row) for row in rows])

    text = " ".join(WORDS[k] + mark for k in tokens)
    relevance = mean_pooled(embeddings, tokens) @ embeddings[query]
    stated = proxy_reward(length_incentive(tokens), distinct_ngrams(tokens), relevance)
    return apart(
        relevance_reward(WORDS[query], text, embed=embed),
        stated,
        detail=f"{len(tokens)} tokens: {float(stated):.6f}",
    )


@claim(
    "T8",
    "statistical",
    source="preliminary study",
    stated="derived",
    tolerance=0.0,
    examples=4,
    given={"seed": SEEDS, "correlation": st.floats(0.8, 0.9), "error": st.floats(1.0, 1.5)},
    breaks=({"correlation": st.just(0.0)}, {"error": st.just(0.0)}),
)
def a_learned_reward_takes_length_for_relevance(
    seed: int, correlation: float, error: float
) -> Verdict:
    """A reward model that reads relevance with an error learns, from people who look at nothing
    else, a larger weight of length, where the two go together: an answer that is off topic by as
    much as it is long is ranked above one that is on topic by as much as it is short.
    """
    weights = Confounded(correlation, error).weights(2000, np.random.default_rng(seed))
    short_on_topic, long_off_topic = np.array([[1.0, -1.0], [-1.0, 1.0]]) @ weights
    return worst(
        max(0.0, short_on_topic - long_off_topic),
        detail=f"weights of relevance and length {weights.round(3).tolist()}",
    )
