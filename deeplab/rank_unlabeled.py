r"""Says which unlabeled images to label next.

Example, 0.2 seconds per image of 500x375 on two processor cores:

    python deeplab/rank_unlabeled.py --model=runs/first --input=photos --output_dir=next --number=50

Orders images by uncertainty and diversity: first those with the highest uncertainty that differ from those before
them. Writes ranking.csv and report.html with the first images. The model must have probabilities. Images that
cannot be read are reported and left out, and the exit code is 1.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint.find import require_something
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import fields_of
from deeplab.config.labeling_config import RankConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig
from deeplab.data import image_files
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import locked_folder, write_atomically

if TYPE_CHECKING:
    from deeplab.evaluation.uncertainty_ranking import Candidate
    from deeplab.inference.segmenter import Segmenter

GROUPS = (RankConfig, InferenceConfig, ResizeConfig, ModelConfig)
_SHOWN = 60  # images on the page


def run(given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from(given, [RankConfig])
    require_something(config.model)
    files = image_files.find_images(config.input, config.recursive)
    folder = pathlib.Path(config.output_dir)
    if (folder / "ranking.csv").exists() and not config.overwrite:
        hint = "`overwrite=true` replaces it; or give another `output_dir`"
        raise UserError("would-overwrite", "holds ranking.csv already", hint, where=folder)
    console.import_tensorflow()
    from deeplab.inference.segmenter import Segmenter

    own = fields_of([InferenceConfig, ResizeConfig, ModelConfig])
    segmenter = Segmenter(
        config.model, crop_size=config.crop_size, **{name: value for name, value in given.items() if name in own}
    )
    candidates, images, errors = predict(segmenter, files)
    if candidates:
        write(candidates, images, config)
    if errors:
        where = f"{errors} of {len(files)} images"
        raise UserError("failed-images", "could not be read", "see above", where=where, value=errors)


def predict(
    segmenter: Segmenter, files: Sequence[image_files.ImageFile]
) -> tuple[list[Candidate], list[tuple[bytes, bytes]], int]:
    """Predicts every image; errors of images are printed.

    Returns:
      The predicted images; image and overlay of each as small JPEG files, for the page; and the number of errors.

    Raises:
      UserError: the model gives no probabilities.
    """
    from deeplab.evaluation.uncertainty_ranking import Candidate
    from deeplab.inference.segmenter import read_ahead
    from deeplab.visualization import html_page

    candidates: list[Candidate] = []
    images: list[tuple[bytes, bytes]] = []
    errors = 0
    with console.progress(total=len(files), what="predicting", unit="image") as bar:
        for file, pixels in read_ahead(files, segmenter.read):
            try:
                if isinstance(pixels, UserError):
                    raise pixels
                assert pixels is not None
                result = segmenter(pixels)
                if result.probabilities is None:
                    rule, hint = "this model file has no probabilities", "give the checkpoint"
                    raise UserError("no-probabilities", rule, hint, field="model")
            except UserError as error:
                if error.code in ("no-probabilities", "used-after-fork"):
                    raise
                errors += 1
                console.error(error)
            else:
                images.append((html_page.jpeg(result.image, 240), html_page.jpeg(result.overlay(), 240)))
                candidates.append(Candidate.of(file.path, result))
            bar.update()
    return candidates, images, errors


def write(candidates: Sequence[Candidate], images: Sequence[tuple[bytes, bytes]], config: RankConfig) -> None:
    """Writes ranking.csv and report.html, and prints the first images of the ranking."""
    from deeplab.evaluation import uncertainty_ranking as ranking
    from deeplab.visualization import html_page

    folder = pathlib.Path(config.output_dir)
    order = ranking.rank(candidates, config.number, config.diversity)
    with locked_folder(folder, "writing"):
        write_atomically(folder / "ranking.csv", ranking.ranking_csv(candidates, order).encode())
        figures = [
            html_page.Figure(
                (("image", images[place.index][0]), ("prediction", images[place.index][1])),
                f"{number}. {candidates[place.index].path}: uncertainty {candidates[place.index].uncertainty:.3f}",
            )
            for number, place in enumerate(order[:_SHOWN], 1)
        ]
        template = pathlib.Path(ranking.__file__).with_name("ranking.html.j2")
        page = html_page.render(template, {"figures": figures, "number": len(candidates)})
        write_atomically(folder / "report.html", page.encode())
    rows = [(candidates[place.index].path, f"{candidates[place.index].uncertainty:.3f}") for place in order[:20]]
    print(console.table(rows, ("label next", "uncertainty")))
    print(f"written: {folder / 'ranking.csv'}, {folder / 'report.html'}", flush=True)


COMMAND = Command("rank_unlabeled", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
