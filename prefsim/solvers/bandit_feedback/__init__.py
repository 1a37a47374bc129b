"""Bandit feedback: what the losses that were met alone say of all others, and how to explore."""
