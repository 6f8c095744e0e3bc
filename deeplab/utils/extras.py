"""Libraries that only some layouts need: they are extras of the installation, imported when they are first used."""

from __future__ import annotations

import importlib
from types import ModuleType

from deeplab.utils.errors import UserError

DISTRIBUTION = "deeplab-tensorflow"


def require(module: str, extra: str) -> ModuleType:
    """A module of an extra.

    Raises:
      UserError: it is not installed; the hint is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as fault:
        rule = f"cannot be imported ({fault}); it belongs to the extra {extra!r}"
        raise UserError(
            "missing-library",
            rule,
            f"pip install '{DISTRIBUTION}[{extra}]', or pip install -e '.[{extra}]' here",
            where=module,
        ) from None
