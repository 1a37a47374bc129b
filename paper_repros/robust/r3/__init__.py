"""A reward without preferences: relevance, and what keeps it from being hacked."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="r3",
    title="Preference-free Alignment Learning with Regularized Relevance Reward",
    arxiv="2402.03469",
    year=2024,
    summary=(
        "Reward models that learned from preferences rank long off-topic answers above short"
        " on-topic ones. Relevance to the query is a reward without preferences; a factor for"
        " length and one for trigrams that are not repeated keep it from being hacked."
    ),
    implements=(
        "prefsim.raters.proxy_reward",
        "prefsim.raters.relevance_reward",
        "prefsim.raters.white_box.length_incentive",
        "prefsim.raters.white_box.distinct_ngrams",
        "prefsim.raters.white_box.mean_pooled",
        "prefsim.solvers.closed_forms.regularised.gibbs_log_policy",
    ),
)
