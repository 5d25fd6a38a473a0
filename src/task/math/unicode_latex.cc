// SPDX-License-Identifier: Apache-2.0
#include "task/math/unicode_latex.h"

#include <array>
#include <cstdint>

#include "task/math/words.h"
#include "text/unicode.h"

namespace swarr {
namespace {

// Groups of a spelling and the characters that become it.
constexpr std::string_view kSigns =
    "- \u2212 \u2010 \u2011 \u2012 \u2013 \u2014 \ufe63 | / \u2044 \u2215 | * \u2217 | \\times \u00d7 | "
    "\\cdot \u00b7 \u22c5 \u2219 \u2022 | \\div \u00f7 | \\sqrt \u221a | \\degree \u00b0 \u00ba \u02da | "
    "\\degree{}C \u2103 | \\degree{}F \u2109 | \\infty \u221e | "
    "\\le \u2264 \u2266 \u2a7d | \\ge \u2265 \u2267 \u2a7e | \\ne \u2260 | "
    "\\approx \u2248 | \\pm \u00b1 | \\mp \u2213 | \\cup \u222a | \\cap \u2229 | \\in \u2208 | \\emptyset \u2205 | "
    "\\angle \u2220 | \\triangle \u25b3 \u25b5 | \\ldots \u2026 | ' \u2018 \u2019 \u2032 | \" \u201c \u201d \u2033 | "
    "\\mathbb{R} \u211d | \\mathbb{N} \u2115 | \\mathbb{Z} \u2124 | \\mathbb{Q} \u211a | \\mathbb{C} \u2102";
constexpr std::string_view kGreek =
    "\\alpha \u03b1 | \\beta \u03b2 | \\gamma \u03b3 | \\delta \u03b4 | \\epsilon \u03b5 | \\zeta \u03b6 | \\eta "
    "\u03b7 "
    "| \\theta \u03b8 | \\kappa \u03ba | \\lambda \u03bb | \\mu \u03bc \u00b5 | \\nu \u03bd | \\xi \u03be | \\pi "
    "\u03c0 | "
    "\\rho \u03c1 | \\sigma \u03c3 | \\tau \u03c4 | \\phi \u03c6 \u03d5 | \\chi \u03c7 | \\psi \u03c8 | \\omega \u03c9 "
    "| "
    "\\Gamma \u0393 | \\Delta \u0394 \u2206 | \\Theta \u0398 | \\Lambda \u039b | \\Pi \u03a0 | \\Sigma \u03a3 | "
    "\\Phi \u03a6 | \\Psi \u03a8 | \\Omega \u03a9 \u2126";
constexpr std::string_view kFractions =
    "\\frac{1}{2} \u00bd | \\frac{1}{3} \u2153 | \\frac{2}{3} \u2154 | \\frac{1}{4} \u00bc | \\frac{3}{4} \u00be | "
    "\\frac{1}{5} \u2155 | \\frac{2}{5} \u2156 | \\frac{3}{5} \u2157 | \\frac{4}{5} \u2158 | \\frac{1}{6} \u2159 | "
    "\\frac{5}{6} \u215a | \\frac{1}{7} \u2150 | \\frac{1}{8} \u215b | \\frac{3}{8} \u215c | \\frac{5}{8} \u215d | "
    "\\frac{7}{8} \u215e | \\frac{1}{9} \u2151 | \\frac{1}{10} \u2152";
constexpr std::string_view kSuperscripts =
    "0 \u2070 | 1 \u00b9 | 2 \u00b2 | 3 \u00b3 | 4 \u2074 | 5 \u2075 | 6 \u2076 | 7 \u2077 | 8 \u2078 | 9 \u2079 | "
    "+ \u207a | - \u207b | ( \u207d | ) \u207e | n \u207f | i \u2071 | x \u02e3";
constexpr std::string_view kSubscripts =
    "0 \u2080 | 1 \u2081 | 2 \u2082 | 3 \u2083 | 4 \u2084 | 5 \u2085 | 6 \u2086 | 7 \u2087 | 8 \u2088 | 9 \u2089 | "
    "+ \u208a | - \u208b | n \u2099 | x \u2093 | i \u1d62 | k \u2096";
// Marks that stand behind the digit they belong to.
constexpr std::string_view kMarks = "\\overline \u0304 \u0305 | \\dot \u0307";

struct Range {
  char32_t first, last;
};
bool IsWithin(char32_t code, std::initializer_list<Range> ranges) {
  for (const Range r : ranges) {
    if (code >= r.first && code <= r.last) return true;
  }
  return false;
}

bool IsBlank(char32_t code) {
  return IsWithin(code, {{0x85, 0x85},
                         {0xA0, 0xA0},
                         {0x1680, 0x1680},
                         {0x2000, 0x200A},
                         {0x2028, 0x2029},
                         {0x202F, 0x202F},
                         {0x205F, 0x205F},
                         {0x3000, 0x3000}});
}

// Soft hyphens, joiners, marks of direction, and selectors of a glyph.
bool IsInvisible(char32_t code) {
  return IsWithin(code, {{0xAD, 0xAD},
                         {0x61C, 0x61C},
                         {0x180E, 0x180E},
                         {0x200B, 0x200F},
                         {0x202A, 0x202E},
                         {0x2060, 0x206F},
                         {0xFE00, 0xFE0F},
                         {0xFEFF, 0xFEFF}});
}

// The ASCII character of a full-width form, or of a digit of the mathematical alphabets; 0 if it is neither.
char AsciiOf(char32_t code) {
  constexpr char32_t kFullWidth = 0xFF01;    // '!', the first of 94 in the order of ASCII
  constexpr char32_t kMathDigits = 0x1D7CE;  // 0 to 9, in five alphabets
  if (IsWithin(code, {{kFullWidth, kFullWidth + ('~' - '!')}})) return static_cast<char>('!' + (code - kFullWidth));
  if (IsWithin(code, {{kMathDigits, kMathDigits + 49}})) return static_cast<char>('0' + (code - kMathDigits) % 10);
  return 0;
}

class Converter {
 public:
  std::string Run(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const Utf8Unit unit = UnitAt(text, at);
      Add(unit.code, text.substr(at, unit.bytes));  // the code is 0 if it is no character
      at += unit.bytes;
    }
    EndScript();
    return std::move(latex_);
  }

 private:
  void Add(char32_t code, std::string_view character) {
    if (IsInvisible(code)) return;
    for (const auto& [open, scripts] : {std::pair("^{", kSuperscripts), {"_{", kSubscripts}}) {
      const std::string_view digit = code < 0x80 ? "" : MeaningOf(character, scripts);
      if (!digit.empty()) return AddScript(open, digit);
    }
    EndScript();
    latex_ += code < 0x80 ? character : Spelling(code, character);
  }

  // A run of them is one exponent or index.
  void AddScript(std::string_view open, std::string_view digit) {
    if (script_ != open) {
      EndScript();
      latex_ += open;
      script_ = open;
    }
    latex_ += digit;
  }
  void EndScript() {
    if (!script_.empty()) latex_ += '}';
    script_ = "";
  }

  std::string Spelling(char32_t code, std::string_view character) {
    if (IsBlank(code)) return " ";
    if (const char ascii = AsciiOf(code); ascii != 0) return std::string(1, ascii);
    if (const std::string_view mark = MeaningOf(character, kMarks); !mark.empty() && EndsInDigit()) {
      const std::string digit(1, latex_.back());
      latex_.pop_back();
      return std::string(mark) + "{" + digit + "}";
    }
    for (const std::string_view table : {kSigns, kGreek, kFractions}) {
      const std::string_view latex = MeaningOf(character, table);
      // What follows does not belong to \pi.
      if (!latex.empty()) return std::string(latex) + (latex[0] == '\\' && IsLetter(latex.back()) ? " " : "");
    }
    return std::string(character);
  }
  bool EndsInDigit() const { return !latex_.empty() && IsDigit(latex_.back()); }

  std::string latex_;
  std::string_view script_;  // what opened the exponent or index that is being written; empty if none
};

}  // namespace

std::string UnicodeToLatex(std::string_view text) { return Converter().Run(text); }

}  // namespace swarr
