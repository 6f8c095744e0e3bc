"""`raises`: that a `UserError` of a certain code is raised, about a certain setting or place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from deeplab.utils.errors import UserError


@contextlib.contextmanager
def raises(code: str, field: str | None = None, where: object = None) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Passes if the block raises a UserError with this code.

    Args:
      code: the error's code.
      field: the setting at fault; unset = the error names none.
      where: text that the place at fault contains; unset = not compared.

    Yields:
      pytest's exception info, for further assertions on `.value` after the block.
    """
    with pytest.raises(UserError) as info:
        yield info
    error = info.value
    assert (error.code, error.field) == (code, field), error
    if where is not None:
        assert str(where) in error.where, error
