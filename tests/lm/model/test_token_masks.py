"""Weights of tokens off the states of a reference: by hand, in training, on disk."""

import functools

import numpy as np
import pytest
import torch
from lm_made import adapted_llama, largest_difference, random_pairs, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, Evaluation, references_of, token_weights
from prefsim.lm.model.token_masks import LearnedMasks, stored_masks
from prefsim.lm.training.loss_evaluator import LossEvaluator, needs_of
from prefsim.lm.training.reference import ModelReference
from prefsim.lm.training.token_rows import token_rows
from prefsim.losses import activation_weights, sparse_po, token_sparsity
from prefsim.solvers import fit

OPTIONS = {"learning_rate": 1e-2, "schedule": "constant", "warmup": 0.0, "progress": False}
PROMPTS, ANSWERS = [[5, 9, 3], [7]], [[11, 4], [8, 6, 10, 12]]


@pytest.fixture(scope="module")
def plain():
    return CausalLM.from_config(small_llama(64), seed=0, dtype="float64")


def states_of(policy, prompt, answer):
    """States behind each layer at every token, by transformers alone: ``(L, T, d)``."""
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        output = policy.model.model(input_ids=ids, output_hidden_states=True)
    return torch.cat(output.hidden_states[1:])


def seen(policy, data, loss, reference):
    rows = token_rows(policy, data, losses.TokenPairLogps)
    evaluator = LossEvaluator(
        policy, data, rows, loss, needs=needs_of(loss), reference=ModelReference(reference)
    )
    module = policy.log_prob_model
    return evaluator.examples(module, module, np.arange(len(data))).container


@pytest.mark.parametrize("kind", ["common", "independent"])
def test_learned_masks_by_hand(plain, kind):
    policy = plain.with_masks(kind, seed=3)
    found, mask = token_weights(policy, PROMPTS, ANSWERS, reference=plain)
    masks = policy.log_prob_model.masks
    units = [masks.reward, masks.kl or masks.reward]
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        before = states_of(plain, prompt, answer)[:, len(prompt) - 1 : -1]
        for unit, weights in zip(units, found, strict=True):
            h = (before - before.mean(-1, keepdim=True)) / torch.sqrt(
                before.var(-1, unbiased=False, keepdim=True) + 1e-5
            )
            a = torch.relu((h * unit.weight[:, None]).sum(-1) + unit.bias[:, None])
            expected = torch.relu((unit.mixer[:, None] * a).sum(0))
            torch.testing.assert_close(
                weights[row, : len(answer)].double(), expected.detach(), rtol=1e-6, atol=1e-7
            )
            assert not weights[row, len(answer) :].any()
    assert mask.sum(-1).tolist() == [2, 4]
    assert (found.reward == found.kl).all() == (kind == "common")
    # Near one before training.
    assert float(found.reward[mask].min()) > 0.5 and float(found.reward[mask].max()) < 1.5


def test_masks_of_activations_by_hand(plain):
    policy = plain.with_masks("activations")
    found, _ = token_weights(policy, PROMPTS, ANSWERS, reference=plain)
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        means = states_of(plain, prompt, answer)[:, len(prompt) - 1 : -1].mean(-1)
        expected = activation_weights(means, torch.ones(len(answer), dtype=torch.bool))
        torch.testing.assert_close(
            found.kl[row, : len(answer)], expected.float(), rtol=1e-5, atol=1e-5
        )


def test_what_the_loss_sees(plain):
    policy, data = plain.with_masks("independent", seed=1), random_pairs(5)
    container = seen(policy, data, sparse_po, plain)
    weights, mask = token_weights(policy, data.prompt, data.rejected, reference=plain)
    width = container.rejected_mask.shape[1]
    np.testing.assert_array_equal(container.rejected_mask[:, : mask.shape[1]], mask)
    for name, expected in zip(("reward", "kl"), weights, strict=True):
        own = getattr(container, f"rejected_{name}_weight").detach()
        padded = torch.nn.functional.pad(expected, (0, width - expected.shape[1]))
        torch.testing.assert_close(own.float(), padded)
    # At the reference the data say nothing of the weights, and the policy hears them.
    sparse_po(container).sum().backward()
    masks = policy.log_prob_model.masks
    assert all(float(p.grad.abs().max()) < 1e-10 for p in masks.parameters())
    assert float(policy.model.lm_head.weight.grad.abs().max()) > 1e-4
    policy.log_prob_model.zero_grad()


def test_needs_are_seen():
    assert needs_of(sparse_po) == (False, True, True)
    assert needs_of(losses.tdpo1) == (False, True, False)
    assert needs_of(losses.wpo) == (True, False, False)


def test_weights_of_one_train_as_tdpo(plain):
    policy, data = plain.with_masks("common", seed=0), random_pairs(6)
    masks = policy.log_prob_model.masks
    with torch.no_grad():
        # Of such units every token has the weight one, and nothing trains them.
        masks.reward.weight.zero_()
    masks.requires_grad_(False)
    options = OPTIONS | {"steps": 3, "batch_size": 3}
    sparse = fit(policy, functools.partial(sparse_po, beta=0.5), data, reference=plain, **options)
    dense = fit(plain, functools.partial(losses.tdpo1, beta=0.5), data, reference=plain, **options)
    np.testing.assert_allclose(sparse.history, dense.history, rtol=1e-9)


def trained(plain, kind, l1, **options):
    loss = functools.partial(sparse_po, beta=1.0, reward_l1=l1, kl_l1=l1)
    policy = plain.with_masks(kind, seed=0)
    settings = OPTIONS | {"steps": 40, "batch_size": 8} | options
    return policy, fit(policy, loss, random_pairs(8), reference=plain, **settings)


def sparsity_of(policy, reference):
    data = random_pairs(8)
    weights, mask = token_weights(
        policy, data.prompt * 2, data.chosen + data.rejected, reference=reference
    )
    return float(token_sparsity(weights.reward, mask))


def test_masks_learn_along_and_a_penalty_makes_them_sparse(plain):
    start, free = trained(plain, "independent", 0.0)
    _, penalised = trained(plain, "independent", 0.05)
    for found in (free, penalised):
        masks = found.policy.log_prob_model.masks
        first = start.log_prob_model.masks
        assert found.history[-1, 0] < 0.5 * found.history[0, 0]
        for unit, before in ((masks.reward, first.reward), (masks.kl, first.kl)):
            assert float((unit.weight - before.weight).detach().abs().max()) > 1e-3
    assert sparsity_of(start, plain) == 0.0
    assert sparsity_of(free.policy, plain) < sparsity_of(penalised.policy, plain)
    assert sparsity_of(penalised.policy, plain) > 0.3
    # The one given stays as it was.
    again = plain.with_masks("independent", seed=0)
    assert largest_difference(start, again) == 0.0


def test_masks_of_activations_train_the_policy_alone(plain):
    policy, found = trained(plain, "activations", 0.0, steps=5)
    assert found.history[-1, 0] < found.history[0, 0]
    assert found.policy.log_prob_model.masks is not None
    assert not list(policy.log_prob_model.masks.parameters())


def test_adapters_and_masks():
    policy = adapted_llama()
    masked = policy.with_masks("common", seed=0, dropout=0.01)
    options = OPTIONS | {"steps": 2, "batch_size": 4}
    data = random_pairs(6)
    found = fit(masked, sparse_po, data, reference=masked.without_adapters(), **options)
    same = CausalLM.from_config(small_llama(64), seed=0)
    other = fit(masked, sparse_po, data, reference=same, **options)
    np.testing.assert_allclose(found.history, other.history, rtol=1e-5, atol=1e-6)
    merged = found.policy.merged()
    assert merged.log_prob_model.masks.settings == masked.log_prob_model.masks.settings


def test_a_training_goes_on_with_its_masks(plain, tmp_path):
    data = random_pairs(8)
    loss = functools.partial(sparse_po, beta=1.0, reward_l1=0.01, kl_l1=0.01)
    policy = plain.with_masks("independent", seed=0, dropout=0.1)
    options = OPTIONS | {"batch_size": 4, "save_every": 3, "reference": plain}
    whole = fit(policy, loss, data, steps=6, out=tmp_path / "whole", **options)
    fit(policy, loss, data, steps=3, out=tmp_path / "cut", **options)
    rest = fit(policy, loss, data, steps=6, out=tmp_path / "cut", resume=True, **options)
    np.testing.assert_array_equal(rest.history, whole.history)
    assert largest_difference(rest.policy, whole.policy) == 0.0
    loaded = CausalLM.load(tmp_path / "whole" / "model", dtype="float64")
    assert largest_difference(loaded, whole.policy) == 0.0
    assert loaded.log_prob_model.masks.kind == "independent"
    changed = plain.with_masks("independent", seed=1, dropout=0.1)
    with pytest.raises(ValueError, match="masks must be what it was before the interruption"):
        fit(changed, loss, data, steps=9, out=tmp_path / "cut", resume=True, **options)


def test_masks_on_disk(plain, tmp_path):
    for kind in ("common", "independent", "activations"):
        plain.with_masks(kind, seed=2, dropout=0.25).save(tmp_path)
        assert stored_masks(tmp_path).kind == kind
    plain.with_masks("none").save(tmp_path)
    assert stored_masks(tmp_path) is None
    assert CausalLM.load(tmp_path).log_prob_model.masks is None
    (tmp_path / "token_masks.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"token_masks.safetensors' must hold masks of tokens"):
        CausalLM.load(tmp_path)


def test_an_evaluation_is_without_dropout(plain):
    data = random_pairs(6)
    policy = plain.with_masks("common", seed=0, dropout=0.5)
    evaluation = Evaluation(data=data, every=1)
    options = OPTIONS | {"steps": 1, "batch_size": 6, "learning_rate": 1e-12}
    loss = functools.partial(sparse_po, reward_l1=0.01)
    found = fit(policy, loss, data, reference=plain, evaluation=evaluation, **options)
    container = seen(policy, data, loss, plain)
    with torch.no_grad():
        expected = float(loss(container).mean())
    assert found.metrics[0]["eval_loss"] == pytest.approx(expected, rel=1e-6)
    # Dropout is of training alone.
    assert found.value != pytest.approx(expected, rel=1e-6)


def test_what_does_not_fit_is_refused(plain):
    data = random_pairs(4)
    masked = plain.with_masks("common")
    with pytest.raises(ValueError, match=r"a policy with masks: policy.with_masks\('common'\)"):
        fit(plain, sparse_po, data, reference=plain, steps=1)
    kept = references_of(plain, data, sparse_po)
    with pytest.raises(ValueError, match="needs the KL divergence at every token"):
        fit(masked, sparse_po, data, reference=kept, steps=1)
    deeper = CausalLM.from_config(small_llama(64, num_hidden_layers=3), seed=0)
    with pytest.raises(ValueError, match="masks are for a reference of 2 layers of width 32, got"):
        fit(masked, sparse_po, data, reference=deeper, steps=1)
    with pytest.raises(ValueError, match="kind must be one of"):
        plain.with_masks("dense")
    with pytest.raises(ValueError, match="dropout must lie in"):
        plain.with_masks("common", dropout=1.0)
    with pytest.raises(ValueError, match="the policy has no masks"):
        token_weights(plain, PROMPTS, ANSWERS, reference=plain)
    with pytest.raises(ValueError, match="layers must be an integer >= 1"):
        LearnedMasks(0, 4, seed=0)
