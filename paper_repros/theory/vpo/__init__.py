"""The optimal value of a reward as its regulariser: added it is optimism, subtracted pessimism."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="vpo",
    title=(
        "Value-Incentivized Preference Optimization: A Unified Approach to Online and Offline RLHF"
    ),
    arxiv="2405.19320",
    year=2024,
    summary=(
        "The likelihood of a reward, plus or minus the value that its best policy would have, is"
        " DPO with a log-likelihood term on calibration responses: optimism for data gathered"
        " online, pessimism for data that are given."
    ),
    implements=(
        "prefsim.losses.vpo",
        "prefsim.solvers.closed_forms.regularised.calibrated_reward",
        "prefsim.solvers.closed_forms.regularised.calibrated_value",
        "prefsim.solvers.games.pessimism.PessimisticGame",
        "prefsim.solvers.games.pessimism.reward_misfit",
        "prefsim.solvers.games.optimism.optimistic_reward",
    ),
)
