r"""Prints a completion script for a shell: commands, formats and flags.

    eval "$(deeplab completion bash)"                              for this shell; add the line to ~/.bashrc
    eval "$(deeplab completion zsh)"                               to ~/.zshrc, after compinit
    deeplab completion fish > ~/.config/fish/completions/deeplab.fish

The script holds the names, so completing starts no Python. Make it again after an update.
"""

from __future__ import annotations

import pathlib
import shlex
import sys
from collections.abc import Mapping

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config.command_line import Command, Given, Word
from deeplab.config.fields import fields_of

_BASH = """_deeplab() {
  local current="${COMP_WORDS[COMP_CWORD]}" command="${COMP_WORDS[1]//-/_}" words="" formats=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "@COMMANDS@" -- "$current"))
    return
  fi
  case "$command" in
@CASES@
  esac
  case "$current" in
    --*=*) COMPREPLY=($(compgen -f -- "${current#*=}")) ;;
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$formats" -- "$current") $(compgen -f -- "$current")) ;;
  esac
}
complete -o nospace -o filenames -F _deeplab deeplab
"""
_ZSH = "autoload -Uz bashcompinit && bashcompinit\n"


def run(shell: str, _given: Given) -> None:
    """Runs the command."""
    print({"bash": bash, "zsh": zsh, "fish": fish}[shell](), end="")


def bash() -> str:
    """Return the script for bash."""
    cases = []
    for name, (flags, formats, _) in _commands().items():
        words = " ".join(f"--{flag}=" for flag in flags)
        cases.append(f'    {name}) words="{words}"; formats="{" ".join(formats)}" ;;')
    return _BASH.replace("@COMMANDS@", " ".join(_commands())).replace("@CASES@", "\n".join(cases))


def zsh() -> str:
    """Return the script for zsh, which understands bash's."""
    return _ZSH + bash()


def fish() -> str:
    """Return the script for fish, with one line on each flag."""
    lines = ["complete -c deeplab -e"]
    for name, (flags, formats, summary) in _commands().items():
        lines.append(f"complete -c deeplab -n __fish_use_subcommand -f -a {name} -d {shlex.quote(summary)}")
        chosen = f"'__fish_seen_subcommand_from {name}'"
        if formats:
            lines.append(f"complete -c deeplab -n {chosen} -a {shlex.quote(' '.join(formats))}")
        for flag, text in flags.items():
            lines.append(f"complete -c deeplab -n {chosen} -l {flag} -r -d {shlex.quote(text)}")
    return "\n".join(lines) + "\n"


def _commands() -> dict[str, tuple[dict[str, str], Mapping[str, str], str]]:
    """Return, for each command, its flags with their help, its formats, and its summary."""
    from deeplab import __main__ as program

    found = {}
    for name, summary in ((name, text) for commands in program.COMMANDS.values() for name, text in commands.items()):
        command = program.command_of(name)
        formats = command.word.choices() if command.word else {}
        groups = [group for word in formats or [""] for group in command.groups_for(word)]
        flags = {flag: field.metadata for flag, (field, _) in fields_of(dict.fromkeys(groups)).items()}
        texts = {flag: _first_sentence(one["help"]) for flag, one in flags.items() if not one["retired"]}
        found[name] = (texts, formats, summary)
    return found


def _first_sentence(text: str) -> str:
    return text.replace("`", "").partition(". ")[0].rstrip(".")


def shells() -> dict[str, str]:
    """Return the names of the shells, with one line on each."""
    return {"bash": "GNU bash 4 and later", "zsh": "zsh, through its bash compatibility", "fish": "fish"}


COMMAND = Command("completion", run, lambda _shell: (), __doc__, Word("SHELL", shells))


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
