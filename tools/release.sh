#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Packs the last commit with CPack into build/release: the sources, with a file REVISION that answers where git cannot, and a
# Debian package, without CUDA, so that it depends on Debian's packages alone. Both come from one export of the commit, where
# the program is built. Then holds the archive against git, and unpacks the package and lets its program begin a study.
# JOBS=n processes.
set -eu
cd "$(dirname "$0")/.."
fail() {
  echo "release: $*" >&2
  exit 1
}

[ -z "$(git status --porcelain)" ] || fail "the tree differs from its last commit, which alone is packed; commit or remove the changes first."
trial=$(mktemp -d)
trap 'rm -rf "$trial"' EXIT
export=$trial/export
mkdir "$export"
git archive HEAD | tar -x -C "$export"
git describe --always >"$export/REVISION"
(cd "$export" && cmake --preset release -D SWARR_CUDA=OFF && cmake --build build --target swarr-cli --parallel "$JOBS" && cd build &&
  cpack --config CPackConfig.cmake && cpack --config CPackSourceConfig.cmake) >"$trial/log" 2>&1 || { cat "$trial/log" >&2; exit 1; }

rm -rf build/release
mkdir -p build/release
cp "$export"/build/release/*.deb "$export"/build/release/*.tar.xz build/release

(git ls-files && echo REVISION) | sort >"$trial/expected"
tar -tf build/release/swarr-*.tar.xz | grep -v '/$' | sed 's,^[^/]*/,,' | sort >"$trial/packed"
diff "$trial/expected" "$trial/packed" || fail "the archive does not hold what git does (< git, > archive)."

dpkg-deb -x build/release/swarr_*.deb "$trial/package"
program=$trial/package/usr/bin/swarr
version=$("$program" --version)
case "$version" in *"($(git describe --always))") ;; *) fail "the package's program says '$version', not this commit." ;; esac
timeout 10 "$program" study --preset quick --output-dir "$trial/study" >"$trial/log" 2>&1 && status=0 || status=$?
[ $status = 124 ] || fail "the package's program ended its study at once (status $status): $(cat "$trial/log")"
ls -l build/release
