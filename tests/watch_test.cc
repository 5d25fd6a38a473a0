// SPDX-License-Identifier: Apache-2.0
#include "train/watch.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/files.h"
#include "temp_directory.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;
using Warnings = std::vector<std::pair<int, std::string>>;  // step, and how the text begins

// A healthy step of RL.
ordered_json Healthy(double reward = 0.5) {
  return {{"grad_norm", 0.1}, {"num_updates", 1},
          {"entropy", 0.3},   {"rollout_logprob_tokens", 900},
          {"reward", reward}, {"completions/clipped_ratio", 0.02}};
}

ordered_json With(ordered_json row, const char* name, const ordered_json& value) {
  row[name] = value;
  return row;
}

// The steps at which warnings begin, and their first two words.
Warnings Watched(int steps, const std::function<ordered_json(int step)>& row) {
  Watch watch;
  Warnings found;
  for (int step = 1; step <= steps; ++step) {
    for (const std::string& text : watch.See(row(step))) {
      found.emplace_back(step, text.substr(0, text.find(' ', text.find(' ') + 1)));
    }
  }
  return found;
}

}  // namespace

TEST_CASE("a healthy run gives no warning") {
  CHECK(Watched(500, [](int step) { return Healthy(0.5 + 0.3 * std::sin(step)); }).empty());
  CHECK(Watched(500, [](int step) { return Healthy(0.001 * step); }).empty());
  CHECK(Watched(10, [](int) { return With(Healthy(), "num_updates", 0); }).empty());  // too short to tell
}

TEST_CASE("twenty steps without an update give one warning, and one more only if they come again after an update") {
  const auto stalled = [](int step) { return With(Healthy(), "num_updates", step == 60 ? 1 : 0); };
  CHECK(Watched(59, stalled) == Warnings{{20, "none of"}});
  CHECK(Watched(200, stalled) == Warnings{{20, "none of"}, {80, "none of"}});
  CHECK(Watched(200, [](int step) { return With(Healthy(), "num_updates", step % 20 == 0 ? 1 : 0); }).empty());
}

TEST_CASE("steps of SFT, which have no num_updates, are without an update where the gradient is 0") {
  const auto sft = [](double norm) { return ordered_json{{"loss", 1.0}, {"grad_norm", norm}, {"entropy", 0.0}}; };
  CHECK(Watched(100, [&](int step) { return sft(step > 30 ? 0.0 : 0.5); }) == Warnings{{50, "none of"}});
  CHECK(Watched(100, [&](int) { return sft(1e-9); }).empty());
}

TEST_CASE("num_updates tells of updates where a row has no gradient norm, as where it was no number") {
  const auto stalled = [](int) { return With(With(Healthy(), "num_updates", 0), "grad_norm", nullptr); };
  CHECK(Watched(100, stalled) == Warnings{{20, "none of"}});
}

TEST_CASE("a policy that solves everything may be without updates and without entropy") {
  const auto solved = [](int step) {
    ordered_json row = Healthy(step < 30 ? 0.6 : 1.0);
    if (step >= 50) row.update({{"num_updates", 0}, {"entropy", 0.001}});
    return row;
  };
  CHECK(Watched(200, solved).empty());
}

TEST_CASE("a mean reward below half of its best gives a warning") {
  const Warnings found = Watched(100, [](int step) { return Healthy(step <= 40 ? 0.8 : 0.1); });
  REQUIRE(found.size() == 1);
  CHECK(found[0] == std::pair<int, std::string>{56, "the reward"});  // 16 steps of 0.1 among 20: the mean is 0.24
  CHECK(Watched(100, [](int step) { return Healthy(step <= 40 ? 0.8 : 0.45); }).empty());
}

TEST_CASE("the noise of steps with few completions is no collapse") {
  PhiloxStream noise(StreamKey(0, Purpose::kInit));
  const auto eight = [&](int) {  // completions, each right with probability 0.2
    double right = 0;
    for (int i = 0; i < 8; ++i) right += noise.NextUniform() < 0.2;
    return Healthy(right / 8);
  };
  CHECK(Watched(2000, eight).empty());
}

TEST_CASE("a mean entropy below a twentieth of the first step's gives a warning in RL, and none in SFT") {
  const auto falling = [](int step) { return With(Healthy(), "entropy", 0.3 * std::pow(0.9, step - 1)); };
  const Warnings found = Watched(100, falling);
  REQUIRE(found.size() == 1);
  CHECK(found[0].second == "the entropy");
  const auto sft = [&](int step) {
    ordered_json row = falling(step);
    for (const char* name : {"reward", "num_updates", "completions/clipped_ratio"}) row.erase(name);
    return row;
  };
  CHECK(Watched(100, sft).empty());
}

TEST_CASE("an entropy of 0 over no tokens is not looked at") {
  const auto dropped = [](int step) {
    ordered_json row = Healthy();
    if (step % 2 == 0) row.update({{"entropy", 0.0}, {"rollout_logprob_tokens", 0}});
    return row;
  };
  CHECK(Watched(100, dropped).empty());
}

TEST_CASE("more than a quarter of completions cut over twenty steps gives a warning, once") {
  const auto longer = [](int step) { return With(Healthy(), "completions/clipped_ratio", 0.01 * step); };
  CHECK(Watched(90, longer) == Warnings{{35, "many completions"}});
  const auto around = [](int step) { return With(Healthy(), "completions/clipped_ratio", step % 2 == 0 ? 0.3 : 0.21); };
  CHECK(Watched(300, around).size() == 1);
}

TEST_CASE("a run that goes on from its metrics gives the same warnings at the same steps") {
  const auto row = [](int step) {
    ordered_json r = Healthy(step < 30 ? 0.7 + 0.01 * std::sin(step) : 0.1);
    if (step > 60) r["num_updates"] = 0;
    r["completions/clipped_ratio"] = 0.004 * step;
    r["entropy"] = 0.3 / (step * step);
    return r;
  };
  std::vector<ordered_json> all;
  Watch whole;
  for (int step = 1; step <= 120; ++step) {
    all.push_back({{"step", step}});
    all.back().update(row(step));
    whole.AddTo(all.back());
  }
  CHECK(std::count_if(all.begin(), all.end(), [](const auto& r) { return r.contains("warnings"); }) >= 4);
  for (const int stop : {0, 1, 19, 20, 45, 70, 119}) {
    const TempDirectory dir;
    std::string lines;
    for (int i = 0; i < stop + 1; ++i) lines += all[static_cast<std::size_t>(i)].dump() + "\n";  // one step too many
    WriteFileAtomically(dir / "metrics.jsonl", lines);
    Watch resumed(dir.path(), stop);
    for (int step = stop + 1; step <= 120; ++step) {
      ordered_json again = {{"step", step}};
      again.update(row(step));
      resumed.AddTo(again);
      CHECK(again == all[static_cast<std::size_t>(step - 1)]);
    }
  }
}

TEST_CASE("the warnings of a run are read back from its metrics with their steps") {
  const TempDirectory dir;
  CHECK(WarningsOf(dir.path()).empty());
  WriteFileAtomically(dir / "metrics.jsonl",
                      "{\"step\": 1, \"loss\": 1}\n{\"step\": 2, \"warnings\": [\"a\", \"b\"]}\n");
  CHECK(WarningsOf(dir.path()) == std::vector<std::pair<std::int64_t, std::string>>{{2, "a"}, {2, "b"}});
}

}  // namespace swarr
