// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "task/chain.h"
#include "task/registry.h"
#include "temp_directory.h"

namespace swarr {
namespace {

using doctest::Contains;
using nlohmann::ordered_json;

using Ids = std::vector<std::int32_t>;

const char* const kEnd = "<|endoftext|>";

ordered_json Characters() { return Tokenizer::MakeCharacterTokenizer("abé\xE2\x82\xAC\xF0\x9F\x98\x80 \n", kEnd); }

ordered_json AddedToken(const std::string& content, int id, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

TEST_CASE("characters of one to four bytes are numbered in order, after the end of text") {
  const Tokenizer tokenizer(Characters(), "t");
  CHECK(tokenizer.vocab_size() == 8);
  CHECK(tokenizer.IdOf(kEnd) == 0);
  CHECK(tokenizer.Piece(3) == "é");
  CHECK(tokenizer.Encode("ba€é😀\n a") == Ids{2, 1, 4, 3, 5, 7, 6, 1});
  CHECK(tokenizer.Encode("").empty());
}

TEST_CASE("decoding gives the text back, with or without special tokens") {
  const Tokenizer tokenizer(Characters(), "t");
  const std::string text = "a<|endoftext|>é b<|endoftext|>";
  CHECK(tokenizer.Encode(text) == Ids{1, 0, 3, 6, 2, 0});
  CHECK(tokenizer.Decode(tokenizer.Encode(text), false) == text);
  CHECK(tokenizer.Decode(tokenizer.Encode(text), true) == "aé b");
  CHECK(tokenizer.Decode({}, true) == "");
}

TEST_CASE("without a decoder, tokens are joined by spaces, as `tokenizers` does") {
  ordered_json json = Characters();
  json["decoder"] = nullptr;
  const Tokenizer tokenizer(json, "t");
  CHECK(tokenizer.Decode({1, 2, 0, 1}, false) == "a b <|endoftext|> a");
  CHECK(tokenizer.Decode({0, 1, 2}, true) == "a b");
}

TEST_CASE("of added tokens the leftmost wins, and there the longest") {
  ordered_json json = Characters();
  json["added_tokens"].push_back(AddedToken("ab", 8, false));
  json["added_tokens"].push_back(AddedToken("aba", 9, true));
  json["added_tokens"].push_back(AddedToken("ba", 10, false));
  const Tokenizer tokenizer(json, "t");
  CHECK(tokenizer.vocab_size() == 11);
  CHECK(tokenizer.Encode("ababab") == Ids{9, 10, 2});
  CHECK(tokenizer.Encode("bab") == Ids{10, 2});
  CHECK(tokenizer.Encode("aab") == Ids{1, 8});
  CHECK(tokenizer.Decode({9, 10, 2}, true) == "bab");
}

TEST_CASE("a character that is not in the vocabulary is named with its place") {
  const Tokenizer tokenizer(Characters(), "t");
  CHECK_THROWS_WITH_AS(tokenizer.Encode("éz"),
                       "t: the character 'z' (U+007A) at byte 2 of the text is not in the vocabulary", Error);
  CHECK_THROWS_WITH_AS(tokenizer.Encode("中"), Contains("'中' (U+4E2D) at byte 0"), Error);
  CHECK_THROWS_WITH_AS(tokenizer.Encode("a\t"), Contains("the character U+0009 at byte 1"), Error);
}

TEST_CASE("text that is no UTF-8 is refused: stray and missing bytes, overlong forms, surrogates, beyond the last") {
  const Tokenizer tokenizer(Characters(), "t");
  for (const char* text : {"\x80", "\xC3", "\xC3(", "\xE2\x82", "\xF0\x9F\x98", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80",
                           "\xF0\x80\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    CHECK_THROWS_WITH_AS(tokenizer.Encode(std::string("a") + text), "t: the text is no UTF-8 at byte 1", Error);
  }
}

TEST_CASE("an id or a token that does not exist is refused") {
  const Tokenizer tokenizer(Characters(), "t");
  for (std::int32_t id : {-1, 8, 9, 11})
    CHECK_THROWS_WITH_AS(tokenizer.Piece(id), Contains("no token has the id"), Error);
  CHECK_THROWS_WITH_AS(tokenizer.Decode({1, 8}, false), Contains("no token has the id 8"), Error);
  CHECK_THROWS_WITH_AS(tokenizer.IdOf("ab"), "t: there is no token 'ab'", Error);
}

TEST_CASE("ids that only the model has are left out, with the space before them, and all others stay refused") {
  ordered_json json = Characters();
  json["decoder"] = nullptr;
  const Tokenizer own(json, "t"), tokenizer = own.ForModel(10);
  CHECK(tokenizer.vocab_size() == 8);
  CHECK(tokenizer.Decode({9, 1, 8, 9, 2, 8}, false) == "a b");  // as `tokenizers` 0.23 does
  CHECK(tokenizer.Decode({8}, true) == "");
  CHECK_THROWS_WITH_AS(tokenizer.Decode({1, 10}, false), "t: no token has the id 10", Error);
  CHECK_THROWS_WITH_AS(tokenizer.Decode({-1}, false), "t: no token has the id -1", Error);
  CHECK_THROWS_WITH_AS(tokenizer.Piece(8), "t: no token has the id 8", Error);
  CHECK_THROWS_WITH_AS(own.Decode({8}, false), "t: no token has the id 8", Error);
  CHECK_THROWS_WITH_AS(own.ForModel(7), Contains("t has ids up to 7, but config.json has a vocab_size of 7"), Error);
}

TEST_CASE("what this program would compute differently is refused by its name") {
  const auto refused = [](const char* pointer, const ordered_json& value, const char* sentence) {
    ordered_json json = Characters();
    json[ordered_json::json_pointer(pointer)] = value;
    CHECK_THROWS_WITH_AS(Tokenizer(json, "t"), Contains(sentence), Error);
  };
  refused("/normalizer", {{"type", "NFKC"}}, "t: the normalizer NFKC is not supported");
  refused("/pre_tokenizer", {{"type", "Metaspace"}}, "the pre_tokenizer Metaspace is not supported");
  refused("/post_processor", {{"type", "BertProcessing"}}, "the post_processor BertProcessing is not supported");
  refused("/decoder", {{"type", "WordPiece"}}, "the decoder WordPiece is not supported");
  refused("/truncation", {{"max_length", 8}}, "the truncation {\"max_length\":8} is not supported");
  refused("/model/type", "WordPiece", "a model of type WordPiece is not supported");
  refused("/model/unk_token", "<unk>", "the model's unk_token \"<unk>\" is not supported");
  refused("/model/byte_fallback", true, "the model's byte_fallback true is not supported");
  refused("/model/merges", nullptr, "the model's merges are missing");
  refused("/model/vocab", nullptr, "the model's vocab is missing");
  refused("/model", nullptr, "the model is missing");
  refused("/added_tokens/0/lstrip", true, "lstrip of the added token \"<|endoftext|>\" is not supported");
  refused("/added_tokens/0/id", 1, "the tokens 'a' and '<|endoftext|>' have the same id 1");
  refused("/added_tokens/0/id", 20, "the token '<|endoftext|>' has the ids 0 and 20");
  refused("/model/vocab/b", 20, "no token has the id 2, although ids go up to 20");
  refused("/added_tokens/0/content", "", "the empty text can't be a token");
  refused("/added_tokens/0", 3, "the added token 3 lacks a content or an id");
  refused("/model/vocab/a", 2, "have the same id 2");
  refused("/model/vocab/a", -2, "the token 'a' has the id -2");
  refused("/model/vocab/a", 4000000000, "the token 'a' has the id 4000000000");
}

TEST_CASE("settings that change nothing are read: a dropout of 0, empty prefixes, fuse_unk without an unk_token") {
  const Tokenizer plain(Characters(), "t");
  const auto same = [&](const char* pointer, const ordered_json& value) {
    INFO(pointer);
    ordered_json json = Characters();
    json[ordered_json::json_pointer(pointer)] = value;
    const Tokenizer tokenizer(json, "t");
    CHECK(tokenizer.Encode("ba<|endoftext|>é") == plain.Encode("ba<|endoftext|>é"));
    CHECK(tokenizer.Decode({2, 1, 0, 3}, false) == plain.Decode({2, 1, 0, 3}, false));
  };
  same("/model/dropout", 0.0);
  same("/model/dropout", 0);
  same("/model/unk_token", "");
  same("/model/continuing_subword_prefix", "");
  same("/model/end_of_word_suffix", "");
  same("/model/fuse_unk", true);
  same("/normalizer", {{"type", "Sequence"}, {"normalizers", ordered_json::array()}});
  same("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", ordered_json::array()}});
  same("/post_processor", {{"type", "Sequence"}, {"processors", ordered_json::array()}});
  same("/decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "Fuse"}}}}});
  ordered_json json = Characters();
  json["model"]["dropout"] = 0.1;
  CHECK_THROWS_WITH_AS(Tokenizer(json, "t"), "t: the model's dropout 0.1 is not supported", Error);
}

TEST_CASE("a model without a type is BPE if it has merges, as GPT-2's own file, and else refused in a short sentence") {
  ordered_json json = Characters();
  for (const ordered_json& none : {ordered_json(), ordered_json("absent")}) {
    json["model"]["type"] = none;
    if (none == "absent") json["model"].erase("type");
    CHECK(Tokenizer(json, "t").Encode("ba") == Ids{2, 1});
  }
  for (const char* key : {"ignore_merges", "byte_fallback", "fuse_unk", "dropout", "unk_token",
                          "continuing_subword_prefix", "end_of_word_suffix"}) {
    json["model"].erase(key);  // what old files lack
  }
  for (const char* key : {"version", "truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"}) {
    json.erase(key);
  }
  CHECK(Tokenizer(json, "t").Encode("ba") == Ids{2, 1});
  json["model"].erase("merges");
  CHECK_THROWS_WITH_AS(Tokenizer(json, "t"),
                       "t: the model has neither a type nor the merges of BPE; other models are not supported", Error);
}

TEST_CASE("a tokenizer.json is loaded from its directory and kept byte for byte") {
  const TempDirectory dir;
  const std::string text = "  " + Characters().dump(1) + "\n\n";
  WriteFileAtomically(dir / "tokenizer.json", text);
  const Tokenizer tokenizer = Tokenizer::Load(dir.path());
  CHECK(tokenizer.json_text() == text);
  CHECK(tokenizer.Encode("ab") == Ids{1, 2});
  WriteFileAtomically(dir / "tokenizer.json", text.substr(0, text.size() / 2));
  CHECK_THROWS_WITH_AS(Tokenizer::Load(dir.path()), Contains("tokenizer.json: no valid JSON"), Error);
  CHECK_THROWS_WITH_AS(Tokenizer::Load(dir / "none"), Contains("none/tokenizer.json: No such file"), Error);
}

TEST_CASE("the tokenizer of the chain task is the one of the shipped base, byte for byte") {
  const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer(kChainAlphabet, kEndOfText), "t");
  CHECK(tokenizer.json_text() == ReadFile(SWARR_TEST_DATA "/../../data/chain-base/tokenizer.json", 1 << 20));
}

TEST_CASE("a tokenizer made of words cuts a text into the longest of them, and into characters where it has these") {
  const std::vector<std::string> words = {" hens", " hens3", " he", ",", "Now", " 3", "3", " "};
  const Tokenizer tokenizer(Tokenizer::MakeWordTokenizer(words, kEnd), "t");
  CHECK(tokenizer.vocab_size() == 9);
  CHECK(tokenizer.IdOf(kEnd) == 0);
  CHECK(tokenizer.Piece(3) == " he");
  const std::string text = "Now hens 3, he hens33  3<|endoftext|>";
  CHECK(tokenizer.Encode(text) == Ids{5, 1, 6, 4, 3, 2, 7, 8, 6, 0});
  CHECK(tokenizer.Decode(tokenizer.Encode(text), false) == text);
  CHECK(tokenizer.Decode(tokenizer.Encode(text), true) == "Now hens 3, he hens33  3");
  CHECK_THROWS_WITH_AS(tokenizer.Encode("hens"), Contains("'h' (U+0068) at byte 0"), Error);
}

TEST_CASE("a tokenizer made of words says what is wrong with its list") {
  const auto refused = [](const std::vector<std::string>& words, const char* sentence) {
    CHECK_THROWS_WITH_AS(Tokenizer::MakeWordTokenizer(words, kEnd), Contains(sentence), Error);
  };
  refused({" a", "b", " a"}, "holds ' a' twice");
  refused({" a", kEnd}, "twice");
  refused({" a", ""}, "holds the empty text");
}

TEST_CASE("a tokenizer made of characters says what is wrong with its alphabet") {
  CHECK_THROWS_WITH_AS(Tokenizer::MakeCharacterTokenizer("aba", kEnd), Contains("holds 'a' twice"), Error);
  CHECK_THROWS_WITH_AS(Tokenizer::MakeCharacterTokenizer("ab", "b"), Contains("holds 'b' twice"), Error);
  CHECK_THROWS_WITH_AS(Tokenizer::MakeCharacterTokenizer("a\xFF", kEnd), Contains("no UTF-8 at byte 1"), Error);
  CHECK_THROWS_WITH_AS(Tokenizer::MakeCharacterTokenizer("a", ""), Contains("needs a token for the end of text"),
                       Error);
}

}  // namespace
}  // namespace swarr
