"""Supervised fine-tuning: ``losses.sft`` on demonstrations, against the plain likelihood."""

import copy
import functools

import numpy as np
import pytest
import torch
from lm_made import random_ids, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, TextComparisons, TextDemonstrations, answered_turns
from prefsim.losses.catalogue import reads_rejected
from prefsim.solvers import fit

ONE_STEP = {
    "steps": 1,
    "optimizer": "sgd",
    "schedule": "constant",
    "warmup": 0.0,
    "max_grad_norm": None,
    "progress": False,
}
USER, ASSISTANT = ({"role": role, "content": "hello"} for role in ("user", "assistant"))


def plain_gradient(policy, data, weight, reduction):
    """The gradient by transformers' own logits in float64, one sequence at a time."""
    model = copy.deepcopy(policy.model)
    for tokens, share in zip(policy.encode(data.prompt, data.completion), weight, strict=True):
        ids = torch.tensor([tokens.prompt_ids + tokens.completion_ids])
        n = len(tokens.completion_ids)
        logits = model(input_ids=ids).logits[0, -n - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, -n:], reduction=reduction)
        (share * loss).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_step_is_along_the_gradient_of_the_plain_likelihood(tiny64, reduction):
    rng = np.random.default_rng(0)
    weight = np.asarray([1.0, 2.0, 5.0])
    data = TextDemonstrations(random_ids(rng, 3), random_ids(rng, 3), weight=weight)
    expected = plain_gradient(tiny64, data, weight / weight.sum(), reduction)
    rate = 1e-3
    found = fit(
        tiny64,
        functools.partial(losses.sft, reduction=reduction),
        data,
        batch_size=3,
        learning_rate=rate,
        **ONE_STEP,
    )
    before = dict(tiny64.model.named_parameters())
    for name, after in found.policy.model.named_parameters():
        moved = (before[name] - after).detach() / rate
        torch.testing.assert_close(moved, expected[name], rtol=0, atol=1e-9, msg=name)
    norm = torch.stack([grad.norm() for grad in expected.values()]).norm()
    assert found.grad_norm == pytest.approx(float(norm), rel=1e-9)


def test_every_turn_of_a_dialogue_is_learned_as_it_is_generated(llama):
    said = ["the cat sat", "a great film", "the dog sat", "cats and dogs"]
    dialogue = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)
    ]
    data = TextDemonstrations.from_dialogues([dialogue, dialogue[:2]])
    assert [len(prompt) for prompt in data.prompt] == [1, 3, 1]
    rows = llama.encode(data.prompt, data.completion)
    texts = [llama.tokenizer.decode(row.completion_ids) for row in rows]
    assert texts == ["a great film</s>", "cats and dogs</s>", "a great film</s>"]
    whole = llama.tokenizer.apply_chat_template(dialogue, tokenize=False)
    prompt = llama.tokenizer.decode(rows[1].prompt_ids)
    assert prompt + texts[1] == whole.rstrip("\n")
    found = fit(llama, losses.sft, data, batch_size=3, learning_rate=1e-9, **ONE_STEP)
    likelihood = llama.log_prob(data.prompt, data.completion)
    assert found.value == pytest.approx(-float(likelihood.mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("dialogue", "turns"),
    [
        ([ASSISTANT, USER, ASSISTANT], [(2, 1)]),
        ([USER, ASSISTANT, ASSISTANT, USER], [(1, 2)]),
        ([USER, ASSISTANT | {"weight": 0}, USER, ASSISTANT | {"weight": 1}], [(3, 1)]),
        ([USER, ASSISTANT | {"train": False}, USER, ASSISTANT], [(3, 1)]),
    ],
)
def test_which_turns_are_learned(dialogue, turns):
    found = answered_turns(dialogue)
    assert [(len(prompt), len(answer)) for prompt, answer in found] == turns
    assert all(
        prompt + answer == dialogue[: sum(map(len, (prompt, answer)))] for prompt, answer in found
    )


@pytest.mark.parametrize(
    ("dialogue", "message"),
    [
        ([USER], "must hold a turn of the assistant that answers something .* got 'user'"),
        ([ASSISTANT], "got 'assistant'"),
        ([USER, ASSISTANT | {"weight": 0}], "that answers something and is to be learned"),
        ([USER, ASSISTANT, ASSISTANT | {"weight": 0}], "as a whole or not at all, got .*0, True"),
        ([USER, ASSISTANT | {"weight": 0.5}], "as a whole or not at all, got .*0.5"),
    ],
)
def test_dialogues_with_nothing_to_learn(dialogue, message):
    with pytest.raises(ValueError, match=f"dialogue 1: .*{message}"):
        TextDemonstrations.from_dialogues([[USER, ASSISTANT], dialogue])


def test_a_loss_that_compares_is_refused(tiny):
    data = TextDemonstrations([[1]], [[2]])
    for loss in (losses.dpo, losses.simpo, losses.rpo, "ipo"):
        with pytest.raises(
            ValueError, match="have no rejected completion, which the loss compares"
        ):
            fit(tiny, loss, data, reference=tiny)
    with pytest.raises(
        ValueError, match=r"TextDemonstrations feed losses of PairLogps, got .*Unpaired"
    ):
        fit(tiny, losses.kto, data, reference=tiny)


def test_only_sft_imitates():
    """Found by measuring: of the losses on pairs this alone has no use for a rejected response."""
    pairwise = {
        name: loss
        for name, loss in losses.loss_functions().items()
        if losses.container_of(loss) is losses.PairLogps
    }
    assert [name for name, loss in pairwise.items() if not reads_rejected(loss)] == ["sft"]


def test_it_reaches_the_data(tmp_path):
    """Demonstrations are learned by heart, as far as they do not contradict each other."""
    policy = CausalLM.from_config(small_llama(8), seed=0)
    data = TextDemonstrations([[3], [4], [4]], [[5, 2], [6, 2], [7, 2]], weight=[1, 3, 1])
    found = fit(
        policy,
        losses.sft,
        data,
        steps=80,
        batch_size=3,
        learning_rate=2e-2,
        out=tmp_path,
        progress=False,
    ).policy
    probs = found.log_prob(data.prompt, data.completion).exp()
    np.testing.assert_allclose(probs, [1.0, 0.75, 0.25], atol=0.02)
    loaded = CausalLM.load(tmp_path / "model")
    torch.testing.assert_close(loaded.log_prob(data.prompt, data.completion).exp(), probs)


def test_pairs_are_demonstrations_of_the_chosen(tiny64):
    """The same objective from both kinds of data; demonstrations cost half the forwards."""
    rng = np.random.default_rng(3)
    prompt, chosen, rejected = (random_ids(rng, 4) for _ in range(3))
    options = ONE_STEP | {"batch_size": 4, "learning_rate": 1e-3}
    pairs = fit(tiny64, losses.sft, TextComparisons(prompt, chosen, rejected), **options)
    alone = fit(tiny64, losses.sft, TextDemonstrations(prompt, chosen), **options)
    np.testing.assert_allclose(alone.history, pairs.history, rtol=1e-12)
