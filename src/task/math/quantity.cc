// SPDX-License-Identifier: Apache-2.0
#include "task/math/quantity.h"

#include <algorithm>
#include <string_view>

#include "base/check.h"
#include "task/math/expression.h"
#include "task/math/number_words.h"
#include "task/math/words.h"

namespace swarr {
namespace {

// The names of each measure in the singular. An answer in one measure is not equal to one in another. Single letters
// are of one case, since 5 M is another thing than 5 m.
constexpr std::string_view kMeasures =
    "micron micrometer micrometre | nanometer nanometre | mm millimeter millimetre | cm centimeter centimetre | "
    "decimeter decimetre | m meter metre | km kilometer kilometre | inch in inche | foot ft feet | yard yd | mile mi | "
    "furlong | fathom | microgram | mg milligram | g gram | kg kilogram | ounce oz | pound lb | ton | "
    "ml milliliter millilitre | centiliter centilitre | deciliter decilitre | L l liter litre | "
    "teaspoon tsp | tablespoon tbsp | cup | pint pt | quart qt | gallon gal | barrel | bushel | "
    "nanosecond ns | microsecond | millisecond ms | s second sec | minute min | hour h hr | day | week wk | "
    "fortnight | month | year yr | decade | century centurie | millennium millennia | am | pm | "
    "mile/hour mph | km/hour kph kmh | mile/gallon mpg | "
    "dollar usd | cent penny pennie | nickel | dime | euro eur | yen | rupee | peso | yuan | ruble rouble | "
    "degree \\degree deg | degree*C C celsius | degree*F F fahrenheit | degree*K kelvin | radian rad | "
    "acre | hectare | hz hertz | kilohertz khz | megahertz mhz | gigahertz ghz | N newton | kilonewton | "
    "J joule | kilojoule kj | calorie | W watt | kilowatt kw | megawatt | V volt | kilovolt | "
    "A ampere amp | milliampere milliamp | kwh | pascal | kilopascal kpa | ohm \\Omega | "
    "bit | byte | kilobyte kb | megabyte mb | gigabyte gb | terabyte tb";

constexpr std::string_view kCurrencies =
    "dollar \\$ | cent \u00a2 | euro \u20ac | sterling \\pounds \u00a3 | yen \u00a5 | rupee \u20b9 \u20a8 | won \u20a9 "
    "| "
    "ruble \u20bd | lira \u20ba | dong \u20ab | shekel \u20aa | peso \u20b1 | naira \u20a6 | baht \u0e3f | cedi \u20b5 "
    "| "
    "hryvnia \u20b4 | tenge \u20b8 | bitcoin \u20bf";

// Two letters that are a product where no space stands before them: 2mg is 2 m g.
constexpr std::string_view kNeedSpace = "mg am pm ml in pt qt ns ms wk yr kj kw kb mb gb tb";

constexpr std::string_view kPercentWords = "percent percents percentage percentages pct";

bool IsWord(const MathToken& token) { return token.kind == MathToken::Kind::kWord; }

// "cm" for "Centimeters"; empty if the word is no measure.
std::string_view MeasureOf(std::string_view word) {
  if (word.size() == 1) return MeaningOf(word, kMeasures);
  const std::string name = word[0] == '\\' ? std::string(word) : LowerCase(word);
  const bool plural = name.size() > 2 && name.back() == 's';
  const std::string_view singular = std::string_view(name).substr(0, name.size() - plural);
  return MeaningOf(name, kMeasures, MeaningOf(singular, kMeasures));  // "celsius" is no plural
}

std::string_view CurrencyOf(const MathToken& token) { return IsWord(token) ? "" : MeaningOf(token.text, kCurrencies); }

// Whether the number ends before this token: i is a number in a formula, and every other word is not.
bool EndsNumber(const MathToken& token) {
  if (IsWord(token)) return !token.Is("i") || token.in_text;
  return token.Is("%") || HasWord("\\degree \\Omega", token.text) || !CurrencyOf(token).empty();
}

// What follows a number. Throws Error where that is no unit.
class UnitParser {
 public:
  explicit UnitParser(MathTokens tokens) : tokens_(tokens) {}

  void Apply(Quantity& quantity) {
    for (; at_ < tokens_.size() && IsWord(tokens_[at_]); ++at_) {
      const std::string_view factor = MultiplierOf(tokens_[at_].text);
      if (factor.empty()) break;
      quantity.value = quantity.value * Number(Rational::FromDecimal(factor));
    }
    quantity.percent = TakePercent();
    bool first = true;
    for (; at_ < tokens_.size(); first = false) TakeUnit(first);
    if (all_known_) quantity.measure = measure_;
  }

 private:
  bool Next(std::string_view spelling, std::size_t ahead = 0) const {
    return at_ + ahead < tokens_.size() && tokens_[at_ + ahead].Is(spelling);
  }
  bool NextWord(std::string_view words) const {
    return at_ < tokens_.size() && IsWord(tokens_[at_]) && HasWord(words, LowerCase(tokens_[at_].text));
  }
  bool TakeWord(std::string_view words) {
    const bool found = NextWord(words);
    at_ += found;
    return found;
  }
  bool Take(std::string_view spelling) {
    const bool found = Next(spelling);
    at_ += found;
    return found;
  }

  // %, percent, or per cent.
  bool TakePercent() {
    const std::size_t begin = at_;
    if (Take("%")) return true;
    bool found = TakeWord(kPercentWords);
    if (!found && TakeWord("per")) {
      Take("-");
      found = TakeWord("cent cents");
    }
    if (found) Take(".");
    if (!found) at_ = begin;
    return found;
  }

  // A word of the unit with what stands before it ("per", "a", "/", "square") and behind it (an exponent, a full stop).
  void TakeUnit(bool first) {
    const bool divides = TakeWord("per a an") || Take("/");
    const bool joined = divides || (!first && (Take("-") || Take("*"))) || !first;
    while (TakeWord("of the")) {
    }
    int power = TakeWord("square sq") ? 2 : TakeWord("cubic cu") ? 3 : 1;
    if (power > 1) Take(".");
    SWARR_CHECK(at_ < tokens_.size(), "a unit is missing");
    std::string measure = TakeFluidOunce() ? "fluid*ounce" : TakeName(joined || power > 1);
    if (Take("^")) power = Exponent();
    Take(".");
    all_known_ &= !measure.empty();
    if (power > 1 || power < -1) measure += Concat("^", std::abs(power));
    if (divides || power < 0) {
      measure_ += "/" + measure;
    } else if (measure_ == "degree" && measure.starts_with("degree*")) {
      measure_ = measure;
    } else {
      measure_ += (measure_.empty() ? "" : "*") + measure;
    }
  }

  // "fluid ounces", "fl. oz": two words that are one measure.
  bool TakeFluidOunce() {
    const std::size_t begin = at_;
    if (TakeWord("fluid fl")) {
      Take(".");
      if (TakeWord("ounce ounces oz")) return true;
    }
    at_ = begin;
    return false;
  }

  // The name of a unit, or nothing if it is an ordinary word. `joined`: what stands before shows that letters are no
  // part of a formula.
  std::string TakeName(bool joined) {
    const MathToken& token = tokens_[at_];
    if (const std::string_view currency = CurrencyOf(token); !currency.empty()) return ++at_, std::string(currency);
    std::string name(MeasureOf(token.text));
    SWARR_CHECK(IsUnit(token, !name.empty(), joined), "no unit");
    ++at_;
    return name;
  }

  bool IsUnit(const MathToken& token, bool measure, bool joined) const {
    if (!IsWord(token)) return measure;  // \degree, \Omega
    if (ChangesNumber(token.text) || HasWord(kPercentWords, LowerCase(token.text))) return false;
    if (token.text.size() == 1) return measure && (token.in_text || IsBareLetter(token));
    if (measure) return token.in_text || token.after_space || joined || !HasWord(kNeedSpace, token.text);
    if (token.in_text) return !IsAlphabetRun(token.text);
    return (token.after_space || joined) && IsOrdinaryWord(token.text);
  }

  // Bare letters that are measures all the same: m^2, m^3, m/s, the h of km/h, the C of degrees.
  bool IsBareLetter(const MathToken& token) const {
    const std::string_view before = at_ > 0 ? std::string_view(tokens_[at_ - 1].text) : "";
    if (HasWord("C F", token.text)) return measure_ == "degree";
    if (before == "/") return measure_.size() > 1 || (measure_ == "m" && token.Is("s"));
    const bool power =
        Next("^", 1) && Next("{", 2) && at_ + 3 < tokens_.size() && HasWord("2 3", tokens_[at_ + 3].text);
    return token.Is("m") && token.after_space && (power || (Next("/", 1) && Next("s", 2)));
  }

  // {2}, {3}, {-1}, {-2} or {-3}.
  int Exponent() {
    SWARR_CHECK(Take("{"), "no exponent");
    const int sign = Take("-") ? -1 : 1;
    SWARR_CHECK(at_ < tokens_.size() && HasWord(sign < 0 ? "1 2 3" : "2 3", tokens_[at_].text), "no power of a unit");
    const int power = tokens_[at_++].text[0] - '0';
    SWARR_CHECK(Take("}"), "no exponent");
    return sign * power;
  }

  MathTokens tokens_;
  std::size_t at_ = 0;
  std::string measure_;
  bool all_known_ = true;
};

// 1.5e3, 5E-05: as computers write numbers, without spaces. Nothing else may follow.
std::optional<Number> ScientificNotation(MathTokens tokens) {
  if (tokens.size() > 1 && tokens[0].Is("-")) {
    const std::optional<Number> magnitude = ScientificNotation(tokens.subspan(1));
    return magnitude ? std::optional(-*magnitude) : std::nullopt;
  }
  const auto is_number = [&](std::size_t i) { return tokens[i].kind == MathToken::Kind::kNumber; };
  if (tokens.size() < 3 || !is_number(0) || !(tokens[1].Is("e") || tokens[1].Is("E"))) return std::nullopt;
  if (std::ranges::any_of(tokens.subspan(1), &MathToken::after_space)) return std::nullopt;
  const bool sign = tokens[2].Is("-") || tokens[2].Is("+");
  const std::size_t digits = sign ? 3 : 2;
  if (tokens.size() != digits + 1 || !is_number(digits)) return std::nullopt;
  constexpr std::size_t kLongest = 3;
  const std::string& exponent = tokens[digits].text;
  SWARR_CHECK(exponent.size() <= kLongest && exponent.find_first_not_of("0123456789") == std::string::npos,
              "no exponent");
  const int power = std::stoi(exponent);
  return Number(Rational::FromDecimal(tokens[0].text)) * Number::PowerOfTen(tokens[2].Is("-") ? -power : power);
}

// The tokens of the number: up to the first word or sign of a unit, and up to a slash before that.
std::size_t NumberSize(MathTokens tokens) {
  const auto size = static_cast<std::size_t>(std::ranges::find_if(tokens, EndsNumber) - tokens.begin());
  const bool slash = size > 1 && size < tokens.size() && tokens[size - 1].Is("/");
  return slash ? size - 1 : size;
}

Quantity Parse(MathTokens tokens) {
  if (const std::optional<Number> value = ScientificNotation(tokens)) return {.value = *value};
  const std::size_t sign = tokens[0].Is("-") ? 1 : 0;
  const std::string_view currency = tokens.size() > 1 ? CurrencyOf(tokens[sign]) : "";
  if (!currency.empty()) tokens = tokens.subspan(sign + 1);
  const std::size_t size = NumberSize(tokens);
  const std::optional<Number> value = ParseNumber(tokens.first(size));
  SWARR_CHECK(value.has_value(), "no number");
  Quantity quantity{.value = sign == 1 && !currency.empty() ? -*value : *value};
  UnitParser(tokens.subspan(size)).Apply(quantity);
  if (!currency.empty()) quantity.measure = currency;
  return quantity;
}

}  // namespace

std::optional<Quantity> ParseQuantity(MathTokens tokens) {
  if (tokens.empty()) return std::nullopt;
  std::vector<MathToken> signed_tokens(tokens.begin(), tokens.end());
  const std::string first = LowerCase(tokens[0].text);
  if (IsWord(tokens[0]) && HasWord("minus negative", first)) signed_tokens[0] = {MathToken::Kind::kSymbol, "-"};
  try {
    return Parse(signed_tokens);
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool MeasuresConflict(const std::string& a, const std::string& b) {
  const auto may_be = [](const std::string& one, const std::string& other) {
    if (one == "degree") return other.starts_with("degree*");
    return other == MeaningOf(one, "fluid*ounce ounce | sterling pound", "?");
  };
  return !a.empty() && !b.empty() && a != b && !may_be(a, b) && !may_be(b, a);
}

}  // namespace swarr
