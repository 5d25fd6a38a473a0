#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/hf_*/: tiny random models as transformers saves them, with what transformers computes on them.

    python3 tools/make_model_fixtures.py    needs torch, transformers and safetensors; their versions are recorded

Each directory holds config.json, the weights (one file or shards) and expected.safetensors:

    tokens             i32  [T] random; the first PROMPT of them are the prompt of the continuations
    logits.I           f32  [T, V] of variant I
    continuation.I     i32  [64] the greedy continuation of the prompt

and, under the metadata key "fixture", a JSON object: the script's name, versions, and `variants`, a list of the windows
of each layer (0: full). Variant 0 is what config.json says; the others run the same weights with another attention,
which the script spells for transformers in its own words. tests/hf_fixture_test.cc compares the library with them.
"""

import copy
import json
import math
import pathlib
import shutil
import tempfile

import safetensors
import safetensors.torch
import torch
import transformers

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
LENGTH, PROMPT, NEW = 40, 16, 64
# Two programs that round differently must still agree on every greedy token: the best logit leads by this share of the
# largest, a hundred times what they may differ by.
MARGIN = 1e-3

BASE = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}


def rope(theta, **scaling):
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **scaling}}


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
SLIDING, FULL = "sliding_attention", "full_attention"

# name -> (model type, config, dtype on disk, variants, spelling of transformers 4 or 5, bytes of a shard)
FIXTURES = {
    "llama_tied": (
        "llama", {**rope(1e5), "num_key_value_heads": 4, "tie_word_embeddings": True}, "float32",
        [[0, 0], [8, 8], [0, 8]], 4, None),
    "llama3_rope": ("llama", rope(500.0, **LLAMA3), "bfloat16", [[0, 0], [7, 7]], 5, None),
    "llama3_rope_old_spelling": ("llama", rope(500.0, **LLAMA3), "bfloat16", [[0, 0]], 4, None),
    "qwen2_gqa7": (
        "qwen2", {**rope(1e6), "hidden_size": 28, "num_attention_heads": 7, "num_key_value_heads": 1,
                  "tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": 8, "max_window_layers": 1},
        "float32", [[0, 0], [8, 8]], 5, None),
    "qwen2_sharded": (
        "qwen2", {**rope(1e4), "num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 6,
                  "max_window_layers": 1},
        "float16", [[0, 6, 6], [0, 0, 0]], 4, 20_000),
    "qwen3_wide_heads": ("qwen3", {**rope(1e6), "head_dim": 16}, "bfloat16", [[0, 0], [8, 8]], 5, None),
    "qwen3_mixed": (
        "qwen3", {**rope(1e6), "head_dim": 16, "num_hidden_layers": 3, "tie_word_embeddings": True,
                  "use_sliding_window": True, "sliding_window": 5, "layer_types": [SLIDING, FULL, SLIDING]},
        "float32", [[5, 0, 5], [0, 0, 0]], 5, None),
    "mistral_window": ("mistral", {**rope(1e4), "sliding_window": 8}, "bfloat16", [[8, 8], [0, 0], [2, 2]], 4, None),
    "mistral_mixed": (
        "mistral", {**rope(1e4), "num_hidden_layers": 3, "sliding_window": 5, "layer_types": [FULL, SLIDING, SLIDING]},
        "bfloat16", [[0, 5, 5]], 5, None),
    "granite_swa": (
        "granite_swa", {**rope(1e4), "num_hidden_layers": 3, "sliding_window": 5, "attention_multiplier": 8 ** -0.5,
                        "layer_types": [SLIDING, FULL, SLIDING]},
        "bfloat16", [[5, 0, 5], [5, 5, 5]], 5, None),
}


def randomize(model, generator):
    """Norms around 1, everything else around 0, large enough that no softmax is flat; embeddings small enough that a
    tied head doesn't repeat its input."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("norm.weight"):
            value = 1 + 0.3 * noise
        elif p.dim() == 1:
            value = 0.3 * noise
        else:
            value = noise * (0.3 if "embed" in name else 1.2 / math.sqrt(p.shape[1]))
        p.data.copy_(value)


def spell_as_version_4(config):
    """rope_theta, rope_scaling and torch_dtype in place of rope_parameters and dtype; no layer_types."""
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = parameters if parameters["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    config["transformers_version"] = "4.45.0"
    return config


def with_windows(config, windows):
    """The config of the same weights with this attention, as transformers 5 wants it."""
    config = dict(config)
    window = max(windows)
    config["sliding_window"] = window or None
    types = [SLIDING if w else FULL for w in windows]
    assert set(windows) <= {0, window}
    config.pop("layer_types", None)
    if config["model_type"].startswith("qwen"):
        config.update(use_sliding_window=window > 0, layer_types=types)
    elif config["model_type"] == "granite_swa":
        config["layer_types"] = types
    elif window == 0:
        config.update(model_type="llama", architectures=["LlamaForCausalLM"])
        config.pop("sliding_window")
    else:
        config.update(model_type="mistral", architectures=["MistralForCausalLM"])
        if len(set(types)) > 1:
            config["layer_types"] = types
    return config


def load(directory):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model.eval()


def load_variant(directory, config, windows):
    with tempfile.TemporaryDirectory() as other:
        other = pathlib.Path(other) / "model"
        shutil.copytree(directory, other)
        (other / "config.json").write_text(json.dumps(with_windows(config, windows)))
        return load(other)


@torch.no_grad()
def continue_greedily(model, prompt):
    """The continuation without a cache, which must be generate's with one; None where the best token leads by less than
    MARGIN or the text has fewer than 8 different tokens."""
    ids = prompt.clone()
    for _ in range(NEW):
        logits = model(ids[None], use_cache=False).logits[0]
        best = logits[-1].topk(2).values
        if best[0] - best[1] < MARGIN * logits.abs().max():
            return None
        ids = torch.cat((ids, logits[-1].argmax()[None]))
    generated = model.generate(prompt[None], attention_mask=torch.ones_like(prompt)[None], do_sample=False,
                               max_new_tokens=NEW)[0]
    assert torch.equal(generated, ids), "transformers generates other tokens with its cache than without"
    continuation = ids[len(prompt):]
    return continuation if len(set(continuation.tolist())) >= 8 else None


@torch.no_grad()
def make_fixture(name, seed):
    model_type, changes, dtype, variants, spelling, shard = FIXTURES[name]
    directory = OUT / f"hf_{name}"
    shutil.rmtree(directory, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    config = transformers.AutoConfig.for_model(model_type, **{**BASE, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config)
    randomize(model, generator)
    sharding = {"max_shard_size": shard} if shard else {}
    model.to(getattr(torch, dtype)).save_pretrained(directory, **sharding)
    (directory / "generation_config.json").unlink(missing_ok=True)

    saved = json.loads((directory / "config.json").read_text())
    path = directory / "config.json"
    if spelling == 4:
        path.write_text(json.dumps(spell_as_version_4(copy.deepcopy(saved)), indent=2) + "\n")
    if name == "mistral_mixed":  # transformers drops the list in saving, or saves the model type ministral
        saved = {**saved, "model_type": "mistral", "layer_types": changes["layer_types"]}
        path.write_text(json.dumps(saved, indent=2) + "\n")

    tokens = torch.randint(config.vocab_size, (LENGTH,), generator=generator)
    tensors = {"tokens": tokens.int()}
    for i, windows in enumerate(variants):
        runs = load(directory) if i == 0 else load_variant(directory, saved, windows)
        if i == 0:
            check_attention(load_variant(directory, saved, windows), runs, tokens)
        continuation = continue_greedily(runs, tokens[:PROMPT])
        if continuation is None:
            return False
        tensors[f"logits.{i}"] = runs(tokens[None]).logits[0].contiguous()
        tensors[f"continuation.{i}"] = continuation.int()
    # One key: safetensors writes several in random order, and a file should have the same bytes each time.
    fixture = {
        "script": f"tools/{pathlib.Path(__file__).name}", "transformers": transformers.__version__,
        "torch": torch.__version__, "safetensors": safetensors.__version__, "variants": variants, "prompt": PROMPT,
    }
    safetensors.torch.save_file(tensors, directory / "expected.safetensors", {"fixture": json.dumps(fixture)})
    print(name, "seed", seed, saved["model_type"], sum(f.stat().st_size for f in directory.iterdir()), "bytes")
    return True


def check_attention(spelled, saved, tokens):
    """config.json must mean what variant 0 says."""
    difference = (spelled(tokens[None]).logits - saved(tokens[None]).logits).abs().max()
    assert difference == 0, f"config.json gives other logits than its windows: {difference}"


def main():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in FIXTURES:
        assert any(make_fixture(name, seed) for seed in range(100)), f"{name}: no seed gives clear continuations"


if __name__ == "__main__":
    main()
