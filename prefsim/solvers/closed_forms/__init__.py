"""Optima that have a formula."""
