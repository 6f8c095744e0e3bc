"""A registry: named objects of one kind, to which other modules and users can add.

Owns lookup, lazy import and the message for an unknown name. Every extension point of the project is one (losses,
optimizers, schedules, augmentations, callbacks, readers, checks, export formats, runtimes); `docs/layout.md` lists
them. It knows nothing of what it holds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from deeplab.utils.errors import UserError, nearest

Item = TypeVar("Item")


class Registry(Generic[Item]):
    """Items by name.

    Args:
      kind: what the items are, in the singular, for messages ("loss", "export format").
      field: name of the setting that chooses an item, for messages.

    Example:
      >>> losses: Registry[Callable] = Registry("loss", field="loss")
      >>> @losses.register("dice")
      ... def dice(logits, labels, weights): ...
      >>> losses.get("dice")
    """

    def __init__(self, kind: str, field: str | None = None):
        self.kind, self.field = kind, field
        self._items: dict[str, Item] = {}
        self._modules: dict[str, str] = {}
        self._summaries: dict[str, str] = {}

    def register(self, name: str) -> Callable[[Item], Item]:
        """A decorator that adds an item under a name.

        Raises:
          ValueError: the name is taken by another item.
        """

        def add(item: Item) -> Item:
            if name in self._items and self._items[name] is not item:
                raise ValueError(f"the {self.kind} {name!r} is registered already")
            self._items[name] = item
            return item

        return add

    def register_lazily(self, name: str, module: str, summary: str = "") -> None:
        """Announces a name whose module registers the item when it is imported, at the first `get`.

        Args:
          name: the item's name.
          module: the module, as one imports it.
          summary: one line for lists of all items, which can then be printed without importing the modules.

        Raises:
          ValueError: the name is announced for another module already.
        """
        if self._modules.get(name, module) != module:
            raise ValueError(f"the {self.kind} {name!r} is registered already")
        self._modules[name] = module
        self._summaries[name] = summary

    def get(self, name: str) -> Item:
        """The item of a name.

        Raises:
          UserError: there is none (code `unknown-name`); the hint names the nearest.
        """
        if name not in self._items and name in self._modules:
            importlib.import_module(self._modules[name])
        if name not in self._items:
            rule = f"there is no {self.kind} called {name!r}"
            raise UserError("unknown-name", rule, nearest(name, self.names()), field=self.field, value=name)
        return self._items[name]

    def names(self) -> list[str]:
        """All names, in the order of their registration."""
        return list(dict.fromkeys([*self._modules, *self._items]))

    def summary(self, name: str) -> str:
        """The line that describes an item in lists; empty where its registration gave none."""
        return self._summaries.get(name, "")

    def __contains__(self, name: object) -> bool:
        return name in self._items or name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
