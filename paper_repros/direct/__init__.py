"""Direct alignment.

All of these train a policy by a loss of its own log-probabilities, without a reward model, and
each changes one part of DPO. `dpo_survey` is the frame: it sorts the losses by the part that they
change and places all of them on one plane of reward and divergence. `f_dpo` changes the
divergence, and with it what is fitted; `asft` and `bco` score the two responses one by one, so
that `bco` needs no pairs at all; `npo` and `d2o` have rejected responses only, and differ in what
keeps the policy where it was: a slope that dies away, or fresh samples of the model. `spo_degree`
adds to any of them a loss of the hidden states. `rso` changes the data and not the loss: it draws
pairs from the optimum that the others approach.
"""
