"""Every preference structure as a loss: what it says of a pair, priced by a link.

A loss in the library's sense of any pair of formulas of :mod:`prefsim.logic`, from those that have
a name to those that nobody has tried.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from prefsim.checks import check_choice, check_flag, check_positive, check_within
from prefsim.containers import PairLogps
from prefsim.logic import NAMED_STRUCTURES, PreferenceStructure, log_count_ratio
from prefsim.logic.structures import LABELS, LIFTS, PAIR_ATOMS, REFERENCE_ATOMS, check_has_score
from prefsim.losses.edge import checked
from prefsim.losses.links import LINKS, linked
from prefsim.losses.pair_fields import check_shapes, length_of
from prefsim.losses.pairwise import mean_logps
from prefsim.numerics import array_namespace, widened
from prefsim.typing import Array, ArrayT, Number

__all__ = ["from_structure", "semantic", "structure_of"]

# Which log-probability an atom has, by its name without the number of its copy.
_FIELDS = {"W": "chosen", "L": "rejected", "Rw": "ref_chosen", "Rl": "ref_rejected"}


@checked
def semantic(
    logps: PairLogps[ArrayT],
    *,
    structure: str | PreferenceStructure = "cCPO",
    link: str = "logistic",
    beta: Number = 1.0,
    reference: str = "none",
    average: bool = False,
) -> ArrayT:
    r"""Loss of a preference structure, a link of its score, one value per pair.

    .. math:: \rho = \log\frac{\mathrm{WMC}(T)}{\mathrm{WMC}(B)}

    for the formulas T and B of the structure, whose worlds count for and against, where the model
    deems a response valid with its probability, each response independently of the other.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)`` and at most 0.
    structure
        What is said of a pair. One of the names of :data:`prefsim.logic.NAMED_STRUCTURES`; or a
        label for each world, such as ``b+-n`` (``+`` for, ``-`` against, ``n`` neither, ``b``
        both), four over the atoms W, L (chosen, rejected) and sixteen over W, L, Rw, Rl (the same
        of the reference); or a :class:`prefsim.logic.PreferenceStructure` over these atoms and
        numbered copies of them.
    link
        ``"logistic"`` :math:`-\log\sigma(\beta\rho)`, ``"squared"``
        :math:`(\rho - \frac{1}{2\beta})^2`, ``"hinge"`` :math:`\max(0, 1 - \beta\rho)` or
        ``"perceptron"`` :math:`\max(0, -\beta\rho)`.
    beta
        Scale of the score, > 0.
    reference
        ``"none"``; ``"log_ratio"`` for the score less
        :math:`\log\pi_{ref}(y_w)/\pi_{ref}(y_l)`; ``"full"`` for the score less that of the
        reference.
    average
        Divide each log-probability by its sequence's scored tokens; needs both lengths. Of whole
        sequences :math:`1 - p` is 1 to rounding, which makes ORPO and cCPO the same as CPO.

    Returns
    -------
    Array ``(..., n)``. Probabilities within one rounding of 1 count as that far from it.

    Raises
    ------
    ValueError
        If an option is out of range, a world for or against is missing, a structure that is over
        the reference is given a reference once more, a log-probability is positive, or shapes
        differ.

    References
    ----------
    Richardson, Srikumar and Sabharwal 2024, sections 4 and 5, arXiv:2412.17696. Xu et al. 2018, "A
    semantic loss function for deep learning with symbolic knowledge", arXiv:1711.11157.

    Examples
    --------
    >>> import numpy as np
    >>> pair = PairLogps(*np.log([[0.6], [0.3], [0.5], [0.4]]))
    >>> semantic(pair, structure="ORPO").round(8), semantic(pair, structure="n+-n").round(8)
    (array([0.25131443]), array([0.25131443]))

    CPO relative to a reference is DPO:

    >>> semantic(pair, structure="CPO", reference="log_ratio", beta=0.1).round(8)
    array([0.6699231])
    """
    check_choice(LINKS, link=link)
    check_positive(arrays=True, beta=beta)
    check_choice(("none", *LIFTS), reference=reference)
    check_flag(average=average)
    meaning = structure_of(structure)
    check_shapes(logps)
    score = _score(meaning, logps, average=average)
    if reference != "none" and meaning.atoms != PAIR_ATOMS:
        raise ValueError(
            f"reference must be 'none' for a structure over {', '.join(meaning.atoms)}, got"
            f" {reference!r}: it is for structures over {', '.join(PAIR_ATOMS)}"
        )
    if reference == "log_ratio":
        own = logps._replace(chosen=logps.ref_chosen, rejected=logps.ref_rejected)
        chosen, rejected = mean_logps(own) if average else (own.chosen, own.rejected)
        score = score - (chosen - rejected)
    elif reference == "full":
        score = score - _score(meaning, logps, average=average, whose="ref_")
    return linked(score, link, beta)


def from_structure(
    structure: str | PreferenceStructure, **options: Any
) -> Callable[[PairLogps[Any]], Array]:
    """Return the loss of a preference structure: :func:`semantic` with its options.

    Parameters
    ----------
    structure
        A name, labels, or a :class:`prefsim.logic.PreferenceStructure`.
    **options
        Of :func:`semantic`, checked here.

    Returns
    -------
    A loss of pairs, for :func:`prefsim.solvers.fit` and whatever else takes one.

    Raises
    ------
    ValueError
        As :func:`semantic`.

    Examples
    --------
    "The chosen response is valid, and the rejected one is not", which is unlikelihood training:

    >>> import numpy as np
    >>> from prefsim.logic import PreferenceStructure, atoms
    >>> valid, other = atoms("W", "L")
    >>> loss = from_structure(PreferenceStructure.of(valid & ~other))
    >>> pair = PairLogps(*np.log([[0.6], [0.3], [0.5], [0.5]]))
    >>> print(loss(pair).round(8), np.log(0.6 * 0.7).round(8))
    [0.86750057] -0.86750057
    """
    loss: Callable[..., Array] = functools.partial(semantic, structure=structure, **options)
    # Losses check their options when they are called.
    loss(PairLogps.example())
    return loss


def structure_of(structure: str | PreferenceStructure) -> PreferenceStructure:
    """Return a structure that may be given by its name or its labels.

    Raises
    ------
    ValueError
        If it is none, has no world for or none against, or has an atom that is no response's.
    """
    if isinstance(structure, str):
        return _named(structure)
    if not isinstance(structure, PreferenceStructure):
        raise ValueError(_expected(structure))
    return _with_score(structure)


@functools.cache
def _named(structure: str) -> PreferenceStructure:
    if structure in NAMED_STRUCTURES:
        return NAMED_STRUCTURES[structure]
    for atoms in (PAIR_ATOMS, PAIR_ATOMS + REFERENCE_ATOMS):
        if len(structure) == 2 ** len(atoms) and not set(structure) - set(LABELS):
            return _with_score(PreferenceStructure.from_labels(structure, atoms))
    raise ValueError(_expected(structure))


def _with_score(structure: PreferenceStructure) -> PreferenceStructure:
    check_has_score(structure)
    for atom in structure.atoms:
        _field_of(atom)
    return structure


def _expected(structure: Any) -> str:
    return (
        f"structure must be one of {', '.join(map(repr, NAMED_STRUCTURES))}, a label"
        f" ({' '.join(LABELS)}) for each of 4 or 16 worlds, or a PreferenceStructure, got"
        f" {structure!r}"
    )


def _field_of(atom: str) -> str:
    """Return the field that holds an atom's log-probability; copies share one."""
    field = _FIELDS.get(re.sub(r"\d+$", "", atom))
    if field is None:
        raise ValueError(
            f"structure must be over {', '.join(_FIELDS)} and numbered copies of them, got atom"
            f" {atom!r}"
        )
    return field


def _score(
    structure: PreferenceStructure, logps: PairLogps[Any], *, average: bool, whose: str = ""
) -> Any:
    """Return a structure's score, ``(..., n)``, in the precision of the log-probabilities.

    Of the model, or of the reference by the prefix of its fields.
    """
    xp = array_namespace(logps.chosen)
    columns = {}
    for field in {whose + _field_of(atom): None for atom in structure.atoms}:
        logp = getattr(logps, field)
        check_within(logp, field, "be the logarithm of a probability, at most 0", high=0.0)
        if average:
            response = field.removeprefix("ref_")
            logp = logp / length_of(logps, f"{response}_length")
        wide = widened(logp)
        # The complement of what is certain has no logarithm.
        columns[field] = xp.clip(wide, None, -float(xp.finfo(wide.dtype).eps))
    by_atom = xp.stack([columns[whose + _field_of(atom)] for atom in structure.atoms], axis=0)
    # The last axis by name alone: an atom's column stays in one piece.
    log_probs = xp.moveaxis(by_atom, 0, -1)
    score = log_count_ratio(structure, log_probs)
    return xp.astype(score, logps.chosen.dtype, copy=False)
