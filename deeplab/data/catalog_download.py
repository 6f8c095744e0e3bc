"""Get a public dataset: download its archives or take the user's, check, unpack and count them.

Owns the state of a dataset folder. Archives are unpacked into a hidden folder inside the output folder, counted there,
and only then moved to their places; `.downloaded.json`, written after each archive, lists those in place. A run that
was stopped, however it was stopped, therefore resumes with the archive in hand. Called by the command
`download_data.py`; `catalog.py` says what is published, `utils/download.py` and `utils/archive.py` do the transfer.
"""

from __future__ import annotations

import contextlib
import filecmp
import fnmatch
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deeplab.config.data_config import DownloadConfig
from deeplab.data import catalog
from deeplab.data.catalog import PublishedArchive, PublishedDataset
from deeplab.utils import archive as archives
from deeplab.utils import console, download
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.locks import folder_lock
from deeplab.utils.text import byte_text

STAMP = ".downloaded.json"
ARCHIVES = "archives"  # folder of downloaded archives, in the output folder
_STAGING = ".unpacking"
_SPACE_HINT = "free some space, or give an `output_dir` on another disk"
_SIZE_LIMIT = download.SizeLimit(100 << 30, "no archive of the catalog is that large", _SPACE_HINT)
_LIMITS = archives.Limits("public dataset", max_files=1_000_000, max_bytes=100 << 30, durable=False)
_TEXT_FILES = ("readme", "license", "licence", "attribution")


def obtain(config: DownloadConfig) -> pathlib.Path:
    """Bring a dataset of the catalog into a folder; a complete folder is left as it is.

    Returns:
      The folder.

    Raises:
      UserError: no such dataset; archives that must be requested from their owners are not in `archives`; no network;
        an archive that is encrypted, damaged, incomplete or not the published one; no space on the disk; another
        process at work in the folder.
    """
    published = catalog.find(config.name, config.addresses)
    folder = pathlib.Path(config.output_dir)
    with _created(folder), folder_lock(folder, "downloading a dataset", "give another `output_dir`"):
        shutil.rmtree(folder / _STAGING, ignore_errors=True)  # left by a run that was killed
        try:
            _obtain(published, folder, config)
        except OSError as problem:
            rule = f"cannot be read or written: {problem.strerror or problem}"
            raise UserError("unwritable-file", rule, _SPACE_HINT, where=problem.filename or folder) from problem
        finally:
            _remove_if_empty(folder / ARCHIVES)
    patterns = [pattern for archive in published.archives for pattern in archive.expected]
    rows = [(_count(folder, pattern), os.path.join(folder, pattern)) for pattern in patterns]
    if found := [row for row in rows if row[0]]:
        print(console.table(found, ("files", published.name)), flush=True)
    return folder


def _obtain(published: PublishedDataset, folder: pathlib.Path, config: DownloadConfig) -> None:
    wanted = [archive for archive in published.archives if not _is_in_place(archive, folder)]
    given = _given(wanted, folder, config.archives)
    wanted = _without_optional(wanted, given)
    if not wanted:
        console.note(f"{published.name} is complete in {folder}; nothing to download")
        return
    console.note(f"{published.title}\n  terms of use: {published.terms}; see {published.page}")
    _require_given(published, [each for each in wanted if not each.address and each.file not in given], config.archives)
    _require_space(folder, wanted, given)
    for archive in wanted:
        _bring(archive, published, folder, given.get(archive.file), config)


@contextlib.contextmanager
def _created(folder: pathlib.Path) -> Iterator[None]:
    """The folder, created where missing, and removed again if it stays empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        rule = f"{folder} cannot be created: {problem.strerror}"
        raise UserError("unwritable-folder", rule, field="output_dir", value=str(folder)) from None
    try:
        yield
    finally:
        _remove_if_empty(folder)


def _remove_if_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # it has contents, or does not exist
        folder.rmdir()


def _count(folder: pathlib.Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


# ---- what is in place already ------------------------------------------------------------------------


def _is_in_place(archive: PublishedArchive, folder: pathlib.Path) -> bool:
    """Whether an archive's files are where they belong, including those that the user has unpacked there."""
    stamped = archive.file in _stamps(folder)
    missing = _shortfall(archive, folder)
    if stamped and missing:
        console.note(f"{folder}: {archive.file} was unpacked before, but now holds {missing}; unpacking it again")
    elif not stamped and archive.expected and not missing:
        console.note(f"{folder}: the files of {archive.file} are in place already")
        _stamp(folder, archive.file, {})
        return True
    return stamped and not missing


def _stamps(folder: pathlib.Path) -> dict[str, Any]:
    try:
        stamps = json.loads((folder / STAMP).read_text(encoding="utf-8"))["archives"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _stamp(folder: pathlib.Path, file: str, facts: dict[str, Any]) -> None:
    """Record that an archive is in place; everything before it is on the disk by then, even if power fails."""
    os.sync()
    content = {"archives": {**_stamps(folder), file: facts}}
    write_atomically(folder / STAMP, json.dumps(content, indent=1).encode())


# ---- what the user must provide ----------------------------------------------------------------------


def _given(wanted: Sequence[PublishedArchive], folder: pathlib.Path, archive_folder: str) -> dict[str, pathlib.Path]:
    """Archives in the user's folder, or downloaded already, by file name."""
    if archive_folder and not pathlib.Path(archive_folder).is_dir():
        rule = f"{archive_folder} is not a folder"
        raise UserError("folder-not-found", rule, "give the folder that holds the archives", field="archives")
    places = [pathlib.Path(place) for place in (archive_folder, folder / ARCHIVES) if place]
    paths = {each.file: [place / each.file for place in places] for each in wanted}
    return {file: path for file, candidates in paths.items() for path in candidates[::-1] if path.is_file()}


def _without_optional(wanted: Sequence[PublishedArchive], given: dict[str, pathlib.Path]) -> list[PublishedArchive]:
    left_out = [each.file for each in wanted if each.optional and not each.address and each.file not in given]
    kept = [each for each in wanted if each.file not in left_out]
    if left_out and kept:
        console.note(f"without the optional {', '.join(left_out)}; put them into `archives` to include them")
    return kept


def _require_given(published: PublishedDataset, missing: Sequence[PublishedArchive], archive_folder: str) -> None:
    """Name all archives that cannot be downloaded, before hours go into downloading others."""
    if not missing:
        return
    files = ", ".join(each.file for each in missing)
    rule = f"{files} of {published.name} must be requested from the owners"
    if archive_folder:
        held = sorted(path.name for path in pathlib.Path(archive_folder).iterdir() if path.is_file())
        rule += f", and {archive_folder} holds {'only ' + ', '.join(held[:8]) if held else 'no files'}"
    hint = f"get them from {published.page} ({published.by_hand}), put them into a folder, and give `archives=FOLDER`"
    raise UserError("archive-not-found", rule, hint, field="archives")


def _require_space(folder: pathlib.Path, wanted: Sequence[PublishedArchive], given: dict[str, pathlib.Path]) -> None:
    """Space for all archives to download, and for their contents, as far as the sizes are known."""
    to_download = sum((each.bytes or 0) - _received(folder, each) for each in wanted if each.file not in given)
    unpacked = sum(each.unpacked_bytes or each.bytes or 0 for each in wanted if not each.only_with)
    download.require_free_space(folder, max(0, to_download) + unpacked, "for archives and files", _SPACE_HINT)


def _received(folder: pathlib.Path, archive: PublishedArchive) -> int:
    part = folder / ARCHIVES / (archive.file + download.PART)
    return part.stat().st_size if part.is_file() else 0


# ---- one archive -------------------------------------------------------------------------------------


def _bring(
    archive: PublishedArchive,
    published: PublishedDataset,
    folder: pathlib.Path,
    given: pathlib.Path | None,
    config: DownloadConfig,
) -> None:
    """Download, check, unpack and count one archive, and put its files in place."""
    path = given or _downloaded(archive, folder)
    facts = _checked(archive, path, published.name)
    with _staging(folder) as staging:
        if archive.unpack:
            _unpack(archive, published, path, staging, folder)
        else:
            (staging / archive.folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, staging / archive.folder / archive.file)
        if missing := _shortfall(archive, staging):
            counts = ", ".join(f"'{pattern}': {_count(staging, pattern)}" for pattern in archive.expected)
            hint = f"fetch it again; {_accept_hint(published.name, archive, f'{{expected: {{{counts}}}}}')}"
            raise UserError("incomplete-archive", f"is incomplete: it holds only {missing}", hint, where=path)
        _move_into(staging, folder, folder)
    _stamp(folder, archive.file, facts)
    from_user = bool(config.archives) and os.path.samefile(config.archives, path.parent)
    if not from_user and not config.keep_archives:
        path.unlink()


def _downloaded(archive: PublishedArchive, folder: pathlib.Path) -> pathlib.Path:
    path = folder / ARCHIVES / archive.file
    path.parent.mkdir(exist_ok=True)
    size = f", {byte_text(archive.bytes)}" if archive.bytes else ""
    console.note(f"downloading {archive.address}{size}")
    by_hand = f"download {archive.address} on a machine with a network, and give its folder as `archives=FOLDER`"
    download.fetch(archive.address, str(path), by_hand, _SIZE_LIMIT)
    if error := archives.first_look(str(path)):
        path.unlink()  # worthless; the next run downloads again
        hint = f"open the address in a browser; {by_hand}"
        raise UserError(error.code, error.rule, hint, where=archive.address)
    return path


def _checked(archive: PublishedArchive, path: pathlib.Path, name: str) -> dict[str, Any]:
    """Compare a file's size and checksum with the published ones, as far as they are known.

    Returns:
      Its facts, for the stamp.

    Raises:
      UserError: empty, a web page, truncated, or another file.
    """
    if error := archives.first_look(str(path)):
        raise error
    size = path.stat().st_size
    if archive.bytes is not None and size < archive.bytes:
        accept = _accept_hint(name, archive, f"{{bytes: {size}, checksum: null}}")
        hint = f"the copy or download was stopped early: fetch it again; {accept}"
        raise UserError("damaged-archive", f"is truncated: it has {size} bytes of {archive.bytes}", hint, where=path)
    algorithm, _, expected = archive.checksum.partition(":")
    digest = archives.checksum(str(path), algorithm) if expected else ""
    if digest != expected or (archive.bytes is not None and size != archive.bytes):
        rule = f"is not the published {archive.file}: "
        rule += f"its {algorithm} is {digest}, not {expected}" if expected else f"{size} bytes, not {archive.bytes}"
        facts = f"{{bytes: {size}, checksum: '{algorithm}:{digest}'}}" if expected else f"{{bytes: {size}}}"
        hint = f"remove it and fetch it again; {_accept_hint(name, archive, facts)}"
        raise UserError("checksum-mismatch", rule, hint, where=path, value=digest or size)
    return {"bytes": size, **({"checksum": archive.checksum} if expected else {})}


def _accept_hint(name: str, archive: PublishedArchive, facts: str) -> str:
    line = f"{name}: {{archives: {{{archive.file}: {facts}}}}}"
    return f"if the publisher has replaced it, accept it by `addresses=FILE.yml` with this line: {line}"


def _shortfall(archive: PublishedArchive, folder: pathlib.Path) -> str:
    """The patterns that fewer files match than are published, for messages; empty where none."""
    found = {pattern: _count(folder, pattern) for pattern in archive.expected}
    return ", ".join(
        f"{found[pattern]} of {number} {pattern}"
        for pattern, number in archive.expected.items()
        if found[pattern] < number
    )


def _unpack(
    archive: PublishedArchive,
    published: PublishedDataset,
    path: pathlib.Path,
    staging: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    need = archives.zip_size(str(path)) or archive.unpacked_bytes or path.stat().st_size
    need = 0 if archive.only_with else need
    download.require_free_space(folder, need, f"to unpack {archive.file}", _SPACE_HINT)
    console.note(f"unpacking {path}")
    try:
        archives.unpack(str(path), str(staging), _LIMITS, archive.nested, _placer(archive, folder))
    except UserError as error:
        if error.code != "encrypted-archive":
            raise
        where = folder / archive.folder
        hint = f"unpack it yourself: 7z x -pPASSWORD -o{where} {path}; then run this command again"
        who = f" (password: {published.encrypted}; {published.page})" if published.encrypted else ""
        raise UserError(error.code, error.rule, f"{hint}{who}", where=path) from None


@contextlib.contextmanager
def _staging(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty hidden folder that is removed afterwards."""
    staging = folder / _STAGING
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _placer(archive: PublishedArchive, folder: pathlib.Path) -> Callable[[str], str]:
    """The function from a file's name in the archive to its path below the output folder; empty = not wanted."""
    stems = {path.stem for path in (folder / archive.only_with).iterdir()} if archive.only_with else set()

    def place(name: str) -> str:
        base = os.path.basename(name)
        if archive.only and not fnmatch.fnmatch(base.lower(), archive.only):
            return name if archive.nested and archives.is_archive_name(base) else ""
        if archive.only_with and os.path.splitext(base)[0] not in stems:
            return ""
        if archive.flatten:
            return os.path.join(archive.folder, base)
        inside = not archive.folder or name.startswith(archive.folder + "/")
        return name if inside else os.path.join(archive.folder, name)

    return place


def _move_into(source: pathlib.Path, target: pathlib.Path, output_dir: pathlib.Path) -> None:
    """Move a tree into another on the same disk, whole folders where the target lacks them.

    A file that exists already is kept if it is the same, or a text such as README that several archives hold.

    Raises:
      UserError: an image or annotation that exists already differs.
    """
    for path in sorted(source.iterdir()):
        existing = target / path.name
        if not existing.exists():
            os.replace(path, existing)
        elif path.is_dir() and existing.is_dir():
            _move_into(path, existing, output_dir)
        elif path.is_dir() or existing.is_dir() or not _may_be_kept(path, existing):
            rule = "exists already and differs from the file in the archive"
            hint = f"move it out of {output_dir}, or give another `output_dir`"
            raise UserError("would-overwrite", rule, hint, where=existing)


def _may_be_kept(new: pathlib.Path, existing: pathlib.Path) -> bool:
    return new.stem.lower() in _TEXT_FILES or filecmp.cmp(new, existing, shallow=False)
