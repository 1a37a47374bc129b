"""Robust, contrastive and reward models.

A label may be wrong, doubtful, somebody else's or missing. One function runs through most of the
losses, the worst mean over laws that pay for every nat: it is `ldr` over labels and `isogclr`
over negatives, `contrastive_behaviour` says what its temperature does, and `comp_sum` bounds the
errors of its relatives. `rdpo` takes out flips at a known rate; `secrets_rm` looks for the labels
to doubt; `p2c` learns from comparisons within a class. `hybrid_routing` decides whose label is
asked for, and `preference_dissection` what judges look at. `dhkd` learns from a teacher's scores,
`ibcl` keeps a posterior of every task, and `r3` does without labels.
"""
