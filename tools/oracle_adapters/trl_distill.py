# SPDX-License-Identifier: Apache-2.0
"""Distillation losses of TRL, judged by the oracle. They have no cross-entropy beside the KL, and no T^2 before it."""

import torch
import torch.nn.functional as F
from trl.experimental.gkd import GKDTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from oracle_client import Oracle

NO_SQUARE = "T^2 forgotten"


def gkd_loss(x, beta, temperature):
    """GKDTrainer's, from logits; the KL of each row is its own sum over the vocabulary."""
    logits, teacher = (F.linear(x[a], x[b])[None] for a, b in (("x", "w"), ("teacher_x", "teacher_w")))
    labels = x["mask"][None] - 1  # 0 for a row in the loss
    labels = labels.masked_fill(labels < 0, -100)
    loss = GKDTrainer.generalized_jsd_loss(logits, teacher, labels, beta, temperature)
    elements = GKDTrainer.generalized_jsd_loss(logits, teacher, None, beta, temperature, reduction="none")
    return {"loss": loss, "kl": elements[0].sum(dim=-1)}


def chunked_loss(x, beta, temperature):
    """DistillationTrainer's, from hidden states and heads."""
    loss, _, _ = _chunked_divergence_loss(x["x"][None], x["teacher_x"][None], x["w"], x["teacher_w"], x["mask"][None],
                                          beta, temperature=temperature)
    return {"loss": loss}


def judge(function, dtype, outputs, accept=(NO_SQUARE,), betas={"forward": 0.0, "reverse": 1.0}):
    oracle = Oracle("distill")
    for case in oracle:
        p = case.parameters
        if p["weight"] < 1:
            case.skip()
            continue
        x = {name: t.to(dtype) if t.is_floating_point() else t for name, t in case.inputs.items()}
        variables = [x[name].requires_grad_() for name in ("x", "w")]
        results = function(x, betas[p["direction"]], p["temperature"])
        dx, dw = torch.autograd.grad(results["loss"], variables)
        case.give(**results, dx=dx, dw=dw)
    return oracle.check(outputs=outputs, accept=accept)


def gkd(dtype):
    return judge(gkd_loss, dtype, ["kl", "loss", "dx", "dw"])


def distillation(dtype):
    return judge(chunked_loss, dtype, ["loss", "dx", "dw"])


def gkd_not_accepted(dtype):
    return judge(gkd_loss, dtype, ["kl", "loss", "dx", "dw"], accept=())


def gkd_swapped(dtype):
    """With beta taken the other way round, as its first documentation had it."""
    return judge(gkd_loss, dtype, ["kl", "loss", "dx", "dw"], betas={"forward": 1.0, "reverse": 0.0})
