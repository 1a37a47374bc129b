"""Chat messages through a tokenizer's template: the text that training and generation see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prefsim.checks.quoting import shown

__all__ = ["Messages", "rendered_chat", "shared_length"]

Messages = list[Mapping[str, Any]]

# What a message may consist of besides its content.
_CALLS = ("tool_calls", "function_call")
_SAYS_MORE = (*_CALLS, "reasoning_content", "reasoning", "thinking", "refusal", "audio", "images")
# Two answers with nothing in common: what a template writes alike for both, it writes before any.
_PROBES = ("0", "Z")


def rendered_chat(
    tokenizer: Any, prompt: Messages, completion: Messages | None, options: Mapping[str, Any]
) -> tuple[str, str]:
    """Return the text of a prompt, up to where generation begins, and that of its completion.

    Parameters
    ----------
    tokenizer
        A transformers tokenizer with a chat template.
    prompt
        Messages. Where the last is the assistant's, the completion continues it.
    completion
        Messages of the assistant; ``None`` for what generation begins with.
    options
        What else the template gets.

    Returns
    -------
    Two texts. Where a template begins a whole dialogue's answer otherwise than it asks for one
    (as those that open a place for reasoning do), the prompt ends where the two part, which is the
    same for every completion.

    Raises
    ------
    ValueError
        If there is no template, it refuses, leaves out what it was given, or renders the prompt's
        own messages otherwise once there is an answer.
    """
    template = getattr(tokenizer, "chat_template", None)
    if template is None:
        raise ValueError("chat messages need a tokenizer with a chat template, got one without")
    for name in options:
        # A template is not told of what it does not ask for, and says nothing of it.
        if str(name) not in str(template):
            raise ValueError(
                f"chat_template_kwargs must be options of the chat template, which has no"
                f" {shown(name)}"
            )

    def render(messages: Messages, **how: bool) -> str:
        return _render(tokenizer, messages, dict(options) | how)

    started = prompt[-1].get("role") == "assistant"
    if started:
        _check_continuable(prompt[-1])
        before = render(prompt, continue_final_message=True)
    else:
        before = render(prompt, add_generation_prompt=True)
    _check_complete(before, prompt, ("system", "user"), "prompt")
    if completion is None:
        return before, ""
    dialogue = _continued(prompt, completion) if started else [*prompt, *completion]
    whole = render(dialogue)
    if not whole.startswith(before):
        if started:
            raise _parted(before, whole)
        alone = render(prompt)
        heads = [render([*prompt, {"role": "assistant", "content": text}]) for text in _PROBES]
        shared = before[: min(shared_length(before, head) for head in heads)]
        if (
            not before.startswith(alone)
            or len(shared) < len(alone)
            or whole[: len(shared)] != shared
        ):
            raise _parted(before, whole)
        before = shared
    answer = whole[len(before) :]
    _check_complete(answer, completion, ("assistant",), "completion")
    first = len(dialogue) - len(completion)
    # How an earlier answer came about a template may leave out, but not what was called.
    for i, message in enumerate(dialogue):
        for key in _CALLS if i < first else _SAYS_MORE:
            if message.get(key):
                _check_written(whole, dialogue, i, key, render)
    return before, answer


def shared_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the length of the common beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(first), len(second)))


def _render(tokenizer: Any, messages: Messages, options: dict[str, Any]) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except Exception as error:
        # Templates come from anywhere and raise anything, on purpose too ("System role not
        # supported"); who called knows the row.
        raise ValueError(
            f"the chat template refuses the messages: {type(error).__name__}: {error}"
        ) from error


def _check_continuable(message: Mapping[str, Any]) -> None:
    content = message.get("content")
    if not isinstance(content, str) or not content.strip() or message.get("tool_calls"):
        raise ValueError(
            "a prompt that ends with the assistant's message is continued by the completion, so"
            " that this message must be text alone, got one with"
            f" {', '.join(sorted(map(str, message)))}"
        )


def _continued(prompt: Messages, completion: Messages) -> Messages:
    started, first = prompt[-1], completion[0]
    _check_continuable(first)
    return [
        *prompt[:-1],
        {**started, **first, "content": started["content"] + first["content"]},
        *completion[1:],
    ]


def _parted(before: str, whole: str) -> ValueError:
    at = shared_length(before, whole)
    return ValueError(
        "the chat template must render the prompt as the beginning of the dialogue; they part at"
        f" character {at + 1}: {before[at : at + 30]!r} and {whole[at : at + 30]!r} (an option of"
        " chat_template_kwargs or another template may keep them together)"
    )


def _check_complete(text: str, messages: Messages, roles: Sequence[str], name: str) -> None:
    """Raise where a template leaves out a message, or calls of tools."""
    squeezed = _squeezed(text)
    for message in messages:
        parts = _texts(message) if message.get("role") in roles else ()
        missing = [part for part in parts if _squeezed(part) not in squeezed]
        calls = [
            str(call.get("function", call).get("name", ""))
            for call in message.get("tool_calls") or ()
            if isinstance(call, Mapping) and isinstance(call.get("function", call), Mapping)
        ]
        missing += [call for call in calls if call not in text]
        if missing:
            raise ValueError(
                f"the chat template must write the whole {name}, but leaves out"
                f" {shown(missing[0])}, of a message by {message.get('role')!r}"
            )


def _check_written(
    text: str, messages: Messages, place: int, key: str, render: Callable[[Messages], str]
) -> None:
    """Raise where a template renders a message without what it says under ``key``."""
    message = messages[place]
    less = {name: value for name, value in message.items() if name != key}
    if render([*messages[:place], less, *messages[place + 1 :]]) == text:
        raise ValueError(
            f"the chat template must write the whole dialogue, but leaves out the {key} of a"
            f" message by {message.get('role')!r}, {shown(message[key])}"
        )


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list | tuple):
        for part in content:
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield part["text"]


def _squeezed(text: str) -> str:
    # Templates trim what they are given, and some write reasoning on lines of its own.
    return "".join(text.split())
