"""Files and folders of a dataset: how they are found and read, in words that say what is wrong with them."""

from __future__ import annotations

import codecs
import contextlib
import fnmatch
import os
import pathlib
import stat
import time
from collections.abc import Callable, Iterator

from deeplab.utils import console
from deeplab.utils.archive import is_archive_name
from deeplab.utils.errors import UserError
from deeplab.utils.text import counted, shorten

_SECONDS_BETWEEN_NOTES = 10.0
_PSEUDO = {
    *("proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "debugfs", "tracefs", "securityfs", "bpf"),
    *("configfs", "pstore", "mqueue", "fusectl", "binfmt_misc", "efivarfs", "nsfs", "selinuxfs", "rpc_pipefs"),
}  # types of file systems on Linux that hold no files of a person; man 5 filesystems


# --- Files --------------------------------------------------------------------------------------------------


def read_file(path: str | os.PathLike) -> bytes:
    """A file's bytes.

    Raises:
      UserError: it cannot be read, or is a device, a pipe or a socket, which would never end.
    """
    require_regular(path)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise unreadable_file(path, error) from None


def require_regular(path: str | os.PathLike) -> None:
    """Stops at a path that is no regular file, nor a link to one.

    Raises:
      UserError: there is nothing (`file-not-found`), or it is a folder, device, pipe or socket (`not-a-file`).
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise unreadable_file(path, error if isinstance(error, OSError) else FileNotFoundError()) from None
    if stat.S_ISDIR(mode):
        raise unreadable_file(path, IsADirectoryError())
    if not stat.S_ISREG(mode):
        raise UserError("not-a-file", "is a device, a pipe or a socket", "use a regular file instead", where=path)


def read_text(path: str | os.PathLike) -> str:
    """The content of a text file in UTF-8, or in UTF-16 with a byte order mark, as Windows programs write it.

    Raises:
      UserError: it cannot be read, or is in another encoding.
    """
    content = read_file(path)
    try:
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as fault:
        raise UserError("not-utf-8", f"is not UTF-8 at byte {fault.start}", "save it as UTF-8", where=path) from None


def unreadable_file(path: str | os.PathLike, fault: OSError) -> UserError:
    """The error for a file that cannot be read."""
    if isinstance(fault, IsADirectoryError):
        return UserError("not-a-file", "is a folder, not a file", "give the file inside it", where=path)
    if isinstance(fault, FileNotFoundError):
        return UserError("file-not-found", "does not exist", "check the path", where=path)
    return UserError(
        "unreadable-file", f"cannot be read: {fault.strerror}", "check the path and its permissions", where=path
    )


def split_paths(text: str, exists: Callable[[str], bool] = os.path.exists) -> list[str]:
    """The paths in a flag that takes several, with commas between them; commas within paths that exist are kept.

    Args:
      text: the flag's value.
      exists: whether there is what a part names.
    """
    parts = text.split(",")
    found: list[str] = []
    while parts:
        ends = range(len(parts), 0, -1)
        end = next((end for end in ends if exists(",".join(parts[:end]).strip())), 1)
        found.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return [path for path in found if path]


# --- Folders ------------------------------------------------------------------------------------------------


def require_folder(folder: str | os.PathLike, field: str) -> None:
    """Raises a UserError about a setting, with the nearest existing parent, when its folder does not exist."""
    folder, field = pathlib.Path(folder), field.strip("`-")
    if folder.is_dir():
        return
    if folder.exists():
        rule, hint = f"{folder} is a file, not a folder", f"`{field}={folder.parent}`"
        if is_archive_name(folder.name) or folder.suffix.lower() in (".7z", ".rar"):
            hint = "unpack the archive, and give the folder with its files"
        raise UserError("not-a-folder", rule, hint, field=field, value=str(folder))
    parent = next((p for p in folder.absolute().parents if p.is_dir()), pathlib.Path("/"))
    held = sorted(child.name for child in parent.iterdir() if child.is_dir() and not child.name.startswith("."))
    hint = f"{parent} contains the folders {shorten(held) or '(none)'}"
    raise UserError("folder-not-found", f"no such folder: {folder}", hint, field=field, value=str(folder))


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, list[str]]]:
    """Every folder below one, as a path within it (itself first, as ""), with the names of its files, sorted.

    Links are followed, but no folder is looked into twice, and under its own name rather than under a link's. Hidden
    files and folders are left out without a word; folders that cannot be read and what the system shows as files
    (`/proc`, `/sys`) with one. A long search says how far it is.

    Raises:
      UserError: the folder itself cannot be read (`unreadable-file`).
    """
    seen: set[tuple[int, int]] = set()
    pseudo = _pseudo_file_systems()
    unreadable: list[OSError] = []
    told: set[str] = set()
    clock = _SearchClock(folder)
    waiting = [""]
    while waiting:
        for place, inner, files in os.walk(os.path.join(folder, waiting.pop(0)), onerror=unreadable.append):
            try:
                facts = os.stat(place)
            except OSError as error:  # it has gone
                unreadable.append(error)
                inner.clear()
                continue
            is_first = not seen
            if facts.st_dev in pseudo or (facts.st_dev, facts.st_ino) in seen:
                inner.clear()
                kind = pseudo.get(facts.st_dev)
                if kind and kind not in told:
                    told.add(kind)
                    reason = f"in a file system of type {kind} the system shows itself"
                    console.note(f"{place.rstrip('/')}: is not searched; {reason}")
                if not is_first:
                    continue
                files = []
            seen.add((facts.st_dev, facts.st_ino))
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            inside = os.path.relpath(place, folder).replace(os.sep, "/").removeprefix(".")
            waiting += [f"{inside}/{name}".lstrip("/") for name in inner if os.path.islink(os.path.join(place, name))]
            found = sorted(name for name in files if not name.startswith("."))
            with clock.paused(len(found)):
                yield inside, found
    if not seen and unreadable and not isinstance(unreadable[0], (FileNotFoundError, NotADirectoryError)):
        raise unreadable_file(folder, unreadable[0])
    if seen and unreadable:
        reason = f"{unreadable[0].filename}: {unreadable[0].strerror}"
        console.note(f"{folder}: {counted(len(unreadable), 'folder')} cannot be read and are left out, first {reason}")


class _SearchClock:
    """Says how far a search is, every ten seconds that it takes itself."""

    def __init__(self, folder: str | os.PathLike):
        self._folder, self._files, self._told = folder, 0, 0.0
        self._start = time.monotonic()

    @contextlib.contextmanager
    def paused(self, files: int) -> Iterator[None]:
        """A block in which others work with the files that were found."""
        self._files += files
        took = time.monotonic() - self._start
        if took >= self._told + _SECONDS_BETWEEN_NOTES:
            self._told = took
            console.note(f"searching {self._folder}: {counted(self._files, 'file')} so far")
        yield
        self._start = time.monotonic() - took


def _pseudo_file_systems() -> dict[int, str]:
    """The types of the file systems in which the system shows itself, by device number; none where unknown."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:  # man 5 proc: ID, parent, major:minor, ... " - " type, source, options
            facts, _, rest = line.partition(" - ")
            kind = rest.partition(" ")[0]
            if kind in _PSEUDO:
                major, _, minor = facts.split()[2].partition(":")
                found[os.makedev(int(major), int(minor))] = kind
    return found


def list_files(folder: str | os.PathLike) -> Iterator[str]:
    """Paths, with slashes, of all files in a folder and its subfolders; see `walk`."""
    for inside, files in walk(folder):
        for name in files:
            yield f"{inside}/{name}" if inside else name


def matches(path: str, pattern: str) -> bool:
    """Whether the names of a path match the parts of a pattern; `**` stands for any number of folders."""

    def fits(names: list[str], parts: list[str]) -> bool:
        if not parts or not names:
            return not names and all(part == "**" for part in parts)
        if parts[0] == "**":
            return fits(names, parts[1:]) or fits(names[1:], parts)
        return fnmatch.fnmatchcase(names[0], parts[0]) and fits(names[1:], parts[1:])

    return fits(path.split("/"), pattern.split("/"))


def files_of(folder: str | os.PathLike) -> list[str]:
    """Names of the files that lie in a folder itself, sorted, hidden ones left out; none where there is no folder."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(str(folder)) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())


def cache_root() -> str:
    """Return the folder of everything that is downloaded once: `$DEEPLAB_CACHE`, else `~/.cache/deeplab`."""
    return os.path.expanduser(os.environ.get("DEEPLAB_CACHE") or "~/.cache/deeplab")
