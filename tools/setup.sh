#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sees to the Debian packages that a make target needs: installs what is missing as root or through a sudo that asks for
# no password, else prints the command and stops. Says nothing when nothing is missing.
#
# usage: tools/setup.sh [build|format|check|lint|docs|coverage|clang|release|peers|peers-pypi]   (default: build)
set -eu

packages="cmake ninja-build g++ libeigen3-dev nlohmann-json3-dev libcli11-dev doctest-dev libpcre2-dev libutf8proc-dev
libxxhash-dev"
case "${1:-build}" in
  build) ;;
  format) packages="clang-format" ;;
  check) packages="clang-format python3" ;;
  docs) packages="doxygen" ;;
  coverage) packages="$packages gcovr" ;;
  lint) packages="$packages clang-tidy clang" ;;
  clang) packages="$packages clang-19 libclang-rt-19-dev" ;;
  release) packages="$packages dpkg-dev file" ;; # CPack's Debian package asks dpkg-shlibdeps what the program needs
  peers) packages="python3-torch libopenblas0-openmp python3-numpy" ;; # generic BLAS would be a hundred times slower
  peers-pypi) packages="python3-venv" ;;
  *)
    echo "setup: '$1' is not one of build, format, check, lint, docs, coverage, clang, release, peers, peers-pypi." >&2
    exit 2
    ;;
esac

# On a system of another kind the packages have other names; CMake says which library it doesn't find.
command -v dpkg-query >/dev/null || exit 0

missing=""
for package in $packages; do
  # shellcheck disable=SC2016  # ${...} is dpkg-query's own syntax
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get install --yes --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
  as_root=""
elif sudo -n true 2>/dev/null; then
  as_root="sudo -n"
else
  echo "setup: Debian packages are missing; install them and run this again:" >&2
  echo "  sudo apt-get update && sudo $install" >&2
  exit 1
fi

apt() {
  $as_root env DEBIAN_FRONTEND=noninteractive "$@" -o DPkg::Lock::Timeout=300 >"$log" 2>&1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "setup: installing$missing" >&2
# The package lists may be absent (a bare system) or out of date (the files they name are gone): then fetch them first.
# shellcheck disable=SC2086  # $install is a list of words
if ! apt $install && ! { apt apt-get update && apt $install; }; then
  cat "$log" >&2
  echo "setup: the installation failed (see above); try it yourself:" >&2
  echo "  sudo apt-get update && sudo $install" >&2
  exit 1
fi
