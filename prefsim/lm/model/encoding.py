"""Text and chat messages made into token ids: what is trained is the text that was given."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefsim.checks import as_index_array
from prefsim.checks.quoting import shown
from prefsim.lm.model.chat import Messages, rendered_chat
from prefsim.lm.model.tokens import Ids, Text, Tokens

__all__ = ["encode"]

# Tokenizers made for whole texts put a space in front of the first word. Behind one of these a
# completion is tokenised as what it is, the middle of a text.
_ANCHORS = ("", "\n", ":", "a", "0")


def encode(
    tokenizer: Any,
    prompt: Text,
    completion: Text,
    *,
    append_eos: bool,
    ends: Sequence[int] = (),
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Tokens:
    """Return the token ids of a prompt and a completion.

    The tokens of the prompt never depend on the completion, so that all completions of a prompt
    share them: where a merge would cross the boundary, the completion is tokenised on its own. The
    text of the tokens is always that of the prompt followed by the completion.

    Parameters
    ----------
    tokenizer
        A transformers tokenizer; ``None`` is enough for token ids.
    prompt, completion
        Text, chat messages (a completion may be the assistant's text alone), or token ids, which
        are taken as they are. A text that begins with the beginning-of-sequence token gets no
        second one. A completion continues the last message of a prompt that is the assistant's.
    append_eos
        Whether the completion ends with the end-of-sequence token if it does not already. Never
        added to token ids.
    ends
        Further tokens that end a completion.
    chat_template_kwargs
        What the chat template gets besides the messages, such as ``{"enable_thinking": False}``.

    Raises
    ------
    ValueError
        If ids are mixed with text, there is no tokenizer for text or no chat template for messages,
        the tokenizer or the template refuses, the template leaves out or rewrites what it was
        given, no tokens have the text of prompt and completion, or ``append_eos`` is asked of a
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
    options = dict(chat_template_kwargs or {})
    if not completion_is_written:
        # Sampled ids after a prompt in text: the prompt is what generation saw.
        if isinstance(prompt, str):
            ids = _whole_ids(tokenizer, prompt)
        else:
            text, _ = rendered_chat(tokenizer, list(prompt), None, options)  # type: ignore[arg-type]
            ids = _ids(tokenizer, text)
        return Tokens(ids, _as_ids(completion, "completion ids"))
    known = {int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None}
    if _is_chat(prompt):
        answer: Any = completion
        if isinstance(completion, str):
            answer = [{"role": "assistant", "content": completion}]
        tokens = _chat(tokenizer, list(prompt), list(answer), known, options)  # type: ignore[arg-type]
    elif not isinstance(completion, str):
        raise ValueError("a completion in chat messages needs a prompt in chat messages")
    elif isinstance(prompt, str):
        tokens = _text(tokenizer, prompt, completion)
    else:
        ids = _as_ids(prompt, "prompt ids")
        whole = _decoded(tokenizer, ids) + completion
        tokens = Tokens(ids, _continuation(tokenizer, ids, completion, whole))
    ids = tokens.completion_ids
    if append_eos and (not ids or ids[-1] not in known):
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "append_eos needs a tokenizer with an end-of-sequence token, got one without"
            )
        ids.append(int(tokenizer.eos_token_id))
    return tokens


def _is_chat(value: Any) -> bool:
    return (
        not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(item, Mapping) for item in value)
    )


def _as_ids(value: Any, name: str) -> Ids:
    return [int(token) for token in as_index_array(list(value), name).reshape(-1)]


def _text(tokenizer: Any, prompt: str, completion: str) -> Tokens:
    return _split(
        tokenizer,
        _whole_ids(tokenizer, prompt),
        _whole_ids(tokenizer, prompt + completion),
        completion,
    )


def _chat(
    tokenizer: Any, prompt: Messages, completion: Messages, ends: set[int], options: dict[str, Any]
) -> Tokens:
    before, answer = rendered_chat(tokenizer, prompt, completion, options)
    prompt_ids, ids = _split(
        tokenizer, _ids(tokenizer, before), _ids(tokenizer, before + answer), answer
    )
    # Templates often write a line break behind the end of a turn, where generation has stopped
    # already, and some a second end token behind that.
    last = max((i for i, token in enumerate(ids) if token in ends), default=len(ids) - 1)
    earlier = (i for i in reversed(range(last)) if ids[i] in ends)
    for i in earlier:
        if _decoded(tokenizer, ids[i + 1 : last]).strip():
            break
        last = i
    return Tokens(prompt_ids, ids[: last + 1])


def _split(tokenizer: Any, prompt_ids: Ids, together: Ids, completion: str) -> Tokens:
    """Return the tokens of a text in two parts, those of the prompt as they are by themselves."""
    if together[: len(prompt_ids)] == prompt_ids:
        return Tokens(prompt_ids, together[len(prompt_ids) :])
    # A merge would cross the boundary: the prompt keeps its tokens, and the completion gets its
    # own.
    whole = _decoded(tokenizer, together)
    return Tokens(prompt_ids, _continuation(tokenizer, prompt_ids, completion, whole))


def _continuation(tokenizer: Any, prompt_ids: Ids, completion: str, whole: str) -> Ids:
    """Return tokens of the completion that make ``whole`` of the prompt's."""
    found = ""
    for anchor in _ANCHORS:
        before, both = (_tokenised(tokenizer, part) for part in (anchor, anchor + completion))
        if both[: len(before)] == before:
            ids = both[len(before) :]
            text = _decoded(tokenizer, prompt_ids + ids)
            if _composed(text) == _composed(whole):
                return ids
            found = found or text
    shown = whole[-40:], found[-40:]
    raise ValueError(
        "the tokens of prompt and completion must have the text of both, which ends in"
        f" {shown[0]!r}, got {shown[1]!r}; let the prompt end elsewhere, as before a space"
    )


def _composed(text: str) -> str:
    # Many tokenizers compose letters and their accents, on either side of a boundary.
    return unicodedata.normalize("NFC", text)


def _whole_ids(tokenizer: Any, text: str) -> Ids:
    """Return the ids of a text from its beginning, but open at its end."""
    bos = tokenizer.bos_token_id
    if bos is not None and text.startswith(tokenizer.bos_token):
        return _ids(tokenizer, text)
    ids = _ids(tokenizer, text, add_special_tokens=True)
    # Some tokenizers end every text with an end-of-sequence token, which would tell the model that
    # the answer is over.
    if (
        ids
        and ids[-1] == tokenizer.eos_token_id
        and ids != [bos]
        and not text.endswith(tokenizer.eos_token)
    ):
        ids = ids[:-1]
    if not ids and bos is not None:
        ids = [bos]
    return ids


def _ids(tokenizer: Any, text: str, *, add_special_tokens: bool = False) -> Ids:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text must be Unicode, got the lone surrogate {text[error.start]!r} at character"
            f" {error.start + 1}"
        ) from error
    ids = _tokenised(tokenizer, text, add_special_tokens=add_special_tokens)
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown in ids and tokenizer.unk_token not in text:
        raise ValueError(
            f"the tokenizer must have tokens for the whole text, got {tokenizer.unk_token!r} for a"
            f" part of {shown(text)}"
        )
    return ids


def _tokenised(tokenizer: Any, text: str, *, add_special_tokens: bool = False) -> Ids:
    try:
        return list(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
    except Exception as error:
        # Tokenizers come from anywhere and raise anything; who called knows the row.
        raise ValueError(f"the tokenizer refuses: {type(error).__name__}: {error}") from error


def _decoded(tokenizer: Any, ids: Iterable[int]) -> str:
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )
