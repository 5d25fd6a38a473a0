#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copies the libraries that the build needs from this Debian machine into a folder, for a build on a machine without the
# packages: cmake -D SWARR_DEPS_DIR=FOLDER, or make cuda DEPS_DIR=FOLDER. PCRE2 and utf8proc are copied as static
# libraries, so that the program runs where neither is installed; they are for machines of this processor family.
#
# usage: tools/pack-deps.sh FOLDER
set -eu

if [ $# -ne 1 ]; then
  echo "usage: tools/pack-deps.sh FOLDER" >&2
  exit 2
fi

# copy FOLDER FILE...: copies what is there, and refuses to make half a package.
copy() {
  folder=$1
  shift
  for file in "$@"; do
    if [ ! -e "$file" ]; then
      echo "pack-deps: there is no $file; run tools/setup.sh build first." >&2
      exit 1
    fi
  done
  mkdir -p "$folder"
  cp -RL "$@" "$folder/"
}

triplet=$(g++ -dumpmachine)
copy "$1" /usr/include/nlohmann /usr/include/CLI /usr/include/eigen3 /usr/include/doctest /usr/include/pcre2.h \
  /usr/include/utf8proc.h /usr/include/xxhash.h
copy "$1/lib" "/usr/lib/$triplet/libpcre2-8.a" "/usr/lib/$triplet/libutf8proc.a"
