#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/gsm8k_harness.json: what lm-evaluation-harness does in its task "gsm8k", for tests/gsm8k_test.cc.

    python3 tools/make_gsm8k_fixtures.py                          needs lm_eval; versions are recorded in the file
    python3 tools/make_gsm8k_fixtures.py --check FILE [PROGRAM]   holds PROGRAM (build/swarr) to the harness on golds of
                                                                  FILE, GSM8K rows, and mangled completions

The task is made from the harness's own gsm8k.yaml. Changed are where its rows come from, a file made here, and the choice
of worked examples: the first ones, where the harness draws them. Prompts, filters and the metric are the harness's code.
"""

import importlib.metadata
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import lm_eval  # noqa: E402
import yaml  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "gsm8k_harness.json"

ROWS = [
    {"question": "Ann has 3 boxes of 4 pens. How many pens?", "answer": "3*4 = <<3*4=12>>12 pens.\n#### 12"},
    {"question": "  A $1,200 bike is 15% off.\nWhat does it cost? ",
     "answer": "It costs 1200 * .85 = $<<1200*.85=1020>>1,020.\n#### 1,020"},
    {"question": "It is 5\u00b0C and gets 12\u00b0 colder.", "answer": "5-12 = <<5-12=-7>>-7\n\n#### -7"},
    {"question": "{{question}} <<1+1>>", "answer": "caf\u00e9 \u2014 \u00bd\n#### 2"},
    {"question": "Answer: 3?", "answer": "Question: 3!\n#### 3"},
    {"question": "Tab\there", "answer": " led by a blank\n#### 0"},
]

CASES = [
    ("72", x) for x in (
        "#### 72", "#### 72.", "#### 72..", "#### 72.0", "####72", "####  72", "##### 72", "#### $72", "#### -72",
        "#### +72", "#### \u221272", "#### 72%", "#### 72 dollars", "#### 7 2", "#### 7,2", "#### ,72", "#### .72",
        "#### 72,", "#### 72,.", "#### 72.,", "#### \u0667\u0662", "#### \uff17\uff12", "#### \u2167", "#### x\n#### 72",
        "#### 72\n#### 5", "#### 5\n#### 72", "#### #### 72", "#### -#### 72", "72", " 72 ", "$72", "$72.", "72$",
        "72.", "72...", "72 .", "72. (3)", "72.\n\n", "1/72", "3-72", "3--72", "-72", "-$72", "$-72", "72-", "0072",
        "7.2e1", "72\u00b2", "72%", "so 72, then", "72, 73", "72,73", "72 $", "72 ..", "72 $.", "72 -", "72 -.", "",
        "none", ".", "..", "$", "-", ",", "####", "#### ", "#### .", "#### ,", "#### -", "[invalid]", "#### [invalid]",
        "#### 72\nQuestion: 5 #### 5", "Question: #### 72", "#### 72</s>5", "#### 7</s>2", "#### 72<|im_end|>5",
        "</s>#### 72", "5 <|im_end|> #### 72 </s>", "#### 72 Question", "#### 72\r\n", "\u00e9 72 \u00e9", "#### 72\u00e9",
    )
] + [
    ("[INVALID]", "none"), ("Half is 36.\n#### 72", "#### 72"), ("#### 1\n#### 72", "#### 72"), ("##,## 72", "#### 72"),
    ("1,234", "#### 1234"), ("$1,234.", "#### 1,234"), ("1234", "$1,234.00"), ("-5", "so 3--5"), ("-5", "#### -5."),
    ("0", "#### -0"), ("0.5", "#### .5"), (".5", "#### .5"), ("5.", "#### 5"), ("5..", "#### 5."), ("5..", "#### 5.."),
]

PARTS = ["#### ", "####", "# ", "-", "$", ",", ".", "%", " ", "\n", "0", "7", "72", "1,234", "3.5", "-8", "Question:",
         "</s>", "<|im_end|>", "so ", "\u0663", "\u00e9", "="]


def make_task(rows, directory):
    config = yaml.safe_load((pathlib.Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml").read_text())
    path = pathlib.Path(directory) / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config |= {"dataset_path": "json", "dataset_name": None, "fewshot_config": {"sampler": "first_n"},
               "dataset_kwargs": {"data_files": {split: str(path) for split in ("train", "test")}}}
    return ConfigurableTask(config=config)


def judge(task, gold, completion):
    """What the harness extracts from the completion, and whether it is right, for each filter."""
    doc = {"question": "", "answer": gold}
    text = postprocess_generated_text(completion, task.config.generation_kwargs["until"], None)
    instance = Instance("generate_until", doc, ("", {}), 0, resps=[text])
    task._instances = [instance]
    task.apply_filters()
    return {name: [extracted, bool(task.process_results(doc, [extracted])["exact_match"])]
            for name, extracted in instance.filtered_resps.items()}


def mangled(gold, rng):
    """Completions that say `gold`, or nearly."""
    plain = gold.replace(",", "")
    forms = [gold, plain, f"${gold}", f"{plain}.", f"{plain}.0", f"{plain}.00", f"-{plain}", f"{gold}%", f"{plain}.5",
             f"{gold},", f"{plain}\u00b0", plain.translate({48 + i: 0x660 + i for i in range(10)})]
    frames = ["#### {}", "####{}", "#### {}\n", "The answer is {}", "The answer is {}.", "it is\n#### {}\n#### 5",
              "#### 5\n#### {}", "so {} in 3 steps", "#### {}\n\nQuestion: what?\n#### 1", "a<<1+2=3>>3\n#### {} dollars"]
    return rng.choice(frames).format(rng.choice(forms))


def random_text(rng):
    return "".join(rng.choice(PARTS) for _ in range(rng.randint(1, 9)))


def write(task):
    rng = random.Random(1)
    golds = ["72", "1,234", "-7", "0", "3.5", "100000"]
    pairs = CASES + [(gold, mangled(gold, rng)) for gold in golds for _ in range(20)]
    pairs += [(rng.choice(golds), random_text(rng)) for _ in range(120)]
    pairs = list(dict.fromkeys(pairs))
    settings = normalize_gen_kwargs(task.config.generation_kwargs)
    head = {"script": "tools/make_gsm8k_fixtures.py",
            "versions": {name: importlib.metadata.version(name) for name in ("lm_eval", "datasets", "numpy")},
            "task_version": task.VERSION, "num_fewshot": task.config.num_fewshot, "settings": settings, "rows": ROWS,
            "prompts": {str(k): task.fewshot_context(ROWS[-1], k) for k in (0, 1, 5)}}
    lines = ",\n".join(json.dumps({"gold": gold, "completion": text, **judge(task, gold, text)}) for gold, text in pairs)
    OUT.write_text(f'{json.dumps(head)[:-1]}, "pairs": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(pairs)} pairs")


def check(task, path, program):
    rng = random.Random(2)
    with open(path, encoding="utf-8") as file:
        answers = [json.loads(line)["answer"] for line in file]
    pairs = [(answer, answer) for answer in answers[:1000]]
    pairs += [(answer, mangled(answer.split("#### ")[-1], rng)) for answer in rng.sample(answers, 1500)]
    pairs += [(rng.choice(answers), random_text(rng)) for _ in range(500)]
    differ = 0
    for gold, text in pairs:
        for name, (_, correct) in judge(task, gold, text).items():
            command = [program, "verify", f"--reward=gsm8k-{name}", f"--gold={gold}", f"--answer={text}", "--json"]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["correct"]
            if ours != correct:
                differ += 1
                print(f"{name}: gold {gold!r}, completion {text!r}: the harness says {correct}")
    print(f"{len(pairs)} pairs by two filters: {differ} verdicts differ")
    sys.exit(differ > 0)


def main():
    with tempfile.TemporaryDirectory() as directory:
        task = make_task(ROWS, directory)
    if sys.argv[1:2] == ["--check"]:
        check(task, sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "build/swarr")
    else:
        write(task)


if __name__ == "__main__":
    main()
