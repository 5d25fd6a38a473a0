// SPDX-License-Identifier: Apache-2.0
#include "task/math/unit.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

#include "task/math/expression.h"
#include "tensor/check.h"

namespace swarr {
namespace {

using Entry = std::pair<std::string_view, std::string_view>;

// Names of measures in the singular. An answer in one of them is not equal to one in another.
constexpr std::array<Entry, 66> kMeasures = {{
    {"mm", "mm"},         {"millimeter", "mm"}, {"cm", "cm"},         {"centimeter", "cm"}, {"centimetre", "cm"},
    {"m", "m"},           {"meter", "m"},       {"metre", "m"},       {"km", "km"},         {"kilometer", "km"},
    {"kilometre", "km"},  {"in", "inch"},       {"inch", "inch"},     {"inche", "inch"},    {"ft", "foot"},
    {"foot", "foot"},     {"feet", "foot"},     {"yd", "yard"},       {"yard", "yard"},     {"mi", "mile"},
    {"mile", "mile"},     {"mg", "mg"},         {"g", "g"},           {"gram", "g"},        {"kg", "kg"},
    {"kilogram", "kg"},   {"oz", "ounce"},      {"ounce", "ounce"},   {"lb", "pound"},      {"pound", "pound"},
    {"ton", "ton"},       {"ml", "ml"},         {"milliliter", "ml"}, {"l", "liter"},       {"liter", "liter"},
    {"litre", "liter"},   {"gallon", "gallon"}, {"s", "second"},      {"sec", "second"},    {"second", "second"},
    {"min", "minute"},    {"minute", "minute"}, {"h", "hour"},        {"hr", "hour"},       {"hour", "hour"},
    {"day", "day"},       {"week", "week"},     {"month", "month"},   {"year", "year"},     {"am", "am"},
    {"pm", "pm"},         {"mph", "mph"},       {"dollar", "dollar"}, {"usd", "dollar"},    {"cent", "cent"},
    {"euro", "euro"},     {"eur", "euro"},      {"yen", "yen"},       {"rupee", "rupee"},   {"degree", "degree"},
    {"radian", "radian"}, {"rad", "radian"},    {"acre", "acre"},     {"hz", "hz"},         {"\\degree", "degree"},
    {"mpg", "mpg"},
}};

constexpr std::array<Entry, 4> kCurrencies = {
    {{"\\$", "dollar"}, {"\u20ac", "euro"}, {"\u00a3", "pound sterling"}, {"\u00a5", "yen"}}};

constexpr std::array<std::pair<std::string_view, std::int64_t>, 7> kMultipliers = {{{"dozen", 12},
                                                                                    {"hundred", 100},
                                                                                    {"thousand", 1'000},
                                                                                    {"million", 1'000'000},
                                                                                    {"billion", 1'000'000'000},
                                                                                    {"trillion", 1'000'000'000'000},
                                                                                    {"percent", 1}}};

// Words that change what is said: an answer with one of them is no number with a unit.
constexpr std::array<std::string_view, 64> kNoUnits = {
    "or",       "and",        "not",    "no",       "than",      "more",     "less",      "least",
    "most",     "over",       "under",  "above",    "below",     "about",    "around",    "to",
    "from",     "mod",        "modulo", "minus",    "plus",      "times",    "divided",   "if",
    "when",     "where",      "for",    "all",      "none",      "but",      "sin",       "cos",
    "tan",      "log",        "ln",     "exp",      "max",       "min",      "squared",   "cubed",
    "half",     "halves",     "third",  "thirds",   "quarter",   "quarters", "fourths",   "fifths",
    "tenths",   "hundredths", "is",     "isn",      "maybe",     "base",     "factorial", "remainder",
    "negative", "ones",       "tens",   "hundreds", "thousands", "millions", "billions",  "thousandths"};

template <class Table>
auto Find(std::string_view name, const Table& table) {
  return std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.first == name; });
}

std::string Singular(std::string_view word) {
  std::string name;
  for (const char c : word) name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (name.size() > 2 && name.back() == 's') name.pop_back();
  return name;
}

// "cm" for "centimeters"; empty if the word is no measure.
std::string_view MeasureOf(std::string_view word) {
  const auto found = Find(Singular(word), kMeasures);
  return found == kMeasures.end() ? std::string_view() : found->second;
}

// A word that may stand behind a number without being part of a formula: 5xy is none, nor is the i of 5\mathrm{i}. One
// letter has to be a measure in \text; bare words need a space before them or be measures.
bool IsUnitWord(const MathToken& token) {
  if (token.Is("\\degree")) return true;
  if (token.kind != MathToken::Kind::kWord) return false;
  if (std::find(kNoUnits.begin(), kNoUnits.end(), token.text) != kNoUnits.end()) return token.text == "min";
  if (token.in_text) return token.text.size() >= 2 || !MeasureOf(token.text).empty();
  return token.text.size() >= 2 && (!MeasureOf(token.text).empty() || (token.after_space && token.text.size() >= 3));
}

bool IsPercent(const MathToken& token) { return token.Is("%") || token.Is("percent"); }
bool IsCurrency(const MathToken& token) { return Find(token.text, kCurrencies) != kCurrencies.end(); }

// What follows the number. Throws Error if it is no unit.
class UnitParser {
 public:
  explicit UnitParser(MathTokens tokens) : tokens_(tokens) {}

  void ApplyTo(Quantity& quantity) {
    if (const auto found = at_ < tokens_.size() ? Find(tokens_[at_].text, kMultipliers) : kMultipliers.end();
        found != kMultipliers.end()) {
      quantity.value = quantity.value * Number(Rational(found->second, 1));
      quantity.percent |= tokens_[at_].Is("percent");
      ++at_;
    } else if (at_ < tokens_.size() && IsPercent(tokens_[at_])) {
      quantity.percent = true;
      ++at_;
    }
    std::string measure;
    int words = 0;
    for (; at_ < tokens_.size(); ++words) Word(measure);
    if (words == 1) quantity.measure = measure;
  }

 private:
  // One word, with what may follow it: an exponent, a full stop, a slash or a hyphen before another word.
  void Word(std::string& measure) {
    const MathToken& token = tokens_[at_++];
    if (IsCurrency(token)) {
      measure = Find(token.text, kCurrencies)->second;
      return;
    }
    SWARR_CHECK(IsUnitWord(token), "no unit");
    measure = MeasureOf(token.text);
    if (tokens_.size() - at_ >= 4 && tokens_[at_].Is("^") && tokens_[at_ + 1].Is("{") && tokens_[at_ + 3].Is("}")) {
      const std::string& power = tokens_[at_ + 2].text;
      SWARR_CHECK(power == "2" || power == "3", "no unit");
      if (!measure.empty()) measure += "^" + power;
      at_ += 4;
    }
    if (at_ < tokens_.size() && (tokens_[at_].Is("."))) ++at_;
    if (at_ + 1 < tokens_.size() && (tokens_[at_].Is("/") || tokens_[at_].Is("-"))) ++at_;
  }

  MathTokens tokens_;
  std::size_t at_ = 0;
};

}  // namespace

std::optional<Quantity> ParseQuantity(MathTokens tokens) {
  if (tokens.empty()) return std::nullopt;
  Quantity quantity;
  std::string currency;
  const bool negative = tokens[0].Is("-");
  if (tokens.size() > 1 && IsCurrency(tokens[negative ? 1 : 0])) {
    currency = Find(tokens[negative ? 1 : 0].text, kCurrencies)->second;
    tokens = tokens.subspan(negative ? 2 : 1);
  }
  const auto starts_unit = [](const MathToken& t) {
    return IsPercent(t) || IsCurrency(t) || IsUnitWord(t) || Find(t.text, kMultipliers) != kMultipliers.end();
  };
  const auto unit = std::find_if(tokens.begin(), tokens.end(), starts_unit);
  const auto number = static_cast<std::size_t>(unit - tokens.begin());
  const std::optional<Number> value = ParseNumber(tokens.first(number));
  if (!value) return std::nullopt;
  try {
    quantity.value = negative && !currency.empty() ? -*value : *value;
    UnitParser(tokens.subspan(number)).ApplyTo(quantity);
  } catch (const Error&) {
    return std::nullopt;
  }
  if (!currency.empty()) quantity.measure = currency;
  return quantity;
}

}  // namespace swarr
