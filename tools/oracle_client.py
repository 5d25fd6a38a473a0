# SPDX-License-Identifier: Apache-2.0
"""One file to have an implementation judged by swarr's oracle; copy it beside your code.

    from oracle_client import Oracle

    oracle = Oracle("attention")                     # runs `swarr oracle export`; tensors are torch's or numpy's
    for case in oracle:
        if case.parameters["learned_sinks"]:
            case.skip()                              # where yours has no such thing
            continue
        out = my_attention(**case.inputs, window=case.parameters["window"])
        case.give(out=out)                           # in whatever dtype you compute; it is judged in that dtype
    verdict = oracle.check(outputs=["out"])
    print(verdict)                                   # what a person reads
    assert verdict.accepted, verdict.explanations    # what a program asks

Adapters of real libraries, from 10 to 60 lines each, are in oracle_adapters/.

Needs numpy or torch, and safetensors. The program is the argument `swarr`, or $SWARR, or `swarr` in the PATH.
"""

import json
import os
import pathlib
import subprocess
import tempfile


class Case:
    """One computation: `family`, `name`, `meaning`, `parameters` (numbers and texts), `inputs` (tensors by name), and
    the names of the `outputs` that it wants."""

    def __init__(self, family, entry, inputs, given, skipped):
        self.family, self.name, self.meaning = family["name"], entry["name"], entry["meaning"]
        self.parameters, self.outputs = entry["parameters"], list(entry["outputs"])
        self.inputs = {name: inputs[f"{self.name}.{name}"] for name in entry["inputs"]}
        self._given, self._skipped = given, skipped

    def skip(self):
        """Leaves the case out of what is judged: yours has no such thing. The verdict says how many were judged."""
        self._skipped.append(self.name)

    def give(self, **results):
        """Hands in results by the names of outputs; also as give(**{"grad.weight": t}). None is none."""
        for name, value in results.items():
            if value is None:
                continue
            if name not in self.outputs:
                raise KeyError(f"{self.name} has no output {name}; it has {', '.join(self.outputs)}")
            self._given[f"{self.name}.{name}"] = value


class Verdict:
    """`accepted`, the printed `text`, `json` (docs/oracle.md), `explanations`: the mistakes that explain failures, and
    `hints` where none does."""

    def __init__(self, text, result):
        self.text, self.json, self.accepted = text, result, result["accepted"]
        self.explanations = [(" together with " if e["at_once"] else ", in other cases ").join(e["mistakes"])
                             for d in result["diagnosis"] if d["complete"] for e in d["explanations"]]
        self.hints = [hint for d in result["diagnosis"] if not d["complete"] for hint in d["hints"]]

    def __str__(self):
        return self.text


class Oracle:
    """The cases of a suite, in order, and the judge of what was given for them."""

    def __init__(self, suite, framework="torch", swarr=None, device="cpu"):
        self.suite, self.framework = suite, framework
        self._swarr = swarr or os.environ.get("SWARR", "swarr")
        self._files = tempfile.TemporaryDirectory(prefix="swarr-oracle-")
        self._given, self._skipped = {}, []
        self._run("export", "--output-dir", self._files.name)
        directory = pathlib.Path(self._files.name) / suite
        self.manifest = json.loads((directory / "manifest.json").read_text())
        inputs = self._load(directory / "inputs.safetensors", device)
        self.cases = [Case(family, entry, inputs, self._given, self._skipped)
                      for family in self.manifest["families"] for entry in family["cases"]]

    def __iter__(self):
        return iter(self.cases)

    def known_mistakes(self):
        """What `accept` may name."""
        return [name for family in self.manifest["families"] for name in family["known_mistakes"]]

    def check(self, cases=(), skip=(), outputs=(), accept=(), forward_only=False):
        """The verdict. `cases` and `skip` are patterns of names, `skip` beside the cases that were skipped. Without
        `outputs` those are judged that were given for any case, so that an output forgotten everywhere is not asked
        for: name them to be sure."""
        outputs = list(outputs) or self._given_of_wanted()
        directory = pathlib.Path(self._files.name) / "candidate"
        directory.mkdir(exist_ok=True)
        self._save(directory / f"{self.suite}.safetensors")
        options = ["--candidate", directory]
        for flag, values in (("--cases", cases), ("--skip", [*skip, *self._skipped]), ("--outputs", outputs)):
            options += [flag, ",".join(values)] if values else []
        for name in accept:
            options += ["--accept", name]
        options += ["--forward-only"] if forward_only else []
        return Verdict(self._run("check", *options), json.loads(self._run("check", *options, "--json")))

    def _given_of_wanted(self):
        """The outputs that were given for any case, in the manifest's order; none if those are all."""
        wanted = list(dict.fromkeys(o for case in self.cases if case.name not in self._skipped for o in case.outputs))
        given = {name.split(".", 1)[1] for name in self._given}
        return [] if given == set(wanted) else [o for o in wanted if o in given]

    def _run(self, command, *options):
        done = subprocess.run([self._swarr, "oracle", command, "--suite", self.suite, *map(str, options)],
                              capture_output=True, text=True)
        if done.returncode != 0 and not done.stdout and (command == "export" or done.stderr):
            raise RuntimeError(done.stderr.strip())
        return done.stdout

    def _load(self, path, device):
        if self.framework == "numpy":
            from safetensors.numpy import load_file
            return load_file(path)
        from safetensors.torch import load_file
        return load_file(path, device=device)

    def _save(self, path):
        if self.framework == "numpy":
            import numpy
            from safetensors.numpy import save_file
            save_file({name: numpy.ascontiguousarray(value) for name, value in self._given.items()}, path)
            return
        import torch
        from safetensors.torch import save_file
        save_file({name: torch.as_tensor(value).detach().cpu().contiguous().clone()
                   for name, value in self._given.items()}, path)
