"""Analyses.

These ask what training does, whichever the loss. Some follow the likelihoods: `ranking_accuracy`
says which pairs the optimum can rank at all, `gradient_entanglement` when both responses of a
pair rise or fall, `likelihood_displacement` which pairs do it, and `three_d_properties` where the
mass goes. Others are about data that do not cover: `hypo_coverage` says what has to be covered,
`suboptimal_on_policy` what own samples repair, `rpo_overopt` and `vpo` how a pessimist or an
optimist regularises. `logic_dpa` reads losses as statements and orders them; `self_consuming`
follows a model that eats its own curated samples; `utility_probability` asks when a sharper
probability decides better.
"""
