"""Fresh completions of the policy for the prompts of some examples, as rows of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import Tokens
from prefsim.lm.training.token_rows import TokenRows

__all__ = ["drawn_rows"]


def drawn_rows(
    policy: CausalLM,
    rows: TokenRows,
    examples: Sequence[int] | np.ndarray,
    *,
    samples: int,
    max_new_tokens: int,
    seed: Sequence[int],
    batch_size: int = 8,
) -> list[Tokens]:
    """Return ``samples`` completions for the first prompt of each example, one after another.

    Parameters
    ----------
    policy
        Draws them, with nothing of it changed.
    rows
        The tokens of the data.
    examples
        Row numbers of the data.
    samples, max_new_tokens
        How many for each, and where they are cut off.
    seed
        Of the draws: numbers that tell this call from any other.
    batch_size
        Prompts that are answered at once.
    """
    prompts = [rows.tokens[rows.of([int(example)])[0]].prompt_ids for example in examples]
    drawn = policy.sample(
        prompts,
        samples,
        np.random.default_rng(list(seed)),
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
    )
    return [
        Tokens(prompt, completion)
        for prompt, completions in zip(prompts, drawn, strict=True)
        for completion in completions
    ]
