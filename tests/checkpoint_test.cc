// SPDX-License-Identifier: Apache-2.0
// A checkpoint knows itself: whatever happens to one of its files, it is refused by name, or the run ends as if nothing
// had happened.
#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/files.h"
#include "resume_checks.h"
#include "temp_directory.h"
#include "tensor/safetensors.h"
#include "train/run.h"
#include "train/sft.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int kSteps = 6, kStopped = 4;

void Train(Trainee& t, const RunOptions& run_options, int seed) {
  SftOptions options;
  options.steps = kSteps;
  options.batch_size = 2;
  options.seed = static_cast<std::uint64_t>(seed);
  const ordered_json config = {{"steps", kSteps}, {"batch_size", 2}, {"seed", seed}};
  TrainingRun run(run_options, config, t.model, t.optimizer, t.tokenizer);
  const TableTask task({{"a?", "b", "b"}, {"b?", "cc", "c"}, {"abc?", "d", "d"}});
  RunSft(t.ctx, t.model, t.tokenizer, task, nullptr, options, t.optimizer, run);
  run.Finish();
}

struct Small : Trainee {
  Small() : Trainee(TextConfig(), DType::kF32, {}) {}
};

// A run that was stopped after kStopped steps, with checkpoints of the last two.
void MakeStoppedRun(const fs::path& dir, const fs::path& base, int seed) {
  Small t;
  RunOptions options = In(dir);
  options.model_dir = base;
  options.save_every = 1;
  bool ended = false;
  options.on_step = [&](const nlohmann::ordered_json& row) { ended = row["step"] == kStopped; };
  options.interrupted = [&] { return ended; };
  CHECK_THROWS_AS(Train(t, options, seed), Interrupted);
}

struct Damage {
  std::string name;
  std::function<void(const fs::path& checkpoint)> apply;
};

void Change(const fs::path& file, const std::function<void(std::string&)>& change) {
  std::string bytes = ReadFile(file);
  change(bytes);
  WriteFileAtomically(file, bytes);
}

// Whatever can happen to one file.
std::vector<Damage> DamagesOf(const std::string& name, const fs::path& other_step, const fs::path& other_run) {
  const auto flip = [](std::size_t quarter) {
    return [quarter](std::string& bytes) {
      const std::size_t at = std::min(bytes.size() - 1, bytes.size() * quarter / 4);
      bytes[at] = static_cast<char>(bytes[at] ^ 4);
    };
  };
  const std::vector<std::pair<std::string, std::function<void(std::string&)>>> changes = {
      {"truncated", [](std::string& bytes) { bytes.resize(bytes.size() / 2); }},
      {"emptied", [](std::string& bytes) { bytes.clear(); }},
      {"a bit of the head flipped", flip(0)},
      {"a bit of the middle flipped", flip(2)},
      {"a bit of the end flipped", flip(4)},
      {"a sector zeroed",
       [](std::string& bytes) {
         for (std::size_t i = bytes.size() / 3; i < std::min(bytes.size(), bytes.size() / 3 + 512); ++i) bytes[i] = 0;
       }},
  };
  std::vector<Damage> damages = {
      {name + " deleted", [name](const fs::path& c) { fs::remove(c / name); }},
      {name + " of another step",
       [=](const fs::path& c) { WriteFileAtomically(c / name, ReadFile(other_step / name)); }},
      {name + " of another run",
       [=](const fs::path& c) { WriteFileAtomically(c / name, ReadFile(other_run / name)); }}};
  for (const auto& [what, change] : changes) {
    damages.push_back({name + ": " + what, [name, change = change](const fs::path& c) { Change(c / name, change); }});
  }
  return damages;
}

// Two tensors of the same shape change places in a file that is well-formed before and after.
Damage Swap(const std::string& file, const std::string& a, const std::string& b) {
  return {file + ": " + a + " and " + b + " swapped", [=](const fs::path& c) {
            std::vector<std::pair<std::string, OwnedTensor>> kept;
            {
              const SafetensorsFile in(c / file);
              for (const std::string& name : in.names()) {
                const std::int64_t size =
                    in.shape(name).size() == 2 ? in.shape(name)[0] * in.shape(name)[1] : in.shape(name)[0];
                OwnedTensor t(DType::kF32, {size});
                in.ReadAs(name, 0, t.view());
                const std::string to = name == a ? b : (name == b ? a : name);
                kept.emplace_back(to, std::move(t));
              }
              std::vector<NamedTensor> tensors;
              for (const auto& [name, t] : kept) {
                tensors.push_back({name, in.shape(name).size() == 2
                                             ? t.view().Reshape({in.shape(name)[0], in.shape(name)[1]})
                                             : t.view()});
              }
              WriteSafetensors(c / file, tensors);
            }
          }};
}

// Each field of the state with another value of its type.
std::vector<Damage> DamagesOfFields(const fs::path& checkpoint) {
  std::vector<Damage> damages;
  const auto state = ordered_json::parse(ReadFile(checkpoint / "trainer_state.json"));
  const auto add = [&](const ordered_json::json_pointer& at) {
    damages.push_back({"trainer_state.json: " + at.to_string() + " changed", [at](const fs::path& c) {
                         Change(c / "trainer_state.json", [&](std::string& bytes) {
                           auto json = ordered_json::parse(bytes);
                           ordered_json& value = json[at];
                           if (value.is_number()) {
                             value = value.get<int>() + 1;
                           } else if (value.is_string()) {
                             value = value.get<std::string>() + "0";
                           } else {
                             value = ordered_json::array({1});
                           }
                           bytes = json.dump(2) + "\n";
                         });
                       }});
  };
  for (const auto& [key, value] : state.items()) {
    if (value.is_object() && !value.empty()) {
      for (const auto& [inner, unused] : value.items()) add(ordered_json::json_pointer("/" + key) / inner);
    } else {
      add(ordered_json::json_pointer("/" + key));
    }
  }
  return damages;
}

TEST_CASE("a damaged checkpoint is refused by name, or does no harm; auto reports it and takes the one before") {
  const TempDirectory dir;
  Small alone;
  SaveModel(dir / "base", alone.model, alone.tokenizer);
  WriteFileAtomically(dir / "base" / "generation_config.json", R"({"eos_token_id": [0, 3], "temperature": 1.0})");
  RunOptions undisturbed = In(dir / "alone");
  Train(alone, undisturbed, /*seed=*/3);
  MakeStoppedRun(dir / "run", dir / "base", 3);
  MakeStoppedRun(dir / "other", dir / "base", 4);
  const std::string newest = StepName("checkpoint-", kStopped), before = StepName("checkpoint-", kStopped - 1);
  REQUIRE(fs::exists(dir / "run" / before));

  std::vector<Damage> damages = DamagesOfFields(dir / "run" / newest);
  for (const auto& e : fs::directory_iterator(dir / "run" / newest)) {
    const auto more = DamagesOf(e.path().filename().string(), dir / "run" / before, dir / "other" / newest);
    damages.insert(damages.end(), more.begin(), more.end());
  }
  damages.push_back(
      Swap("model.safetensors", "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"));
  damages.push_back(Swap("optimizer.safetensors", "m", "v"));
  damages.push_back({"put in the place of another step", [&](const fs::path& c) {
                       fs::remove_all(c);
                       fs::copy(dir / "run" / before, c);
                     }});
  CHECK(damages.size() >= 72);

  int refused = 0, harmless = 0;
  for (const Damage& damage : damages) {
    INFO(damage.name);
    const fs::path copy = dir / "copy";
    fs::remove_all(copy);
    fs::copy(dir / "run", copy, fs::copy_options::recursive);
    damage.apply(copy / newest);
    std::string said;
    RunOptions options = In(copy);
    options.model_dir = dir / "base";
    options.warn = [&](const std::string& sentence) { said += sentence + "\n"; };

    options.resume = (copy / newest).string();
    Small named;
    bool ran = true;
    try {
      Train(named, options, 3);
    } catch (const Error& e) {
      ran = false;
      CHECK_MESSAGE(std::string(e.what()).find(newest) != std::string::npos, e.what());
    }
    if (ran) CHECK(SameState(named, alone));
    ++(ran ? harmless : refused);
    if (ran) continue;

    options.resume = "auto";
    said.clear();
    Small automatic;
    Train(automatic, options, 3);
    CHECK(said.find(newest) != std::string::npos);
    CHECK(SameState(automatic, alone));
  }
  // The tokenizer, the side files and the config are the same in every checkpoint.
  MESSAGE(damages.size() << " damages: " << refused << " refused, " << harmless << " harmless");
  CHECK(harmless == 6);
}

}  // namespace
}  // namespace swarr
