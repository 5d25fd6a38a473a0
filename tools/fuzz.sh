#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs libFuzzer's harnesses, which `make fuzz` has built, one after another for FUZZ_SECONDS each, and prints how many
# inputs each has tried and how many edges of the program they reached. What is new in the corpora stays under out/fuzz;
# a finding ends this with its input under out/fuzz/<harness>-*. Kept as a file of tests/fuzz/corpus, it becomes a test.
#
# usage: tools/fuzz.sh [HARNESS...]   (default: all in tests/fuzz/corpus)
set -eu
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- $(ls tests/fuzz/corpus)
scratch=/dev/shm # harnesses write files; where there is no memory for them, on the disk
[ -w "$scratch" ] || scratch=/tmp
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for harness in "$@"; do
  mkdir -p "out/fuzz/$harness"
  if ! TMPDIR=$scratch OMP_NUM_THREADS=1 "build/fuzz/fuzz-$harness" -max_total_time="${FUZZ_SECONDS:-60}" \
    -dict=tests/fuzz/words.dict -max_len=8192 -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
    -artifact_prefix="out/fuzz/$harness-" \
    "out/fuzz/$harness" "tests/fuzz/corpus/$harness" >"$log" 2>&1; then
    tail -n 60 "$log"
    echo "fuzz: $harness has a finding (see above)" >&2
    exit 1
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  echo "$harness: $executions executions, $edges edges, no finding"
done
