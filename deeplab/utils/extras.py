"""Libraries that only some features need: extras of the installation, imported at their first use."""

from __future__ import annotations

import importlib
from types import ModuleType

from deeplab.utils.errors import UserError

DISTRIBUTION = "deeplab-tensorflow"


def require(module: str, extra: str) -> ModuleType:
    """Return a module of an extra.

    Raises:
      UserError: it is not installed; the hint is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        rule = f"cannot be imported ({problem}); it belongs to the extra {extra!r}"
        hint = f"pip install '{DISTRIBUTION}[{extra}]', or pip install -e '.[{extra}]' in the repository"
        raise UserError("missing-library", rule, hint, where=module) from None
