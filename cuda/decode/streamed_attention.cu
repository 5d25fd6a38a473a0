// SPDX-License-Identifier: Apache-2.0
// Attention's forward over a cache for steps of many rows, for bf16 on tensor cores: a team of warps takes the query
// heads of one row that share a key head, and goes through their keys (attention_mma.cu has the same loop). With so
// many rows what counts is that the device's memory always has something to bring, so
//
//   - blocks live on, and take one work after another;
//   - a warp of its own feeds a block's team: it has the copy engine bring tiles of keys and values to a ring of
//     stages, as soon as one is free, be they of the next work. Before the launch before is done it fills the ring with
//     old tiles;
//   - a team is soon done with a tile. Each warp multiplies 16 of the tile's keys. It shows the others the scores,
//   makes
//     all weights of the tile itself, and has some columns of the output. So a block's works are many and short, and
//     blocks are done at much the same time.
//
// Nobody reads these keys again before others have taken their place in the second-level cache, so they are the first
// to make room there.
#include <algorithm>

#include "cuda/decode/cached_keys.h"
#include "cuda/wgmma.h"

namespace swarr {
namespace {

static_assert(kPages == 2 && kKeyTile * kLineBytes % 1024 == 0);

constexpr int kTeam = 4, kTeamThreads = kTeam * kWarp;  // warps that multiply; one more feeds them
constexpr int kTeamKeys = kSoftmaxTile / kTeam;         // of a tile, of a warp
constexpr int kMostHeld = 16;                           // stages of a block
template <int P, int halves>
constexpr int kBlocksAtOnce = P > kPanel || halves > 1 ? 2 : 3;  // that share a multiprocessor

// What a block holds of a tile: keys and values, each in panels of 64 columns (wgmma.h).
template <int P>
struct Stage {
  static constexpr int kPanels = P / kPanel, kBytes = kPanels * kSoftmaxTile * kLineBytes;
  char keys[kBytes], values[kBytes];
};

// The cache's keys, or values, as the copy engine brings them: a page's first 4, 8, ... or 32 rows. Half of a newest
// page is not written yet on average, and with 256 keys a row that would be 6% of all that memory brings.
struct Pages {
  static constexpr int kStep = 4;  // rows
  CUtensorMap of_steps[kKeyTile / kStep];

  __device__ const CUtensorMap& OfRows(int rows) const { return of_steps[rows / kStep - 1]; }
};

// How many rows of a page are brought for keys up to a position.
__device__ inline int RowsToBring(int page, int position) {
  const int rows = position + 1 - page * kKeyTile;
  return min(kKeyTile, (rows + Pages::kStep - 1) / Pages::kStep * Pages::kStep);
}

// Where 16 bytes from column 8 c on of a tile's row are.
__device__ inline const char* ChunkAt(const char* tile, int row, int c) {
  return tile + (c / 8 * kSoftmaxTile + row) * kLineBytes + (c % 8 ^ row % 8) * 16;
}

// The rest of a block's shared memory. Two tiles' scores: while some read one tile's, others may be at the next.
struct TeamNotes {
  static constexpr int kPitch = kSoftmaxTile + 8;  // four rows' pairs of scores lie in different banks
  float scores[2][kQueries * kPitch];
  std::uint64_t full[kMostHeld], empty[kMostHeld];  // of each stage
};

// Works are rows and key heads and their parts; blocks take them in turns.
struct Work {
  int n, g, part;

  __device__ Work(const CachedQueries& in, int index)
      : n(index / (in.Parts() * in.G)), g(index / in.Parts() % in.G), part(index % in.Parts()) {}
};
__device__ inline int NextWork(int work) { return work + static_cast<int>(gridDim.x); }

// A place in the ring.
struct Place {
  int stage = 0;
  unsigned parity = 0;

  __device__ void Next(int stages) {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
};

// What the second-level cache is told of memory that is to make room first.
__device__ inline std::uint64_t FirstToGo() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// The warp that feeds the team.
template <int P>
__device__ void Feed(const CachedQueries& in, const Pages& keys, const Pages& values, Stage<P>* ring, TeamNotes& notes,
                     int stages) {
  const std::uint64_t policy = FirstToGo();
  const int works = in.N * in.G * in.Parts();
  Place place;
  bool waited = false;
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < works; index = NextWork(index)) {
    const Work work(in, index);
    const SeenKeys seen(in, work.n, work.g);
    const int old = in.early && !waited ? FirstNewKey(in.slots, work.n, seen.position) : 0;
#pragma unroll 1
    for (int t = 0; t < seen.tiles.count(); ++t, place.Next(stages)) {
      const int tile = seen.tiles[t];
      if (!waited && (tile + 1) * kSoftmaxTile > old) {
        WaitForPrevious();
        waited = true;
      }
      WaitBarrier(notes.empty + place.stage, place.parity ^ 1);
      if (Lane() > 0) continue;
      Stage<P>& to = ring[place.stage];
      std::uint64_t* const full = notes.full + place.stage;
      int rows[kPages], all_rows = 0;
#pragma unroll
      for (int i = 0; i < kPages; ++i) {
        const int page = tile * kPages + i;
        rows[i] = seen.pages.Holds(page) ? RowsToBring(page, seen.position) : 0;
        all_rows += rows[i];
      }
      ArriveAndExpect(full, all_rows * 2 * Stage<P>::kPanels * kLineBytes);
#pragma unroll
      for (int i = 0; i < kPages; ++i) {
        if (rows[i] == 0) continue;
        const int row = seen.PlaceInCache(in, tile * kPages + i) * kKeyTile;
#pragma unroll
        for (int panel = 0; panel < Stage<P>::kPanels; ++panel) {
          const int at = (panel * kSoftmaxTile + i * kKeyTile) * kLineBytes;
          CopyBox(to.keys + at, keys.OfRows(rows[i]), panel * kPanel, row, full, policy);
          CopyBox(to.values + at, values.OfRows(rows[i]), panel * kPanel, row, full, policy);
        }
      }
    }
  }
  if (!waited) WaitForPrevious();
}

// The queries of a work as the operand a. `halves`: 1 if they are 8 at most, and 2 if they are more.
template <int P, int halves>
class Queries {
 public:
  __device__ void Load(const BFloat16* rows, int count, int D) {
#pragma unroll
    for (int k = 0; k < P / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 2 * halves; ++i) {
        const int row = Lane() / 4 + i / 2 * 8, column = k * 16 + i % 2 * 8 + Lane() % 4 * 2;
        at_[k][i] = row < count && column < D ? *reinterpret_cast<const unsigned*>(rows + row * D + column) : 0u;
      }
    }
  }
  __device__ void Get(int k, unsigned (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = i % 2 < halves ? at_[k][i / 2 + i % 2 * 2 * (halves - 1)] : 0u;
  }

 private:
  unsigned at_[P / 16][2 * halves];
};

// What a warp of the team asks for one work ahead.
template <int P, int halves>
struct Ahead {
  int position = 0, prompt = 0;
  Queries<P, halves> queries;

  __device__ void Load(const CachedQueries& in, int index, int works) {
    if (index >= works) return;
    const Work work(in, index);
    const HeadsOfRow heads(in, work.n, work.g, work.part);
    position = in.positions[work.n];
    if (in.of_model.prompt) prompt = in.prompts[work.n];
    queries.Load(heads.Queries(in), heads.count, in.D);
  }
};

// Scores of a warp's keys of a tile, written to where the team sees them.
template <int P, int halves>
__device__ void ScoreOwnKeys(float* scores, const Queries<P, halves>& queries, const char* keys) {
  const int first = static_cast<int>(threadIdx.x) / kWarp * kTeamKeys, row = first + Lane() / 16 * 8 + Lane() % 8;
  float sums[2][4] = {};
#pragma unroll
  for (int k = 0; k < P / 16; ++k) {
    unsigned a[4], b[4];
    queries.Get(k, a);
    LoadMatrix4(b, ChunkAt(keys, row, 2 * k + Lane() / 8 % 2));
    MultiplyAccumulate(sums[0], a, b[0], b[1]);
    MultiplyAccumulate(sums[1], a, b[2], b[3]);
  }
  float* const to = scores + Lane() / 4 * TeamNotes::kPitch + first + Lane() % 4 * 2;
#pragma unroll
  for (int i = 0; i < halves; ++i) {
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      *reinterpret_cast<float2*>(to + i * 8 * TeamNotes::kPitch + block * 8) =
          make_float2(sums[block][2 * i], sums[block][2 * i + 1]);
    }
  }
}

// A warp's columns of the output.
template <int P>
struct OwnColumns {
  static constexpr int kCount = P / kTeam, kBlocks = kCount / 8;
  float at[kBlocks][4] = {};

  __device__ static int First() { return static_cast<int>(threadIdx.x) / kWarp * kCount; }
  // Zeros stand for the values behind the position, in the rows from `begin` on.
  __device__ static void ClearRest(char* values, int begin) {
    constexpr int kChunks = kCount / 8;
    for (int i = Lane(); i < (kSoftmaxTile - begin) * kChunks; i += kWarp) {
      *reinterpret_cast<uint4*>(const_cast<char*>(ChunkAt(values, begin + i / kChunks, First() / 8 + i % kChunks))) =
          uint4{};
    }
    ShowStores();
    __syncwarp();
  }
  // Adds the weights of a page's keys, times its values.
  __device__ void AddPage(const unsigned (&weights)[kKeyTile / 16][4], const char* values, int page) {
#pragma unroll
    for (int k = 0; k < kKeyTile / 16; ++k) {
      const int row = page * kKeyTile + k * 16 + Lane() / 8 % 2 * 8 + Lane() % 8;
#pragma unroll
      for (int i = 0; i < kBlocks / 2; ++i) {
        unsigned b[4];
        LoadMatrix4Transposed(b, ChunkAt(values, row, First() / 8 + 2 * i + Lane() / 16));
        MultiplyAccumulate(at[2 * i], weights[k], b[0], b[1]);
        MultiplyAccumulate(at[2 * i + 1], weights[k], b[2], b[3]);
      }
    }
  }
};

// A warp of the team.
template <int P, int halves>
__device__ void Attend(const CachedQueries& in, Stage<P>* ring, TeamNotes& notes, int stages, BFloat16* out,
                       float* lse) {
  const int works = in.N * in.G * in.Parts();
  Place place;
  int turn = 0;  // whose scores are where
  Ahead<P, halves> ahead;
  ahead.Load(in, static_cast<int>(blockIdx.x), works);
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < works; index = NextWork(index)) {
    const Work work(in, index);
    const HeadsOfRow heads(in, work.n, work.g, work.part);
    const Ahead<P, halves> now = ahead;
    const SeenKeys seen(OfDocument(in.of_model, now.prompt), now.position);
    ahead.Load(in, NextWork(index), works);
    RowSoftmax softmax;
    heads.Begin(softmax, in.sinks);
    OwnColumns<P> o;
#pragma unroll 1
    for (int t = 0; t < seen.tiles.count(); ++t, place.Next(stages)) {
      const int tile = seen.tiles[t], behind = seen.position + 1 - tile * kSoftmaxTile;
      Stage<P>& held = ring[place.stage];
      float* const shown = notes.scores[turn];
      turn ^= 1;
      WaitBarrier(notes.full + place.stage, place.parity);
      ScoreOwnKeys(shown, now.queries, held.keys);
      SyncThreads(1, kTeamThreads);

      float scores[kPages][kTileRows / 8][4] = {};
      const auto scores_at = [&](int block) { return scores[block / (kTileRows / 8)][block % (kTileRows / 8)]; };
      float rescale[2] = {1, 1};
#pragma unroll
      for (int block = 0; block < kSoftmaxBlocks; ++block) {
#pragma unroll
        for (int i = 0; i < halves; ++i) {
          const float2 pair = *reinterpret_cast<const float2*>(shown + (Lane() / 4 + 8 * i) * TeamNotes::kPitch +
                                                               8 * block + Lane() % 4 * 2);
          scores_at(block)[2 * i] = pair.x;
          scores_at(block)[2 * i + 1] = pair.y;
        }
      }
      seen.Mask(scores_at, tile);
#pragma unroll
      for (int i = 0; i < halves; ++i) {
        const float base = softmax.Raise(i, RowSoftmax::LargestOf(scores_at, i), in.scale2, rescale[i]);
        softmax.Add(i, rescale[i], RowSoftmax::WeighRow(scores_at, i, in.scale2, base));
      }
      RescaleSums<OwnColumns<P>::kBlocks>([&](int block) { return o.at[block]; }, rescale);
      if (behind < kSoftmaxTile) OwnColumns<P>::ClearRest(held.values, behind);
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        if (!seen.pages.Holds(tile * kPages + page)) continue;
        unsigned weights[kTileRows / 16][4];
        RoundToA(weights, scores[page]);
        if (halves == 1) {
#pragma unroll
          for (auto& a : weights) a[1] = a[3] = 0;  // of queries that are not there
        }
        o.AddPage(weights, held.values, page);
      }
      __syncwarp();
      if (Lane() == 0) Arrive(notes.empty + place.stage);
    }
#pragma unroll
    for (int i = 0; i < halves; ++i) {
      const float sum = softmax.Sum(i);
      if (!heads.There(i)) continue;
      const std::int64_t row = heads.row + 8 * i;
      StoreColumns<OwnColumns<P>::kBlocks>(out + row * in.D, OwnColumns<P>::First(), in.D, i, RowSoftmax::Inverse(sum),
                                           [&](int block) { return o.at[block]; });
      if (threadIdx.x < kWarp && Lane() % 4 == 0) lse[row] = softmax.LogSum(i, sum, heads.Sink(i, in.sinks));
    }
  }
}

template <int P, int halves>
__global__ void __launch_bounds__(kTeamThreads + kWarp, kBlocksAtOnce<P, halves>)
    StreamedForwardKernel(const __grid_constant__ Pages keys, const __grid_constant__ Pages values,
                          const __grid_constant__ CachedQueries in, int stages, BFloat16* out, float* lse) {
  extern __shared__ __align__(1024) char shared[];
  auto* const ring = reinterpret_cast<Stage<P>*>(shared);
  auto& notes = *reinterpret_cast<TeamNotes*>(ring + stages);
  LetNextBegin();
  if (static_cast<int>(threadIdx.x) < stages) {
    InitBarrier(notes.full + threadIdx.x, 1);
    InitBarrier(notes.empty + threadIdx.x, kTeam);
    ShowBarriers();
  }
  __syncthreads();
  if (threadIdx.x >= kTeamThreads) return Feed<P>(in, keys, values, ring, notes, stages);
  WaitForPrevious();
  Attend<P, halves>(in, ring, notes, stages, out, lse);
}

template <int P, int halves>
void LaunchStreamed(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedQueries& in) {
  constexpr int kAtOnce = kBlocksAtOnce<P, halves>, kOfBlock = 1024;  // bytes that the system takes for each block
  const std::int64_t blocks =
      std::min(std::int64_t{in.N} * in.G * in.Parts(), std::int64_t{kAtOnce} * ctx.stream->multiprocessors);
  const int room = (ctx.stream->shared_memory + kOfBlock) / kAtOnce - kOfBlock,
            stages =
                std::min(kMostHeld, (room - static_cast<int>(sizeof(TeamNotes))) / static_cast<int>(sizeof(Stage<P>)));
  const auto pages = [&](const BFloat16* data) {
    Pages made;
    int rows = 0;
    for (CUtensorMap& map : made.of_steps) map = DescribeMatrix(data, in.cache_rows, in.D, in.D, rows += Pages::kStep);
    return made;
  };
  Launch(ctx,
         {static_cast<unsigned>(blocks), kTeamThreads + kWarp, stages * sizeof(Stage<P>) + sizeof(TeamNotes),
          /*early=*/true},
         StreamedForwardKernel<P, halves>, pages(in.k), pages(in.v), in, stages, out, lse);
}

}  // namespace

bool StreamsKeys(const Context& ctx, const CachedQueries& in) {
  constexpr int kLeast = 4;  // works of a multiprocessor
  return ctx.stream->has_warpgroups && in.cache_rows <= std::numeric_limits<int>::max() &&
         in.k_tile == kKeyTile * in.D && in.v_tile == in.k_tile &&
         in.N * in.G * in.Parts() > kLeast * ctx.stream->multiprocessors;
}

void StreamedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedQueries& in) {
  const auto launch = [&]<int P>() {
    in.group <= kQueries / 2 ? LaunchStreamed<P, 1>(ctx, out, lse, in) : LaunchStreamed<P, 2>(ctx, out, lse, in);
  };
  in.D <= kPanel ? launch.operator()<kPanel>() : launch.operator()<2 * kPanel>();
}

}  // namespace swarr
