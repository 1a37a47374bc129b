"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="an objective may not fall below β times its value while another is improved",
        true=(
            "For values >= 0. Where returns are negative βJ asks for more than J and excludes the"
            " policy itself: in deep-sea treasure without a discount the fastest policy has no "
            "extension. J − (1 − β)·|J| does what is meant."
        ),
        known="`prefsim check c_morl`, `prefsim repro c_morl`",
    ),
    Erratum(
        kind="wrong",
        says="constraints fill the gaps of the front",
        true=(
            "Of policies that choose at random. Of finitely many (certain) policies β must fit "
            "the gaps: where neighbours keep .7 to .8 of each other in one objective, extensions "
            "from both ends find all for β = .65 to .7, none for β >= .85, and skip points for β "
            "<= .2."
        ),
        known="`prefsim check c_morl`",
    ),
    Erratum(
        kind="wrong",
        about="released code",
        says="the level of a constraint is a share of what the extended policy is worth",
        true=(
            "It is a share of the current batch's value, so that each update may lose 1 − β "
            "again: exact steps at β = .9 leave .66 of the other objective after four, where the "
            "level of the start keeps .9."
        ),
        known="`constraint_update` in `ppo.py` (commit a2d5ccc); `prefsim check c_morl`",
    ),
    Erratum(
        kind="wrong",
        about="released code",
        says="the closed form of the constrained step",
        true=(
            "Both gradients, and the inverse curvature times each, are first scaled to length "
            "one; products of the four then belong to no quadratic form. Of 2000 drawn steps with"
            " room for the constraint 31 % miss it, the median goes 2.2 times as far as the "
            "region allows, and 6 % have a negative number under the root."
        ),
        known="`constraint_update` in `ppo.py` (commit a2d5ccc); `prefsim check c_morl`",
    ),
    Erratum(
        kind="wrong",
        about="mo-gymnasium 1.3.2",
        says="`pareto_front(γ)` of resource gathering, and of deep-sea treasure",
        true=(
            "Of the first the safe tour to both resources is missing (18 steps, no enemy met, (0,"
            " γ¹⁷, γ¹⁷)), and all returns have a factor γ too many for rewards of gymnasium's "
            "steps. Of the second four of ten points are dominated at γ = .95."
        ),
        known="`tests/worlds/test_explored.py`, which walks the tour",
    ),
    Erratum(
        kind="less sharp",
        says="extensions raise hypervolume and expected utility",
        true=(
            "Hypervolume, above that of all policies that weighted sums can find (by .0015 to "
            ".017 in twenty drawn processes). Expected utility no: the corners of the front have "
            "the largest for linear preferences, and what lies between adds none."
        ),
        known="`prefsim check c_morl`, `prefsim repro c_morl`",
    ),
    Erratum(
        kind="less sharp",
        says="a log barrier is within (m − 1)/t of the constrained optimum",
        true=(
            "And loses it along the front, not off it: its own optimum is Pareto-optimal for "
            "every t."
        ),
        known="`prefsim check c_morl`, `prefsim repro c_morl`",
    ),
)
