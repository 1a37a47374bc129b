"""Mixtures of experts are trained with their own auxiliary loss, where they are configured to."""

import math

import pytest
import torch
from lm_made import random_pairs
from lm_rows import ROWS

from prefsim import losses
from prefsim.lm import CausalLM, collate
from prefsim.solvers import fit

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "router_aux_loss_coef": 10.0,
    "output_router_logits": True,
}
FAMILIES = {
    "MixtralConfig": {"num_local_experts": 4},
    "Qwen2MoeConfig": {
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "OlmoeConfig": {"num_experts": 4},
    "PhimoeConfig": {"num_local_experts": 4, "input_jitter_noise": 0.3},
}


def mixture(family, **changes):
    import transformers

    config = getattr(transformers, family)(**(SIZES | FAMILIES[family] | changes))
    return CausalLM.from_config(config, seed=0)


OPTIONS = {"steps": 1, "batch_size": 4, "order": "given", "progress": False}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_loss_is_that_of_no_margin_and_the_router(family):
    policy, data = mixture(family), random_pairs(4)
    rows = policy.encode(
        [text for text in data.prompt for _ in range(2)],
        [text for pair in zip(data.chosen, data.rejected, strict=True) for text in pair],
    )
    batch = collate(rows, pad_id=0)
    with torch.no_grad():
        theirs = policy.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), use_cache=False
        ).aux_loss
    assert float(theirs) > 0.1
    routed = fit(policy, losses.dpo, data, reference=policy.frozen(), **OPTIONS)
    assert routed.value == pytest.approx(math.log(2) + 10 * float(theirs), rel=1e-5)
    # Split, each part is balanced for itself, which is no other loss by much.
    split = fit(
        policy,
        losses.dpo,
        data,
        reference=policy.frozen(),
        gradient_accumulation=2,
        **OPTIONS,
    )
    assert split.value == pytest.approx(routed.value, rel=0.1)


def test_the_router_is_trained_towards_even_use():
    policy, data = mixture("MixtralConfig"), random_pairs(8)
    options = OPTIONS | {"steps": 30, "learning_rate": 3e-3}

    def aux(trained):
        batch = collate(ROWS_BELOW, pad_id=0)
        with torch.no_grad():
            return float(trained.model(input_ids=batch.input_ids, use_cache=False).aux_loss)

    start = aux(policy)
    routed = fit(policy, losses.dpo, data, reference=policy.frozen(), **options).policy
    plain = mixture("MixtralConfig", router_aux_loss_coef=0.0)
    unrouted = fit(plain, losses.dpo, data, reference=plain.frozen(), **options).policy
    assert aux(routed) < start
    assert aux(routed) < aux(unrouted)


ROWS_BELOW = [
    row._replace(
        completion_ids=[token % 64 for token in row.completion_ids],
        prompt_ids=[token % 64 for token in row.prompt_ids],
    )
    for row in ROWS
]


@pytest.mark.parametrize(
    "changes", [{"output_router_logits": False}, {"router_aux_loss_coef": 0.0}]
)
def test_without_it_there_is_none(changes):
    policy, data = mixture("MixtralConfig", **changes), random_pairs(4)
    found = fit(policy, losses.dpo, data, reference=policy.frozen(), **OPTIONS)
    assert found.value == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_has_no_use_for_it(family):
    policy = mixture(family)
    drawn = policy.sample([[5, 6], [7, 8, 9]], 2, 0, max_new_tokens=3)
    assert [len(row) for row in drawn] == [2, 2]
    assert policy.log_prob_model.plain.config.output_router_logits is True


def test_a_router_that_is_not_known_is_told_before_the_run(monkeypatch):
    import transformers.models.mixtral.modeling_mixtral as module

    policy = mixture("MixtralConfig")
    monkeypatch.delattr(module, "load_balancing_loss_func")
    with pytest.raises(
        ValueError, match="auxiliary loss of the router of MixtralForCausalLM is no"
    ):
        fit(policy, losses.dpo, random_pairs(4), reference=policy.frozen(), **OPTIONS)


def test_llama_4_names_another_base():
    from transformers import Llama4TextConfig

    config = Llama4TextConfig(
        **{key: value for key, value in SIZES.items() if not key.startswith(("router", "output"))},
        intermediate_size_mlp=48,
        num_local_experts=2,
        head_dim=8,
    )
    policy = CausalLM.from_config(config, seed=0)
    row = ROWS_BELOW[0]
    ids = torch.tensor([row.prompt_ids + row.completion_ids])
    with torch.no_grad():
        logs = torch.log_softmax(policy.model(input_ids=ids).logits.double(), dim=-1)[0]
    wanted = [
        logs[len(row.prompt_ids) + t - 1, token] for t, token in enumerate(row.completion_ids)
    ]
    found = policy.log_prob([row.prompt_ids], [row.completion_ids])
    torch.testing.assert_close(found, torch.stack(wanted).sum()[None], rtol=0, atol=1e-5)
    result = fit(policy, losses.dpo, random_pairs(4), reference=policy.frozen(), **OPTIONS)
    assert result.value == pytest.approx(math.log(2), abs=1e-6)
