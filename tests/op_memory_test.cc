// SPDX-License-Identifier: Apache-2.0
// What ops do to memory: they write all of their results and nothing else, not beside any tensor nor to inputs; what
// memory held before leaves no trace. Every case runs in memory full of NaN, with a gap after every tensor, scratch
// included. What they only read in vain, beside an input or a gradient, shows between fences.
#include <array>
#include <bit>

#include "cuda_report.h"
#include "fenced.h"
#include "op_checks.h"

using namespace swarr;

namespace {

constexpr std::size_t kGap = 256;

// Word i of poison: a NaN in every floating type, and a negative integer. Words differ, and their halves do, so that a
// NaN shows if it is computed with and written to another place, rounded or not.
constexpr std::uint32_t PoisonAt(std::size_t i) {
  const auto mixed = static_cast<std::uint32_t>(i) * 2654435761U;
  return 0xffc0ffc0U | (mixed >> 10 & 0x003f0000U) | (mixed >> 20 & 0x3fU);
}

// Step memory that is full of poison when a run begins.
class PoisonedMemory {
 public:
  PoisonedMemory(Device device, Cpu cpu, std::int64_t bytes)
      : t_(device, 1, cpu),
        poison_(DType::kI32, {bytes / 4}),
        seen_(DType::kI32, {bytes / 4}),
        all_(t_.arena.New(DType::kI32, {bytes / 4})) {
    auto* words = poison_.view().data<std::int32_t>();
    for (std::int64_t i = 0; i < bytes / 4; ++i) {
      words[i] = std::bit_cast<std::int32_t>(PoisonAt(static_cast<std::size_t>(i)));
    }
  }

  // A run on the host, and how many bytes beside tensors it changed.
  struct Result {
    Run run;
    std::int64_t damaged;
  };
  Result RunIn(const OpCase& c, DType dtype) {
    ResetStep(t_.ctx);
    Copy(t_.ctx, all_, poison_.view());
    std::vector<Arena::Place> places;
    t_.arena.NotePlaces(&places, kGap);
    t_.arena.New(DType::kI32, {1});  // so that there is a gap before the first tensor of the run
    const Run run = RunOn(t_.ctx, c, WithFreshGradients(c, dtype));
    for (const Var& v : run.inputs) v.SettleGrad(t_.ctx);
    Wait(t_.ctx);
    t_.arena.NotePlaces(nullptr);
    REQUIRE(t_.arena.blocks_allocated() == 1);  // else there is too little of it
    Copy(t_.ctx, seen_.view(), all_);
    Wait(t_.ctx);
    return {OnHost(t_.ctx, run), Damaged(places)};
  }

 private:
  // Gradients that hold nothing yet and are to be written.
  std::vector<Var> WithFreshGradients(const OpCase& c, DType dtype) {
    std::vector<Var> inputs = MakeInputs(t_.ctx, c, dtype, true);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Var& v = inputs[i];
      if (v.grad.empty()) continue;
      v.grad = t_.arena.NewLike(v.grad);
      v.fresh = &fresh_[i];
      fresh_[i] = true;
    }
    return inputs;
  }

  std::int64_t Damaged(const std::vector<Arena::Place>& places) const {
    const auto *seen = static_cast<const unsigned char*>(seen_.view().raw()),
               *poison = static_cast<const unsigned char*>(poison_.view().raw());
    const auto* begin = static_cast<const std::byte*>(all_.raw());
    std::int64_t damaged = 0;
    std::size_t at = 0;
    const auto gap_until = [&](std::size_t end) {
      for (; at < end; ++at) damaged += seen[at] != poison[at];
    };
    for (const Arena::Place& place : places) {
      gap_until(static_cast<std::size_t>(place.begin - begin));
      at += place.bytes;
    }
    gap_until(all_.bytes());
    return damaged;
  }

  TestContext t_;
  OwnedTensor poison_, seen_;
  const Tensor all_;
  std::array<bool, 8> fresh_{};
};

std::int64_t CountNotFinite(const Tensor& t) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < t.size(); ++i) {
    count += t.dtype() == DType::kI32 ? t.data<std::int32_t>()[i] < 0 : !std::isfinite(ValueAt(t, i));
  }
  return count;
}

// Elements that were never written, or computed from such.
std::int64_t CountPoisoned(const Run& run) {
  std::int64_t count = CountNotFinite(run.result.out.value);
  for (const Tensor& t : run.result.also) count += CountNotFinite(t);
  for (const Var& v : run.inputs) {
    if (!v.grad.empty()) count += CountNotFinite(v.grad);
  }
  return count;
}

// A fresh gradient is g where another is 0 + g, which differs from g in the sign of a zero.
void CheckSameValues(const Run& a, const Run& b) {
  CHECK(SameBits(a.result.out.value, b.result.out.value));
  for (std::size_t i = 0; i < a.result.also.size(); ++i) CHECK(SameBits(a.result.also[i], b.result.also[i]));
  for (std::size_t i = 0; i < a.inputs.size(); ++i) {
    INFO("gradient of " << i);
    if (!a.inputs[i].grad.empty()) CHECK(RelativeError(a.inputs[i].grad, b.inputs[i].grad) == 0);
  }
}

void CheckMemory(Device device, Cpu cpu, bool large, Report* report) {
  PoisonedMemory memory(device, cpu, /*bytes=*/1 << (large ? 23 : 20));
  for (const OpCase& c : OpCases()) {
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      if (c.large != large || (dtype == DType::kBF16 && !c.bf16)) continue;
      const std::string name = c.name + " " + Name(dtype);
      INFO(name);
      TestContext clean(device, 1, cpu);
      const PoisonedMemory::Result result = memory.RunIn(c, dtype);
      const std::int64_t poisoned = CountPoisoned(result.run);
      CHECK(result.damaged == 0);
      CHECK(poisoned == 0);
      CheckSameValues(result.run, OnHost(clean.ctx, RunOn(clean.ctx, c, dtype)));
      const std::vector<Var> inputs = MakeInputs(clean.ctx.HostArena(), c, dtype, /*gradients=*/false);
      for (std::size_t i = 0; i < inputs.size(); ++i) CHECK(SameBits(result.run.inputs[i].value, inputs[i].value));
      if (report) report->Line(name, {{"bytes written beside", result.damaged}, {"elements not written", poisoned}});
    }
  }
}

}  // namespace

TEST_CASE("ops write all of their results and nothing beside, whatever memory held before, on every processor") {
  for (Cpu cpu : SupportedCpus()) {
    INFO(Name(cpu));
    for (bool large : {false, true}) CheckMemory(Device::kCpu, cpu, large, nullptr);
  }
}

TEST_CASE("CUDA: memory: small ops write all of their results and nothing beside, whatever memory held before") {
  if (SkippedWithoutCuda()) return;
  Report report("memory, small");
  CheckMemory(Device::kCuda, BestCpu(), /*large=*/false, &report);
}

TEST_CASE("CUDA: memory: large ops write all of their results and nothing beside, whatever memory held before") {
  if (SkippedWithoutCuda()) return;
  Report report("memory, large");
  CheckMemory(Device::kCuda, BestCpu(), /*large=*/true, &report);
}

TEST_CASE("an op touches nothing outside of its inputs and their gradients") {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
      for (const OpCase& c : OpCases()) {
        if (dtype == DType::kBF16 && !c.bf16) continue;
        TestContext t(1, cpu);
        const Run free = RunOn(t.ctx, c, dtype);
        for (bool at_end : {false, true}) {
          INFO(c.name << " " << Name(cpu) << " " << Name(dtype) << (at_end ? ", end" : ", begin"));
          Fences fences(at_end);
          std::vector<Var> inputs = MakeInputs(t.ctx, c, dtype, /*gradients=*/true);
          for (Var& v : inputs) v = {fences.Copy(v.value), fences.Copy(v.grad), v.fresh};
          CheckSameBits(RunOn(t.ctx, c, inputs), free);
        }
      }
    }
  }
}
