"""One export: everything written, proved against the model, and only then given its name."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deeplab.config.export_config import ExportConfig
from deeplab.export import parity, parity_images
from deeplab.export.formats import frozen_graph, saved_model
from deeplab.export.freeze import ConstantNetwork, constant_network
from deeplab.export.metadata import CONTRACT_FILE, LABELS_FILE, Classes, contract_text, labels_text
from deeplab.export.parity import Expected, Parity
from deeplab.export.publishing import Publication, write_bytes
from deeplab.inference.checkpoint_model import Network
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.runtimes import frozen_graph as graphs
from deeplab.utils import console
from deeplab.utils.errors import UserError
from slim.layers import variables_by_name

USUAL_STEM = "frozen_inference_graph"
GRAPH_TEXT = "inference_graph.pbtxt"
Case = tuple[str, np.ndarray, Expected]
Tensors = list[tuple[str, str, str]]
Results = dict[str, list[Parity]]


@dataclass(frozen=True)
class Exported:
    """What an export gave.

    Attributes:
      paths: of all files and folders it wrote, the frozen graph first.
      tensors: name, type and shape of the frozen graph's inputs and outputs.
      parity: the format's name -> how it compares with the model on each picture.
      folded: whether batch norm is folded.
    """

    paths: list[str]
    tensors: Tensors
    parity: Results
    folded: bool


def export(network: Network, settings: PredictionSettings, config: ExportConfig, classes: Classes) -> Exported:
    """Writes the frozen graph, the SavedModel and what goes with them.

    Args:
      network: with a checkpoint's weights.
      settings: how pictures become masks; `crop_size` must be set.
      config: where to write, and on what to check.
      classes: for `labels.txt`.

    Raises:
      UserError: the weights are not finite, something cannot be written, or what was written does not answer as the
        model does. Nothing is left behind then, and what was there before is as it was.
    """
    folder, names = _names(config.export_path)
    _require_finite(network)
    order = _Order(network, settings, config, classes, names)
    with Publication(folder) as publication:
        if config.saved_model:
            _require_replaceable(os.path.join(folder, names.saved_model))
        cases = _cases(order)
        tensors, results, folded = _write_and_prove(order, cases, publication)
        _keep_other_labels(os.path.join(folder, LABELS_FILE), classes)
        return Exported(publication.publish(), tensors, results, folded)


@dataclass(frozen=True)
class _Names:
    graph: str
    saved_model: str
    contract: str


@dataclass(frozen=True)
class _Order:
    """What is to be exported, and how."""

    network: Network
    settings: PredictionSettings
    config: ExportConfig
    classes: Classes
    names: _Names


def _names(export_path: str) -> tuple[str, _Names]:
    """Folder and file names of an export: `saved_model` beside the usual graph, `NAME_saved_model` beside NAME.pb."""
    export_path = os.path.expanduser(export_path)
    folder, graph = os.path.split(export_path)
    if not graph or os.path.isdir(export_path):
        hint = f"`export_path={os.path.join(export_path, USUAL_STEM + '.pb')}`"
        raise UserError(
            "unclassified", f"{export_path} is a folder; it must be the file to write", hint, field="export_path"
        )
    stem, suffix = os.path.splitext(graph)
    if suffix != ".pb":
        raise UserError(
            "unclassified", f"must end in .pb, not {graph!r}", f"`export_path={export_path}.pb`", field="export_path"
        )
    prefix = "" if stem == USUAL_STEM else f"{stem}_"
    return folder, _Names(graph, f"{prefix}saved_model", f"{prefix}{CONTRACT_FILE}")


def _require_finite(network: Network) -> None:
    for name, variable in variables_by_name(network.model).items():
        wrong = int((~np.isfinite(np.asarray(variable))).sum())
        if wrong:
            rule = f"{wrong} values of {name} are not finite: that training had diverged"
            raise UserError(
                "unclassified",
                rule,
                "export an earlier checkpoint, or train with a lower rate",
                where=network.checkpoint,
            )


def _require_replaceable(folder: str) -> None:
    """A folder in the SavedModel's place must be a SavedModel itself."""
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.isfile(os.path.join(folder, "saved_model.pb")):
        rule = "is in the place where the SavedModel goes, and is none itself"
        raise UserError(
            "unclassified", rule, "move it away, give another `export_path`, or add `saved_model=false`", where=folder
        )


def _cases(order: _Order) -> list[Case]:
    """The pictures to check on, with the model's answers."""
    config, settings = order.config, order.settings
    assert settings.crop_size is not None
    chosen = parity_images.choose(
        config.parity_images,
        config.parity_folder,
        config.dataset_dir,
        settings.crop_size,
        settings.model.input_channels,
    )
    expected = parity.model_answers(order.network.logits_of, settings)
    running = console.progress(chosen, what="the model's answers", unit="picture")
    return [(name, image, expected(image)) for name, image in running]


def _write_and_prove(order: _Order, cases: list[Case], publication: Publication) -> tuple[Tensors, Results, bool]:
    """Writes with batch norm folded, and as trained if answers then differ.

    Returns:
      The frozen graph's tensors, the comparisons, and whether batch norm is folded.
    """
    ways = (True, False) if order.config.fold_batch_norm else (False,)
    for folded in ways:
        tensors = _write(order, constant_network(order.network, folded), publication)
        results = _prove(order, cases, publication)
        if all(one.holds for ones in results.values() for one in ones):
            return tensors, results, folded
        if folded != ways[-1]:
            console.note(f"folding batch norm changes answers ({_worst(results)}): exporting it unfolded")
    raise _not_equal(order.config.export_path, results)


def _write(order: _Order, constants: ConstantNetwork, publication: Publication) -> Tensors:
    """Writes everything under temporary names."""
    names, settings = order.names, order.settings
    definition = frozen_graph.graph_definition(constants, settings)
    write_bytes(publication.temporary(names.graph), definition.SerializeToString(deterministic=True))
    if order.config.save_inference_graph:
        write_bytes(publication.temporary(GRAPH_TEXT), str(definition).encode())
    labels = labels_text(order.classes.names).encode()
    contract = contract_text(order.network, settings, order.classes, constants.folded).encode()
    write_bytes(publication.temporary(LABELS_FILE), labels)
    write_bytes(publication.temporary(names.contract), contract)
    if order.config.saved_model:
        with tempfile.TemporaryDirectory() as folder:
            assets = {os.path.join(folder, LABELS_FILE): labels, os.path.join(folder, CONTRACT_FILE): contract}
            for path, content in assets.items():
                write_bytes(path, content)
            saved_model.write(publication.temporary(names.saved_model), constants, settings, list(assets))
    return frozen_graph.tensors(definition)


def _prove(order: _Order, cases: list[Case], publication: Publication) -> Results:
    """Loads what was written and holds it against the model."""
    loaders: dict[str, Callable[[str], graphs.Graph]] = {order.names.graph: graphs.load_frozen}
    if order.config.saved_model:
        loaders[order.names.saved_model] = graphs.load_saved_model
    results = {}
    for name, load in loaders.items():
        graph = load(publication.written(name))
        running = console.progress(cases, what=f"checking {name}", unit="picture")
        results[name] = parity.compare(running, functools.partial(graph.answer, probabilities=True))
    return results


def _worst(results: Results) -> str:
    name, one = max(
        ((name, one) for name, ones in results.items() for one in ones if not one.holds),
        key=lambda pair: (pair[1].unequal, pair[1].max_difference),
    )
    return (
        f"{name}, {one.picture}: {one.unequal} of {one.size[0] * one.size[1]} pixels differ, "
        f"probabilities by up to {one.max_difference:.2g}"
    )


def _not_equal(export_path: str, results: Results) -> UserError:
    print(parity.table(results))
    rule = f"the export does not answer as the model does ({_worst(results)}), so it was not kept"
    hint = "a fault of this program or of this machine's TensorFlow: please report it with the table above"
    return UserError("unclassified", rule, hint, where=export_path)


def _keep_other_labels(path: str, classes: Classes) -> None:
    """A `labels.txt` with other names, perhaps written by hand, is set aside rather than replaced."""
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        if file.read() == labels_text(classes.names):
            return
    stem, suffix = os.path.splitext(path)
    aside = next(name for n in range(1, 1000) if not os.path.exists(name := f"{stem}.previous-{n}{suffix}"))
    os.rename(path, aside)
    console.note(f"{path} had other class names: it is {os.path.basename(aside)} now")
