"""A reference that follows the policy which is trained against it."""

from __future__ import annotations

from typing import NamedTuple

from prefsim.checks import check_integer, check_interval
from prefsim.typing import ArrayT

__all__ = ["ReferenceUpdate"]


class ReferenceUpdate(NamedTuple):
    r"""How a reference follows the policy: TR-DPO's soft or hard update of its parameters.

    .. math:: \theta_{ref} \leftarrow \alpha\,\theta + (1 - \alpha)\,\theta_{ref}

    after every so many steps. A loss is then relative to where the policy was a while ago, so that
    training may go on beyond the neighbourhood of its start.

    Attributes
    ----------
    weight
        α in (0, 1]: below 1 the soft update, 1 the hard one.
    every
        Steps τ between updates, >= 1.

    References
    ----------
    Gorbatovski et al. 2024, "Learn Your Reference Model for Real Good Alignment" (TR-DPO),
    arXiv:2404.09656: soft with α = 0.6 at every step, hard with τ = 512.

    Examples
    --------
    >>> import numpy as np
    >>> ReferenceUpdate(0.75).mixed(np.asarray([0.0, 4.0]), np.asarray([1.0, 0.0]))
    array([0.75, 1.  ])
    >>> [step for step in range(1, 8) if ReferenceUpdate(1.0, every=3).is_due(step)]
    [3, 6]
    """

    weight: float = 0.6
    every: int = 1

    def checked(self) -> ReferenceUpdate:
        """Return the update, or raise ``ValueError`` where ``weight`` or ``every`` is out of range.

        A NamedTuple cannot look at its fields when it is made.
        """
        check_interval(reference_weight=self.weight, low=0.0, high=1.0, closed="right")
        check_integer(low=1, reference_every=self.every)
        return self

    def is_due(self, steps: int) -> bool:
        """Return whether the reference moves after this many steps."""
        return steps % self.every == 0

    def mixed(self, reference: ArrayT, policy: ArrayT) -> ArrayT:
        """Return the reference's next parameters, of any shape."""
        return self.weight * policy + (1 - self.weight) * reference
