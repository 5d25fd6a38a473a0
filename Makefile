# SPDX-License-Identifier: Apache-2.0
# The front door. Every target first sees to the Debian packages that it needs (tools/setup.sh).
#
#   make              builds build/swarr
#   make reproduce    the quick study: a table here, the report under out/quick (options: STUDY_FLAGS="--seed 101")
#   make test         every test that this machine can run
#   make bench        the benchmark suites, JSON under out/bench
#   make format       clang-format over the sources
#   make lint         clang-tidy over the sources
#   make docs         the reference of the public headers under build/docs/html
#   make install      program, library, headers and package files under PREFIX (default /usr/local)
#   make clean        removes build/ (never out/)
#
# The other builds are presets with the steps configure, build, test in one command:
#   cmake --workflow --preset dev      assertions, warnings are errors
#   cmake --workflow --preset asan     AddressSanitizer and UndefinedBehaviorSanitizer
#   cmake --workflow --preset clang    clang++ instead of g++; packages: tools/setup.sh clang
#   cmake --workflow --preset tsan     ThreadSanitizer, with clang++ only (CMakePresets.json says why)

PREFIX ?= /usr/local
STUDY_FLAGS ?=
JOBS ?= $(shell nproc)
BENCH_SUITES := ops train decode scaling
SOURCES = $(wildcard src/*/*.h src/*/*.cc tests/*.h tests/*.cc)

.PHONY: build reproduce test bench format lint docs install clean

build:
	@tools/setup.sh build
	@[ build/build.ninja -nt CMakePresets.json ] || cmake --preset release
	@cmake --build build --parallel $(JOBS)

reproduce: build
	build/swarr study --preset quick --output-dir out/quick $(STUDY_FLAGS)

test: build
	ctest --preset release --parallel $(JOBS)

bench: build
	@mkdir -p out/bench
	set -e; for suite in $(BENCH_SUITES); do build/swarr bench --suite $$suite --json out/bench/$$suite.json; done

format:
	@tools/setup.sh format
	clang-format -i $(SOURCES)

lint: build
	@tools/setup.sh lint
	@printf '%s\n' $(filter src/%.cc,$(SOURCES)) | xargs -P $(JOBS) -n 4 clang-tidy --quiet -p build

docs:
	@tools/setup.sh docs
	@mkdir -p build/docs
	doxygen docs/Doxyfile

install: build
	cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build
