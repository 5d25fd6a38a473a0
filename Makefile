# SPDX-License-Identifier: Apache-2.0
# The front door. Every target first sees to the Debian packages that it needs (tools/setup.sh).
#
#   make              builds build/swarr
#   make help         these lines
#   make reproduce    the quick study: a table here, the report under out/quick, which it replaces (options: STUDY_FLAGS="--seed 101")
#   make one-file     the method in one file: trains from nothing and prints the story (ONE_FILE_SEED=1 for another seed)
#   make test         builds the tests too, and runs every one that this machine can run
#   make check        what must hold before a commit: formatting, links and line counts, limits (make check-form: seconds),
#                     and clang-tidy over the sources that differ from origin/main (another revision: SINCE=...)
#   make check-deep   before an issue is closed, and long: the suite under AddressSanitizer and UndefinedBehaviorSanitizer, with
#                     assertions and each source compiled by itself, then under ThreadSanitizer, and
#                     out/coverage.txt, which names what no test reaches
#   make cuda         builds build-cuda/swarr with the CUDA kernels, wherever there is nvcc (docs/cuda.md)
#   make bench        the benchmark suites, JSON and a figure under out/bench
#   make bench-peers  swarr beside PyTorch in one run: ratios, and the ratios required (options below)
#   make bench-gpu    the same on a CUDA device, beside cuBLAS and cuDNN too: one sitting of SITTING_FLAGS="--seconds 400"
#   make fuzz         libFuzzer on every reader of files and texts, FUZZ_SECONDS=60 each (tools/fuzz.sh)
#   make mutants      mutation testing: changes a line at a time and asks whether a test notices (docs/mutation.md)
#   make torture      kills runs and fills their disk at every file operation, and stops them at random moments
#                     (docs/reliability.md)
#   make digests      hashes of all that is computed, into out/digests.txt (STUDY=1: the quick study too): a change of
#                     form that changes no value leaves them as they are
#   make format       clang-format over the sources
#   make lint         clang-tidy over all sources, which takes long
#   make docs         the reference of the public headers under build/docs/html
#   make install      program, library, headers and package files under PREFIX (default /usr/local)
#   make release      the archive of the sources and the Debian package, tried once each, into build/release (tools/release.sh)
#   make clean        removes build/ and build-cuda/ (never out/)
#
# The other builds are presets with the steps configure, build, test in one command:
#   cmake --workflow --preset dev      assertions, warnings are errors
#   cmake --workflow --preset asan     assertions, AddressSanitizer and UndefinedBehaviorSanitizer
#   cmake --workflow --preset clang    clang++ instead of g++; packages: tools/setup.sh clang
#   cmake --workflow --preset tsan     ThreadSanitizer, with clang++

# Options of bench-peers:
#   PEER_PYPI=1       also PyPI's torch, once installed under out/peers-venv (remove that to renew it). With
#                     PIP_INDEX_URL=https://download.pytorch.org/whl/cpu in the environment it comes without CUDA
#   PEER_PYTHONS=...  the interpreters whose torch is measured, instead of Debian's: "python3 /path/venv/bin/python"
#   PEER_FLAGS=...    of bench/peers/compare.py: "--seconds 200 --rows 'D train'"

PREFIX ?= /usr/local
STUDY_FLAGS ?=
ONE_FILE_SEED ?= 0
PEER_PYPI ?=
PEER_PYTHONS ?= /usr/bin/python3
PEER_FLAGS ?=
SITTING_FLAGS ?=
DEPS_DIR ?=
PEER_VENV := out/peers-venv
SINCE ?= origin/main
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
CUDA_TARGET ?= all
BENCH_SUITES := ops train decode scaling
SOURCES = $(shell git ls-files "src/*.h" "src/*.cc" "cuda/*" "tests/*.h" "tests/*.cc" "examples/*.cc")

.PHONY: help configure build reproduce one-file test check check-form cuda bench bench-peers bench-gpu fuzz mutants torture digests \
  check-deep format lint docs install release clean

build: configure
	@cmake --build build --target swarr-cli --parallel $(JOBS)

help:
	@sed -n '/^#   make  /,/^PREFIX/s/^# \{0,1\}//p' Makefile

configure:
	@tools/setup.sh build
	@[ build/build.ninja -nt CMakePresets.json ] || cmake --preset release

reproduce: build
	build/swarr study --preset quick --output-dir out/quick --overwrite $(STUDY_FLAGS)

one-file:
	@mkdir -p out
	$(CXX) -std=c++20 -O3 -march=native examples/swarr_in_one_file.cc -o out/swarr_in_one_file
	out/swarr_in_one_file $(ONE_FILE_SEED)

test: configure
	@cmake --build build --parallel $(JOBS)
	ctest --preset release --parallel $(JOBS)

check: check-form
	@tools/setup.sh lint
	@JOBS=$(JOBS) tools/lint.sh $(SINCE)

check-deep:
	@tools/setup.sh clang
	cmake --workflow --preset asan
	cmake --workflow --preset tsan
	tools/coverage.sh out/coverage.txt

check-form:
	@tools/setup.sh check
	@clang-format --dry-run -Werror $(SOURCES)
	@python3 tools/check_docs.py
	@python3 tools/check_limits.py
	@python3 tools/check_figures.py
	@python3 tools/check_scale.py
	@python3 tools/mutate.py explained

torture: configure
	@tools/setup.sh check
	@cmake --build build --target swarr-cli swarr-file-faults --parallel $(JOBS)
	python3 tests/torture/torture.py build/swarr build/libswarr-file-faults.so --jobs $(JOBS)
	python3 tests/torture/moments.py build/swarr --jobs $(JOBS)
	python3 tests/torture/ranks.py build/swarr --jobs $(JOBS)

# DEPS_DIR, also of mutants: a folder of tools/pack-deps.sh instead of Debian's packages.
cuda:
	@command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || { \
	  echo "cuda: there is no nvcc in PATH or /usr/local/cuda/bin; install the CUDA toolkit (docs/cuda.md)." >&2; exit 1; }
	@[ -n "$(DEPS_DIR)" ] || tools/setup.sh build
	@cmake --preset cuda $(if $(DEPS_DIR),-D SWARR_DEPS_DIR="$(abspath $(DEPS_DIR))")
	@cmake --build build-cuda --target $(CUDA_TARGET) --parallel $(JOBS)

bench: build
	@mkdir -p out/bench
	set -e; for suite in $(BENCH_SUITES); do build/swarr bench --suite $$suite --overwrite --json out/bench/$$suite.json \
	  $$([ $$suite != scaling ] || echo --svg out/bench/scaling.svg); done

bench-peers: build $(if $(filter 1,$(PEER_PYPI)),$(PEER_VENV)/installed)
	@tools/setup.sh peers
	@python3 bench/peers/compare.py --pythons "$(PEER_PYTHONS) $(if $(filter 1,$(PEER_PYPI)),$(PEER_VENV)/bin/python)" \
	  --json out/bench/peers.json $(PEER_FLAGS)
	@$(if $(filter 1,$(PEER_PYPI))$(filter-out /usr/bin/python3,$(PEER_PYTHONS)),:, \
	  echo "PyPI's torch was not measured; PEER_PYPI=1 installs and measures it.")

bench-gpu: cuda
	@python3 bench/peers/sitting.py --output-dir out/sitting $(SITTING_FLAGS)

$(PEER_VENV)/installed:
	@tools/setup.sh peers-pypi
	/usr/bin/python3 -m venv $(PEER_VENV)
	$(PEER_VENV)/bin/pip install --quiet torch
	@touch $@

fuzz:
	@tools/setup.sh clang
	@cmake --preset fuzz
	@cmake --build build/fuzz --target fuzz --parallel $(JOBS)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/fuzz.sh

mutants:
	@[ -n "$(DEPS_DIR)" ] || tools/setup.sh build
	@python3 tools/mutate.py run --jobs $(JOBS) --output-dir out/mutants $(if $(DEPS_DIR),--deps "$(DEPS_DIR)")

digests: build
	@cmake --build build --target swarr-op-digest --parallel $(JOBS)
	@tools/digests.sh

format:
	@tools/setup.sh format
	clang-format -i $(SOURCES)

lint:
	@tools/setup.sh lint
	@JOBS=$(JOBS) tools/lint.sh

docs:
	@tools/setup.sh docs
	@mkdir -p build/docs
	doxygen docs/Doxyfile

install: build
	cmake --install build --prefix $(PREFIX)

release:
	@tools/setup.sh release
	@JOBS=$(JOBS) tools/release.sh

clean:
	rm -rf build build-cuda
