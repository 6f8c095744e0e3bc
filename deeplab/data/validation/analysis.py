"""The check itself: examines all pairs in parallel, counts, and applies the rules to the whole."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from deeplab.config.validation_config import CheckConfig
from deeplab.data.bands import RGB
from deeplab.data.colormaps import colors_for
from deeplab.data.dataset import Dataset
from deeplab.data.split_names import training_split
from deeplab.data.validation import description_checks, label_statistics, size_checks, thumbnails  # noqa: F401 (checks)
from deeplab.data.validation.check_report import SEVERITIES, CheckReport, Finding, Sample, SplitFacts
from deeplab.data.validation.duplicates import ImageIndex
from deeplab.data.validation.pair_checks import PairTask, SeenPair, inspect
from deeplab.data.validation.repair import MAX_COLORS, Evidence, certain_map, known_palette, map_text, with_evidence
from deeplab.data.validation.rules import DATASET_CHECKS, MAX_LISTED, for_drawn, for_records
from deeplab.data.validation.statistics import SplitTotals, Summary, class_counts
from deeplab.data.validation.subject import Subject, UnreadPair
from deeplab.losses import class_balance
from deeplab.utils import console
from deeplab.utils.parallel import ordered_map

_SAMPLES = 24  # pairs to look at in a report, over all splits


def check(subject: Subject, config: CheckConfig | None = None, *, with_previews: bool | None = None) -> CheckReport:
    """Checks a dataset.

    Args:
      subject: the dataset; see `subject.of_records`, `of_source`.
      config: crops to judge, threads, how many images; None: defaults.
      with_previews: draw the pairs of findings and some others; None: if `config.html` needs them.

    Returns:
      The report. Nothing is raised for what is wrong with the data.
    """
    config = config or CheckConfig()
    run = _Run(subject, config, bool(config.html) if with_previews is None else with_previews)
    with contextlib.closing(run.images):
        run.examine_all()
        return run.report()


class FindingLog:
    """Findings as they come: all are counted, of each rule the first are kept."""

    def __init__(self) -> None:
        self.numbers: collections.Counter[str] = collections.Counter()
        self.kept: list[Finding] = []

    def add(self, found: Iterable[Finding]) -> None:
        """Adds more."""
        for item in found:
            self.numbers[item.rule] += 1
            if self.numbers[item.rule] <= MAX_LISTED:
                self.kept.append(item)

    def wants(self, rule: str) -> bool:
        """Whether a further finding of that rule would be kept."""
        return self.numbers[rule] < MAX_LISTED

    def in_order(self) -> list[Finding]:
        """Errors first, then by rule in the order in which rules were first violated."""
        rules = {rule: place for place, rule in enumerate(self.numbers)}
        return sorted(self.kept, key=lambda item: (SEVERITIES.index(item.severity), rules[item.rule]))


class _Run:
    """One check in progress."""

    def __init__(self, subject: Subject, config: CheckConfig, draw: bool):
        self.subject, self.config, self.draw = subject, config, draw
        self.spec = subject.classes.rule
        self.num_values = max(self.spec.num_values, self.spec.before.num_values)
        self.log = FindingLog()
        self.log.add(subject.findings)
        self.totals = {split: SplitTotals.of(self.num_values) for split in subject.numbers}
        self.images = ImageIndex()
        self.pairs: list[UnreadPair] = []  # of each image of `images`, to draw it again
        self.samples: list[Sample] = []
        self.colors: set[int] = set()  # of masks in colors without a palette
        self.palettes = label_statistics.Palettes()
        self.task = PairTask(
            subject.classes,
            subject.exif,
            lambda rule: draw and self.log.wants(rule),
            thumbnails.label_colors(subject.classes),
        )

    # --- Examining ---

    def examine_all(self) -> None:
        """Examines every wanted pair, several at a time, and adds them in order."""
        wanted = {split: _chosen(number, self.config.max_images) for split, number in self.subject.numbers.items()}
        total = sum(len(places) if places else self.subject.numbers[split] for split, places in wanted.items())
        if not wanted:
            return
        work = functools.partial(_examine, task=self.task)
        results = contextlib.closing(ordered_map(work, self._wanted_pairs(wanted), self.config.num_workers))
        with console.progress(total=total, what="checking", unit="image") as bar, results as seen:
            for result in seen:
                self._add(result)
                bar.update()

    def _wanted_pairs(self, wanted: Mapping[str, set[int] | None]) -> Iterator[tuple[UnreadPair, bool] | Finding]:
        """Pairs, with whether they are drawn as samples; findings as they are."""
        shown = {split: self._shown(number, wanted[split]) for split, number in self.subject.numbers.items()}
        places: collections.Counter[str] = collections.Counter()
        for pair in self.subject.pairs():
            if isinstance(pair, Finding):
                yield pair
                continue
            place, split = places[pair.split], pair.split
            places[split] += 1
            chosen, as_sample = wanted[split], shown[split]
            if chosen is None or place in chosen:
                if self.draw:
                    self.pairs.append(pair.kept())
                yield pair, self.draw and (as_sample is None or place in as_sample)

    def _shown(self, number: int, wanted: set[int] | None) -> set[int] | None:
        """Places of a split's samples, evenly spread among those that are wanted; None for all."""
        limit = max(1, round(_SAMPLES / len(self.subject.numbers)))
        if wanted is None:
            return _chosen(number, limit)
        places, chosen = sorted(wanted), _chosen(len(wanted), limit)
        return wanted if chosen is None else {places[place] for place in chosen}

    def _add(self, result: SeenPair | Finding) -> None:
        if isinstance(result, Finding):
            self.log.add([result])
            return
        loaded, label_digest = result.loaded, result.label_digest()
        self.log.add(result.findings)
        self.totals[loaded.split].add(result, label_digest)
        self.images.add(result, label_digest)
        self.palettes.add(result.label.palette, loaded.mask_where, loaded.split)
        if len(self.colors) <= MAX_COLORS:
            self.colors |= result.label.colors
        if result.sample:
            self.samples.append(result.sample)

    # --- Concluding ---

    def report(self) -> CheckReport:
        """What all of it means."""
        summary = self._summary()
        for name in DATASET_CHECKS:
            self.log.add(map(self._with_preview, DATASET_CHECKS.get(name)(summary)))
        return CheckReport(
            checked=self._checked(summary.label_map),
            dataset=summary.dataset,
            splits=summary.splits,
            findings=self._with_better_hints(summary.counts),
            numbers=dict(self.log.numbers),
            weights=summary.weights,
            crop=summary.crop,
            samples=self.samples,
            label_map=summary.label_map,
        )

    def _summary(self) -> Summary:
        counts = np.zeros(self.num_values, np.int64)
        for of_split in self.totals.values():
            counts += of_split.counts
        are_blurred = self._are_blurred()
        mapping = {} if are_blurred else certain_map(np.flatnonzero(counts).tolist(), self.spec)
        # Gray levels become classes first: sums of 251 "classes" would say nothing.
        by_class = {} if self.spec.ignore_label in mapping else mapping
        totals = {split: of_split.renumbered(by_class) for split, of_split in self.totals.items()}
        classes = settled(self.subject, counts, mapping)
        facts = {split: sums.facts(classes.num_classes, classes.ignore_label) for split, sums in totals.items()}
        training, weights = training_split(list(facts)), {}
        if training in facts:
            weights = class_balance.all_weights(class_counts(totals[training], facts[training]))
        return Summary(
            subject=self.subject,
            config=self.config,
            counts=counts,
            label_map=mapping,
            about_values=label_statistics.judge_values(counts, self.spec, are_blurred),
            totals=totals,
            dataset=with_facts(classes, facts, self.subject.described),
            splits=facts,
            weights=weights,
            crop=size_checks.advise(totals, self.config.output_stride),
            images=self.images,
            palettes=self.palettes.findings,
        )

    def _are_blurred(self) -> bool:
        """Whether most masks have values that JPEG or smooth resizing made."""
        masks = sum(totals.images - totals.unread for totals in self.totals.values())
        return 2 * max(self.log.numbers["mask-lossy"], self.log.numbers["mask-blurred"]) > masks

    def _with_better_hints(self, counts: np.ndarray) -> list[Finding]:
        masks = sum(totals.images - totals.unread for totals in self.totals.values())
        evidence = Evidence(counts, self.spec, masks, self.log.numbers["label-out-of-range"], self._palette())
        listed = [with_evidence(item, evidence) for item in self.log.in_order()]
        if self.subject.classes.drawn:
            listed = [for_drawn(item) for item in listed]
        return [for_records(item) for item in listed] if self.subject.stored else listed

    def _checked(self, mapping: Mapping[int, int]) -> str:
        seen = sum(totals.images for totals in self.totals.values())
        remarks = [f"{seen:,} of {self.subject.total:,} images"] if self.config.max_images else []
        if mapping and self.spec.ignore_label not in mapping:
            remarks.append(f"counted as with `label_map={map_text(mapping)}`")
        return self.subject.checked + (f" ({'; '.join(remarks)})" if remarks else "")

    def _palette(self) -> Dataset | None:
        """The known dataset whose colors the masks have."""
        if not 0 < len(self.colors) <= MAX_COLORS:
            return None
        by_value = any(totals.counts.any() for totals in self.totals.values())
        return known_palette(sorted(self.colors), self.subject.classes, mixed=by_value)

    def _with_preview(self, item: Finding) -> Finding:
        """A finding about two images, with both side by side."""
        if not (self.draw and item.places and self.log.wants(item.rule)):
            return item
        of_labels = item.rule in ("label-repeated", "same-image-other-label")
        drawn = [self._drawn(self.pairs[place], of_labels) for place in item.places]
        return dataclasses.replace(item, preview=thumbnails.as_jpeg(thumbnails.side_by_side(drawn)))

    def _drawn(self, pair: UnreadPair, with_label: bool) -> np.ndarray | None:
        if with_label:
            sample = inspect(pair, self.task, as_sample=True).sample
            return thumbnails.shrunk(sample.overlay) if sample else None
        image = pair.load().image
        return thumbnails.shrunk(image) if image else None


def _examine(item: tuple[UnreadPair, bool] | Finding, task: PairTask) -> SeenPair | Finding:
    return item if isinstance(item, Finding) else inspect(item[0], task, item[1])


def _chosen(number: int, limit: int) -> set[int] | None:
    """Places of at most `limit` of a number of pairs, evenly spread; None for all."""
    if not limit or number <= limit:
        return None
    return {place * number // limit for place in range(limit)}


def settled(subject: Subject, counts: np.ndarray, mapping: Mapping[int, int]) -> Dataset:
    """The dataset with its classes: as many as are known, else up to the highest label, replaced as `mapping` says."""
    classes, ignore = subject.classes, subject.classes.rule.ignore_label
    present = sorted(mapping.get(value, value) for value in label_statistics.present_values(counts, ignore))
    number = classes.num_classes or (present[-1] + 1 if present else 1)
    names = classes.names or ("background", *(f"class_{index}" for index in range(1, number)))
    colors: Sequence[tuple[int, int, int]] = classes.colors
    if len(colors) != number:
        colors = [(int(r), int(g), int(b)) for r, g, b in colors_for(None, number)[:number]]
    name = subject.described.name if subject.described else subject.checked
    bands = subject.described.image_bands if subject.described else RGB
    return Dataset(name, names, tuple(colors), ignore, image_bands=bands)


def with_facts(dataset: Dataset, facts: Mapping[str, SplitFacts], described: Dataset | None) -> Dataset:
    """The dataset as a builder would describe it."""
    kinds = {kind.split(",")[0] for split in facts.values() for kind in split.kinds}
    return dataclasses.replace(
        dataset,
        splits={split: found.images for split, found in facts.items()},
        pixels={split: found.pixels for split, found in facts.items()},
        ignored_pixels={split: found.ignored_pixels for split, found in facts.items()},
        size_range={split: found.size_range for split, found in facts.items() if found.size_range},
        image_formats=tuple(sorted(kinds & {"jpeg", "png", "zlib"}))
        or (described.image_formats if described else ("jpeg",)),
    )
