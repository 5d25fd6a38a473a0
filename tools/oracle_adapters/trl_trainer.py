# SPDX-License-Identifier: Apache-2.0
"""Trainers of TRL for the oracle's cases: made as a user makes them, around a model that never runs. The cases'
log-probabilities and rewards stand in for what it would compute; all else is the library's."""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def make(kind, config, case, x, **settings):
    """A trainer with a case's numbers. Where it asks the model "now" it gets logp, with two iterations old_logp too."""
    p, (completions, width) = case.parameters, x["mask"].shape
    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>")
    model = LlamaForCausalLM(LlamaConfig(vocab_size=2, hidden_size=2, intermediate_size=2, num_hidden_layers=1,
                                         num_attention_heads=1, num_key_value_heads=1, eos_token_id=1))
    with tempfile.TemporaryDirectory() as directory:
        arguments = config(output_dir=directory, use_cpu=True, bf16=False, report_to=[], num_iterations=2, beta=0.0,
                           per_device_train_batch_size=completions, num_generations=p["group_size"],
                           max_completion_length=p["max_completion_length"], **settings)
        trainer = kind(model=model, reward_funcs=lambda **_: None, args=arguments, processing_class=tokenizer,
                       train_dataset=Dataset.from_list([{"prompt": ""}]))
    trainer.beta, trainer.ref_model = p["beta"], "reference"
    trainer.current_gradient_accumulation_steps = 1
    tables = {model: x.get("old_logp"), "reference": x.get("ref_logp"), "now": x.get("logp")}
    entropy = x.get("entropy", torch.zeros(completions, width))
    trainer._get_per_token_logps_and_entropies = lambda of, *_, **__: (tables[of], entropy, None)
    return trainer


def in_dtype(case, dtype):
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in case.inputs.items()}
