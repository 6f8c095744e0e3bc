"""Fuzzing: mutated inputs for everything that reads files, with a limit on time and memory.

    python -m tests.fuzz --minutes=60              all targets in turn, and a table of what happened
    python -m tests.fuzz --target=yaml --index=7   one input again, with its traceback

An input is made from (target, seed, index) alone, so every finding can be repeated. Wanted outcomes are a result or a
`UserError`; any other exception, a hang or a crash of the process is a finding.
"""
