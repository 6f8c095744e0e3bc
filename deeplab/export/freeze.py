"""A network whose weights are constants of the graph it is called in: what exports are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from deeplab.export.folding import folded_weights
from deeplab.inference.checkpoint_model import Network
from deeplab.inference.prediction import LogitsOf
from deeplab.model import MERGED_LOGITS, build_model
from slim.layers import variables_by_name


@dataclass(frozen=True)
class ConstantNetwork:
    """A network and the values of its variables.

    Attributes:
      model: its layers; the variables it holds itself are not looked at.
      values: TensorFlow-1 name -> array, one for every variable.
      folded: whether batch norm is folded into the convolutions.
    """

    model: keras.Model
    values: Mapping[str, np.ndarray]
    folded: bool

    def in_this_graph(self) -> LogitsOf:
        """Makes the constants in the current graph, named as the variables were, and gives the network of them.

        Returns:
          float32 [B, h, w, C], 0..255 -> merged logits float32 [B, h', w', classes]. It may be called several times;
          all calls share the constants.
        """
        variables = variables_by_name(self.model)
        mapping = [(variable, tf.constant(self.values[name], name=name)) for name, variable in variables.items()]

        def logits_of(pixels: tf.Tensor) -> tf.Tensor:
            with keras.StatelessScope(state_mapping=mapping):
                return self.model(pixels, training=False)[MERGED_LOGITS]

        return logits_of


def constant_network(network: Network, fold_batch_norm: bool) -> ConstantNetwork:
    """A network's weights as constants, with batch norm folded or as it is."""
    if not fold_batch_norm:
        values = {name: np.asarray(variable) for name, variable in variables_by_name(network.model).items()}
        return ConstantNetwork(network.model, values, folded=False)
    model = build_model(network.config, network.num_classes, fold_batch_norm=True)
    return ConstantNetwork(model, folded_weights(network.model, model), folded=True)
