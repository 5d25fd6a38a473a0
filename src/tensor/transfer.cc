// SPDX-License-Identifier: Apache-2.0
#include "tensor/transfer.h"

#include <cstring>

#include "tensor/threads.h"

namespace swarr {
namespace {

// Calls f(begin, end) for ranges of bytes, one for each thread where there are many: one thread alone does not get all
// that memory gives.
template <class F>
void ForBytes(const Context& ctx, std::size_t bytes, const F& f) {
  constexpr std::size_t kMany = std::size_t{1} << 18, kLine = 64;
  if (bytes < kMany) return f(std::size_t{0}, bytes);
  const auto parts = static_cast<std::size_t>(ctx.threads);
  const auto begin_of = [=](std::size_t part) { return part == parts ? bytes : bytes / kLine * part / parts * kLine; };
  ForParts(ctx.threads, [&](int part) {
    const auto i = static_cast<std::size_t>(part);
    f(begin_of(i), begin_of(i + 1));
  });
}

}  // namespace

Tensor ToDevice(const Context& ctx, const Tensor& host) {
  if (!ctx.stream || host.empty()) return host;
  const Tensor t = ctx.arena->NewLike(host);
  Copy(ctx, t, host);
  return t;
}

Tensor ToHost(const Context& ctx, const Tensor& t) {
  if (!ctx.stream || t.empty()) return t;
  const Tensor host = ctx.HostArena().NewLike(t);
  Copy(ctx, host, t);
  return host;
}

void Wait(const Context& ctx) {
  if (ctx.stream) WaitFor(*ctx.stream);
}

void FillZero(const Context& ctx, const Tensor& t) {
  if (t.bytes() == 0) return;
  if (ctx.stream) return EnqueueZero(*ctx.stream, t.raw(), t.bytes());
  auto* to = static_cast<std::byte*>(t.raw());
  ForBytes(ctx, t.bytes(), [=](std::size_t begin, std::size_t end) { std::memset(to + begin, 0, end - begin); });
}

void Copy(const Context& ctx, const Tensor& to, const Tensor& from) {
  SWARR_CHECK(to.SameShape(from), "can't copy ", from.ShapeString(), " to ", to.ShapeString());
  if (to.bytes() == 0) return;
  if (ctx.stream) return EnqueueCopy(*ctx.stream, to.raw(), from.raw(), to.bytes());
  auto* target = static_cast<std::byte*>(to.raw());
  const auto* source = static_cast<const std::byte*>(from.raw());
  ForBytes(ctx, to.bytes(),
           [=](std::size_t begin, std::size_t end) { std::memcpy(target + begin, source + begin, end - begin); });
}

StepMemory::StepMemory(Device device)
    : stream_(device == Device::kCuda ? OpenCudaStream() : nullptr),
      arena_(MemoryOf(device)),
      host_(device == Device::kCuda ? MemoryKind::kPinned : MemoryKind::kHost) {}

void StepMemory::GiveTo(Context& ctx) {
  ctx.arena = &arena_;
  ctx.host = stream_ ? &host_ : nullptr;
  ctx.stream = stream_.get();
}

void ResetStep(const Context& ctx) {
  Wait(ctx);
  ctx.arena->Reset();
  if (ctx.host) ctx.host->Reset();
}

StepScope::~StepScope() {
  try {
    Wait(ctx_);
  } catch (const Error&) {  // an error of the device stays, and the next call reports it
  }
}

HostView::HostView(const Tensor& t, MemoryKind kind) : original_(t), view_(t) {
  if (kind != MemoryKind::kDevice) return;
  copy_ = OwnedTensor(t);
  view_ = copy_.view();
  CopyAndWait(view_.raw(), t.raw(), t.bytes());
}

void HostView::WriteBack() const {
  if (view_.raw() != original_.raw()) CopyAndWait(original_.raw(), view_.raw(), view_.bytes());
}

}  // namespace swarr
