#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copies the libraries that are headers alone from this Debian machine into a folder, for a build on a machine without
# the packages: cmake -D SWARR_DEPS_DIR=FOLDER, or make cuda DEPS_DIR=FOLDER.
#
# usage: tools/pack-deps.sh FOLDER
set -eu

if [ $# -ne 1 ]; then
  echo "usage: tools/pack-deps.sh FOLDER" >&2
  exit 2
fi
for headers in nlohmann CLI eigen3 doctest; do
  if [ ! -d "/usr/include/$headers" ]; then
    echo "pack-deps: there is no /usr/include/$headers; run tools/setup.sh build first." >&2
    exit 1
  fi
done
mkdir -p "$1"
for headers in nlohmann CLI eigen3 doctest; do
  cp -RL "/usr/include/$headers" "$1/"
done
