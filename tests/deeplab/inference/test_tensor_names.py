"""The names in exported files: those that users' programs know, and no second definition of them in the packages."""

import ast
import pathlib

from deeplab.inference import tensor_names

PACKAGE = pathlib.Path(tensor_names.__file__).parents[1]
PLAIN_WORDS = {"image", "images", "labels", "probabilities", "logits"}  # used for other things, too


def names():
    found = {value for name, value in vars(tensor_names).items() if name.isupper() and isinstance(value, str)}
    return found | set(tensor_names.LITERT_OUTPUTS) | set(tensor_names.LITERT_OUTPUTS.values())


def test_the_names_are_those_that_programs_know():
    """A change breaks every program that runs exported files: see docs/deployment.md and docs/serving.md."""
    assert names() == {
        *("ImageTensor", "SemanticPredictions", "SemanticProbabilities", "SemanticLogits"),
        *("ArgMax", "RawSemanticPredictions", "RawSemanticProbabilities"),
        *("serving_default", "serving_bytes", "serving_png", "image_bytes", "mask_png_bytes"),
        *PLAIN_WORDS,
    }


def test_nothing_else_defines_them():
    again = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "tensor_names.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                value = node.value if isinstance(node, ast.Constant) else None
                value = value.decode("latin-1") if isinstance(value, bytes) else value
                if value in names() - PLAIN_WORDS - {"ArgMax"}:  # which is a kind of operation as well
                    again.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {value}")
    assert again == []
