"""Interprets the pickles in PyTorch files without running anything that they name.

A pickle is a program that may call any function of any module. This reader executes its instructions on plain data
only: a name becomes a `Name` and a call a `Call`, which record the name and the arguments and run nothing.
Only the names that tensors and the bookkeeping of a training need are accepted.
"""

from __future__ import annotations

import pickletools  # nosec B403  # it lists the instructions of a pickle and runs none
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deeplab.utils.errors import UserError

MAX_INSTRUCTIONS = 20_000_000

# Names that a state dict and the numbers beside it consist of; their calls stay unexecuted.
ALLOWED = {
    "collections": ("OrderedDict", "defaultdict", "Counter"),
    "torch._utils": ("_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_parameter"),
    "torch.nn.parameter": ("Parameter",),
    "torch": ("Size", "device", "dtype", "float32", "float16", "bfloat16", "Tensor"),
    "torch.serialization": ("_get_layout",),
    "argparse": ("Namespace",),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
    "numpy.dtypes": ("Float64DType", "Float32DType", "Int64DType"),
    "_codecs": ("encode",),
    "__builtin__": ("set", "int", "float", "bool", "str", "dict", "list"),
    "builtins": ("set", "int", "float", "bool", "str", "dict", "list"),
}
STORAGE = "Storage"  # torch.FloatStorage and so on


_DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError)


@dataclass(eq=False, repr=False)
class Name:
    """Something that a pickle names."""

    module: str
    name: str


@dataclass(eq=False, repr=False)
class Call:
    """A call that a pickle asks for, not executed.

    Attributes:
      function, arguments: as asked for.
      items: what was added to the result as to a dict.
    """

    function: Any
    arguments: Any
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class Reference:
    """A persistent id: in PyTorch's files a storage."""

    id: Any


def read(stream: Any, path: str) -> Any:
    """Return the content of one pickle; the stream is then at its end.

    Args:
      stream: at the start of a pickle, with `read` and `readline`.
      path: of the file, for messages.

    Returns:
      Numbers, texts, tuples, lists, dicts, sets, `Name`, `Call` and `Reference`.

    Raises:
      UserError: it is damaged (`damaged-checkpoint`), or names something other than tensors and numbers
        (`unsafe-pickle`).
    """
    try:
        return _Machine(path).run(stream)
    except UserError:
        raise
    except _DAMAGE as error:
        rule = f"its pickle is truncated or damaged: {str(error)[:100]}"
        hint = "download or copy the file again"
        raise UserError("damaged-checkpoint", rule, hint, where=path) from error


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, path: str):
        self.path = path
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if code.name == "STOP":
                return self.stack.pop()
            if number > MAX_INSTRUCTIONS:
                raise ValueError("too many instructions")
            if code.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[code.name]())
            elif code.name in _WITH_ARGUMENT:
                self.stack.append(argument)
            else:
                _INSTRUCTIONS[code.name](self, argument)
        raise ValueError("no end")

    def to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def put(self, index: Any) -> None:
        self.memo[int(index)] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: Any) -> None:
        self.stack.append(self.memo[int(index)])

    def make_tuple(self, _: Any) -> None:
        self.stack_items(tuple)

    def make_list(self, _: Any) -> None:
        self.stack_items(list)

    def stack_items(self, kind: Any) -> None:
        items = self.to_mark()
        self.stack.append(kind(items))

    def make_dict(self, _: Any) -> None:
        items = self.to_mark()
        self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def short_tuple(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise ValueError("too few values")
        del self.stack[-count:]
        self.stack.append(items)

    def name(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self.stack.append(self.allowed(module, name))

    def stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self.allowed(str(module), str(name)))

    def allowed(self, module: str, name: str) -> Name:
        if name in ALLOWED.get(module, ()) or (module == "torch" and name.endswith(STORAGE)):
            return Name(module, name)
        rule = f"its pickle names {module[:60]}.{name[:60]}, which is neither a tensor nor a number, and may run code"
        hint = "save the weights alone with the program that made it: torch.save(model.state_dict(), 'weights.pth')"
        raise UserError("unsafe-pickle", rule, hint, where=self.path, value=f"{module}.{name}"[:120])

    def call(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        is_dict = isinstance(function, Name) and function.name == "OrderedDict" and arguments == ()
        self.stack.append({} if is_dict else Call(function, arguments))

    def build(self, _: Any) -> None:
        self.stack.pop()  # attributes of the object below, which no tensor and no number has

    def reference(self, _: Any) -> None:
        self.stack.append(Reference(self.stack.pop()))

    def text_reference(self, argument: Any) -> None:
        self.stack.append(Reference(argument))

    def append(self, _: Any) -> None:
        value = self.stack.pop()
        self.add([value])

    def appends(self, _: Any) -> None:
        items = self.to_mark()
        self.add(items)

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(items)
        elif not isinstance(target, Call):
            raise ValueError("items are added to no list")

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_pairs([key, value])

    def set_items(self, _: Any) -> None:
        items = self.to_mark()
        self.set_pairs(items)

    def set_pairs(self, items: list[Any]) -> None:
        target = self.stack[-1]
        values = target.items if isinstance(target, Call) else target
        if not isinstance(values, dict):
            raise ValueError("pairs are added to no dict")
        values.update(zip(items[::2], items[1::2], strict=True))

    def drop(self, _: Any) -> None:
        self.stack.pop()

    def drop_to_mark(self, _: Any) -> None:
        self.to_mark()

    def double(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def nothing(self, _: Any) -> None:
        """Protocol numbers and frames."""


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_WITH_ARGUMENT = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "STRING"}
_WITH_ARGUMENT |= {"BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_WITH_ARGUMENT |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.nothing,
    "FRAME": _Machine.nothing,
    "MARK": _Machine.mark,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.short_tuple(1),
    "TUPLE2": lambda machine, _: machine.short_tuple(2),
    "TUPLE3": lambda machine, _: machine.short_tuple(3),
    "LIST": _Machine.make_list,
    "DICT": _Machine.make_dict,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.reference,
    "PERSID": _Machine.text_reference,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "POP": _Machine.drop,
    "POP_MARK": _Machine.drop_to_mark,
    "DUP": _Machine.double,
}
