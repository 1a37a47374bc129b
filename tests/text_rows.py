"""Rows of text in the layouts that ``prefsim train`` reads, and what is read of them."""

from prefsim.lm import TextComparisons

USER, YES, NO = (
    {"role": role, "content": text}
    for role, text in (("user", "Is it good?"), ("assistant", "Yes."), ("assistant", "No."))
)
SYSTEM = {"role": "system", "content": "Be short."}
PAIR = {"prompt": "Is it good?", "chosen": " Yes.", "rejected": " No."}
HEAD = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Is it good?\n\nAssistant:"


def columns(data, *names):
    return tuple(list(getattr(data, name)) for name in names)


def pairs(found):
    assert isinstance(found.data, TextComparisons)
    return list(zip(*columns(found.data, "prompt", "chosen", "rejected"), strict=True))
