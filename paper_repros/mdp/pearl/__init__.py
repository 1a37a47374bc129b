"""Labels of one robot's task serve another through a coupling; a reward says how sure it is."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="pearl",
    title=(
        "PEARL: Zero-shot Cross-task Preference Alignment and Robust Reward Learning for Robotic"
        " Manipulation"
    ),
    arxiv="2306.03615",
    year=2023,
    summary=(
        "Trajectories of two tasks are matched by their distances alone (Gromov–Wasserstein), and"
        " the coupling carries preference labels from one to the other. As these are noisy, the"
        " reward that is learned from them is normal, with a spread that is kept from vanishing."
    ),
    implements=(
        "prefsim.solvers.coupled_distances.distance_matrix",
        "prefsim.solvers.gromov_wasserstein.gromov_wasserstein",
        "prefsim.solvers.coupled_distances.gromov_wasserstein_cost",
        "prefsim.solvers.coupled_distances.gromov_wasserstein_gradient",
        "prefsim.solvers.gromov_wasserstein.entropic_gromov_wasserstein",
        "prefsim.solvers.gromov_wasserstein.stationarity_gap",
        "prefsim.data.cross_task.transferred_preference",
        "prefsim.losses.gaussian_bradley_terry",
        "prefsim.losses.gaussian_rewards.entropy_hinge",
        "prefsim.raters.logistic_normal.softplus_of_law",
        "prefsim.raters.logistic_normal.log_sigmoid_of_law",
        "prefsim.solvers.likelihood.reward_heads.fit_reward_heads",
    ),
)
