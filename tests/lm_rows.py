"""Four rows of tokens, and their log-probabilities by transformers alone."""

import torch

from prefsim.lm import Tokens

ROWS = [
    Tokens([1, 20, 30, 40], [50, 60, 2]),
    Tokens([1], [70]),
    Tokens([1, 9, 8], [7, 6, 5, 4, 3, 2]),
    Tokens([5, 5], [5, 5]),
]
PROMPTS = [row.prompt_ids for row in ROWS]
COMPLETIONS = [row.completion_ids for row in ROWS]


def expected(model, row):
    """Token log-probabilities of one sequence alone, by transformers' logits and a log-softmax."""
    ids = torch.tensor([row.prompt_ids + row.completion_ids])
    with torch.no_grad():
        logs = torch.log_softmax(model(input_ids=ids).logits.double(), dim=-1)[0]
    start = len(row.prompt_ids)
    return torch.stack([logs[start + t - 1, token] for t, token in enumerate(row.completion_ids)])


def assert_scores(policy, tolerance=1e-5):
    logps, mask = policy.token_log_probs(PROMPTS, COMPLETIONS, batch_size=3)
    assert mask.sum(dim=1).tolist() == [3, 1, 6, 2]
    for row, found, kept in zip(ROWS, logps, mask, strict=True):
        torch.testing.assert_close(
            found[kept].double(), expected(policy.model, row), rtol=0, atol=tolerance
        )
        assert not found[~kept].any()
    totals = torch.stack([expected(policy.model, row).sum() for row in ROWS])
    torch.testing.assert_close(
        policy.log_prob(PROMPTS, COMPLETIONS), totals, rtol=0, atol=2 * tolerance
    )
