"""Policies: tabular softmax, log-linear in features, token trees, small networks."""

from prefsim.policies.base import InMemoryPolicy
from prefsim.policies.loglinear import LogLinearPolicy
from prefsim.policies.tabular import TabularPolicy

__all__ = ["InMemoryPolicy", "LogLinearPolicy", "TabularPolicy"]
