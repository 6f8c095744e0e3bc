"""The command line: settings groups become flags, flags become settings.

Called by commands alone. The parser is absl's, so old command lines run as they are: `--flag=value`,
`--flag value`, `--noflag`, `--flagfile`, one dash or two. What absl lets pass is caught here: left-over words
(`--initialize_last_layer = False`), lists in both styles (`--atrous_rates=6 --atrous_rates=12` and
`--atrous_rates=6,12`), required flags that are missing.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags as absl_flags

from deeplab.config.fields import coerce, fields_of, kind_of, make
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest, spell_as_flags
from deeplab.utils.yaml_files import load_mapping

# absl's and TensorFlow 1's own flags that stand in old command lines; they change nothing here.
_LOGGING_FLAGS = ("logtostderr", "alsologtostderr", "showprefixforinfo")
_LOGGING_VALUES = ("verbosity", "v", "stderrthreshold", "log_dir")


def run(function: Callable[..., Any], groups: Sequence[type], argv: Sequence[str] | None = None) -> int:
    """Parses the command line, calls `function` with one instance of each group, and reports faults.

    Args:
      function: the command; its module's docstring opens the help page.
      groups: settings groups, in the order of the function's arguments.
      argv: the words of the command line, the program's name first (default: `sys.argv`).

    Returns:
      The process's exit code: 0, or 1 after an error that was printed, or 130 after Ctrl-C.
    """
    return run_given(
        lambda given: function(*settings_from(given, groups)), groups, argv, function.__globals__["__doc__"]
    )


def run_given(
    function: Callable[[dict[str, Any]], Any],
    groups: Sequence[type],
    argv: Sequence[str] | None = None,
    purpose: str | None = None,
    needs_tensorflow: bool = True,
) -> int:
    """Like `run`, for commands that merge saved settings in: `function` gets what was given, by name.

    `needs_tensorflow` imports it first, without the lines that it prints; commands without it start at once.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    console.spell_settings(lambda text: spell_as_flags(text, fields_of(groups)))
    try:
        given = parse(groups, sys.argv if argv is None else argv, purpose or "")
        if given is not None:
            if needs_tensorflow:
                console.import_tensorflow()
            function(given)
        return 0
    except UserError as fault:
        console.error(fault)
        return 1
    except KeyboardInterrupt:
        console.error("stopped before the end")
        return 130
    except BrokenPipeError:
        return 1


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def parse(groups: Sequence[type], argv: Sequence[str], purpose: str = "") -> dict[str, Any] | None:
    """The settings that a command line gives, by name, each in its field's type; None after `--help`.

    A `--config` file's values are among them where the command line does not give the same flag.

    Raises:
      UserError: unknown or malformed flags, left-over words, a bad configuration file.
    """
    values = _flag_values(groups)
    try:
        rest = values(list(argv))
    except absl_flags.Error as fault:
        raise UserError(
            "unknown-flag",
            str(fault).replace("\n", " "),
            f"{_program(argv)} --help lists the flags",
        ) from None
    if any(values[name].value for name in ("help", "helpfull", "helpshort")):
        print(help_text(groups, purpose))
        return None
    if rest[1:]:
        raise UserError("left-over-words", f"left-over words {rest[1:]}", _left_over_hint(rest[1:]))
    given = read_config_file(values["config"].value, groups) if values["config"].value else {}
    for name, (field, group) in fields_of(groups).items():
        if values[name].present:
            given[name] = coerce(field, group, values[name].value)
            if field.metadata["retired"]:
                console.note(f"--{name} has no effect: {field.metadata['retired']}")
    return given


def settings_from(given: dict[str, Any], groups: Sequence[type]) -> list[Any]:
    """One instance of each group from what was given; required fields must be among it."""
    missing = [
        f"`{name}`"
        for name, (field, _) in fields_of(groups).items()
        if field.metadata["required"] and not given.get(name)
    ]
    if missing:
        raise UserError("missing-setting", f"{', '.join(missing)} must be given", "`help` says what for")
    return [make(group, given) for group in groups]


def typed(groups: Sequence[type], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the Python API as settings by name, each in its field's type.

    Raises:
      UserError: unknown name, or a value that cannot be read as the field's type.
    """
    fields = fields_of(groups)
    for name in settings:
        if name not in fields:
            raise UserError("unknown-name", f"there is no setting {name!r}", nearest(name, list(fields)), value=name)
    return {name: coerce(*fields[name], value) for name, value in settings.items()}


def read_config_file(path: str, groups: Sequence[type]) -> dict[str, Any]:
    """Settings of a YAML file: flat (`train_batch_size: 4`) or in sections of any name.

    Raises:
      UserError: the file is missing, is not YAML, or holds a name that is no flag of this command.
    """
    flat = _flatten(load_mapping(path))
    fields = fields_of(groups)
    for name in flat:
        if name not in fields:
            raise UserError(
                "unknown-name", f"{name!r} is no setting of this command", nearest(name, list(fields)), where=path
            )
    return {name: coerce(*fields[name], value) for name, value in flat.items()}


def help_text(groups: Sequence[type], purpose: str = "") -> str:
    """All flags by group: name, default, one sentence."""
    lines = [purpose.strip(), "", "  --config: A YAML file whose values become the defaults of these flags."]
    for group in groups:
        lines += ["", (group.__doc__ or "").strip().splitlines()[0]]
        for field in dataclasses.fields(group):
            if not field.metadata["retired"]:
                lines.append(f"  --{field.name}: {console.spelled(field.metadata['help'])}{_default_text(field)}")
    return "\n".join(lines)


def _default_text(field: dataclasses.Field) -> str:
    choices = ", ".join(str(choice) for choice in field.metadata["choices"] if choice)
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    notes = [f"one of: {choices}"] if choices else []
    if field.metadata["required"]:
        notes.append("required")
    elif default not in (None, ""):
        notes.append(f"default {str(default).lower() if isinstance(default, bool) else default}")
    return f" ({'; '.join(notes)})" if notes else ""


def _flag_values(groups: Sequence[type]) -> absl_flags.FlagValues:
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_string("config", None, "", flag_values=values)
    absl_flags.DEFINE_string("flagfile", None, "", flag_values=values)
    absl_flags.DEFINE_string("undefok", None, "", flag_values=values)
    for name in (*_LOGGING_FLAGS, "help", "helpfull", "helpshort"):
        absl_flags.DEFINE_boolean(name, False, "", flag_values=values)
    for name in _LOGGING_VALUES:
        absl_flags.DEFINE_string(name, None, "", flag_values=values)
    for name, (field, group) in fields_of(groups).items():
        kind = kind_of(field, group)
        if kind == "bool":
            absl_flags.DEFINE_boolean(name, None, "", flag_values=values)
        elif kind in ("ints", "floats", "texts", "size"):
            absl_flags.DEFINE_multi_string(name, None, "", flag_values=values)
        else:
            absl_flags.DEFINE_string(name, None, "", flag_values=values)
    return values


def _left_over_hint(words: Sequence[str]) -> str:
    if words[0] == "=" or "=" in words:
        return "write --flag=value without spaces around the equals sign"
    if words[0].lower() in ("true", "false"):
        return "write --flag=true or --flag=false: a switch takes its value with an equals sign"
    return "every setting is a --flag=value"


def _program(argv: Sequence[str]) -> str:
    return f"python {argv[0]}" if argv and argv[0].endswith(".py") else "the same command with"


def _flatten(content: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat.update(_flatten(value) if isinstance(value, dict) else {str(name): value})
    return flat
