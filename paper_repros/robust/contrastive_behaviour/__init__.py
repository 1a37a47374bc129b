"""How the temperature of a contrastive loss chooses which negatives it pushes away."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="contrastive_behaviour",
    title="Understanding the Behaviour of Contrastive Loss",
    arxiv="2012.09740",
    year=2020,
    summary=(
        "The gradient of the softmax contrastive loss weighs negatives by a Boltzmann law: small"
        " temperatures push away the nearest ones and spread embeddings evenly, large ones push all"
        " alike and tolerate what is of one class. Keeping hard negatives alone restores the first"
        " at large temperatures."
    ),
    implements=(
        "prefsim.losses.infonce",
        "prefsim.losses.simple_contrastive",
        "prefsim.losses.contrastive.negative_weights",
        "prefsim.analysis.uniformity",
        "prefsim.analysis.tolerance",
    ),
)
