#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs clang-tidy over src/: all its checks over all files, or the quick ones over the files that differ from a revision.
# A changed header is seen through the source of the same name, or else through the first source that includes it.
# Commands come from a build folder that nothing is built in (preset lint), where every file has a command of its own.
#
# usage: tools/lint.sh [REVISION]
set -eu

if [ $# -eq 0 ]; then
  files=$(git ls-files 'src/*.cc')
  checks=""
else
  git rev-parse --quiet --verify "$1^{commit}" >/dev/null || {
    echo "lint: there is no revision $1; name another (make check SINCE=...), or look at all files (make lint)." >&2
    exit 1
  }
  checks="-cert-*,-clang-analyzer-*,-cppcoreguidelines-*,-misc-*,-modernize-*"
  changed=$(git diff --name-only --diff-filter=d "$1" -- 'src/*.h' 'src/*.cc'
            git ls-files --others --exclude-standard 'src/*.h' 'src/*.cc')
  files=$(for file in $changed; do
    case $file in
      *.cc) echo "$file" ;;
      *)
        source=${file%.h}.cc
        [ -e "$source" ] || source=$(git grep -l -F "\"${file#src/}\"" -- 'src/*.cc' | head -n 1)
        echo "$source"
        ;;
    esac
  done | sort -u)
fi
[ -n "$files" ] || { echo "lint: nothing in src/ differs from $1."; exit 0; }

cmake --preset lint >/dev/null
# One file a process: they differ in length.
printf '%s\n' "$files" | xargs -P "${JOBS:-$(nproc)}" -n 1 clang-tidy --quiet --checks="$checks" -p build/lint
