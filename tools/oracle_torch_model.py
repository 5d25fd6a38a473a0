# SPDX-License-Identifier: Apache-2.0
"""Candidates of tools/oracle_torch.py: a decoder in plain PyTorch operations, with caches, and sampling from it."""

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


def near(i, j, window, sinks):
    return (j <= i) & ((i - j < window) | (j < sinks) if window > 0 else torch.ones_like(i - j, dtype=torch.bool))


def attended(q, k, v, see):
    """q [T, H, D], k and v [Tk, G, D], see [T, Tk] -> [T, H, D]"""
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    s = (torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1]**-0.5).masked_fill(~see, float("-inf"))
    return torch.einsum("hqk,khd->qhd", torch.softmax(s, dim=-1), v)


def decoder(p, w, tokens, positions, attend):
    """[T, V]. `w`: weights by their Hugging Face names. `attend(layer, q, k, v)` -> [T, H, D]"""
    T, D, eps = len(tokens), p["head_dim"], p["rms_norm_eps"]
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
        x = x + linear("self_attn.o_proj", attend(layer, q, k, v).reshape(T, -1))
        h = norm(x, w[prefix + "post_attention_layernorm.weight"], eps)
        x = x + linear("mlp.down_proj", F.silu(linear("mlp.gate_proj", h)) * linear("mlp.up_proj", h))
    head = w["model.embed_tokens.weight" if p["tie_word_embeddings"] else "lm_head.weight"]
    return F.linear(norm(x, w["model.norm.weight"], eps), head)


def logits(p, w, tokens, documents):
    """[T, V] of packed documents."""
    same = documents[:, None] == documents[None, :]
    positions = same.tril(-1).sum(dim=1)

    def attend(layer, q, k, v):
        see = near(positions[:, None], positions[None, :], p[f"window_{layer}"], p[f"sinks_{layer}"])
        return attended(q, k, v, same & see)

    return decoder(p, w, tokens, positions, attend)


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


# --- suite decode: tokens, position and call [N] -> logits [N, V] ---


class GrowingCache:
    """All keys of the text, cut off at a rollback."""

    def __init__(self, p):
        self.p, self.keys, self.values = p, {}, {}

    def begin(self, position):
        for kept in (self.keys, self.values):
            kept.update({layer: t[:position] for layer, t in kept.items()})

    def attend(self, layer, q, k, v):
        for kept, new in ((self.keys, k), (self.values, v)):
            kept[layer] = torch.cat((kept[layer], new)) if layer in kept else new
        j = torch.arange(len(self.keys[layer]), device=q.device)
        see = near(j[-len(q):, None], j[None], self.p[f"window_{layer}"], self.p[f"sinks_{layer}"])
        return attended(q, self.keys[layer], self.values[layer], see)


class CarelessRing:
    """Sinks and a ring of W slots. A rollback sets the position back and leaves the slots: wrong where rejected tokens
    have taken the slots of keys that are in the window again."""

    def __init__(self, p):
        self.p, self.position, self.slots = p, 0, {}

    def begin(self, position):
        self.position = position

    def slot(self, layer, position):
        window, sinks = self.p[f"window_{layer}"], self.p[f"sinks_{layer}"]
        return position if window == 0 or position < sinks else sinks + (position - sinks) % window

    def attend(self, layer, q, k, v):
        out = []
        for t in range(len(q)):
            position, slots = self.position + t, self.slots.setdefault(layer, {})
            slots[self.slot(layer, position)] = k[t], v[t]
            seen = [slots[s] for s in sorted({self.slot(layer, j) for j in range(position + 1)})]
            keys, values = (torch.stack(kept) for kept in zip(*seen))
            out.append(attended(q[t:t + 1], keys, values, torch.ones(1, len(seen), dtype=torch.bool, device=q.device)))
        if layer == self.p["num_hidden_layers"] - 1:
            self.position += len(q)
        return torch.cat(out)


@torch.no_grad()
def decode(cache, case, x, dtype):
    p, w = case["parameters"], weights_of(x, dtype)
    cache, rows = cache(p), []
    for call in range(p["calls"]):
        fed = x["call"] == call
        positions = x["position"][fed]
        cache.begin(int(positions[0]))
        rows.append(decoder(p, w, x["tokens"][fed].long(), positions, cache.attend))
    return {"logits": torch.cat(rows)}


def decode_torch(case, x, dtype):
    return decode(GrowingCache, case, x, dtype)


def decode_wrong_rollback(case, x, dtype):
    return decode(CarelessRing, case, x, dtype)
