# SPDX-License-Identifier: Apache-2.0
"""GRPOTrainer and RLOOTrainer of TRL from rewards to the loss and its gradient, judged by the oracle.

A trainer is made as a user makes it, around a model that never runs: the cases' log-probabilities and rewards stand in
for what it would compute. All else is the library's: scoring, advantages, terms, masks, normalisers.
"""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from oracle_client import Oracle


def make(kind, config, case, dtype, **settings):
    """A trainer whose model, reference and rewards are the case's. Two iterations, so that it looks at old_logp."""
    p = case.parameters
    x = {name: t.to(dtype) if t.is_floating_point() else t for name, t in case.inputs.items()}
    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    model = LlamaForCausalLM(LlamaConfig(vocab_size=2, hidden_size=2, intermediate_size=2, num_hidden_layers=1,
                                         num_attention_heads=1, num_key_value_heads=1, eos_token_id=1))
    with tempfile.TemporaryDirectory() as directory:
        arguments = config(output_dir=directory, use_cpu=True, bf16=False, report_to=[], num_iterations=2, beta=0.0,
                           per_device_train_batch_size=len(x["rewards"]), num_generations=p["group_size"],
                           max_completion_length=p["max_completion_length"], reward_weights=[p["reward_weight"]],
                           epsilon=p["epsilon"], **settings)
        trainer = kind(model=model, reward_funcs=lambda **_: None, args=arguments, processing_class=PreTrainedTokenizerFast(
            tokenizer_object=words, eos_token="</s>", pad_token="</s>"), train_dataset=Dataset.from_list([{"prompt": ""}]))
    trainer.beta, trainer.ref_model = p["beta"], "reference"
    trainer.current_gradient_accumulation_steps = 1
    now = x["logp"].requires_grad_()
    tables = {model: x["old_logp"], "reference": x["ref_logp"], "now": now}
    trainer._get_per_token_logps_and_entropies = lambda of, *_, **__: (tables[of], x["entropy"], None)
    trainer._calculate_rewards = lambda *_: x["rewards"][:, None]
    return trainer, now


def give(case, trainer, now):
    """Scores the completions, takes the loss, and hands both in."""
    scored = trainer._generate_and_score_completions([{"prompt": ""}] * len(now))
    loss = trainer.compute_loss("now", scored)
    mask = case.inputs["mask"]
    advantages = torch.zeros_like(now) + scored["advantages"][:, None] * mask
    # Reward weights are f32, and so is what they touch; but a loss of log-probabilities in bf16 is as exact as these.
    case.give(advantages=advantages, loss=loss.to(now.dtype), dlogp=torch.autograd.grad(loss, now)[0])


def grpo_settings(p):
    """GRPOConfig's settings for a case's switches, or None where it has no such objective."""
    kinds = {("ppo", "sequence-mean"): "grpo", ("ppo", "token-mean"): "dapo", ("ppo", "constant"): "dr_grpo",
             ("ppo", "sequence-sum"): "luspo", ("weight", "token-mean"): "cispo"}
    levels = {"token": "token", "sequence-mean": "sequence"}
    kind, level = kinds.get((p["clip"], p["normalizer"])), levels.get(p["ratio"])
    other_kl = p["beta"] != 0 and (p["kl"], p["kl_in"]) != ("k3", "loss")
    if not kind or not level or other_kl or p["baseline"] != "group-mean" or p["whiten"]:
        return None
    if p["entropy_coef"] != 0 or p["overlong_share"] > 0:
        return None
    high = p["epsilon_high"] + (1 if kind == "cispo" else 0)  # TRL's is the cap of CISPO's weight itself
    return {"loss_type": kind, "importance_sampling_level": level, "epsilon_high": high, "scale_rewards": p["scale_rewards"]}


def grpo(dtype, bias_corrected_kl=False):
    oracle = Oracle("loss")
    for case in oracle:
        settings = grpo_settings(case.parameters)
        if not settings:
            case.skip()
            continue
        trainer, now = make(GRPOTrainer, GRPOConfig, case, dtype, use_bias_correction_kl=bias_corrected_kl, **settings)
        rows = [[0] * now.shape[1] for _ in now]
        trainer._generate = lambda _: ([[0]] * len(rows), rows, case.inputs["mask"].tolist(), [""] * len(rows), None, {},
                                       None, [])
        give(case, trainer, now)
    return oracle.check(outputs=["advantages", "loss", "dlogp"])


def grpo_by_default(dtype):
    """The KL times the ratio, as TRL has it unless told otherwise."""
    return grpo(dtype, bias_corrected_kl=True)


def rloo(dtype):
    oracle = Oracle("loss")
    for case in oracle:
        p, mask = case.parameters, case.inputs["mask"]
        other_kl = p["beta"] != 0 and (p["kl"], p["kl_in"]) != ("k1", "reward")
        lengths = mask.sum(1)
        gaps_or_empty = (mask[:, 1:] > mask[:, :-1]).any() or (lengths == 0).any()
        if (p["ratio"], p["clip"], p["baseline"]) != ("sequence", "ppo", "leave-one-out") or other_kl or gaps_or_empty:
            case.skip()
            continue
        trainer, now = make(RLOOTrainer, RLOOConfig, case, dtype, epsilon_high=p["epsilon_high"])
        rows = [[0] * n for n in lengths.tolist()]
        trainer._generate = lambda _: ([[0]] * len(rows), rows, [""] * len(rows))
        give(case, trainer, now)
    return oracle.check(outputs=["advantages", "loss", "dlogp"])
