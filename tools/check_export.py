#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that transformers computes with a converted or saved model what swarr computes, over texts longer than the window.

    python3 tools/check_export.py build/swarr    needs torch, transformers and safetensors

For each fixture of tests/data/hf_*: `swarr convert`, with the window in all layers, with full attention in layer 0, and
with learned sinks where the family can have them; then the logits of the result by transformers (no argument beyond the directory) and by `swarr logits`, and a greedy
continuation by transformers with its cache and without. Also a model that `swarr pretrain` writes, and one that
`swarr sft` makes of it. Prints a table for docs/export.md and fails if anything differs.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import safetensors.torch
import torch
import transformers

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
WINDOW, LENGTH, PROMPT, NEW = 6, 60, 20, 32
# A share of the largest logit, as in tests/hf_fixture_test.cc, where the reason is given; positions go to 60 here.
BOUND = 1e-5


def swarr(program, *arguments):
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True)


@torch.no_grad()
def compare(program, directory, work):
    """The class that transformers chose, the difference of the logits relative to the largest, and its logits."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    model.eval()
    model.generation_config.eos_token_id = None
    tokens = torch.randint(model.config.vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(1))
    swarr(program, "logits", "--model", directory, "--tokens", ",".join(map(str, tokens.tolist())), "--dtype", "f32",
          "--device", "cpu", "--out", work / "logits.safetensors")
    ours = safetensors.torch.load_file(work / "logits.safetensors")["logits"]
    theirs = model(tokens[None], use_cache=False).logits[0]
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()

    ids = tokens[:PROMPT]
    for _ in range(NEW):
        ids = torch.cat((ids, model(ids[None], use_cache=False).logits[0, -1].argmax()[None]))
    cached = model.generate(ids[None, :PROMPT], attention_mask=torch.ones(1, PROMPT), do_sample=False,
                            max_new_tokens=NEW, pad_token_id=0)[0]
    assert torch.equal(cached, ids), f"{directory}: transformers generates other tokens with its cache than without"
    return type(model).__name__, difference, theirs


def windows_of(program, directory):
    text = subprocess.run([program, "inspect", "--model", directory, "--json"], check=True, capture_output=True, text=True)
    return [layer["window"] or 0 for layer in json.loads(text.stdout)["attention"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("swarr", help="the program")
    program = str(pathlib.Path(parser.parse_args().swarr).resolve())
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")
    print("| model | windows | transformers' class | largest difference |\n|---|---|---|---|")
    worst = 0.0

    def report(name, directory, work, full=None):
        nonlocal worst
        chosen, difference, logits = compare(program, directory, work)
        worst = max(worst, difference)
        print(f"| {name} | {' '.join(map(str, windows_of(program, directory)))} | {chosen} | {difference:.1e} |")
        # A window that transformers ignores would give the full model's logits.
        assert full is None or (logits - full).abs().max() > 0.01 * full.abs().max(), f"{name}: the window is off"
        return logits

    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for fixture in sorted(DATA.glob("hf_*")):
            name = fixture.name[len("hf_"):]
            full = report(name, fixture, work)
            original = full if not any(windows_of(program, fixture)) else None
            conversions = [("converted", []), ("converted", ["--full-layers", "0"])]
            if json.loads((fixture / "config.json").read_text())["model_type"] in ("llama", "mistral"):
                conversions.append(("with learned sinks", ["--full-layers", "0", "--learned-sinks", "0.5"]))
            for i, (what, flags) in enumerate(conversions):
                out = work / f"{name}-{i}"
                swarr(program, "convert", "--model", fixture, "--window", WINDOW, *flags, "--output-dir", out)
                report(f"{name}, {what}", out, work, original)
        base, tuned = work / "base", work / "tuned"
        small = ["--task", "chain", "--max-steps", 2, "--device", "cpu", "--quiet"]
        swarr(program, "pretrain", "--window", WINDOW, *small, "--output-dir", base)
        report("written by pretrain", base, work)
        swarr(program, "sft", "--model", base, *small, "--output-dir", tuned)
        report("written by sft", tuned, work)
    assert worst <= BOUND, f"the largest difference is {worst:.1e}, above {BOUND:.0e}"


if __name__ == "__main__":
    main()
