"""Classes learned with preferences: which of two examples of a class is more typical of it."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="p2c",
    title="Prefer to Classify: Improving Text Classifiers via Auxiliary Preference Learning",
    arxiv="2306.04925",
    year=2023,
    summary=(
        "Beside its class, an example is compared with another of that class: which is more typical"
        " of it. Class probabilities are kept consistent with these preferences, and an ensemble of"
        " heads, held apart by a diversity term, learns them with the same encoder."
    ),
    implements=(
        "prefsim.losses.p2c",
        "prefsim.losses.paired_classes.head_preference",
        "prefsim.losses.paired_classes.head_diversity",
        "prefsim.losses.paired_classes.preference_consistency",
        "prefsim.losses.paired_classes.vote_consistency",
        "prefsim.losses.paired_classes.preference_probability",
        "prefsim.data.class_pairs.random_partner_law",
        "prefsim.data.class_pairs.disagreement_law",
        "prefsim.data.class_pairs.inconsistency_law",
        "prefsim.data.class_pairs.annealed_law",
    ),
)
