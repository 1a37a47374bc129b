"""Regret, sequences and reinforcement learning.

A response is a sequence of decisions. `regret_preference` says what people compare in sequences
and `cpl` learns a policy from it at once; `rto` and `sparsepo` look for the tokens that deserve
the credit, by a reward and by a weight; `unpacking_dpo_ppo` asks what a reward model adds at all.
`llm_regret` and `adversarial_mdp` measure agents by what they regret, with all losses seen or
those of the visited path alone. `constrained_rlhf` and `c_morl` hold some rewards while others
rise, once under a KL penalty, where optima are unique, and once without. `pearl` carries labels
over from another task.
"""
