# SPDX-License-Identifier: Apache-2.0
"""Learning rate schedules of transformers, judged by the oracle; their warm-up starts at 0 on purpose."""

import torch
from transformers import (get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup,
                          get_cosine_with_min_lr_schedule_with_warmup, get_linear_schedule_with_warmup)

from oracle_client import Oracle

WARMUP = "a warm-up that starts at 0: lr step / warmup_steps"


def schedule_of(p, optimizer):
    """The library's, or None: a linear one ends at 0."""
    warmup, steps, ratio = p["warmup_steps"], p["steps"], p["min_lr_ratio"]
    if p["schedule"] == "constant":
        return get_constant_schedule_with_warmup(optimizer, warmup)
    if p["schedule"] == "linear":
        return get_linear_schedule_with_warmup(optimizer, warmup, steps) if ratio == 0 else None
    if ratio == 0:
        return get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    return get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, steps, min_lr_rate=ratio)


def judge(dtype, accept):
    oracle = Oracle("step")
    for case in oracle:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=case.parameters["lr"])
        schedule = schedule_of(case.parameters, optimizer) if case.family == "schedule" else None
        if not schedule:
            case.skip()
            continue
        rates = []
        for _ in range(case.parameters["steps"]):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        case.give(rate=torch.tensor(rates, dtype=dtype))
    return oracle.check(accept=accept)


def schedules(dtype):
    return judge(dtype, accept=[WARMUP])


def schedules_not_accepted(dtype):
    return judge(dtype, accept=[])
