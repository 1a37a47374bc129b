"""A byte-pair tokenizer and a tiny Llama made on the spot: nothing is downloaded."""

import os

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
