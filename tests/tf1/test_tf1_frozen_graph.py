"""Our frozen graphs under a real TensorFlow 1.15."""

import numpy as np
import pytest
from support.golden_recipe import image
from support.small_exports import NARROW, make_graph, make_network, make_settings, run_graph

from deeplab.config.data_config import ResizeConfig

RESIZE = ResizeConfig(min_resize_value=65, max_resize_value=65, resize_factor=16)


FITTING, SMALLER, LARGER = (65, 97), (40, 60), (80, 110)


@pytest.mark.tf1
@pytest.mark.parametrize(
    "folded, settings, sizes",
    [
        (True, {}, (FITTING, SMALLER, LARGER)),
        (False, {}, (SMALLER,)),
        (True, {"scales": (0.5, 1.0), "flip": True}, (SMALLER,)),
        (True, {"crop": (65, 65), "resize": RESIZE}, (LARGER,)),
    ],
    ids=["folded", "unfolded", "scales", "resized"],
)
def test_tensorflow_1_gives_the_same_answers(tf1, tmp_path, folded, settings, sizes):
    definition = make_graph(make_network(), make_settings(NARROW, **settings), folded)
    require_same_answers(tf1, definition, tmp_path, sizes)


@pytest.mark.tf1
@pytest.mark.parametrize("settings", [{}, {"scales": (0.5, 1.0), "flip": True}], ids=["one pass", "scales"])
def test_graphs_of_one_size_give_the_same_answers(tf1, tmp_path, settings):
    definition = make_graph(make_network(), make_settings(NARROW, **settings), fixed_size=True)
    require_same_answers(tf1, definition, tmp_path, (FITTING,))


def require_same_answers(tf1, definition, folder, sizes):
    path = folder / "frozen_inference_graph.pb"
    path.write_bytes(definition.SerializeToString())
    for height, width in sizes:
        answers = tf1.run_frozen_graph(path, image(height, width))
        for name, expected in run_graph(definition, image(height, width)).items():
            if answers[name].dtype == np.float32:
                np.testing.assert_allclose(answers[name], expected, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(answers[name], expected, err_msg=name)
