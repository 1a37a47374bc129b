"""Self-improvement and data.

A model makes its own data, and what is learned depends on who judges them, on what is kept of a
judgement, and on what the next generation is held to. `osp` lets the model judge itself and
learns from the strength of each preference. Its neighbours lie in other families: `rso` samples
from the optimum by rejection, `sppo` and `dno` play themselves, `srpo` revises,
`suboptimal_on_policy` asks when own samples are better than given ones, and `self_consuming` what
becomes of a model that eats what users keep of its samples.
"""
