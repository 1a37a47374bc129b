"""A head of its own for the distillation of logits, which pulls the classifier's head apart."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="dhkd",
    title=("Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary Head"),
    arxiv="2411.08937",
    year=2024,
    summary=(
        "Softmax distillation does not see what shifts all logits; a loss on each logit does, and"
        " on the head of the cross-entropy it pulls the other way. An auxiliary head takes it, with"
        " a bounded gradient that gives way where it opposes the cross-entropy."
    ),
    implements=(
        "prefsim.losses.binary_kl",
        "prefsim.losses.binary_kl_norm",
        "prefsim.losses.distillation_kl",
        "prefsim.analysis.backbone_conflict",
        "prefsim.analysis.head_conflict",
        "prefsim.solvers.optimisers.gradient_alignment.aligned_gradient",
        "prefsim.solvers.optimisers.gradient_alignment.without_conflict",
    ),
)
