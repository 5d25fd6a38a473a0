#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what the pages and comments say of the tree. Needs Python 3.9 and takes a second.

    python3 tools/check_docs.py          prints what is wrong and exits 1, or prints nothing
    python3 tools/check_docs.py --fix    first corrects the line counts

- Every relative link of a page (*.md) leads to a file, and its #anchor to a heading of that page.
- Line counts: in a table with a column headed `lines`, the number in a row is the sum of the lines of the files that
  the row links to. A row without links holds the sum of the rows above it.
- Every file that a comment or a page names by its path exists. docs/log.md and CHANGELOG.md may name files of the past.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HISTORY = {"docs/log.md", "CHANGELOG.md"}
LINK = re.compile(r"\[[^][]*\]\(([^()\s]+)\)")
CODE_SPAN = re.compile(r"`[^`\n]*`")
# A path as comments spell it: from the root, or from src/ as #include does.
ROOMS = [path.name for path in sorted((ROOT / "src").iterdir()) if path.is_dir()]
PATH = re.compile(r"(?<![\w/.*-])((?:src|cuda|tests|tools|cmake|docs|data|examples|bench|" + "|".join(ROOMS) +
                  r")/(?:[\w.-]+/)*[\w-]+\.(?:h|cc|cu|md|py|sh|cmake|json|jsonl))\b(?!\.\w|[*<{])")


def tracked_files():
    """Repository-relative names, of files that git knows or would add."""
    listing = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                             capture_output=True, text=True)
    if listing.returncode == 0:
        names = listing.stdout.splitlines()
    else:  # a release archive
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
        names = [name for name in names if not name.startswith(("build", "out/", "."))]
    return sorted(name for name in names if (ROOT / name).is_file())


def without_code_blocks(text):
    """The lines of a page; those of code blocks are empty."""
    lines, fenced = [], False
    for line in text.split("\n"):
        fence = line.lstrip().startswith("```")
        fenced = fenced != fence
        lines.append("" if fenced or fence or re.match(r"    +\S", line) and not re.match(r"\s+([-*]|\d+\.)\s", line) else line)
    return lines


def anchors_of(page):
    """The anchors that GitHub gives the headings of a page, each with the index of its line."""
    anchors, seen = {}, {}
    for index, line in enumerate(without_code_blocks(page.read_text())):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if not heading:
            continue
        title = re.sub(r"\[([^][]*)\]\([^()]*\)", r"\1", heading[1]).lower()
        anchor = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
        count = seen.get(anchor, 0)
        seen[anchor] = count + 1
        anchors[f"{anchor}-{count}" if count else anchor] = index
    return anchors


def check_links(name):
    """Links are also followed in indented text: list items go on there."""
    text = (ROOT / name).read_text()
    fenced = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        for target in [] if fenced else LINK.findall(CODE_SPAN.sub("", line)):
            if re.match(r"[a-z]+:", target):  # another site
                continue
            path, _, anchor = target.partition("#")
            file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
            if not file.exists():
                yield f"{name}:{number}: there is no {target}"
            elif anchor and file.suffix == ".md" and anchor not in anchors_of(file):
                yield f"{name}:{number}: {path or name} has no heading #{anchor}"


def line_count(file):
    return file.read_bytes().count(b"\n")


def cells_of(row):
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def corrected_counts(name):
    """The page with true line counts, and a message for each number that was wrong."""
    page = ROOT / name
    lines, messages = page.read_text().split("\n"), []
    column = total = None  # of the table that the loop is in: the column of counts, and their sum so far
    for i, line in enumerate(lines):
        if not line.lstrip().startswith("|"):
            column = None
            continue
        cells = cells_of(line)
        if column is None:
            column, total = (cells.index("lines"), 0) if "lines" in cells else (-1, 0)
            continue
        if column < 0 or column >= len(cells) or not re.fullmatch(r"\**[\d,]+\**", cells[column]):
            continue
        files = [(page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(line)]
        if files and all(file.is_file() for file in files):
            count = sum(line_count(file) for file in files)
            total += count
        elif files:
            continue  # check_links tells of it
        else:
            count = total
        said = re.sub(r"[*,]", "", cells[column])
        if said != str(count):
            messages.append(f"{name}:{i + 1}: says {said} lines; they are {count}")
            parts = line.split("|")
            at = column + 1 if line.strip().startswith("|") else column
            parts[at] = re.sub(r"[\d,]+", f"{count:,}", parts[at], count=1)
            lines[i] = "|".join(parts)
    return "\n".join(lines), messages


def comments_of(name):
    """(line number, text) of what may name files: pages whole, comments of sources."""
    for number, line in enumerate((ROOT / name).read_text().split("\n"), 1):
        if name.endswith(".md"):
            yield number, line
        elif name.endswith((".h", ".cc", ".cu")):
            if "//" in line:
                yield number, line[line.index("//"):]
        elif "#" in line:
            yield number, line[line.index("#"):]


def check_paths(name):
    page = (ROOT / name).parent
    for number, text in comments_of(name):
        for path in PATH.findall(LINK.sub("", text)):
            if "NAME" not in path and not any((folder / path).exists() for folder in (ROOT, ROOT / "src", page)):
                yield f"{name}:{number}: names {path}, which does not exist"


def main():
    if sys.argv[1:] not in ([], ["--fix"]):
        sys.exit(__doc__)
    files = tracked_files()
    messages = []
    for name in files:
        if name.endswith(".md"):
            messages += check_links(name)
            text, wrong = corrected_counts(name)
            if wrong and sys.argv[1:]:
                (ROOT / name).write_text(text)
            else:
                messages += wrong
        if name.endswith((".md", ".h", ".cc", ".cu", ".cmake", ".sh", ".py", "CMakeLists.txt", "Makefile")) \
                and name not in HISTORY:
            messages += check_paths(name)
    print("\n".join(messages), end="\n" if messages else "")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
