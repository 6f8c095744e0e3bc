"""Classifies variables by their TensorFlow-1 names: head or backbone, weight or optimizer slot."""

from __future__ import annotations

from collections.abc import Callable, Iterable

# Scopes of the layers after the backbone, as the reference counts them for `initialize_last_layer`; and `auxiliary`.
LOGITS_SCOPE = "logits"
HEAD_SCOPES = (LOGITS_SCOPE, "image_pooling", "aspp", "concat_projection", "decoder", "meta_architecture", "auxiliary")
STEP = "global_step"

AVERAGE = "ExponentialMovingAverage"  # last part of the name of a weight's running average
MASK, THRESHOLD = "mask", "threshold"  # last parts of the names of a pruned kernel's mask and smallest weight
KERAS_SLOT = "keras_"  # the last part of the names of slots of Keras' optimizers begins with it

FAKE_QUANTIZATION_STEP = "fake_quantization_step"  # counts steps where fake quantization has a delay

_RANGE_LEAVES = {"biased", "local_step"}  # of which a moving range of fake quantization is made
_SLOT_LEAVES = {"Momentum", "Adam", "Adam_1", "RMSProp", "RMSProp_1", "Lion", AVERAGE, MASK, THRESHOLD} | _RANGE_LEAVES
_KERNEL_LEAVES = {"weights", "depthwise_weights"}  # of layers of this project; one kernel per scope
_SLOT_NAMES = {"beta1_power", "beta2_power", FAKE_QUANTIZATION_STEP}


def mask_name(kernel: str) -> str:
    """The name of a kernel's mask: `SCOPE/weights` -> `SCOPE/mask`, as `tf.contrib.model_pruning` names it."""
    scope, _, leaf = kernel.rpartition("/")
    return f"{scope if leaf in _KERNEL_LEAVES else kernel}/{MASK}"


def threshold_name(kernel: str) -> str:
    """The name of the variable that holds the smallest magnitude that a kernel's mask keeps."""
    return f"{mask_name(kernel).removesuffix(MASK)}{THRESHOLD}"


def is_mask(name: str) -> bool:
    """Whether a name is a pruned kernel's mask or threshold."""
    return name.rpartition("/")[2] in (MASK, THRESHOLD)


def is_slot(name: str) -> bool:
    """Whether a name is training state (optimizer slot, average and its parts, mask, counter) rather than a weight."""
    leaf = name.rpartition("/")[2]
    return name in _SLOT_NAMES or leaf in _SLOT_LEAVES or leaf.startswith(KERAS_SLOT)


def averages_alone(stored: Iterable[str]) -> dict[str, str]:
    """The weights of which a checkpoint has the running average alone: name -> name of the average.

    Published checkpoints often hold nothing else: the averages are the weights then.
    """
    known = set(stored)
    weights = {name.removesuffix(f"/{AVERAGE}"): name for name in known if name.endswith(f"/{AVERAGE}")}
    return {weight: average for weight, average in weights.items() if weight not in known}


def is_bookkeeping(name: str) -> bool:
    """Whether a name belongs to the training (slot or global step) rather than to the model."""
    return name == STEP or is_slot(name)


def is_of_training_alone(name: str) -> bool:
    """Whether inference never reads a variable: bookkeeping, and the ranges within dropout."""
    return is_bookkeeping(name) or "/activation_Mul_quant/" in name


def head_scopes(last_layers_contain_logits_only: bool = False) -> tuple[str, ...]:
    """The scopes that `initialize_last_layer=false` initializes from scratch."""
    return (LOGITS_SCOPE,) if last_layers_contain_logits_only else HEAD_SCOPES


def in_scopes(name: str, scopes: tuple[str, ...]) -> bool:
    """Whether a name begins with a scope. `aspp` covers `aspp0/...` and `aspp1_depthwise/...`."""
    return name.startswith(scopes)


def initial_exclusion(
    initialize_last_layer: bool = True, last_layers_contain_logits_only: bool = False
) -> Callable[[str], bool]:
    """Which variables an initial checkpoint must not set: the step, and the head if it is initialized from scratch."""
    scopes = () if initialize_last_layer else head_scopes(last_layers_contain_logits_only)
    return lambda name: name == STEP or in_scopes(name, scopes)
