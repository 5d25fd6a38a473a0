// SPDX-License-Identifier: Apache-2.0
// Which keys a query sees, and which tiles of a cache hold them. This is decided here alone: the reference, the
// kernels, the cache and the config all ask here. It is constexpr integer arithmetic, so that device code can ask too.
//
// A query at position q sees the key at position k iff (0 = the first token of the document)
//   full attention (window == 0):   0 <= k <= q
//   window W, S sinks:              0 <= k <= q  and  (q - k < W  or  k < S)
//   window W, the prompt kept:      the same, S being the length of the document's own prompt.
// W counts the current token, as in Hugging Face's `sliding_window` (flash-attention's left window is W - 1).
#pragma once

#include <cstdint>
#include <limits>

namespace swarr {

// The attention of one layer.
struct AttentionSpec {
  int window = 0;       // visible keys, the current one included; 0: all
  int sinks = 0;        // first positions that stay visible outside the window, at their own positions
  bool prompt = false;  // the sinks are each document's prompt, however long; sinks is 0 then
  constexpr bool operator==(const AttentionSpec&) const = default;
};

// The attention of a document whose prompt has so many tokens. Everything below but SinkTiles and CacheTiles wants
// this.
constexpr AttentionSpec OfDocument(AttentionSpec spec, int prompt) {
  return spec.prompt ? AttentionSpec{spec.window, prompt} : spec;
}

// Positions begin <= p < end.
struct KeyRange {
  int begin = 0;
  int end = 0;
  constexpr int size() const { return end - begin; }
  constexpr bool operator==(const KeyRange&) const = default;
};

// All keys that a query sees: two ascending ranges, sinks.end <= recent.begin.
struct VisibleKeys {
  KeyRange sinks;
  KeyRange recent;
};

constexpr bool Visible(int q_pos, int k_pos, AttentionSpec spec) {
  if (k_pos < 0 || k_pos > q_pos) return false;
  return spec.window == 0 || q_pos - k_pos < spec.window || k_pos < spec.sinks;
}

// { k : Visible(q_pos, k, spec) }. Both ranges are empty for a query before the document (q_pos < 0). Sinks that the
// window reaches count as recent, so that no key is listed twice.
constexpr VisibleKeys VisibleKeysOf(int q_pos, AttentionSpec spec) {
  if (q_pos < 0) return {};
  const int first = spec.window == 0 || q_pos < spec.window ? 0 : q_pos - spec.window + 1;
  return {{0, spec.sinks < first ? spec.sinks : first}, {first, q_pos + 1}};
}

// { q <= last_pos : Visible(q, k_pos, spec) }. This is one range: a key is seen from its own position until it leaves
// the window, or to the end if it never leaves.
constexpr KeyRange QueriesOf(int k_pos, int last_pos, AttentionSpec spec) {
  if (k_pos < 0 || k_pos > last_pos) return {};
  const bool leaves = spec.window != 0 && k_pos >= spec.sinks && spec.window <= last_pos - k_pos;
  return {k_pos, leaves ? k_pos + spec.window : last_pos + 1};
}

// Keys are stored and visited in tiles of this many consecutive positions, counted from the document's start. Training
// and decoding visit the same tiles, so that they take the same sums in the same order (docs/exactness.md).
constexpr int kKeyTile = 32;

constexpr int TilesOf(int length) { return length / kKeyTile + (length % kKeyTile != 0); }

// The tiles that hold a key that any of the queries first_pos .. last_pos sees: two ascending ranges of tiles, the
// sinks' before the recent ones. Keys in them that a query does not see weigh nothing. It is always inlined, because
// kernels share it and the compiler might not inline it by itself (tensor/kernels/kernels.h).
[[gnu::always_inline]] constexpr VisibleKeys VisibleTilesOf(int first_pos, int last_pos, AttentionSpec spec) {
  if (last_pos < 0) return {};
  const int begin = VisibleKeysOf(first_pos < 0 ? 0 : first_pos, spec).recent.begin / kKeyTile;
  const int sinks = TilesOf(VisibleKeysOf(last_pos, spec).sinks.end);
  return {{0, sinks < begin ? sinks : begin}, {begin, last_pos / kKeyTile + 1}};
}

// Tiles that hold the sinks and stay; none without a window. A prompt may be as long as its document, so where prompts
// are kept all tiles stay: the window saves time, not memory.
constexpr int SinkTiles(AttentionSpec spec) {
  if (spec.window == 0) return 0;
  return spec.prompt ? std::numeric_limits<int>::max() : TilesOf(spec.sinks);
}

// Tiles that a key/value cache needs for documents of up to max_length tokens that arrive in chunks of up to max_chunk.
// The keys of a whole chunk are stored before its first query looks back W - 1 positions, and W - 1 + max_chunk
// positions in a row touch at most TilesOf(W - 2 + max_chunk) + 1 tiles; the sinks have tiles of their own.
constexpr int CacheTiles(AttentionSpec spec, int max_length, int max_chunk) {
  const int all = TilesOf(max_length);
  if (spec.window == 0 || spec.prompt) return all;
  const std::int64_t reach = static_cast<std::int64_t>(spec.window) + max_chunk - 2;
  if (reach >= max_length) return all;
  const std::int64_t tiles = static_cast<std::int64_t>(SinkTiles(spec)) + TilesOf(static_cast<int>(reach)) + 1;
  return tiles < all ? static_cast<int>(tiles) : all;
}

// The tile of the cache that holds tile `tile`. Tiles of sinks stay; all others go round a ring of `ring` = CacheTiles
// - SinkTiles tiles behind them.
constexpr int CacheTile(int tile, int sink_tiles, int ring) {
  return tile < sink_tiles ? tile : sink_tiles + (tile - sink_tiles) % ring;
}

// Whether the cache still holds tile `tile` when a sequence of `length` tokens has been stored. Always inlined, as
// above.
[[gnu::always_inline]] constexpr bool CacheHolds(int tile, int length, int sink_tiles, int ring) {
  return tile < sink_tiles || tile + ring > (length - 1) / kKeyTile;
}

}  // namespace swarr
