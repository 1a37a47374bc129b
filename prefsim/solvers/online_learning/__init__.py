"""Online learning: regularised and perturbed leaders, and linear attention as a learner."""
