"""Text and chat messages made into token ids, and token ids into padded batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from prefsim.checks import as_index_array, check_choice, check_integer
from prefsim.containers import map_fields

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Ids = list[int]
Text = str | Sequence[int] | Sequence[Mapping[str, str]]

__all__ = ["Ids", "Text", "TokenBatch", "Tokens", "batches_by_length", "collate", "encode"]


class Tokens(NamedTuple):
    """A prompt and its completion, as token ids.

    Every id of the completion is scored, the end-of-sequence token too where there is one.
    """

    prompt_ids: Ids
    completion_ids: Ids


class TokenBatch(NamedTuple):
    """Padded sequences ``(B, T)``.

    Ids, where there is a token at all, and which tokens belong to the completion (both boolean).
    """

    input_ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor

    def to(self, device: Any) -> TokenBatch:
        """Return the batch on another device."""

        def moved(tensor: Any) -> Any:
            return tensor.to(device, non_blocking=True)

        return map_fields(self, moved)


def _is_chat(value: Any) -> bool:
    return (
        not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(item, Mapping) for item in value)
    )


def _as_ids(value: Any, name: str) -> Ids:
    return [int(token) for token in as_index_array(list(value), name).reshape(-1)]


def _prompt_ids(tokenizer: Any, text: str) -> Ids:
    ids: Ids = list(tokenizer(text)["input_ids"])
    # Some tokenizers end every text with an end-of-sequence token, which would tell the model that
    # the answer is over.
    if (
        ids
        and ids[-1] == tokenizer.eos_token_id
        and ids != [tokenizer.bos_token_id]
        and not text.endswith(tokenizer.eos_token)
    ):
        ids = ids[:-1]
    if not ids and tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id]
    return ids


def _text(tokenizer: Any, prompt: str, completion: str) -> Tokens:
    prompt_ids = _prompt_ids(tokenizer, prompt)
    together = _prompt_ids(tokenizer, prompt + completion)
    if prompt and together[: len(prompt_ids)] == prompt_ids:
        return Tokens(prompt_ids, together[len(prompt_ids) :])
    # A merge would cross the boundary: the prompt keeps its tokens, and the completion gets its
    # own.
    return Tokens(prompt_ids, list(tokenizer(completion, add_special_tokens=False)["input_ids"]))


def _rendered(tokenizer: Any, messages: list[Mapping[str, str]], *, prompt: bool) -> Ids:
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError("chat messages need a tokenizer with a chat template, got one without")
    return list(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=prompt, tokenize=True, return_dict=False
        )
    )


def _chat(
    tokenizer: Any,
    prompt: list[Mapping[str, str]],
    completion: list[Mapping[str, str]],
    ends: set[int],
) -> Tokens:
    prompt_ids = _rendered(tokenizer, prompt, prompt=True)
    together = _rendered(tokenizer, [*prompt, *completion], prompt=False)
    if together[: len(prompt_ids)] != prompt_ids:
        at = next(
            (i for i, (a, b) in enumerate(zip(prompt_ids, together, strict=False)) if a != b),
            len(together),
        )
        raise ValueError(
            "the chat template must render the prompt as the beginning of the dialogue; they part"
            f" at token {at}"
        )
    ids = together[len(prompt_ids) :]
    # Templates often write a line break behind the end of a turn, where generation has stopped
    # already.
    last = max((i for i, token in enumerate(ids) if token in ends), default=len(ids) - 1)
    return Tokens(prompt_ids, ids[: last + 1])


def encode(
    tokenizer: Any, prompt: Text, completion: Text, *, append_eos: bool, ends: Sequence[int] = ()
) -> Tokens:
    """Return the token ids of a prompt and a completion.

    The tokens of the prompt never depend on the completion, so that all completions of a prompt
    share them: where a merge would cross the boundary, the completion is tokenised on its own.

    Parameters
    ----------
    tokenizer
        A transformers tokenizer; ``None`` is enough for token ids.
    prompt, completion
        Text, chat messages (a completion may be the assistant's text alone), or token ids, which
        are taken as they are.
    append_eos
        Whether the completion ends with the end-of-sequence token if it does not already. Never
        added to token ids.
    ends
        Further tokens that end a completion.

    Raises
    ------
    ValueError
        If ids are mixed with text, there is no tokenizer for text or no chat template for messages,
        the template does not render the prompt as a prefix, or ``append_eos`` is asked of a
        tokenizer without such a token.
    """
    prompt_is_written = isinstance(prompt, str) or _is_chat(prompt)
    completion_is_written = isinstance(completion, str) or _is_chat(completion)
    if not prompt_is_written and not completion_is_written:
        return Tokens(_as_ids(prompt, "prompt ids"), _as_ids(completion, "completion ids"))
    if tokenizer is None:
        raise ValueError(
            "text and chat messages need a tokenizer; without one give lists of token ids"
        )
    if not completion_is_written:
        # Sampled ids after a prompt in text: the prompt is what generation saw.
        if isinstance(prompt, str):
            ids = _prompt_ids(tokenizer, prompt)
        else:
            ids = _rendered(tokenizer, list(prompt), prompt=True)  # type: ignore[arg-type]
        return Tokens(ids, _as_ids(completion, "completion ids"))
    known = {int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None}
    if _is_chat(prompt):
        answer: Any = completion
        if isinstance(completion, str):
            answer = [{"role": "assistant", "content": completion}]
        tokens = _chat(tokenizer, list(prompt), list(answer), known)  # type: ignore[arg-type]
    elif isinstance(prompt, str) and isinstance(completion, str):
        tokens = _text(tokenizer, prompt, completion)
    elif isinstance(completion, str):
        ids = list(tokenizer(completion, add_special_tokens=False)["input_ids"])
        tokens = Tokens(_as_ids(prompt, "prompt ids"), ids)
    else:
        raise ValueError("a completion in chat messages needs a prompt in chat messages")
    ids = tokens.completion_ids
    if append_eos and (not ids or ids[-1] not in known):
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "append_eos needs a tokenizer with an end-of-sequence token, got one without"
            )
        ids.append(int(tokenizer.eos_token_id))
    return tokens


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of row numbers, similar lengths together.

    The longest come first, so that too large a batch fails at once.

    Examples
    --------
    >>> list(batches_by_length([3, 9, 5], 2))
    [[1, 2], [0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def collate(
    sequences: Sequence[Tokens],
    *,
    pad_id: int,
    side: str = "right",
    multiple_of: int = 1,
    device: torch.device | str | None = None,
) -> TokenBatch:
    """Return the sequences as one padded batch.

    Parameters
    ----------
    sequences
        At least one, each with a prompt of at least one token (whose state predicts the first of
        the completion) and a completion of at least one.
    pad_id
        What fills the rows; it is attended to by nothing and scored never.
    side
        ``"right"`` or ``"left"``: where the padding goes. No log-probability depends on it.
    multiple_of
        The length is rounded up to a multiple of this.
    device
        Where the tensors are put.

    Raises
    ------
    ValueError
        If there is no sequence, or a prompt or completion is empty (named by its row).
    """
    import torch

    check_choice(("right", "left"), side=side)
    check_integer(low=1, multiple_of=multiple_of)
    if not sequences:
        raise ValueError("a batch must hold at least one sequence, got none")
    for row, (prompt_ids, completion_ids) in enumerate(sequences):
        if not prompt_ids:
            raise ValueError(
                f"row {row} has a prompt without tokens: nothing predicts the first token of its"
                " completion"
            )
        if not completion_ids:
            raise ValueError(
                f"row {row} has a completion without tokens: there is nothing to score"
            )
    prompts = torch.tensor([len(prompt) for prompt, _ in sequences])[:, None]
    lengths = prompts + torch.tensor([len(completion) for _, completion in sequences])[:, None]
    width = -(-int(lengths.max()) // multiple_of) * multiple_of
    # Places count from the first token of each row.
    places = torch.arange(width)[None] - (0 if side == "right" else width - lengths)
    attention = (places >= 0) & (places < lengths)
    scored = attention & (places >= prompts)
    ids = torch.full(attention.shape, pad_id, dtype=torch.int64)
    ids[attention] = torch.tensor(
        [token for sequence in sequences for part in sequence for token in part]
    )
    batch = TokenBatch(input_ids=ids, attention_mask=attention, completion_mask=scored)
    return batch if device is None else batch.to(device)
