# SPDX-License-Identifier: Apache-2.0
"""What compare.py and sitting.py share: which rows are asked for, ending by a signal, running a program that writes
JSON, and printing a table."""
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SideError(Exception):
    """A side could not measure; the message is one line."""


ROWS_HELP = "only rows with one of these in their name, as whole words, between commas"


def is_among(name, rows):
    """Whether the option --rows means the row: src/bench/bench.h has the same rule. Of "C decode B16 greedy full" "B16"
    is a word and "B1" is none."""

    def pattern(words):
        begin, end = (r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])")
        return (begin if words[0].isalnum() else "") + re.escape(words) + (end if words[-1].isalnum() else "")

    texts = texts_of(rows)
    return not texts or any(re.search(pattern(text), name) for text in texts)


def texts_of(rows):
    return [text for text in rows.split(",") if text]


def require_rows(parser, names, rows):
    """Ends with an error that names all rows if a text of the option --rows means none of them."""
    for text in texts_of(rows):
        if not any(is_among(name, text) for name in names):
            parser.error(f"--rows: none has '{text}' in its name, as whole words; they are: {'; '.join(names)}")


def handle(handler):
    for number in SIGNALS:
        signal.signal(number, handler)


def ignore_signals():
    handle(signal.SIG_IGN)


def end_by_signals():
    """From now on the first signal raises KeyboardInterrupt, and later ones do nothing: the report that follows takes a
    moment, and `timeout` and make send a second one."""

    def end_once(*_):
        handle(lambda *_: None)  # of SIG_IGN Python complains where another signal is pending
        raise KeyboardInterrupt

    handle(end_once)


def run_json(command, limit, environment=os.environ):
    """Runs the command with `--json FILE` and returns what it writes there within so many seconds."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "result.json"
        try:
            done = subprocess.run(
                [*command, "--json", str(path)], env=environment, capture_output=True, text=True, timeout=limit
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SideError(str(error)) from None
        if done.returncode != 0 or not path.exists():
            lines = done.stderr.strip().splitlines()
            raise SideError(lines[-1] if lines else f"exit status {done.returncode}")
        return json.loads(path.read_text())


def text_table(lines):
    """The lines' cells in columns, below the first line a rule."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines = [lines[0], ["-" * w for w in widths], *lines[1:]]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)


def processor_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ", 1)[1]
    return "unknown processor"
