// SPDX-License-Identifier: Apache-2.0
#include "task/math/unit.h"

#include <algorithm>
#include <string_view>

#include "task/math/expression.h"
#include "task/math/words.h"
#include "tensor/check.h"

namespace swarr {
namespace {

// The names of each measure in the singular. An answer in one measure is not equal to one in another.
constexpr std::string_view kMeasures =
    "mm millimeter | cm centimeter centimetre | m meter metre | km kilometer kilometre | inch in inche | foot ft feet "
    "| "
    "yard yd | mile mi | mg | g gram | kg kilogram | ounce oz | pound lb | ton | ml milliliter | liter l litre | "
    "gallon | second s sec | minute min | hour h hr | day | week | month | year | am | pm | mph | mpg | dollar usd | "
    "cent | euro eur | yen | rupee | degree \\degree | radian rad | acre | hz";

constexpr std::string_view kCurrencies = "dollar \\$ | euro \u20ac | sterling \u00a3 | yen \u00a5";

constexpr std::string_view kMultipliers =
    "12 dozen | 100 hundred | 1000 thousand | 1000000 million | 1000000000 billion | 1000000000000 trillion";

// Words that change what is said: an answer with one of them is no number with a unit.
constexpr std::string_view kNoUnits =
    "or and not no than more less least most over under above below about around to from mod modulo minus plus times "
    "divided if when where for all none but sin cos tan log ln exp max squared cubed half halves third thirds quarter "
    "quarters fourths fifths tenths hundredths is isn maybe base factorial remainder negative ones tens hundreds "
    "thousands millions billions thousandths";

// "cm" for "centimeters"; empty if the word is no measure.
std::string_view MeasureOf(std::string_view word) {
  std::string name = LowerCase(word);
  if (name.size() > 2 && name.back() == 's') name.pop_back();
  return MeaningOf(name, kMeasures);
}

// A word that may stand behind a number without being part of a formula: 5xy is none, nor is the i of 5\mathrm{i}. One
// letter has to be a measure in \text; bare words need a space before them or be measures.
bool IsUnitWord(const MathToken& token) {
  if (token.Is("\\degree")) return true;
  if (token.kind != MathToken::Kind::kWord || HasWord(kNoUnits, token.text)) return false;
  const std::size_t size = token.text.size();
  const bool measure = !MeasureOf(token.text).empty();
  if (token.in_text) return measure || size >= 2;
  return size >= 2 && (measure || (token.after_space && size >= 3));
}

bool IsPercent(const MathToken& token) { return token.Is("%") || token.Is("percent"); }
std::string_view CurrencyOf(const MathToken& token) {
  return token.kind == MathToken::Kind::kWord ? "" : MeaningOf(token.text, kCurrencies);
}
std::string_view MultiplierOf(const MathToken& token) {
  return token.kind == MathToken::Kind::kWord ? MeaningOf(token.text, kMultipliers) : "";
}

bool StartsUnit(const MathToken& token) {
  return IsPercent(token) || IsUnitWord(token) || !CurrencyOf(token).empty() || !MultiplierOf(token).empty();
}

// Takes one word from the front of `unit`, with what may follow it: an exponent, a full stop, a slash or a hyphen
// before another word. Returns its measure. Throws Error if it is no word of a unit.
std::string TakeMeasure(MathTokens& unit) {
  const MathToken& token = unit[0];
  unit = unit.subspan(1);
  if (const std::string_view currency = CurrencyOf(token); !currency.empty()) return std::string(currency);
  SWARR_CHECK(IsUnitWord(token), "no unit");
  std::string measure(MeasureOf(token.text));
  if (unit.size() >= 4 && unit[0].Is("^") && unit[1].Is("{") && unit[3].Is("}")) {
    const std::string& power = unit[2].text;
    SWARR_CHECK(power == "2" || power == "3", "no unit");
    if (!measure.empty()) measure += "^" + power;
    unit = unit.subspan(4);
  }
  if (!unit.empty() && unit[0].Is(".")) unit = unit.subspan(1);
  if (unit.size() > 1 && (unit[0].Is("/") || unit[0].Is("-"))) unit = unit.subspan(1);
  return measure;
}

// Applies what follows the number to it. Throws Error if that is no unit.
void ApplyUnit(MathTokens unit, Quantity& quantity) {
  if (!unit.empty() && (IsPercent(unit[0]) || !MultiplierOf(unit[0]).empty())) {
    quantity.percent = IsPercent(unit[0]);
    if (!quantity.percent) quantity.value = quantity.value * Number(Rational::FromDecimal(MultiplierOf(unit[0])));
    unit = unit.subspan(1);
  }
  std::string measure;
  int words = 0;
  for (; !unit.empty(); ++words) measure = TakeMeasure(unit);
  if (words == 1) quantity.measure = measure;
}

}  // namespace

std::optional<Quantity> ParseQuantity(MathTokens tokens) {
  if (tokens.empty()) return std::nullopt;
  const std::size_t sign = tokens[0].Is("-") ? 1 : 0;
  const std::string_view currency = tokens.size() > 1 ? CurrencyOf(tokens[sign]) : "";
  if (!currency.empty()) tokens = tokens.subspan(sign + 1);
  const auto unit = std::find_if(tokens.begin(), tokens.end(), StartsUnit);
  const auto size = static_cast<std::size_t>(unit - tokens.begin());
  const std::optional<Number> value = ParseNumber(tokens.first(size));
  if (!value) return std::nullopt;
  Quantity quantity{.value = sign == 1 && !currency.empty() ? -*value : *value};
  try {
    ApplyUnit(tokens.subspan(size), quantity);
  } catch (const Error&) {
    return std::nullopt;
  }
  if (!currency.empty()) quantity.measure = currency;
  return quantity;
}

}  // namespace swarr
