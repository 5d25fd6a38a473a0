#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/objectives.safetensors: what the formulas of the objectives give for small batches of made-up numbers.

    python3 tools/make_objective_fixtures.py        needs torch and safetensors; their versions are recorded in the file

The formulas are those of the papers, on rectangles [N, T] of tokens with a mask and in f64; a constant is a detached
tensor, and all derivatives are autograd's. A file holds, for every batch B of N completions,

    B.mask                                  i32 [N, T] 1 where a token was sampled; 0 for padding and for a tool's output
    B.logp, B.old_logp, B.ref_logp, B.entropy   f64 [N, T] numbers without meaning where the mask is 0
    B.rewards                               f64 [N]

and for every case C, of the n tokens under its batch's mask, row by row,

    C.advantages                            f64 [n]
    C.terms                                 f64 [n] policy + beta KL - entropy_coef H
    C.weights                               f64 [n] dL/d(terms)
    C.dlogp, C.dentropy                     f64 [n] dL/dlogp, and dL/dentropy where there is a bonus

The metadata key "fixture" is a JSON object: script, versions, batches {B: group size}, and cases, each with its name,
batch, switches (rl/objective_names.h), loss, kl (the sum of the estimates in the loss) and clipped (tokens).
tests/objective_fixture_test.cc compares the library with them.
"""

import dataclasses
import json
import pathlib

import safetensors
import safetensors.torch
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
F64 = torch.float64
LONGEST = 9  # tokens; a completion as long as this was truncated

# The switches that make up each name, as the papers define them.
NAMED = {
    "reinforce": dict(baseline="group-mean", ratio="none", clip="none", normalizer="sequence-sum", kl="k1",
                      kl_in="reward"),
    "rloo": dict(baseline="leave-one-out", ratio="sequence", clip="ppo", normalizer="sequence-mean", kl="k1",
                 kl_in="reward"),
    "reinforce++": dict(baseline="none", whiten=True, kl="k1", kl_in="return"),
    "reinforce++-baseline": dict(baseline="group-mean", whiten=True, kl="k2"),
    "grpo": dict(scale_rewards="group", normalizer="sequence-mean"),
    "dr_grpo": dict(normalizer="constant"),
    "dapo": dict(scale_rewards="group", epsilon_high=0.28, overlong_share=0.2),
    "gspo": dict(scale_rewards="group", ratio="sequence-mean", epsilon=3e-4, epsilon_high=4e-4,
                 normalizer="sequence-mean"),
    "cispo": dict(scale_rewards="group", clip="weight", epsilon_high=4.0),
    "opd": dict(reward_weight=0.0, clip="none", kl="k1", kl_in="advantage", beta=1.0),
}
COMMON = dict(reward_weight=1.0, baseline="group-mean", scale_rewards="none", whiten=False, ratio="token", clip="ppo", epsilon=0.2,
              epsilon_high=0.2, normalizer="token-mean", kl="k3", kl_in="loss", beta=0.0, entropy_coef=0.0,
              overlong_share=0.0)


@dataclasses.dataclass
class Batch:
    group_size: int
    lengths: list  # as generated, with tokens that do not count
    mask: torch.Tensor
    logp: torch.Tensor
    old_logp: torch.Tensor
    ref_logp: torch.Tensor
    entropy: torch.Tensor
    rewards: torch.Tensor


def make_batch(seed, group_size, lengths, rewards, drift, masked=()):
    """Completions of these lengths, but for the tokens `masked` [(completion, token)]; log p moved by about drift."""
    generator = torch.Generator().manual_seed(seed)

    def normal():
        return torch.randn(len(lengths), LONGEST, dtype=F64, generator=generator)

    mask = (torch.arange(LONGEST) < torch.tensor(lengths)[:, None]).to(torch.int32)
    for completion, token in masked:
        mask[completion, token] = 0
    old = -normal().abs() - 0.05
    return Batch(group_size, list(lengths), mask, old + drift * normal(), old, old + 0.4 * normal(), normal().abs(),
                 torch.tensor(rewards, dtype=F64))


def without_truncated(batch):
    """The same, no token of a truncated completion counting; its reward still does."""
    mask = batch.mask.clone()
    mask[torch.tensor(batch.lengths) == LONGEST] = 0
    return dataclasses.replace(batch, mask=mask)


def make_batches():
    mixed = make_batch(1, 4, [9, 5, 3, 1, 7, 9, 2, 6], [0, 1, 0.1, 1, 0.5, 0, 1, 0], 0.3,
                       masked=[(0, 3), (0, 4), (4, 0), (7, 5)])
    return {
        "mixed": mixed,
        "truncated_left_out": without_truncated(mixed),
        # An empty group with spread, one without spread and with an empty completion, one whose longest is all masked.
        "empty": make_batch(2, 4, [0, 0, 0, 0, 3, 0, 9, 2, 4, 6, 1, 8], [0, 1, 0, 0, 0.1, 0.1, 0.1, 0.1, 1, 0, 0.5, 0],
                            0.3, masked=[(9, t) for t in range(6)]),
        "pairs": make_batch(3, 2, [1, 9, 2, 2, 4, 7, 3, 3], [1, 0, 0.1, 0.1, 0, 0.7, 1, 0.2], 0.3),
        "far": make_batch(14, 5, [9, 4, 2, 6, 3, 1, 8, 5, 2, 7], [1, 0, 0.3, 0, 0, 0, 1, 1, 0.9, 1], 1.8),
        "near": make_batch(5, 4, [3, 9, 1, 4, 8, 2, 5, 6], [1, 0, 0, 0.2, 1, 1, 0, 1], 6e-4),
        "on_policy": make_batch(6, 4, [2, 7, 4, 9, 1, 5, 3, 3], [0, 1, 0, 0, 1, 0.4, 1, 0], 0.0, masked=[(1, 2)]),
        "no_spread": make_batch(7, 2, [3, 9, 1, 2, 5, 4], [1, 1, 0, 0, 1, 1], 0.3),
        "all_empty": make_batch(8, 2, [0, 0, 0, 0], [1, 0, 0, 0], 0.3),
        "alone": make_batch(9, 1, [4, 9, 1, 3, 6], [1, 0, 0.2, 1, 0], 0.3),
    }


def kl_estimate(kind, logp, ref_logp):
    log_r = ref_logp - logp  # r = p_ref / p, in the words of Schulman's note on approximating the KL
    if kind == "k1":
        return -log_r
    if kind == "k2":
        return log_r.square() / 2
    return (log_r.exp() - 1) - log_r


def compute_advantages(batch, s):
    """A [N, T]."""
    counts = batch.mask.sum(1).to(F64)
    rewards = s["reward_weight"] * batch.rewards
    if s["overlong_share"] > 0:  # DAPO, equation 13, with L_cache = share * L_max
        cache = s["overlong_share"] * LONGEST
        over = (counts - (LONGEST - cache)) / cache
        rewards -= over.clamp(0, 1)
    sampled_kl = s["beta"] * kl_estimate(s["kl"], batch.old_logp, batch.ref_logp) * batch.mask
    if s["kl_in"] == "reward":
        rewards = rewards - sampled_kl.sum(1)
    groups = rewards.view(-1, batch.group_size)
    centred = groups
    if s["baseline"] == "group-mean":
        centred = groups - groups.mean(1, keepdim=True)
    elif s["baseline"] == "leave-one-out":
        others = (1 - torch.eye(batch.group_size, dtype=F64)) / (batch.group_size - 1)
        centred = groups - groups @ others
    if s["scale_rewards"] == "group":
        centred = centred / (groups.std(1, keepdim=True) + 1e-4)
    elif s["scale_rewards"] == "batch":
        centred = centred / (rewards.std() + 1e-4)
    advantages = centred.reshape(-1, 1).expand(-1, LONGEST)
    if s["kl_in"] == "return":
        advantages = advantages - sampled_kl.flip(1).cumsum(1).flip(1)
    if s["kl_in"] == "advantage":
        advantages = advantages - sampled_kl
    if s["whiten"] and batch.mask.any():
        counted = advantages[batch.mask.bool()]
        advantages = (advantages - counted.mean()) / (counted.var() + 1e-8).sqrt()
    return advantages


def compute_ratio(batch, logp, kind):
    log_ratio = logp - batch.old_logp
    if kind == "token":
        return log_ratio.exp()
    total = (log_ratio * batch.mask).sum(1, keepdim=True)
    if kind == "sequence-mean":
        total = total / batch.mask.sum(1, keepdim=True).clamp(min=1)
    return total.exp().expand(-1, LONGEST)


def policy_objective(batch, logp, advantages, s):
    """What the policy's part maximises for each token, and which tokens' ratio the clip has replaced."""
    if s["ratio"] == "none":
        return advantages * logp, torch.zeros_like(batch.mask)
    ratio = compute_ratio(batch, logp, s["ratio"])
    low, high = 1 - s["epsilon"], 1 + s["epsilon_high"]
    if s["clip"] == "weight":
        return ratio.clamp(max=high).detach() * advantages * logp, ratio > high
    if s["clip"] == "none":
        return ratio * advantages, torch.zeros_like(batch.mask)
    clipped = ((advantages > 0) & (ratio > high)) | ((advantages < 0) & (ratio < low))
    return torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages), clipped


def aggregate(terms, mask, normalizer):
    terms = terms * mask
    if normalizer == "token-mean":
        return terms.sum() / mask.sum().clamp(min=1)
    if normalizer == "sequence-mean":
        return (terms.sum(1) / mask.sum(1).clamp(min=1)).mean()
    if normalizer == "sequence-sum":
        return terms.sum(1).mean()
    return terms.sum() / (len(mask) * LONGEST)  # constant


def compute(batch, s):
    """The tensors and the numbers of a case."""
    logp = batch.logp.clone().requires_grad_()
    entropy = batch.entropy.clone().requires_grad_()
    advantages = compute_advantages(batch, s)
    objective, clipped = policy_objective(batch, logp, advantages, s)
    kl = torch.zeros_like(logp)
    if s["beta"] > 0 and s["kl_in"] == "loss":
        kl = kl_estimate(s["kl"], logp, batch.ref_logp)
    terms = -objective + s["beta"] * kl - s["entropy_coef"] * entropy
    terms.retain_grad()
    loss = aggregate(terms, batch.mask, s["normalizer"])
    loss.backward()
    counts = batch.mask.bool()
    tensors = {"advantages": advantages, "terms": terms, "weights": terms.grad, "dlogp": logp.grad}
    if s["entropy_coef"] != 0:
        tensors["dentropy"] = entropy.grad
    for gradient in (logp.grad, entropy.grad, terms.grad):
        assert (gradient[~counts] == 0).all(), "a token that does not count has a gradient"
    numbers = {"loss": loss.item(), "kl": kl[counts].sum().item(), "clipped": int((clipped * batch.mask).sum())}
    return {name: t.detach()[counts].clone() for name, t in tensors.items()}, numbers


def make_cases():
    """(batch, switches): each name on every batch, and each switch by itself on those that try it most."""
    for name in NAMED:
        for batch in ("mixed", "truncated_left_out", "empty", "pairs", "far", "on_policy", "no_spread", "all_empty"):
            yield batch, {"objective": name}
    for name in ("grpo", "gspo", "rloo"):
        yield "near", {"objective": name}
    for batch in ("alone", "no_spread"):
        yield batch, {"objective": "reinforce++", "kl_in": "reward", "beta": 0.2}
    yield "alone", {"objective": "reinforce++"}
    for name in NAMED:
        yield "mixed", {"objective": name, "beta": 0.1, "entropy_coef": 0.01}
    for batch in ("mixed", "empty"):
        for kl in ("k1", "k2", "k3") if batch == "mixed" else ("k3",):
            for kl_in in ("loss", "reward", "return"):
                yield batch, {"objective": "grpo", "kl": kl, "kl_in": kl_in, "beta": 0.3}
        for normalizer in ("token-mean", "sequence-mean", "constant", "sequence-sum"):
            yield batch, {"objective": "grpo", "normalizer": normalizer, "entropy_coef": 0.05, "beta": 0.1}
    for baseline in ("group-mean", "leave-one-out"):
        for scale in ("none", "group", "batch"):
            yield "pairs", {"objective": "grpo", "baseline": baseline, "scale_rewards": scale}
    for baseline in ("none", "group-mean", "leave-one-out"):
        yield "empty", {"objective": "dr_grpo", "baseline": baseline, "whiten": True}
    for ratio in ("token", "sequence", "sequence-mean"):
        for clip in ("none", "ppo", "weight"):
            yield "far", {"objective": "dapo", "ratio": ratio, "clip": clip}
    yield "far", {"objective": "grpo", "epsilon_high": 0.6}
    yield "far", {"objective": "grpo", "epsilon": 0.05}  # of both sides
    yield "mixed", {"objective": "dapo", "overlong_share": 0.5}
    yield "mixed", {"objective": "dapo", "overlong_share": 1.0}
    for batch in ("mixed", "empty", "far"):
        yield batch, {"objective": "opd", "reward_weight": 0.5, "beta": 0.25}
    for switches in ({"kl": "k2"}, {"kl": "k3"}, {"whiten": True}):
        yield "mixed", {"objective": "grpo", "kl_in": "advantage", "beta": 0.3} | switches


def resolve(switches):
    s = COMMON | NAMED[switches["objective"]]
    if "epsilon" in switches:
        s["epsilon_high"] = switches["epsilon"]
    return s | {name: value for name, value in switches.items() if name != "objective"}


def label(batch, switches):
    return " ".join(str(v) if k == "objective" else f"{k}={v}" for k, v in switches.items()) + " on " + batch


def check_beyond_clips(batches, name):
    """That the batches try this objective with ratios beyond its clips, below and above, for advantages of both signs."""
    s = resolve({"objective": name})
    if s["clip"] == "none":
        return
    seen = set()
    for batch in batches.values():
        if batch.group_size == 1:
            continue
        advantages = compute_advantages(batch, s)
        ratio = compute_ratio(batch, batch.logp, s["ratio"])
        for a, r in zip(advantages[batch.mask.bool()].sign().tolist(), ratio[batch.mask.bool()].tolist()):
            seen.add((a, "above" if r > 1 + s["epsilon_high"] else "below" if r < 1 - s["epsilon"] else "within"))
    assert {(a, where) for a in (-1, 1) for where in ("above", "below", "within")} <= seen, (name, seen)


def write(path, script, versions, batches, cases):
    """`cases` [(batch, switches, tensors, numbers)]; of the batches, those that the cases need."""
    tensors, listed = {}, []
    used = {name: batches[name] for name in dict.fromkeys(case[0] for case in cases)}
    for name, batch in used.items():
        for field in ("mask", "logp", "old_logp", "ref_logp", "entropy", "rewards"):
            tensors[f"{name}.{field}"] = getattr(batch, field).clone()  # batches may share some
    for index, (batch, switches, results, numbers) in enumerate(cases):
        tensors |= {f"{index}.{name}": t for name, t in results.items()}
        switches = switches | {"max_completion_length": LONGEST}
        listed.append({"name": label(batch, switches), "batch": batch, "switches": switches, **numbers})
    assert len({case["name"] for case in listed}) == len(listed), "a case is there twice"
    fixture = {"script": script, "versions": versions, "batches": {n: b.group_size for n, b in used.items()},
               "cases": listed}
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, path, {"fixture": json.dumps(fixture)})
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")


def main():
    batches = make_batches()
    for name in NAMED:
        check_beyond_clips(batches, name)
    cases = [(batch, switches, *compute(batches[batch], resolve(switches))) for batch, switches in make_cases()]
    versions = {"torch": torch.__version__.split("+")[0], "safetensors": safetensors.__version__}
    write(OUT / "objectives.safetensors", "tools/make_objective_fixtures.py", versions, batches, cases)


if __name__ == "__main__":
    main()
