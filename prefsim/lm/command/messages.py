"""Values of rows as text, chat messages or token ids, in the spellings that people use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefsim.checks.quoting import shown

__all__ = [
    "Row",
    "as_message",
    "as_written",
    "check_answer",
    "is_chat",
    "joined_to_prompt",
    "with_system",
]

Row = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# Who says it, in the files that ShareGPT began.
_ROLE_OF = {"human": "user", "gpt": "assistant", "observation": "tool"}


def is_chat(value: Any) -> bool:
    """Return whether a value that was read is chat messages."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def as_written(value: Any, name: str) -> Any:
    """Return text, chat messages or token ids as they are, or raise."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return [as_message(value, name)]
    if isinstance(value, list) and value:
        if all(isinstance(item, Mapping) for item in value):
            return [as_message(item, f"{name}[{i}]") for i, item in enumerate(value)]
        if all(
            isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**63
            for item in value
        ):
            return value
    raise ValueError(
        f"{name} must be text, a list of chat messages or a list of token ids, got {shown(value)}"
    )


def as_message(message: Mapping[str, Any], name: str) -> Row:
    """Return a chat message with a role and text, or raise."""
    # A table has every key of any message, empty where a message has it not.
    given = {key: value for key, value in message.items() if value is not None}
    if "from" in given and "value" in given and not {"role", "content"} & set(given):
        given = {"role": given.pop("from"), "content": given.pop("value")} | given
    if given.get("tool_calls"):
        # Who calls a tool need not say anything.
        given.setdefault("content", "")
    if isinstance(given.get("content"), list):
        given["content"] = _joined(given["content"], f"{name}.content")
    for key in ("role", "content"):
        if not isinstance(given.get(key), str):
            raise ValueError(
                f"{name} must be a chat message with {key!r} in text, got {shown(dict(message))}"
            )
    role = _ROLE_OF.get(given["role"], given["role"])
    if role not in ROLES:
        raise ValueError(
            f"{name} must be a chat message by one of {', '.join(ROLES)}, got the role"
            f" {shown(role)}"
        )
    return given | {"role": role}


def _joined(parts: list[Any], name: str) -> str:
    """Return the text of content in parts."""
    texts = []
    for i, part in enumerate(parts):
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(part, Mapping) and part.get("type", "text") != "text":
            text = None
        if not isinstance(text, str):
            raise ValueError(
                f"{name}[{i}] must be a chat message with 'content' in text, got {shown(part)}"
            )
        texts.append(text)
    return "".join(texts)


def joined_to_prompt(prompt: Any, values: Mapping[str, Any]) -> tuple[Any, Row]:
    """Return a prompt and its completions in one form, or raise.

    A prompt in text beside answers in messages is a user's message. Completions in messages may
    repeat those of the prompt in front.
    """
    completions = {name: as_written(value, name) for name, value in values.items()}
    answered = [
        is_chat(value) and all(message["role"] == "assistant" for message in value)
        for value in completions.values()
    ]
    if isinstance(prompt, str) and answered and all(answered):
        prompt = [{"role": "user", "content": prompt}]
    return prompt, {
        name: assistant_turns(prompt, value, name) for name, value in completions.items()
    }


def assistant_turns(prompt: Any, completion: Any, name: str) -> Any:
    """Return a completion; of chat messages without the prompt's, which may stand in front."""
    if not is_chat(completion):
        return completion
    if not is_chat(prompt):
        raise ValueError(
            f"{name} in chat messages needs a prompt in chat messages, got {shown(prompt)}"
        )
    repeats_the_prompt = completion[: len(prompt)] == prompt
    answer = completion[len(prompt) :] if repeats_the_prompt else completion
    check_answer(answer, name)
    return answer


def check_answer(messages: Sequence[Row], name: str) -> None:
    """Raise unless all messages are turns of the assistant that are to be learned."""
    roles = [message["role"] for message in messages]
    if not roles or any(role != "assistant" for role in roles):
        raise ValueError(
            f"{name} must hold turns of the assistant behind the prompt, got"
            f" {', '.join(map(repr, roles)) or 'nothing'}"
        )
    for i, message in enumerate(messages):
        for key, whole in (("weight", 1), ("train", True)):
            if message.get(key, whole) != whole:
                raise ValueError(
                    f"{name}[{i}] must be learned as a whole, got {key} {shown(message[key])}"
                )


def with_system(prompt: Any, system: str) -> Any:
    """Return a prompt with a system message of its own column in front, or raise."""
    if not is_chat(prompt):
        raise ValueError(
            "a system message needs a prompt in chat messages, where it is the first; got the"
            f" system message {shown(system)} beside the prompt {shown(prompt)}"
        )
    if prompt[0]["role"] != "system":
        return [{"role": "system", "content": system}, *prompt]
    if prompt[0]["content"] != system:
        raise ValueError(
            f"a prompt has one system message, got {shown(system)} beside"
            f" {shown(prompt[0]['content'])}"
        )
    return prompt
