"""A temperature for every anchor of a contrastive loss: the dual variable of a worst case."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="isogclr",
    title=(
        "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with Automatic"
        " Temperature Individualization"
    ),
    arxiv="2305.11965",
    year=2023,
    summary=(
        "The contrastive loss is a worst case over the negatives with a KL penalty. A KL ball in"
        " its place makes each anchor's temperature the dual variable of the radius, learned with"
        " the encoder; a moving mean of each anchor's normaliser serves small batches."
    ),
    implements=(
        "prefsim.losses.rgcl",
        "prefsim.losses.contrastive.rgcl_temperature",
        "prefsim.losses.constrained_dro.constrained_kl_dro",
        "prefsim.losses.contrastive_state.isogclr_update",
        "prefsim.losses.dro.kl_dro_dual",
    ),
)
