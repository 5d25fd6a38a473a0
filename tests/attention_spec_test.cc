// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "attn/spec.h"

namespace swarr {
namespace {

constexpr int kLength = 14;
constexpr int kWindows[] = {0, 1, 2, 3, 7, kLength - 1, kLength, kLength + 5};
constexpr int kSinks[] = {0, 1, 4, kLength + 1};

// The definition, written from its sentence: not ahead, not before the document, and recent or a sink.
constexpr bool Defined(int q, int k, int window, int sinks) {
  if (k < 0 || k > q) return false;
  if (window == 0) return true;
  const int first = q - window + 1 > 0 ? q - window + 1 : 0;
  return k >= first || k < sinks;
}

static_assert(OfDocument({3, 2}, 9) == AttentionSpec{3, 2});
static_assert(OfDocument({3, 0, true}, 9) == AttentionSpec{3, 9} && OfDocument({3, 0, true}, 0) == AttentionSpec{3, 0});
// Where prompts are kept, a cache holds whatever its sequences may have.
static_assert(CacheTiles({3, 0, true}, 100, 1) == 4 && CacheTiles({3, 0}, 100, 1) == 2);

constexpr bool In(KeyRange range, int position) { return range.begin <= position && position < range.end; }

template <class F>
constexpr bool ForAllSpecs(F holds) {
  for (int window : kWindows) {
    for (int sinks : kSinks) {
      if (!holds(AttentionSpec{window, window == 0 ? 0 : sinks})) return false;
    }
  }
  return true;
}

constexpr bool VisibleIsTheDefinition(AttentionSpec spec) {
  for (int q = -2; q < kLength; ++q) {
    for (int k = -2; k < kLength + 2; ++k) {
      if (Visible(q, k, spec) != Defined(q, k, spec.window, spec.sinks)) return false;
    }
  }
  return true;
}

constexpr bool RangesListTheVisibleKeysOnce(AttentionSpec spec) {
  for (int q = -2; q < kLength; ++q) {
    const VisibleKeys keys = VisibleKeysOf(q, spec);
    if (keys.sinks.size() < 0 || keys.recent.size() < 0 || keys.sinks.end > keys.recent.begin) return false;
    for (int k = -2; k < kLength + 2; ++k) {
      if ((In(keys.sinks, k) || In(keys.recent, k)) != Visible(q, k, spec)) return false;
    }
  }
  return true;
}

constexpr bool QueriesAreThoseThatSeeTheKey(AttentionSpec spec) {
  for (int last : {-1, 0, 8, kLength - 1}) {
    for (int k = -2; k < kLength + 2; ++k) {
      const KeyRange queries = QueriesOf(k, last, spec);
      for (int q = -2; q < kLength + 2; ++q) {
        if (In(queries, q) != (q <= last && Visible(q, k, spec))) return false;
      }
    }
  }
  return true;
}

static_assert(ForAllSpecs(VisibleIsTheDefinition));
static_assert(ForAllSpecs(RangesListTheVisibleKeysOnce));
static_assert(ForAllSpecs(QueriesAreThoseThatSeeTheKey));

// Stores a document chunk by chunk in `tiles` cache tiles, as a decoder does: all keys of a chunk, then its queries. A
// tile that is taken for other positions loses its keys.
bool EveryVisibleKeyIsStillThere(AttentionSpec spec, int length, int chunk, int tiles) {
  const int sinks = std::min(SinkTiles(spec), tiles), ring = std::max(1, tiles - sinks);
  std::vector<int> tile_in(static_cast<std::size_t>(tiles), -1);
  const auto place = [&](int pos) { return static_cast<std::size_t>(CacheTile(pos / kKeyTile, sinks, ring)); };
  for (int begin = 0; begin < length; begin += chunk) {
    const int end = begin + chunk < length ? begin + chunk : length;
    for (int k = begin; k < end; ++k) tile_in.at(place(k)) = k / kKeyTile;
    for (int q = begin; q < end; ++q) {
      for (int k = 0; k <= q; ++k) {
        if (Visible(q, k, spec) && tile_in.at(place(k)) != k / kKeyTile) return false;
      }
    }
  }
  return true;
}

TEST_CASE("visibility, its ranges and its inverse are one rule at compile time and at run time") {
  CHECK(ForAllSpecs(VisibleIsTheDefinition));
  CHECK(ForAllSpecs(RangesListTheVisibleKeysOnce));
  CHECK(ForAllSpecs(QueriesAreThoseThatSeeTheKey));
}

TEST_CASE("a window of one sees only itself, and a window as long as the document sees all") {
  CHECK(VisibleKeysOf(9, {1, 0}).recent == KeyRange{9, 10});
  CHECK(VisibleKeysOf(9, {10, 0}).recent == KeyRange{0, 10});
  CHECK(VisibleKeysOf(9, {10, 3}).sinks.size() == 0);
  CHECK(VisibleKeysOf(10, {10, 3}).sinks == KeyRange{0, 1});
}

TEST_CASE("the largest windows, sinks and positions do not overflow") {
  constexpr int kMax = std::numeric_limits<int>::max();
  CHECK(VisibleKeysOf(5, {kMax, kMax}).recent == KeyRange{0, 6});
  CHECK(VisibleKeysOf(kMax - 1, {kMax, 0}).recent == KeyRange{0, kMax});
  CHECK(QueriesOf(3, kMax - 1, {kMax, 0}) == KeyRange{3, kMax});
  CHECK(CacheTiles({kMax, kMax}, 100, kMax) == TilesOf(100));
  CHECK(TilesOf(kMax) == kMax / kKeyTile + 1);
  CHECK(VisibleTilesOf(kMax - 1, kMax - 1, {kMax, 0}).recent == KeyRange{0, kMax / kKeyTile + 1});
}

TEST_CASE("a block of queries visits the tiles with a key that one of them sees, once each, and no others") {
  constexpr int kPositions = 5 * kKeyTile;
  for (int window : {0, 1, 2, 31, 32, 33, 64, 65, 200}) {
    for (int sinks : {0, 1, 4, 32, 33, 200}) {
      const AttentionSpec spec{window, window == 0 ? 0 : sinks};
      for (int count : {1, 2, 32, 40}) {
        for (int first = 0; first + count <= kPositions; ++first) {
          const VisibleKeys tiles = VisibleTilesOf(first, first + count - 1, spec);
          bool right = tiles.sinks.size() >= 0 && tiles.recent.size() >= 0 && tiles.sinks.end <= tiles.recent.begin;
          for (int tile = 0; tile < kPositions / kKeyTile; ++tile) {
            bool seen = false;
            for (int k = tile * kKeyTile; k < (tile + 1) * kKeyTile; ++k) {
              for (int q = first; q < first + count; ++q) seen = seen || Visible(q, k, spec);
            }
            right = right && (In(tiles.sinks, tile) || In(tiles.recent, tile)) == seen;
          }
          CAPTURE(window);
          CAPTURE(sinks);
          CAPTURE(first);
          CAPTURE(count);
          CHECK(right);
        }
      }
    }
  }
  CHECK(VisibleTilesOf(-1, -1, {3, 4}).recent.size() == 0);
  CHECK(VisibleTilesOf(-1, -1, {3, 4}).sinks.size() == 0);
}

TEST_CASE("the cache tiles hold every key that a query of a chunk of up to max_chunk tokens sees") {
  for (int window : {0, 1, 2, 7, 31, 32, 33, 34, 65}) {
    for (int sinks : {0, 1, 33}) {
      for (int max_chunk : {1, 2, 5, 16, 40}) {
        for (int length : {1, 13, 32, 33, 300}) {
          const AttentionSpec spec{window, window == 0 ? 0 : sinks};
          const int tiles = CacheTiles(spec, length, max_chunk);
          for (int chunk : {1, (max_chunk + 1) / 2, max_chunk}) {
            CAPTURE(window);
            CAPTURE(sinks);
            CAPTURE(chunk);
            CAPTURE(length);
            CHECK(EveryVisibleKeyIsStillThere(spec, length, chunk, tiles));
          }
        }
      }
    }
  }
}

TEST_CASE("one cache tile fewer overwrites a key that is still visible") {
  for (int window : {2, 3, 7, 33, 65}) {
    for (int sinks : {0, 4, 40}) {
      for (int chunk : {1, 5}) {
        const AttentionSpec spec{window, sinks};
        CHECK_FALSE(EveryVisibleKeyIsStillThere(spec, 300, chunk, CacheTiles(spec, 300, chunk) - 1));
      }
    }
  }
}

TEST_CASE("a windowed cache is bounded by the window, and never larger than the document") {
  CHECK(CacheTiles({16, 4}, 100'000, 1) == 1 + 2);   // the sinks; 16 positions touch at most two tiles
  CHECK(CacheTiles({16, 4}, 100'000, 64) == 1 + 4);  // 79 positions, at most four
  CHECK(CacheTiles({16, 0}, 100'000, 1) == 2);
  CHECK(CacheTiles({1, 0}, 100'000, 1) == 1);
  CHECK(CacheTiles({16, 4}, 12, 64) == 1);
  CHECK(CacheTiles({}, 100'000, 64) == 3125);
}

}  // namespace
}  // namespace swarr
