"""Policies: tabular softmax, log-linear in features, token trees, small networks."""

from prefsim.policies.base import InMemoryPolicy
from prefsim.policies.loglinear import LogLinearPolicy
from prefsim.policies.network import NetworkPolicy
from prefsim.policies.tabular import TabularPolicy
from prefsim.policies.tokens import TokenTreePolicy

__all__ = ["InMemoryPolicy", "LogLinearPolicy", "NetworkPolicy", "TabularPolicy", "TokenTreePolicy"]


def __dir__() -> list[str]:
    return sorted(__all__)
