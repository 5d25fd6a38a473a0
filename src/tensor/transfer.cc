// SPDX-License-Identifier: Apache-2.0
#include "tensor/transfer.h"

namespace swarr {

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
  if (!ctx.stream) return FillZero(t);
  if (t.bytes() > 0) EnqueueZero(*ctx.stream, t.raw(), t.bytes());
}

void Copy(const Context& ctx, const Tensor& to, const Tensor& from) {
  if (!ctx.stream) return Copy(to, from);
  SWARR_CHECK(to.SameShape(from), "can't copy ", from.ShapeString(), " to ", to.ShapeString());
  if (to.bytes() > 0) EnqueueCopy(*ctx.stream, to.raw(), from.raw(), to.bytes());
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
