#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every measured figure of README.md has a source. Needs Python 3.9 and takes a second.

    python3 tools/check_figures.py       prints the figures without one and exits 1, or prints nothing

A figure is a number with decimals or with thousands, a share in per cent, a number before a unit, and "four to nine minutes".
Code, links' targets and tables of line counts (check_docs.py) hold none. Its source is linked from the same chapter of
README: a page of docs/results, with the results.json beside it, or an entry of another page of docs/ that is linked by its
heading and dated, there or at the page's head. A number there must round to the figure at the figure's own precision;
zeros at the end of an integer are not counted as digits.
"""

import re
import sys

from check_docs import CODE_SPAN, LINK, ROOT, anchors_of, cells_of, without_code_blocks

UNITS = r"(?:s|ms|seconds?|minutes?|hours?|times|tokens?|million|GB|MB)"
WORDS = {word: n for n, word in enumerate("one two three four five six seven eight nine ten eleven twelve".split(), 1)}
DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")
NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
FIGURE = re.compile(rf"(?<![\w.,/-])(?:(?:{NUMBER})(?=%|[ -]{UNITS}\b)|\d{{1,3}}(?:,\d{{3}})+|\d+\.\d+)(?![\w/])")
IN_WORDS = re.compile(rf"\b({'|'.join(WORDS)})\b(?=(?: to \w+)? (?:seconds|minutes|hours|times)\b)", re.I)


def chapters(lines):
    """(number of its first line, its lines) of every part of a page that a heading of two # begins."""
    begins = [0] + [i for i, line in enumerate(lines) if line.startswith("## ")] + [len(lines)]
    return [(begin + 1, lines[begin:end]) for begin, end in zip(begins, begins[1:])]


def entry(page, anchor):
    """The text under the heading of a page that has this anchor, up to the next heading of its level or above."""
    lines = page.read_text().split("\n")
    begin = anchors_of(page)[anchor]
    level = len(re.match("#+", lines[begin])[0])
    ends = (i for i in range(begin + 1, len(lines)) if re.match(rf"#{{1,{level}}} ", lines[i]))
    return "\n".join(lines[begin:next(ends, len(lines))])


def source_of(target):
    """The text of a linked source; empty for a link to anything else."""
    path, _, anchor = target.partition("#")
    page = ROOT / path
    if path.startswith("docs/results/"):
        results = page.parent / "results.json"
        return page.read_text() + (results.read_text() if results.exists() else "")
    if path.startswith("docs/") and anchor:
        text = entry(page, anchor)
        if DATE.search(text) or DATE.search(page.read_text().partition("\n## ")[0]):
            return text
    return ""


def value_and_unit(text):
    """A number, and what the last of its digits that counts is worth."""
    digits = text.replace(",", "")
    whole, _, decimals = digits.partition(".")
    zeros = len(whole) - len(whole.rstrip("0")) if not decimals else -len(decimals)
    return float(digits), 10.0 ** zeros


def has_source(figure, numbers):
    value, unit = value_and_unit(figure)
    return any(abs(number - value) <= 0.5001 * unit for number in numbers)  # 0.5 itself, as binary fractions have it


def numbers_in(text):
    return {float(number.replace(",", "")) for number in re.findall(NUMBER + r"(?:e-?\d+)?", text)}


def figures_in(lines):
    """(index of the line, figure as written, figure as a number) of a chapter."""
    counted = False
    for index, line in enumerate(lines):
        counted = line.startswith("|") and (counted or "lines" in cells_of(line))
        if counted:
            continue
        text = CODE_SPAN.sub("", re.sub(r"\]\([^()]*\)", "]", line))
        for figure in FIGURE.findall(text):
            yield index, figure, figure
        for word in IN_WORDS.findall(text):
            yield index, word, str(WORDS[word.lower()])


def main():
    messages = []
    for first, lines in chapters(without_code_blocks((ROOT / "README.md").read_text())):
        sources = [source_of(target) for line in lines for target in LINK.findall(line)]
        numbers = numbers_in("\n".join(sources))
        for index, figure, number in figures_in(lines):
            if not has_source(number, numbers):
                messages.append(f"README.md:{first + index}: no results file or log entry linked from its chapter has {figure}")
    print("\n".join(messages), end="\n" if messages else "")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
