"""Do language models regret: agents against sequences of losses, in games, and without labels."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="llm_regret",
    title="Do LLM Agents Have Regret? A Case Study in Online Learning and Games",
    arxiv="2403.16843",
    year=2024,
    summary=(
        "Agents are measured by their regret against sequences of losses and in games. Who imitates"
        " noisy people follows the perturbed leader, and a loss without labels, a soft maximum of"
        " regrets, teaches one layer of attention to follow a regularised one."
    ),
    implements=(
        "prefsim.losses.regret_loss",
        "prefsim.losses.online.regret_path",
        "prefsim.solvers.online_learning.hedge.hedge",
        "prefsim.solvers.online_learning.hedge.importance_weighted_loss",
        "prefsim.solvers.online_learning.ftrl.ftrl",
        "prefsim.solvers.online_learning.ftrl.ftrl_ball",
        "prefsim.solvers.online_learning.ftpl.ftpl",
        "prefsim.solvers.online_learning.ftpl.posterior_scale",
        "prefsim.solvers.online_learning.linear_attention.attention_decisions",
        "prefsim.solvers.games.correlated.averaged_play",
        "prefsim.solvers.games.correlated.coarse_correlated_gaps",
        "prefsim.solvers.games.correlated.correlated_gaps",
        "prefsim.analysis.external_regret",
        "prefsim.analysis.dynamic_regret",
        "prefsim.analysis.swap_regret",
        "prefsim.analysis.loss_variation",
        "prefsim.analysis.regret_trend_test",
        "prefsim.analysis.regret_regression_test",
    ),
)
