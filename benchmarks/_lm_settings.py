"""The models that training steps are measured on, and the text that they are trained on."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "CPU",
    "GPU",
    "GPU_DEFAULT",
    "REHEARSAL",
    "SETTINGS",
    "Setting",
    "rows_of",
    "tokenizer_of",
]


class Setting(NamedTuple):
    """A model and the batch it is trained on.

    Pairs of sequences of ``tokens`` each, ``prompt`` of them not scored.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    keys: int
    vocabulary: int
    pairs: int
    tokens: int
    prompt: int
    tied: bool = False
    # On a GPU: adapters of this rank instead of all parameters, the kinds of reference, and whether
    # activations are computed again.
    rank: int = 0
    references: tuple[str, ...] = ("model", "precomputed")
    checkpointing: bool = False
    # All parameters in bfloat16, with moments in bfloat16.
    narrow: bool = False

    @property
    def config(self) -> Any:
        """The configuration of transformers."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.keys,
            max_position_embeddings=2 * self.tokens,
            tie_word_embeddings=self.tied,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )


CPU = {
    "small": Setting(
        hidden=256,
        inner=688,
        layers=4,
        heads=4,
        keys=4,
        vocabulary=32_000,
        pairs=4,
        tokens=256,
        prompt=64,
    ),
    "medium": Setting(
        hidden=512,
        inner=1376,
        layers=4,
        heads=8,
        keys=8,
        vocabulary=32_000,
        pairs=4,
        tokens=512,
        prompt=64,
    ),
}
# The shapes of Llama 3.2 1B, 3B and Llama 3.1 8B.
BATCH = {"vocabulary": 128_256, "pairs": 4, "tokens": 1024, "prompt": 128}
GPU = {
    "1B": Setting(hidden=2048, inner=8192, layers=16, heads=32, keys=8, tied=True, **BATCH),
    "3B": Setting(
        hidden=3072,
        inner=8192,
        layers=28,
        heads=24,
        keys=8,
        tied=True,
        references=("precomputed",),
        checkpointing=True,
        **BATCH,
    ),
    "8B": Setting(
        hidden=4096,
        inner=14_336,
        layers=32,
        heads=32,
        keys=8,
        rank=16,
        references=("adapters off",),
        checkpointing=True,
        **BATCH,
    ),
}
# What fits 8B whole on one card of 141 GB: eight bytes a parameter.
GPU["8B-full"] = GPU["8B"]._replace(rank=0, references=("precomputed",), narrow=True)
# What --gpu trains unless told otherwise, in under ten minutes.
GPU_DEFAULT = ("1B", "8B")
TOY: dict[str, Any] = {
    "hidden": 64,
    "inner": 172,
    "layers": 2,
    "heads": 4,
    "keys": 2,
    "vocabulary": 500,
    "pairs": 2,
    "tokens": 48,
    "prompt": 16,
}
# The same with toys, to see on a processor that it runs.
REHEARSAL = {
    "toy": Setting(**TOY, tied=True),
    "toy-lora": Setting(**TOY, rank=4, references=("adapters off",), checkpointing=True),
}
SETTINGS = CPU | GPU | REHEARSAL


def tokenizer_of(vocabulary: int) -> Any:
    """Return a tokenizer that has a word for every token.

    So both trainers read the same ids out of text.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, vocabulary)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def rows_of(setting: Setting, steps: int) -> list[dict[str, str]]:
    import numpy as np

    rng = np.random.default_rng(0)

    def words(count: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(3, setting.vocabulary, count))

    answer = setting.tokens - setting.prompt - 1  # and the end of the sequence
    return [
        {
            "prompt": words(setting.prompt),
            "chosen": f" {words(answer)} </s>",
            "rejected": f" {words(answer)} </s>",
        }
        for _ in range(steps * setting.pairs)
    ]
