"""PNASNet and HNASNet."""

import keras
import numpy as np
import pytest
from support.backbone_battery import Battery, Golden, Reference, build, normalized, shapes
from support.golden_recipe import image

import slim
from slim import nas
from slim.layers import variables_by_name


class TestPnasnet(Battery):
    variant = "nas_pnasnet"
    family = "nas"
    golden = (Golden("nas_pnasnet_os16", (65, 97)),)
    dense_strides = ()  # its cells are not dilated: another stride is another network, of other widths


class TestHnasnet(Reference):
    variant = "nas_hnasnet"
    family = "nas"
    options = {"output_stride": 8}  # noqa: RUF012
    golden = (Golden("nas_hnasnet_os8", (65, 97), {"output_stride": 8}),)


@pytest.mark.slow
class TestHnasnetInFull(Battery):
    variant = "nas_hnasnet"
    options = {"output_stride": 8}  # noqa: RUF012

    def test_dense_features_subsampled_are_the_strided_ones(self):
        pytest.skip("there is one output stride only")

    def test_any_image_size(self):
        # It goes to stride 32 and back, which gives 2 h - 1 rows for h: 64 -> ... 4 -> 2 -> 3 -> 5.
        model = build(self.variant, self.options)
        assert model(np.zeros((1, 65, 97, 3), np.float32))["features"].shape[1:3] == (9, 13)
        assert model(np.zeros((1, 64, 40, 3), np.float32))["features"].shape[1:3] == (5, 5)


@pytest.mark.parametrize(("stride", "width"), [(8, 40), (16, 80), (32, 160)])
def test_pnasnet_doubles_its_width_with_each_halving(stride, width):
    model = build("nas_pnasnet", {"output_stride": stride})
    assert shapes(model)["pnasnet/cell_11/1x1/weights"] == (1, 1, 5 * width, width)
    features = model(np.zeros((1, 65, 65, 3), np.float32))["features"]
    assert features.shape == (1, 64 // stride + 1, 64 // stride + 1, 5 * width)


def test_hnasnet_refuses_strides_it_does_not_have():
    with pytest.raises(slim.OptionError, match="stride 8, not 16") as caught:
        slim.build("nas_hnasnet", keras.Input((None, None, 3)), slim.Options(output_stride=16))
    assert "`output_stride=8`" in caught.value.hint


@pytest.mark.parametrize(
    ("variant", "stride", "expected"),
    [
        # Nominal strides behind the body, each a convolution; those beyond the output stride are dilated.
        ("nas_pnasnet", 16, {"downsample_os32_conv": (3, 3, 400, 1024)}),
        ("nas_hnasnet", 16, {"downsample_os16_conv": (3, 3, 200, 512), "downsample_os32_conv": (3, 3, 512, 1024)}),
    ],
)
def test_classification_head(variant, stride, expected):
    model = build(variant, {"output_stride": stride, "nas_classification_head": True})
    found = {name.split("/")[1]: shape for name, shape in shapes(model).items() if name.endswith("_conv/weights")}
    assert found == {**expected, "classification_head_conv": (1, 1, 1024, 2048)}
    assert model(np.zeros((1, 65, 65, 3), np.float32))["features"].shape == (
        1,
        64 // stride + 1,
        64 // stride + 1,
        2048,
    )


@pytest.mark.slow
def test_removing_the_last_stride_keeps_the_variables_and_the_size():
    plain = build("nas_hnasnet", {"output_stride": 8})
    dense = build("nas_hnasnet", {"output_stride": 8, "nas_remove_os32_stride": True})
    # Only the identity's 1x1 convolutions come with a stride, and this cell has none.
    assert shapes(plain) == shapes(dense)
    batch = normalized("nas_hnasnet", image(65, 65))
    assert dense(batch)["features"].shape == plain(batch)["features"].shape


def test_stem_filters_set_the_width():
    found = shapes(build("nas_pnasnet", {"nas_stem_filters": 8}))
    assert found["pnasnet/cell_0/1x1/weights"] == (1, 1, 128, 16)
    assert found["pnasnet/cell_11/1x1/weights"] == (1, 1, 5 * 32, 32)


def test_drop_path_keeps_or_drops_whole_examples_and_scales():
    keras.utils.set_random_seed(1)
    layer = nas.DropPath(0.5)
    dropped = np.asarray(layer(np.ones((400, 2, 2, 3), np.float32), training=True)).reshape(400, -1)
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert (dropped == dropped[:, :1]).all()
    assert 0.4 < (dropped[:, 0] > 0).mean() < 0.6
    np.testing.assert_array_equal(layer(np.ones((2, 1, 1, 1)), training=False), np.ones((2, 1, 1, 1)))


def test_drop_path_grows_with_training():
    progress = keras.Variable(0.0, trainable=False)
    layer = nas.DropPath(0.5, lambda: progress)
    np.testing.assert_array_equal(layer(np.ones((50, 1, 1, 1), np.float32), training=True), np.ones((50, 1, 1, 1)))
    progress.assign(0.5)  # keep probability 1 - 0.5 * (1 - 0.5) = 0.75
    values = np.unique(np.asarray(layer(np.ones((50, 1, 1, 1), np.float32), training=True)))
    np.testing.assert_allclose(values, [0.0, 1 / 0.75], rtol=1e-6)


def test_drop_path_is_stronger_in_later_cells_and_off_with_frozen_batch_norm():
    plain = set(variables_by_name(build("nas_pnasnet", {})))

    def layers(**options):
        model = build("nas_pnasnet", options)
        assert set(variables_by_name(model)) == plain
        found = (layer for layer in model.layers if isinstance(layer, nas.DropPath))
        return {layer.name: layer.final_keep_probability for layer in found}

    kept = layers(drop_path_keep_probability=0.4)
    assert kept["pnasnet.cell_0.comb_iter_0.left.drop_path"] == pytest.approx(1 - 0.6 / 12)
    assert kept["pnasnet.cell_11.comb_iter_0.left.drop_path"] == pytest.approx(0.4)
    assert layers(drop_path_keep_probability=0.4, train_batch_norm=False) == {}
