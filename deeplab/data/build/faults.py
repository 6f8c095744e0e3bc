"""Pairs that cannot be used: named as they are met, until there are too many."""

from __future__ import annotations

from deeplab.errors import UserError

MOST_FAULTS = 10  # bad pairs named before a build gives up


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
        if len(self.met) == 1:
            raise self.met[0]
        if self.met:
            first, *rest = self.met
            others = "".join(f"\n    {fault.where}: {fault.rule}" for fault in rest)
            more = " (and perhaps more: the rest was not looked at)" if len(self.met) == MOST_FAULTS else ""
            rule = f"{first.rule}\n  and {len(rest)} more pairs of {self.total} cannot be used{more}:{others}"
            raise UserError(first.where, rule, first.remedy)
