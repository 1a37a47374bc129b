"""Analyses: value, coverage and regret of policies."""
