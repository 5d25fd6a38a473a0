#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts what a study found into docs/results, where the pages' numbers come from.

    python3 tools/publish_study.py OUTPUT_DIR [NAME]     into docs/results/NAME; NAME is the preset's unless given

README.md there is the study's report.md, results.json its numbers, figures/ its figures, and outcomes.jsonl.gz one row
for each arm, seed and problem, packed; packing the same rows gives the same bytes. What evaluate_arms.py has measured
on another file comes as one file beside.
"""
import gzip
import json
import pathlib
import shutil
import sys

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "results"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    study = pathlib.Path(sys.argv[1])
    preset = json.loads((study / "results.json").read_text())["preset"]
    target = RESULTS / (sys.argv[2] if len(sys.argv) == 3 else preset)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(study / "figures", target / "figures")
    shutil.copyfile(study / "report.md", target / "README.md")
    shutil.copyfile(study / "results.json", target / "results.json")
    packed = gzip.compress((study / "outcomes.jsonl").read_bytes(), compresslevel=9, mtime=0)
    (target / "outcomes.jsonl.gz").write_bytes(packed)
    for folder in sorted((study / "evaluated").glob("*")):
        runs = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
        (target / f"{folder.name}.json").write_text(json.dumps(runs, indent=1) + "\n")
    print(target, sum(path.stat().st_size for path in target.rglob("*") if path.is_file()), "bytes")


main()
