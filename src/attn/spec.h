// SPDX-License-Identifier: Apache-2.0
// Which keys a query sees, and which cache rows hold them: the only place where this is decided. The reference, the
// kernels, the cache and the config all ask here. Nothing but constexpr integer arithmetic, so that device code can
// too.
//
// A query at position q sees the key at position k iff (0 = the first token of the document)
//   full attention (window == 0):   0 <= k <= q
//   window W, S sinks:              0 <= k <= q  and  (q - k < W  or  k < S).
// W counts the current token, as in Hugging Face's `sliding_window` (flash-attention's left window is W - 1).
#pragma once

namespace swarr {

// The attention of one layer. window: visible keys including the current one, 0 = all. sinks: first positions that stay
// visible outside the window, at their own positions; without a window they mean nothing.
struct AttentionSpec {
  int window = 0;
  int sinks = 0;
  constexpr bool operator==(const AttentionSpec&) const = default;
};

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

// { k : Visible(q_pos, k, spec) }; both ranges are empty for a query before the document (q_pos < 0). Where the window
// reaches the sinks, they count as recent, so that no key is listed twice.
constexpr VisibleKeys VisibleKeysOf(int q_pos, AttentionSpec spec) {
  if (q_pos < 0) return {};
  const int first = spec.window == 0 || q_pos < spec.window ? 0 : q_pos - spec.window + 1;
  return {{0, spec.sinks < first ? spec.sinks : first}, {first, q_pos + 1}};
}

// { q <= last_pos : Visible(q, k_pos, spec) }, which is one range: a key is seen by itself, and then until it leaves
// the window, or to the end if it never does.
constexpr KeyRange QueriesOf(int k_pos, int last_pos, AttentionSpec spec) {
  if (k_pos < 0 || k_pos > last_pos) return {};
  const bool leaves = spec.window != 0 && k_pos >= spec.sinks && spec.window <= last_pos - k_pos;
  return {k_pos, leaves ? k_pos + spec.window : last_pos + 1};
}

// Rows that a key/value cache needs for documents of up to max_length tokens that arrive in chunks of up to max_chunk.
// The keys of a whole chunk are stored before its first query looks back W - 1 positions: hence W - 1 + max_chunk rows
// in the ring, and the sinks in rows of their own.
constexpr int CacheRows(AttentionSpec spec, int max_length, int max_chunk) {
  if (spec.window == 0) return max_length;
  const long long rows = static_cast<long long>(spec.sinks) + spec.window + max_chunk - 1;
  return rows < max_length ? static_cast<int>(rows) : max_length;
}

// The cache row of position `pos`: sinks stay, all others go round a ring of `ring` = CacheRows - sinks rows behind
// them.
constexpr int CacheRow(int pos, int sinks, int ring) { return pos < sinks ? pos : sinks + (pos - sinks) % ring; }

}  // namespace swarr
