"""CVAT for images 1.1: every shape pixel by pixel, labels, subsets, and files that are not right."""

import pickle

import numpy as np
import pytest

from deeplab.data.labels import LabelRule
from deeplab.data.readers.cvat import BuildCvatConfig, read_cvat
from deeplab.data.readers.source import UNDIVIDED, Painter, indices_of
from deeplab.utils.errors import UserError

LABELS = """
<label><name>road</name><color>#804080</color><type>any</type><attributes><attribute><name>wet</name>
<values>yes
no</values></attribute></attributes></label>
<label><name>car</name><color>#0000ff</color><type>polygon</type></label>
"""
SQUARE = (
    '<polygon label="car" source="manual" occluded="0" points="1.00,1.00;4.00,1.00;4.00,4.00;1.00,4.00"{}></polygon>'
)


def image(shapes="", name="a.jpg", **attributes):
    more = "".join(f' {key}="{value}"' for key, value in {"height": 5, "width": 6, **attributes}.items())
    return f'<image id="0" name="{name}"{more}>{shapes}</image>'


def dump(*images, labels=LABELS, of="task"):
    head = f"<meta><{of}><id>4</id><name>my {of}</name><labels>{labels}</labels></{of}><dumped>today</dumped></meta>"
    text = f"<annotations><version>1.1</version>{head}{''.join(images)}</annotations>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}'


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "night/a.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    return tmp_path


def read(folder, *files, **settings):
    paths = [folder / f"part{number}.xml" for number in range(len(files))]
    for path, text in zip(paths, files, strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    named = {"annotations": ",".join(map(str, paths)), "image_folder": str(folder / "images")}
    return read_cvat(BuildCvatConfig(**{**named, **settings}))


def draw(source, height=5, width=6):
    painter = Painter(indices_of(source.class_names, 255), 255, LabelRule())
    return pickle.loads(pickle.dumps(source.pairs()[0])).mask.draw(painter, height, width).tolist()


def drawn(folder, shapes, **settings):
    return draw(read(folder, dump(image(shapes)), **settings))


# --- Shapes -------------------------------------------------------------------------------------------------


def test_polygons_have_the_value_of_their_label(folder):
    source = read(folder, dump(image(SQUARE.format(""))))
    assert source.class_names == ("background", "road", "car") and source.drawn
    assert source.colors == ((0, 0, 0), (128, 64, 128), (0, 0, 255))
    assert source.splits[UNDIVIDED][0].mask.size == (5, 6)
    assert draw(source) == [[0] * 6, *[[0, 2, 2, 2, 0, 0]] * 3, [0] * 6]


def test_boxes(folder):
    box = '<box label="road" xtl="4.00" ytl="3.00" xbr="6.00" ybr="9.00" z_order="0"></box>'
    assert drawn(folder, box) == [[0] * 6] * 3 + [[0, 0, 0, 0, 1, 1]] * 2


def test_boxes_are_turned_clockwise_about_their_middle(folder):
    """A bar of 5 by 1 pixels becomes an upright one; turned by 45 degrees its right end goes down."""
    bar = '<box label="car" xtl="0" ytl="2" xbr="5" ybr="3" rotation="{}"></box>'
    assert drawn(folder, bar.format(90)) == [[0, 0, 2, 0, 0, 0]] * 5
    label = np.array(drawn(folder, bar.format(45)))
    assert label[1, 1] and label[2, 2] and label[3, 3]
    assert not label[1, 3] and not label[3, 1]


def test_ellipses(folder):
    round_ = '<ellipse label="car" cx="3.00" cy="2.50" rx="{}" ry="{}" rotation="{}"></ellipse>'
    expected = [[0, 0, 0, 0, 0, 0], [0, 0, 2, 2, 0, 0], [0, 2, 2, 2, 2, 0], [0, 0, 2, 2, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert drawn(folder, round_.format(2, 1.2, 0)) == expected
    assert drawn(folder, round_.format(1.2, 2, 90)) == expected
    assert drawn(folder, '<ellipse label="car" cx="3" cy="2.5" rx="2" ry="1.2"></ellipse>') == expected


def test_masks_are_run_lengths_of_their_rectangle_row_after_row(folder):
    mask = '<mask label="road" source="manual" occluded="0" rle="1, 2, 1, 1, 1" left="2" top="3" width="3" height="2"/>'
    assert drawn(folder, mask) == [[0] * 6] * 3 + [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 0]]


def test_masks_that_reach_over_the_border_are_cut(folder):
    mask = '<mask label="road" rle="0, 4" left="-1" top="4" width="2" height="2"/>'
    assert drawn(folder, mask) == [[0] * 6] * 4 + [[1, 0, 0, 0, 0, 0]]


def test_higher_layers_lie_on_lower_ones_then_later_shapes_on_earlier_ones(folder):
    everywhere = '<box label="road" xtl="0" ytl="0" xbr="6" ybr="5"{}></box>'
    assert drawn(folder, SQUARE.format(' z_order="1"') + everywhere.format(' z_order="0"'))[2] == [1, 2, 2, 2, 1, 1]
    assert drawn(folder, SQUARE.format("") + everywhere.format(""))[2] == [1] * 6
    assert drawn(folder, everywhere.format(' z_order="-1"') + SQUARE.format(""))[2] == [1, 2, 2, 2, 1, 1]
    assert drawn(folder, SQUARE.format("") + everywhere.format(""), overlap="area")[2] == [1, 2, 2, 2, 1, 1]


def test_shapes_without_an_area_are_counted(folder, capsys):
    lines = '<polyline label="road" points="0,0;1,1"/><tag label="road"/><cuboid label="car"/>'
    parts = '<skeleton label="car"><points label="1" points="1,1"/><points label="2" points="2,2"/></skeleton>'
    assert drawn(folder, f'{lines}{parts}<points label="car" points="1,1"/>') == [[0] * 6] * 5
    said = capsys.readouterr().err
    assert "5 shapes without an area left out (1 cuboid, 1 points, 1 polyline, 1 skeleton, 1 tag): a.jpg\n" in said
    assert "1 images without a shape: background all over" in said


# --- Labels -------------------------------------------------------------------------------------------------


def test_labels_that_can_have_no_area_are_no_classes(folder):
    labels = f"""{LABELS}<label><name>body</name><type>skeleton</type></label>
    <label><name>1</name><type>points</type><parent>body</parent></label>
    <label><name>lane</name><color>#010203</color><type>polyline</type></label>
    <label><name>good frame</name><type>tag</type></label>"""
    assert read(folder, dump(image(), labels=labels)).class_names == ("background", "road", "car")
    lane = '<box label="lane" xtl="0" ytl="0" xbr="1" ybr="1"/>'
    assert read(folder, dump(image(lane), labels=labels)).class_names == ("background", "road", "car", "lane")


@pytest.mark.parametrize("of", ["task", "project", "job"])
def test_dumps_of_tasks_projects_and_jobs_have_their_labels(folder, of):
    assert read(folder, dump(image(), of=of)).class_names == ("background", "road", "car")


def test_a_background_label_is_the_background_and_keeps_its_color(folder):
    labels = f"{LABELS}<label><name>background</name><color>#010203</color></label>"
    source = read(folder, dump(image(SQUARE.format("")), labels=labels))
    assert source.class_names == ("background", "road", "car")
    assert source.colors[0] == (1, 2, 3)


def test_without_colors_for_all_labels_there_are_none(folder):
    labels = f"{LABELS}<label><name>bus</name></label>"
    assert read(folder, dump(image(), labels=labels)).colors == ()


def test_files_without_labels_have_those_of_their_shapes(folder):
    text = f"<annotations>{image(SQUARE.format(''))}</annotations>"
    assert read(folder, text).class_names == ("background", "car")


# --- Images and subsets -------------------------------------------------------------------------------------


def test_several_subsets_are_the_splits(folder):
    source = read(
        folder,
        dump(
            image(subset="Train"),
            image(name="b.jpg", subset="Validation"),
            image(name="night/a.jpg", subset="My Set/2"),
        ),
    )
    assert {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()} == {
        "train": ["a"],
        "val": ["b"],
        "my_set_2": ["night/a"],
    }


@pytest.mark.parametrize("subsets", [("default", "default"), ("Train", "Train"), ("", "Train")])
def test_one_subset_is_no_split(folder, subsets):
    images = (image(name=name, subset=subset) for name, subset in zip(("a.jpg", "b.jpg"), subsets, strict=True))
    assert list(read(folder, dump(*images)).splits) == [UNDIVIDED]


def test_several_files_go_together(folder):
    more = "<label><name>bus</name><color>#000001</color></label>"
    source = read(folder, dump(image()), dump(image(name="b.jpg"), labels=more))
    assert [pair.name for pair in source.pairs()] == ["a", "b"]
    assert source.class_names == ("background", "road", "car", "bus")


def test_images_without_shapes_and_images_that_are_not_named_are_counted(folder, capsys):
    source = read(folder, dump(image(SQUARE.format("")), image(name="b.jpg")), skip_empty=True)
    assert [pair.name for pair in source.pairs()] == ["a"]
    said = capsys.readouterr().err
    assert "1 images without a shape: left out: b" in said
    assert "1 images that no annotation names left out: night/a.jpg" in said


# --- Files that are not right -------------------------------------------------------------------------------


def shape(kind, **attributes):
    return f"<{kind} " + " ".join(f'{key}="{value}"' for key, value in attributes.items()) + "/>"


MASK = {"label": "car", "rle": "0,4", "left": 0, "top": 0, "width": 2, "height": 2}
BOX = {"label": "car", "xtl": 0, "ytl": 0, "xbr": 1, "ybr": 1}


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (shape("polygon", points="1,1;2,2;3,3"), "image a.jpg, shape 1: `label` is missing"),
        (shape("polygon", label="car"), "shape 1: `points` is missing"),
        (shape("polygon", label="car", points="1,1;2,2"), "shape 1: a polygon needs 3 points at least, not 2"),
        (shape("polygon", label="car", points="1,1;2,2;x,3"), "shape 1: `points` must be x,y;x,y"),
        (shape("polygon", label="car", points="1,1;2,2;3"), "shape 1: points must be pairs"),
        (shape("polygon", label="car", points="1,1;2,nan;3,3"), "shape 1: coordinates are pixels, which nan cannot be"),
        (
            shape("tag", label="car") + shape("box", **BOX | {"xbr": "wide"}),
            "shape 2: `xbr` must be a number, not 'wide'",
        ),
        (shape("box", **BOX | {"ybr": "inf"}), "shape 1: `ybr` must be a number, not 'inf'"),
        (shape("box", **BOX, z_order="1.5"), "shape 1: `z_order` must be a whole number"),
        (shape("ellipse", label="car", cx=1, cy=1, rx=-1, ry=1), "shape 1: a radius must not be negative"),
        (shape("mask", **MASK | {"rle": "0,5"}), "shape 1: its run lengths add up to 5 pixels, but the mask has 4"),
        (shape("mask", **MASK | {"rle": "0;4"}), "shape 1: `rle` must be whole numbers"),
        (shape("mask", **MASK | {"rle": "9" * 30}), "shape 1: run lengths must be a list of whole numbers"),
        (shape("mask", **MASK | {"rle": "-1,5"}), "shape 1: a run length of -1 pixels"),
        (shape("mask", **MASK | {"width": 0}), "shape 1: `width` must be a whole number of 1 or more, not '0'"),
        (shape("mask", **MASK | {"width": 40, "rle": "80"}), "a.jpg: a mask has 40x2 pixels, its image 6x5"),
        (shape("sphere", label="car"), "shape 1: <sphere> is no shape that is known"),
        (shape("box", **BOX | {"label": "cat"}), "image a.jpg: 'cat' is no class"),
    ],
)
def test_shapes_that_break_the_format_are_named_with_the_rule(folder, shapes, text):
    with pytest.raises(UserError, match=text) as caught:
        drawn(folder, shapes)
    assert "part0.xml" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not XML: no element found.*\n.*CVAT for images 1.1"),
        (dump(image())[:-20], "is not XML: unclosed token"),
        ("<annotations><image></annotations>", "is not XML: mismatched tag"),
        (b'<?xml version="1.0" encoding="utf-99"?><annotations/>', "is not XML: unknown encoding"),
        ("{}", "is not XML: not well-formed"),
        ("<annotation><folder>VOC</folder></annotation>", "is no file of CVAT: it begins with <annotation>"),
        ("<annotations/>", "there is no image with annotations"),
        ("<annotations><track id='0' label='car'/></annotations>", 'is a dump of "CVAT for video".*\n.*for images 1.1'),
        (dump(image(width="wide")), "image a.jpg: `width` must be a number, not 'wide'"),
        (dump(image(name="")), "image 1: `name` is missing"),
        (dump(image(name="../../../etc/passwd")), "image ../../../etc/passwd: its image .* is not in"),
        (dump(image(), image()), "image a.jpg: image 'a' was there before"),
        (dump(image(), labels="<label><name>a\nb</name></label>"), "label 1: `name` holds control characters"),
        (dump(image(), labels="<label><name>car</name><color>blue</color></label>"), "label 1: 'blue' is no color"),
    ],
)
def test_files_that_break_the_format_are_named_with_the_rule(folder, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read(folder, text)
    assert "part0.xml" in str(caught.value)
    assert caught.value.hint


def test_document_types_are_refused_before_anything_grows(folder):
    bomb = '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n<annotations>&b;</annotations>'
    with pytest.raises(UserError, match=r"part0.xml: has a DOCTYPE, which no file of CVAT has\n.*take it out"):
        read(folder, bomb)


def test_a_mask_larger_than_its_image_is_never_unpacked(folder):
    mask = shape("mask", **MASK | {"width": 2_000_000_000, "height": 1, "rle": "2000000000"})
    with pytest.raises(UserError, match="a mask has 2000000000x1 pixels, its image 6x5"):
        drawn(folder, mask)


def test_files_that_are_not_there_are_named(folder):
    with pytest.raises(UserError, match=r"nowhere\.xml: cannot be read"):
        read(folder, annotations=str(folder / "nowhere.xml"))
    with pytest.raises(UserError, match="--annotations: there is no image"):
        read(folder, annotations="")
