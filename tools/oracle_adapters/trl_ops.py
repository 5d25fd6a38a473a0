# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities and entropies of TRL, judged by the oracle."""

from torch.nn.functional import linear
from trl.trainer.utils import selective_log_softmax_and_entropy

import torch_ops


def logprob(p, x):
    logits, targets = linear(x["x"], x["w"])[None], x["targets"].long()[None]
    logp, entropy = selective_log_softmax_and_entropy(logits, targets, temperature=p["temperature"])
    return {"logp": logp[0], "entropy": entropy[0]}


def selective_log_softmax(dtype):
    return torch_ops.judge({"logprob": logprob}, dtype)
