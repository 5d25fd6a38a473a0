#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the limits that keep the tree easy to read. Needs Python 3.9 and takes a second.

- A file of src/, cuda/, tests/ or examples/ has at most 400 lines.
- A folder of src/ or cuda/ holds at most 32 files; src/oracle, whose files are one family, is exempt.
- A function has at most 8 parameters; kernels are exempt, that is the folders named kernels/ and device code.
"""

import pathlib
import re
import sys

from check_docs import ROOT, line_count, tracked_files

MAX_LINES, MAX_FILES, MAX_PARAMETERS = 400, 32, 8
SKIPPED = re.compile(r"""//[^\n]*|/\*.*?\*/|^[ \t]*\#(?:\\\n|[^\n])*|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""",
                     re.S | re.M)
# What stands before a list of parameters: the name of a function, or the captures of a lambda.
BEFORE_LIST = re.compile(r"(\b[A-Za-z_]\w*|operator\W{1,3}|\[[^\]\[;{}]*\])\s*$")
# What stands between a list of parameters and the body that makes it a definition.
BEFORE_BODY = re.compile(r"\s*(?:(?:const|noexcept|override|final|mutable)\b\s*)*(?:->[^;{}()]*)?(?::[^:;][^;]*?)?\{")
CONTROL = {"if", "for", "while", "switch", "catch", "return", "sizeof", "constexpr"}


def without_text(source):
    """The source with comments, texts and directives blanked, lines kept."""
    return SKIPPED.sub(lambda m: "\n" * m.group().count("\n") or " ", source)


def lists_in(code):
    """(begin, end) of every pair of round brackets, the brackets included."""
    stack = []
    for i, c in enumerate(code):
        if c == "(":
            stack.append(i)
        elif c == ")" and stack:
            yield stack.pop(), i + 1


def parameters_in(text):
    """The number of parameters of a list: commas outside of brackets of every kind, plus one."""
    depth, count = 0, 1 if text.strip() else 0
    for c in text:
        depth += c in "([{<"
        depth -= c in ")]}>"
        count += c == "," and depth == 0
    return count


def long_lists(name):
    code = without_text((ROOT / name).read_text())
    for begin, end in lists_in(code):
        before = BEFORE_LIST.search(code[max(0, begin - 200):begin])
        if not before or before[1] in CONTROL or not BEFORE_BODY.match(code, end):
            continue
        declaration = code[max(code.rfind(c, 0, begin) for c in ";}") + 1:begin]
        if "__global__" in declaration or "__device__" in declaration:
            continue
        count = parameters_in(code[begin + 1:end - 1].replace("->", "  "))
        if count > MAX_PARAMETERS:
            line = code.count("\n", 0, begin) + 1
            yield f"{name}:{line}: {before[1]} has {count} parameters; put them into structs ({MAX_PARAMETERS} at most)"


def main():
    messages, folders = [], {}
    for name in tracked_files():
        top = name.split("/")[0]
        if top not in {"src", "cuda", "tests", "examples"} or not name.endswith((".h", ".cc", ".cu")):
            continue
        lines = line_count(ROOT / name)
        if lines > MAX_LINES:
            messages.append(f"{name}: has {lines} lines; split it by subject ({MAX_LINES} at most)")
        if "/kernels/" not in name:
            messages += long_lists(name)
        if top in {"src", "cuda"}:
            folder = str(pathlib.PurePath(name).parent)
            folders[folder] = folders.get(folder, 0) + 1
    for folder, count in folders.items():
        if count > MAX_FILES and not folder.startswith("src/oracle"):
            messages.append(f"{folder}: holds {count} files; give a subject a folder of its own ({MAX_FILES} at most)")
    print("\n".join(messages), end="\n" if messages else "")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
