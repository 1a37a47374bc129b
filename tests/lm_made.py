"""A byte-pair tokenizer and a tiny Llama made on the spot: nothing is downloaded."""

import json
import os

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TEXT = (
    "the cat sat on the mat and the dog sat on the log. was it a good film? it was a great film, a"
    " really great film! the plot was dull and the acting was worse. cats and dogs are friends."
    " hello world, hello there. "
)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' +"
    " message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token + '\n' }}{% endif"
    " %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def byte_tokenizer(size=320, *, ends_with_eos=False):
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import PreTrainedTokenizerFast

    model = ByteLevelBPETokenizer()
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
    model.train_from_iterator(
        [TEXT] * 20, vocab_size=size, special_tokens=special, show_progress=False
    )
    inner = model._tokenizer
    single = "<s> $A </s>" if ends_with_eos else "<s> $A"
    inner.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def small_llama(vocabulary=320, **changes):
    from transformers import LlamaConfig

    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        # Large enough that the distributions are far from uniform.
        "initializer_range": 0.3,
    }
    return LlamaConfig(**(settings | changes))


def adapted_llama(**options):
    """A tiny Llama with fresh adapters."""
    from peft import LoraConfig

    from prefsim.lm import CausalLM

    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])
    return CausalLM.from_config(small_llama(64), seed=0, adapter=lora, **options)


def random_ids(rng, n, low=2, high=8, vocabulary=64):
    return [rng.integers(3, vocabulary, rng.integers(low, high)).tolist() for _ in range(n)]


def random_pairs(n=7, seed=0, **options):
    from prefsim.lm import TextComparisons

    rng = np.random.default_rng(seed)
    prompts, chosen, rejected = (random_ids(rng, n) for _ in range(3))
    return TextComparisons(prompts, chosen, rejected, **options)


def rich_data(kind, n=6):
    """Data with every column that a loss of ``kind`` may ask for."""
    from prefsim import losses
    from prefsim.lm import TextFeedback, TextNegatives, TextRankings, TextRollouts

    rng = np.random.default_rng(1)
    prompts, lists = random_ids(rng, n), [random_ids(rng, 3) for _ in range(n)]
    if kind in TextFeedback.kinds:
        return TextFeedback(prompts, random_ids(rng, n), np.arange(n) % 2)
    if kind in TextRankings.kinds:
        return TextRankings(prompts, lists, rng.standard_normal((n, 3)))
    if kind is losses.TokenListLogps:
        return TextRollouts(prompts, lists, rng.standard_normal((n, 3)))
    if kind in TextNegatives.kinds:
        return TextNegatives(prompts, random_ids(rng, n), lists)
    scores = {"chosen_score": 0.5 + 0.4 * rng.random(n), "rejected_score": 0.4 * rng.random(n)}
    return random_pairs(n, **scores, old_chosen=-9 - rng.random(n), old_rejected=-9 - rng.random(n))


def largest_difference(first, second):
    """The largest difference of a parameter of two policies."""
    pairs = zip(first.log_prob_model.parameters(), second.log_prob_model.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


FILM_PAIRS = [
    {
        "prompt": "was it a good film?",
        "chosen": f" it was a great film{' really' * (i % 3)}",
        "rejected": " the plot was dull",
    }
    for i in range(6)
]


def report_of(prefsim, *arguments):
    """What a command that went well wrote as JSON."""
    code, out, err = prefsim(*arguments)
    assert code == 0, err
    return json.loads(out)


# The arguments of a small training.
TRAIN = ("train", "--loss", "dpo", "--model", "model", "--data", "pairs.jsonl")
TWO_STEPS = ("--steps", 2, "--batch-size", 3, "--learning-rate", 1e-3, "--json")


def sentencepiece_tokenizer(kind="first"):
    """A tokenizer in the manner of Llama 2: spaces are part of words, and a text begins with one.

    ``kind`` is how the first space gets there: ``"first"`` or ``"always"`` of a pre-tokenizer, or
    ``"normalizer"``; or ``"unigram"``, which knows no bytes.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer, UnigramTrainer
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    if kind == "unigram":
        inner = Tokenizer(models.Unigram())
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        inner.decoder = decoders.Metaspace(prepend_scheme="always")
        trainer = UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        if kind == "normalizer":
            inner.normalizer = normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            )
        else:
            inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        inner.decoder = decoders.Sequence([*steps, decoders.Strip(content=" ", left=1)])
        trainer = BpeTrainer(
            vocab_size=600, special_tokens=special + byte_tokens, show_progress=False
        )
    inner.train_from_iterator(TEXT.split(". ") * 20, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
