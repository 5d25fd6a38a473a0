// SPDX-License-Identifier: Apache-2.0
// A training run keeps no value that is not finite.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "model/model_files.h"
#include "small_run.h"
#include "temp_directory.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;
using nlohmann::ordered_json;

void SetNormWeight(const Trainee& t, float value) {
  t.model.parameters()["model.norm.weight"].value.data<float>()[0] = value;
}

TEST_CASE("a loss that is not finite stops the run before the weights change, and names tensor and checkpoint") {
  const TempDirectory dir;
  Small t;
  RunOptions run = Saving(dir / "run");
  OwnedTensor before(DType::kF32, {t.model.parameters().count()});
  run.on_step = [&](const ordered_json& row) {
    if (row["step"] != 5) return;
    SetNormWeight(t, std::numeric_limits<float>::infinity());
    Copy(before.view(), t.model.parameters().master());
  };
  std::string sentence;
  try {
    Train(t, run, 20);
  } catch (const Error& error) {
    sentence = error.what();
  }
  for (const char* part : {"not finite at step 6", "the weight model.norm.weight: 1 of", "checkpoint-00000004"}) {
    CHECK_MESSAGE(sentence.find(part) != std::string::npos, sentence);
  }
  CHECK(SameBits(t.model.parameters().master(), before.view()));
  CHECK(MetricsWithoutTimes(dir / "run").size() == 5);
  CHECK(CheckpointNames(dir / "run") == std::vector<std::string>{"checkpoint-00000002", "checkpoint-00000004"});

  Small early;
  SetNormWeight(early, std::numeric_limits<float>::quiet_NaN());
  const Contains without_update("no weight has changed yet, so the model that the run began with gives it");
  CHECK_THROWS_WITH_AS(Train(early, In(dir / "early"), 20), Contains("not finite at step 1"), Error);
  CHECK_THROWS_WITH_AS(Train(early, In(dir / "again"), 20), without_update, Error);
}

TEST_CASE("weights that are not finite are never saved: not as a checkpoint, nor as the model of the last update") {
  for (const int bad_step : {4, 5}) {
    const TempDirectory dir;
    Small t;
    RunOptions run = Saving(dir / "run");
    run.keep_checkpoints = 1;
    run.on_step = [&](const ordered_json& row) {
      if (row["step"] == bad_step) SetNormWeight(t, std::nanf(""));
    };
    CHECK_THROWS_WITH_AS(Train(t, run), Contains(Concat("after the update of step ", bad_step).c_str()), Error);
    CHECK(CheckpointNames(dir / "run") ==
          std::vector<std::string>{bad_step == 4 ? "checkpoint-00000002" : "checkpoint-00000004"});
    CHECK(!fs::exists(dir / "run" / "model.safetensors"));
  }
}

TEST_CASE("the checkpoint before is kept until the step after the newest was finite, with one to keep too") {
  const TempDirectory dir;
  Small t;
  RunOptions run = Saving(dir / "run");
  run.keep_checkpoints = 1;
  run.saving = [&](bool begins) {  // the weights of step 4 are finite where they are saved, and useless
    if (!begins && fs::exists(dir / "run" / "checkpoint-00000004")) SetNormWeight(t, std::nanf(""));
  };
  CHECK_THROWS_WITH_AS(Train(t, run), Contains("checkpoint-00000002"), Error);
  CHECK(CheckpointNames(dir / "run") == std::vector<std::string>{"checkpoint-00000002"});
  CHECK(fs::exists(dir / "run" / "set-aside-1" / "checkpoint-00000004"));
}

TEST_CASE("tracing names layer and op of the first value that is not finite") {
  const TempDirectory dir;
  Small t;
  t.ctx.trace_non_finite = true;
  t.model.parameters()["model.layers.1.mlp.up_proj.weight"].value.data<float>()[0] = std::nanf("");
  CHECK_THROWS_WITH_AS(Train(t, In(dir / "run")), Contains("layer 1: the result of the op linear"), Error);
}

}  // namespace
}  // namespace swarr
