#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the ways to close the gap that a window opens, on the chain task: RL beside all else that might have done it.

    python3 tools/compare_ways.py build/swarr --output-dir out/ways [--device cuda] [--jobs 8] [--tune-only TOKENS] [--tiny]

The setting is the quick study's (data/presets/quick.json). For every seed the base model is converted to the window and
fine-tuned (SWA, SFT), and fine-tuned under full attention (SA, SFT: the teacher). Each way then goes on from SWA, SFT
until it has trained on as many tokens as RL has with that seed. Ways that change the architecture are converted in their
own manner, fine-tuned alike, and go on with as much more SFT.

Every way is tuned over as many values as RL, five learning rates, on a seed and on evaluation problems of their own.
The value with the best accuracy there is then run with the reported seeds. Writes OUTPUT/results.json and prints a table.
A job that has finished is not run again, so an interrupted comparison goes on where it stopped; a way that fails is
reported at the end, and the others go on.

Python 3.9 and its standard library suffice.
"""

import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

from recorded_jobs import Failed, Program

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
TUNING_SEED, SEEDS = 7, (0, 101, 202)
# The quick study's rates, each halved and doubled; and lower ones, since the best of three was often the lowest.
SFT_RATES, RL_RATES = (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3), (1.875e-5, 3.75e-5, 7.5e-5, 1.5e-4, 3e-4)
SAMPLES = 4  # completions per problem of the RL split; so one round samples about as many as RL does
ROUNDS = 3  # of expert iteration
RESTATING = {"rl": 0.624, "own_rounds": 0.222}  # how often a step restates after these, in docs/results/full
TOKENS = {"prompt": 10, "step": 5, "restatement": 9, "end": 2}  # a7b3n20x5?  07:C,  [a7b3n20]  #C
SLOTS = 512  # sequences sampled at a time


def flags(settings, **changed):
    """A stage of the preset as flags. A value of None leaves the flag out."""
    named = {"max-steps" if key == "steps" else key.replace("_", "-"): value
             for key, value in {**settings, **changed}.items() if value is not None}
    return [str(part) for key, value in named.items() for part in ("--" + key, value)]


def wilson(successes, trials):
    """The 95% interval of a share."""
    z, share = 1.959963984540054, successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    margin = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return middle - margin, middle + margin


class Comparison:
    def __init__(self, options):
        self.options, self.program = options, Program(options)
        preset = json.loads((DATA / "presets" / "quick.json").read_text())
        if options.tiny:
            preset["task"].update(n_max=5)
            preset["evaluation"].update(problems=32)
            preset["sft"].update(steps=20, warmup_steps=2)
            preset["rl"].update(steps=2, prompts_per_step=4, num_generations=4)
        self.preset, self.base = preset, DATA / preset["base_model"]
        self.seeds = SEEDS[:1] if options.tiny else SEEDS
        self.sampled_problems = 64 if options.tiny else 0  # all
        task = preset["task"]
        self.task = ["--task", "chain", "--n-min", str(task["n_min"]), "--n-max", str(task["n_max"])]
        self.restate = ["--restate", str(task["restate_probability"])]
        # The starts of the ways, by the flags of convert beside --window; None keeps full attention.
        self.starts = {"sa": None, "swa": [], "prompt_visible": ["--sinks", str(TOKENS["prompt"])],
                       "learned_sinks": ["--learned-sinks"], "hybrid": ["--full-every", "3"]}
        # By name: what the table says, the function that trains, the rates to tune over, and the start.
        self.ways = {
            "rl": ("RL", self.rl, RL_RATES, "swa"),
            "sft_more": ("more SFT", self.more_sft, SFT_RATES, "swa"),
            "sa_samples": ("SFT on the SA model's correct samples", self.sa_samples, SFT_RATES, "swa"),
            "own_samples": ("SFT on its own correct samples", self.own_samples, SFT_RATES, "swa"),
            "own_rounds": (f"the same, in {ROUNDS} rounds of sampling", self.own_rounds("correct"), SFT_RATES, "swa"),
            "own_all": ("SFT on its own samples, right or wrong", self.own_unselected, SFT_RATES, "swa"),
            "own_all_rounds": (f"the same, in {ROUNDS} rounds of sampling", self.own_rounds("all"), SFT_RATES, "swa"),
            "restating_rl": ("SFT on traces that restate at random, as often as RL", self.restating("rl"), SFT_RATES, "swa"),
            "restating_own": ("the same, as often as own samples in rounds", self.restating("own_rounds"), SFT_RATES, "swa"),
            "kl_forward": ("distillation from SA, forward KL", self.distill("forward"), SFT_RATES, "swa"),
            "kl_reverse": ("distillation from SA, reverse KL", self.distill("reverse"), SFT_RATES, "swa"),
            "opd": ("on-policy distillation from SA", self.on_policy_distillation, RL_RATES, "swa"),
            "prompt_visible": ("sinks: the whole prompt; more SFT", self.more_sft, SFT_RATES, "prompt_visible"),
            "learned_sinks": ("learned sinks; more SFT", self.more_sft, SFT_RATES, "learned_sinks"),
            "hybrid": ("one full layer in 3; more SFT", self.more_sft, SFT_RATES, "hybrid"),
        }
        if options.ways:
            self.ways = {name: way for name, way in self.ways.items() if name in {"rl", *options.ways.split(",")}}
        self.rows, self.failures, self.steps_of = [], [], {}

    # --- jobs ---

    def sft(self, name, model, rows, steps, rate, seed, more=()):
        """SFT on rows, which are the flags of a task or of a file. Returns the tokens trained on."""
        self.program.run(name, "sft", "--model", model, *rows, *flags(self.preset["sft"], steps=steps, lr=rate), *more,
                         "--seed", seed, "--output-dir", self.program.path(name), "--overwrite", "--quiet")
        return self.program.trained(name)

    def rl_run(self, name, model, settings, seed, more=()):
        """RL. Returns the tokens trained on and those sampled."""
        self.program.run(name, "rl", "--model", model, *self.task, *flags(settings), *more, "--seed", seed,
                         "--output-dir", self.program.path(name), "--overwrite", "--quiet")
        return self.program.trained(name), sum(m["rollout_logprob_tokens"] for m in self.program.metrics(name))

    def sample(self, name, model, samples, seed, keep="correct"):
        """Keeps some completions per problem of the RL split. Returns the rows' file and the tokens."""
        rows = self.program.path(name + ".jsonl")
        rows.parent.mkdir(parents=True, exist_ok=True)
        printed = self.program.run(name, "sample", "--model", model, *self.task, "--split", "rl", "--problems",
                                   self.sampled_problems, "--samples", samples, "--keep", keep, "--output", rows,
                                   "--overwrite", "--json", "--slots", SLOTS, "--seed", seed)
        return rows, printed["tokens"]

    def evaluate(self, name, model, seed, problems, more=()):
        longest = 14 * self.preset["task"]["n_max"] + 4  # the task's own limit
        return self.program.run(f"eval/{name}", "eval", "--model", model, "--data",
                                self.program.path(f"{problems}.jsonl"), "--max-completion-length", longest, "--json",
                                "--slots", SLOTS, "--seed", seed, *more)

    # --- what all ways stand on ---

    def problems(self):
        """Evaluation problems: the study's for what is reported, and those after them for tuning."""
        every, count = self.program.path("problems.jsonl"), self.preset["evaluation"]["problems"]
        self.program.run("problems", "data", "chain", "--split", "eval", "--count", 0, *self.task[2:], "--out", every,
                         "--overwrite")
        lines = every.read_text().splitlines(keepends=True)
        self.program.path("report.jsonl").write_text("".join(lines[:count]))
        self.program.path("tune.jsonl").write_text("".join(lines[count:2 * count]))

    def model(self, start, seed):
        return self.program.path(f"seed{seed}/{start}_sft")

    def start(self, start, seed):
        """A fine-tuned model to start from, its accuracy, and for SA and SWA its correct samples."""
        model, convert = self.base, self.starts[start]
        if convert is not None:
            model = self.program.path(f"seed{seed}/{start}")
            self.program.run(f"seed{seed}/{start}", "convert", "--model", self.base, "--window",
                             self.preset["attention"]["window"], *convert, "--output-dir", model, "--overwrite")
        sft = self.preset["sft"]
        self.sft(f"seed{seed}/{start}_sft", model, [*self.task, *self.restate], sft["steps"], sft["lr"], seed)
        self.evaluate(f"{start}-{seed}", self.model(start, seed), seed, "report")
        if start in ("sa", "swa"):
            self.samples_of(start, seed)
        if start == "swa":
            self.evaluate(f"decode-{seed}", self.model(start, seed), seed, "report", ["--full-attention-decode"])

    def samples_of(self, start, seed):
        return self.sample(f"seed{seed}/{start}_samples", self.model(start, seed), SAMPLES, seed)

    def tokens_per_document(self, rows):
        """Of a file of samples, as training counts them: prompt and completion without the last token."""
        lengths = [len(row["prompt"]) + row["tokens"] - 1 for row in map(json.loads, rows.read_text().splitlines())]
        return sum(lengths) / len(lengths)

    def steps_for(self, budget, per_document):
        return max(1, round(budget / per_document / self.preset["sft"]["batch_size"]))

    def trace_steps(self, budget, seed):
        """Steps of SFT on the task's traces that train on so many tokens."""
        sft = self.preset["sft"]
        per_document = self.program.trained(f"seed{seed}/swa_sft") / sft["steps"] / sft["batch_size"]
        return self.steps_for(budget, per_document)

    # --- the ways: each trains `name` from `model` and returns the tokens trained on, sampled, and by the teacher ---

    def rl(self, name, model, seed, rate, budget):
        return *self.rl_run(name, model, {**self.preset["rl"], "lr": rate}, seed), 0

    def more_sft(self, name, model, seed, rate, budget, more=()):
        steps = self.trace_steps(budget, seed)
        return self.sft(name, model, [*self.task, *self.restate], steps, rate, seed + 1000, more), 0, 0

    def restating(self, way):
        """SFT on traces that restate at random, as often as this way ended."""
        def train(name, model, seed, rate, budget):
            task, often = self.preset["task"], RESTATING[way]
            document = TOKENS["prompt"] + TOKENS["end"] + (TOKENS["step"] + TOKENS["restatement"] * often) * (
                task["n_min"] + task["n_max"]) / 2
            traces = [*self.task, "--restate", often]
            return self.sft(name, model, traces, self.steps_for(budget, document), rate, seed + 1000), 0, 0
        return train

    def distill(self, direction):
        def train(name, model, seed, rate, budget):
            more = ["--teacher", self.model("sa", seed), "--distill-weight", 1, "--distill-temperature", 1, "--distill-kl",
                    direction]
            trained, sampled, _ = self.more_sft(name, model, seed, rate, budget, more)
            return trained, sampled, trained
        return train

    def on_rows(self, name, model, rows, seed, rate, budget):
        steps = self.steps_for(budget, self.tokens_per_document(rows))
        return self.sft(name, model, ["--data", rows], steps, rate, seed + 1000)

    def sa_samples(self, name, model, seed, rate, budget):
        rows, tokens = self.samples_of("sa", seed)
        return self.on_rows(name, model, rows, seed, rate, budget), 0, tokens

    def own_samples(self, name, model, seed, rate, budget):
        rows, tokens = self.samples_of("swa", seed)
        return self.on_rows(name, model, rows, seed, rate, budget), tokens, 0

    def own_unselected(self, name, model, seed, rate, budget):
        rows, tokens = self.sample(f"{name}_samples", model, SAMPLES, seed, "all")
        return self.on_rows(name, model, rows, seed, rate, budget), tokens, 0

    def own_rounds(self, keep):
        def train(name, model, seed, rate, budget):
            trained = sampled = 0
            for k in range(ROUNDS):
                last = name if k == ROUNDS - 1 else f"{name}_{k}"
                rows, tokens = self.sample(f"{name}_{k}_samples", model, SAMPLES // 2, seed + 1000 * k, keep)
                trained += self.on_rows(last, model, rows, seed + 1000 * k, rate, budget / ROUNDS)
                sampled, model = sampled + tokens, self.program.path(last)
            return trained, sampled, 0
        return train

    def on_policy_distillation(self, name, model, seed, rate, budget):
        # How many tokens a step takes is known after the tuning; before, the teacher's length is the guess.
        rl = self.preset["rl"]
        per_step = self.steps_of.get("opd")
        if per_step is None:
            length = self.evaluate(f"sa-{seed}", self.model("sa", seed), seed, "report")["mean_length"]
            per_step = rl["prompts_per_step"] * rl["num_generations"] * (TOKENS["prompt"] + length - 1)
        steps = max(1, round(budget / per_step))
        settings = {**rl, "lr": rate, "steps": steps, "objective": "opd", "scale_rewards": None, "normalizer": None,
                    "epsilon": None}
        trained, sampled = self.rl_run(name, model, settings, seed, ["--ref-model", self.model("sa", seed)])
        return trained, sampled, trained

    # --- the comparison ---

    def measure(self, way, stage, seed, rate, budget):
        """Trains and evaluates one run of a way, and adds its row."""
        _, train, _, start = self.ways[way]
        name, begin = f"{stage}{seed}/{way}_{rate:g}", time.monotonic()
        trained, sampled, teacher = train(name, self.model(start, seed), seed, rate, budget)
        result = self.evaluate(f"{stage}-{seed}-{way}-{rate:g}", self.program.path(name), seed, stage)
        before = self.evaluate(f"{start}-{seed}", self.model(start, seed), seed, "report")["accuracy"]
        self.rows.append({"way": way, "stage": stage, "seed": seed, "lr": rate, "before": before,
                          "accuracy": result["accuracy"],
                          "accuracy_ci95": result["accuracy_ci95"], "problems": result["problems"],
                          "mean_length": result["mean_length"], "restatement_rate": result.get("restatement_rate"),
                          "trained_tokens": trained, "sampled_tokens": sampled, "teacher_tokens": teacher,
                          "steps": self.program.metrics(name)[-1]["step"],
                          "seconds": round(time.monotonic() - begin, 1)})

    def at_once(self, what, jobs):
        """Calls function(*arguments) for every (name, function, arguments), several at a time."""
        begin = time.monotonic()

        def call(job):
            name, function, arguments = job
            try:
                function(*arguments)
            except (Failed, OSError, KeyError, ValueError) as error:
                self.failures.append(f"{name}: {error!r}" if not isinstance(error, Failed) else str(error))
                print(self.failures[-1], file=sys.stderr, flush=True)

        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            list(pool.map(call, jobs))
        print(f"{what}: {len(jobs)} in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)

    def of(self, way, stage, seed=None):
        return [r for r in self.rows if (r["way"], r["stage"]) == (way, stage) and seed in (None, r["seed"])]

    def tune(self, ways, budget):
        self.at_once("tuning", [(way, self.measure, (way, "tune", TUNING_SEED, rate, budget))
                                for way in ways for rate in self.ways[way][2]])

    def chosen(self, way):
        """The best of the tuning runs, or None."""
        return max(self.of(way, "tune"), key=lambda r: (r["accuracy"], -r["lr"]), default=None)

    def report(self, ways):
        jobs = []
        for way in ways:
            best = self.chosen(way)
            if best is None:
                continue
            self.steps_of[way] = best["trained_tokens"] / best["steps"]
            for seed in self.seeds:
                rl = self.of("rl", "report", seed)
                if way == "rl" or rl:
                    jobs.append((way, self.measure, (way, "report", seed, best["lr"], rl and rl[0]["trained_tokens"])))
        self.at_once("reported runs", jobs)

    def run(self):
        self.problems()
        others, budget = [way for way in self.ways if way != "rl"], self.options.tune_only
        if budget is None:
            self.begin((TUNING_SEED, *self.seeds), {"sa", "swa", *(way[3] for way in self.ways.values())})
            self.tune(["rl"], None)
            if self.chosen("rl") is None:
                raise SystemExit("RL could not be run, so no way has a budget")
            self.report(["rl"])
            self.tune(others, self.chosen("rl")["trained_tokens"])
            self.report(others)
        else:
            self.begin((TUNING_SEED,), {self.ways[way][3] for way in others})
            self.tune(others, budget)
        self.write()

    def begin(self, seeds, needed):
        self.at_once("starts", [(s, self.start, (s, seed)) for seed in seeds for s in self.starts if s in needed])

    # --- what is told ---

    def line(self, title, results, before="-", rate="-", tokens=("-", "-", "-")):
        right = sum(round(r["accuracy"] * r["problems"]) for r in results)
        trials = sum(r["problems"] for r in results)
        low, high = wilson(right, trials)
        each = ", ".join(f"{r['accuracy']:.3f}" for r in results)
        restating = [r["restatement_rate"] for r in results if r.get("restatement_rate") is not None]
        rate_of = f"{sum(restating) / len(restating):.3f}" if restating else "-"
        return (f"| {title} | {before} | {right / trials:.3f} [{low:.3f}, {high:.3f}] | {each} | {rate_of} | "
                + " | ".join(tokens) + f" | {rate} |")

    def started(self, start):
        return [self.evaluate(f"{start}-{seed}", self.model(start, seed), seed, "report") for seed in self.seeds]

    def table(self):
        lines = ["| way | before | accuracy [95%] | of each seed | restatements per step | trained tokens | sampled | "
                 "by the teacher | rate |", "|---|---|---|---|---|---|---|---|---|",
                 self.line("SA, SFT (the teacher)", self.started("sa")),
                 self.line("SWA, SFT (the start)", self.started("swa"))]
        decoded = [self.evaluate(f"decode-{seed}", self.model("swa", seed), seed, "report", ["--full-attention-decode"])
                   for seed in self.seeds]
        lines.append(self.line("the same, decoded with full attention", decoded))
        for way, (title, *_) in self.ways.items():
            rows = sorted(self.of(way, "report"), key=lambda r: self.seeds.index(r["seed"]))
            if not rows:
                continue
            mean = {key: sum(r[key] for r in rows) / len(rows)
                    for key in ("before", "trained_tokens", "sampled_tokens", "teacher_tokens")}
            tokens = [f"{mean[key]:,.0f}" if mean[key] else "-" for key in list(mean)[1:]]
            lines.append(self.line(title, rows, f"{mean['before']:.3f}", f"{rows[0]['lr']:g}", tokens))
        gap = max(r["logprob_abs_diff_max"] for r in decoded)
        mean = sum(r["logprob_abs_diff_mean"] for r in decoded) / len(decoded)
        return "\n".join(lines), f"Decoded with full attention, a log-probability differs from the training pass's by " \
                                 f"{mean:.3g} in the mean and by {gap:.3g} at most."

    def tuning_table(self):
        lines = ["| way | accuracy by rate |", "|---|---|"]
        for way, (title, *_) in self.ways.items():
            if rows := sorted(self.of(way, "tune"), key=lambda r: r["lr"]):
                lines.append(f"| {title} | " + ", ".join(f"{r['lr']:g}: {r['accuracy']:.3f}" for r in rows) + " |")
        return "\n".join(lines)

    def write(self):
        version = subprocess.run([self.options.program, "--version"], capture_output=True, text=True).stdout.strip()
        tables = [self.tuning_table(), *(self.table() if self.options.tune_only is None else [])]
        results = {"program": version, "device": self.options.device, "settings": self.preset, "seeds": self.seeds,
                   "tuning_seed": TUNING_SEED, "samples": SAMPLES, "rounds": ROUNDS,
                   "chosen": {way: best["lr"] for way in self.ways if (best := self.chosen(way))},
                   "rows": sorted(self.rows, key=lambda r: (r["stage"], r["way"], r["seed"], r["lr"])),
                   "failures": self.failures, "tables": tables}
        self.program.path("results.json").write_text(json.dumps(results, indent=1) + "\n")
        print(*tables, sep="\n\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built program, build/swarr")
    parser.add_argument("--output-dir", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--jobs", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2), help="runs at a time")
    parser.add_argument("--ways", help="only these, beside rl, with commas between them")
    parser.add_argument("--tune-only", type=int, metavar="TOKENS",
                        help="the search alone, at this budget: without RL, which sets it, and without the reported seeds")
    parser.add_argument("--tiny", action="store_true", help="a smoke test of a minute; its numbers mean nothing")
    options = parser.parse_args()
    if shutil.which(options.program) is None:
        parser.error(f"there is no program {options.program}; build it with make")
    options.threads = max(1, len(os.sched_getaffinity(0)) // options.jobs)
    comparison = Comparison(options)
    comparison.run()
    sys.exit(1 if comparison.failures else 0)


if __name__ == "__main__":
    main()
