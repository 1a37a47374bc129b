"""What every solver shares: the warning it gives when its certificate misses the tolerance."""

__all__ = ["ConvergenceWarning"]


class ConvergenceWarning(UserWarning):
    """A solver stopped before its certificate met the tolerance.

    The result says how far it came.
    """
