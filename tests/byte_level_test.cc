// SPDX-License-Identifier: Apache-2.0
// Byte-level tokenizers made by hand: what is refused, and how they behave where the fixtures can't show it.
#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/check.h"
#include "base/files.h"
#include "model/tokenizer.h"
#include "temp_directory.h"
#include "text/bpe.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"

namespace swarr {
namespace {

using doctest::Contains;
using nlohmann::ordered_json;

using Ids = std::vector<std::int32_t>;

const bool kNoLibraries = !HasUnicodeLibraries();

// a b c space(Ġ) 0xC3(Ã) 0xA9(©) and merges; <end> is special.
ordered_json ByteLevel() {
  return ordered_json::parse(R"({
    "added_tokens": [{"id": 9, "content": "<end>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "Ġ": 3, "Ã": 4, "©": 5, "ab": 6, "bc": 7, "Ġab": 8},
              "merges": ["b c", "a b", "Ġ ab"]}})");
}

ordered_json With(const char* pointer, const ordered_json& value) {
  ordered_json json = ByteLevel();
  json[ordered_json::json_pointer(pointer)] = value;
  return json;
}

TEST_CASE("byte-level tokenizers work where PCRE2 and utf8proc are built in, and elsewhere are refused in a sentence") {
  if (HasUnicodeLibraries()) {
    CHECK(Tokenizer(ByteLevel(), "t").Encode("ab ab") == Ids{6, 8});
  } else {
    CHECK_THROWS_WITH_AS(Tokenizer(ByteLevel(), "t"),
                         "t: the pre_tokenizer ByteLevel needs PCRE2 and utf8proc, which this build lacks; install "
                         "libpcre2-dev and libutf8proc-dev and build again",
                         Error);
  }
}

TEST_CASE("the earliest merge goes first, of equals the leftmost, and only within words" *
          doctest::skip(kNoLibraries)) {
  const Tokenizer tokenizer(ByteLevel(), "t");
  CHECK(tokenizer.Encode("abc") == Ids{0, 7});  // b c stands before a b
  CHECK(tokenizer.Encode("abcab") == Ids{0, 7, 6});
  CHECK(tokenizer.Encode(" ab abc") == Ids{8, 3, 0, 7});
  CHECK(tokenizer.Encode("  ab") == Ids{3, 8});  // the last of several spaces belongs to the word
  CHECK(tokenizer.Piece(8) == "Ġab");
  const ordered_json equal = With("/model/merges", {"a b", "b c", "Ġ ab"});
  CHECK(Tokenizer(equal, "t").Encode("abc") == Ids{6, 2});
}

TEST_CASE("merges are read in both spellings" * doctest::skip(kNoLibraries)) {
  const ordered_json pairs = With("/model/merges", ordered_json::parse(R"([["b", "c"], ["a", "b"], ["Ġ", "ab"]])"));
  CHECK(Tokenizer(pairs, "t").Encode("abcab ab") == Tokenizer(ByteLevel(), "t").Encode("abcab ab"));
}

TEST_CASE("streamed text is UTF-8 at every moment and together what Decode gives" * doctest::skip(kNoLibraries)) {
  const Tokenizer tokenizer(ByteLevel(), "t");
  TextStream stream(tokenizer, /*skip_special=*/true);
  CHECK(stream.Add(4) == "");  // the first half of é
  CHECK(stream.Add(9) == "");  // <end> says nothing
  CHECK(stream.Add(5) == "é");
  CHECK(stream.Add(5) == "\xEF\xBF\xBD");  // can't begin a character
  CHECK(stream.Add(4) == "");
  CHECK(stream.Add(0) ==
        "\xEF\xBF\xBD"
        "a");  // 0xC3 was the beginning of nothing
  CHECK(stream.Add(4) == "");
  CHECK(stream.Finish() == "\xEF\xBF\xBD");
  CHECK(stream.Finish() == "");
  CHECK(tokenizer.Decode({4, 9, 5}, false) == "\xEF\xBF\xBD<end>\xEF\xBF\xBD");
  CHECK(tokenizer.Decode({4, 9, 5}, true) == "é");
}

TEST_CASE("an id that only the model has does not part the bytes of a character" * doctest::skip(kNoLibraries)) {
  const Tokenizer tokenizer = Tokenizer(ByteLevel(), "t").ForModel(12);
  CHECK(tokenizer.Decode({4, 11, 5, 10}, true) == "é");
  TextStream stream(tokenizer, /*skip_special=*/true);
  CHECK(stream.Add(4) == "");
  CHECK(stream.Add(11) == "");
  CHECK(stream.Add(5) == "é");
  CHECK_THROWS_WITH_AS(stream.Add(12), "t: no token has the id 12", Error);
}

TEST_CASE("special tokens written in a text can be kept from becoming tokens" * doctest::skip(kNoLibraries)) {
  ordered_json json = ByteLevel();
  json["added_tokens"].push_back({{"id", 10}, {"content", "ca"}, {"special", false}});
  json["added_tokens"].push_back({{"id", 11}, {"content", "bb"}, {"special", true}});
  const Tokenizer tokenizer(json, "t");
  CHECK(tokenizer.Encode("bbca") == Ids{11, 10});
  CHECK(tokenizer.Encode("bbca", SpecialTokens::kAsText) == Ids{1, 1, 10});
}

TEST_CASE("a byte without a token is refused with its character" * doctest::skip(kNoLibraries)) {
  const Tokenizer tokenizer(ByteLevel(), "t");
  CHECK(tokenizer.Encode("é") == Ids{4, 5});
  CHECK_THROWS_WITH_AS(tokenizer.Encode("ab è"),
                       "t: the character 'è' (U+00E8) at byte 3 of the text is not in the vocabulary", Error);
  CHECK_THROWS_WITH_AS(tokenizer.Encode("<end>a\n"), Contains("the character U+000A at byte 6"), Error);
  CHECK_THROWS_WITH_AS(tokenizer.Encode("ab\xC3"), "t: the text is no UTF-8 at byte 2", Error);
}

TEST_CASE("where every byte is a token, what becomes of unknown text is no matter" * doctest::skip(kNoLibraries)) {
  ordered_json json = ByteLevel();
  for (const auto& [pointer, value] :
       {std::pair("/model/unk_token", ordered_json("<end>")), std::pair("/model/byte_fallback", ordered_json(true))}) {
    ordered_json some = ByteLevel();
    some[ordered_json::json_pointer(pointer)] = value;
    CHECK_THROWS_WITH_AS(Tokenizer(some, "t"), Contains("is not supported"), Error);
    json[ordered_json::json_pointer(pointer)] = value;
  }
  int id = 10;
  for (int code = 0x21; code < 0x144; ++code) {  // the letters of all bytes
    const std::string letter =
        code < 0x80 ? std::string(1, static_cast<char>(code))
                    : std::string{static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    if (BytesOfLetters(letter) && !json["model"]["vocab"].contains(letter)) json["model"]["vocab"][letter] = id++;
  }
  REQUIRE(id == 10 + 256 - 6);
  CHECK(Tokenizer(json, "t").Encode("ab ab") == Ids{6, 8});
}

TEST_CASE("the template's tokens open a prompt, once" * doctest::skip(kNoLibraries)) {
  const ordered_json end = {{"SpecialToken", {{"id", "<end>"}, {"type_id", 0}}}};
  const ordered_json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const auto with = [&](const ordered_json& single) {
    return With("/post_processor",
                {{"type", "Sequence"},
                 {"processors", {{{"type", "ByteLevel"}}, {{"type", "TemplateProcessing"}, {"single", single}}}}});
  };
  const Tokenizer tokenizer(with({end, text}), "t");
  CHECK(tokenizer.Encode("ab") == Ids{6});
  CHECK(tokenizer.EncodePrompt("ab") == Ids{9, 6});
  CHECK(tokenizer.EncodePrompt("<end>ab") == Ids{9, 6});
  CHECK(tokenizer.EncodePrompt("") == Ids{9});
  CHECK_THROWS_WITH_AS(Tokenizer(with({text, end}), "t"), Contains("behind the text, which is not supported"), Error);
  ordered_json ids = with({end, text});
  const ordered_json::json_pointer of_end("/post_processor/processors/1/special_tokens/<end>/ids");
  ids[of_end] = {9};
  CHECK(Tokenizer(ids, "t").EncodePrompt("ab") == Ids{9, 6});
  ids[of_end] = {8};
  CHECK_THROWS_WITH_AS(Tokenizer(ids, "t"), Contains("gives '<end>' the ids [8], but the vocabulary the id 9"), Error);
  CHECK_THROWS_WITH_AS(Tokenizer(with({3, text}), "t"), Contains("holds 3 where a SpecialToken"), Error);
  CHECK_THROWS_WITH_AS(Tokenizer(with({{{"SpecialToken", {{"id", "<s>"}}}}, text}), "t"),
                       "t: the post_processor TemplateProcessing puts '<s>' in front, which is no token", Error);
}

TEST_CASE("a damaged vocabulary or list of merges is refused in one sentence" * doctest::skip(kNoLibraries)) {
  const auto refused = [](const char* pointer, const ordered_json& value, const char* sentence) {
    CHECK_THROWS_WITH_AS(Tokenizer(With(pointer, value), "t"), Contains(sentence), Error);
  };
  refused("/model/merges/0", "b x", "t: merge 0 ('b' and 'x') needs the token 'x', which is not in the vocabulary");
  refused("/model/merges/0", "c b", "t: merge 0 ('c' and 'b') needs the token 'cb', which is not in the vocabulary");
  refused("/model/merges/1", "b c", "t: merge 1 ('b' and 'c') stands in the list before");
  refused("/model/merges/2", "a", "t: merge 2 is \"a\", not two tokens");
  refused("/model/merges/2", "a b c", "t: merge 2 is \"a b c\", not two tokens");
  refused("/model/merges/2", ordered_json::array({"a"}), "t: merge 2 is [\"a\"], not two tokens");
  refused("/model/merges/2", 7, "t: merge 2 is 7, not two tokens");
  // A merge with an empty part would make a token of itself for ever.
  refused("/model/merges/2", {"", "ab"}, "t: merge 2 ('' and 'ab') needs the token '', which is not in the vocabulary");
  refused("/model/merges/2", " ab", "needs the token ''");
  refused("/model/merges", {"b c", "a b"},
          "t: the token 'Ġab' (id 8) is made by no merge and is no added token; merges are missing");
  refused("/model/merges", "b c", "the model's merges are missing");
  refused("/model/vocab/Ġab", 11, "t: no token has the id 8, although ids go up to 11");
  refused("/model/vocab/Ġab", 7, "have the same id 7");
  refused("/model/vocab/Ġab", 1ull << 60, "where an integer from 0 to 1048575 is needed");
  refused("/model/vocab/Ġab", 1.5, "has the id 1.5 where an integer");
  refused("/added_tokens/0/id", 8, "the tokens 'Ġab' and '<end>' have the same id 8");
  refused("/added_tokens/1", {{"id", 9}, {"content", "<end>"}}, "two added tokens are '<end>'");
}

// Every value of `json` within `at`, its own included.
void ListPointers(const ordered_json& json, const ordered_json::json_pointer& at,
                  std::vector<ordered_json::json_pointer>& pointers) {
  pointers.push_back(at);
  for (const auto& [key, value] : json.items()) {
    if (!value.is_structured()) pointers.push_back(at / key);
    if (value.is_structured()) {
      ListPointers(value, json.is_array() ? at / std::stoul(key) : at / key, pointers);
    }
  }
}

TEST_CASE("a tokenizer.json with any value replaced by another is read or refused, never anything worse" *
          doctest::skip(kNoLibraries)) {
  ordered_json whole = ByteLevel();
  whole["normalizer"] = {{"type", "Sequence"}, {"normalizers", ordered_json::array({{{"type", "NFC"}}})}};
  whole["pre_tokenizer"] = ordered_json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated", "invert": false},
      {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "use_regex": true}]})");
  whole["post_processor"] = ordered_json::parse(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<end>"}}, {"Sequence": {"id": "A"}}]})");
  std::vector<ordered_json::json_pointer> pointers;
  ListPointers(whole, ordered_json::json_pointer(), pointers);
  int read = 0, refused = 0;
  for (const auto& pointer : pointers) {
    for (const char* value :
         {"null", "true", "-1", "1e300", "\"x\"", "[]", "{}", "[[]]", "[{}]", "[\"a\", 3]", "{\"type\": 3}"}) {
      ordered_json damaged = whole;
      damaged[pointer] = ordered_json::parse(value);
      try {
        const Tokenizer tokenizer(damaged, "t");
        tokenizer.Decode(tokenizer.EncodePrompt("ab"), true);
        ++read;
      } catch (const Error&) {  // all else fails the test
        ++refused;
      }
    }
  }
  CHECK(read > 50);
  CHECK(refused > 300);
}

TEST_CASE("components that the families do not use are refused by name" * doctest::skip(kNoLibraries)) {
  const auto refused = [](const char* pointer, const char* value, const char* sentence) {
    CHECK_THROWS_WITH_AS(Tokenizer(With(pointer, ordered_json::parse(value)), "t"), Contains(sentence), Error);
  };
  refused("/pre_tokenizer/add_prefix_space", "true", "add_prefix_space of the pre_tokenizer ByteLevel");
  refused("/pre_tokenizer", R"({"type": "Sequence"})", "the pre_tokenizer Sequence lacks its pretokenizers");
  refused("/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})",
          "ByteLevel must be the last of its Sequence");
  refused("/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "Sequence"}]})",
          "the pre_tokenizer Sequence is not supported");
  refused("/pre_tokenizer", R"({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"})",
          "Split needs a pattern");
  refused("/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed"})",
          "supported with the behavior Isolated and invert false");
  refused("/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": true})",
          "supported with the behavior Isolated and invert false");
  refused("/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"})",
          "t: the regex (a is wrong: missing closing parenthesis");
  refused("/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]})",
          "the normalizer Lowercase is not supported");
  refused("/normalizer", R"({"type": "Prepend", "prepend": "_"})", "the normalizer Prepend is not supported");
  refused("/decoder", R"({"type": "Sequence", "decoders": []})", "the decoder Sequence is not supported");
  ordered_json many = ByteLevel();
  many["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", ordered_json::array()}};
  for (int i = 0; i < 17; ++i) many["pre_tokenizer"]["pretokenizers"].push_back({{"type", "Digits"}});
  CHECK_THROWS_WITH_AS(Tokenizer(many, "t"), "t: the pre_tokenizer Sequence has more than 16 steps", Error);
}

TEST_CASE("of a regex, what both engines read alike is passed on, and all else is refused by name") {
  const auto translated = [](const char* pattern) { return TranslatePattern(pattern, "t"); };
  CHECK(translated(R"(\s+(?!\S)|[^\s\p{L}]?\p{Nd}{1,3}|(?i:'s)|a++|\.\\s)") ==
        R"(\p{White_Space}+(?!\P{White_Space})|[^\p{White_Space}\p{L}]?\p{Nd}{1,3}|(?i:'s)|a++|\.\\s)");
  for (const char* pattern : {"a.b",       "^a",      "a$",     R"(\w)",  R"(\b)", R"(\h)",   R"(\1)",  R"(\p{Han})",
                              R"(\p{^L})", R"(\p{L)", "[a[b]]", "[a&&b]", "[]a]",  "(?<n>a)", "(?m:a)", "(*ACCEPT)",
                              "a{,2}",     "a{2}+",   "a{2}?",  "a{x}",   "a{",    "a\\"}) {
    INFO(pattern);
    CHECK_THROWS_WITH_AS(translated(pattern), Contains("is not supported"), Error);
  }
  CHECK_THROWS_WITH_AS(translated("[ab"), "t: the regex [ab lacks a ']'", Error);
}

TEST_CASE("a regex that splits nothing or never ends is refused, not run for ever" * doctest::skip(kNoLibraries)) {
  const auto split = [](const char* pattern) {
    ordered_json json =
        With("/pre_tokenizer", {{"type", "Sequence"},
                                {"pretokenizers",
                                 {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}},
                                  {{"type", "ByteLevel"}, {"use_regex", false}}}}});
    return Tokenizer(json, "t").Encode(std::string(60, 'a') + "cb");
  };
  CHECK_THROWS_WITH_AS(split("b*"), Contains("matches the empty text"), Error);
  CHECK_THROWS_WITH_AS(split("(a+)+b"), Contains("fails on this text: match limit exceeded"), Error);
}

TEST_CASE("NFC composes, orders marks, and takes no quadratic time" * doctest::skip(kNoLibraries)) {
  CHECK(ToNfc("abc é") == "abc é");
  CHECK(ToNfc("e\u0301") == "\u00e9");
  CHECK(ToNfc("e\u0301\u0323") == "\u1eb9\u0301");
  CHECK(ToNfc("\u212b") == "\u00c5");
  CHECK(ToNfc("\u1100\u1161\u11a8") == "\uac01");
  CHECK(ToNfc("\u0958") == "\u0915\u093c");  // excluded from composition
  CHECK(ToNfc(std::string("a\0e\u0301", 5)) == std::string("a\0\u00e9", 4));
  std::string marks, ordered;
  constexpr int kMarks = 500000;  // in quadratic time this takes minutes
  for (int i = 0; i < kMarks; ++i) marks += "\u0301\u0323";
  for (int i = 0; i < kMarks; ++i) ordered += "\u0323";
  for (int i = 0; i < kMarks; ++i) ordered += "\u0301";
  CHECK((ToNfc(marks) == ordered));
}

TEST_CASE("several threads may encode with one tokenizer" * doctest::skip(kNoLibraries)) {
  const Tokenizer tokenizer(ByteLevel(), "t");
  std::string text;
  for (int i = 0; i < 2000; ++i) text += " abc ab";
  const Ids expected = tokenizer.Encode(text);
  std::array<bool, 4> same{};
  std::vector<std::thread> threads;
  for (bool& result : same) threads.emplace_back([&] { result = tokenizer.Encode(text) == expected; });
  for (std::thread& thread : threads) thread.join();
  CHECK(same == std::array{true, true, true, true});
}

TEST_CASE("a tokenizer.json of absurd size is refused before it is read") {
  const TempDirectory dir;
  WriteFileAtomically(dir / "tokenizer.json", "{}");
  std::filesystem::resize_file(dir / "tokenizer.json", (1ull << 28) + 1);  // a hole: takes no room
  CHECK_THROWS_WITH_AS(Tokenizer::Load(dir.path()), Contains("tokenizer.json: it has more than 268435456 bytes"),
                       Error);
}

}  // namespace
}  // namespace swarr
