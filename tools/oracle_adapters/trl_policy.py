# SPDX-License-Identifier: Apache-2.0
"""Losses of TRL's trainers from given advantages, judged by the oracle."""

import torch
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from oracle_client import Oracle
from trl_trainer import in_dtype, make

KINDS = {("ppo", "sequence-mean"): "grpo", ("ppo", "token-mean"): "dapo", ("ppo", "constant"): "dr_grpo",
         ("ppo", "sequence-sum"): "luspo", ("weight", "token-mean"): "cispo"}
LEVELS = {"token": "token", "sequence-mean": "sequence"}
DUAL_CLIP = "the dual clip: at most 3 |A| where A < 0"


def give(case, trainer, x, **inputs):
    x["logp"].requires_grad_()
    nothing = torch.zeros(len(x["mask"]), 0, dtype=torch.long)
    loss = trainer.compute_loss("now", {
        "prompt_ids": nothing, "prompt_mask": nothing, "completion_ids": torch.zeros_like(x["mask"]),
        "completion_mask": x["mask"], "num_items_in_batch": x["mask"].sum(), "advantages": x["advantages"],
        "old_per_token_logps": x["old_logp"], "ref_per_token_logps": x["ref_logp"]} | inputs)
    # It may come as f32 from log-probabilities in bf16, and is as exact as these.
    case.give(loss=loss.to(x["logp"].dtype), dlogp=torch.autograd.grad(loss, x["logp"])[0])


def grpo(dtype, accept=(), **settings):
    oracle = Oracle("policy")
    for case in oracle:
        p = case.parameters
        kind, level = KINDS.get((p["clip"], p["normalizer"])), LEVELS.get(p["ratio"])
        has_kl = p["beta"] != 0 and p["kl_in"] == "loss"
        # TRL's entropy bonus is a mean over all tokens, whatever the normaliser.
        other_entropy = p["entropy_coef"] != 0 and p["normalizer"] != "token-mean"
        if not kind or not level or (has_kl and p["kl"] != "k3") or other_entropy:
            case.skip()
            continue
        x = in_dtype(case, dtype)
        high = p["epsilon_high"] + (1 if kind == "cispo" else 0)  # the cap of CISPO's weight itself
        trainer = make(GRPOTrainer, GRPOConfig, case, x, **{
            "loss_type": kind, "importance_sampling_level": level, "epsilon": p["epsilon"], "epsilon_high": high,
            "entropy_coef": p["entropy_coef"], "use_bias_correction_kl": False} | settings)
        trainer.beta = p["beta"] if has_kl else 0.0
        give(case, trainer, x)
    return oracle.check(outputs=["loss", "dlogp"], accept=accept)


def grpo_by_default(dtype):
    """The KL times the ratio, as TRL has it unless told otherwise."""
    return grpo(dtype, use_bias_correction_kl=True)


def grpo_two_sided(dtype):
    """TRL's delta is the dual clip."""
    return grpo(dtype, delta=3.0)


def grpo_two_sided_accepted(dtype):
    return grpo(dtype, accept=[DUAL_CLIP], delta=3.0)


def rloo(dtype):
    oracle = Oracle("policy")
    for case in oracle:
        p, x = case.parameters, in_dtype(case, dtype)
        mask = x["mask"]
        advantages = (x["advantages"] * mask).sum(1) / mask.sum(1).clamp(min=1)
        differ = (x["advantages"] - advantages[:, None]).masked_fill(mask == 0, 0).any()
        if (p["ratio"], p["clip"], p["normalizer"]) != ("sequence", "ppo", "sequence-mean") or differ:
            case.skip()
            continue
        trainer = make(RLOOTrainer, RLOOConfig, case, x, epsilon=p["epsilon"], epsilon_high=p["epsilon_high"])
        give(case, trainer, x, advantages=advantages, old_logps=(x["old_logp"] * mask).sum(1))
    return oracle.check(outputs=["loss", "dlogp"])
