"""HyPO: the divergence from the reference on completions that are drawn while training."""

import functools

import numpy as np
import pytest
import torch
from lm_made import adapted_llama, largest_difference, random_pairs, small_llama

from prefsim import losses
from prefsim.containers import PairLogps
from prefsim.lm import CausalLM, OnlineKL, TextComparisons, references_of
from prefsim.lm.training.loss_evaluator import LossEvaluator
from prefsim.lm.training.online_kl import online_kl
from prefsim.lm.training.reference import ModelReference
from prefsim.lm.training.token_rows import token_rows
from prefsim.solvers import fit

OPTIONS = {"steps": 3, "batch_size": 4, "learning_rate": 3e-3, "progress": False}
# A vocabulary of which every completion of two tokens can be listed.
WORDS, END = 6, 5
COMPLETIONS = [[a, b] for a in range(WORDS) if a != END for b in range(WORDS)] + [[END]]
PROMPT = [1, 2]


def policy_of(seed):
    config = small_llama(WORDS, eos_token_id=END, bos_token_id=None, pad_token_id=None)
    return CausalLM.from_config(config, seed=seed, dtype="float64")


def gradient_of(value, policy):
    parameters = list(policy.log_prob_model.parameters())
    return torch.cat([g.ravel() for g in torch.autograd.grad(value, parameters)])


def test_the_gradient_is_that_of_the_divergence():
    from prefsim.lm import collate

    policy, reference = policy_of(0), policy_of(1)
    rows = policy.encode([PROMPT] * len(COMPLETIONS), COMPLETIONS)
    logp = policy.log_prob_model(collate(rows, pad_id=0)).logp.sum(dim=-1)
    assert float(logp.exp().sum().detach()) == pytest.approx(1)
    theirs = reference.log_prob([PROMPT] * len(COMPLETIONS), COMPLETIONS)
    weights = [0.5, 2.0, 0.5]
    exact = sum(weights) * gradient_of((logp.exp() * (logp - theirs)).sum(), policy)

    data = TextComparisons([PROMPT] * 3, [[3]] * 3, [[4]] * 3, weight=weights)
    evaluator = LossEvaluator(
        policy=policy,
        data=data,
        rows=token_rows(policy, data, PairLogps),
        loss=losses.dpo,
        reference=ModelReference(reference),
    )
    penalty = OnlineKL(weight=1.0, samples=3000, max_new_tokens=2)
    value = online_kl(
        penalty, evaluator, policy.log_prob_model, policy.log_prob_model, [0, 1, 2], [0]
    )
    found = gradient_of(value, policy)
    cosine = torch.nn.functional.cosine_similarity(found, exact, dim=0)
    assert float(cosine) > 0.99
    assert float(found.norm() / exact.norm()) == pytest.approx(1, abs=0.1)


def divergence(policy, reference):
    prompts = [PROMPT] * len(COMPLETIONS)
    logp, theirs = (each.log_prob(prompts, COMPLETIONS) for each in (policy, reference))
    return float((logp.exp() * (logp - theirs)).sum())


def test_the_policy_stays_near_the_reference():
    policy = policy_of(0)
    data = TextComparisons([PROMPT] * 4, [[3, 4]] * 4, [[4, 3]] * 4)
    options = OPTIONS | {"steps": 30, "learning_rate": 1e-2}
    near, far = (
        fit(policy, losses.dpo, data, reference=policy, penalty=penalty, **options)
        for penalty in (OnlineKL(weight=1.0, samples=16, max_new_tokens=2), None)
    )
    assert divergence(near.policy, policy) < 0.5 * divergence(far.policy, policy)
    # What is reported is the loss of the data.
    assert near.history[0, 0] == far.history[0, 0] == pytest.approx(np.log(2), abs=1e-6)
    assert near.history[0, 1] == pytest.approx(far.history[0, 1], rel=1e-3)


def test_draws_are_those_of_the_seed_and_go_on_after_an_interruption(tmp_path):
    policy, data = policy_of(0), TextComparisons([PROMPT] * 4, [[3, 4]] * 4, [[4, 3]] * 4)
    hypo = {"penalty": OnlineKL(weight=0.5, max_new_tokens=2)}
    # From elsewhere, so that log-ratios are not zero.
    run = functools.partial(fit, policy, losses.dpo, data, reference=policy_of(1), **OPTIONS)
    whole, again, other = run(**hypo), run(**hypo), run(seed=1, order="given", **hypo)
    assert largest_difference(whole.policy, again.policy) == 0
    assert largest_difference(whole.policy, other.policy) > 0
    assert largest_difference(whole.policy, run().policy) > 0
    run(out=tmp_path, save_every=1, keep=9, **hypo)
    import shutil

    shutil.rmtree(tmp_path / "checkpoints/step-00000003")
    resumed = run(out=tmp_path, save_every=1, resume=True, **hypo)
    assert largest_difference(whole.policy, resumed.policy) == 0
    with pytest.raises(ValueError, match=r"penalty must be what it was .*weight=0\.5.*got 'None'"):
        run(out=tmp_path, save_every=1, resume=True)


def test_adapters_off_are_a_reference_like_any_other():
    policy, data = adapted_llama(), random_pairs(4)
    hypo = {"penalty": OnlineKL(weight=0.5, max_new_tokens=3)}
    found = fit(policy, losses.dpo, data, reference=policy.without_adapters(), **hypo, **OPTIONS)
    assert np.isfinite(found.history).all()


def test_what_cannot_be_is_told_before_the_run(tiny):
    data = random_pairs(4)
    hypo = {"penalty": OnlineKL(weight=0.5)}
    for reference in (None, references_of(tiny, data, losses.dpo)):
        with pytest.raises(ValueError, match="needs the reference model itself; got"):
            fit(tiny, losses.dpo, data, reference=reference, **hypo, **OPTIONS)
    with pytest.raises(TypeError, match=r"must be prefsim\.lm\.OnlineKL or None, got function"):
        fit(tiny, losses.dpo, data, reference=tiny, penalty=lambda policy: 0, **OPTIONS)
    for bad in ({"weight": 0.0}, {"weight": 1.0, "samples": 1}, {"weight": 1, "max_new_tokens": 0}):
        with pytest.raises(ValueError, match="must be"):
            OnlineKL(**bad)
