#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worked example of the oracle: PyTorch's attention, losses and optimiser through `swarr oracle export` and `check`.

    python3 tools/oracle_torch.py [--swarr build/swarr] [--output-dir out/oracle-torch] [--device cpu] [candidate ...]

needs torch and safetensors. A candidate is a function below that computes a suite's outputs from its inputs; without
names all are run, in f64, f32 and bf16. For each the verdict is printed; the exit status is 0 if all right ones pass and
all wrong ones (`*_wrong_*`, mistakes as people make them) are rejected. To judge an implementation of your own, replace
the body of one of them: docs/oracle.md.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

DTYPES = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16}


def gradients(outputs, upstream, variables):
    """Of sum(outputs * upstream) with respect to each variable; zeros where it has none."""
    loss = sum((o * u).sum() for o, u in zip(outputs, upstream))
    grads = torch.autograd.grad(loss, variables, allow_unused=True)
    return [torch.zeros_like(v) if g is None else g for v, g in zip(variables, grads)]


# --- suite attention: q [Tq, H, D], k and v [Tk, G, D] -> out, lse, dq, dk, dv ---


def visible(p, x, window=None):
    """[Tq, Tk]: which keys a query sees. The window counts the query's own token."""
    window = p["window"] if window is None else window
    i, j = x["q_position"][:, None], x["k_position"][None, :]
    near = (i - j < window) | (j < p["sinks"]) if window > 0 else torch.ones_like(i - j, dtype=torch.bool)
    return (x["q_document"][:, None] == x["k_document"][None, :]) & (i >= 0) & (j <= i) & near


def per_query_head(t, heads):
    """[T, G, D] -> [H, T, D]: query head h reads key head h // (H / G)."""
    return t.repeat_interleave(heads // t.shape[1], dim=1).transpose(0, 1)


def attention(p, x, dtype, run, with_gradients=True):
    """`run(q, k, v [H, T, D], mask [Tq, Tk], scale)` -> out [H, Tq, D], lse [H, Tq], with padding rows cared for."""
    q, k, v = (x[name].to(dtype).requires_grad_(with_gradients) for name in ("q", "k", "v"))
    mask = visible(p, x, p.get("wrong_window"))
    blind = ~mask.any(dim=1)
    mask = mask | blind[:, None]  # a softmax over nothing is NaN: let padding rows see all, and drop what they give
    out, lse = run(q.transpose(0, 1), per_query_head(k, q.shape[1]), per_query_head(v, q.shape[1]), mask,
                   1 / math.sqrt(q.shape[2]))
    out = out.transpose(0, 1).masked_fill(blind[:, None, None], 0)
    lse = lse.transpose(0, 1).masked_fill(blind[:, None], -math.inf)
    if not with_gradients:
        return {"out": out, "lse": lse}
    dq, dk, dv = gradients([out], [x["d_out"].to(dtype)], [q, k, v])
    return {"out": out, "lse": lse, "dq": dq, "dk": dk, "dv": dv}


def scores(q, k, mask, scale):
    return (q @ k.transpose(1, 2) * scale).masked_fill(~mask, -math.inf)


def plain(q, k, v, mask, scale):
    s = scores(q, k, mask, scale)
    return torch.softmax(s, dim=-1) @ v, torch.logsumexp(s, dim=-1)


def sdpa(q, k, v, mask, scale):
    out = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, scale=scale)[0]
    return out, torch.logsumexp(scores(q, k, mask, scale), dim=-1)  # sdpa keeps its lse to itself


def flex(q, k, v, mask, scale):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    block_mask = create_block_mask(lambda b, h, i, j: mask[i, j], None, None, *mask.shape, device=q.device)
    out, lse = flex_attention(q[None], k[None], v[None], block_mask=block_mask, scale=scale, return_lse=True)
    return out[0], lse[0].to(q.dtype)


def attention_plain(case, x, dtype):
    return attention(case["parameters"], x, dtype, plain)


def attention_sdpa(case, x, dtype):
    return attention(case["parameters"], x, dtype, sdpa)


def attention_flex(case, x, dtype):
    return attention(case["parameters"], x, dtype, flex, with_gradients=x["q"].is_cuda)  # it has none on a processor


def attention_wrong_window(case, x, dtype):
    """Reads W as flash-attention's left window, which does not count the current token."""
    p = dict(case["parameters"])
    if p["window"] > 0:
        p["wrong_window"] = p["window"] + 1
    return attention(p, x, dtype, plain)


# --- suite ops: one function a family; each returns the values, and the variables whose gradients are asked for ---


def linear(p, x, v):
    return {"y": F.linear(v("x"), v("w"), v("b") if "b" in x else None) + (x["residual"].to(v("x").dtype)
                                                                        if "residual" in x else 0)}


def embedding(p, x, v):
    return {"y": F.embedding(x["ids"].long(), v("w"))}


def rmsnorm(p, x, v):
    return {"y": F.rms_norm(v("x"), v("x").shape[-1:], v("w"), p["eps"])}


def rope(p, x, v):
    half = p["head_dim"] // 2
    f = p["theta"] ** (-torch.arange(half, dtype=torch.float64, device=x["x"].device) / half)
    if "factor" in p:  # rope_type llama3
        turns = p["original_positions"] * f / (2 * math.pi)
        kept = ((turns - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"])).clamp(0, 1)
        f = kept * f + (1 - kept) * f / p["factor"]
    a = (x["positions"][:, None].double() * f)[:, None, :]
    cos, sin = a.cos().to(v("x").dtype), a.sin().to(v("x").dtype)
    lower, upper = v("x")[..., :half], v("x")[..., half:]
    return {"y": torch.cat((lower * cos - upper * sin, upper * cos + lower * sin), dim=-1)}


def swiglu(p, x, v):
    return {"y": F.silu(v("gate")) * v("up")}


def logprob(p, x, v):
    z = F.linear(v("x"), v("w")) / p["temperature"]
    logp = torch.log_softmax(z, dim=-1)
    return {"logp": logp.gather(1, x["targets"].long()[:, None])[:, 0], "lse": torch.logsumexp(z, dim=-1),
            "entropy": -(logp.exp() * logp).sum(dim=-1)}


OPS = {f.__name__: f for f in (linear, embedding, rmsnorm, rope, swiglu, logprob)}


def ops_torch(case, x, dtype):
    variables = {}

    def variable(name):
        if name not in variables:
            variables[name] = x[name].to(dtype).requires_grad_()
        return variables[name]

    outputs = OPS[case["family"]](case["parameters"], x, variable)
    upstream = {name: x[f"d_{name}"].to(dtype) for name in outputs if f"d_{name}" in x}
    grads = gradients([outputs[name] for name in upstream], list(upstream.values()), list(variables.values()))
    return outputs | {f"d{name}": grad for name, grad in zip(variables, grads)}


# --- suite loss: log-probabilities, masks and rewards -> advantages, terms, loss and gradients ---


def masked_mean(values, mask):
    return (values * mask).sum() / mask.sum().clamp(min=1)


def kl_estimate(d, kind):
    return {"k1": d, "k2": d * d / 2, "k3": torch.exp(-d) + d - 1}[kind]


def advantages(p, x, mask, kl):
    lengths = mask.sum(dim=1)
    r = x["rewards"].to(mask.dtype)
    buffer = p["overlong_share"] * p["max_completion_length"]
    if buffer > 0:
        r = r - ((lengths - (p["max_completion_length"] - buffer)) / buffer).clamp(0, 1)
    if p["kl_in"] == "reward":
        r = r - p["beta"] * (kl * mask).sum(dim=1)
    groups = r.view(-1, p["group_size"])
    mean, size = groups.mean(dim=1, keepdim=True), p["group_size"]
    a = groups - {"none": 0 * mean, "group-mean": mean,
                  "leave-one-out": (groups.sum(dim=1, keepdim=True) - groups) / (size - 1)}[p["baseline"]]
    if p["scale_rewards"] != "none":
        a = a / ((groups.std(dim=1, keepdim=True) if p["scale_rewards"] == "group" else r.std()) + 1e-4)
    if p["baseline"] != "none":
        a = a.masked_fill((groups == groups[:, :1]).all(dim=1, keepdim=True), 0)
    a = a.view(-1, 1) * mask
    if p["kl_in"] == "return":
        a = a - p["beta"] * (kl * mask).flip(1).cumsum(1).flip(1) * mask
    if p["whiten"]:
        picked = a[mask > 0]
        a = (a - picked.mean()) * torch.rsqrt(picked.var() + 1e-8) * mask
    return a


def policy_term(p, logp, old_logp, a, mask):
    d = (logp - old_logp) * mask
    ratio = {"none": lambda: None, "token": lambda: torch.exp(d),
             "sequence": lambda: torch.exp(d.sum(1, keepdim=True)).expand_as(d),
             "sequence-mean": lambda: torch.exp(d.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1))
             .expand_as(d)}[p["ratio"]]()
    if ratio is None:
        return -a * logp
    if p["clip"] == "weight":
        return -ratio.clamp(max=1 + p["epsilon_high"]).detach() * a * logp
    if p["clip"] == "none":
        return -ratio * a
    return -torch.min(ratio * a, ratio.clamp(1 - p["epsilon"], 1 + p["epsilon_high"]) * a)


def completion_weights(p, mask):
    lengths, count = mask.sum(dim=1), mask.shape[0]
    return {"token-mean": torch.ones_like(lengths) / lengths.sum(),
            "sequence-mean": 1 / (count * lengths.clamp(min=1)),
            "constant": torch.ones_like(lengths) / (count * p["max_completion_length"]),
            "sequence-sum": torch.ones_like(lengths) / count}[p["normalizer"]]


def loss_torch(case, x, dtype, lose_last=False):
    p = case["parameters"]
    logp, entropy = (x[name].to(dtype).requires_grad_() for name in ("logp", "entropy"))
    old_logp, ref_logp, mask = (x[name].to(dtype) for name in ("old_logp", "ref_logp", "mask"))
    if lose_last:
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        mask = mask.scatter(1, last[:, None], 0.0)
    a = advantages(p, x, mask, kl_estimate(old_logp - ref_logp, p["kl"]))
    terms = policy_term(p, logp, old_logp, a, mask) - p["entropy_coef"] * entropy
    if p["kl_in"] == "loss":
        terms = terms + p["beta"] * kl_estimate(logp - ref_logp, p["kl"])
    terms = terms * mask
    loss = (completion_weights(p, mask)[:, None] * terms).sum()
    dlogp, dentropy = gradients([loss], [torch.ones_like(loss)], [logp, entropy])
    return {"advantages": a, "terms": terms, "loss": loss.reshape(1), "dlogp": dlogp, "dentropy": dentropy}


def loss_wrong_eos(case, x, dtype):
    """Infers the mask from `token != pad`, where the pad token is the end-of-text token."""
    return loss_torch(case, x, dtype, lose_last=True)


CANDIDATES = {f.__name__: f for f in (attention_plain, attention_sdpa, attention_flex, attention_wrong_window, ops_torch,
                                      loss_torch, loss_wrong_eos)}


# --- export, compute, check ---


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
    named = [e["mistake"] for d in verdict["diagnosis"] for e in d["explanations"] if d["complete"]]
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
        subprocess.run([options.swarr, "oracle", "export", "--suite", suite, "--output-dir", options.output_dir],
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
