"""The one exception for bad input: what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The command line prints the message alone and ends with status 2."""

    def _render_traceback_(self) -> list[str]:
        """IPython calls this instead of printing a traceback: a notebook shows one clear line."""
        return [f"{type(self).__name__}: {self}"]


class RefusedError(UserError):
    """The question is well-formed and the answer is negative. The command line ends with status 1 instead."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """The closest allowed name as `; did you mean 'x'?`, or an empty string."""
    close = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown(kind: str, given: object, allowed: Iterable[str]) -> UserError:
    """The error for a name outside a closed set, listing the set."""
    names = sorted(allowed)
    hint = did_you_mean(str(given), names)
    return UserError(f"unknown {kind} {given!r}{hint or ';'} available: {', '.join(names)}")
