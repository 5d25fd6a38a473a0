#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the tests in a build that counts lines, and writes how much of each source of the library they reach, with the
# numbers of the lines that they don't.
#
# usage: tools/coverage.sh [FILE]   (default: out/coverage.txt)
set -eu

file=${1:-out/coverage.txt}
tools/setup.sh coverage
mkdir -p "$(dirname "$file")"
cmake --workflow --preset coverage
gcovr --root . --filter src/ build/coverage >"$file"
echo "$file: $(tail -n 2 "$file" | head -n 1)"
