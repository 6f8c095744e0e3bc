"""The check itself: all pairs looked at in parallel, what was seen added up, and the rules held against it."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from deeplab.config.validation_config import CheckConfig
from deeplab.data.colormaps import colors_for
from deeplab.data.dataset import Dataset
from deeplab.data.split_names import training_split
from deeplab.data.validation import descriptor_checks, label_statistics, size_checks, thumbnails
from deeplab.data.validation.check_report import Finding, Report, Sample, SplitFacts
from deeplab.data.validation.duplicates import find_leaks
from deeplab.data.validation.fix_plan import known_palette
from deeplab.data.validation.hints import Evidence, better_hint
from deeplab.data.validation.items import Item
from deeplab.data.validation.outlines import look_at_fits
from deeplab.data.validation.pair_checks import Inspected, Task, inspect
from deeplab.data.validation.rules import MOST_SHOWN, for_records
from deeplab.data.validation.statistics import Likes, SplitTally
from deeplab.data.validation.subject import Subject
from deeplab.losses import class_balance
from deeplab.utils import console
from deeplab.utils.parallel import ordered_map

_SAMPLES = 24  # pairs to look at in a report, over all splits
_MOST_COLORS = 512  # of all masks; more are not those of classes
_ORDER = {"error": 0, "warning": 1, "note": 2}


def check(subject: Subject, config: CheckConfig | None = None, *, with_pictures: bool | None = None) -> Report:
    """Looks at every pair, and tells what is wrong with the dataset.

    Args:
      subject: the dataset; see `subject.of_records`, `of_source`.
      config: crops to judge, threads, how many images; None: defaults.
      with_pictures: draw the pairs of findings and some others; None: if `config.html` wants them.

    Returns:
      The report. Nothing is raised for what is wrong with the data.
    """
    config = config or CheckConfig()
    draw = bool(config.html) if with_pictures is None else with_pictures
    run = _Run(subject, config, draw)
    run.look_at_all()
    return run.report()


class FindingLog:
    """Findings as they come: all are counted, of each rule the first are kept."""

    def __init__(self) -> None:
        self.numbers: collections.Counter[str] = collections.Counter()
        self.kept: list[Finding] = []

    def add(self, found: Iterable[Finding]) -> None:
        """Takes more."""
        for item in found:
            self.numbers[item.rule] += 1
            if self.numbers[item.rule] <= MOST_SHOWN:
                self.kept.append(item)

    def wants(self, rule: str) -> bool:
        """Whether a further finding of that rule would be kept."""
        return self.numbers[rule] < MOST_SHOWN

    def in_order(self) -> list[Finding]:
        """Errors first, then by rule in the order in which rules were first broken."""
        rules = {rule: place for place, rule in enumerate(self.numbers)}
        return sorted(self.kept, key=lambda item: (_ORDER[item.severity], rules[item.rule]))


class _Run:
    """One check while it goes on."""

    def __init__(self, subject: Subject, config: CheckConfig, draw: bool):
        self.subject, self.config, self.draw = subject, config, draw
        self.rule = subject.classes.rule
        self.log = FindingLog()
        self.log.add(subject.findings)
        self.tallies = {split: SplitTally() for split in subject.numbers}
        self.likes = Likes()
        self.items: list[Item] = []  # where each image of `likes` lies, for pictures of pairs of images
        self.samples: list[Sample] = []
        self.colors: set[int] = set()  # of masks in colors that nobody has explained
        self.palettes = label_statistics.Palettes()
        self.task = Task(
            subject.classes,
            subject.exif,
            lambda rule: draw and self.log.wants(rule),
            thumbnails.palette_of(subject.classes),
        )

    # --- Looking ---

    def look_at_all(self) -> None:
        """Reads every pair that is wanted, several at a time, and takes them in in order."""
        if not self.subject.numbers:
            return
        wanted = {split: _chosen(number, self.config.max_images) for split, number in self.subject.numbers.items()}
        total = sum(len(places) if places else self.subject.numbers[split] for split, places in wanted.items())
        work = functools.partial(_look, task=self.task)
        items = self._wanted_items(wanted)
        looking = contextlib.closing(ordered_map(work, items, self.config.workers))
        with console.progress(total=total, what="checking", unit="image") as bar, looking as results:
            for result in results:
                self._take(result)
                bar.update()

    def _wanted_items(self, wanted: Mapping[str, set[int] | None]) -> Iterator[tuple[Item, bool] | Finding]:
        """Items with whether they are to be shown as samples; findings as they are."""
        shown = {split: self._shown(number, wanted[split]) for split, number in self.subject.numbers.items()}
        places: collections.Counter[str] = collections.Counter()
        for item in self.subject.items():
            if isinstance(item, Finding):
                yield item
                continue
            place, split = places[item.split], item.split
            places[split] += 1
            chosen, as_sample = wanted[split], shown[split]
            if chosen is None or place in chosen:
                if self.draw:
                    self.items.append(item.kept())
                yield item, self.draw and (as_sample is None or place in as_sample)

    def _shown(self, number: int, wanted: set[int] | None) -> set[int] | None:
        """Places of a split's samples, evenly spread among those that are wanted; None for all."""
        most = max(1, round(_SAMPLES / len(self.subject.numbers)))
        if wanted is None:
            return _chosen(number, most)
        places, chosen = sorted(wanted), _chosen(len(wanted), most)
        return wanted if chosen is None else {places[place] for place in chosen}

    def _take(self, result: Inspected | Finding) -> None:
        if isinstance(result, Finding):
            self.log.add([result])
            return
        self.log.add(result.findings)
        self.tallies[result.split].add(result, self.rule.ignore_label, len(self.likes.names))
        self.likes.add(result)
        self.palettes.add(result.palette, result.mask_where, result.split)
        if len(self.colors) <= _MOST_COLORS:
            self.colors |= result.colors
        if result.sample:
            self.samples.append(result.sample)

    # --- Concluding ---

    def report(self) -> Report:
        """What all of it together tells."""
        counts = np.sum([tally.counts for tally in self.tallies.values()], axis=0, initial=0) + np.zeros(256, np.int64)
        mapping = label_statistics.certain_map(np.flatnonzero(counts).tolist(), self.rule)
        tallies, dataset = self._renumbered(mapping), settled(self.subject, counts, mapping)
        facts = {split: tally.facts(dataset.num_classes, dataset.ignore_label) for split, tally in tallies.items()}
        found = _weights(tallies, facts)
        advised = size_checks.advice(self.tallies, self.config.output_stride)
        self._judge_labels(counts, mapping, dataset, facts, found)
        self.log.add(size_checks.look_at_sizes(self.tallies, self.config, advised))
        if self.subject.described and not self.config.max_images:
            described, every = self.subject.described, not self.config.splits
            self.log.add(descriptor_checks.look_at_description(described, facts, self.tallies, every))
        self._take_misfits()
        self._take_leaks()
        return Report(
            checked=self._checked(mapping),
            dataset=dataset_with_facts(dataset, facts, self.subject.described),
            splits=facts,
            findings=self._with_better_hints(counts),
            numbers=dict(self.log.numbers),
            weights=found,
            crop=advised,
            samples=self.samples,
            label_map=mapping,
        )

    def _judge_labels(
        self,
        counts: np.ndarray,
        mapping: Mapping[int, int],
        dataset: Dataset,
        facts: Mapping[str, SplitFacts],
        found: Mapping[str, class_balance.ClassWeights],
    ) -> None:
        """What the values of all labels tell; of classes only where the values are classes."""
        about_values = list(label_statistics.look_at_values(counts, self.rule))
        self.log.add(about_values)
        rules = {item.rule for item in about_values}
        unnumbered = "labels-are-gray-levels" in rules and not mapping
        if not rules & label_statistics.NO_CLASSES and not unnumbered and self.rule.ignore_label not in mapping:
            from_one = "labels-start-at-one" in rules
            self.log.add(label_statistics.look_at_classes(dataset, facts, from_one))
            self.log.add(label_statistics.look_at_balance(dataset, facts, found))
        self.log.add(label_statistics.look_at_sameness(self.tallies))
        self.log.add(label_statistics.look_at_single_classes(dataset, self.tallies))
        self.log.add(self.palettes.findings())

    def _with_better_hints(self, counts: np.ndarray) -> list[Finding]:
        masks = sum(tally.images - tally.unread for tally in self.tallies.values())
        evidence = Evidence(counts, self.rule, masks, self.log.numbers["label-out-of-range"], self._palette())
        listed = [better_hint(item, evidence) for item in self.log.in_order()]
        return [for_records(item) for item in listed] if self.subject.stored else listed

    def _renumbered(self, mapping: Mapping[int, int]) -> dict[str, SplitTally]:
        """The sums as they would be with a map of gray levels to classes: those of 251 "classes" help nobody."""
        if self.rule.ignore_label in mapping:
            return self.tallies
        return {split: tally.renumbered(mapping) for split, tally in self.tallies.items()}

    def _checked(self, mapping: Mapping[int, int]) -> str:
        seen = sum(tally.images for tally in self.tallies.values())
        remarks = [f"{seen:,} of {self.subject.total:,} images"] if self.config.max_images else []
        if mapping and self.rule.ignore_label not in mapping:
            remarks.append(f"counted as with {label_statistics.map_text(mapping)}")
        return self.subject.checked + (f" ({'; '.join(remarks)})" if remarks else "")

    def _palette(self) -> Dataset | None:
        """The known dataset whose colors the masks have."""
        if not 0 < len(self.colors) <= _MOST_COLORS:
            return None
        by_value = any(tally.counts.any() for tally in self.tallies.values())
        return known_palette(sorted(self.colors), self.subject.classes, mixed=by_value)

    def _take_misfits(self) -> None:
        for misfit in look_at_fits({split: tally.fits for split, tally in self.tallies.items()}):
            self._take_with_picture(misfit.finding, [misfit.place] if misfit.place >= 0 else [], self._overlay)

    def _take_leaks(self) -> None:
        for leak in find_leaks(self.likes, "labels-all-same" not in self.log.numbers):
            of_labels = leak.finding.rule in ("label-repeated", "same-picture-other-label")
            self._take_with_picture(leak.finding, leak.places, self._overlay if of_labels else self._image)

    def _take_with_picture(
        self, found: Finding, places: Sequence[int], show: Callable[[Item], np.ndarray | None]
    ) -> None:
        if self.draw and self.log.wants(found.rule):
            row = thumbnails.side_by_side([show(self.items[place]) for place in places])
            found = dataclasses.replace(found, picture=thumbnails.as_jpeg(row))
        self.log.add([found])

    def _image(self, item: Item) -> np.ndarray | None:
        image = item.load().image
        return thumbnails.shrunk(image) if image else None

    def _overlay(self, item: Item) -> np.ndarray | None:
        sample = inspect(item, self.task, as_sample=True).sample
        return thumbnails.shrunk(sample.overlay) if sample else None


def _look(item: tuple[Item, bool] | Finding, task: Task) -> Inspected | Finding:
    return item if isinstance(item, Finding) else inspect(item[0], task, item[1])


def _chosen(number: int, most: int) -> set[int] | None:
    """Places of at most so many of a number of items, evenly spread; None for all."""
    if not most or number <= most:
        return None
    return {place * number // most for place in range(most)}


def settled(subject: Subject, counts: np.ndarray, mapping: Mapping[int, int]) -> Dataset:
    """The dataset with its classes: as many as are known, else up to the highest label, replaced as `mapping` says."""
    classes, ignore = subject.classes, subject.classes.rule.ignore_label
    present = sorted(mapping.get(value, value) for value in label_statistics.present_values(counts, ignore))
    number = classes.num_classes or (present[-1] + 1 if present else 1)
    names = classes.names or ("background", *(f"class_{index}" for index in range(1, number)))
    colors = classes.colors
    if len(colors) != number:
        colors = tuple((int(r), int(g), int(b)) for r, g, b in colors_for(None, number)[:number])
    name = subject.described.name if subject.described else subject.checked
    return Dataset(name, names, colors, ignore)


def dataset_with_facts(dataset: Dataset, facts: Mapping[str, SplitFacts], described: Dataset | None) -> Dataset:
    """The dataset as a builder would describe it."""
    kinds = {kind.split(",")[0] for split in facts.values() for kind in split.kinds}
    return dataclasses.replace(
        dataset,
        splits={split: found.images for split, found in facts.items()},
        pixels={split: found.pixels for split, found in facts.items()},
        ignored_pixels={split: found.ignored_pixels for split, found in facts.items()},
        size_range={split: found.size_range for split, found in facts.items() if found.size_range},
        image_formats=tuple(sorted(kinds & {"jpeg", "png"})) or (described.image_formats if described else ("jpeg",)),
    )


def _weights(
    tallies: Mapping[str, SplitTally], facts: Mapping[str, SplitFacts]
) -> Mapping[str, class_balance.ClassWeights]:
    training = training_split(list(facts))
    if training not in facts:
        return {}
    own = facts[training]
    around = tallies[training].pixels_around.tolist()[: len(own.pixels)]
    return class_balance.all_weights(class_balance.ClassCounts(own.pixels, own.images_with, around, own.images))
