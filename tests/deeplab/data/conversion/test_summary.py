"""Warnings about unusual pairs at the end of a build."""

import numpy as np

from deeplab.data.conversion.encode import Converted
from deeplab.data.conversion.summary import Oddities
from deeplab.data.images import PreparedImage


def noticed(*notes_of_pairs):
    oddities = Oddities()
    for number, notes in enumerate(notes_of_pairs):
        image = PreparedImage(b"", "jpeg", 2, 3, notes)
        oddities.look(Converted(f"p{number}", b"", np.zeros(256, np.int64), 0, image), 255)
    return oddities


def test_all_pairs_of_a_kind_are_counted(capsys):
    noticed(*[("alpha",)] * 9).report()
    said = capsys.readouterr().err
    assert said.startswith("warning: 9 images with an alpha channel") and said.endswith(
        ": p0, p1, p2, p3, p4 and 4 more\n"
    )


def test_photos_that_went_in_both_ways_are_a_warning_of_their_own(capsys):
    noticed(("turned",), ("turned",), ()).report()
    assert "exif=ignore" not in capsys.readouterr().err
    both = noticed(("turned",))
    both.merge(noticed(("unturned",)))
    both.report()
    said = capsys.readouterr().err
    assert said.count("warning") == 3 and "exif=ignore" in said
