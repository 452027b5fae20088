"""Choosing from a set of names, with a hint when the name is unknown. Knows nothing of what is named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnknownName(ValueError):
    """A name that is not in the set; the message lists the set and the nearest name."""


def choose(name: str, known: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `known`; else raise UnknownName with "did you mean"."""
    known = list(known)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    raise UnknownName(f"unknown {what} {name!r}; {hint}")
