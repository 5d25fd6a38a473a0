// SPDX-License-Identifier: Apache-2.0
// Event files, read back byte by byte by a reader that shares nothing with the writer.
#include "train/event_file.h"

#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "program.h"
#include "small_run.h"
#include "temp_directory.h"

using namespace swarr;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

// CRC-32C bit by bit, without a table.
std::uint32_t SlowCrc(const std::string& bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
  }
  return crc ^ 0xFFFFFFFF;
}

class Reader {
 public:
  explicit Reader(std::string bytes) : bytes_(std::move(bytes)) {}
  bool AtEnd() const { return at_ == bytes_.size(); }
  std::string Take(std::size_t count) {
    REQUIRE(at_ + count <= bytes_.size());
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  template <class T>
  T Number() {
    T value;
    std::memcpy(&value, Take(sizeof value).data(), sizeof value);  // these tests run on little-endian machines
    return value;
  }
  std::uint64_t Varint() {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = Number<unsigned char>();
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
  }
  std::string Text() { return Take(Varint()); }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

struct ReadEvent {
  double wall_time = 0;
  std::uint64_t step = 0;
  std::string version;
  std::uint64_t session = 0;
  std::map<std::string, float> scalars;
};

void ReadScalar(Reader value, std::map<std::string, float>& scalars) {
  REQUIRE(value.Number<unsigned char>() == 0x0A);
  const std::string name = value.Text();
  REQUIRE(value.Number<unsigned char>() == 0x15);
  scalars[name] = value.Number<float>();
  CHECK(value.AtEnd());
}

ReadEvent Parse(Reader in) {
  ReadEvent event;
  while (!in.AtEnd()) {
    switch (in.Varint()) {
      case 0x09:
        event.wall_time = in.Number<double>();
        break;
      case 0x10:
        event.step = in.Varint();
        break;
      case 0x1A:
        event.version = in.Text();
        break;
      case 0x2A:
        for (Reader summary(in.Text()); !summary.AtEnd();) {
          REQUIRE(summary.Number<unsigned char>() == 0x0A);
          ReadScalar(Reader(summary.Text()), event.scalars);
        }
        break;
      case 0x3A: {
        Reader log(in.Text());
        REQUIRE(log.Number<unsigned char>() == 0x08);
        event.session = log.Varint();
        break;
      }
      default:
        FAIL("an unknown field");
    }
  }
  return event;
}

std::vector<ReadEvent> ReadEvents(const fs::path& path) {
  const auto masked = [](const std::string& bytes) {
    const std::uint32_t crc = SlowCrc(bytes);
    return (crc >> 15 | crc << 17) + 0xA282EAD8;
  };
  std::vector<ReadEvent> events;
  for (Reader file(ReadFile(path)); !file.AtEnd();) {
    const std::string length = file.Take(8);
    CHECK(file.Number<std::uint32_t>() == masked(length));
    const std::string event = file.Take(Reader(length).Number<std::uint64_t>());
    CHECK(file.Number<std::uint32_t>() == masked(event));
    events.push_back(Parse(Reader(event)));
  }
  return events;
}

}  // namespace

TEST_CASE("CRC-32C has the values of RFC 3720, appendix B.4") {
  CHECK(Crc32c("123456789") == 0xE3069283);
  CHECK(Crc32c(std::string(32, '\0')) == 0x8A9136AA);
  CHECK(Crc32c(std::string(32, '\xFF')) == 0x62A8AB43);
  CHECK(Crc32c("") == 0);
}

TEST_CASE("an event file opens with its version and holds the numbers of each row, under TRL's names") {
  const TempDirectory dir;
  const EventFile file(dir.path(), /*first_step=*/1);
  file.Add({{"step", 1}, {"loss", 0.5}, {"completions/mean_length", 300}, {"warnings", {"text"}}});
  file.Add({{"step", 300}, {"reward", -1.25}, {"kl", 1e-3}, {"eval/accuracy", 1}});
  const std::vector<fs::path> files = EventFilesOf(dir.path());
  REQUIRE(files.size() == 1);
  const std::vector<ReadEvent> events = ReadEvents(files[0]);
  REQUIRE(events.size() == 3);
  CHECK(events[0].version == "brain.Event:2");
  CHECK(events[0].wall_time > 1.7e9);
  CHECK(events[1].step == 1);
  CHECK(events[1].scalars ==
        std::map<std::string, float>{{"train/loss", 0.5F}, {"train/completions/mean_length", 300}});
  CHECK(events[2].step == 300);
  CHECK(events[2].scalars ==
        std::map<std::string, float>{{"train/reward", -1.25F}, {"train/kl", 1e-3F}, {"eval/accuracy", 1}});
}

TEST_CASE("a run's event files tell what metrics.jsonl tells, and after a resume readers drop what is made again") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  RunOptions first = Saving(out), second = Resuming(out, (out / "checkpoint-00000002").string());
  first.report_to = second.report_to = ReportTo::kTensorBoard;
  Small t, again;
  Train(t, first);
  Train(again, second);
  const std::vector<fs::path> files = EventFilesOf(out);
  REQUIRE(files.size() == 2);
  std::map<std::uint64_t, ReadEvent> kept;  // as a reader has them
  for (const fs::path& path : files) {
    for (const ReadEvent& event : ReadEvents(path)) {
      if (event.session == 1) std::erase_if(kept, [&](const auto& k) { return k.first >= event.step; });
      if (!event.scalars.empty()) CHECK(kept.emplace(event.step, event).second);
    }
  }
  const std::vector<nlohmann::json> rows = Lines(out / "metrics.jsonl");
  REQUIRE(kept.size() == rows.size());
  for (const nlohmann::json& row : rows) {
    const ReadEvent& event = kept.at(row["step"].get<std::uint64_t>());
    CHECK(event.scalars.at("train/loss") == row["loss"].get<float>());
    CHECK(event.scalars.at("train/num_tokens") == row["num_tokens"].get<float>());
    CHECK(event.scalars.size() == row.size() - 1);
  }
}

TEST_CASE("a run that is replaced loses its event files, and one that was not asked for any writes none") {
  const TempDirectory dir;
  RunOptions run = In(dir / "run");
  run.report_to = ReportTo::kTensorBoard;
  Small t, other;
  Train(t, run, /*steps=*/1);
  CHECK(EventFilesOf(dir / "run").size() == 1);
  run.report_to = ReportTo::kNone;
  run.overwrite = true;
  Train(other, run, /*steps=*/1);
  CHECK(EventFilesOf(dir / "run").empty());
}

TEST_CASE("--report-to tensorboard writes event files beside metrics.jsonl, and another name is refused") {
  const TempDirectory dir;
  const std::vector<std::string> pretrain = TinyPretrain(dir / "run", 2), to = {"--report-to"};
  REQUIRE(Swarr(pretrain + to + std::vector<std::string>{"tensorboard"}).status == 0);
  const std::vector<fs::path> files = EventFilesOf(dir / "run");
  REQUIRE(files.size() == 1);
  CHECK(ReadEvents(files[0]).size() == 3);
  const Outcome refused = Swarr(TinyPretrain(dir / "other", 2) + to + std::vector<std::string>{"wandb"});
  CHECK(refused.status == 2);
  CHECK(refused.Says("unknown --report-to 'wandb'; use none or tensorboard"));
  CHECK(!fs::exists(dir / "other"));
}
