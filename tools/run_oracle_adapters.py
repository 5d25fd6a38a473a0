#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges real libraries as they are, and checks that each verdict is what is known of that library.

    python3 tools/run_oracle_adapters.py [--swarr build/swarr] [part of an adapter's name ...]

needs torch, transformers, trl and datasets. The adapters are the functions of tools/oracle_adapters, each for a
colleague to copy beside tools/oracle_client.py. The exit status is 1 if a verdict differs from the one in KNOWN.
"""

import argparse
import datetime
import os
import pathlib
import sys
import warnings
from importlib.metadata import version

TOOLS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(TOOLS), str(TOOLS / "oracle_adapters")]
warnings.simplefilter("ignore")

import torch
import transformers

import torch_adamw
import torch_attention
import torch_ops
import transformers_attention
import transformers_cache
import transformers_decoder
import transformers_generate
import transformers_ops
import transformers_schedules
import trl_advantages
import trl_distill
import trl_loss
import trl_ops
import trl_policy

DTYPES = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
ALL = "f64 f32 bf16 f16"
COARSE = "f32 bf16 f16"

PASSES = "passes"
WITHIN_F32 = "within f32's tolerance"  # the library computes something in f32 whatever the dtype
NAN = "NaN"
UNNAMED = "no known mistake"

# Each adapter with the verdicts that are known of its library, by dtype; in a dtype that is not named it isn't run.
KNOWN = [
    (torch_attention.sdpa, {ALL: PASSES}),
    (torch_attention.sdpa_is_causal, {ALL: "the first query aligned with the first key (top-left) in a chunk"}),
    (torch_attention.flex, {ALL: PASSES}),
    # Its softmax is in f32. Rows that see nothing are NaN in f64: the mask's least f64 is -infinity there.
    (transformers_attention.mistral_eager, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_attention.mistral_eager_padding, {"f64": NAN, COARSE: PASSES}),
    (transformers_attention.mistral_sdpa, {ALL: PASSES}),
    (transformers_attention.mistral_sdpa_padding_kept, {ALL: "padding queries computed as tokens"}),
    (transformers_attention.mistral_sdpa_packed_with_mask, {ALL: "documents that see each other"}),
    # The cache of a sliding window keeps its last W - 1 keys; [-W + 1:] of a window of 1 is all of them.
    (transformers_attention.mistral_sdpa_by_token, {ALL: PASSES}),
    (transformers_attention.mistral_sdpa_by_token_window_1, {ALL: "the window ignored"}),
    (transformers_attention.gpt_oss_eager, {ALL: PASSES}),
    (torch_ops.ops, {ALL: PASSES}),
    (torch_ops.padding_idx, {ALL: "no gradient for id 0, as if it were padding"}),
    # Norms and the angles of rotary embeddings are in f32. A mistake beside that is not named in f64.
    (transformers_ops.llama_norm, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_ops.qwen3_norm, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_ops.gemma_norm, {"f64": UNNAMED, COARSE: "weights of 1 + w, as Gemma has"}),
    (transformers_ops.llama_rotary, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_ops.cohere_rotary, {"f64": UNNAMED, COARSE: "neighbours paired (interleaved) instead of halves"}),
    (transformers_ops.gemma_embedding, {"f64": UNNAMED, COARSE: "embeddings multiplied by sqrt(C), as Gemma does"}),
    (transformers_decoder.decoder_eager, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_decoder.decoder_sdpa, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_decoder.decoder_packed_with_mask,
     {COARSE: "documents that see each other, positions counted anew in each"}),
    (transformers_cache.dynamic, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_cache.static, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_cache.static_cropped_anyway, {COARSE: transformers_cache.ROLLED}),
    (transformers_generate.generate, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_generate.generate_static_cache, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_generate.generate_without_cache, {"f64": WITHIN_F32, COARSE: PASSES}),
    (transformers_generate.generate_without_mask, {COARSE: "padding before shorter prompts seen as tokens"}),
    (transformers_generate.generate_right_padded_without_mask,
     {COARSE: "padding behind shorter prompts seen as tokens: generation goes on after it"}),
    # f16 has no eps of 1e-8: without a gradient 0 is divided by 0.
    (torch_adamw.adamw, {"f64 f32 bf16": PASSES, "f16": NAN}),
    (torch_adamw.adamw_not_accepted, {"f64 f32 bf16": torch_adamw.CLIP}),
    (torch_adamw.adamw_of_all, {"f64 f32 bf16": "weight decay of norms and biases too"}),
    (transformers_schedules.schedules, {"f64 f32": PASSES}),
    (transformers_schedules.schedules_not_accepted, {"f64 f32": transformers_schedules.WARMUP}),
    (trl_ops.selective_log_softmax, {ALL: PASSES}),
    # nanstd() has its n / (n - 1) in f32. Rewards are in f32 whatever the model is in.
    (trl_advantages.grpo, {"f64": UNNAMED, "f32": PASSES}),
    (trl_advantages.rloo, {"f64 f32": PASSES}),
    (trl_policy.grpo, {ALL: PASSES}),
    (trl_policy.grpo_by_default, {ALL: "the KL in the loss times the ratio"}),
    (trl_policy.grpo_two_sided, {ALL: trl_policy.DUAL_CLIP}),
    (trl_policy.grpo_two_sided_accepted, {ALL: PASSES}),
    (trl_policy.rloo, {ALL: PASSES}),
    (trl_loss.grpo, {"f64": UNNAMED, COARSE: PASSES}),
    (trl_loss.grpo_without_truncated,
     {COARSE: "completions of max_completion_length tokens left out of the loss (overlong filtering)"}),
    (trl_distill.gkd, {ALL: PASSES}),
    (trl_distill.gkd_not_accepted, {ALL: trl_distill.NO_SQUARE}),
    (trl_distill.gkd_swapped, {ALL: "the KL's directions swapped: KL(p || q) for forward, KL(q || p) for reverse"}),
    (trl_distill.distillation, {ALL: PASSES}),
]


def name_of(adapter):
    return f"{adapter.__module__}.{adapter.__name__}"


def told(verdict):
    """A verdict in the words of KNOWN."""
    if verdict.accepted:
        return PASSES
    if verdict.explanations:
        return " or ".join(verdict.explanations)
    if any(hint.startswith("all is within the tolerance of f32") for hint in verdict.hints):
        return WITHIN_F32
    problems = [t.get("problem", "") for case in verdict.json["failing"] for t in case["tensors"]]
    return NAN if any("NaN where" in problem for problem in problems) else UNNAMED


def run(adapter, known):
    """Prints the adapter's row of the table, and says whether its verdicts are those that are known."""
    dtypes_of, differing, judged = {}, [], {}
    for dtype, expected in ((dtype, expected) for dtypes, expected in known.items() for dtype in dtypes.split()):
        verdict = adapter(DTYPES[dtype])
        judged, given = verdict.json, told(verdict)
        dtypes_of.setdefault(given, []).append(dtype)
        if given != expected:
            differing.append(f"{dtype}: known is '{expected}', not\n{verdict}")
    verdicts = "; ".join(f"{' '.join(dtypes)}: {given}" for given, dtypes in dtypes_of.items())
    accepted = " and ".join(judged["accepted_mistakes"]) or "-"
    cells = (name_of(adapter), judged["suite"], f"{judged['cases']} of {judged['suite_cases']}", accepted, verdicts)
    print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |", flush=True)
    print("\n".join(differing), end="")
    return not differing


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--swarr", default="build/swarr")
    parser.add_argument("adapters", nargs="*", help="parts of their names; none: all")
    options = parser.parse_args()
    os.environ["SWARR"] = options.swarr
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl")), "on a CPU,",
          f"{datetime.date.today()}\n\n| adapter | suite | cases | accepted | verdict |\n|---|---|---|---|---|")
    results = [run(adapter, known) for adapter, known in KNOWN
               if not options.adapters or any(part in name_of(adapter) for part in options.adapters)]
    print(f"\n{sum(results)} of {len(results)} adapters have the verdicts that are known of them")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
