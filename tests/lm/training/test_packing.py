"""Several sequences in one row: the same numbers as one in each, and fewer tokens."""

import functools

import numpy as np
import pytest
import torch
from checks import base_options
from lm_made import largest_difference, random_pairs, rich_data, small_llama

from prefsim import losses
from prefsim.containers import map_fields
from prefsim.lm import CausalLM, Evaluation, PreferenceModel, Tokens, collate, references_of
from prefsim.lm.model.bins import packed_rows, packed_size
from prefsim.lm.model.log_prob_model import LogProbModel
from prefsim.lm.model.packing import check_packing, collate_packed
from prefsim.lm.training.batches import Split
from prefsim.lm.training.loss_evaluator import LossEvaluator, needs_of
from prefsim.lm.training.reference import as_reference
from prefsim.lm.training.token_rows import token_rows
from prefsim.solvers import fit

dpo = functools.partial(losses.dpo, beta=0.5)
LOSSES = losses.loss_functions()
CPU = torch.device("cpu")


def one_of_each_container():
    """A loss of every container that text feeds, and those that need more than log-probabilities.

    With masks, where it needs some.
    """
    found = {}
    for name, loss in sorted(LOSSES.items()):
        kind = losses.container_of(loss)
        if kind is losses.PairRewards:
            continue
        try:
            rich_data(kind).sequences(kind)
        except ValueError:
            continue
        found.setdefault((kind, needs_of(functools.partial(loss, **base_options(loss)))), name)
    return [(name, None) for name in found.values() if name != "sparse_po"] + [
        ("sparse_po", "independent"),
        ("sparse_po", "activations"),
    ]


def evaluators(policy, loss, data, reference):
    rows = token_rows(policy, data, losses.container_of(loss))
    given = as_reference(reference, policy)
    return [
        LossEvaluator(policy, data, rows, loss, needs_of(loss), given, packing=packing)
        for packing in (False, True)
    ]


@pytest.mark.parametrize(("name", "masks"), one_of_each_container())
def test_every_container_holds_the_same(tiny64, name, masks):
    loss = functools.partial(LOSSES[name], **base_options(LOSSES[name]))
    policy = tiny64 if masks is None else tiny64.with_masks(masks)
    data = rich_data(losses.container_of(loss), n=12)
    other = CausalLM.from_config(small_llama(64), seed=5, dtype="float64")
    found, gradients, tokens = [], [], []
    for evaluator in evaluators(policy, loss, data, other):
        module = policy.log_prob_model
        tokens.append(evaluator.batch(range(len(data)), CPU).input_ids.numel())
        seen = evaluator.examples(module, module, range(len(data)))
        found.append(seen.container)
        value = (seen.weight * loss(seen.container)).sum()
        gradients.append(torch.autograd.grad(value, list(tiny64.model.parameters())))
    assert tokens[1] < tokens[0]

    for one, two in zip(*map(tensors_of, found), strict=True):
        # Norms are in float32.
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def tensors_of(container):
    """All tensors of a container."""
    tensors = []

    def noted(value):
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        return value

    map_fields(container, noted)
    return tensors


ROWS = [Tokens([5, 6, 7], [8, 9]), Tokens([3], [4]), Tokens([10, 11], [12]), Tokens([13], [14, 15])]


def test_a_packed_batch_by_hand():
    batch = collate_packed(ROWS, pad_id=0)
    assert batch.input_ids.tolist() == [
        [5, 6, 7, 8, 9],
        [10, 11, 12, 3, 4],
        [13, 14, 15, 0, 0],
    ]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 1], [0, 1, 2, 0, 0]]
    assert batch.attention_mask.tolist() == (batch.input_ids != 0).tolist()
    scored = batch.input_ids.view(-1)[batch.scored.positions]
    assert scored.tolist() == [8, 9, 4, 12, 14, 15]
    assert batch.input_ids[batch.completion_mask].tolist() == [8, 9, 12, 4, 14, 15]
    padded = collate(ROWS, pad_id=0).scored
    assert batch.scored.places.tolist() == padded.places.tolist()
    assert (batch.scored.width, batch.scored.counts) == (padded.width, padded.counts)
    (row,) = collate_packed(ROWS, pad_id=0, one_row=True).input_ids.tolist()
    assert len(row) == 13 and 0 not in row


def test_where_nothing_is_saved_rows_are_as_ever():
    rows = [ROWS[0], ROWS[0]]
    batch = collate_packed(rows, pad_id=0)
    assert batch.position_ids is None and batch.is_left_aligned
    with pytest.raises(ValueError, match="row 1 has a completion without tokens"):
        collate_packed([ROWS[0], Tokens([3], []), Tokens([4], [5])], pad_id=0)
    with pytest.raises(ValueError, match="at least one sequence"):
        collate_packed([], pad_id=0)


@pytest.mark.parametrize("one_row", [False, True])
def test_no_token_sees_another_sequence(tiny64, one_row):
    changed = [ROWS[0]._replace(prompt_ids=[20, 21, 22]), ROWS[1], *ROWS[2:]]
    changed[2] = Tokens([30, 31], [32])
    with torch.no_grad():
        one, two = (
            tiny64.log_prob_model(collate_packed(rows, pad_id=0, one_row=one_row))
            for rows in (ROWS, changed)
        )
        alone = [tiny64.log_prob_model(collate([row], pad_id=0)).logp for row in ROWS]
    batch = collate_packed(ROWS, pad_id=0, one_row=one_row)
    first, second = (each.logp.view(-1)[batch.scored.positions] for each in (one, two))
    # The second sequence, in one row with the third, to the last bit; the first and the third not.
    assert torch.equal(first[2], second[2]) and torch.equal(first[4:], second[4:])
    assert (first != second)[[0, 1, 3]].all()
    wanted = torch.cat([each[each != 0] for each in alone])
    torch.testing.assert_close(first, wanted, rtol=1e-6, atol=1e-6)


def other_model(name):
    from transformers import AutoConfig

    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": 0.3,
    }
    more = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
        "bloom": {"n_layer": 2, "n_head": 4},
        "mamba": {"state_size": 4},
        "gemma3_text": {"sliding_window": 3, "sliding_window_pattern": 2},
        "mistral": {"sliding_window": 3},
    }
    return CausalLM.from_config(AutoConfig.for_model(name, **(sizes | more[name])), seed=0)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma3_text"])
def test_windows_and_learned_places_are_those_of_each_sequence(name, attention):
    policy = other_model(name)
    policy.model.set_attn_implementation(attention)
    check_packing(policy.log_prob_model, one_row=False)
    rows = [Tokens([5, 6, 7, 8, 9], [8, 9, 10, 11]), *ROWS, Tokens([40, 41, 42], [43, 44])]
    with torch.no_grad():
        batch = collate_packed(rows, pad_id=0)
        found = policy.log_prob_model(batch).logp.view(-1)[batch.scored.positions]
        padded = collate(rows, pad_id=0)
        wanted = policy.log_prob_model(padded).logp.view(-1)[padded.scored.positions]
    assert len(batch.input_ids) < len(rows)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bloom", "mamba"])
def test_a_model_that_sees_through_ends_is_refused(name):
    policy = other_model(name)
    message = "packing needs a model that keeps sequences of one row apart, got states that differ"
    with pytest.raises(ValueError, match=message):
        fit(policy, losses.simpo, random_pairs(), packing=True, steps=1, progress=False)


def test_a_model_of_scores_is_refused(tiny):
    with pytest.raises(ValueError, match="packing is for losses of log-probabilities"):
        fit(
            PreferenceModel(tiny, dim=1, seed=0),
            losses.bradley_terry,
            random_pairs(),
            packing=True,
            steps=1,
            progress=False,
        )


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        (dpo, {}),
        (dpo, {"micro_batch_tokens": 40}),
        (dpo, {"gradient_accumulation": 2, "gradient_checkpointing": True}),
        (losses.aot, {}),
    ],
    ids=["dpo", "tokens", "accumulation", "coupled"],
)
def test_a_training_ends_at_the_same(tiny64, loss, more):
    options = {
        "steps": 3,
        "batch_size": 6,
        "optimizer": "sgd",
        "learning_rate": 1e-2,
        "progress": False,
    }
    data, others = random_pairs(12), random_pairs(5, seed=1)
    held_out = Evaluation(data=others, reference=references_of(tiny64, others, loss))
    found = [
        fit(
            tiny64,
            loss,
            data,
            reference=references_of(tiny64, data, loss),
            evaluation=held_out,
            diagnostics=("displacement", "accuracy", "ches"),
            packing=packing,
            **options,
            **more,
        )
        for packing in (False, True)
    ]
    np.testing.assert_allclose(found[1].history, found[0].history, rtol=1e-5)
    assert largest_difference(found[0].policy, found[1].policy) < 1e-6
    for one, two in zip(found[0].metrics, found[1].metrics, strict=True):
        for name in one.keys() - {"tokens_per_second", "seconds_per_step"}:
            assert two[name] == pytest.approx(one[name], rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("tokens", [200, 450, 10**6])
def test_packed_micro_batches_hold_every_row_once_and_no_token_too_many(tokens):
    sizes = np.random.default_rng(0).integers(1, 101, (60, 2))
    split = Split(sizes.max(axis=1), 2, 1, tokens, couples=False, packed=sizes)
    split.check("the data")
    batch = np.arange(7, 40)
    parts = [part for part in split.of_step(batch, 1) if len(part)]
    assert sorted(np.concatenate(parts).tolist()) == batch.tolist()
    assert sizes[parts[0]].max() == sizes[batch].max()
    assert max(packed_size(sizes[part].ravel()) for part in parts) <= tokens
    padded = Split(sizes.max(axis=1), 2, 1, tokens, couples=False).of_step(batch, 1)
    assert len(parts) <= len(padded)
    if tokens == 450:
        assert len(parts) < len(padded)
    of_all = split.of_evaluation(4)
    assert sorted(np.concatenate(of_all).tolist()) == list(range(60))
    assert len(split.of_step(batch, 4)) % 4 == 0


def test_rows_have_room_for_what_is_in_them():
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.integers(1, 50, rng.integers(1, 30))
        rows = packed_rows(sizes, int(sizes.max()))
        assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
        assert all(sizes[row].sum() <= sizes.max() for row in rows)
        # First fit: at most one row is half empty.
        assert sum(2 * sizes[row].sum() <= sizes.max() for row in rows) <= 1


def test_examples_that_do_not_fit_are_named():
    sizes = np.asarray([[3, 2], [5, 1]])
    with pytest.raises(ValueError, match=r"must be >= 10, the tokens of example 1 of the data"):
        Split(sizes.max(axis=1), 2, 1, 9, couples=False, packed=sizes).check("the data")
    # Three sequences of which two share a row.
    sizes = np.asarray([[6, 3, 3]])
    Split(sizes.max(axis=1), 3, 1, 12, couples=False, packed=sizes).check("the data")


def test_the_check_sees_what_leaks(tiny, monkeypatch):
    """A model that attends to whole rows is not taken for one that does not."""
    from prefsim.lm.model import log_prob_model

    check_packing(tiny.log_prob_model, one_row=False)
    spared = log_prob_model._with_sequences
    monkeypatch.setattr(log_prob_model, "_with_sequences", lambda known: spared(None))
    with pytest.raises(ValueError, match="packing needs a model"):
        check_packing(LogProbModel(tiny.model), one_row=False)
