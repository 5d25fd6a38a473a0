// SPDX-License-Identifier: Apache-2.0
// N ranks give the bits of one. The ranks are threads here.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "dist/chunk_tree.h"
#include "dist/ranks.h"
#include "dist/thread_ranks.h"
#include "rl_runs.h"
#include "small_run.h"
#include "temp_directory.h"
#include "tensor/memory_report.h"
#include "test_models.h"
#include "train/evaluate.h"
#include "train/rank_steps.h"
#include "train/sft.h"

namespace swarr {
namespace {

using doctest::Contains;
using nlohmann::ordered_json;

// The sum of a step as one writes it, with its brackets: "((0+1)+2)".
std::string SumAsWritten(int chunks, int ranks) {
  const std::vector<ChunkRange> shares = ChunksOfRanks(chunks, ranks);
  std::vector<std::string> sums;
  for (const ChunkRange& share : shares) {
    std::string sum;
    std::map<int, std::string> held;
    SumChunks(
        share,
        [&](int chunk) {
          CHECK(sum.empty());
          sum = Concat(chunk);
        },
        [&](int depth) {
          CHECK(!held.contains(depth));
          CHECK(depth < SumsHeld(share.size()));
          held[depth] = std::exchange(sum, "");
        },
        [&](int depth) {
          sum = Concat("(", held.at(depth), "+", sum, ")");
          held.erase(depth);
        });
    CHECK(held.empty());
    sums.push_back(sum);
  }
  AddAlongTree(chunks, ranks, [&](int a, int b) {
    std::string& to = sums[static_cast<std::size_t>(a)];
    to = Concat("(", to, "+", sums[static_cast<std::size_t>(b)], ")");
  });
  return sums[0];
}

TEST_CASE("the chunks of a step are added along one tree, on however many ranks") {
  CHECK(SumAsWritten(1, 1) == "0");
  CHECK(SumAsWritten(3, 1) == "((0+1)+2)");
  CHECK(SumAsWritten(8, 1) == "(((0+1)+(2+3))+((4+5)+(6+7)))");
  for (int chunks = 1; chunks <= 33; ++chunks) {
    for (int ranks = 2; ranks <= chunks; ++ranks) {
      INFO(chunks, " chunks on ", ranks, " ranks");
      CHECK(SumAsWritten(chunks, ranks) == SumAsWritten(chunks, 1));
    }
  }
}

TEST_CASE("ranks get chunks in a row, in equal numbers where these are powers of two, and never none") {
  CHECK(ChunksOfRanks(8, 4) == std::vector<ChunkRange>{{0, 2}, {2, 4}, {4, 6}, {6, 8}});
  CHECK(ChunksOfRanks(6, 3) == std::vector<ChunkRange>{{0, 2}, {2, 3}, {3, 6}});
  for (int chunks = 1; chunks <= 33; ++chunks) {
    for (int ranks = 1; ranks <= chunks; ++ranks) {
      int next = 0;
      for (const ChunkRange& share : ChunksOfRanks(chunks, ranks)) {
        CHECK(share.begin == next);
        CHECK(share.size() > 0);
        next = share.end;
      }
      CHECK(next == chunks);
    }
  }
  CHECK_THROWS_WITH_AS(ChunksOfRanks(2, 3), Contains("--grad-accum"), Error);
}

// A text model with several shards of parameters.
ModelConfig ShardedConfig() {
  ModelConfig config = TextConfig();
  config.hidden = 48;
  config.ffn = 80;
  config.attention = {{}, {4, 0}};
  return config;
}

// Of one rank, what training gives: the weights that it computes with, and the rows of its steps.
struct Outcome {
  std::string values;
  std::vector<ordered_json> rows;
  bool operator==(const Outcome&) const = default;
};

using Loop = std::function<void(Trainee&, Optimizer&, TrainingSteps&)>;

std::vector<Outcome> TrainOnRanks(int ranks, DType dtype, const Loop& loop) {
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  OptimizerOptions options;
  options.lr = 0.01;
  RunThreadRanks(ranks, [&](Communicator& communicator) {
    Trainee t(ShardedConfig(), dtype, options);
    Randomize(t.model);
    Optimizer optimizer(t.model.parameters(), options, ranks > 1 ? Ranks(communicator) : Ranks());
    Outcome& outcome = outcomes[static_cast<std::size_t>(communicator.rank())];
    StepsInMemory steps([&](ordered_json row) {
      for (const char* name : {"step_time", "tokens_per_second", "peak_memory_mb"}) row.erase(name);
      outcome.rows.push_back(std::move(row));
    });
    loop(t, optimizer, steps);
    const Tensor values = t.model.parameters().values();
    outcome.values = {static_cast<const char*>(values.raw()), values.bytes()};
  });
  return outcomes;
}

void CheckSameOnAnyRanks(int chunks, const Loop& loop) {
  // In f64 too, where another order of a metric's terms shows: sums of a few f32 in f64 are exact in any.
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Outcome one = TrainOnRanks(1, dtype, loop)[0];
    for (int ranks : {1, 2, 3, 4, 8}) {
      if (ranks > chunks) continue;
      INFO(Name(dtype), " on ", ranks, " ranks");
      for (const Outcome& outcome : TrainOnRanks(ranks, dtype, loop)) {
        CHECK(outcome.values == one.values);
        CHECK(outcome.rows == one.rows);
      }
    }
  }
}

TEST_CASE("SFT on 1, 2, 3, 4 and 8 ranks gives the same bits of weights and the same metrics after 20 steps") {
  const TableTask task({{"a?", "b", "b"}, {"b?", "cc", "c"}, {"abc?", "d", "d"}, {"dd?", "abcd", "d"}, {"c?", "", ""}});
  SftOptions sft;
  sft.steps = 20;
  sft.batch_size = 2;
  sft.grad_accum = 8;
  sft.eval_every = 10;
  sft.eval_problems = 5;
  sft.eval_max_completion_length = 6;
  CheckSameOnAnyRanks(sft.grad_accum, [&](Trainee& t, Optimizer& optimizer, TrainingSteps& steps) {
    RunSft(t.ctx, t.model, t.tokenizer, task, &task, sft, optimizer, steps);
  });
}

TEST_CASE("RL on 1, 2, 3, 4 and 8 ranks gives the same bits of weights and the same metrics after 20 steps") {
  RlOptions rl = Steps(20);
  rl.prompts_per_step = 9;
  rl.num_generations = 3;
  rl.chunks = 8;
  CheckSameOnAnyRanks(rl.chunks, [&](Trainee& t, Optimizer& optimizer, TrainingSteps& steps) {
    CHECK(RunRl(t.ctx, t.model, t.tokenizer, ShareTask(), rl, optimizer, steps).max_abs_diff == 0.0);
  });
}

TEST_CASE("RL with several rounds, a reference and several updates gives the same on 1, 2 and 3 ranks") {
  RlOptions rl = EverythingOn(3);
  rl.prompts_per_step = 5;
  rl.chunks = 3;
  const Transformer reference = Reference(ShardedConfig(), DType::kF32);
  const auto loop = [&](Trainee& t, Optimizer& optimizer, TrainingSteps& steps) {
    RunRl(t.ctx, t.model, t.tokenizer, PickyTask(), rl, optimizer, steps, &reference);
  };
  const Outcome one = TrainOnRanks(1, DType::kF32, loop)[0];
  for (int ranks : {2, 3}) {
    for (const Outcome& outcome : TrainOnRanks(ranks, DType::kF32, loop)) CHECK(outcome == one);
  }
}

TEST_CASE("how many chunks a step has decides its bits: it is a setting of the run") {
  const TableTask task({{"a?", "b", "b"}, {"b?", "cc", "c"}, {"abc?", "d", "d"}});
  std::set<std::string> values;
  for (int chunks : {1, 4}) {
    SftOptions sft;
    sft.steps = 5;
    sft.batch_size = 8 / chunks;
    sft.grad_accum = chunks;
    values.insert(TrainOnRanks(1, DType::kF32,
                               [&](Trainee& t, Optimizer& optimizer, TrainingSteps& steps) {
                                 RunSft(t.ctx, t.model, t.tokenizer, task, nullptr, sft, optimizer, steps);
                               })[0]
                      .values);
  }
  CHECK(values.size() == 2);
}

TEST_CASE("shards are whole chunks of the norm, cover all parameters, and may be empty") {
  RunThreadRanks(3, [](Communicator& communicator) {
    const Ranks ranks(communicator);
    for (std::int64_t parameters : {1, 4096, 4097, 3 * 4096, 1'000'000}) {
      std::int64_t next = 0;
      for (int r = 0; r < 3; ++r) {
        const Part shard = ranks.ShardOf(parameters, r);
        CHECK(shard.begin == next);
        CHECK((shard.begin % 4096 == 0 || shard.size() == 0));
        next = shard.end;
      }
      CHECK(next == parameters);
    }
  });
}

TEST_CASE(
    "rank 0's weights, moments and steps come to all, whatever these had, and its moments are collected as they were") {
  RunThreadRanks(3, [](Communicator& communicator) {
    Trainee t(ShardedConfig(), DType::kBF16, {});
    Randomize(t.model, static_cast<std::uint32_t>(communicator.rank()));
    const ParameterStore& parameters = t.model.parameters();
    const Ranks ranks(communicator);
    Optimizer optimizer(parameters, {}, ranks);
    const Part shard = ranks.ShardOf(parameters.count(), ranks.rank());
    const std::int64_t collected = ranks.rank() == 0 ? parameters.count() : shard.size();  // rank 0 alone has all
    optimizer.MakeRoom();
    CHECK(optimizer.first_moment().size() == collected);
    const auto moment_at = [](std::int64_t i) { return static_cast<float>(i % 1000); };
    if (ranks.rank() == 0) {
      for (std::int64_t i = 0; i < parameters.count(); ++i) optimizer.first_moment().data<float>()[i] = moment_at(i);
    }
    optimizer.set_steps_taken(10 + ranks.rank());
    optimizer.Distribute(t.ctx);
    CHECK(optimizer.steps_taken() == 10);
    REQUIRE(optimizer.first_moment().size() == shard.size());
    for (std::int64_t i = 0; i < shard.size(); ++i) {
      CHECK(optimizer.first_moment().data<float>()[i] == moment_at(shard.begin + i));
    }
    for (const Tensor& flat : {parameters.master(), parameters.values()}) {
      const std::vector<std::string> all = communicator.Gather({static_cast<const char*>(flat.raw()), flat.bytes()});
      CHECK((all[1] == all[0] && all[2] == all[0]));
    }
    optimizer.Collect(t.ctx);
    REQUIRE(optimizer.first_moment().size() == collected);
    if (ranks.rank() > 0) return;
    for (std::int64_t i = 0; i < parameters.count(); ++i)
      CHECK(optimizer.first_moment().data<float>()[i] == moment_at(i));
  });
}

TEST_CASE("a rank has its shard of the moments, and room for the others' sums of its shard or, rank 0, their shards") {
  for (int count : {2, 3, 4}) {
    RunThreadRanks(count, [&](Communicator& communicator) {
      const Trainee t(ShardedConfig(), DType::kF32, {});
      const std::int64_t parameters = t.model.parameters().count();
      const Ranks ranks(communicator);
      const Optimizer optimizer(t.model.parameters(), {}, ranks);
      const std::int64_t shard = ranks.ShardOf(parameters, ranks.rank()).size(), sums = (count - 1) * shard,
                         room = ranks.rank() == 0 ? std::max(sums, parameters - shard) : sums;
      MemoryReport report;
      optimizer.NoteMemory(report);
      const auto held = report.ToJson(*t.ctx.arena)["held"];
      CHECK(held["optimizer moments"] == 2 * 4 * shard);
      CHECK(held["sums of gradients"] == 4 * room);
    });
  }
}

// What each rank says when a parameter's gradient in one of a step's two chunks is not a number.
std::set<std::string> SaidOfNan(int ranks, const char* parameter, int bad_chunk) {
  const TempDirectory dir;
  std::vector<std::string> said(static_cast<std::size_t>(ranks));
  RunThreadRanks(ranks, [&](Communicator& communicator) {
    Trainee t(ShardedConfig(), DType::kF32, {});
    Optimizer optimizer(t.model.parameters(), {}, ranks > 1 ? Ranks(communicator) : Ranks());
    const auto check = [&](TrainingSteps& steps) {
      optimizer.SumGradients(t.ctx, 2, [&](int chunk) {
        if (chunk == bad_chunk) t.model.parameters()[parameter].grad.data<float>()[1] = std::nanf("");
      });
      try {
        steps.CheckFinite("gradient norm", optimizer.GradientNorm(t.ctx));
      } catch (const Error& error) {
        said[static_cast<std::size_t>(communicator.rank())] = error.what();
      }
    };
    if (communicator.rank() > 0) {
      FollowingSteps following(t.ctx, optimizer, {});
      return check(following);
    }
    LeadingSteps leading(t.ctx, optimizer, {});
    TrainingRun run(In(dir / "run"), ordered_json::object(), t.model, optimizer, t.tokenizer);
    if (ranks == 1) return check(run);
    leading.Lead(run);
    check(leading);
  });
  return {said.begin(), said.end()};
}

TEST_CASE("all ranks name the gradient that is not finite, whoever computed it and whoever has its sum") {
  for (const char* parameter : {"model.embed_tokens.weight", "model.norm.weight"}) {
    for (int bad_chunk : {0, 1}) {
      INFO(Concat(parameter, ", chunk ", bad_chunk));
      const std::set<std::string> alone = SaidOfNan(1, parameter, bad_chunk);
      CHECK_MESSAGE(alone.begin()->find(Concat("the gradient of ", parameter, ": 1 of")) != std::string::npos,
                    *alone.begin());
      CHECK(SaidOfNan(2, parameter, bad_chunk) == alone);
    }
  }
}

TEST_CASE("what is put on one rank comes to another, and what they gather stands by rank") {
  RunThreadRanks(3, [](Communicator& communicator) {
    TestContext t;
    const int own = communicator.rank();
    std::vector<Tensor> send, receive;
    for (int r = 0; r < 3; ++r) {
      send.push_back(t.arena.NewZero(DType::kF32, {r + 1}));
      receive.push_back(t.arena.NewZero(DType::kF32, {own + 1}));
      send.back().data<float>()[r] = static_cast<float>(10 * own + r);
    }
    send[static_cast<std::size_t>(own)] = receive[static_cast<std::size_t>(own)] = {};
    communicator.Exchange(t.ctx, send, receive);
    for (int r = 0; r < 3; ++r) {
      if (r != own) CHECK(receive[static_cast<std::size_t>(r)].data<float>()[own] == static_cast<float>(10 * r + own));
    }
    CHECK(Ranks(communicator).GatherAll(std::vector<int>(static_cast<std::size_t>(own), own)) == std::vector{1, 2, 2});
  });
}

TEST_CASE("a rank that ends ends the others, and its error is the one that is told") {
  int lost = 0;
  const auto run = [&](Communicator& communicator) {
    if (communicator.rank() == 1) throw Error("no room");
    try {
      for (int i = 0; i < 100; ++i) communicator.Gather("");
    } catch (const RankLost&) {
      ++lost;
      throw;
    }
  };
  CHECK_THROWS_WITH_AS(RunThreadRanks(2, run), Contains("no room"), Error);
  CHECK(lost == 1);
}

}  // namespace
}  // namespace swarr
