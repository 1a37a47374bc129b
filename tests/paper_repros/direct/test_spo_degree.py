"""arXiv:2409.17791: key phrases, the steps of removal, the head's losses, the combined loss."""

from fractions import Fraction

import numpy as np
import pytest

from paper_repros.direct.spo_degree import claims
from paper_repros.direct.spo_degree.graded_texts import STOPS as STOP_IDS
from paper_repros.direct.spo_degree.graded_texts import (
    VOCABULARY,
    by_definition,
    graded,
    ordered_word_counts,
    sentences,
    tree_degrees,
    word_counts_with_others,
)
from paper_repros.direct.spo_degree.reproduction import measure
from paper_repros.direct.spo_degree.trained_policies import study
from prefsim import losses
from prefsim.data.degradation import degrade, key_phrases
from prefsim.papers import Run
from prefsim.papers.checking import check_claim
from prefsim.papers.claims import claims_of
from prefsim.papers.sabotage import sabotaged
from prefsim.policies import TokenTreePolicy
from prefsim.worlds import TokenTree

FIRST, SECOND = (
    text.split()
    for text in (
        "deep learning models learn features and deep models need data",
        "red big car near old stone house with green door and tall tree",
    )
)
STOPS = {"near", "with", "and"}
HIDDEN = np.asarray([0.5, -1.0, 2.0])
WEIGHTS = np.asarray([[0.1, 0.2, 0.3], [0.0, -0.1, 0.2], [0.4, 0.4, -0.2]])
LOGITS = WEIGHTS @ HIDDEN + np.asarray([0.0, 0.1, -0.1])


def phrase_scores(phrases):
    return [phrases.score[phrases.phrase == i][0] for i in range(phrases.n_phrases)]


def test_scores():
    phrases = key_phrases(FIRST, stop={"and", "need"})
    assert dict(zip(FIRST, phrases.word_score.tolist(), strict=True)) == {
        "deep": 3.5,
        "learning": 5,
        "models": 3.5,
        "learn": 5,
        "features": 5,
        "data": 1,
        "and": 0,
        "need": 0,
    }
    assert phrase_scores(phrases) == [22, 7, 1]


def test_removal():
    assert phrase_scores(key_phrases(SECOND, stop=STOPS)) == [9, 9, 4, 4]
    removed = degrade(SECOND, stop=STOPS)
    assert [" ".join(np.asarray(SECOND)[keep]) for keep in removed.keep] == [
        " ".join(SECOND),
        "near old stone house with green door and tall tree",
        "near with green door and tall tree",
        "near with and tall tree",
        "near with and",
    ]
    assert removed.degree.tolist() == [0, 1, 2, 3, 4]


def keep_everything(original):
    """Remove nothing at any degree."""

    def wrong(tokens, **options):
        made = original(tokens, **options)
        return made._replace(keep=np.broadcast_to(made.keep[..., :1, :], made.keep.shape))

    return wrong


def least_key_first(original):
    """Remove the phrases in the opposite order."""

    def wrong(tokens, **options):
        made = original(tokens, **options)
        full, last = made.keep[..., :1, :], made.keep[..., -1:, :]
        # What the right order removes last, this one removes first.
        return made._replace(keep=full & (last | ~made.keep[..., ::-1, :]))

    return wrong


@pytest.mark.parametrize("wrong", [keep_everything, least_key_first])
def test_a_wrong_removal_is_noticed(wrong):
    (defined,) = (claim for claim in claims_of(claims) if claim.id == "G1")
    with sabotaged(degrade, wrong):
        assert not check_claim(defined, examples=20).holds


def test_the_reward_does_not_fall_where_nothing_is_removed():
    worth = np.where(np.arange(VOCABULARY) < STOP_IDS, 0.0, 1.0)
    assert (np.diff(graded(sentences(20, seed=0)).rewards(worth), axis=1) < 0).all()
    with sabotaged(degrade, keep_everything):
        assert (np.diff(graded(sentences(20, seed=0)).rewards(worth), axis=1) == 0).all()


def test_an_ordered_head_tells_the_degree_and_words_in_the_gaps_hide_it():
    data = graded(sentences(200, seed=1))
    scores, error = ordered_word_counts(data)
    assert scores.accuracy > 0.8
    assert error < 1e-12
    assert scores.cross_entropy == pytest.approx(scores.by_definition, rel=1e-12)
    assert word_counts_with_others(data, seed=1).accuracy < 0.5


def test_policies_are_trained_on_the_combined_loss():
    made = study(3, (0.0, 0.5), pairs=12, steps=15)
    np.testing.assert_allclose(made.loss, made.by_parts, rtol=1e-12)
    # The degree losses come on top.
    assert made.loss[1] > made.loss[0] + 0.5


def test_losses_of_a_head():
    np.testing.assert_allclose(LOGITS, [0.45, 0.6, -0.7], rtol=1e-15)
    each = losses.preference_degree(
        losses.DegreeLogits(np.tile(LOGITS, (3, 1, 1)), np.arange(3)[:, None])
    )
    np.testing.assert_allclose(each, [0.90764184, 0.75764184, 2.05764184], atol=6e-9)
    together = losses.preference_degree(
        losses.DegreeLogits(np.tile(LOGITS, (1, 3, 1)), np.arange(3)[None])
    )
    assert together[0] == pytest.approx(each.mean(), rel=1e-15)


def test_combined_loss():
    zero, head = np.zeros(1), LOGITS[None, None]
    data = losses.DegreePairLogps(
        chosen=zero,
        rejected=zero - 1,
        ref_chosen=zero,
        ref_rejected=zero,
        chosen_logits=head,
        chosen_degree=np.asarray([[0]]),
        rejected_logits=head,
        rejected_degree=np.asarray([[2]]),
    )
    assert losses.spo_degree(data)[0] == pytest.approx(0.9409250286075035, rel=1e-15)
    alone = losses.spo_degree(data, gamma_chosen=0.0, gamma_rejected=0.0)
    assert alone == losses.dpo(data.pair())
    only_chosen = losses.spo_degree(data, gamma_rejected=0.0)
    assert losses.spo_degree(data, gamma_chosen=0.0)[0] != only_chosen[0]


def test_a_batch_is_each_sequence_alone_and_equals_the_definition():
    tokens = np.random.default_rng(0).integers(-1, 8, (40, 2, 25))
    phrases = key_phrases(tokens, stop=range(3))
    removed = degrade(tokens, stop=range(3), levels=3)
    for index in np.ndindex(40, 2):
        alone = degrade(tokens[index], stop=range(3), levels=3)
        np.testing.assert_array_equal(removed.keep[index], alone.keep)
        scores, order = by_definition(tokens[index].tolist(), {-1, 0, 1, 2})
        expected = np.asarray(scores, dtype=float)
        np.testing.assert_allclose(phrases.score[index], expected, rtol=1e-14)
        assert phrases.n_phrases[index] == len(order)
        rank = phrases.rank[index]
        assert [np.flatnonzero(rank == place).tolist() for place in range(len(order))] == order


def test_a_tie_in_exact_arithmetic_is_a_tie():
    # Two phrases of equal score whose words stand in another order, so that floating sums may
    # differ in the last place.
    tokens = ["a", "b", "c", ".", "c", "b", "a", ".", "a", ".", "c", "d", "d", "."]
    scores, order = by_definition(tokens, {"."})
    assert scores[0] == scores[4]
    assert isinstance(scores[0], Fraction)
    assert order.index([0, 1, 2]) < order.index([4, 5, 6])
    rank = key_phrases(tokens, stop={"."}).rank
    assert rank[0] < rank[4]


def test_the_tree_is_degraded_as_a_whole():
    tree = TokenTree(3, 3, end_token=2)
    degrees = tree_degrees(TokenTreePolicy.uniform(tree), stop=[0], levels=2)
    index = tree.index_of([1, 0, 1])
    assert degrees.degree[index].tolist() == [0, 1, 2]
    assert degrees.keep[index].tolist() == [
        [True, True, True],
        [False, True, True],
        [False, True, False],
    ]
    other = tree.index_of([1, 0, 2])
    assert degrees.version[index, 1] != degrees.version[other, 1]
    assert degrees.degree[other].tolist() == [0, -1, 2]
    assert degrees.phrases[tree.index_of([0, 0, 0])] == 0


def test_the_posterior_attains_the_entropy():
    tree = TokenTree(3, 5, end_token=2)
    degrees = tree_degrees(TokenTreePolicy.uniform(tree), stop=[0], levels=3)
    log_probs, entropy = degrees.posterior(degrees.version)
    assert 0 < entropy < np.log(3)
    assert degrees.expected_loss(log_probs) == pytest.approx(entropy, rel=1e-12)


def test_runs_of_two_seeds_share_no_study():
    class Found(Exception):
        pass

    def seeds(seed, quick):
        def stop(items, description):
            if description == "trained policies":
                raise Found(list(items))
            return items

        with pytest.raises(Found) as found:
            measure(Run(quick=quick, seed=seed, progress=stop))
        return found.value.args[0]

    for quick in (True, False):
        drawn = [seed for run in range(3) for seed in seeds(run, quick)]
        assert len(set(drawn)) == len(drawn) >= 3
