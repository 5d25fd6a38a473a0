// SPDX-License-Identifier: Apache-2.0
// swarr tokenize: text to token ids and back.
#include <iostream>

#include "cli/commands.h"
#include "cli/options.h"
#include "model/tokenizer.h"

namespace swarr {
namespace {

struct TokenizeCommand {
  explicit TokenizeCommand(CLI::App& app) : options(app) {
    options.Add("model", model_dir, "directory with the tokenizer.json")->required();
    text_option = options.Add("text", text, "text to split into tokens");
    decode_option = options.Add("decode", decode, "instead of --text: ids to turn into text, like 1,2,3");
    options.Add("special-as-text", special_as_text,
                "with --text: special tokens written in it are text like any other");
    options.Add("json", json, "print one JSON object: ids, pieces, text");
  }

  void Run() const {
    if ((text_option->count() > 0) == (decode_option->count() > 0)) {
      throw UsageError("give exactly one of --text TEXT and --decode 1,2,3");
    }
    const Tokenizer tokenizer = Tokenizer::Load(model_dir);
    const SpecialTokens special = special_as_text ? SpecialTokens::kAsText : SpecialTokens::kRecognised;
    const bool back = decode_option->count() > 0;
    const std::vector<std::int32_t> ids = back ? ParseIntegers(decode, "--decode") : tokenizer.Encode(text, special);
    const std::string whole = tokenizer.Decode(ids, /*skip_special=*/false);
    std::vector<std::string> pieces;
    for (const std::int32_t id : ids) pieces.push_back(tokenizer.Piece(id));
    if (json) {
      PrintJson({{"ids", ids}, {"pieces", pieces}, {"text", whole}});
    } else if (back) {
      std::cout << whole << '\n';
    } else {
      for (std::size_t i = 0; i < ids.size(); ++i) std::cout << ids[i] << '\t' << pieces[i] << '\n';
    }
  }

  OptionSet options;
  std::string model_dir, text, decode;
  const CLI::Option* text_option;
  const CLI::Option* decode_option;
  bool special_as_text = false;
  bool json = false;
};

}  // namespace

void AddTokenize(CLI::App& program) {
  AddCommand<TokenizeCommand>(program, "tokenize", "Split a text into tokens, or join tokens to a text");
}

}  // namespace swarr
