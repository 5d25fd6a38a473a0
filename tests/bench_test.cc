// SPDX-License-Identifier: Apache-2.0
// The benchmarks as rows: which are measured, what they hold, and that their figures are consistent.
#include "bench/bench.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/suites.h"
#include "program.h"
#include "tensors.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

ordered_json Measure(const std::string& suite, const std::string& rows, DType dtype = DType::kF32) {
  TestContext t;
  return RunBench(t.ctx, {.suite = suite, .rows = rows, .dtype = dtype, .seconds_per_row = 1e-3});
}

// The shortest rows of the suite scaling, measured once for all tests.
const ordered_json& ShortScaling() {
  static const ordered_json results = Measure("scaling", "T1024 ");
  return results;
}

std::set<std::string> NamesOf(const ordered_json& results) {
  std::set<std::string> names;
  for (const ordered_json& row : results["rows"]) names.insert(row["name"].get<std::string>());
  return names;
}

std::vector<std::string> With(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("only rows with the text in their name are measured") {
  CHECK(NamesOf(Measure("train", "D train B16 T256")) ==
        std::set<std::string>{"D train B16 T256 full", "D train B16 T256 W64"});
  CHECK(NamesOf(Measure("train", "D train B16 T256 full, rl ")) ==
        std::set<std::string>{"D train B16 T256 full", "D rl B128 T64 W64"});
  CHECK(NamesOf(Measure("decode", "D decode B1 ")) ==
        std::set<std::string>{"D decode B1 greedy full", "D decode B1 sampled full", "D decode B1 sampled W64"});
  CHECK(NamesOf(ShortScaling()) == std::set<std::string>{"D forward T1024 W128", "D forward T1024 full",
                                                         "D train T1024 W128", "D train T1024 full",
                                                         "D decode T1024 W128", "D decode T1024 full"});
}

TEST_CASE("a text names the rows that have it in their name as whole words") {
  const ordered_json cases = ordered_json::parse(ReadFile(Concat(SWARR_TEST_DATA, "/bench_rows.json")));
  for (const ordered_json& one : cases) {
    const std::string rows = one["rows"], name = one["name"];
    CAPTURE(rows);
    CAPTURE(name);
    TestContext t;
    const BenchOptions options{.suite = "decode", .rows = rows};
    BenchRows bench(t.ctx, options);
    CHECK(bench.Wanted(name) == one["wanted"]);
    CHECK(bench.any_wanted() == one["wanted"]);
  }
}

TEST_CASE("where no row has a text, the names of all are seen before the error, each once, and nothing is measured") {
  for (const auto& [suite, name] :
       {std::pair("ops", "D gemm q backward dw"), std::pair("train", "D rl B128 T64 W64"),
        std::pair("decode", "D decode B16 greedy full"), std::pair("scaling", "D decode T262144 full")}) {
    CAPTURE(suite);
    TestContext t;
    std::vector<std::string> names;
    const BenchOptions options{.suite = suite,
                               .rows = Concat(name, ",B17"),
                               .on_no_row = [&](const auto& all) { names = all; },
                               .stop = [] {  // asked where a row is about to be measured
                                 FAIL("it is not to be measured");
                                 return true;
                               }};
    CHECK_THROWS_WITH_AS(RunBench(t.ctx, options),
                         Concat("no row of the suite ", suite, " has 'B17' in its name, as whole words").c_str(),
                         UsageError);
    CHECK(std::ranges::count(names, name) == 1);
    CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
  }
  const Outcome outcome = Swarr({"bench", "--suite", "decode", "--rows", "D decode,B17", "--threads", "1"});
  CHECK(outcome.status == 2);
  CHECK(outcome.IsOneSentence());
  CHECK(outcome.out.starts_with("The suite decode has these rows:\n  C decode B1 greedy full\n"));
}

TEST_CASE("a row says between which times its repetitions were, in its line too") {
  TestContext t;
  std::vector<double> seconds = {9, 0.003, 0.001, 0.002, 0.008};  // the first warms up
  const auto measured = [&](double per_row) {
    const BenchOptions options{.suite = "ops", .seconds_per_row = per_row};
    BenchRows bench(t.ctx, options);
    std::size_t next = 0;
    bench.Measure(
        {{"name", "a row"}}, [&] { return seconds[next++]; }, [](ordered_json&, double) {});
    return bench.TakeRows()[0];
  };
  const ordered_json once = measured(0.5);  // 9 s is too long for more
  CHECK(once["repetitions"] == 1);
  CHECK(once["ms"] == 9000.0);
  CHECK(once["fastest_ms"] == 9000.0);
  CHECK(once["slowest_ms"] == 9000.0);
  CHECK(BenchLine(once).find("9000.000 ms (once)") != std::string::npos);
  seconds[0] = 0.001;
  const ordered_json several = measured(0.004);
  CHECK(several["repetitions"] == 4);
  CHECK(several["ms"].get<double>() == doctest::Approx(2.5));
  CHECK(several["fastest_ms"].get<double>() == doctest::Approx(1.0));
  CHECK(several["slowest_ms"].get<double>() == doctest::Approx(8.0));
  CHECK(BenchLine(several).find("2.500 ms (1.000 to 8.000 of 4)") != std::string::npos);
  const ordered_json peak = {{"name", "peak"}, {"ms", 20.0}, {"repetitions", 1}, {"gflops", 2.0}};
  CHECK(BenchLine(peak).find('(') == std::string::npos);
}

TEST_CASE("times of a few nanoseconds keep their digits in a line") {
  const ordered_json row = {
      {"name", "short"}, {"ms", 0.00035}, {"fastest_ms", 0.00031}, {"slowest_ms", 0.0009}, {"repetitions", 60}};
  CHECK(BenchLine(row).find("0.000350 ms (0.000310 to 0.000900 of 60)") != std::string::npos);
}

TEST_CASE("a benchmark's weights have the deviations of initial ones, in the master and rounded") {
  TestContext t;
  const BenchOptions options{.suite = "train"};
  BenchRows bench(t.ctx, options);
  const Transformer model(BenchShape('D', 64, 0), DType::kBF16, /*with_gradients=*/false);
  bench.FillWeights(model);
  for (const Parameter& p : model.parameters().all()) {
    CAPTURE(p.name);
    const auto size = static_cast<std::size_t>(p.size());
    const std::vector<float> values(p.master.data<float>(), p.master.data<float>() + size);
    double squares = 0;
    std::size_t rounded_wrongly = 0;
    for (std::size_t i = 0; i < size; ++i) {
      squares += double{values[i]} * double{values[i]};
      rounded_wrongly += p.var.value.data<BFloat16>()[i] != BFloat16(values[i]);
    }
    CHECK(rounded_wrongly == 0);
    const bool into_residual = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight");
    const double deviation = p.master.rank() == 1 ? 1.0 : into_residual ? 0.02 / std::sqrt(8.0) : 0.02;
    CHECK(std::sqrt(squares / static_cast<double>(size)) == doctest::Approx(deviation).epsilon(0.05));
    // A list that repeats too soon would give a matrix few different numbers.
    if (p.master.rank() == 2) CHECK(std::set<float>(values.begin(), values.end()).size() > size * 9 / 10);
  }
}

TEST_CASE("an op's row says how much it gets of a peak that was measured beside it") {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    CAPTURE(Name(dtype));
    const ordered_json results = Measure("ops", "D rmsnorm", dtype), rows = results["rows"];
    REQUIRE(rows.size() == 3);  // no peak of arithmetic: no row is held against it
    CHECK(rows[0]["name"] == "peak of copying");
    CHECK(rows[1]["name"] == "D rmsnorm");
    CHECK(rows[2]["name"] == "D rmsnorm backward");
    const double peak = rows[0]["gb_per_second"];
    for (const std::size_t i : {1, 2}) {
      const double rate = rows[i]["gb_per_second"];
      CHECK(rate > 0);
      CHECK(rows[i]["peak_share"].get<double>() == doctest::Approx(rate / peak));
    }
    // x and y of 4096 rows of 128, once each.
    const double bytes = 2.0 * 4096 * 128 * static_cast<double>(SizeOf(dtype));
    CHECK(rows[1]["gb_per_second"].get<double>() == doctest::Approx(1e-6 * bytes / rows[1]["ms"].get<double>()));
  }
}

TEST_CASE("a peak is a row of the suite ops, measured once") {
  const auto rows = [](const std::string& names) {
    const ordered_json results = Measure("ops", names);
    std::vector<std::string> measured;
    for (const ordered_json& row : results["rows"]) measured.push_back(row["name"]);
    return measured;
  };
  CHECK(rows("peak") == std::vector<std::string>{"peak of f32 multiply-add", "peak of copying"});
  CHECK(rows("D add backward,copying") == std::vector<std::string>{"peak of copying", "D add backward"});
}

TEST_CASE("CUDA: ops and training steps are held against cuBLAS's product and copying") {
  if (CudaDeviceName().empty()) {
    MESSAGE("skipped: no CUDA device");
    return;
  }
  TestContext t(Device::kCuda);
  BenchOptions options{.suite = "ops",
                       .rows = "A gemm o M1,A gemm o M16,A gemm o M16384",
                       .dtype = DType::kBF16,
                       .seconds_per_row = 1e-3};
  const ordered_json ops = RunBench(t.ctx, options);
  CHECK(ops["device"] == "cuda");
  CHECK(NamesOf(ops) ==
        std::set<std::string>{"peak of bf16 products", "A gemm o M1", "A gemm o M16", "A gemm o M16384"});
  options.suite = "train";
  options.rows = "D train B8 T2048 W512";
  const ordered_json train = RunBench(t.ctx, options);
  CHECK(NamesOf(train) == std::set<std::string>{"peak of bf16 products", options.rows});
  for (const ordered_json& results : {ops, train}) {
    const double peak = results["rows"][0]["gflops"];
    for (std::size_t i = 1; i < results["rows"].size(); ++i) {
      const ordered_json& row = results["rows"][i];
      const double rate = row[row.contains("gflops") ? "gflops" : "model_gflops"];
      CHECK(rate > 0);
      CHECK(row["peak_share"].get<double>() == doctest::Approx(rate / peak));
    }
  }
}

TEST_CASE("every op of a shape has a row, forward and backward") {
  const std::set<std::string> names = NamesOf(Measure("ops", "D "));
  for (const char* op : {"attention", "rmsnorm", "rope", "swiglu", "add", "embedding", "token_logprob"}) {
    CAPTURE(op);
    const std::string length = std::string(op) == "attention" ? " T1024 full" : "";
    CHECK(names.contains(Concat("D ", op, length)));
    CHECK(names.contains(Concat("D ", op, " backward", length)));
  }
  for (const char* layer : {"qkv", "o", "gate-up", "down", "head"}) {
    for (const char* rows : {"M1 packed", "M16 packed", "M64 packed", "M256 packed", "M4096"}) {
      CHECK(names.contains(Concat("D gemm ", layer, " ", rows)));
    }
  }
  for (const char* name : {"D gemm down backward dx", "D gemm q backward dw", "D sample", "D adamw"}) {
    CHECK(names.contains(name));
  }
}

TEST_CASE("a row of scaling knows its memory, and the figure has its six lines") {
  const ordered_json& results = ShortScaling();
  for (const ordered_json& row : results["rows"]) {
    CAPTURE(row["name"]);
    CHECK(row["T"] == 1024);
    CHECK(row["kv_bytes"].get<std::int64_t>() > 0);
    const bool decodes = row["name"].get<std::string>().find("decode") != std::string::npos;
    const double tokens = decodes ? 1 : 1024;
    CHECK(row["tokens_per_second"].get<double>() == doctest::Approx(tokens / (1e-3 * row["ms"].get<double>())));
    CHECK(row["fastest_ms"].get<double>() <= row["ms"].get<double>());
    CHECK(row["slowest_ms"].get<double>() >= row["ms"].get<double>());
    if (decodes) continue;
    const double arena = row["arena_bytes_per_token"];
    CHECK(arena > 1000);
    CHECK(arena < 100'000);
    CHECK(row["memory_bytes"].get<double>() > 1024 * arena);
  }
  const std::string svg = ScalingFigure(results);
  for (const char* line : {"forward, window of 128", "forward, full attention", "training, window of 128",
                           "training, full attention", "decoding, window of 128", "decoding, full attention"}) {
    CHECK(svg.find(line) != std::string::npos);
  }
}

TEST_CASE("the peak of every set of kernels that runs here can be measured") {
  for (const Cpu cpu : SupportedCpus()) {
    TestContext t;
    t.ctx.cpu = cpu;
    CHECK(MultiplyAddPeak(t.ctx) > 0);
  }
}

TEST_CASE("bench writes results and figure, and a figure of another suite is refused") {
  const TempDirectory dir;
  const std::string json = (dir / "a.json").string(), svg = (dir / "a.svg").string();
  const std::vector<std::string> command = {
      "bench", "--rows", "D forward T1024 W128", "--seconds-per-row", "0.001", "--threads", "1", "--memory-report",
      "--svg", svg};
  REQUIRE(Swarr(With(command, {"--suite", "scaling", "--json", json})).status == 0);
  const ordered_json results = ordered_json::parse(ReadFile(json));
  CHECK(results["rows"].size() == 1);
  CHECK(results["cpu"] == Name(BestCpu()));
  CHECK(results["gemm"] == "own");
  CHECK(results["device"] == "cpu");
  CHECK(results["load_before"].get<double>() >= 0);
  CHECK(results["memory"]["held"].contains("parameters"));
  CHECK(ReadFile(svg).starts_with("<svg"));
  const Outcome refused = Swarr(With(command, {"--suite", "ops", "--overwrite"}));
  CHECK(refused.status == 2);
  CHECK(refused.Says("--svg is for --suite scaling"));
  CHECK(refused.IsOneSentence());
}

TEST_CASE("a row on request is measured once for each line that is read, and has all that it has without") {
  const TempDirectory dir;
  const std::vector<std::string> rows = {"D decode B1 sampled full", "D train B16 T256 W64", "D rl B128 T64 W64",
                                         "D gemm o M16 packed", "peak of f32 multiply-add"};
  for (const std::string& row : rows) {
    CAPTURE(row);
    const std::string suite = row.find("decode") != std::string::npos                ? "decode"
                              : row.starts_with("D gemm") || row.starts_with("peak") ? "ops"
                                                                                     : "train";
    const std::vector<std::string> command = {"bench", "--suite",   suite, "--rows", row, "--seconds-per-row",
                                              "1e-6",  "--threads", "1"};
    const auto answers = [&](const std::string& requests) {
      const std::string in = (dir / "in").string(), out = (dir / "out").string();
      std::filesystem::remove(out);  // a shorter one would leave its end
      WriteFileAtomically(in, requests);
      const auto read = [&] { return ::dup2(::open(in.c_str(), O_RDONLY), STDIN_FILENO) >= 0; };
      const Outcome outcome = Program(With(command, {"--on-request"}), read, out).Wait();
      CHECK_MESSAGE(outcome.status == 0, outcome.err);
      return Lines(out);
    };
    const std::vector<nlohmann::json> lines = answers("\n\n\n");
    REQUIRE(lines.size() == 4);
    CHECK(lines[0]["suite"] == suite);
    CHECK(lines[0]["threads"] == 1);
    const std::string json = (dir / "without.json").string();
    REQUIRE(Swarr(With(command, {"--json", json, "--overwrite"})).status == 0);
    const nlohmann::json without = nlohmann::json::parse(ReadFile(json))["rows"].back();
    for (std::size_t i = 1; i < lines.size(); ++i) {
      CHECK(lines[i]["name"] == row);
      CHECK(lines[i]["repetitions"] == 1);
      for (const auto& [key, value] : without.items()) CHECK_MESSAGE(lines[i].contains(key), key);
      CHECK(lines[i].size() == without.size());
    }
    CHECK(answers("").size() == 1);
  }
}

TEST_CASE("a row on request has all its step memory before it is asked for") {
  for (const std::string row : {"D train B16 T256 W64", "D decode B1 sampled full"}) {
    CAPTURE(row);
    const std::string suite = row.find("decode") != std::string::npos ? "decode" : "train";
    TestContext t;
    std::vector<std::int64_t> blocks;  // as each request is awaited
    const auto await = [&] {
      blocks.push_back(t.arena.blocks_allocated());
      return blocks.size() < 3;
    };
    RunBench(t.ctx, {.suite = suite, .rows = row, .seconds_per_row = 1e-6, .await_request = await});
    CHECK(blocks == std::vector<std::int64_t>(3, blocks[0]));
  }
}

TEST_CASE("a row on request is one, by its whole name, and none of scaling") {
  const auto refusal = [](const std::string& suite, const std::string& rows) {
    const Outcome outcome = Swarr({"bench", "--suite", suite, "--rows", rows, "--on-request", "--threads", "1"});
    CHECK(outcome.status == 2);
    CHECK(outcome.out.empty());
    CHECK(outcome.IsOneSentence());
    return outcome.err;
  };
  for (const std::string rows : {"", "D train B16 T256", "D train B16 T256 full,D train B16 T256 W64"}) {
    CHECK(refusal("train", rows)
              .find(Concat("no row of the suite train is called '", rows,
                           "', and a row on request needs its whole name")) != std::string::npos);
  }
  CHECK(refusal("scaling", "D train T1024 W128").find("--on-request is not for --suite scaling") != std::string::npos);
}

TEST_CASE("commands report memory by name on stderr, or in their JSON") {
  const std::vector<std::string> eval = {"eval", "--model",        TinyModel(), "--task",     "chain", "--n-min",
                                         "1",    "--n-max",        "2",         "--problems", "4",     "--threads",
                                         "1",    "--memory-report"};
  const Outcome text = Swarr(eval);
  REQUIRE(text.status == 0);
  for (const char* name : {"parameters", "rope table", "key/value cache", "packed weights",
                           "step arena, high-water mark", "peak resident size"}) {
    CHECK(text.Says(name));
  }
  const Outcome json = Swarr(With(eval, {"--json"}));
  REQUIRE(json.status == 0);
  CHECK(json.err.empty());
  const ordered_json memory = ordered_json::parse(json.out)["memory"];
  CHECK(memory["held"]["key/value cache"].get<std::int64_t>() > 0);
  CHECK(memory["arena"]["by_op"].contains("linear"));
  CHECK(memory["peak_resident"].get<std::int64_t>() > 0);
}

TEST_CASE("inspect says which kernels would run, and which could") {
  const Outcome best = Swarr({"inspect", "--model", TinyModel(), "--json"});
  REQUIRE(best.status == 0);
  const ordered_json shown = ordered_json::parse(best.out);
  CHECK(shown["cpu"] == Name(BestCpu()));
  CHECK(shown["supported_cpus"].size() == SupportedCpus().size());
  CHECK(shown["supported_cpus"][0] == "portable");
  const Outcome portable = Swarr({"inspect", "--model", TinyModel(), "--cpu", "portable"});
  CHECK(portable.status == 0);
  CHECK(portable.out.find("cpu            portable") != std::string::npos);
  CHECK(portable.out.find("supported_cpus portable") != std::string::npos);
}

}  // namespace swarr
