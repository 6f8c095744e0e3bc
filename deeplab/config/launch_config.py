"""Config of `launch`: on which hosts the workers of a training start, and how they are reached."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import Config, Texts, setting, split_words
from deeplab.utils.errors import UserError


@dataclass(frozen=True)
class LaunchConfig(Config):
    """Workers of one training on several hosts."""

    hosts: Texts = setting(
        ("localhost",),
        "Hosts on which workers start, separated by commas; the first is the chief, which writes the checkpoints. "
        "Other machines are reached by ssh, and the workers reach each other by these names.",
    )
    workers_per_host: int = setting(
        1,
        "Workers on each host; each uses its own `num_clones` GPUs.",
        min=1,
        max=64,
        because="no machine has so many devices",
        unit="workers",
    )
    port: int | None = setting(
        None,
        "First port of the workers on a host; further workers there use the next ports (unset: free ports on this "
        "machine, ports from 12000 to 28000 on other hosts).",
        min=1024,
        max=65000,
        because="ports end at 65535",
    )
    restarts: int = setting(
        0,
        "How often all workers are restarted when one was killed or lost; they resume from the last checkpoint.",
        min=0,
        max=1_000_000,
        because="a million restarts are as good as unlimited",
        unit="times",
    )
    ssh: str = setting(
        "ssh", "Command that reaches a host, with its options: 'ssh -p 2222 -o BatchMode=yes'.", rare=True
    )
    directory: str = setting("", "Folder on every host in which the command starts (unset: this one).", rare=True)
    python: str = setting("", "Python on every host (unset: the one that runs this command).", rare=True)

    def names(self) -> tuple[str, ...]:
        """Return the hosts one by one, however they were written."""
        return tuple(split_words(self.hosts))

    def validate(self) -> None:
        hosts = self.names()
        if not hosts:
            raise UserError("missing-setting", "names no host", "`hosts=a,b`", field="hosts")
        twice = next((host for index, host in enumerate(hosts) if host in hosts[:index]), None)
        if twice:
            hint = "`workers_per_host=2` starts two workers on each host"
            raise UserError("listed-twice", f"names {twice} twice", hint, field="hosts", value=twice)
        for host in hosts:
            if host.startswith("-") or any(letter.isspace() or letter in "\"'`$;&|<>()\\" for letter in host):
                rule = f"{host!r} is not a host name"
                raise UserError("bad-host", rule, "`hosts=a,user@b`", field="hosts", value=host)
