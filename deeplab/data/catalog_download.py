"""From the name of a dataset to its files: fetched or taken from the user's archives, checked, unpacked, counted.

Archives are unpacked into a hidden folder inside the output folder, counted there, and only then moved to their
places; `.downloaded.json`, written after each, says which are in place. So a run that was stopped, however it was, goes
on with the archive it had in hand, and a further run finds everything there.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deeplab.config.fields import setting
from deeplab.data import catalog, catalog_arrival
from deeplab.data.catalog import Archive, Known
from deeplab.utils import archive as archives
from deeplab.utils import console, download, zips
from deeplab.utils.archive_entries import Limits
from deeplab.utils.disk import amount, require_room
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.locks import folder_lock

STAMP = ".downloaded.json"
ARCHIVES = "archives"  # folder of downloaded archives, in the output folder
_STAGING = ".unpacking"
_MAKE_ROOM = "make room, or give an `output_dir` on another disk"
_ALLOWANCE = download.Allowance(100 << 30, "no archive of a known dataset is that large", _MAKE_ROOM)
_LIMITS = Limits("known dataset", files=1_000_000, bytes=100 << 30, durable=False)


@dataclass(frozen=True)
class DownloadConfig:
    """What is fetched, and where it goes."""

    name: str = setting("", "The dataset; the first word of the command line may name it as well.", required=True)
    output_dir: str = setting("", "Folder of its files.", required=True)
    archives: str = setting(
        "", "Folder of archives that you have, under their published names; they are taken from there and stay there."
    )
    addresses: str = setting(
        "", "YAML file with addresses, checksums and numbers of files in place of the published ones, for mirrors."
    )
    keep_archives: bool = setting(False, f"Keep downloaded archives, in OUTPUT_DIR/{ARCHIVES}.")
    password: str = setting("", "Password of encrypted archives.")


def obtain(config: DownloadConfig) -> pathlib.Path:
    """Brings a known dataset into a folder. Needs nothing but a look at it where it is there already.

    Returns:
      The folder.

    Raises:
      UserError: no such dataset; archives that must be asked for are not in `archives`; no network; an archive that
        is not the published one, damaged or incomplete; no room; another process at work in the folder.
    """
    known = catalog.find(config.name, config.addresses)
    folder = pathlib.Path(config.output_dir)
    with _made(folder), folder_lock(folder, "fetching a dataset", "give another `output_dir`"):
        shutil.rmtree(folder / _STAGING, ignore_errors=True)  # left by a run that was killed
        try:
            _obtain(known, folder, config)
        except OSError as fault:
            where = fault.filename or folder
            raise UserError(
                "unclassified", f"cannot be read or written: {fault.strerror or fault}", _MAKE_ROOM, where=where
            ) from fault
        finally:
            _remove_empty(folder / ARCHIVES)
    if summary := _summary(known, folder):
        print(summary, flush=True)
    return folder


def _obtain(known: Known, folder: pathlib.Path, config: DownloadConfig) -> None:
    wanted = [each for each in known.archives if not _is_in_place(each, folder)]
    given = _given(wanted, folder, config.archives)
    wanted = _without_optional(wanted, given)
    if not wanted:
        console.note(f"{known.name} is complete in {folder}: nothing is fetched")
        return
    console.note(f"{known.title}\n  terms: {known.terms}; read {known.page}")
    _require_given(known, [each for each in wanted if not each.address and each.file not in given], config.archives)
    _require_room(folder, wanted, given)
    for each in wanted:
        _bring(each, known, folder, given.get(each.file), config)


@contextlib.contextmanager
def _made(folder: pathlib.Path) -> Iterator[None]:
    """The folder, made where it is missing, and gone again where nothing came into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError("unclassified", f"{folder} cannot be made: {fault.strerror}", field="output_dir") from None
    try:
        yield
    finally:
        _remove_empty(folder)


def _remove_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # something is in it, or it is not there
        folder.rmdir()


def _summary(known: Known, folder: pathlib.Path) -> str:
    """How many files there are, as a table; empty where nobody knows what to count."""
    rows = [
        (catalog_arrival.count(folder, pattern), os.path.join(folder, pattern))
        for each in known.archives
        for pattern in each.expected
    ]
    found = [row for row in rows if row[0]]
    return console.table(found, ("files", known.name)) if found else ""


# ---- what is there already ---------------------------------------------------------------------------


def _is_in_place(archive: Archive, folder: pathlib.Path) -> bool:
    """Whether an archive's files are where they belong, be it that the user has unpacked them there."""
    stamped = archive.file in _stamps(folder)
    short = catalog_arrival.shortfall(archive, folder)
    if stamped and short:
        console.note(f"{folder}: {archive.file} was unpacked there, but now there are {short}: once more")
    elif not stamped and archive.expected and not short:
        console.note(f"{folder}: what {archive.file} holds is there already")
        _stamp(folder, archive.file, {})
        return True
    return stamped and not short


def _stamps(folder: pathlib.Path) -> dict[str, Any]:
    try:
        stamps = json.loads((folder / STAMP).read_text(encoding="utf-8"))["archives"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _stamp(folder: pathlib.Path, file: str, facts: dict[str, Any]) -> None:
    """Notes that an archive is in place. Everything before it is on the disk by then, should the power fail."""
    os.sync()
    content = {"archives": {**_stamps(folder), file: facts}}
    write_atomically(folder / STAMP, json.dumps(content, indent=1).encode())


# ---- what the user must bring ------------------------------------------------------------------------


def _given(wanted: Sequence[Archive], folder: pathlib.Path, archive_folder: str) -> dict[str, pathlib.Path]:
    """Archives that lie in the user's folder, or are downloaded already, by file name."""
    if archive_folder and not pathlib.Path(archive_folder).is_dir():
        raise UserError(
            "unclassified",
            f"no such folder: {archive_folder}",
            "give the folder that the archives lie in",
            field="archives",
        )
    places = [pathlib.Path(place) for place in (archive_folder, folder / ARCHIVES) if place]
    paths = {each.file: [place / each.file for place in places] for each in wanted}
    return {file: path for file, candidates in paths.items() for path in candidates[::-1] if path.is_file()}


def _without_optional(wanted: Sequence[Archive], given: dict[str, pathlib.Path]) -> list[Archive]:
    left_out = [each.file for each in wanted if each.optional and not each.address and each.file not in given]
    kept = [each for each in wanted if each.file not in left_out]
    if left_out and kept:
        console.note(f"goes without {', '.join(left_out)}: in `archives` they would be taken, too")
    return kept


def _require_given(known: Known, missing: Sequence[Archive], archive_folder: str) -> None:
    """Names all archives that cannot be fetched, before hours go into fetching others."""
    if not missing:
        return
    files = ", ".join(each.file for each in missing)
    rule = f"{files} of {known.name} cannot be fetched without asking its owners"
    if archive_folder:
        held = sorted(path.name for path in pathlib.Path(archive_folder).iterdir() if path.is_file())
        rule += f", and {archive_folder} holds {'only ' + ', '.join(held[:8]) if held else 'nothing'}"
    hint = f"get them from {known.page} ({known.by_hand}), put them into a folder, and give `archives=FOLDER`"
    if known.password:
        hint += f" and `password=PASSWORD` ({known.password})"
    raise UserError("unclassified", rule, hint, field="archives")


def _require_room(folder: pathlib.Path, wanted: Sequence[Archive], given: dict[str, pathlib.Path]) -> None:
    """Room for all archives that are fetched, and for what is in them, as far as their sizes are known."""
    fetched = sum((each.bytes or 0) - _arrived(folder, each) for each in wanted if each.file not in given)
    unpacked = sum(each.unpacked_bytes or each.bytes or 0 for each in wanted if not each.only_with)
    require_room(folder, max(0, fetched) + unpacked, "are needed for archives and files", _MAKE_ROOM)


def _arrived(folder: pathlib.Path, archive: Archive) -> int:
    part = folder / ARCHIVES / (archive.file + download.PART)
    return part.stat().st_size if part.is_file() else 0


# ---- one archive -------------------------------------------------------------------------------------


def _bring(
    archive: Archive, known: Known, folder: pathlib.Path, given: pathlib.Path | None, config: DownloadConfig
) -> None:
    """Fetches, checks, unpacks and counts one archive, and puts its files into their places."""
    path = given or _fetched(archive, folder)
    facts = catalog_arrival.check(archive, path, known.name)
    with _staging(folder) as staging:
        if archive.unpack:
            _unpack(archive, known, path, staging, folder, config.password)
        else:
            (staging / archive.folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, staging / archive.folder / archive.file)
        catalog_arrival.require_complete(archive, path, staging, known.name)
        catalog_arrival.move_into(staging, folder, folder)
    _stamp(folder, archive.file, facts)
    theirs = bool(config.archives) and os.path.samefile(config.archives, path.parent)
    if not theirs and not config.keep_archives:
        path.unlink()


def _fetched(archive: Archive, folder: pathlib.Path) -> pathlib.Path:
    path = folder / ARCHIVES / archive.file
    path.parent.mkdir(exist_ok=True)
    size = f", {amount(archive.bytes)}" if archive.bytes else ""
    console.note(f"downloading {archive.address}{size}")
    by_hand = f"where there is a network, download {archive.address}, and give the folder it lies in with `archives`"
    download.fetch(archive.address, str(path), by_hand, _ALLOWANCE)
    if fault := archives.fault_of(str(path)):
        path.unlink()  # nothing that anybody wants: the next run fetches it anew
        raise UserError(
            "unclassified", fault.rule, f"look at the address with a browser; {by_hand}", where=archive.address
        )
    return path


def _unpack(
    archive: Archive, known: Known, path: pathlib.Path, staging: pathlib.Path, folder: pathlib.Path, password: str
) -> None:
    need = zips.declared_size(str(path)) or archive.unpacked_bytes or path.stat().st_size
    require_room(folder, 0 if archive.only_with else need, f"are needed to unpack {archive.file}", _MAKE_ROOM)
    console.note(f"unpacking {path}")
    place = catalog_arrival.placer(archive, folder)
    try:
        archives.unpack(str(path), str(staging), _LIMITS, password, archive.nested, place)
    except zips.Locked as fault:
        who = f" ({known.password}: {known.page})" if known.password else ""
        raise UserError("unclassified", fault.rule, f"{fault.hint}{who}", where=fault.where) from None


@contextlib.contextmanager
def _staging(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty hidden folder, gone afterwards."""
    staging = folder / _STAGING
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
