#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes hashes of what the program computes. A change of form that must change no value proves it: make them before and
# after the change on one machine, and compare the two files.
#
# usage: tools/digests.sh [FILE]   (default: out/digests.txt)
#   BUILD=...    the folder with swarr and swarr-op-digest (default: build)
#   DEVICE=cuda  the ops and the study on the device instead of the CPU
#   STUDY=1      also the quick study, which takes minutes: every outcome, and the weights of every arm
#
# A line of the ops is: set of kernels and dtype | case | hash of the results, hash of the gradients. All other lines
# are SHA-256 of files.
set -eu

file=${1:-out/digests.txt}
build=${BUILD:-build}
device=${DEVICE:-cpu}
for program in swarr swarr-op-digest; do
  [ -x "$build/$program" ] || { echo "digests: there is no $build/$program; run make digests." >&2; exit 1; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$(dirname "$file")"

"$build/swarr-op-digest" "$device" >"$scratch/digests"
for suite in ops attention loss distill step model decode rollout; do
  "$build/swarr" oracle export --suite $suite --threads 0 --output-dir "$scratch/oracle"
done
files="oracle/*/*"
if [ "${STUDY:-}" = 1 ]; then
  "$build/swarr" study --preset quick --device "$device" --output-dir "$scratch/study" >&2
  files="$files study/outcomes.jsonl study/runs/*/model.safetensors"
fi
# shellcheck disable=SC2086  # $files is a list of patterns
(cd "$scratch" && sha256sum $files) >>"$scratch/digests"
mv "$scratch/digests" "$file"
echo "$file: $(wc -l <"$file") lines, SHA-256 $(sha256sum <"$file" | cut -c 1-16)"
