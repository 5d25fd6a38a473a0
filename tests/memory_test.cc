// SPDX-License-Identifier: Apache-2.0
#include "tensor/memory.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tensors.h"

using namespace swarr;

namespace {

bool Aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kAlignment == 0; }

// A step that needs several blocks the first time: sizes from a byte to more than the smallest block, with scratch
// memory that is given back in between. Returns where everything was.
std::vector<void*> Step(Arena& arena) {
  std::vector<void*> places;
  for (std::int64_t n : {1, 100'000, 7, 700'000, 250'000, 1, 900'000}) {
    places.push_back(arena.New(DType::kF32, {n}).raw());
    ArenaScope scope(arena);
    places.push_back(arena.New(DType::kF64, {n / 2 + 1}).raw());
  }
  return places;
}

}  // namespace

TEST_CASE("a buffer is aligned and zero, and moves") {
  Buffer buffer(1001);
  CHECK(Aligned(buffer.data()));
  CHECK(buffer.bytes() == 1001);
  CHECK(std::all_of(buffer.data(), buffer.data() + 1001, [](std::byte b) { return b == std::byte{0}; }));
  const std::byte* place = buffer.data();
  const Buffer moved = std::move(buffer);
  CHECK(moved.data() == place);
  const OwnedTensor tensor(DType::kF64, {3, 5});
  CHECK(tensor.view().ShapeString() == "[3, 5] f64");
  CHECK(ValueAt(tensor.view(), 14) == 0);
}

TEST_CASE("every tensor of an arena is aligned, and no two share memory") {
  Arena arena;
  std::vector<Tensor> tensors;
  for (int i = 0; i < 50; ++i) {
    tensors.push_back(arena.New(DType::kI32, {1 + 997 * i}));
    CHECK(Aligned(tensors.back().raw()));
    std::fill_n(tensors.back().data<std::int32_t>(), tensors.back().size(), i);
  }
  for (int i = 0; i < 50; ++i) {
    const std::int32_t* p = tensors[static_cast<std::size_t>(i)].data<std::int32_t>();
    CHECK(std::all_of(p, p + 1 + 997 * i, [i](std::int32_t x) { return x == i; }));
  }
}

TEST_CASE("NewZero clears memory that was used before") {
  Arena arena;
  const Tensor used = Random(arena, DType::kF32, {100}, 1);
  arena.Reset();
  const Tensor zero = arena.NewZero(DType::kF32, {100});
  CHECK(zero.raw() == used.raw());
  for (std::int64_t i = 0; i < 100; ++i) CHECK(ValueAt(zero, i) == 0);
}

TEST_CASE("a scope gives back what was taken within it, and nothing else") {
  Arena arena;
  const Tensor kept = Random(arena, DType::kF64, {300'000}, 1);
  const Tensor copy = CopyOf(arena, kept);
  void* first = nullptr;
  {
    ArenaScope scope(arena);
    first = arena.New(DType::kF64, {10}).raw();
    Random(arena, DType::kF64, {900'000}, 2);  // into further blocks, and back
  }
  CHECK(arena.New(DType::kF64, {10}).raw() == first);
  CHECK(SameBits(kept, copy));
}

TEST_CASE("from the second step of equal size on, an arena allocates nothing") {
  Arena arena;
  Step(arena);
  const std::size_t high_water = arena.high_water_bytes();
  arena.Reset();
  const std::vector<void*> second = Step(arena);
  // One block: its extent is that of the step's memory, with no gap for the end of a block.
  const auto [low, high] = std::minmax_element(second.begin(), second.end());
  CHECK(static_cast<std::size_t>(static_cast<char*>(*high) - static_cast<char*>(*low)) < high_water);
  for (int step = 0; step < 3; ++step) {
    arena.Reset();
    CHECK(Step(arena) == second);
  }
  CHECK(arena.high_water_bytes() == high_water);
}

TEST_CASE("the high-water mark is the most memory that was in use at a time") {
  Arena arena;
  arena.New(DType::kF32, {16});
  CHECK(arena.high_water_bytes() == 64);
  for (int i = 0; i < 3; ++i) {
    ArenaScope scope(arena);
    arena.New(DType::kF32, {17});  // two units of alignment
    CHECK(arena.high_water_bytes() == 192);
  }
  arena.Reset();
  arena.New(DType::kF32, {1});
  CHECK(arena.high_water_bytes() == 192);
}

TEST_CASE("a tensor is a checked view") {
  Arena arena;
  const Tensor t = Random(arena, DType::kF32, {3, 4, 5}, 1);
  CHECK(t.size() == 60);
  CHECK(t.bytes() == 240);
  CHECK(t.ShapeString() == "[3, 4, 5] f32");
  CHECK(t.Rows(1, 3).ShapeString() == "[2, 4, 5] f32");
  CHECK(t.Rows(1, 3).data<float>() == t.data<float>() + 20);
  CHECK(t.Reshape({12, 5}).data<float>() == t.data<float>());
  CHECK_THROWS_WITH_AS(t.data<double>(), "tensor [3, 4, 5] f32 read as f64", Error);
  CHECK_THROWS_AS(Tensor().data<float>(), Error);
  CHECK_THROWS_AS(t.Reshape({61}), Error);
  CHECK_THROWS_AS(t.Rows(2, 4), Error);
  CHECK_THROWS_AS(arena.New(DType::kF32, {2, -1}), Error);
  CHECK_THROWS_AS(Copy(t, t.Rows(0, 2)), Error);
  CHECK_THROWS_WITH_AS(CheckShape(t, DType::kF32, {3, -1, 6}, "x"),
                       "x has shape [3, 4, 5] f32 where [3, any, 6] f32 is needed", Error);
  CHECK_THROWS_AS(Dispatch(DType::kI32, []<class T>() { return 0; }), Error);
  CHECK(ParseName<DType>("dtype", "f64") == DType::kF64);
  CHECK_THROWS_AS(ParseName<DType>("dtype", "f16"), UsageError);
}
