#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts brackets into worked solutions, each with the numbers that the rest of the solution still needs.

    python3 tools/carry_numbers.py IN.jsonl OUT.jsonl --share 0.3 [--seed 0] [--tokenizer tokenizer.json]

Rows are prompt and completion, or GSM8K's question and answer; rows with prompt, completion and answer come out. A
solution carries with the probability SHARE: then every line of it that needs a number is preceded by a line such as

    [96 rolls Monday; 36 seeds; 8 plain rolls]

which names, in the order in which the lines to come use them, the numbers that the question or earlier lines have
brought, each with a word or two from beside it there. A line uses a number if the number is in a left side of its
GSM8K annotations <<48/2=24>>; without annotations, if it stands there and not behind "=". A number that a line to come
makes anew before it is used is not needed, nor are numbers that nothing before has brought, as the 60 minutes of an
hour. 40% and 0.4 are the same number. Annotations are taken out of the text.

With a tokenizer (PyPI package tokenizers) it prints how many tokens lie between the numbers that lines use and their
last mention, and the share of them that a layer of a window of W tokens sees.
"""

import argparse
import bisect
import json
import pathlib
import random
import re
import sys

NUMBER = re.compile(r"(?<![\w.])[$£€]?\d+(?:,\d{3})*(?:\.\d+)?%?")
ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
EMPTY_WORDS = frozenset(
    "a an the of to for in on at by with and or as is are was were be been has have had if so than then that this these "
    "those it its he she they his her their them each every more less many much x per from into all total times".split())
WINDOWS = (32, 48, 64, 96, 128)


def values(number):
    """What a number as written may be read as: 40% is 40 and 0.4."""
    value = float(re.sub(r"[^\d.]", "", number))
    return {round(value, 6), round(value / 100, 6)} if number.endswith("%") else {round(value, 6)}


def beside(text, begin, end):
    """A word or two that say what the number at [begin, end) counts: the next ones of its clause, else the one before."""
    behind = re.split(r"[.,;:?!=()\[\]\n]|\d", text[end:])[0]
    words = [w for w in WORD.findall(behind)[:5] if w.lower() not in EMPTY_WORDS]
    if not words:
        before = re.split(r"[.,;:?!=()\[\]\n]|\d", text[:begin])[-1]
        words = [w for w in WORD.findall(before) if w.lower() not in EMPTY_WORDS][-1:]
    return " ".join(words[:2])


class Line:
    """One line of a solution: its text, the values that it uses and makes, and the mentions of what it brings."""

    def __init__(self, text):
        sides = ANNOTATION.findall(text)
        self.text = ANNOTATION.sub("", text).strip()
        found = list(NUMBER.finditer(self.text))
        made = [m for m in found if self.text[:m.start()].rstrip().endswith("=")]
        self.made = set().union(*(values(m.group()) for m in made))
        used = [n.group() for left, _ in sides for n in NUMBER.finditer(left)] if sides else [
            m.group() for m in found if m not in made]
        self.used = [values(n) for n in used]
        self.brought = mentions(self.text, made or (found if "=" not in self.text else []))


def mentions(text, found):
    """Numbers of a text as (values, what a bracket says of them), the last one first."""
    return [(values(m.group()), f"{m.group()} {beside(text, *m.span())}".strip()) for m in found][::-1]


def needed(known, rest):
    """The items of a bracket before `rest`: what its lines use of the known, in the order of use."""
    items, made, taken = [], set(), set()
    for line in rest:
        for used in line.used:
            source = next((item for item in known if item[0] & used), None)
            if source and not used & made and not source[0] & taken:
                items.append(source[1])
                taken |= source[0]
        made |= line.made
    return items


def solution_lines(completion):
    return [Line(text) for text in completion.split("####")[0].strip().split("\n") if text.strip()]


def carry(row, share, generator):
    """The row, with the probability `share` with brackets before its lines. Throws ValueError for no such row."""
    fields = ("prompt", "completion") if "prompt" in row else ("question", "answer")
    if not all(isinstance(row.get(field), str) for field in fields):
        raise ValueError(f"the row has no texts '{fields[0]}' and '{fields[1]}'")
    prompt, completion = row[fields[0]].strip(), row[fields[1]]
    if "####" not in completion:
        raise ValueError("the solution has no '#### ' with the answer behind it")
    answer = completion.split("####")[1].strip().replace(",", "")
    if fields[0] == "prompt" and row.get("answer", answer) != answer:
        raise ValueError(f"the row's answer is {row['answer']!r}, and its solution ends with {answer!r}")
    if re.search(r"^\[", completion, re.MULTILINE):
        raise ValueError("the solution has brackets already")
    known, written, lines = mentions(prompt, list(NUMBER.finditer(prompt))), [], solution_lines(completion)
    carries = generator.random() < share
    for index, line in enumerate(lines):
        items = needed(known, lines[index:]) if carries else []
        if items:
            written.append(f"[{'; '.join(items)}]")
        written.append(line.text)
        known = line.brought + known
    return {"prompt": prompt + "\n", "completion": "\n".join([*written, f"#### {answer}"]), "answer": answer}


class Distances:
    """How far back the numbers are that lines use, in tokens."""

    def __init__(self, tokenizer, rows):
        from tokenizers import Tokenizer
        self.tokenizer, self.found, self.lengths, self.brackets = Tokenizer.from_file(str(tokenizer)), [], [], []
        for row in rows:
            self.add(row)

    def add(self, row):
        text = row["prompt"] + row["completion"]
        begins = [begin for begin, _ in self.tokenizer.encode(text).offsets]
        last, place = {}, len(row["prompt"])
        self.remember(last, row["prompt"], 0, begins)
        prompt = bisect.bisect_left(begins, place)
        self.lengths.append((prompt, len(begins) - prompt))
        for line in row["completion"].split("####")[0].split("\n"):
            if line.startswith("["):
                self.brackets.append(bisect.bisect_left(begins, place + len(line)) - bisect.bisect_left(begins, place))
            else:
                self.measure(last, line, place, begins)
            self.remember(last, line, place, begins)
            place += len(line) + 1

    @staticmethod
    def token(place, begins):
        return bisect.bisect_right(begins, place) - 1

    def remember(self, last, text, place, begins):
        for m in NUMBER.finditer(text):
            for value in values(m.group()):
                last[value] = self.token(place + m.start(), begins)

    def measure(self, last, line, place, begins):
        for m in NUMBER.finditer(line):
            sources = [last[v] for v in values(m.group()) if v in last]
            if sources and not line[:m.start()].rstrip().endswith("="):
                self.found.append(self.token(place + m.start(), begins) - 1 - max(sources))

    def text(self):
        def spread(numbers):
            ordered = sorted(numbers)
            at = [ordered[int(p * (len(ordered) - 1))] for p in (0.05, 0.5, 0.95)] if ordered else ["-"] * 3
            mean = sum(ordered) / max(1, len(ordered))
            return f"{mean:.1f} (5%, 50%, 95%: {at[0]}, {at[1]}, {at[2]})"
        shares = ", ".join(f"{w}: {sum(d < w for d in self.found) / len(self.found):.3f}" for w in WINDOWS)
        return "\n".join([f"tokens of a prompt {spread([p for p, _ in self.lengths])}",
                          f"tokens of a completion {spread([c for _, c in self.lengths])}",
                          f"tokens of a bracket {spread(self.brackets)}, {len(self.brackets)} brackets",
                          f"tokens from a used number to its last mention {spread(self.found)}",
                          f"share of them in the window, by W: {shares}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--share", type=float, default=0.3, help="of solutions that carry")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", type=pathlib.Path, help="tokenizer.json: print distances")
    options = parser.parse_args()
    if not 0 <= options.share <= 1:
        sys.exit(f"carry_numbers.py: --share is {options.share}; it must be 0 to 1")
    generator, rows = random.Random(options.seed), []
    try:
        for number, text in enumerate(options.rows.read_text(encoding="utf-8").split("\n"), start=1):
            if text.strip():
                rows.append(carry(json.loads(text), options.share, generator))
    except OSError as error:
        sys.exit(f"carry_numbers.py: {error}")
    except ValueError as error:
        sys.exit(f"carry_numbers.py: {options.rows}:{number}: {error}")
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if options.tokenizer:
        print(Distances(options.tokenizer, rows).text())


if __name__ == "__main__":
    main()
