#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is to be run on a machine with a CUDA device: the tests of the device, and compute-sanitizer over the table of op
# cases. racecheck follows every access to shared memory, so it gets the small shapes alone. Prints all that the tests
# print, and a table last; fails if any line of it does.
#
#   tools/cuda-check.sh [build-dir]     default: build-cuda
#
# initcheck can't see much here: memory of a device begins as zeros (tensor/device.h). That ops don't read what nobody
# wrote is checked by the "memory" cases themselves, which run in memory full of NaN.
set -u

build=${1:-build-cuda}
tests=$build/swarr-tests
[ -x "$tests" ] || { echo "cuda-check: there is no $tests; build it: cmake --build $build --target swarr-tests" >&2; exit 1; }
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=0

# check <name> <filter of test cases> [command to run them under...]
check() {
  name=$1
  cases=$2
  shift 2
  echo "== $name"
  start=$(date +%s)
  "$@" "$tests" --test-case="$cases" >"$logs/out" 2>&1
  status=$?
  seconds=$(($(date +%s) - start))
  cat "$logs/out"
  if [ $status -eq 127 ]; then
    result="not found"
  elif [ $status -ne 0 ]; then
    result=FAILED
  elif grep -q 'skipped: no CUDA device' "$logs/out"; then
    result="no CUDA device"
  elif grep -q 'test cases: *0 ' "$logs/out"; then
    result="no such tests"
  else
    result=passed
  fi
  [ "$result" = passed ] || failed=1
  printf '%-12s %-16s %4s s  %s\n' "$name" "$result" "$seconds" "$cases" >>"$logs/table"
}

sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
check tests 'CUDA:*,*every device*,*back from the device*'
for tool in memcheck initcheck synccheck; do
  check $tool 'CUDA: memory:*' "$sanitizer" --tool $tool --error-exitcode 9
done
check racecheck 'CUDA: memory: small*' "$sanitizer" --tool racecheck --error-exitcode 9

echo
cat "$logs/table"
exit $failed
