# SPDX-License-Identifier: Apache-2.0
"""torch's gradient clipping and AdamW, judged by the oracle; clip_grad_norm_ adds 1e-6 to the norm on purpose."""

import torch

from oracle_client import Oracle

TENSORS = ("up", "down", "bias", "norm")
CLIP = "1e-6 added to the norm before it divides (torch.nn.utils.clip_grad_norm_)"


def step(p, x, dtype, decays):
    """New weights and moments, and the norm of the gradients; `decays` tells which weights do."""
    weights = {name: torch.nn.Parameter(x[f"w.{name}"].to(dtype, copy=True)) for name in TENSORS}
    for name, w in weights.items():
        w.grad = x[f"g.{name}"].to(dtype, copy=True)
    most = p["max_grad_norm"] if p["max_grad_norm"] > 0 else float("inf")
    norm = torch.nn.utils.clip_grad_norm_(weights.values(), most)
    groups = [{"params": [w], "weight_decay": p["weight_decay"] if decays(w) else 0} for w in weights.values()]
    optimizer = torch.optim.AdamW(groups, lr=p["lr"], betas=(p["beta1"], p["beta2"]), eps=p["eps"])
    for name, w in weights.items():
        optimizer.state[w] = {"step": torch.tensor(p["t"] - 1.0), "exp_avg": x[f"m.{name}"].to(dtype, copy=True),
                              "exp_avg_sq": x[f"v.{name}"].to(dtype, copy=True)}
    optimizer.step()
    results = {"grad_norm": norm.reshape(1)}
    for name, w in weights.items():
        state = optimizer.state[w]
        results |= {f"w.{name}": w, f"m.{name}": state["exp_avg"], f"v.{name}": state["exp_avg_sq"]}
    return results


def judge(dtype, decays, accept):
    oracle = Oracle("step")
    for case in oracle:
        if case.family == "adamw":
            case.give(**step(case.parameters, case.inputs, dtype, decays))
        else:
            case.skip()
    return oracle.check(accept=accept)


def adamw(dtype):
    return judge(dtype, decays=lambda w: w.dim() > 1, accept=[CLIP])


def adamw_not_accepted(dtype):
    return judge(dtype, decays=lambda w: w.dim() > 1, accept=[])


def adamw_of_all(dtype):
    """One group of all parameters, as AdamW(model.parameters()) has it."""
    return judge(dtype, decays=lambda w: True, accept=[CLIP])
