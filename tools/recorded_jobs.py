# SPDX-License-Identifier: Apache-2.0
"""Runs of the program that are kept: a job that has finished is not run again (compare_ways.py)."""

import json
import subprocess
import time


class Failed(Exception):
    pass


class Program:
    """Runs the program, each job once: what it printed stays in OUTPUT/jobs."""

    def __init__(self, options):
        self.options, self.jobs = options, options.output_dir / "jobs"
        self.jobs.mkdir(parents=True, exist_ok=True)

    def path(self, name):
        return self.options.output_dir / name

    def run(self, name, *arguments):
        """The JSON object that the job prints, or {}."""
        arguments = [str(a) for a in arguments]
        record = self.jobs / (name.replace("/", "-") + ".json")
        if record.exists():
            done = json.loads(record.read_text())
            if done["arguments"] == arguments:
                return done["printed"]
        begin = time.monotonic()
        computing = [] if arguments[0] in ("data", "convert") else [
            "--device", self.options.device, "--threads", str(self.options.threads)]
        job = subprocess.run([self.options.program, *arguments, *computing], capture_output=True, text=True)
        if job.returncode != 0:
            raise Failed(f"{name}: swarr {' '.join(arguments)}: {job.stderr.strip()[-400:]}")
        done = {"arguments": arguments, "seconds": round(time.monotonic() - begin, 2),
                "printed": json.loads(job.stdout) if job.stdout.startswith("{") else {}}
        written = record.with_suffix(".part")
        written.write_text(json.dumps(done))
        written.rename(record)
        return done["printed"]

    def metrics(self, name):
        return [json.loads(line) for line in (self.path(name) / "metrics.jsonl").read_text().splitlines()]

    def trained(self, name):
        return self.metrics(name)[-1]["num_tokens"]
