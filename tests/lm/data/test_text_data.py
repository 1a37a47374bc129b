"""The text containers.

What they accept, and the containers of losses that they build, against the policy's own
log-probabilities.
"""

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.data.strength import treat_labels
from prefsim.lm import (
    TextComparisons,
    TextFeedback,
    TextNegatives,
    TextRankings,
    TextRollouts,
    revision_prompt,
)
from prefsim.lm.training.loss_evaluator import LossEvaluator, Needs
from prefsim.lm.training.reference import as_reference
from prefsim.lm.training.token_rows import token_rows

X, W, L = [[1, 20], [1], [1, 9, 8]], [[30, 2], [40, 41, 42, 2], [50]], [[60, 61, 62], [70], [80, 2]]


def pairs(**options):
    return TextComparisons(X, W, L, **options)


def built(policy, data, kind, examples=(0, 1, 2), *, reference=None, needs=None):
    model = policy.log_prob_model
    evaluator = LossEvaluator(
        policy,
        data,
        token_rows(policy, data, kind),
        losses.dpo,
        needs or Needs(),
        as_reference(reference, policy),
    )
    with torch.no_grad():
        token_logps = evaluator.token_logps(model, model, examples)
        return data.take(examples).container(kind, token_logps)


def test_pairs_see_the_policys_log_probs(llama):
    data = pairs(
        weight=[1, 2, 3],
        chosen_score=[3, 2, 1],
        rejected_score=[0, 0, 1],
        old_chosen=[-1, -2, -3],
        old_rejected=[-4, -5, -6],
    )
    found, weight = built(llama, data, losses.PairLogps, [2, 0], reference=llama)
    assert weight.tolist() == [3, 1]
    for field, completions in (("chosen", W), ("rejected", L)):
        expected = llama.log_prob([X[2], X[0]], [completions[2], completions[0]])
        torch.testing.assert_close(getattr(found, field), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(getattr(found, f"ref_{field}"), expected, rtol=0, atol=1e-4)
        assert getattr(found, f"{field}_length").tolist() == [
            len(completions[2]),
            len(completions[0]),
        ]
    assert found.chosen.dtype == torch.float64
    assert found.chosen_score.tolist() == [1, 3]
    assert found.old_rejected.tolist() == [-6, -4]


def test_without_a_reference_its_log_probs_are_zero(llama):
    found, _ = built(llama, pairs(), losses.PairLogps)
    assert not found.ref_chosen.any()
    assert not found.ref_rejected.any()
    assert found.chosen_score is None


def test_a_soft_label_enters_both_ways_round(llama):
    data = pairs(
        prob=[0.75, 1.0, 0.5], weight=[1, 2, 4], chosen_score=[1, 2, 3], rejected_score=[4, 5, 6]
    )
    hard, _ = built(llama, pairs(), losses.PairLogps)
    found, weight = built(llama, data, losses.PairLogps)
    assert weight.tolist() == [0.75, 2, 2, 0.25, 0, 2]
    assert found.chosen.tolist() == [*hard.chosen.tolist(), *hard.rejected.tolist()]
    assert found.rejected_length.tolist() == [3, 1, 2, 2, 4, 1]
    assert found.rejected_score.tolist() == [4, 5, 6, 1, 2, 3]


@pytest.mark.parametrize("treatment", ["flip", "margin", "flip+margin", "soft"])
def test_treated_labels_cost_what_the_treatment_says(treatment):
    strength = np.array([0.7, -0.4, -1.2])
    data = pairs(chosen_score=[3.0, 2.0, 1.0], rejected_score=[0.0, 1.0, 2.0], weight=[1, 2, 3])
    labels = treat_labels(strength, treatment, label_smoothing=0.3)
    treated = data.treated(labels)
    rewards = losses.PairRewards(*np.random.default_rng(0).standard_normal((2, 3)))
    by_text = {
        str(t): r
        for side, column in ((W, 0), (L, 1))
        for t, r in zip(side, rewards[column], strict=True)
    }
    scores = torch.tensor(
        [
            [[by_text[str(t)]] for t in row]
            for row in zip(treated.chosen, treated.rejected, strict=True)
        ]
    )
    container, weight = treated.scored(losses.PairRewards, scores)
    found = (weight * losses.bradley_terry(container)).sum() / weight.sum()
    each = losses.bradley_terry(labels.apply(rewards), label_smoothing=labels.label_smoothing)
    assert float(found) == pytest.approx(float(each @ [1, 2, 3]) / 6, rel=1e-12)
    expected = np.where(labels.flipped, [0.0, 1.0, 2.0], [3.0, 2.0, 1.0])
    np.testing.assert_array_equal(treated.chosen_score, expected)
    np.testing.assert_array_equal(treated.margin, labels.margin)


def test_treatments_that_pairs_cannot_have():
    strength = np.array([0.7, -0.4, -1.2])
    cases = [
        (pairs(), treat_labels(strength, "soft+margin"), "a soft label and a margin"),
        (pairs(), treat_labels(strength[:2], "flip"), "must be of 3 pairs"),
        (pairs(rejected_prompt=X), treat_labels(strength, "flip"), "cannot be exchanged"),
    ]
    for data, treatment, message in cases:
        with pytest.raises(ValueError, match=message):
            data.treated(treatment)
    kept = pairs(prob=[1.0, 0.8, 0.6], margin=[1.0, 1.0, 1.0])
    soft = kept.treated(treat_labels(strength, "soft", label_smoothing=0.25))
    np.testing.assert_allclose(soft.prob, [1.0, 0.65, 0.55])
    np.testing.assert_allclose(soft.margin, 1.0)


def test_tokens_start_at_the_left_whatever_the_prompt(llama):
    found, _ = built(
        llama, pairs(), losses.TokenPairLogps, needs=Needs(collision=True, kl=True), reference=llama
    )
    assert found.chosen_mask.tolist() == [
        [True, True, False, False],
        [True] * 4,
        [True, False, False, False],
    ]
    logps, mask = llama.token_log_probs(X, W)
    torch.testing.assert_close(found.chosen[:, : mask.shape[1]].float(), logps, rtol=0, atol=1e-5)
    assert found.chosen_kl.abs().max() < 1e-5, "of the policy to itself"
    for value in (found.rejected_kl, found.rejected_collision, found.rejected):
        assert not value[~found.rejected_mask].any()
    assert (found.rejected_collision[found.rejected_mask] < 0).all()


def test_revisions_show_the_draft(llama):
    found, _ = built(llama, pairs(), losses.SelfImprovementLogps)
    for output, completions in (("chosen", W), ("rejected", L)):
        for draft, drafts in (("chosen", W), ("rejected", L)):
            expected = llama.log_prob([x + d for x, d in zip(X, drafts, strict=True)], completions)
            torch.testing.assert_close(
                getattr(found, f"{output}_from_{draft}"), expected, rtol=0, atol=1e-4
            )
    custom = pairs(revise=lambda prompt, draft: [*prompt, 7, *draft])
    assert custom.sequences(losses.SelfImprovementLogps)[0][2] == ([1, 20, 7, 60, 61, 62], [30, 2])


def test_revision_prompts():
    assert revision_prompt([1, 2], [3]) == [1, 2, 3]
    assert revision_prompt("Q?", " A.").startswith("Q? A.")
    chat = revision_prompt([{"role": "user", "content": "Q?"}], "A.")
    assert [message["role"] for message in chat] == ["user", "assistant", "user"]
    with pytest.raises(ValueError, match="needs both as text"):
        revision_prompt("Q?", [1])


def test_completions(llama):
    data = TextFeedback(X, W, [True, False, True], weight=[1, 2, 3])
    found, weight = built(llama, data, losses.UnpairedLogps)
    torch.testing.assert_close(found.logp, llama.log_prob(X, W), rtol=0, atol=1e-4)
    assert found.desirable.tolist() == [True, False, True]
    assert found.length.tolist() == [2, 4, 1]
    assert weight.tolist() == [1, 2, 3]
    soft, weight = built(llama, TextFeedback(X, W, [0.25, 1, 0]), losses.UnpairedLogps)
    assert soft.desirable.tolist() == [True] * 3 + [False] * 3
    assert weight.tolist() == [0.25, 1, 0, 0.75, 0, 1]
    judged, _ = built(llama, TextFeedback(X, W, [0.25, 1, 0]), losses.JudgedLogps)
    assert judged.win_prob.tolist() == [0.25, 1, 0]
    torch.testing.assert_close(judged.logp.sum(-1), llama.log_prob(X, W), rtol=0, atol=1e-4)


def test_lists_and_anchors(llama):
    lists = [[w, low] for w, low in zip(W, L, strict=True)]
    found, _ = built(llama, TextRankings(X, lists, [[1, 0], [2, 3], [0, 0]]), losses.ListLogps)
    expected = torch.stack([llama.log_prob(X, W), llama.log_prob(X, L)], dim=1)
    torch.testing.assert_close(found.logps, expected, rtol=0, atol=1e-4)
    assert found.scores.tolist() == [[1, 0], [2, 3], [0, 0]]
    anchored, _ = built(
        llama,
        TextNegatives(X, L, lists, sample_weight=[[0.5, 0.5]] * 3),
        losses.AnchoredLogps,
        [1, 2],
    )
    torch.testing.assert_close(anchored.samples, expected[1:], rtol=0, atol=1e-4)
    torch.testing.assert_close(anchored.rejected, expected[1:, 1], rtol=0, atol=1e-4)
    assert anchored.sample_weight.shape == (2, 2)


def test_rollouts(llama):
    lists = [[w, low] for w, low in zip(W, L, strict=True)]
    old = -np.random.default_rng(0).random((3, 2, 4))
    data = TextRollouts(
        X, lists, [[1, 0], [2, 3], [0, 0]], old_logp=old, advantage=2 * old, weight=[1, 2, 3]
    )
    found, weight = built(llama, data, losses.TokenListLogps, [0, 2])
    expected = torch.stack([llama.log_prob(X, W), llama.log_prob(X, L)], dim=1)[[0, 2]]
    torch.testing.assert_close(found.logp.sum(-1), expected, rtol=0, atol=1e-4)
    assert found.mask.sum(-1).tolist() == [[2, 3], [1, 2]]
    assert found.scores.tolist() == [[1, 0], [0, 0]] and weight.tolist() == [1, 3]
    # The longest completion of these rows has three tokens, that of the data four.
    np.testing.assert_array_equal(found.old_logp, old[[0, 2], :, :3])
    np.testing.assert_array_equal(found.advantage, 2 * old[[0, 2], :, :3])
    whole, _ = built(llama, data, losses.ListLogps, [0, 2])
    torch.testing.assert_close(whole.logps, expected, rtol=0, atol=1e-4)
    sums = np.where(found.mask, old[[0, 2], :, :3], 0).sum(-1)
    np.testing.assert_allclose(whole.old_logps, sums, rtol=1e-12)
    bare, _ = built(llama, TextRollouts(X, lists, np.zeros((3, 2))), losses.TokenListLogps)
    assert bare.old_logp is None and bare.advantage is None
    with pytest.raises(ValueError, match="for every token of the longest completion, 4, got 2"):
        built(
            llama, TextRollouts(X, lists, np.zeros((3, 2)), old_logp=old[..., :2]), losses.ListLogps
        )


def test_text_and_chat_rows_mix(llama):
    prompt = ["the cat", [{"role": "user", "content": "was it good?"}], [1, 20]]
    data = TextComparisons(
        prompt,
        [" sat", "it was", [5]],
        [" film", [{"role": "assistant", "content": "great"}], [6, 7]],
    )
    found, _ = built(llama, data, losses.PairLogps)
    torch.testing.assert_close(
        found.chosen, llama.log_prob(prompt, [" sat", "it was", [5]]), rtol=0, atol=1e-4
    )


def test_rows_are_taken_in_order():
    data = pairs(prob=[0.6, 0.7, 0.8]).take(np.asarray([2, 2, 0]))
    assert data.prompt == [X[2], X[2], X[0]]
    assert data.prob.tolist() == [0.8, 0.8, 0.6]
    assert len(data) == 3
    with pytest.raises(ValueError, match="rows must be >= 0 and < 3, got 3"):
        pairs().take([3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TextComparisons("ab", ["c", "d"], ["e", "f"]),
            "prompt must be a list of rows, got str",
        ),
        (
            lambda: TextComparisons((x for x in X), W, L),
            "prompt must be a list of rows, got generator",
        ),
        (lambda: TextComparisons(X, W[:2], L), "chosen must have as many rows as prompt, 3, got 2"),
        (
            lambda: TextComparisons(X, [W[0], 3.5, W[2]], L),
            "chosen must hold text, chat messages or token ids, got 3.5 in row 1",
        ),
        (
            lambda: TextComparisons(X, [W[0], [1.5], W[2]], L),
            r"chosen must hold .* got \[1.5\] in row 1",
        ),
        (lambda: TextComparisons(X, [{"role": "user"}], L), "chosen must hold"),
        (lambda: pairs(prob=[1, 2, 0]), r"prob must lie in \[0, 1\], got 2.0 at index 1"),
        (lambda: pairs(prob=[1, 1]), "prob must have n = 3 entries"),
        (
            lambda: pairs(weight=[1, -1, 0]),
            "weight must be >= 0 and not zero everywhere, got -1.0 at row 1",
        ),
        (lambda: pairs(weight=[0, 0, 0]), "not zero everywhere"),
        (lambda: pairs(weight=[1, float("nan"), 1]), "weight must be finite"),
        (lambda: pairs(chosen_score=[1, 2, 3]), "got chosen_score alone"),
        (lambda: pairs(old_rejected=[1, 2, 3]), "got old_rejected alone"),
        (lambda: pairs(revise=3), "revise must be a function"),
        (lambda: TextFeedback(X, W, [0.5, 2, 0]), "label must lie in"),
        (lambda: TextFeedback(X, W, ["yes", "no", "no"]), "label must be an array of numbers"),
        (
            lambda: TextRankings(X, [W, W, W[:2]], np.zeros((3, 3))),
            "completions must hold lists of one length, 3, got 2 in row 2",
        ),
        (
            lambda: TextRankings(X, [W, W, W], np.zeros((3, 2))),
            r"scores must have shape \(3, 3\)",
        ),
        (
            lambda: TextRankings(X, [W, W], np.zeros((2, 3))),
            "completions must have as many rows as prompt, 3, got 2",
        ),
        (
            lambda: TextRankings(X, ["abc", W, W], np.zeros((3, 3))),
            "row 0: completions must be a list of rows, got str",
        ),
        (
            lambda: TextRollouts(X, [W, W, W], np.zeros((3, 3)), old_logp=np.zeros((3, 2, 4))),
            r"old_logp must be \(n, K, T\) for \(3, 3\) completions, got \(3, 2, 4\)",
        ),
        (
            lambda: TextRollouts(X, [W, W, W], np.zeros((3, 2))),
            r"scores must have shape \(3, 3\), one for each completion",
        ),
        (
            lambda: TextNegatives(X, L, [W, W, W], sample_weight=-np.ones((3, 3))),
            "sample_weight must be >= 0",
        ),
        (
            lambda: pairs().sequences(losses.ListLogps),
            "TextComparisons feed losses of PairLogps, .* got a loss of ListLogps",
        ),
        (
            lambda: TextFeedback(X, W, [1, 0, 1]).sequences(losses.PairLogps),
            "TextFeedback feed losses of UnpairedLogps, JudgedLogps, got",
        ),
    ],
)
def test_bad_inputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rows", [{"a": 1}, {"a", "b"}, [{1, 2}], [frozenset({1})]])
def test_what_has_no_order_is_no_text(rows):
    with pytest.raises(ValueError, match="prompt must"):
        TextComparisons(rows, [[1]] * len(rows), [[2]] * len(rows))
