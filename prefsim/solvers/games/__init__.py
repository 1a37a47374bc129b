"""Equilibria of preference games: certificates, methods, general preference models."""
