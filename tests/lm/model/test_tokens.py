"""Token ids in padded batches."""

import pytest

from prefsim.lm import Tokens, collate


def test_batches():
    rows = [Tokens([1, 5], [6, 7, 2]), Tokens([1], [2])]
    right = collate(rows, pad_id=9)
    assert right.input_ids.tolist() == [[1, 5, 6, 7, 2], [1, 2, 9, 9, 9]]
    assert right.attention_mask.tolist() == [[True] * 5, [True, True, False, False, False]]
    assert right.completion_mask.tolist() == [
        [False, False, True, True, True],
        [False, True, False, False, False],
    ]
    left = collate(rows, pad_id=9, side="left", multiple_of=4)
    assert left.input_ids.tolist() == [[9, 9, 9, 1, 5, 6, 7, 2], [9, 9, 9, 9, 9, 9, 1, 2]]
    assert left.completion_mask.sum(dim=1).tolist() == [3, 1]
    assert left.to("cpu").input_ids is not None


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "at least one sequence"),
        ([Tokens([1], [2]), Tokens([1], [])], {}, "row 1 has a completion without tokens"),
        ([Tokens([], [2])], {}, "row 0 has a prompt without tokens"),
        ([Tokens([1], [2])], {"side": "top"}, "side must be one of"),
        ([Tokens([1], [2])], {"multiple_of": 0}, "multiple_of must be an integer >= 1"),
    ],
)
def test_bad_batches(rows, options, message):
    with pytest.raises(ValueError, match=message):
        collate(rows, pad_id=0, **options)
