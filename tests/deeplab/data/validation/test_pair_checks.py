"""Image and label together."""

import dataclasses

import numpy as np
import pytest
from support.disc_files import draw, encoded, only

from deeplab.data.readers.source import Pair, Source
from deeplab.data.validation import analysis, subject


@pytest.mark.parametrize("as_it_is", [True, False])
def test_an_image_that_is_its_own_mask(discs, as_it_is):
    label = discs.label("a3")
    data = discs.mask("a3").read_bytes() if as_it_is else encoded(np.array([0, 250, 90], np.uint8)[label])
    discs.image("a3").write_bytes(data)
    (found,) = only(discs.check(), "image-is-mask")
    assert found.where == str(discs.image("a3"))
    assert found.text == f"holds the same pixels as {discs.mask('a3')}"


def test_missing_files_are_findings_and_the_check_goes_on(discs):
    discs.image("a0").unlink()
    discs.mask("a1").unlink()
    report = discs.check()
    rules = {finding.where: finding.rule for finding in report.findings}
    assert rules == {str(discs.image("a0")): "image-unreadable", str(discs.mask("a1")): "mask-unreadable"}
    assert report.splits["train"].images == 8
    assert sum(report.splits["train"].sizes.values()) == 7


def test_annotation_that_states_an_enormous_size(discs):
    """It must be found without a label of that size being drawn."""

    @dataclasses.dataclass(frozen=True)
    class Enormous:
        where: str = "shapes.json"
        size: tuple[int, int] = (10_000_000, 10_000_000)

        def draw(self, painter, height, width):
            raise AssertionError("drawn")

    source = Source({"train": [Pair("a0", str(discs.image("a0")), Enormous())]})
    report = analysis.check(subject.of_source(source, discs.subject().classes, "discs"))
    (found,) = [item for item in report.findings if item.rule == "size-differs"]
    assert found.where == "shapes.json" and "10000000x10000000" in found.text


def test_a_mask_of_another_size_names_both(discs):
    discs.write_label("b1", draw(9)[1][:, 8:])
    (found,) = only(discs.check(), "size-differs")
    assert found.where == str(discs.mask("b1"))
    assert found.text == "the mask is 64x72 pixels (height x width), its image b1.jpg 64x80"
