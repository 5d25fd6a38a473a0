// SPDX-License-Identifier: Apache-2.0
// swarr tokenize: text to token ids and back.
#include <iostream>

#include "base/files.h"
#include "cli/commands.h"
#include "model/config_fields.h"
#include "model/tokenizer.h"

namespace swarr {
namespace {

// The tokenizer for all ids of the model beside it, whatever its kind; where there is no model, for its own ids.
Tokenizer LoadForDecoding(const std::filesystem::path& dir) {
  Tokenizer tokenizer = Tokenizer::Load(dir);
  const std::filesystem::path config = dir / "config.json";
  if (!std::filesystem::exists(config)) return tokenizer;
  const auto json = ParseJson<nlohmann::ordered_json>(ReadFile(config, kMostJsonBytes), config.string());
  return tokenizer.ForModel(ConfigFields(json, config.string()).Get<int>("vocab_size", tokenizer.vocab_size()));
}

struct TokenizeCommand {
  explicit TokenizeCommand(OptionSet& options) {
    options.Group("Text");
    options.Add("model", model_dir, "directory with the tokenizer.json")->required()->type_name("DIR");
    text_option = options.Add("text", text, "text to split into tokens");
    decode_option =
        options.Add("decode", decode, "instead of --text: ids to turn into text, like 1,2,3")->type_name(kListType);
    options.Add("special-as-text", special_as_text,
                "with --text: special tokens written in it are text like any other");
    options.HaveNoEffect({"special-as-text"}, "with --decode", [this] { return decode_option->count() > 0; });
    options.Group("Output");
    options.Add("json", json, "print one JSON object: ids, pieces, text");
  }

  void Run() const {
    if ((text_option->count() > 0) == (decode_option->count() > 0)) {
      throw UsageError("give exactly one of --text TEXT and --decode 1,2,3");
    }
    const SpecialTokens special = special_as_text ? SpecialTokens::kAsText : SpecialTokens::kRecognised;
    const bool back = decode_option->count() > 0;
    const Tokenizer tokenizer = back ? LoadForDecoding(model_dir) : Tokenizer::Load(model_dir);
    const std::vector<std::int32_t> ids = back ? ParseIntegers(decode, "--decode") : tokenizer.Encode(text, special);
    const std::string whole = tokenizer.Decode(ids, /*skip_special=*/false);
    if (json) {
      nlohmann::ordered_json pieces = nlohmann::ordered_json::array();
      for (const std::int32_t id : ids) {
        const bool known = id < tokenizer.vocab_size();  // else only the model has this id
        pieces.push_back(known ? nlohmann::ordered_json(tokenizer.Piece(id)) : nullptr);
      }
      PrintJson({{"ids", ids}, {"pieces", pieces}, {"text", whole}});
    } else if (back) {
      std::cout << whole << '\n';
    } else {
      for (std::size_t i = 0; i < ids.size(); ++i) std::cout << ids[i] << '\t' << tokenizer.Piece(ids[i]) << '\n';
    }
  }

  std::string model_dir, text, decode;
  const CLI::Option* text_option;
  const CLI::Option* decode_option;
  bool special_as_text = false;
  bool json = false;
};

}  // namespace

void AddTokenize(const CommandGroup& program) {
  program.Add<TokenizeCommand>("tokenize", "Split a text into tokens, or join tokens to a text",
                               "  swarr tokenize --model data/chain-base --text '07:C,' --json");
}

}  // namespace swarr
