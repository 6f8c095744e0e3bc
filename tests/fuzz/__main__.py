"""The long run: `python -m tests.fuzz --minutes=60`; prints a table of inputs, tracebacks, hangs and crashes."""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time

from tests.fuzz.harness import Outcome, chance_of, run_target
from tests.fuzz.targets import TARGETS


def table(outcomes: dict[str, Outcome]) -> str:
    """One line per target."""
    lines = [f"{'target':<20}{'inputs':>9}{'accepted':>10}{'refused':>9}{'tracebacks':>12}{'hangs':>7}{'crashes':>9}"]
    for name, each in outcomes.items():
        counts = (each.count("traceback"), each.count("hang"), each.count("crash"))
        lines.append(
            f"{name:<20}{each.inputs:>9}{each.accepted:>10}{each.refused:>9}{counts[0]:>12}{counts[1]:>7}{counts[2]:>9}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the targets in turn until the time is over; returns 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the default differs at each run")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="default: all of them")
    parser.add_argument("--index", type=int, help="one input of one target, with its traceback")
    words = parser.parse_args()
    names = words.target or list(TARGETS)
    if words.index is not None:
        with tempfile.TemporaryDirectory() as folder:
            TARGETS[names[0]].prepare(pathlib.Path(folder))(chance_of(names[0], words.seed, words.index))
        return 0
    print(f"seed {words.seed}", flush=True)
    outcomes = {name: Outcome() for name in names}
    total = sum(TARGETS[name].weight for name in names)
    rounds = max(1, round(words.minutes / 10))
    for _ in range(rounds):
        for name in names:
            known = outcomes[name]
            seconds = 60 * words.minutes / rounds * TARGETS[name].weight / total
            new = run_target(name, words.seed, known.inputs, 1_000_000, seconds)
            seen = {text for _, _, text in known.findings}
            known.inputs += new.inputs
            known.accepted += new.accepted
            known.refused += new.refused
            known.findings += new.findings
            for index, kind, text in new.findings:
                if text not in seen:  # one line per place
                    print(f"{kind}: --target={name} --seed={words.seed} --index={index}: {text}", flush=True)
                seen.add(text)
    print(table(outcomes))
    return int(any(each.findings for each in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
