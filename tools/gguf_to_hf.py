#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns a GGUF file that carries its tokenizer into a Hugging Face directory.

    python3 tools/gguf_to_hf.py MODEL.gguf DIRECTORY [--dtype f32|bf16] [--check "Some text"]

Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json and model.safetensors. Weights are
dequantised, so that DIRECTORY holds the model that the GGUF file computes with, not the one it was made from.
Architectures llama (with Mistral and SmolLM2), qwen2 and qwen3; byte-level BPE tokenizers. Whatever would have to be
guessed (other architectures, rope scaling, other tokenizers or tensors) is refused by name.

Needs the PyPI packages gguf, numpy and safetensors, and ml_dtypes for bf16. --check needs torch, transformers and
accelerate too: it compares every tensor with what transformers' own GGUF reader makes of the file, bit for bit in f32, and prints how
the model continues the text greedily. docs/models.md records a run.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

# Split patterns of the pre-tokenizers, by the name that GGUF gives them.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")

# GGUF's token types.
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5

FAMILIES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

# Tensors of a layer, GGUF's name first.
LAYER_TENSORS = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
OTHER_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


class Refused(Exception):
    """The file can't be converted faithfully."""


def read_fields(reader):
    """GGUF's metadata as a dictionary."""
    return {name: field.contents() for name, field in reader.fields.items()}


def make_config(fields, tensors, dtype):
    architecture = fields["general.architecture"]
    if architecture not in FAMILIES:
        raise Refused(f"architecture {architecture} is not supported; use one of {', '.join(FAMILIES)}")

    def field(name, default=None):
        value = fields.get(f"{architecture}.{name}", default)
        if value is None:
            raise Refused(f"the field {architecture}.{name} is missing")
        return value

    if field("rope.scaling.type", "none") != "none" or "rope_freqs.weight" in tensors:
        raise Refused("rope scaling is not supported: GGUF does not keep all that config.json needs of it")
    heads = field("attention.head_count")
    head_dim = field("attention.key_length", field("embedding_length") // heads)
    if field("rope.dimension_count", head_dim) != head_dim:
        raise Refused("rope over a part of the head is not supported")
    theta = float(field("rope.freq_base", 10000.0))
    return {
        "architectures": [FAMILIES[architecture]],
        "model_type": architecture,
        "num_hidden_layers": field("block_count"),
        "hidden_size": field("embedding_length"),
        "intermediate_size": field("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "vocab_size": len(tensors["token_embd.weight"].data),
        "max_position_embeddings": field("context_length"),
        "rms_norm_eps": round_float(field("attention.layer_norm_rms_epsilon")),
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
        "torch_dtype": dtype,
        "dtype": dtype,
        "use_cache": True,
    }


def round_float(value):
    """The shortest decimal that is the same f32: GGUF stores 1e-05 as 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def undo_permutation(weight, heads):
    """The rows of q or k as Hugging Face orders them. llama.cpp's files for the architecture llama interleave the two
    halves of a head, (x_0, x_d/2, x_1, ...), where Hugging Face rotates halves: (x_0 .. x_d/2-1, x_d/2 .. x_d-1)."""
    shape = weight.shape
    return weight.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def hugging_face_name(name):
    if name in OTHER_TENSORS:
        return OTHER_TENSORS[name]
    parts = name.split(".", 2)
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in LAYER_TENSORS:
        return f"model.layers.{parts[1]}.{LAYER_TENSORS[parts[2]]}"
    raise Refused(f"the tensor {name} is not known")


def make_weights(config, tensors):
    """All tensors in f32 under their Hugging Face names."""
    heads_of = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for name, tensor in tensors.items():
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = name.split(".")[2] if name.startswith("blk.") else ""
        if config["model_type"] == "llama" and part in heads_of:
            weight = undo_permutation(weight, heads_of[part])
        weights[hugging_face_name(name)] = np.ascontiguousarray(weight)
    return weights


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def split(pattern):
    isolated = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [isolated, byte_level(False)]}


def pre_tokenizer(name):
    if name == "smollm":
        digits = {"type": "Digits", "individual_digits": True}
        return {"type": "Sequence", "pretokenizers": [digits, byte_level(True)]}
    if name in ("gpt-2", "default"):
        return byte_level(True)
    if name == "qwen2":
        return split(QWEN2_SPLIT)
    if name in ("llama-bpe", "llama3"):
        return split(LLAMA3_SPLIT)
    raise Refused(f"the pre-tokenizer {name} is not supported")


def make_tokenizer(fields):
    """tokenizer.json of a byte-level BPE."""
    if fields["tokenizer.ggml.model"] != "gpt2":
        raise Refused(f"a tokenizer of type {fields['tokenizer.ggml.model']} is not supported; it must be gpt2")
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    name = fields.get("tokenizer.ggml.pre", "default")
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": kind == CONTROL}
        for i, (token, kind) in enumerate(zip(tokens, types)) if kind in (CONTROL, USER_DEFINED)
    ]
    processor = byte_level(True)
    if fields.get("tokenizer.ggml.add_bos_token", False):
        bos = fields["tokenizer.ggml.bos_token_id"]
        first, text = {"SpecialToken": {"id": tokens[bos], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        second = {"Sequence": {"id": "B", "type_id": 1}}
        processor = {"type": "TemplateProcessing", "single": [first, text], "pair": [first, text, second],
                     "special_tokens": {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if name == "qwen2" else None,
        "pre_tokenizer": pre_tokenizer(name),
        "post_processor": processor,
        "decoder": byte_level(True),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": name in ("llama-bpe", "llama3"),
            "vocab": {token: i for i, (token, kind) in enumerate(zip(tokens, types)) if kind != UNUSED},
            "merges": [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]],
        },
    }


def make_tokenizer_config(fields):
    tokens = fields["tokenizer.ggml.tokens"]
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
              "model_max_length": fields[f"{fields['general.architecture']}.context_length"]}
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        token = fields.get(f"tokenizer.ggml.{theirs}_token_id")
        if token is not None:
            config[f"{ours}_token"] = tokens[token]
    if "tokenizer.chat_template" in fields:
        config["chat_template"] = fields["tokenizer.chat_template"]
    return config


def make_generation_config(fields):
    """Every id that ends a text: the end of text, and of a turn where that is another."""
    stops = []
    for name in ("eos", "eot", "eom"):
        token = fields.get(f"tokenizer.ggml.{name}_token_id")
        if token is not None and token not in stops:
            stops.append(token)
    config = {"eos_token_id": stops[0] if len(stops) == 1 else stops}
    for ours, theirs in (("bos", "bos"), ("pad", "padding")):
        token = fields.get(f"tokenizer.ggml.{theirs}_token_id")
        if token is not None:
            config[f"{ours}_token_id"] = token
    return config


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def convert(source, directory, dtype):
    if directory.exists():
        raise Refused(f"{directory} exists already; give a new directory")
    reader = gguf.GGUFReader(source)
    fields = read_fields(reader)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = make_config(fields, tensors, {"f32": "float32", "bf16": "bfloat16"}[dtype])
    tokenizer = make_tokenizer(fields)
    weights = make_weights(config, tensors)
    if dtype == "bf16":
        import ml_dtypes

        weights = {name: weight.astype(ml_dtypes.bfloat16) for name, weight in weights.items()}
    directory.mkdir(parents=True)
    write_json(directory / "tokenizer.json", tokenizer)
    write_json(directory / "tokenizer_config.json", make_tokenizer_config(fields))
    write_json(directory / "generation_config.json", make_generation_config(fields))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    write_json(directory / "config.json", config)  # last: a directory without it is no model
    kinds = sorted({tensor.tensor_type.name for tensor in tensors.values()})
    count = sum(weight.size for weight in weights.values())
    print(f"{directory}: {config['model_type']}, {count} parameters from {', '.join(kinds)}, written as {dtype}")


def check(source, directory, dtype, text):
    """Holds the directory against transformers' own reader of GGUF, then continues `text`."""
    import torch
    import transformers

    def load(**where):
        return transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)

    model = load(pretrained_model_name_or_path=directory)
    other = load(pretrained_model_name_or_path=source.parent, gguf_file=source.name)
    ours, theirs = model.state_dict(), other.state_dict()
    if ours.keys() != theirs.keys():
        raise Refused(f"transformers reads other tensors: {sorted(ours.keys() ^ theirs.keys())}")
    for name, tensor in ours.items():
        expected = theirs[name] if dtype == "f32" else theirs[name].bfloat16().float()
        if not torch.equal(tensor, expected):
            raise Refused(f"{name} differs from what transformers reads, by up to {(tensor - expected).abs().max()}")
    print(f"check: all {len(ours)} tensors are those that transformers {transformers.__version__} reads")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        drawn = model.generate(ids, max_new_tokens=64, do_sample=False)[0, ids.shape[1]:]
    print(f"check: it continues {text!r} with {tokenizer.decode(drawn)!r}")


def main():
    parser = argparse.ArgumentParser(description="Turns a GGUF file into a Hugging Face directory.")
    parser.add_argument("source", type=Path, help="GGUF file")
    parser.add_argument("directory", type=Path, help="directory to write; must not exist")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="of the weights (default: f32)")
    parser.add_argument("--check", metavar="TEXT", help="compare with transformers' reader, and continue TEXT")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        convert(arguments.source, arguments.directory, arguments.dtype)
        if arguments.check is not None:
            check(arguments.source, arguments.directory, arguments.dtype, arguments.check)
    except (Refused, OSError, KeyError, ValueError) as error:
        sys.exit(f"{arguments.source}: {error}")


if __name__ == "__main__":
    main()
