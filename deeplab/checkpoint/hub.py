"""Models on the Hugging Face hub: `hf://USER/NAME` becomes a folder here, and files become a commit there.

    hf://user/model                  the newest version of a repository
    hf://user/model@v2               a branch, a tag or a commit of it
    hf://user/model/export           a folder in it

Owns addresses, transfers and their errors; huggingface_hub (extra `hub`) makes the transfers. It takes the access token
from HF_TOKEN or `hf auth login`, and the server from HF_ENDPOINT. Called by whatever opens a model, and by push and
pull. It never opens what it downloads: the runtimes treat files from the hub like any other file from a stranger.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deeplab import __version__
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.paths import cache_root
from deeplab.utils.text import byte_text

PREFIX = "hf://"
MAX_BYTES = 20 << 30  # of a repository's model files; our largest model has less than half a gigabyte
MAX_FILES = 1000
_WANTED = re.compile(  # files of models; a repository may also hold a dataset or videos
    r"(.*/)?(checkpoint|[^/]+\.(index|data-\d{5}-of-\d{5}|yml|json|md|pb|txt|keras|tflite|task|onnx|mnn|xml|bin|h5|pth)"
    r"|[^/]+\.safetensors|variables/[^/]+|assets(\.extra)?/[^/]+)"
)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ADDRESS = re.compile(
    rf"hf://(?P<repository>{_NAME}/{_NAME})(@(?P<revision>[A-Za-z0-9][\w./-]{{0,127}}?))?(/(?P<folder>[^@]+))?/?"
)
_OFF = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}  # see docs/security.md


@dataclass(frozen=True)
class Address:
    """A place on the hub.

    Attributes:
      repository: USER/NAME.
      revision: branch, tag or commit; "" = the newest of the main branch.
      folder: path inside the repository; "" = its root.
    """

    repository: str
    revision: str = ""
    folder: str = ""


def is_address(text: str) -> bool:
    """Whether a text is meant as an address on the hub."""
    return text.startswith(PREFIX)


def parse(text: str, field: str | None = None) -> Address:
    """Return the parts of an address.

    A revision with slashes cannot be told from a folder: `hf://user/model@a/b` is folder b of revision a.

    Args:
      text: the address.
      field: the setting that it is the value of, for the message.

    Raises:
      UserError: it is none, or leads out of the repository (`bad-name`).
    """
    match = _ADDRESS.fullmatch(text)
    folder = (match["folder"] or "") if match else ""
    if match is None or any(part in ("", ".", "..") for part in folder.split("/") if folder):
        hint = "write hf://USER/NAME, hf://USER/NAME@REVISION or hf://USER/NAME/FOLDER"
        raise UserError("bad-name", "is not an address on the hub", hint, field=field, where=text, value=text)
    return Address(match["repository"], match["revision"] or "", folder)


def local(source: str) -> str:
    """Return the folder into which a model on the hub was downloaded; anything but an address as it is."""
    return str(fetch(source)) if is_address(source) else source


def fetch(text: str) -> pathlib.Path:
    """Download the model files of a repository into the cache, as far as they are not there, and return the folder.

    Raises:
      UserError: there is no such repository, revision or folder (`not-on-hub`), the hub does not answer or refuses
        (`hub-failed`), or the files are too many or too large (`too-large`).
    """
    address = parse(text)
    with _errors(text):
        found = _api().model_info(address.repository, revision=address.revision or None, files_metadata=True)
        wanted = _checked({file.rfilename: file.size or 0 for file in found.siblings or ()}, address, text)
        console.note(f"{text}: {len(wanted)} files, {byte_text(sum(wanted.values()))}")
        folder = _api().snapshot_download(
            address.repository,
            revision=found.sha or address.revision or None,
            allow_patterns=sorted(map(_literal, wanted)),
            cache_dir=os.path.join(cache_root(), "hub"),
        )
    return pathlib.Path(folder, address.folder)


def publish(files: Mapping[str, bytes | pathlib.Path], text: str, message: str, private: bool) -> str:
    """Commit files to a repository, which is created if it does not exist; all of them, or none.

    Args:
      files: bytes or a file here, by path inside the address's folder.
      text: the address; its revision is the branch.
      message: of the commit.
      private: whether a repository that is created can be seen by its owner only.

    Returns:
      The address of the commit for a browser.

    Raises:
      UserError: as `fetch`.
    """
    address = parse(text, "to")
    with _errors(text):
        library, api = _library(), _api()
        api.create_repo(address.repository, private=private, exist_ok=True)
        if address.revision:
            api.create_branch(address.repository, branch=address.revision, exist_ok=True)
        place = pathlib.PurePosixPath(address.folder)
        operations = [
            library.CommitOperationAdd(str(place / name), content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]
        done = api.create_commit(
            address.repository, operations, commit_message=message, revision=address.revision or None
        )
    return str(done.commit_url)


def _checked(files: Mapping[str, int], address: Address, text: str) -> dict[str, int]:
    """Return the model files of a repository with their bytes, below the address's folder."""
    inside = f"{address.folder}/" if address.folder else ""
    wanted = {name: size for name, size in files.items() if name.startswith(inside) and _WANTED.fullmatch(name)}
    if not wanted:
        rule = f"holds no model files{f' in {address.folder}' if inside else ''}"
        names = ", ".join(sorted(files)[:8]) or "nothing"
        raise UserError("not-on-hub", rule, f"check the address; the repository holds {names}", where=text)
    total = sum(wanted.values())
    if len(wanted) > MAX_FILES or total > MAX_BYTES:
        rule = f"has {len(wanted)} model files of {byte_text(total)}"
        hint = f"at most {MAX_FILES} and {byte_text(MAX_BYTES)} are downloaded; give the folder of one model"
        raise UserError("too-large", rule, hint, where=text, value=total)
    return wanted


def _literal(name: str) -> str:
    """A pattern that matches one name, also where brackets or stars are part of it."""
    return re.sub(r"([\[*?])", r"[\1]", name)


def _library() -> Any:
    for name, value in _OFF.items():
        os.environ.setdefault(name, value)
    return require("huggingface_hub", "hub")


def _api() -> Any:
    """The library's client; the server is asked for at each call, not when the library is imported."""
    endpoint = os.environ.get("HF_ENDPOINT") or None
    return _library().HfApi(endpoint=endpoint, library_name="deeplab", library_version=__version__)


@contextlib.contextmanager
def _errors(text: str) -> Iterator[None]:
    """Turns what the library raises into a UserError about an address."""
    _library()
    kinds = importlib.import_module("huggingface_hub.errors")
    missing = (kinds.RepositoryNotFoundError, kinds.RevisionNotFoundError, kinds.EntryNotFoundError)
    try:
        yield
    except kinds.GatedRepoError as error:
        rule = "its owner must grant you access"
        raise UserError("hub-failed", rule, "ask for it on the repository's page", where=text) from error
    except kinds.LocalEntryNotFoundError as error:  # one of the missing ones, too: there is neither network nor cache
        raise _unreachable(text, error) from error
    except missing as error:
        rule = "is not on the hub, or you may not see it"
        hint = "check the address; for private repositories set HF_TOKEN or run `hf auth login`"
        raise UserError("not-on-hub", rule, hint, where=text) from error
    except kinds.HFValidationError as error:
        rule = f"is not an address on the hub: {_short(error)}"
        raise UserError("bad-name", rule, "write hf://USER/NAME", where=text) from error
    except kinds.HfHubHTTPError as error:
        code = getattr(error.response, "status_code", 0)
        hint = "set HF_TOKEN to a token with this permission" if code in (401, 403) else "try again later"
        raise UserError("hub-failed", f"the hub refuses: {_short(error)}", hint, where=text) from error
    except (kinds.FileMetadataError, ConnectionError, TimeoutError, ValueError) as error:
        raise _unreachable(text, error) from error
    except Exception as error:  # the errors of the library's HTTP client, whose package changes between versions
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise
        raise _unreachable(text, error) from error


def _unreachable(text: str, error: Exception) -> UserError:
    hint = "check the network, and HF_ENDPOINT where it is set"
    return UserError("hub-failed", f"the hub does not answer as it should: {_short(error)}", hint, where=text)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
