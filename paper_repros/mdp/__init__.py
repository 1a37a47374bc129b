"""Regret, sequences and reinforcement learning."""
