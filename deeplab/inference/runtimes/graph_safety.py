"""What a TensorFlow graph may do when it runs: checked before the first run, with a time limit for loops.

A model file is a program. Of TensorFlow's operations, those without state are allowed, except a few that read files or
call other code, and a list of those with state that only touch the model's own memory. Everything else (files, Python,
sockets, libraries, queues, devices) is refused unless the user trusts the file. docs/security.md explains the rule.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import tensorflow as tf
from tensorflow.python.eager import cancellation
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import loader_impl

from deeplab.checkpoint.restore import require_finite
from deeplab.utils.errors import UserError

# Operations with state that touch only the model's own variables, tables, arrays and random numbers.
_HARMLESS = re.compile(
    r"Assert|Assign(Add|Sub)?VariableOp|ReadVariableOp|VarHandleOp|VarIsInitializedOp|Variable(V2|Shape)?"
    r"|DestroyResourceOp|DisableCopyOnRead|ResourceGather(Nd)?|ResourceScatter\w+|ResourceStridedSliceAssign|Empty"
    r"|If|Case|While|StatefulPartitionedCall|GuaranteeConst|CheckNumerics(V2)?|TensorArray\w*|Stack\w*|DeviceIndex"
    r"|(Anonymous)?(Mutable)?(Dense)?HashTable\w*|LookupTable\w+V2|InitializeTableV2|Timestamp|Print"
    r"|Random(Uniform(Int)?|StandardNormal|Shuffle|Gamma|PoissonV2|Crop)|TruncatedNormal|Multinomial"
    r"|Stateful(Uniform\w*|StandardNormal(V2)?|TruncatedNormal)|RngSkip|RngReadAndSkip|StatelessRandomGetAlg"
)
# Operations without state that read files, call Python or other programs, or were made for other machines.
_HARMFUL = re.compile(
    r"ReadFile|MatchingFiles|\w*PyFunc\w*|(De|En)codeProto\w*|\w*Dataset\w*|Reader\w+|\w*Summary\w*|Debug\w*|Copy(Host)?"
    r"|InitializeTableFromTextFile|GenerateVocabRemapping|TPU\w*|Xla\w*|Remote\w+|RegisterDataset\w*|TRTEngineOp|_.*"
)
_RESTORING = re.compile(r"Restore(V2|Slice)?")  # a SavedModel of TensorFlow 1 reads its own variables with these
_LOOPS = ("While", "StatelessWhile", "NextIteration", "RefNextIteration")
SECONDS, SECONDS_PER_MEGAPIXEL = 60.0, 60.0  # time limit of one run of a graph with loops
_MIN_WEIGHTS = 16  # values of a constant that counts as weights

Node = Any  # tf.compat.v1.NodeDef
Nodes = dict[str, Node]
Result = TypeVar("Result")


def check_graph(
    definition: tf.compat.v1.GraphDef, outputs: Sequence[str], where: str, trusted: bool = False
) -> tuple[tf.compat.v1.GraphDef, bool]:
    """Check a frozen graph before it is imported.

    Args:
      definition: the graph.
      outputs: names of the nodes that are wanted.
      where: the file, for messages.
      trusted: allow all operations.

    Returns:
      The nodes on which the outputs depend as a graph of their own, and whether it has loops.

    Raises:
      UserError: an operation is unsafe or unknown, a function calls itself, or weights are not finite.
    """
    part = tf.compat.v1.GraphDef()
    part.node.extend(_ancestors({node.name: node for node in definition.node}, outputs))
    part.library.CopyFrom(definition.library)
    part.versions.CopyFrom(definition.versions)
    used = list(_used_nodes(part, outputs, where))
    _require_known(used, part, where)
    if not trusted:
        _require_safe(used, where)
        for node in used:
            if node.op == "Const":
                _require_finite_constant(node, where)
    return part, _has_loops(used)


def check_saved_model(folder: str, trusted: bool = False) -> bool:
    """Check a SavedModel before it is loaded, which runs parts of it; whether it has loops. See `check_graph`."""
    has_loops = False
    for meta_graph in loader_impl.parse_saved_model(folder).meta_graphs:
        definition = meta_graph.graph_def
        functions = meta_graph.object_graph_def.concrete_functions  # loading calls some of them
        used = list(_used_nodes(definition, _entry_points(meta_graph), folder, functions))
        _require_known(used, definition, folder)
        has_loops |= _has_loops(used)
        if trusted:
            continue
        _require_safe(used, folder)
        saver = meta_graph.saver_def
        if saver.restore_op_name and not meta_graph.HasField("object_graph_def"):  # TensorFlow 1 restores by its graph
            restoring = _used_nodes(definition, [saver.restore_op_name], folder)
            _require_safe([node for node in restoring if not _RESTORING.fullmatch(node.op)], folder)
    return has_loops


def run_limited(function: Callable[[], Result], where: str, limited: bool, megapixels: float = 0.0) -> Result:
    """Call a function that runs a graph; with `limited`, stop it when it takes too long.

    Raises:
      UserError: it was stopped.
    """
    if not limited:
        return function()
    seconds = SECONDS + SECONDS_PER_MEGAPIXEL * megapixels
    manager = cancellation.CancellationManager()
    timer = threading.Timer(seconds, manager.start_cancel)
    timer.daemon = True
    timer.start()
    try:
        with cancellation.CancellationManagerContext(manager):
            return function()
    except tf.errors.CancelledError:
        rule = f"did not finish within {seconds:.0f} seconds: it may hold an endless loop"
        hint = "use another file; if you trust this one, `trust_model=true` sets no limit"
        raise UserError("time-limit", rule, hint, where=where, value=seconds) from None
    finally:
        timer.cancel()


# ---- which operations run ----------------------------------------------------------------------------------


def _entry_points(meta_graph: Any) -> Iterator[str]:
    """Names of the nodes that loading and calling a SavedModel run."""
    for signature in meta_graph.signature_def.values():
        yield from (tensor.name.split(":")[0] for tensor in signature.outputs.values() if tensor.name)
        for tensor in signature.outputs.values():
            yield from (part.split(":")[0] for part in _parts(tensor) if part)
    for key in ("saved_model_main_op", "legacy_init_op", "saved_model_train_op", "table_initializer"):
        if key in meta_graph.collection_def:
            yield from (name.split(":")[0] for name in meta_graph.collection_def[key].node_list.value)


def _parts(tensor: Any) -> tuple[str, ...]:
    sparse = tensor.coo_sparse
    return sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name


def _used_nodes(
    definition: tf.compat.v1.GraphDef, outputs: Iterable[str], where: str, functions: Iterable[str] = ()
) -> Iterator[Node]:
    """The nodes on which outputs depend, and all nodes of the functions that are called, each once."""
    library = {function.signature.name: function for function in definition.library.function}
    gradients = {entry.function_name: entry.gradient_func for entry in definition.library.gradient}
    calls: dict[str, set[str]] = {}
    waiting = set(functions)
    nodes: Nodes = {node.name: node for node in definition.node}
    for node in _ancestors(nodes, outputs):
        waiting |= _called(node, library)
        yield node
    while waiting:
        name = waiting.pop()
        if name in calls or name not in library:
            continue
        body = list(library[name].node_def)
        calls[name] = set().union(*(_called(node, library) for node in body), {gradients.get(name, "")} - {""})
        waiting |= calls[name]
        yield from body
    _require_no_recursion(calls, where)


def _ancestors(nodes: Nodes, outputs: Iterable[str]) -> Iterator[Node]:
    seen: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop().lstrip("^").split(":")[0]
        if name not in seen and name in nodes:
            seen.add(name)
            waiting.extend(nodes[name].input)
            yield nodes[name]


def _called(node: Node, library: dict[str, Any]) -> set[str]:
    """Names of the functions that a node calls."""
    names = {node.op} & set(library)
    for value in node.attr.values():
        names |= {value.func.name} | {each.name for each in value.list.func}
    return names - {""}


def _require_no_recursion(calls: dict[str, set[str]], where: str) -> None:
    """Stop at functions that call themselves: TensorFlow would expand them until the memory is full."""
    done: set[str] = set()
    for start in calls:
        path: list[tuple[str, Iterator[str]]] = [(start, iter(calls[start]))]
        active = {start}
        while path:
            name, rest = path[-1]
            inner = next((each for each in rest if each in calls and each not in done), None)
            if inner is None:
                path.pop()
                active.discard(name)
                done.add(name)
            elif inner in active:
                rule = f"its function {inner} calls itself"
                raise UserError("damaged-model", rule, "export the model again", where=where, value=inner)
            else:
                active.add(inner)
                path.append((inner, iter(calls[inner])))


# ---- what they may be --------------------------------------------------------------------------------------


def _has_loops(nodes: Iterable[Node]) -> bool:
    return any(node.op in _LOOPS for node in nodes)


def _require_known(nodes: Iterable[Node], definition: tf.compat.v1.GraphDef, where: str) -> None:
    functions = {function.signature.name for function in definition.library.function}
    unknown = {node.op for node in nodes if node.op not in functions and op_def_registry.get(node.op) is None}
    if unknown:
        rule = f"needs operations that TensorFlow {tf.__version__} does not have: {', '.join(sorted(unknown)[:5])}"
        hint = "export the model again, without operations of its own"
        raise UserError("unknown-operation", rule, hint, where=where, value=min(unknown))


def _require_safe(nodes: Iterable[Node], where: str) -> None:
    for node in nodes:
        if not _is_safe(node):
            rule = (
                f"its operation {node.name} ({node.op}) may read or write files, run other programs or use the network"
            )
            hint = "do not run files of unknown origin; if you trust this one, `trust_model=true` runs it"
            raise UserError("unsafe-operation", rule, hint, where=where, value=node.op)


def _is_safe(node: Node) -> bool:
    if node.op == "PrintV2":
        return node.attr["output_stream"].s in (b"", b"stderr", b"stdout", b"log(info)", b"log(warning)", b"log(error)")
    known = op_def_registry.get(node.op)
    if known is None:  # a function, whose own operations are checked
        return True
    return bool(_HARMLESS.fullmatch(node.op)) if known.is_stateful else not _HARMFUL.fullmatch(node.op)


def _require_finite_constant(node: Node, where: str) -> None:
    """Stop at weights with NaN or infinity; a few values may be limits that the graph compares with."""
    if not tf.as_dtype(node.attr["dtype"].type).is_floating:
        return
    values = tf.make_ndarray(node.attr["value"].tensor)
    if values.size >= _MIN_WEIGHTS:
        require_finite({node.name: values}, where)
