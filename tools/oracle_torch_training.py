# SPDX-License-Identifier: Apache-2.0
"""Candidates of tools/oracle_torch.py: losses in the padded form that most trainers have, distillation, AdamW."""

import math

import torch
import torch.nn.functional as F

from oracle_torch_kernels import gradients


# --- suites loss, advantages, policy: log-probabilities, masks and rewards -> advantages -> terms, loss and gradients ---


def masked_mean(values, mask):
    return (values * mask).sum() / mask.sum().clamp(min=1)


def kl_estimate(d, kind):
    return {"k1": d, "k2": d * d / 2, "k3": torch.exp(-d) + d - 1}[kind]


def advantages(p, x, mask, bessel=True):
    kl = kl_estimate(x["old_logp"].to(mask.dtype) - x["ref_logp"].to(mask.dtype), p["kl"])
    lengths = mask.sum(dim=1)
    r = p["reward_weight"] * x["rewards"].to(mask.dtype)
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
        values, dim = (groups, 1) if p["scale_rewards"] == "group" else (r, 0)
        a = a / (values.std(dim=dim, keepdim=True, correction=int(bessel)) + 1e-4)
    if p["baseline"] != "none":
        a = a.masked_fill((groups == groups[:, :1]).all(dim=1, keepdim=True), 0)
    a = a.view(-1, 1) * mask
    if p["kl_in"] == "return":
        a = a - p["beta"] * (kl * mask).flip(1).cumsum(1).flip(1) * mask
    if p["kl_in"] == "advantage":
        a = a - p["beta"] * kl * mask
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


def loss_of(p, x, mask, a, divided=1):
    """Everything that comes after the advantages."""
    logp, entropy = (x[name].to(mask.dtype).requires_grad_() for name in ("logp", "entropy"))
    policy = policy_term(p, logp, x["old_logp"].to(mask.dtype), a, mask) * mask
    kl = kl_estimate(logp - x["ref_logp"].to(mask.dtype), p["kl"]) * mask
    terms = policy - p["entropy_coef"] * entropy * mask
    if p["kl_in"] == "loss":
        terms = terms + p["beta"] * kl
    loss = (completion_weights(p, mask)[:, None] * terms).sum() / divided
    dlogp, dentropy = gradients([loss], [torch.ones_like(loss)], [logp, entropy])
    return {"policy": policy, "kl": kl, "terms": terms, "loss": loss.reshape(1), "dlogp": dlogp, "dentropy": dentropy}


def only(case, outputs):
    """Those that the case asks for."""
    return {name: outputs[name] for name in case["outputs"]}


def loss_torch(case, x, dtype, lose_last=False):
    p, mask = case["parameters"], x["mask"].to(dtype)
    if lose_last:
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        mask = mask.scatter(1, last[:, None], 0.0)
    a = advantages(p, x, mask)
    return only(case, {"advantages": a} | loss_of(p, x, mask, a))


def loss_wrong_eos(case, x, dtype):
    """Infers the mask from `token != pad`, where the pad token is the end-of-text token."""
    return loss_torch(case, x, dtype, lose_last=True)


def advantages_torch(case, x, dtype):
    return {"advantages": advantages(case["parameters"], x, x["mask"].to(dtype))}


def advantages_wrong_deviation(case, x, dtype):
    """Takes numpy's standard deviation for torch's."""
    return {"advantages": advantages(case["parameters"], x, x["mask"].to(dtype), bessel=False)}


def policy_torch(case, x, dtype, divided=1):
    return only(case, loss_of(case["parameters"], x, x["mask"].to(dtype), x["advantages"].to(dtype), divided))


def policy_wrong_accumulation(case, x, dtype):
    """Divides by the steps of accumulation, as the trainer around it does too."""
    return policy_torch(case, x, dtype, divided=4)


# --- suite distill: hidden states and heads of a student and a teacher -> KL, loss and the student's gradients ---


def distill(case, x, dtype, swapped=False):
    p = case["parameters"]
    student, head = (x[name].to(dtype).requires_grad_() for name in ("x", "w"))
    with torch.no_grad():
        teacher_z = F.linear(x["teacher_x"].to(dtype), x["teacher_w"].to(dtype))
    z, mask, T = F.linear(student, head), x["mask"].bool(), p["temperature"]
    log_p, log_q = torch.log_softmax(z / T, dim=-1), torch.log_softmax(teacher_z / T, dim=-1)
    forward = (p["direction"] == "forward") != swapped
    # kl_div(a, b) is KL(b || a): its first argument is the distribution that b is coded with.
    of, coded = (log_q, log_p) if forward else (log_p, log_q)
    kl = F.kl_div(coded, of, reduction="none", log_target=True).sum(dim=-1)
    cross_entropy = F.cross_entropy(z, x["targets"].long(), reduction="none")
    loss = ((1 - p["weight"]) * cross_entropy[mask] + p["weight"] * T**2 * kl[mask]).mean()
    dx, dw = gradients([loss], [torch.ones_like(loss)], [student, head])
    return {"kl": kl, "loss": loss.reshape(1), "dx": dx, "dw": dw}


def distill_torch(case, x, dtype):
    return distill(case, x, dtype)


def distill_wrong_direction(case, x, dtype):
    """Takes kl_div's arguments for those of KL(first || second)."""
    return distill(case, x, dtype, swapped=True)


# --- suite step: weights, gradients and moments -> clipping and AdamW; step -> learning rate ---

PARAMETERS = ("up", "down", "bias", "norm")


def adamw(p, x, dtype):
    grads = {name: x[f"g.{name}"].to(dtype) for name in PARAMETERS}
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads.values()]))
    # clip_grad_norm_ would add 1e-6 to the norm, which f64 sees.
    factor = (p["max_grad_norm"] / norm).clamp(max=1) if p["max_grad_norm"] > 0 else 1.0
    outputs = {"grad_norm": norm.reshape(1)}
    for name in PARAMETERS:
        w = torch.nn.Parameter(x[f"w.{name}"].to(dtype))
        w.grad = grads[name] * factor
        optimizer = torch.optim.AdamW([w], lr=p["lr"], betas=(p["beta1"], p["beta2"]), eps=p["eps"],
                                      weight_decay=p["weight_decay"] if w.dim() > 1 else 0)
        optimizer.state[w] = {"step": torch.tensor(float(p["t"] - 1)), "exp_avg": x[f"m.{name}"].to(dtype).clone(),
                              "exp_avg_sq": x[f"v.{name}"].to(dtype).clone()}
        optimizer.step()
        state = optimizer.state[w]
        outputs |= {f"w.{name}": w, f"m.{name}": state["exp_avg"], f"v.{name}": state["exp_avg_sq"]}
    return outputs


def schedule(p, x, dtype):
    s = x["step"].to(dtype)
    u = (s - p["warmup_steps"]) / (p["steps"] - p["warmup_steps"])
    f = {"constant": 0 * u, "linear": 1 - u, "cosine": (1 + torch.cos(math.pi * u)) / 2}[p["schedule"]]
    r = 1.0 if p["schedule"] == "constant" else p["min_lr_ratio"]
    warm = p["lr"] * (s + 1) / max(1, p["warmup_steps"])
    return {"rate": torch.where(s < p["warmup_steps"], warm, p["lr"] * (r + (1 - r) * f))}


def step_torch(case, x, dtype):
    return {"adamw": adamw, "schedule": schedule}[case["family"]](case["parameters"], x, dtype)
