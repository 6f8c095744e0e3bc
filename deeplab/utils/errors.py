"""What a user did that cannot work, said so that they can mend it."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: a file, a flag or a value that breaks a rule.

    Commands print it as `error: ...` and exit with code 1, without a traceback. The text names where
    the fault is, the rule, the value met and the remedy.

    Args:
      where: the file or flag at fault, e.g. `--train_crop_size` or `masks/0007.png`.
      rule: what must hold, with the value met.
      remedy: what to do now, worked out for the user.
    """

    def __init__(self, where: object, rule: str, remedy: str = ""):
        self.where, self.rule, self.remedy = str(where), rule, remedy
        super().__init__(f"{where}: {rule}" + (f"\n  remedy: {remedy}" if remedy else ""))


def nearest(word: str, choices: list[str]) -> str:
    """`did you mean X?` for a misspelled name, or the list of choices when none is near."""
    import difflib

    near = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {near[0]!r}?" if near else "choose from " + ", ".join(sorted(choices))
