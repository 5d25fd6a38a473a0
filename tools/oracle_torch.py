#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worked example of the oracle: PyTorch through `swarr oracle export` and `check`, suite by suite.

    python3 tools/oracle_torch.py [--swarr build/swarr] [--output-dir out/oracle-torch] [--device cpu] [candidate ...]

needs numpy, torch and safetensors. A candidate is a function of a case, its inputs and a dtype, in the files beside this one,
that returns the suite's outputs; without names all are run, in f64, f32 and bf16. For each the verdict is printed; the
exit status is 0 if all right ones pass and all wrong ones (`*_wrong_*`, mistakes as people make them) are rejected. To
judge an implementation of your own, replace the body of one of them: docs/oracle.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file

import oracle_torch_kernels as kernels
import oracle_torch_model as model
import oracle_torch_training as training

DTYPES = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16}

# The name begins with the suite's.
CANDIDATES = {f.__name__: f for f in (
    kernels.attention_plain, kernels.attention_sdpa, kernels.attention_flex, kernels.attention_wrong_window,
    kernels.ops_torch, training.loss_torch, training.loss_wrong_eos, training.advantages_torch,
    training.advantages_wrong_deviation, training.policy_torch, training.policy_wrong_accumulation,
    training.distill_torch, training.distill_wrong_direction, training.step_torch, model.model_torch,
    model.decode_torch, model.decode_wrong_rollback, model.rollout_torch)}


def compute(candidate, directory, dtype, device):
    manifest = json.loads((directory / "manifest.json").read_text())
    inputs = load_file(directory / "inputs.safetensors", device=device)
    outputs = {}
    for family in manifest["families"]:
        for case in family["cases"]:
            x = {name: inputs[f"{case['name']}.{name}"] for name in case["inputs"]}
            case["family"] = family["name"]
            for name, value in candidate(case, x, dtype).items():
                outputs[f"{case['name']}.{name}"] = value.detach().cpu().contiguous()
    return outputs


def judge(swarr, name, dtype, output_dir, device):
    """The verdict of the program as its JSON object."""
    suite = name.split("_")[0]
    directory = output_dir / "candidates" / f"{name}-{dtype}"
    directory.mkdir(parents=True, exist_ok=True)
    outputs = compute(CANDIDATES[name], output_dir / suite, DTYPES[dtype], device)
    save_file(outputs, directory / f"{suite}.safetensors")
    command = [swarr, "oracle", "check", "--suite", suite, "--candidate", directory, "--json"]
    if name == "attention_flex" and device == "cpu":
        command.append("--forward-only")
    check = subprocess.run(command, capture_output=True, text=True)
    if not check.stdout:
        sys.exit(check.stderr)
    return json.loads(check.stdout)


def sentence(verdict):
    if verdict["accepted"]:
        return "pass"
    named = [" together with ".join(e["mistakes"]) for d in verdict["diagnosis"] for e in d["explanations"] if d["complete"]]
    return f"{len(verdict['failing'])} of {verdict['cases']} cases fail; matches {' or '.join(named) or 'nothing known'}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--swarr", default="build/swarr")
    parser.add_argument("--output-dir", type=pathlib.Path, default=pathlib.Path("out/oracle-torch"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("candidates", nargs="*", choices=[[], *CANDIDATES], default=[])
    options = parser.parse_args()
    names = options.candidates or list(CANDIDATES)
    for suite in sorted({name.split("_")[0] for name in names}):
        subprocess.run([options.swarr, "oracle", "export", "--suite", suite, "--output-dir", options.output_dir,
                        "--overwrite"],
                       check=True)
    print(f"torch {torch.__version__} on {options.device}")
    as_expected = True
    for name in names:
        for dtype in DTYPES:
            verdict = judge(options.swarr, name, dtype, options.output_dir, options.device)
            print(f"{name:24} {dtype:5} {sentence(verdict)}", flush=True)
            as_expected &= verdict["accepted"] != ("wrong" in name)
    sys.exit(0 if as_expected else 1)


if __name__ == "__main__":
    main()
