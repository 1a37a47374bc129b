"""Reviews out of a grammar, how positive they are, and a small language model that learned them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefsim.losses import UnpairedLogps
from prefsim.solvers import fit

FILMS = (
    "The Silent Harbor",
    "Paper Moon Road",
    "Winter Letters",
    "The Last Orchard",
    "Night Train North",
    "A Week in June",
)
PRODUCTS = (
    "the blue kettle",
    "the travel pillow",
    "the desk lamp",
    "the garden chair",
    "the hand mixer",
    "the rain jacket",
)
PARTS = {
    "Film": ["plot", "acting", "music", "ending", "dialogue", "cast", "camera", "script"],
    "Product": ["handle", "colour", "design", "lid", "switch", "packaging", "size", "material"],
}
QUALITIES = {
    1: [
        "great",
        "good",
        "lovely",
        "brilliant",
        "charming",
        "funny",
        "clever",
        "pleasant",
        "perfect",
        "fresh",
        "wonderful",
        "fine",
    ],
    0: [
        "long",
        "short",
        "quiet",
        "ordinary",
        "plain",
        "typical",
        "slow",
        "simple",
        "familiar",
        "modern",
        "narrow",
        "recent",
    ],
    -1: [
        "bad",
        "dull",
        "awful",
        "poor",
        "weak",
        "boring",
        "annoying",
        "ugly",
        "terrible",
        "stupid",
        "messy",
        "disappointing",
    ],
}
VERBS = {
    1: ["loved", "liked", "enjoyed"],
    0: ["noticed", "expected", "described"],
    -1: ["hated", "disliked", "regretted"],
}
DEGREES = ("", "", "", " very", " really", " rather", " not", " never")
CLOSINGS = {
    1: ("I recommend it.", "It is worth the money.", "A happy surprise!"),
    0: (
        "It took a while.",
        "My sister has one opinion, I have another.",
        "That is all there is to say.",
        "We talked about it on Monday.",
    ),
    -1: ("A waste of time.", "I want my money back, what a failure.", "A sad mistake!"),
}
SPECIAL = ("<pad>", "<s>", "</s>")


def prompts() -> list[str]:
    """Return the prompts: one a film or product."""
    return [
        f"{kind}: {name}\nReview:"
        for kind, names in (("Film", FILMS), ("Product", PRODUCTS))
        for name in names
    ]


def review(prompt: str, rng: np.random.Generator) -> str:
    """Return one review after ``prompt``.

    It has two or three sentences that share a mood and now and then leave it.
    """

    def pick(options: Sequence[Any]) -> Any:
        return options[int(rng.integers(len(options)))]

    kind = prompt.partition(":")[0]
    mood = pick((1, 0, 0, -1))
    sentences = []
    for _ in range(int(rng.integers(2, 4))):
        tone = mood if rng.random() < 0.5 else pick((1, 0, 0, -1))
        part, degree = pick(PARTS[kind]), pick(DEGREES)
        form = int(rng.integers(4))
        if form == 0:
            sentences.append(f"I {pick(VERBS[tone])} the {part}.")
        elif form == 1:
            sentences.append(pick(CLOSINGS[tone]))
        else:
            joint = (
                f" and the {pick(PARTS[kind])} {pick(QUALITIES[pick((tone, 0))])}"
                if form == 2 and rng.random() < 0.4
                else ""
            )
            sentences.append(f"The {part} was{degree} {pick(QUALITIES[tone])}{joint}.")
    return " " + " ".join(sentences)


def reviews(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return ``count`` prompts and reviews."""
    rng = np.random.default_rng(seed)
    chosen = [prompts()[int(i)] for i in rng.integers(len(prompts()), size=count)]
    return chosen, [review(prompt, rng) for prompt in chosen]


@functools.cache
def _lexicon() -> Any:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ModuleNotFoundError as error:
        raise SystemExit(
            "the frontier needs the VADER lexicon: pip install vaderSentiment"
        ) from error
    return SentimentIntensityAnalyzer()


def sentiment(texts: Sequence[str]) -> np.ndarray:
    """Return VADER's compound score of each text, in [-1, 1]."""
    return np.asarray([_lexicon().polarity_scores(text)["compound"] for text in texts])


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """Return a byte-level byte-pair tokenizer trained on ``texts``."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        texts, vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )
    trained._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def cross_entropy(logps: UnpairedLogps) -> Any:
    """Negative log-likelihood of a completion in nats: any annotated function is a loss."""
    return -logps.logp


def language_model(
    folder: Path | None = None,
    *,
    count: int = 12_000,
    vocabulary: int = 640,
    hidden: int = 64,
    layers: int = 2,
    steps: int = 375,
) -> Any:
    """Train a language model from scratch on generated reviews.

    It is loaded from ``folder`` where that was done before.

    Parameters
    ----------
    folder
        Where it is kept; training that was interrupted goes on there.
    count
        Reviews to train on.
    vocabulary, hidden, layers
        Size of the tokenizer and of the Llama.
    steps
        Gradient steps, of 64 reviews each.
    """
    from transformers import LlamaConfig

    from prefsim.lm import CausalLM, TextFeedback

    if folder is not None and (folder / "model").is_dir():
        return CausalLM.load(folder / "model", dtype="float32")
    asked, written = reviews(count, seed=0)
    tokenizer = make_tokenizer(
        [prompt + text for prompt, text in zip(asked, written, strict=True)], vocabulary
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    data: Any = TextFeedback(asked, written, np.ones(count, dtype=bool))
    options: dict[str, Any] = {
        "steps": steps,
        "batch_size": 64,
        "learning_rate": 4e-3,
        "schedule": "cosine",
        "in_place": True,
    }
    if folder is not None:
        options |= {"out": folder, "save_every": 100, "resume": True}
    return fit(
        CausalLM.from_config(config, tokenizer, seed=0), cross_entropy, data, **options
    ).policy
