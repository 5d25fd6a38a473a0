# SPDX-License-Identifier: Apache-2.0
"""generate() of transformers with its caches, judged by the oracle.

The library draws noise of its own, so the cases' noise goes in through a logits processor, and the choice is greedy.
"""

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from oracle_client import Oracle
from transformers_decoder import model_of

PAD = 0  # the end of text, as in models without a padding token


class GumbelNoise(LogitsProcessor):
    """Draws at a temperature: argmax of logits / temperature + noise [B, M, V]."""

    def __init__(self, temperature, noise, prompt_length):
        self.temperature, self.noise, self.prompt_length = temperature, noise, prompt_length

    def __call__(self, input_ids, scores):
        if self.temperature == 0:
            return scores
        return scores / self.temperature + self.noise[:, input_ids.shape[1] - self.prompt_length]


def judge(dtype, with_mask=True, pads_in_front=True, **options):
    oracle = Oracle("rollout")
    for case in oracle:
        model = model_of(case, dtype, "sdpa")
        if not model:
            case.skip()
            continue
        p, x = case.parameters, case.inputs
        prompts = x["prompts"].long()  # padded behind
        if pads_in_front:
            prompts = torch.stack([row.roll(int((row < 0).sum())) for row in prompts])
        is_token = prompts >= 0
        noise = GumbelNoise(p["temperature"], x["noise"].to(dtype), prompts.shape[1])
        result = model.generate(
            prompts.where(is_token, PAD), attention_mask=is_token.long() if with_mask else torch.ones_like(prompts),
            logits_processor=LogitsProcessorList([noise]), do_sample=False, max_new_tokens=p["max_new_tokens"],
            eos_token_id=p["eos_token_id"], pad_token_id=PAD, output_logits=True, return_dict_in_generate=True,
            **options)
        tokens = result.sequences[:, prompts.shape[1]:]
        logp = torch.stack(result.logits, dim=1).to(dtype).log_softmax(-1).gather(2, tokens[..., None])[..., 0]
        ended = (tokens == p["eos_token_id"]).cumsum(1)
        after_the_end = ended - (tokens == p["eos_token_id"]).long() > 0
        rest = (0, p["max_new_tokens"] - tokens.shape[1])  # generate() stops when all sequences have ended
        case.give(tokens=torch.nn.functional.pad(tokens.masked_fill(after_the_end, -1), rest, value=-1),
                  logp=torch.nn.functional.pad(logp.masked_fill(after_the_end, 0), rest),
                  length=(~after_the_end).sum(1))
    return oracle.check()


def generate(dtype):
    return judge(dtype)


def generate_static_cache(dtype):
    return judge(dtype, cache_implementation="static")


def generate_without_cache(dtype):
    return judge(dtype, use_cache=False)


def generate_without_mask(dtype):
    """Without an attention mask padding before shorter prompts is taken for tokens."""
    return judge(dtype, with_mask=False)


def generate_right_padded_without_mask(dtype):
    return judge(dtype, with_mask=False, pads_in_front=False)
