"""The command line: words become config values, a command runs on them, errors become exit codes.

A command is a `Command`; `Command.main` is the only way in. Old command lines run as they are, in absl's style:
`--flag=value`, `--flag value`, `--noflag`, `--flagfile`, one dash or two, lists repeated or with commas. Words that
absl would ignore are errors (`--initialize_last_layer = False`).

Exit codes: 0 success, 1 an error in files or settings, 2 a command line that cannot be understood, 3 a check that
failed (unfit data, checkpoints that differ), 70 a bug in this program, 75 another worker of a training was lost, 130
stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

from deeplab.utils.early_signals import STOPPED, is_program, silent_start

silent_start()  # a signal while the modules below load

import collections
import dataclasses
import errno
import importlib
import os
import pathlib
import pkgutil
import platform
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from deeplab import __version__
from deeplab.config import flag_hints
from deeplab.config.fields import Config, coerce, fields_of, kind_of, make, typed
from deeplab.config.help_page import help_page
from deeplab.utils import console
from deeplab.utils.errors import LOST, UserError, nearest, spell_as_flags
from deeplab.utils.installation import forget_missing_plot_backend
from deeplab.utils.paths import read_text
from deeplab.utils.processes import GRACE, end_now, ending_on_signals, standard_streams, was_interrupted
from deeplab.utils.remote_files import local_copy, local_settings
from deeplab.utils.remote_names import is_remote
from deeplab.utils.yaml_files import load_mapping

OK, ERROR, USAGE, CHECK_FAILED, BUG = 0, 1, 2, 3, 70
_CODES = {"unfit-dataset": CHECK_FAILED, "internal-error": BUG, "worker-lost": LOST, "worker-missing": LOST}

Given = dict[str, Any]  # values by setting, as far as they were given

# absl's and TensorFlow 1's own flags in old command lines; they change nothing here.
_LOGGING_SWITCHES = ("logtostderr", "alsologtostderr", "showprefixforinfo")
_LOGGING_VALUES = ("verbosity", "v", "stderrthreshold", "log_dir")
_HELP = ("help", "h", "helpshort", "helpfull")
_FILES = ("config", "flagfile", "undefok")
_MAX_FLAG_FILES = 20
_HOME = re.compile(r"(?:^|(?<=[,:]))~(?=/)")  # also after a comma and `train:`; to mean a folder called ~, write ./~
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_BAD_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


@dataclasses.dataclass(frozen=True)
class Word:
    """The word that may follow a command, such as the format after `build_data`.

    Attributes:
      name: in capitals, for the help page.
      choices: gives the allowed words, with one line on each.
      default: the word when none is given, from the names of the given flags; None = there must be one.
      instead: what to write in place of a word that is not allowed; takes the word and the allowed ones.
    """

    name: str
    choices: Callable[[], Mapping[str, str]]
    default: Callable[[Collection[str]], str | None] | None = None
    instead: Callable[[str, Iterable[str]], str] = nearest


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
      name: its name after `deeplab`.
      run: does the work with what was given; takes the word first if there is one. Returns an exit code, None = 0.
      groups: the config dataclasses whose fields are its flags; or a function of the word that gives them.
      purpose: text for the help page: one paragraph, then examples and notes; usually the docstring of its module.
      word: the word that may follow it; None = none may.
      grace: seconds that it gets to end after Ctrl-C or SIGTERM.
      keeps_remote: names the settings whose remote paths the command itself reads or writes; it gets no copies of them.
    """

    name: str
    run: Callable[..., int | None]
    groups: Sequence[type] | Callable[[str], Sequence[type]]
    purpose: str
    word: Word | None = None
    grace: float = GRACE
    keeps_remote: Callable[[Given], Collection[str]] = lambda given: ()

    def main(self, words: Sequence[str] | None = None) -> int:
        """Runs the command on the words after its name (default: those of `sys.argv`); returns the exit code."""
        words = sys.argv[1:] if words is None else words
        forget_missing_plot_backend()
        return run_safely(lambda: self._run(words), self, words)

    def _run(self, words: Sequence[str]) -> int | None:
        call = self.parse(words)
        if call is None:
            return OK
        word, given = call
        fields = fields_of(self.groups_for(word))
        outputs = {name: field.metadata["writes"] for name, (field, _) in fields.items() if field.metadata["writes"]}
        kept = {name: given[name] for name in self.keeps_remote(given) if name in given}
        with local_settings({name: value for name, value in given.items() if name not in kept}, outputs) as local:
            return self.run(word, local | kept) if self.word else self.run(local | kept)

    def parse(self, words: Sequence[str]) -> tuple[str, Given] | None:
        """Return the word and the given values, each in its field's type; None after the help page was printed.

        Raises:
          UsageError: an unknown word or flag, a flag without its value, words too many.
          UserError: values of another type, or a bad config file.
        """
        word, words = self._split_word(list(words))
        if word is None:
            groups = () if callable(self.groups) else self.groups
            print(help_page(self._program(), self.purpose, groups, choices=self._choices()))
            return None
        groups = self.groups_for(word)
        console.spell_settings(lambda text: spell_as_flags(text, {*all_settings(), *fields_of(groups)}))
        texts, rest = read_flags(words, groups)
        if any(name in texts for name in _HELP):
            page = help_page(self._program(word), self._purpose(word), groups, "helpfull" in texts)
            print(console.spelled(page))
            return None
        if rest:
            raise UsageError("left-over-words", f"left-over words {rest}", flag_hints.on_words(rest))
        return word, given_values(texts, groups)

    def groups_for(self, word: str = "") -> Sequence[type]:
        """Return the config dataclasses for a word."""
        return self.groups(word) if callable(self.groups) else self.groups

    def _split_word(self, words: list[str]) -> tuple[str | None, list[str]]:
        """Return the word and the flags; no word where the help page on all words is wanted."""
        if self.word is None:
            return "", words
        if words and not words[0].startswith("-"):
            word = words[0].replace("-", "_").lower()
            if word not in self._choices():
                rule = f"{words[0]!r} is not a {self.word.name}"
                raise UsageError("unknown-name", rule, self.word.instead(words[0], self._choices()), value=words[0])
            return word, words[1:]
        names = {word.lstrip("-").partition("=")[0] for word in words}
        default = self.word.default(names) if self.word.default else None
        if default is not None:
            return default, words
        if not words or names & set(_HELP):
            return None, words
        raise UsageError("missing-setting", f"the {self.word.name} comes first, its flags after it", self._program())

    def _choices(self) -> Mapping[str, str]:
        return self.word.choices() if self.word else {}

    def _program(self, word: str = "") -> str:
        file = pathlib.Path(sys.argv[0])
        program = f"python {sys.argv[0]}" if file.suffix == ".py" and file.stem == self.name else f"deeplab {self.name}"
        if self.word and not word:
            word = f"[{self.word.name}]" if self.word.default else self.word.name
        return f"{program} {word}".strip()

    def _purpose(self, word: str) -> str:
        opening, blank, notes = self.purpose.partition("\n\n")
        if self.word and word:
            opening += f" This {self.word.name.lower()}: {self._choices()[word]}."
        return opening + blank + notes


class UsageError(UserError):
    """A command line that cannot be understood."""


def configs_from(given: Given, groups: Sequence[type]) -> list[Any]:
    """Return one instance of each config dataclass from what was given.

    Raises:
      UserError: a required setting is missing, or values do not fit together.
    """
    missing = [
        name for name, (field, _) in fields_of(groups).items() if field.metadata["required"] and not given.get(name)
    ]
    if missing:
        others = ", ".join(f"`{name}`" for name in missing[1:])
        rule = f"must be given; so must {others}" if others else "must be given"
        help = fields_of(groups)[missing[0]][0].metadata["help"]
        start = help[:2].lower() if help[1:2].islower() else help[:2]  # JPEG stays
        raise UsageError("missing-setting", rule, start + help[2:], field=missing[0])
    return [make(group, given) for group in groups]


def all_settings() -> set[str]:
    """Return the names of all settings: those of `deeplab/config`, and of other config dataclasses that are loaded."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.endswith("_config"):
            importlib.import_module(f"{__package__}.{module.name}")
    names: set[str] = set()
    waiting: list[type] = [Config]
    while waiting:
        group = waiting.pop()
        waiting += group.__subclasses__()
        names |= {field.name for field in dataclasses.fields(group)} if dataclasses.is_dataclass(group) else set()
    return names


# --- Words --------------------------------------------------------------------------------------------------


def read_flags(words: Sequence[str], groups: Sequence[type]) -> tuple[dict[str, Any], list[str]]:
    """Return the texts of flags by name (lists for fields of several values), and the words that belong to no flag.

    Raises:
      UsageError: an unknown flag (`unknown-flag`), or one without its value (`missing-value`).
    """
    kinds = {name: kind_of(field, group) for name, (field, group) in fields_of(groups).items()}
    kinds |= dict.fromkeys((*_LOGGING_SWITCHES, *_HELP), "bool") | dict.fromkeys((*_LOGGING_VALUES, *_FILES), "str")
    waiting, flag_files = collections.deque(words), 0
    texts: dict[str, Any] = {}
    rest: list[str] = []
    unknown: list[str] = []
    while waiting:
        word = waiting.popleft()
        if word == "--":
            rest += waiting
            break
        if not _is_flag(word):
            rest.append(word)
            continue
        name, text = _split_flag(word, kinds)
        if name not in kinds:
            unknown.append(name)
            continue
        text = _next_value(name, waiting, kinds) if text is None else text
        if kinds[name] in ("ints", "floats", "texts", "size"):
            texts.setdefault(name, []).append(text)
        elif name == "flagfile":
            flag_files += 1
            if flag_files > _MAX_FLAG_FILES:
                raise UserError("unreadable-file", "flag files include each other without end", where=text)
            waiting.extendleft(reversed([*filter(_is_flag, map(str.strip, read_text(_from_home(text)).splitlines()))]))
        else:
            texts[name] = text
    undefined = [name for name in unknown if name not in texts.get("undefok", "").split(",")]
    if undefined:
        hint = flag_hints.on_flag(undefined[0], fields_of(groups))
        raise UsageError("unknown-flag", f"unknown flag --{undefined[0]}", hint, value=undefined[0])
    return texts, rest


def _is_flag(word: str) -> bool:
    """Return whether a word is a flag: not a file name, `-` alone or a negative number."""
    return word.startswith("-") and word != "-" and not word[1:].replace(".", "", 1).isdigit()


def _split_flag(word: str, kinds: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the name in a flag and the text of its value; None where the value is the next word."""
    name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
    name = name.replace("-", "_")
    if equals:
        return name, text
    for prefix in ("no_", "no"):
        if name not in kinds and name.startswith(prefix) and kinds.get(name.removeprefix(prefix)) == "bool":
            return name.removeprefix(prefix), "false"
    return name, "true" if kinds.get(name) == "bool" else None


def _next_value(name: str, waiting: collections.deque[str], kinds: Mapping[str, str]) -> str:
    if not waiting or (_is_flag(waiting[0]) and _split_flag(waiting[0], kinds)[0] in kinds):
        raise UsageError("missing-value", "needs a value", f"`{name}=...`", field=name)
    return waiting.popleft()


def given_values(texts: Mapping[str, Any], groups: Sequence[type]) -> Given:
    """Return the values of flags, and of the `config` file where the command line does not give the same setting.

    Raises:
      UserError: a value of another type, or a bad config file.
    """
    given = read_config_file(_from_home(texts["config"]), groups) if texts.get("config") else {}
    for name, (field, group) in fields_of(groups).items():
        if name in texts:
            given[name] = coerce(field, group, texts[name])
            if field.metadata["retired"]:
                console.note(f"`{name}` has no effect: {field.metadata['retired']}")
    return {name: _from_home(value) for name, value in given.items()}


def _from_home(value: Any) -> Any:
    """Return a text, or each of several, with the home folder for `~/` where a path begins.

    Shells replace it at the start of a word only, so `--train_logdir=~/run` would mean a folder called `~`.
    """
    if isinstance(value, tuple):
        return tuple(map(_from_home, value))
    home = os.path.expanduser("~")
    return _HOME.sub(lambda _: home, value) if isinstance(value, str) else value


def read_config_file(path: str, groups: Sequence[type]) -> Given:
    """Return the settings of a YAML file: flat (`train_batch_size: 4`), or in sections of any name.

    The config.yml of a training stands for its folder: settings of other commands in it are left out, and
    `train_logdir` is the folder that contains it.

    Raises:
      UserError: the file cannot be read, or has a name that is no setting of this command (`unknown-name`).
    """
    content = load_mapping(local_copy(path), templates=False)
    fields = fields_of(groups)
    is_training = "dataset_facts" in content
    if is_training:
        content = {name: part for name, part in content.items() if isinstance(part, dict) and name != "dataset_facts"}
    try:
        flat = _flattened(content)
        if is_training:
            flat = {name: value for name, value in flat.items() if name in fields}
            if "train_logdir" in fields:
                flat["train_logdir"] = path.rpartition("/")[0] if is_remote(path) else str(pathlib.Path(path).parent)
        return typed(groups, flat)
    except UserError as error:
        error.where = f"{error.where or path}"
        if error.code == "unknown-name" and error.field is None:
            error.hint = flag_hints.on_others(str(error.value)) or error.hint
        raise


def _flattened(content: Mapping[Any, Any]) -> Given:
    """Return a mapping without its sections, whose names mean nothing.

    Raises:
      UserError: two sections give one setting different values.
    """
    flat: Given = {}
    for name, value in content.items():
        for inner, found in (_flattened(value) if isinstance(value, dict) else {str(name): value}).items():
            if flat.setdefault(inner, found) != found:
                rule = f"is given twice: {flat[inner]!r} and {found!r}"
                raise UserError("conflicting-settings", rule, "keep one of them", field=inner, value=found)
    return flat


# --- Exit codes ---------------------------------------------------------------------------------------------


def run_safely(work: Callable[[], int | None], command: Command | None = None, words: Sequence[str] = ()) -> int:
    """Calls `work`, prints the error that it raises, and returns the exit code.

    Standard streams that are closed or full do not end the work, and do not change the code.
    """
    with standard_streams(), ending_on_signals(command.grace if command else GRACE):
        try:
            return work() or OK
        except KeyboardInterrupt:
            return _stopped()
        except Exception as problem:
            if was_interrupted():
                return _stopped()
            error = as_user_error(problem) or _bug(problem, command, words)
            console.error(error)
            return USAGE if isinstance(error, UsageError) else _CODES.get(error.code, ERROR)


def _stopped() -> int:
    """Prints a note; returns the exit code, or ends the process if this command is all that it runs."""
    console.note("stopped before the end")
    if is_program():
        end_now(STOPPED)
    return STOPPED


def as_user_error(problem: Exception) -> UserError | None:
    """Return the error for what is not a bug: a UserError, a bad path, a full disk, too little memory; else None."""
    kind, text = type(problem).__name__, str(problem)
    if isinstance(problem, UserError):
        return problem
    if isinstance(problem, OSError) and problem.errno in _FULL_DISK:
        where = problem.filename or "disk"
        return UserError("unwritable-file", f"cannot be written: {problem.strerror}", "free some space", where=where)
    if isinstance(problem, OSError) and problem.errno in _BAD_PATHS:
        rule, hint = f"cannot be used: {problem.strerror}", "check the path, its permissions and the disk"
        return UserError("unreadable-file", rule, hint, where=problem.filename or "a file")
    if kind in ("ResourceExhaustedError", "UnknownError") and "No space left on device" in text:
        return UserError("unwritable-file", "No space left on device", "free some space", where="disk")
    if isinstance(problem, MemoryError) or kind == "ResourceExhaustedError":
        hint = "use smaller batches or crops, fewer workers, or a machine with more memory"
        return UserError("out-of-memory", "not enough memory", hint)
    return None


def _bug(problem: Exception, command: Command | None, words: Sequence[str]) -> UserError:
    """Return the error for an unexpected exception, after writing a report on it."""
    text = _report(problem, command, words)
    try:
        name = f"deeplab-report-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        path = pathlib.Path(tempfile.gettempdir(), name)
        path.write_text(text, encoding="utf-8", errors="replace")
        place = f"the report is in {path}"
    except OSError:
        place = "there is no room for a report"
        traceback.print_exception(problem)
    summary = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
    hint = f"this is a bug in deeplab, please report it; {place}, without your data or paths"
    return UserError("internal-error", summary, hint)


def _report(problem: Exception, command: Command | None, words: Sequence[str]) -> str:
    """Return command, versions and traceback; without texts from the command line, which may name private things."""
    flags = [word.partition("=") for word in words if _is_flag(word)]
    called = [command.name if command else "", *(f"{name}=..." if equals else name for name, equals, _ in flags)]
    versions = [f"deeplab {__version__}", f"Python {platform.python_version()}", platform.platform()]
    for library in ("tensorflow", "keras", "numpy"):
        versions.append(f"{library} {getattr(sys.modules.get(library), '__version__', 'not loaded')}")
    trace = "".join(traceback.format_exception(problem))
    private = {text for *_, text in flags} | {word for word in words if not _is_flag(word)}
    for text in sorted((text for text in private if len(text) > 3), key=len, reverse=True):
        trace = trace.replace(text, "...")
    trace = trace.replace(os.getcwd(), ".").replace(str(pathlib.Path.home()), "~")
    return "\n".join([f"deeplab {' '.join(called)}", *versions, "", trace])
