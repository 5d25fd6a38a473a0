# SPDX-License-Identifier: Apache-2.0
# The front door. Every target first sees to the Debian packages that it needs (tools/setup.sh).
#
#   make              builds build/swarr
#   make reproduce    the quick study: a table here, the report under out/quick (options: STUDY_FLAGS="--seed 101")
#   make test         every test that this machine can run
#   make cuda         builds build-cuda/swarr with the CUDA kernels, wherever there is nvcc (docs/cuda.md)
#   make bench        the benchmark suites, JSON and a figure under out/bench
#   make bench-peers  swarr beside PyTorch in one run: ratios, and the ratios required (options below)
#   make mutants      mutation testing: changes a line at a time and asks whether a test notices (docs/mutation.md)
#   make format       clang-format over the sources
#   make lint         clang-tidy over the sources
#   make docs         the reference of the public headers under build/docs/html
#   make install      program, library, headers and package files under PREFIX (default /usr/local)
#   make clean        removes build/ and build-cuda/ (never out/)
#
# The other builds are presets with the steps configure, build, test in one command:
#   cmake --workflow --preset dev      assertions, warnings are errors
#   cmake --workflow --preset asan     AddressSanitizer and UndefinedBehaviorSanitizer
#   cmake --workflow --preset clang    clang++ instead of g++; packages: tools/setup.sh clang
#   cmake --workflow --preset tsan     ThreadSanitizer, with clang++ only (CMakePresets.json says why)

# Options of bench-peers:
#   PEER_PYPI=1       also PyPI's torch, once installed under out/peers-venv (remove that to renew it). With
#                     PIP_INDEX_URL=https://download.pytorch.org/whl/cpu in the environment it comes without CUDA
#   PEER_PYTHONS=...  the interpreters whose torch is measured, instead of Debian's: "python3 /path/venv/bin/python"
#   PEER_FLAGS=...    of bench/peers/compare.py: "--rounds 5 --rows 'D train'"

PREFIX ?= /usr/local
STUDY_FLAGS ?=
PEER_PYPI ?=
PEER_PYTHONS ?= /usr/bin/python3
PEER_FLAGS ?=
DEPS_DIR ?=
PEER_VENV := out/peers-venv
JOBS ?= $(shell nproc)
BENCH_SUITES := ops train decode scaling
SOURCES = $(shell git ls-files "src/*.h" "src/*.cc" "cuda/*" "tests/*.h" "tests/*.cc" "examples/*.cc")

.PHONY: build reproduce test cuda bench bench-peers mutants format lint docs install clean

build:
	@tools/setup.sh build
	@[ build/build.ninja -nt CMakePresets.json ] || cmake --preset release
	@cmake --build build --parallel $(JOBS)

reproduce: build
	build/swarr study --preset quick --output-dir out/quick $(STUDY_FLAGS)

test: build
	ctest --preset release --parallel $(JOBS)

# DEPS_DIR, also of mutants: headers instead of Debian's packages (tools/pack-deps.sh).
cuda:
	@command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || { \
	  echo "cuda: there is no nvcc in PATH or /usr/local/cuda/bin; install the CUDA toolkit (docs/cuda.md)." >&2; exit 1; }
	@[ -n "$(DEPS_DIR)" ] || tools/setup.sh build
	@cmake --preset cuda $(if $(DEPS_DIR),-D SWARR_DEPS_DIR="$(abspath $(DEPS_DIR))")
	@cmake --build build-cuda --parallel $(JOBS)

bench: build
	@mkdir -p out/bench
	set -e; for suite in $(BENCH_SUITES); do build/swarr bench --suite $$suite --json out/bench/$$suite.json \
	  $$([ $$suite != scaling ] || echo --svg out/bench/scaling.svg); done

bench-peers: build $(if $(filter 1,$(PEER_PYPI)),$(PEER_VENV)/installed)
	@tools/setup.sh peers
	@python3 bench/peers/compare.py --pythons "$(PEER_PYTHONS) $(if $(filter 1,$(PEER_PYPI)),$(PEER_VENV)/bin/python)" \
	  --json out/bench/peers.json $(PEER_FLAGS)
	@$(if $(filter 1,$(PEER_PYPI))$(filter-out /usr/bin/python3,$(PEER_PYTHONS)),:, \
	  echo "PyPI's torch was not measured; PEER_PYPI=1 installs and measures it.")

$(PEER_VENV)/installed:
	@tools/setup.sh peers-pypi
	/usr/bin/python3 -m venv $(PEER_VENV)
	$(PEER_VENV)/bin/pip install --quiet torch
	@touch $@

mutants:
	@[ -n "$(DEPS_DIR)" ] || tools/setup.sh build
	@python3 tools/mutate.py run --jobs $(JOBS) --output-dir out/mutants $(if $(DEPS_DIR),--deps "$(DEPS_DIR)")

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
	rm -rf build build-cuda
