# SPDX-License-Identifier: Apache-2.0
"""GRPOTrainer of TRL from rewards to the loss and its gradient, judged by the oracle."""

import torch
from trl import GRPOConfig, GRPOTrainer

from oracle_client import Oracle
from trl_policy import KINDS, LEVELS
from trl_trainer import in_dtype, make


def judge(dtype, **settings):
    oracle = Oracle("loss")
    for case in oracle:
        p = case.parameters
        kind, level = KINDS.get((p["clip"], p["normalizer"])), LEVELS.get(p["ratio"])
        other_kl = p["beta"] != 0 and (p["kl"], p["kl_in"]) != ("k3", "loss")
        other = p["baseline"] != "group-mean" or p["whiten"] or p["entropy_coef"] != 0 or p["overlong_share"] > 0
        if not kind or not level or other_kl or other:
            case.skip()
            continue
        x = in_dtype(case, dtype)
        x["logp"].requires_grad_()
        high = p["epsilon_high"] + (1 if kind == "cispo" else 0)  # the cap of CISPO's weight itself
        trainer = make(GRPOTrainer, GRPOConfig, case, x, loss_type=kind, importance_sampling_level=level,
                       epsilon=p["epsilon"], epsilon_high=high, scale_rewards=p["scale_rewards"],
                       reward_weights=[p["reward_weight"]], use_bias_correction_kl=False, **settings)
        completions, width = x["mask"].shape
        cut = x["mask"].sum(1) == p["max_completion_length"]
        tokens = [[0] * (width - 1) + [0 if is_cut else 1] for is_cut in cut]  # 1 ends a text
        trainer._calculate_rewards = lambda *_: x["rewards"][:, None]
        trainer._generate = lambda _: ([[0]] * completions, tokens, x["mask"].tolist(), [""] * completions,
                                       None, {}, None, [])
        scored = trainer._generate_and_score_completions([{"prompt": ""}] * completions)
        loss = trainer.compute_loss("now", scored)
        case.give(advantages=scored["advantages"][:, None] * x["mask"], loss=loss.to(dtype),
                  dlogp=torch.autograd.grad(loss, x["logp"])[0])
    return oracle.check(outputs=["advantages", "loss", "dlogp"])


def grpo(dtype):
    return judge(dtype)


def grpo_without_truncated(dtype):
    return judge(dtype, mask_truncated_completions=True)
