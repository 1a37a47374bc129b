"""Weights on tokens, many of them zero, in a token-level DPO: off activations, or learned."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="sparsepo",
    title="SparsePO: Controlling Preference Alignment of LLMs via Sparse Token Masks",
    arxiv="2410.05102",
    year=2024,
    summary=(
        "Each token of a response gets a weight on its log-ratio and one on its KL divergence,"
        " taken off the reference's activations or learned by a small ReLU unit that makes many of"
        " them exactly zero: token-level DPO that looks for the tokens a preference is about."
    ),
    implements=(
        "prefsim.losses.sparse_po",
        "prefsim.losses.tokenwise.token_score",
        "prefsim.losses.activation_weights",
        "prefsim.losses.relu_weights",
        "prefsim.losses.token_sparsity",
    ),
)
