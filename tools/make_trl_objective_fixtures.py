#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/objectives_trl.safetensors: what the code of TRL gives for batches of make_objective_fixtures.py.

    python3 tools/make_trl_objective_fixtures.py        needs torch, safetensors and trl; their versions are recorded

The numbers come from TRL's own lines: `_generate_and_score_completions` makes the advantages and `_compute_loss` the
loss, of a GRPOTrainer or RLOOTrainer that was never initialised: it has the attributes that those two methods read,
"generates" the batch's completions, and gets the batch's log-probabilities wherever it would run a model. All in f64, on
one process and without accumulation, so that TRL's normalisers are those of the whole batch. The file is laid out as
objectives.safetensors is, with advantages, dlogp, dentropy and loss. Where TRL spells a switch otherwise or means
something else by it, `CASES` and `trl_arguments` translate, and say so.
"""

import collections
import types

import accelerate
import safetensors
import torch
import transformers
import trl
from make_objective_fixtures import F64, LONGEST, OUT, make_batches, resolve, without_truncated, write
from trl.rewards import get_soft_overlong_punishment
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

PAD, EOS, TOKEN = 0, 1, 2

# (batch, our switches, TRL's loss_type). In TRL the entropy bonus is a mean over tokens whatever the loss_type, so it is
# tried with token means only.
CASES = [
    *((batch, {"objective": name}, loss_type)
      for name, loss_type in (("grpo", "grpo"), ("dr_grpo", "dr_grpo"), ("gspo", "grpo"), ("cispo", "cispo"))
      for batch in ("mixed", "truncated_left_out", "empty", "far", "no_spread")),
    *((batch, {"objective": "grpo"}, "grpo") for batch in ("pairs", "on_policy")),
    *((batch, {"objective": "gspo"}, "grpo") for batch in ("near", "on_policy")),
    # TRL counts all tokens of a completion for its length, we the sampled ones: no masked tokens here.
    *((batch, {"objective": "dapo"}, "dapo") for batch in ("pairs", "far", "no_spread")),
    *((batch, {"objective": "dapo", "overlong_share": 0.0}, "dapo") for batch in ("mixed", "empty")),
    ("far", {"objective": "dapo", "overlong_share": 0.0}, "bnpo"),  # on one micro-batch the same as "dapo"
    *(("mixed", {"objective": name, "beta": 0.1}, loss_type)
      for name, loss_type in (("grpo", "grpo"), ("dr_grpo", "dr_grpo"), ("gspo", "grpo"), ("cispo", "cispo"))),
    *(("mixed", {"objective": "grpo", "scale_rewards": scale, "epsilon": 0.1, "epsilon_high": 0.3}, "grpo")
      for scale in ("none", "batch")),
    *((batch, {"objective": "grpo", "normalizer": "token-mean", "entropy_coef": 0.05, "beta": 0.04}, "dapo")
      for batch in ("mixed", "empty")),
    ("mixed", {"objective": "cispo", "entropy_coef": 0.05}, "cispo"),
    # TRL's RLOO knows no masked tokens.
    *((batch, {"objective": "rloo"}, None) for batch in ("pairs", "far", "near", "no_spread")),
    *((batch, {"objective": "rloo", "beta": 0.05}, None) for batch in ("pairs", "far")),
]


def trl_arguments(s, loss_type):
    """TRL's attributes for our resolved switches."""
    return {
        "loss_type": loss_type,
        "epsilon_low": s["epsilon"],
        # With "cispo", TRL's epsilon_high is the cap itself, not what it exceeds 1 by.
        "epsilon_high": 1 + s["epsilon_high"] if loss_type == "cispo" else s["epsilon_high"],
        "importance_sampling_level": "sequence" if s["ratio"] == "sequence-mean" else "token",
        "scale_rewards": s["scale_rewards"],
        "beta": s["beta"],
        "entropy_coef": s["entropy_coef"],
        "_entropy_bonus_enabled": s["entropy_coef"] != 0,
    }


def completion_ids(batch):
    return [[TOKEN] * (n - 1) + [TOKEN if n == LONGEST else EOS] if n > 0 else [] for n in batch.lengths]


def rewards_per_function(batch, s):
    """[N, functions]: the batch's, and DAPO's overlong punishment by TRL's function."""
    if s["overlong_share"] == 0:
        return batch.rewards[:, None]
    punish = get_soft_overlong_punishment(max_completion_len=LONGEST, soft_punish_cache=s["overlong_share"] * LONGEST)
    return torch.stack([batch.rewards, torch.tensor(punish(completion_ids(batch)), dtype=F64)], dim=1)


def make_trainer(kind, batch, s, logp, entropy, leave_out_truncated):
    trainer = object.__new__(kind)
    policy = types.SimpleNamespace(training=True, is_gradient_checkpointing=False)
    reference = types.SimpleNamespace()
    ids = completion_ids(batch)
    width = max(batch.lengths)

    def per_token(model, *_, compute_entropy=False, **__):
        if model is reference:
            return batch.ref_logp[:, :width], None, None
        if compute_entropy:  # the loss asks for the entropy too, the scoring before it does not
            return logp[:, :width], entropy[:, :width], None
        return batch.old_logp[:, :width], None, None

    def generate(prompts):
        if kind is RLOOTrainer:
            return [[TOKEN]] * len(ids), ids, [""] * len(ids)
        tool_mask = [row[:n].tolist() for row, n in zip(batch.mask, batch.lengths)]
        return [[TOKEN]] * len(ids), ids, tool_mask, [""] * len(ids), None, {}, None, None

    rewards = rewards_per_function(batch, s)
    functions = [f"reward {i}" for i in range(rewards.shape[1])]
    vars(trainer).update(
        model=policy, ref_model=reference, _get_per_token_logps_and_entropies=per_token, _generate=generate,
        _calculate_rewards=lambda *_: rewards, reward_weights=torch.ones(len(functions), dtype=F64),
        reward_funcs=functions, reward_func_names=functions, num_generations=batch.group_size,
        max_completion_length=LONGEST, mask_truncated_completions=leave_out_truncated,
        # Two iterations a generation make TRL take the old log-probabilities from the model that sampled.
        num_iterations=2, current_gradient_accumulation_steps=1, accelerator=accelerate.Accelerator(cpu=True),
        args=types.SimpleNamespace(steps_per_generation=1, gradient_accumulation_steps=1, delta=None,
                                   per_device_train_batch_size=len(ids), use_bias_correction_kl=False,
                                   gradient_checkpointing_kwargs=None, report_to=[]),
        _tokenizer=types.SimpleNamespace(pad_token_id=PAD), eos_token_ids=[EOS], pad_to_multiple_of=None, tools=None,
        environments=None, environment_factories=None, _is_vlm=False, use_vllm=False, aux_loss_enabled=False, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, use_adaptive_entropy=False, multi_objective_aggregation="sum_then_normalize",
        reward_clip_range=None, normalize_advantages=False, chat_template_kwargs={},
        _metrics={"train": collections.defaultdict(list)}, _pending_extra_logs={}, _pending_metrics={},
        _logs={"prompt": [], "completion": [], "rewards": collections.defaultdict(list), "advantages": [], "extra": {}})
    return trainer


def compute(batch, s, loss_type, leave_out_truncated):
    logp = batch.logp.clone().requires_grad_()
    entropy = batch.entropy.clone().requires_grad_()
    trainer = make_trainer(GRPOTrainer if loss_type else RLOOTrainer, batch, s, logp, entropy, leave_out_truncated)
    vars(trainer).update(trl_arguments(s, loss_type))
    inputs = trainer._generate_and_score_completions([{"prompt": ""}] * len(batch.lengths))
    loss = trainer._compute_loss(trainer.model, inputs)
    assert loss.dtype == F64 and inputs["advantages"].dtype == F64
    loss.backward()
    counted = (without_truncated(batch) if leave_out_truncated else batch).mask.bool()
    assert (logp.grad[~counted] == 0).all()
    tensors = {"advantages": inputs["advantages"][:, None].expand(-1, LONGEST), "dlogp": logp.grad}
    if s["entropy_coef"] != 0:
        tensors["dentropy"] = entropy.grad
    return {name: t[counted].clone() for name, t in tensors.items()}, {"trl_loss_type": loss_type, "loss": loss.item()}


def main():
    torch.set_default_dtype(F64)  # in which TRL's nanstd computes n / (n - 1)
    batches = make_batches()
    cases = []
    for batch, switches, loss_type in CASES:
        # TRL leaves the truncated out itself.
        leave_out = batch == "truncated_left_out"
        results = compute(batches["mixed" if leave_out else batch], resolve(switches), loss_type, leave_out)
        cases.append((batch, switches, *results))
    versions = {"trl": trl.__version__, "transformers": transformers.__version__,
                "torch": torch.__version__.split("+")[0], "safetensors": safetensors.__version__}
    write(OUT / "objectives_trl.safetensors", "tools/make_trl_objective_fixtures.py", versions, batches, cases)


if __name__ == "__main__":
    main()
