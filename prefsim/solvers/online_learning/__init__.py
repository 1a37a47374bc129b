"""Online learning: Hedge, regularised and perturbed leaders, linear attention as a learner."""
