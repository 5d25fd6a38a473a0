// SPDX-License-Identifier: Apache-2.0
#include "study/attention.h"

namespace swarr {

nlohmann::ordered_json AttendedJson(const AttendedTrace& trace) {
  nlohmann::ordered_json json = {{"problem", trace.problem},
                                 {"prompt", trace.prompt},
                                 {"completion", trace.completion},
                                 {"tokens", trace.tokens},
                                 {"layers", nlohmann::ordered_json::array()}};
  for (const AttendedLayer& layer : trace.layers) {
    json["layers"].push_back({{"window", layer.spec.window}, {"sinks", layer.spec.sinks}, {"cells", layer.cells}});
  }
  return json;
}

AttendedTrace AttendedOf(const nlohmann::ordered_json& json) {
  AttendedTrace trace = {.problem = json.at("problem"),
                         .prompt = json.at("prompt"),
                         .completion = json.at("completion"),
                         .tokens = json.at("tokens")};
  for (const nlohmann::ordered_json& layer : json.at("layers")) {
    trace.layers.push_back({.spec = {.window = layer.at("window"), .sinks = layer.at("sinks")},
                            .cells = layer.at("cells").get<std::vector<std::array<int, 3>>>()});
  }
  return trace;
}

}  // namespace swarr
