#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/distill.safetensors: what distillation gives for small heads of made-up numbers.

    python3 tools/make_distill_fixtures.py      needs torch, safetensors and trl; their versions are recorded in the file

The loss of sft --teacher, on N rows of which a mask chooses those in the loss, all in f64 and by the definition:

    L = (1 - A) CE + A T^2 KL, both means over the rows in the loss
    p = softmax(x w^T / T), q = softmax(teacher_x teacher_w^T / T), a constant
    KL = sum_v q log(q / p)  (forward)   or   sum_v p log(p / q)  (reverse);  CE = -log softmax(x w^T)[target]

Derivatives are autograd's. A file holds, for every batch B,

    B.x, B.w, B.teacher_x, B.teacher_w      f64 [N, C], [V, C], [N, E], [V, E]
    B.targets, B.mask                       i32 [N]

and for every case C

    C.kl                    f64 [N]     of all rows
    C.dx, C.dw              f64         dL/dx, dL/dw
    C.trl_kl, C.trl_dx      f64 [1], [N, C]   TRL's KL of the rows in the loss, and its derivative by x

TRL's number is GKDTrainer.generalized_jsd_loss with labels, whose "batchmean" then is a mean over the rows in the loss.
It knows no T^2. Its beta 0 is the forward KL, its beta 1 the reverse one; TRL issue 4935 was about the two being swapped.

The metadata key "fixture" is a JSON object: script, versions, and cases, each with its name, batch, direction,
temperature, weight and loss. tests/distill_test.cc compares the library with them.
"""

import itertools
import json
import os
import pathlib

import safetensors
import safetensors.torch
import torch

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
import trl  # noqa: E402
from trl.experimental.gkd import GKDTrainer  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "distill.safetensors"
F64 = torch.float64
TRL_BETA = {"forward": 0, "reverse": 1}


def make_batch(seed, rows, width, teacher_width, vocab, scale, mask):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=F64, generator=generator)

    return {
        "x": normal(rows, width),
        "w": scale * normal(vocab, width),
        "teacher_x": normal(rows, teacher_width),
        "teacher_w": scale * normal(vocab, teacher_width),
        "targets": torch.randint(vocab, (rows,), generator=generator, dtype=torch.int32),
        "mask": torch.tensor(mask, dtype=torch.int32),
    }


def make_batches():
    return {
        "plain": make_batch(1, 6, 5, 7, 11, 0.5, [1, 1, 1, 1, 1, 1]),
        "masked": make_batch(2, 7, 4, 3, 13, 0.5, [0, 0, 1, 1, 0, 1, 1]),
        "peaked": make_batch(3, 4, 5, 5, 6, 3.0, [1, 0, 1, 1]),
    }


def compute(batch, direction, temperature, weight):
    x, w = (batch[name].clone().requires_grad_() for name in ("x", "w"))
    z, teacher_z = x @ w.T, batch["teacher_x"] @ batch["teacher_w"].T
    counts = batch["mask"].bool()
    p, q = torch.softmax(z / temperature, 1), torch.softmax(teacher_z / temperature, 1)
    a, b = (q, p) if direction == "forward" else (p, q)
    kl = (a * (a / b).log()).sum(1)
    cross_entropy = -torch.softmax(z, 1).gather(1, batch["targets"].long()[:, None])[:, 0].log()
    loss = ((1 - weight) * cross_entropy + weight * temperature**2 * kl)[counts].mean()
    dx, dw = torch.autograd.grad(loss, (x, w), retain_graph=True)
    labels = torch.where(counts, batch["targets"].long(), -100)
    trl_kl = GKDTrainer.generalized_jsd_loss(z[None], teacher_z[None], labels=labels[None], beta=TRL_BETA[direction],
                                             temperature=temperature)
    (trl_dx,) = torch.autograd.grad(trl_kl, x)
    tensors = {"kl": kl, "dx": dx, "dw": dw, "trl_kl": trl_kl[None], "trl_dx": trl_dx}
    return {name: t.detach().clone() for name, t in tensors.items()}, loss.item()


def main():
    tensors, cases = {}, []
    for name, batch in make_batches().items():
        tensors |= {f"{name}.{field}": t for field, t in batch.items()}
        for direction, (temperature, weight) in itertools.product(TRL_BETA, ((1.0, 1.0), (2.0, 0.5), (0.75, 0.25))):
            results, loss = compute(batch, direction, temperature, weight)
            tensors |= {f"{len(cases)}.{field}": t for field, t in results.items()}
            cases.append({"name": f"{name} {direction} T={temperature} A={weight}", "batch": name,
                          "direction": direction, "temperature": temperature, "weight": weight, "loss": loss})
    versions = {"torch": torch.__version__.split("+")[0], "trl": trl.__version__,
                "safetensors": safetensors.__version__}
    fixture = {"script": "tools/make_distill_fixtures.py", "versions": versions, "cases": cases}
    safetensors.torch.save_file(tensors, OUT, {"fixture": json.dumps(fixture)})
    print(f"{OUT.name}: {len(cases)} cases, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
