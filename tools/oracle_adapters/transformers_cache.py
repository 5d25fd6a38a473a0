# SPDX-License-Identifier: Apache-2.0
"""Caches of transformers through rollbacks and new texts, judged by the oracle."""

import torch
from transformers import DynamicCache, StaticCache

from oracle_client import Oracle
from transformers_decoder import model_of

# What a static layer with a window does when it is cropped although it says that it is not croppable.
ROLLED = "a rolling buffer of W keys rolled back: rejected tokens stay in it, and older keys are missing"


@torch.no_grad()
def fed_call_by_call(case, model, new_cache, start_text):
    x, cache, logits = case.inputs, new_cache(model.config), []
    for call in range(case.parameters["calls"]):
        fed = x["call"] == call
        positions = x["position"][fed].long()
        rejected = int(cache.get_seq_length()) - int(positions[0])
        if call > 0 and positions[0] == 0:
            cache = start_text(cache, model.config)
        elif rejected > 0:
            cache.crop(-rejected)
        logits.append(model(input_ids=x["tokens"][fed].long()[None], position_ids=positions[None],
                            past_key_values=cache, use_cache=True).logits[0])
    return torch.cat(logits)


def judge(dtype, new_cache, start_text, goes_back=lambda cache: True):
    oracle = Oracle("decode")
    for case in oracle:
        model = model_of(case, dtype, "sdpa")
        if not model or case.parameters["longest_rollback"] > 0 and not goes_back(new_cache(model.config)):
            case.skip()
            continue
        try:
            case.give(logits=fed_call_by_call(case, model, new_cache, start_text))
        except RuntimeError:  # crop() has left no more than the window, and can't go further back
            case.skip()
    return oracle.check()


def new_dynamic(config):
    cache = DynamicCache(config=config)
    cache.activate_past_recording()  # or layers with a window refuse to go back
    return cache


def new_static(config):
    return StaticCache(config=config, max_cache_len=config.max_position_embeddings)


def reset(cache, config):
    cache.reset()
    return cache


def dynamic(dtype):
    return judge(dtype, new_dynamic, lambda cache, config: new_dynamic(config))


def static(dtype):
    """One cache for all texts. Where it says that it can't go back, it isn't asked to."""
    return judge(dtype, new_static, reset, goes_back=lambda cache: cache.is_croppable)


def static_cropped_anyway(dtype):
    return judge(dtype, new_static, reset)
