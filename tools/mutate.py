#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Changes one operator, constant or term of the arithmetic at a time and asks whether a test notices (docs/mutation.md).

    python3 tools/mutate.py list                               the mutants, one JSON object a line
    python3 tools/mutate.py run --output-dir D [--jobs N]      tries those without a result in D, then reports
    python3 tools/mutate.py report --output-dir D              what D holds; exit 1 unless every survivor is explained
    python3 tools/mutate.py explained                          explanations of lines that are no longer there; exit 1 if any

Needs Python 3.9, a C++ compiler, CMake and Ninja. --deps is a folder of tools/pack-deps.sh, instead of packages.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

from mutants import key, mutants_of, thinned

ROOT = pathlib.Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tests" / "mutants_equivalent.json"
MEMORY = 16 << 30  # address space of a process, for mutants that allocate without end

# Expensive optimisations include fused multiply-adds, which every set of kernels but the portable one has.
# An index outside of an array of fixed size, which may hit another variable and leave no trace, is a crash.
OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -fexpensive-optimizations",
           "-DCMAKE_CXX_FLAGS=-w -march=native -fsanitize=bounds -fsanitize-undefined-trap-on-error",
           "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=native", "-DSWARR_CUDA=OFF", "-DSWARR_UNITY=OFF"]


def runs_program(path):
    """Whether a file of tests includes program.h, itself or by another header of tests."""
    included = [path.parent / name for name in re.findall(r'#include "(\w+\.h)"', path.read_text())]
    return any(header.name == "program.h" or header.exists() and runs_program(header) for header in included)


# Tests of the program; without them it need not be built, which takes longer than all else that includes spec.h.
NOT_RUN = [path.stem.removesuffix("_test") for path in sorted((ROOT / "tests").glob("*_test.cc")) if runs_program(path)]

# What is mutated (glob), and the test files (tests/NAME_test.cc) that are run first, in this order; all others follow.
FILES = [
    ("src/attn/spec.h", "attention_spec attention decoder"),
    ("src/attn/kernels/key_tiles.h", "attention attention_queries op_memory decoder"),
    ("src/attn/kernels/own_tiles.h", "attention attention_queries op_memory decoder"),
    ("src/attn/kernels/tile_products.h", "attention attention_queries op_memory decoder"),
    ("src/attn/kernels/forward_blocks.h", "attention attention_queries op_memory decoder"),
    ("src/attn/attention.cc", "attention attention_queries op_memory decoder"),
    ("src/plain/attention.h", "plain attention"),
    ("src/plain/ops.h", "plain op_bf16"),
    ("src/attn/kernels/attention_kernel.cc", "attention attention_queries op_memory decoder"),
    ("src/tensor/rope_table.cc", "rope_table ops op_memory op_rows torch_fixture"),
    ("src/tensor/kernels/rope.cc", "rope_table ops op_memory op_rows torch_fixture"),
    ("src/tensor/kernels/formulas.h", "ops op_memory op_rows logprob adamw optimizer training torch_fixture"),
    ("src/tensor/kernels/rmsnorm.cc", "ops op_memory op_rows torch_fixture"),
    ("src/tensor/kernels/log_softmax.cc", "ops op_memory op_rows logprob"),
    ("src/tensor/kernels/softmax_row.h", "ops op_memory logprob decoder"),
    ("src/tensor/lm_head.cc", "ops op_memory logprob decoder"),
    ("src/tensor/kernels/elementwise.cc", "ops op_memory op_rows torch_fixture"),
    ("src/tensor/kernels/adamw.cc", "adamw optimizer training"),
    ("src/tensor/kernels/sample.cc", "ops op_memory decoder logprob"),
    ("src/rl/objective*.cc", "objective objective_fixture rl"),
    ("src/rl/rl.cc", "rl_step rl rl_objective dist requirements in_memory"),
    ("src/rl/rollout.cc", "rl rl_step rl_objective dist"),
    ("src/train/optimizer.cc", "optimizer training dist"),
    ("src/train/sft.cc", "training distill dist requirements in_memory"),
    ("src/train/data.cc", "data training rl"),
]


def all_mutants(per_line=None):
    names = {}
    for pattern, tests in FILES:
        for path in sorted(ROOT.glob(pattern)):
            there = [name for name in tests.split() if (ROOT / "tests" / f"{name}_test.cc").exists()]
            names.setdefault(str(path.relative_to(ROOT)), there)
    return [dict(m, tests=tests) for name, tests in names.items()
            for m in thinned(mutants_of(name, (ROOT / name).read_text()), per_line)]


# One build of the unchanged sources is made relocatable, and each worker changes a copy.


class Tree:
    """A copy of the sources with a build folder in it."""

    def __init__(self, path):
        self.path, self.build = pathlib.Path(path).resolve(), pathlib.Path(path).resolve() / "build"

    def command(self, arguments, limit=1800):
        """Exit status (None: out of time) and output; whatever it has started is ended with it."""
        temporary = self.path / "tmp"
        temporary.mkdir(exist_ok=True)
        process = subprocess.Popen(
            arguments, cwd=self.build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env=dict(os.environ, TMPDIR=str(temporary)))
        status, output = None, b""
        try:
            output, status = process.communicate(timeout=limit)[0], process.returncode
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            process.stdout.close()
            shutil.rmtree(temporary, ignore_errors=True)
        return status, output.decode(errors="replace")

    def tests(self, arguments, limit):
        return self.command(["./swarr-tests", "--abort-after=1", "--no-colors=true", *arguments], limit)


def fail(message):
    sys.exit(f"mutate: {message}")


def make_base(folder, deps, jobs):
    """The unchanged program, built once. One set of kernels, for this machine's instructions, instead of one for each
    set (cmake/kernels.cmake): they are the same sources. Paths in build.ninja become relative, so that copies of the
    folder are up to date builds of their own sources."""
    base, stamp, seconds = Tree(folder / "base"), folder / "base.layout", folder / "base.seconds"
    files = [p for top in ("CMakeLists.txt", "cmake", "src", "tests", "cuda", "data", "docs")
             for p in ([ROOT / top] if (ROOT / top).is_file() else sorted((ROOT / top).rglob("*")))
             if p.is_file() and p != EQUIVALENT]
    layout = "".join(f"{p.relative_to(ROOT)}\n" for p in files) + f"{OPTIONS} {deps}\n" + "".join(
        p.read_text() for p in files if p.name == "CMakeLists.txt" or p.suffix in {".cmake", ".in"})
    if not stamp.exists() or stamp.read_text() != layout:
        seconds.unlink(missing_ok=True)
        configure(base, deps)
        stamp.write_text(layout)
    for p in files:  # what has changed since
        copy = base.path / p.relative_to(ROOT)
        if p.read_bytes() != copy.read_bytes():
            shutil.copyfile(p, copy)
            seconds.unlink(missing_ok=True)
    status, output = base.command(["ninja", "-j", str(jobs), "swarr-tests"])
    if status != 0:
        fail(f"the unchanged sources don't build:\n{output[-3000:]}")
    return base


def configure(base, deps):
    shutil.rmtree(base.path, ignore_errors=True)
    left_out = shutil.ignore_patterns(".*", "build", "build-*", "out", "__pycache__", "shared")
    shutil.copytree(ROOT, base.path, ignore=left_out)
    base.build.mkdir()
    own = [f"-DSWARR_DEPS_DIR={deps}"] if deps else []
    status, output = base.command(["cmake", "-G", "Ninja", "-S", "..", "-B", ".", *OPTIONS, *own])
    if status != 0:
        fail(f"the sources can't be configured:\n{output}")
    ninja = base.build / "build.ninja"
    ninja.write_text("\n".join(
        line if line.startswith("cmake_ninja_workdir") else
        line.replace(str(base.build), ".").replace(str(base.path), "..")
        .replace("build build.ninja:", "build never-again:")  # CMake would write absolute paths
        for line in without_program(ninja.read_text()).split("\n")))


def without_program(rules):
    return re.sub(r"^(build (?:cmake_object_order_depends_target_)?swarr-tests:.*) swarr$", r"\1", rules, flags=re.M)


def choice(option, names):
    return f"--source-file{option}=" + ",".join(f"*/tests/{name}_test.cc" for name in names)


def copy_file(source, target):
    # Precompiled headers are large and no mutant touches them.
    if source.endswith(".gch"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def baseline(base):
    """Seconds of the whole suite on the unchanged program, which must pass."""
    seconds = base.path.parent / "base.seconds"
    if not seconds.exists():
        start = time.monotonic()
        status, output = base.tests([choice("-exclude", NOT_RUN)], 1800)
        if status != 0:
            fail(f"the tests fail on the unchanged program:\n{output[-3000:]}")
        seconds.write_text(str(time.monotonic() - start))
    return float(seconds.read_text())


def failed_test(output):
    """A test is named above its failure, which ends the run, and above each of its messages."""
    cases = re.findall(r"^TEST CASE:\s*(.*)$", output, re.M)
    return cases[-1].strip() if cases else "a crash outside of any test"


def try_mutant(mutant, base, folder, build_jobs, limit):
    """The outcome of one mutant, in a fresh copy of the base."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base.path, folder, copy_function=copy_file, symlinks=True)
    tree = Tree(folder)
    path = tree.path / mutant["file"]
    lines = path.read_text().split("\n")
    lines[mutant["line"] - 1] = mutant["replacement"]
    path.write_text("\n".join(lines))
    # What asserts at compile time comes first: a header takes long to compile everywhere.
    first = [f"CMakeFiles/swarr-tests.dir/tests/{name}_test.cc.o" for name in mutant["tests"]]
    for targets in (first, ["swarr-tests"]):
        status, output = tree.command(["ninja", "-j", str(build_jobs), *targets])
        if status == 0:
            continue
        asserted = re.search(r"^(?:\.\./)?(\S+?):\d+:\d+: error: (?:static assertion|non-constant condition)", output, re.M)
        return {"outcome": "killed", "by": f"static_assert in {asserted[1]}"} if asserted else {
            "outcome": "does not compile"}
    for tests in [choice("", [name]) for name in mutant["tests"]] + [choice("-exclude", mutant["tests"] + NOT_RUN)]:
        status, output = tree.tests([tests], limit)
        if status is None:
            return {"outcome": "timeout", "by": f"more than {limit:.0f} s"}
        if status != 0:
            return {"outcome": "killed", "by": failed_test(output)}
    return {"outcome": "survived"}


def run(options):
    started = time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    results = options.output_dir / "results.jsonl"
    options.output_dir.mkdir(parents=True, exist_ok=True)
    known = read_results(options.output_dir)
    chosen = [m for m in all_mutants(options.per_line) if options.file in m["file"]]
    if options.sample:  # spread over all files
        chosen = chosen[:: max(1, len(chosen) // options.sample)][: options.sample]
    todo = [m for m in chosen if
            key(m) not in known or options.retry and known[key(m)]["outcome"] == "survived"]
    base = make_base(options.build_dir.resolve(), options.deps and options.deps.resolve(), os.cpu_count())
    seconds = baseline(base)
    limit = 60 + 10 * seconds
    print(f"{len(todo)} mutants to try; the unchanged program passes its tests in {seconds:.0f} s", flush=True)
    lock, free = threading.Lock(), [options.build_dir.resolve() / f"worker{i}" for i in range(options.jobs)]

    def task(mutant):
        if options.time_limit and time.monotonic() - started > options.time_limit:
            return
        with lock:
            folder = free.pop()
        outcome = try_mutant(mutant, base, folder, max(1, os.cpu_count() // options.jobs), limit)
        shown = {k: mutant[k] for k in ("file", "line", "nth", "operator", "before", "after")}
        with lock:
            free.append(folder)
            with results.open("a") as file:
                file.write(json.dumps({**shown, **outcome}) + "\n")
            print(f"{outcome['outcome']:16} {mutant['file']}:{mutant['line']}  {mutant['after']}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        tasks = [pool.submit(task, mutant) for mutant in todo]
        try:
            for done in concurrent.futures.as_completed(tasks):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return report(options)


def read_results(folder):
    path = folder / "results.jsonl"
    return {key(r): r for r in map(json.loads, path.read_text().splitlines())} if path.exists() else {}


def table(title, results, field):
    outcomes = ["killed", "timeout", "equivalent", "survived", "does not compile"]
    print(f"\n| {title} | {' | '.join(outcomes)} |\n|---|{'--:|' * len(outcomes)}")
    rows = collections.defaultdict(collections.Counter)
    for r in results:
        rows[r[field]][r["outcome"]] += 1
        rows["all"][r["outcome"]] += 1
    for name in sorted(rows, key=lambda n: (n == "all", n)):
        print(f"| {name} | {' | '.join(str(rows[name][o]) for o in outcomes)} |")


def report(options):
    """Tables, and what is wrong: survivors without an argument, and arguments that are false or about nothing."""
    mutants = {key(m): m for m in all_mutants()}
    chosen = sum(1 for m in all_mutants(options.per_line) if options.file in m["file"])
    results = {k: r for k, r in read_results(options.output_dir).items() if k in mutants}
    arguments = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else []
    explained = {key(m): m for group in arguments for m in group["mutants"]}
    wrong = []
    for k in explained:
        if k not in mutants:
            wrong.append(("listed as equivalent, but there is no such mutant", k))
        elif results.get(k, {}).get("outcome") in {"killed", "timeout"}:
            wrong.append(("listed as equivalent, but detected", k))
    for k, r in results.items():
        if r["outcome"] == "survived" and k in explained:
            r["outcome"] = "equivalent"
    table("file", results.values(), "file")
    table("operator", results.values(), "operator")
    wrong += [("survived", k) for k, r in results.items() if r["outcome"] == "survived"]
    print(f"\n{len(results)} mutants tried; {chosen} are chosen of the {len(mutants)} that there are")
    for what, k in wrong:
        print(f"{what}: {k[0]}:{mutants.get(k, {}).get('line', '?')}\n  - {k[1]}\n  + {k[2]}")
    return 1 if wrong else 0


def explained():
    there = {key(m) for m in all_mutants()}
    gone = [m for group in json.loads(EQUIVALENT.read_text()) for m in group["mutants"] if key(m) not in there]
    for m in gone:
        print(f"tests/mutants_equivalent.json: {m['file']} has no mutant of `{m['before']}` to `{m['after']}`")
    return 1 if gone else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["list", "run", "report", "explained"])
    parser.add_argument("--output-dir", type=pathlib.Path, help="results.jsonl, which a later run goes on with")
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "mutate", help="for copies and builds")
    parser.add_argument("--deps", type=pathlib.Path, help="headers instead of packages (tools/pack-deps.sh)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--time-limit", type=float, help="seconds after which no mutant is started")
    parser.add_argument("--file", default="", help="only files whose names contain this")
    parser.add_argument("--per-line", type=int, default=1, help="at most so many mutants of a line")
    parser.add_argument("--sample", type=int, help="this many mutants, spread over the files")
    parser.add_argument("--retry", action="store_true", help="try survivors again")
    options = parser.parse_args()
    if options.action == "list":
        for m in all_mutants(options.per_line):
            print(json.dumps({k: m[k] for k in ("file", "line", "nth", "operator", "before", "after")}))
        return 0
    if options.action == "explained":
        return explained()
    if not options.output_dir:
        parser.error(f"{options.action} needs --output-dir")
    return run(options) if options.action == "run" else report(options)


if __name__ == "__main__":
    sys.exit(main())
