"""Online learning: follow the regularised or the perturbed leader, and what it is judged by."""
