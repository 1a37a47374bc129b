"""When a choice likelihood has a maximum: the graph of who beat whom must be strongly connected."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

__all__ = ["check_win_graph", "check_win_graphs", "named_items"]

# What an error message names; the rest is counted.
SHOWN_ITEMS = 8
SHOWN_GROUPS = 4
# Rounds of reachability tried by matrix products; well-connected comparisons need two.
ROUNDS = 6
REMEDY = "pass ridge > 0 (a normal prior on the rewards) or add comparisons"


def named_items(group: np.ndarray) -> str:
    """Write out the items of a group, the first few in full."""
    shown = ", ".join(map(str, group[:SHOWN_ITEMS]))
    return f"{{{shown}}}" if group.size <= SHOWN_ITEMS else f"{{{shown}, … ({group.size} items)}}"


def _groups(label: np.ndarray, which: np.ndarray) -> str:
    """Write out the items of the groups ``which`` of a labelling, the first few in full."""
    shown = ", ".join(named_items(np.flatnonzero(label == k)) for k in which[:SHOWN_GROUPS])
    return shown if which.size <= SHOWN_GROUPS else f"{shown}, … ({which.size} in all)"


def check_win_graph(wins: scipy.sparse.csr_array, *, where: str = "") -> None:
    """Raise unless the graph with an edge from each winner to each loser is strongly connected.

    Parameters
    ----------
    wins
        ``(n, n)``: stored entry (i, j) where i was preferred to j.
    where
        Which member of a batch this is, for the message.

    Raises
    ------
    ValueError
        Naming the components, or the groups of items that never lose to the others and those that
        never win against them.

    References
    ----------
    Ford 1957, "Solution of a ranking problem from binary comparisons"; Hunter 2004, "MM algorithms
    for generalized Bradley–Terry models", assumption 1 (doi:10.1214/aos/1079120141).
    """
    n = wins.shape[0]
    count, label = connected_components(wins, directed=True, connection="strong")
    if count == 1:
        return
    pieces, piece = connected_components(wins, directed=False)
    if pieces > 1:
        raise ValueError(
            f"no maximum exists{where}: the comparisons of {n} items fall into {pieces} components"
            f" {_groups(piece, np.arange(pieces))}, whose rewards cannot be compared; {REMEDY}"
        )
    winner, loser = wins.nonzero()
    crossing = label[winner] != label[loser]
    beaten, beating = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    beaten[label[loser][crossing]] = True
    beating[label[winner][crossing]] = True
    top, bottom = _groups(label, np.flatnonzero(~beaten)), _groups(label, np.flatnonzero(~beating))
    raise ValueError(
        f"no maximum exists{where}: the data are separable, items {top} never lose to the others"
        f" and items {bottom} never win against them, so rewards would grow without bound; {REMEDY}"
    )


def check_win_graphs(wins: np.ndarray) -> None:
    """Raise unless every member of ``wins`` ``(..., n, n)`` is strongly connected.

    Its entry is > 0 where i was preferred to j.
    """
    n = wins.shape[-1]
    batch = wins.shape[:-2]
    doubtful = ~(_all_reached(wins) & _all_reached(np.swapaxes(wins, -1, -2)))
    if not doubtful.any():
        return
    # One call for the whole batch: the members are blocks of a block-diagonal graph.
    members = np.argwhere(doubtful)
    member, winner, loser = np.nonzero(wins[doubtful] > 0)
    edges = (np.ones(member.size), (member * n + winner, member * n + loser))
    size = len(members) * n
    _, label = connected_components(
        scipy.sparse.coo_array(edges, shape=(size, size)).tocsr(),
        directed=True,
        connection="strong",
    )
    label = label.reshape(len(members), n)
    bad = (label != label[:, :1]).any(axis=-1)
    if bad.any():
        index = tuple(int(i) for i in members[bad.argmax()])
        member_name = index[0] if len(index) == 1 else index
        where = f" in member {member_name}" if batch else ""
        check_win_graph(scipy.sparse.csr_array(wins[index] > 0), where=where)


def _all_reached(edges: np.ndarray) -> np.ndarray:
    """Return which members have every item reached from item 0 within a few steps."""
    reached = np.zeros((*edges.shape[:-2], 1, edges.shape[-1]))
    reached[..., 0] = 1.0
    for _ in range(ROUNDS):
        reached = np.where((reached @ edges > 0) | (reached > 0), 1.0, 0.0)
        if reached.all():
            break
    return np.asarray(reached.all(axis=(-2, -1)))
