// SPDX-License-Identifier: Apache-2.0
// The families' tokenizers against what the package `tokenizers` made of the same texts
// (tools/make_tokenizer_fixtures.py, which describes the files). Nothing may differ.
#include <doctest/doctest.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "model/tokenizer.h"
#include "text/unicode.h"

namespace swarr {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

using Ids = std::vector<std::int32_t>;

const bool kNoLibraries = !HasUnicodeLibraries();
const std::filesystem::path kData = std::filesystem::path(SWARR_TEST_DATA) / "tokenizers";
const std::vector<std::string> kFamilies = {"gpt2", "smollm2", "qwen2", "llama3"};

json Expected() { return ParseJson<json>(ReadFile(kData / "expected.json"), "expected.json"); }

ordered_json FamilyJson(const std::string& family) { return ordered_json::parse(ReadFile(kData / (family + ".json"))); }

Tokenizer Family(const std::string& family) { return {FamilyJson(family), family}; }

void AppendUtf8(char32_t code, std::string& text) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | code >> 12);
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xF0 | code >> 18);
    tail(12), tail(6), tail(0);
  }
}

// FNV-1a of 64 bits.
class Hash {
 public:
  void Add(std::string_view bytes) {
    for (const char c : bytes) value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  void Add(Ids ids) {
    ids.push_back(-1);
    for (const std::int32_t id : ids) {
      for (int shift = 0; shift < 32; shift += 8) {
        Add(std::string(1, static_cast<char>(static_cast<std::uint32_t>(id) >> shift)));
      }
    }
  }
  std::string Hex() const {
    std::array<char, 17> text{};
    static_cast<void>(std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value_)));
    return text.data();
  }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325;
};

// The random texts of the script.
class Generator {
 public:
  Generator(const json& expected, std::uint64_t seed)
      : state_(seed), atoms_(expected["atoms"]), ranges_(expected["ranges"]) {}

  std::size_t Draw(std::size_t n) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return (state_ >> 33) % n;
  }

  std::string Text() {
    std::string text;
    for (std::size_t parts = 1 + Draw(24); parts > 0; --parts) {
      if (Draw(2) == 0) {
        text += atoms_[Draw(atoms_.size())];
      } else {
        const auto& [first, last] = ranges_[Draw(ranges_.size())];
        AppendUtf8(static_cast<char32_t>(first + Draw(last - first + 1)), text);
      }
    }
    return text;
  }

 private:
  std::uint64_t state_;
  std::vector<std::string> atoms_;
  std::vector<std::pair<std::size_t, std::size_t>> ranges_;
};

// Decoded token by token; each part must be UTF-8 by itself.
std::string Streamed(const Tokenizer& tokenizer, const Ids& ids) {
  TextStream stream(tokenizer, /*skip_special=*/false);
  std::string text;
  const auto take = [&](const std::string& part) {
    CheckUtf8(part, "a part of a streamed text");
    text += part;
  };
  for (const std::int32_t id : ids) take(stream.Add(id));
  take(stream.Finish());
  return text;
}

TEST_CASE("every awkward text has the ids and the decoded text of `tokenizers`, in each family" *
          doctest::skip(kNoLibraries)) {
  const json expected = Expected();
  for (const std::string& family : kFamilies) {
    const Tokenizer tokenizer = Family(family);
    const json& cases = expected["families"][family]["cases"];
    REQUIRE(cases.size() > 90);
    for (const auto& c : cases) {
      const auto text = c["text"].get<std::string>();
      INFO(family, ": ", c["text"].dump(-1, ' ', /*ensure_ascii=*/true));
      const auto ids = c["ids"].get<Ids>();
      CHECK(tokenizer.Encode(text) == ids);
      CHECK(tokenizer.Encode(text, SpecialTokens::kAsText) == c.value("special_as_text", ids));
      CHECK(tokenizer.Decode(ids, false) == c["decoded"].get<std::string>());
      CHECK(tokenizer.Decode(ids, true) == c["without_special"].get<std::string>());
      CHECK(Streamed(tokenizer, ids) == c["decoded"].get<std::string>());
      const bool begun = text.starts_with("<|begin_of_text|>");  // there `tokenizers` puts a second one
      CHECK(tokenizer.EncodePrompt(text) == (begun ? ids : c.value("prompt", ids)));
    }
  }
}

TEST_CASE("10,000 random texts a family have the ids and the decoded text of `tokenizers`" *
          doctest::skip(kNoLibraries)) {
  const json expected = Expected();
  for (const std::string& family : kFamilies) {
    const Tokenizer tokenizer = Family(family);
    const json& facts = expected["families"][family];
    Generator generator(expected, facts["seed"].get<std::uint64_t>());
    int number = 0;
    for (const auto& block : facts["blocks"]) {
      Hash texts, ids, decoded;
      for (int i = 0; i < expected["block"]; ++i, ++number) {
        const std::string text = generator.Text();
        texts.Add(text);
        const Ids row = tokenizer.Encode(text);
        ids.Add(row);
        const std::string back = tokenizer.Decode(row, false);
        decoded.Add(back);
        REQUIRE(Streamed(tokenizer, row) == back);
      }
      INFO(family, ", texts up to ", number);
      REQUIRE(texts.Hex() == block[0].get<std::string>());
      CHECK(ids.Hex() == block[1].get<std::string>());
      CHECK(decoded.Hex() == block[2].get<std::string>());
    }
    CHECK(number == 10000);

    Hash decoded;
    for (int i = 0; i < 1000; ++i) {
      Ids row(1 + generator.Draw(24));
      for (std::int32_t& id : row) {
        id = static_cast<std::int32_t>(generator.Draw(static_cast<std::size_t>(tokenizer.vocab_size())));
      }
      const std::string text = tokenizer.Decode(row, false);
      decoded.Add(text);
      REQUIRE(Streamed(tokenizer, row) == text);
    }
    CHECK_MESSAGE(decoded.Hex() == facts["random_ids"].get<std::string>(), family, ": text of random ids");
  }
}

TEST_CASE("words of 100,000 bytes have the ids of `tokenizers`, in time that is not quadratic" *
          doctest::skip(kNoLibraries)) {
  const json expected = Expected();
  for (const std::string& family : kFamilies) {
    const Tokenizer tokenizer = Family(family);
    for (const auto& c : expected["families"][family]["long"]) {
      std::string text;
      for (int i = 0; i < c["times"]; ++i) text += c["text"].get<std::string>();
      const Ids ids = tokenizer.Encode(text);
      INFO(family, ": ", c["text"].dump(-1, ' ', /*ensure_ascii=*/true), " times ", c["times"].get<int>());
      CHECK(ids.size() == c["tokens"].get<std::size_t>());
      Hash hash;
      hash.Add(ids);
      CHECK(hash.Hex() == c["ids"].get<std::string>());
    }
  }
}

TEST_CASE("merges written as pairs or as strings give the same tokenizer" * doctest::skip(kNoLibraries)) {
  for (const std::string& family : kFamilies) {
    ordered_json other = FamilyJson(family);
    for (auto& merge : other["model"]["merges"]) {
      if (merge.is_string()) {
        const auto text = merge.get<std::string>();
        const std::size_t space = text.find(' ');
        merge = {text.substr(0, space), text.substr(space + 1)};
      } else {
        merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
      }
    }
    const std::string text = ReadFile(kData / "gpt2.json");
    CHECK((Tokenizer(other, family).Encode(text) == Family(family).Encode(text)));
  }
}

// Prints a figure and promises none: the time depends on the machine and on what else it does.
TEST_CASE("the speed of encoding is printed, and what was encoded decodes to itself" * doctest::skip(kNoLibraries)) {
  std::string documents;  // this repository's
  for (const char* name : {"architecture.md", "attention.md", "derivations.md", "exactness.md", "performance.md"}) {
    documents += ReadFile(std::filesystem::path(SWARR_TEST_DATA) / "../../docs" / name);
  }
  std::string text;
  while (text.size() < 2000000) text += documents;
  for (const std::string& family : kFamilies) {
    const Tokenizer tokenizer = Family(family);
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = tokenizer.Encode(text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    MESSAGE(family, ": encoded ", static_cast<double>(text.size()) / 1e6 / seconds.count(), " MB/s");
    CHECK((tokenizer.Decode(ids, false) == text));
  }
}

}  // namespace
}  // namespace swarr
