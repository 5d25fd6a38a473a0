# SPDX-License-Identifier: Apache-2.0
"""Advantages of TRL's trainers from rewards, judged by the oracle."""

import torch
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.rewards import get_soft_overlong_punishment

from oracle_client import Oracle
from trl_trainer import in_dtype, make


def advantages_of(trainer, case, x, completions, generated):
    """[B, T]: the advantage of each completion at its tokens."""
    p, rewards = case.parameters, [x["rewards"]]
    if p["overlong_share"] > 0:
        longest = p["max_completion_length"]
        penalty = get_soft_overlong_punishment(longest, p["overlong_share"] * longest)
        rewards.append(torch.tensor(penalty(completions), dtype=x["rewards"].dtype))
        trainer.reward_func_names.append("overlong")
    trainer.reward_weights = torch.tensor([p["reward_weight"], 1.0])[:len(rewards)]
    trainer._calculate_rewards = lambda *_: torch.stack(rewards, dim=1)
    trainer._generate = lambda _: generated
    scored = trainer._generate_and_score_completions([{"prompt": ""}] * len(completions))
    return scored["advantages"][:, None] * x["mask"]


def grpo(dtype):
    oracle = Oracle("advantages")
    for case in oracle:
        p = case.parameters
        if p["baseline"] != "group-mean" or p["whiten"] or (p["beta"] != 0 and p["kl_in"] != "loss"):
            case.skip()
            continue
        x = in_dtype(case, dtype)
        trainer = make(GRPOTrainer, GRPOConfig, case, x, scale_rewards=p["scale_rewards"])
        rows = [[0] * n for n in x["mask"].sum(1).tolist()]
        generated = ([[0]] * len(rows), rows, None, [""] * len(rows), None, {}, None, [])
        case.give(advantages=advantages_of(trainer, case, x, rows, generated))
    return oracle.check()


def rloo(dtype):
    oracle = Oracle("advantages")
    for case in oracle:
        p, mask = case.parameters, case.inputs["mask"]
        other_kl = p["beta"] != 0 and (p["kl"], p["kl_in"]) != ("k1", "reward")
        has_gaps = (mask[:, 1:] > mask[:, :-1]).any()
        if p["baseline"] != "leave-one-out" or p["whiten"] or other_kl or (p["beta"] != 0 and has_gaps):
            case.skip()
            continue
        x = in_dtype(case, dtype)
        trainer = make(RLOOTrainer, RLOOConfig, case, x)
        rows = [[0] * n for n in mask.sum(1).tolist()]
        case.give(advantages=advantages_of(trainer, case, x, rows, ([[0]] * len(rows), rows, [""] * len(rows))))
    return oracle.check()
