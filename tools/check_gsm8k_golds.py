#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every gold answer of a GSM8K file is read as the integer that it is. A manual check: the data is no part
of this repository.

    python3 tools/check_gsm8k_golds.py FILE [PROGRAM]        FILE: JSON Lines with "answer"; PROGRAM: build/swarr

The gold is the whole worked solution; the answer is "####" and the integer written without commas, which must be judged
right, and the same plus 1, which must not.
"""

import json
import subprocess
import sys


def verdict(program, gold, answer):
    command = [program, "verify", "--reward=math", f"--gold={gold}", f"--answer=#### {answer}", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    path, program = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "build/swarr"
    rows = right = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            solution = json.loads(line)["answer"]
            number = int(solution.split("####")[-1].replace(",", ""))
            rows += 1
            same = verdict(program, solution, number)
            next_one = verdict(program, solution, number + 1)
            right += same["correct"] and same["extracted"] == str(number) and not next_one["correct"]
    print(f"{right} of {rows} gold answers are read as their integer")
    sys.exit(right != rows)


if __name__ == "__main__":
    main()
