# SPDX-License-Identifier: Apache-2.0
"""Candidates of tools/oracle_torch.py: a decoder in plain PyTorch operations, and sampling from it."""

import torch
import torch.nn.functional as F

from oracle_torch_kernels import gradients


def norm(h, w, eps):
    """RMSNorm as transformers computes it: in f32 at least, the weight applied in the model's dtype."""
    wide = h.to(torch.promote_types(h.dtype, torch.float32))
    return w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(h.dtype)


def rotate(x, positions, theta):
    half = x.shape[-1] // 2
    f = theta ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    a = torch.cat([positions[:, None].double() * f] * 2, dim=-1)[:, None, :]
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * a.cos().to(x.dtype) + turned * a.sin().to(x.dtype)


def visible(positions, documents, window, sinks):
    i, j = positions[:, None], positions[None, :]
    near = (i - j < window) | (j < sinks) if window > 0 else torch.ones_like(i - j, dtype=torch.bool)
    return (documents[:, None] == documents[None, :]) & (j <= i) & near


def logits(p, w, tokens, documents):
    """[T, V]. `w`: weights by their Hugging Face names."""
    T, H, G, D, eps = len(tokens), p["num_attention_heads"], p["num_key_value_heads"], p["head_dim"], p["rms_norm_eps"]
    positions = (documents[:, None] == documents[None, :]).tril(-1).sum(dim=1)
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(p["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."

        def linear(name, h):
            return F.linear(h, w[f"{prefix}{name}.weight"], w.get(f"{prefix}{name}.bias"))

        h = norm(x, w[prefix + "input_layernorm.weight"], eps)
        q, k, v = (linear(f"self_attn.{name}_proj", h).view(T, -1, D) for name in "qkv")
        if p["qk_norm"]:
            q, k = (norm(t, w[f"{prefix}self_attn.{name}_norm.weight"], eps) for t, name in ((q, "q"), (k, "k")))
        q, k = rotate(q, positions, p["rope_theta"]), rotate(k, positions, p["rope_theta"])
        k, v = k.repeat_interleave(H // G, dim=1), v.repeat_interleave(H // G, dim=1)
        see = visible(positions, documents, p[f"window_{layer}"], p[f"sinks_{layer}"])
        s = (torch.einsum("qhd,khd->hqk", q, k) * D**-0.5).masked_fill(~see, float("-inf"))
        attended = torch.einsum("hqk,khd->qhd", torch.softmax(s, dim=-1), v).reshape(T, H * D)
        x = x + linear("self_attn.o_proj", attended)
        h = norm(x, w[prefix + "post_attention_layernorm.weight"], eps)
        x = x + linear("mlp.down_proj", F.silu(linear("mlp.gate_proj", h)) * linear("mlp.up_proj", h))
    head = w["model.embed_tokens.weight" if p["tie_word_embeddings"] else "lm_head.weight"]
    return F.linear(norm(x, w["model.norm.weight"], eps), head)


def weights_of(x, dtype):
    return {name: t.to(dtype).requires_grad_() for name, t in x.items() if name.endswith((".weight", ".bias"))}


def model_torch(case, x, dtype):
    w = weights_of(x, dtype)
    z = logits(case["parameters"], w, x["tokens"].long(), x["document"])
    logp = torch.log_softmax(z, dim=-1).gather(1, x["targets"].long()[:, None])[:, 0]
    grads = gradients([logp], [x["d_logp"].to(dtype)], list(w.values()))
    named = {f"grad.{name}": grad for name, grad in zip(w, grads)}
    return {"logits": z, "logp": logp} | {name: grad for name, grad in named.items() if name in case["outputs"]}


def continue_text(p, w, prompt, noise):
    """Tokens and their log-probabilities at temperature 1, the whole text anew for each token."""
    text, tokens, logp = prompt, [], []
    for t in range(noise.shape[0]):
        z = logits(p, w, text, torch.zeros_like(text))[-1]
        scores = z / p["temperature"] + noise[t] if p["temperature"] > 0 else z
        token = int(scores.argmax())
        tokens.append(token)
        logp.append(torch.log_softmax(z, dim=-1)[token])
        if token == p["eos_token_id"]:
            break
        text = torch.cat([text, torch.tensor([token], device=text.device)])
    return tokens, logp


@torch.no_grad()
def rollout_torch(case, x, dtype):
    p, w, noise = case["parameters"], weights_of(x, dtype), x["noise"].to(dtype)
    sequences, longest = noise.shape[:2]
    outputs = {"tokens": torch.full((sequences, longest), -1, dtype=torch.int32),
               "logp": torch.zeros((sequences, longest), dtype=dtype),
               "length": torch.zeros(sequences, dtype=torch.int32)}
    for n in range(sequences):
        prompt = x["prompts"][n][x["prompts"][n] >= 0].long()
        tokens, logp = continue_text(p, w, prompt, noise[n])
        outputs["tokens"][n, : len(tokens)] = torch.tensor(tokens, dtype=torch.int32)
        outputs["logp"][n, : len(logp)] = torch.stack(logp)
        outputs["length"][n] = len(tokens)
    return outputs
