# SPDX-License-Identifier: Apache-2.0
"""Candidates of tools/oracle_torch.py: attention and ops in PyTorch."""

import math

import torch
import torch.nn.functional as F


def gradients(outputs, upstream, variables):
    """Of sum(outputs * upstream) with respect to each variable; zeros where it has none."""
    loss = sum((o * u).sum() for o, u in zip(outputs, upstream))
    grads = torch.autograd.grad(loss, variables, allow_unused=True)
    return [torch.zeros_like(v) if g is None else g for v, g in zip(variables, grads)]


# --- suite attention: q [Tq, H, D], k and v [Tk, G, D] -> out, lse, dq, dk, dv; sink_logits [H] -> dsink_logits ---


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
    """`run(q, k, v [H, T, D], mask [Tq, Tk], scale, sinks [H])` -> out [H, Tq, D], lse [H, Tq], with padding rows cared
    for. Without learned sinks they are -infinity."""
    learned = "sink_logits" in x
    q, k, v = (x[name].to(dtype).requires_grad_(with_gradients) for name in ("q", "k", "v"))
    sinks = x["sink_logits"].to(dtype) if learned else torch.full_like(q[0, :, 0], -math.inf)
    sinks = sinks.detach().requires_grad_(with_gradients and learned)
    mask = visible(p, x, p.get("wrong_window"))
    blind = ~mask.any(dim=1)
    mask = mask | blind[:, None]  # a softmax over nothing is NaN: let padding rows see all, and drop what they give
    out, lse = run(q.transpose(0, 1), per_query_head(k, q.shape[1]), per_query_head(v, q.shape[1]), mask,
                   1 / math.sqrt(q.shape[2]), sinks)
    out = out.transpose(0, 1).masked_fill(blind[:, None, None], 0)
    lse = torch.where(blind[:, None], sinks[None], lse.transpose(0, 1))
    if not with_gradients:
        return {"out": out, "lse": lse}
    variables = [q, k, v] + ([sinks] if learned else [])
    names = ["dq", "dk", "dv"] + (["dsink_logits"] if learned else [])
    return {"out": out, "lse": lse} | dict(zip(names, gradients([out], [x["d_out"].to(dtype)], variables)))


def scores(q, k, mask, scale):
    return (q @ k.transpose(1, 2) * scale).masked_fill(~mask, -math.inf)


def plain(q, k, v, mask, scale, sinks):
    """The learned sink as one more column of the scores, whose weight is dropped."""
    s = scores(q, k, mask, scale)
    s = torch.cat((s, sinks[:, None, None].expand(-1, s.shape[1], 1)), dim=-1)
    return torch.softmax(s, dim=-1)[..., :-1] @ v, torch.logsumexp(s, dim=-1)


def beside_sinks(out, lse, sinks):
    """What attention without learned sinks becomes with them: keys keep the share exp(lse) / (exp(lse) + exp(sink))."""
    return out * torch.sigmoid(lse - sinks[:, None])[..., None], torch.logaddexp(lse, sinks[:, None])


def sdpa(q, k, v, mask, scale, sinks):
    out = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, scale=scale)[0]
    # sdpa keeps its lse to itself
    return beside_sinks(out, torch.logsumexp(scores(q, k, mask, scale), dim=-1), sinks)


def flex(q, k, v, mask, scale, sinks):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    block_mask = create_block_mask(lambda b, h, i, j: mask[i, j], None, None, *mask.shape, device=q.device)
    out, lse = flex_attention(q[None], k[None], v[None], block_mask=block_mask, scale=scale, return_lse=True)
    return beside_sinks(out[0], lse[0].to(q.dtype), sinks)


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
