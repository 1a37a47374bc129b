"""Rounds of sampling, judging and training with language models."""
