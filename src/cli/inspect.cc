// SPDX-License-Identifier: Apache-2.0
// swarr inspect: what a model is, and which kernels would run it.
#include <cstdio>

#include "cli/commands.h"
#include "model/hf_config.h"
#include "model/transformer.h"
#include "model/weight_files.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

struct InspectCommand {
  explicit InspectCommand(OptionSet& options) {
    options.Group("Model");
    options.Add("model", model_dir, "model to look at")->required()->type_name("DIR");
    options.Add("lengths", lengths, "sequence lengths in tokens for which the cache is computed, like 1024,4096")
        ->type_name(kListType);
    compute.AddDTypeTo(options, "number format of the cache");
    compute.AddCpuTo(options, "CPU kernels: auto, or one of those that the result shows");
    options.Group("Output");
    options.Add("json", json, "print one JSON object");
  }

  void Run() const {
    const DType dtype = compute.MakeDType();
    const ModelConfig c = ReadModelConfig(model_dir);
    const WeightFiles weights(model_dir);
    weights.Check(c);
    ordered_json result = {{"model_type", c.model_type},
                           {"parameters", ParameterCount(c)},
                           {"dtype", weights.dtype()},
                           {"layers", c.layers},
                           {"hidden_size", c.hidden},
                           {"heads", c.heads},
                           {"kv_heads", c.kv_heads},
                           {"head_dim", c.head_dim},
                           {"ffn", c.ffn},
                           {"vocab_size", c.vocab},
                           {"max_positions", c.max_positions},
                           {"rope_theta", c.rope_theta},
                           {"rope_scaling", ToJson(c.rope_scaling)},
                           {"tied", c.tied},
                           {"qk_norm", c.qk_norm},
                           {"qkv_bias", c.qkv_bias},
                           {"learned_sinks", c.learned_sinks},
                           {"attention", ordered_json::array()},
                           {"cpu", Name(ResolveCpu(compute.cpu))},
                           {"supported_cpus", ordered_json::array()},
                           {"cuda_device", nullptr},
                           {"kv_dtype", compute.dtype},
                           {"kv_bytes", ordered_json::array()}};
    for (ordered_json& layers = result["attention"]; const AttentionSpec& spec : c.attention) {
      layers.push_back({{"layer", layers.size()},
                        {"attention", spec.window == 0 ? "full" : "window"},
                        {"window", spec.window == 0 ? ordered_json(nullptr) : ordered_json(spec.window)},
                        {"sinks", spec.prompt ? ordered_json("prompt") : ordered_json(spec.sinks)}});
    }
    for (const Cpu cpu : SupportedCpus()) result["supported_cpus"].push_back(Name(cpu));
    if (const std::string cuda = CudaDeviceName(); !cuda.empty()) result["cuda_device"] = cuda;
    for (const int length : ParseIntegers(lengths, "--lengths")) {
      if (length < 1) throw UsageError(Concat("--lengths holds ", length, "; a sequence has at least 1 token"));
      result["kv_bytes"].push_back({{"length", length}, {"bytes", KvBytesPerSequence(c, dtype, length)}});
    }
    result["non_finite"] = weights.CountNonFinite(c);
    json ? PrintJson(result) : Print(result);
    weights.CheckFinite(c);  // what is broken is shown, and yet no success
  }

  static void Print(const ordered_json& result) {
    for (const auto& [name, value] : result.items()) {
      if (value.is_array() || name == "non_finite") continue;
      const std::string text = value.is_string() ? value.get<std::string>() : value.is_null() ? "none" : value.dump();
      std::printf("%-14s %s\n", name.c_str(), text.c_str());
    }
    std::printf("supported_cpus");
    for (const ordered_json& name : result["supported_cpus"]) std::printf(" %s", name.get<std::string>().c_str());
    std::printf("\n");
    for (const ordered_json& layer : result["attention"]) {
      std::printf("layer %-8d %s", layer["layer"].get<int>(), layer["attention"].get<std::string>().c_str());
      if (layer["window"].is_number()) {
        const std::string sinks = layer["sinks"].is_number() ? layer["sinks"].dump() + " sinks" : "the prompt visible";
        std::printf(" %d, %s", layer["window"].get<int>(), sinks.c_str());
      }
      std::printf("\n");
    }
    for (const auto& [name, count] : result["non_finite"].items()) {
      std::printf("%lld NaN or infinite values in %s\n", count.get<long long>(), name.c_str());
    }
    std::printf("key/value cache of one sequence:\n");
    for (const ordered_json& row : result["kv_bytes"]) {
      std::printf("%8d tokens %14lld bytes\n", row["length"].get<int>(), row["bytes"].get<long long>());
    }
  }

  std::string model_dir, lengths = "1024,4096,16384,65536";
  ComputeOptions compute;
  bool json = false;
};

}  // namespace

void AddInspect(const CommandGroup& program) {
  program.Add<InspectCommand>("inspect", "Show a model's size, the attention of every layer and its cache",
                              "  swarr inspect --model out/swa --lengths 1024,65536");
}

}  // namespace swarr
