// SPDX-License-Identifier: Apache-2.0
#include "tensor/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace swarr {
namespace {

std::size_t RoundUp(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Bytes from p to the next multiple of `step`, 0 if it is one.
std::size_t BytesToMultiple(const std::byte* p, std::size_t step) {
  return (step - reinterpret_cast<std::uintptr_t>(p) % step) % step;
}

std::size_t BytesOf(DType dtype, std::initializer_list<std::int64_t> shape) {
  std::size_t n = SizeOf(dtype);
  for (std::int64_t d : shape) n *= static_cast<std::size_t>(d);
  return n;
}

// Activations are read with long strides, of which a page of 4 KiB holds few. Nothing is lost if the system refuses.
void AskForHugePages(std::byte* data, std::size_t bytes) {
  constexpr std::size_t kHugePage = std::size_t{1} << 21;
  const std::size_t begin = BytesToMultiple(data, kHugePage);
  if (begin + kHugePage > bytes) return;
  madvise(data + begin, (bytes - begin) / kHugePage * kHugePage, MADV_HUGEPAGE);
}

}  // namespace

Buffer::Buffer(std::size_t bytes, MemoryKind kind) : memory_(nullptr, Free{kind}), bytes_(bytes) {
  const std::size_t room = RoundUp(bytes) + kAlignment;
  memory_.reset(kind == MemoryKind::kHost ? std::calloc(room, 1) : AllocateCuda(room, kind));
  if (!memory_) throw std::bad_alloc();
  auto* room_begin = static_cast<std::byte*>(memory_.get());
  data_ = room_begin + BytesToMultiple(room_begin, kAlignment);
  if (kind == MemoryKind::kHost) AskForHugePages(data_, bytes);
}

void Buffer::Free::operator()(void* p) const {
  if (kind == MemoryKind::kHost) {
    std::free(p);
  } else {
    FreeCuda(p, kind);
  }
}

OwnedTensor::OwnedTensor(DType dtype, std::initializer_list<std::int64_t> shape, MemoryKind kind)
    : buffer_(BytesOf(dtype, shape), kind), view_(buffer_.data(), dtype, shape) {}

OwnedTensor::OwnedTensor(const Tensor& like, MemoryKind kind)
    : buffer_(like.bytes(), kind), view_(like.Over(buffer_.data())) {}

std::byte* Arena::Take(std::size_t wanted) {
  const std::size_t bytes = std::max(RoundUp(wanted + gap_), kAlignment);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes()) {
    before_ += used_;
    used_ = 0;
    ++block_;
  }
  if (block_ == blocks_.size()) {
    constexpr std::size_t kSmallestBlock = std::size_t{1} << 20;
    AddBlock(std::max({bytes, kSmallestBlock, before_}));  // doubling keeps the blocks of a first step few
  }
  if (spans_.empty() || spans_.back().label != label_) spans_.push_back({label_, in_use()});
  std::byte* p = blocks_[block_].data() + used_;
  used_ += bytes;
  high_water_ = std::max(high_water_, in_use());
  if (places_ != nullptr) places_->push_back({p, wanted});
  return p;
}

void Arena::NotePlaces(std::vector<Place>* places, std::size_t gap) {
  places_ = places;
  gap_ = gap;
}

void Arena::AddBlock(std::size_t bytes) {
  blocks_.emplace_back(bytes, kind_);
  ++blocks_allocated_;
}

Tensor Arena::New(DType dtype, std::initializer_list<std::int64_t> shape) {
  return Tensor(Take(BytesOf(dtype, shape)), dtype, shape);
}

Tensor Arena::NewZero(DType dtype, std::initializer_list<std::int64_t> shape) {
  SWARR_CHECK(kind_ != MemoryKind::kDevice, "the processor can't write zeros into a device's memory");
  Tensor t = New(dtype, shape);
  FillZero(t);
  return t;
}

void Arena::Release(Mark mark) {
  if (places_ != nullptr) return;
  RememberHighWater();
  block_ = mark.block;
  used_ = mark.used;
  before_ = mark.before;
  while (!spans_.empty() && spans_.back().begin >= in_use()) spans_.pop_back();
}

void Arena::Reset() {
  Release({0, 0, 0});
  if (blocks_.size() > 1) {
    std::size_t total = 0;
    for (const Buffer& b : blocks_) total += b.bytes();
    blocks_.clear();
    AddBlock(total);
  }
}

// Called before memory is given back: if more was in use than ever, these are the spans to report.
void Arena::RememberHighWater() {
  if (in_use() <= remembered_) return;
  remembered_ = in_use();
  high_water_spans_ = spans_;
}

std::vector<std::pair<std::string, std::size_t>> Arena::HighWaterByLabel() const {
  const std::vector<Span>& spans =
      high_water_ > remembered_ ? spans_ : high_water_spans_;  // the first: now is the high-water mark
  std::vector<std::pair<std::string, std::size_t>> sums;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const std::size_t end = i + 1 < spans.size() ? spans[i + 1].begin : high_water_;
    auto found = std::find_if(sums.begin(), sums.end(), [&](const auto& sum) { return sum.first == spans[i].label; });
    if (found == sums.end()) found = sums.insert(found, {spans[i].label, 0});
    found->second += end - spans[i].begin;
  }
  std::stable_sort(sums.begin(), sums.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return sums;
}

std::size_t PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

}  // namespace swarr
