"""Pairs that cannot be used: named as they are met, until there are too many."""

from __future__ import annotations

from collections.abc import Sequence

from deeplab.utils.errors import UserError

MOST_FAULTS = 10  # named before reading or building gives up


class Faults:
    """Bad pairs: after ten, or at the end, the build stops and names them.

    Args:
      total: number of pairs of the build, for the message.
    """

    def __init__(self, total: int):
        self.total = total
        self.met: list[UserError] = []

    def add(self, fault: UserError) -> None:
        """Takes one more.

        Raises:
          UserError: these are too many.
        """
        self.met.append(fault)
        if len(self.met) == MOST_FAULTS:
            self.stop()

    def stop(self) -> None:
        """Raises what was met, if anything was."""
        if self.met:
            raise joined(self.met, f"more pairs of {self.total} cannot be used")


def joined(faults: Sequence[UserError], what: str) -> UserError:
    """One error for several, at least one: the first with its hint, and the others in a line each.

    Args:
      faults: in the order in which they were met.
      what: what stands after the number of the others, such as "more faults".
    """
    first, *rest = faults
    if not rest:
        return first
    others = "".join(f"\n    {fault.where}: {fault.rule}" for fault in rest)
    more = " (and perhaps more: the rest was not looked at)" if len(faults) == MOST_FAULTS else ""
    rule = f"{first.rule}\n  and {len(rest)} {what}{more}:{others}"
    return UserError(first.code, rule, first.hint, field=first.field, where=first.where, value=first.value)
