// SPDX-License-Identifier: Apache-2.0
#include "task/number_text.h"

#include <nlohmann/json.hpp>
#include <vector>

namespace swarr {
namespace {

using nlohmann::json;

// Follows the keys and keeps the last number at the path. The library gives the text of a number that does not fit an
// integer; of all others the digits follow from the value.
class NumberReader final : public nlohmann::json_sax<json> {
 public:
  explicit NumberReader(std::string_view path) : path_(path) {}
  const std::string& found() const { return found_; }

  bool number_float(json::number_float_t /*value*/, const std::string& text) override { return Number(text); }
  bool number_integer(json::number_integer_t value) override { return Number(std::to_string(value)); }
  bool number_unsigned(json::number_unsigned_t value) override { return Number(std::to_string(value)); }
  bool key(std::string& name) override {
    keys_.back() = name;
    return true;
  }
  bool start_object(std::size_t /*size*/) override {
    keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    return true;
  }
  bool start_array(std::size_t /*size*/) override { return true; }
  bool end_array() override { return true; }
  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool string(std::string& /*value*/) override { return true; }
  bool binary(json::binary_t& /*value*/) override { return true; }
  bool parse_error(std::size_t /*at*/, const std::string& /*token*/, const json::exception& /*error*/) override {
    return false;
  }

 private:
  bool Number(const std::string& text) {
    std::string place;
    for (const std::string& name : keys_) place += (place.empty() ? "" : ".") + name;
    if (place == path_) found_ = text;
    return true;
  }

  std::string_view path_;
  std::vector<std::string> keys_;  // the key that is being read in each open object
  std::string found_;
};

}  // namespace

std::string NumberText(std::string_view line, std::string_view path) {
  NumberReader reader(path);
  json::sax_parse(line.begin(), line.end(), &reader);
  return reader.found();
}

}  // namespace swarr
