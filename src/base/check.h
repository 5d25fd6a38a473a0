// SPDX-License-Identifier: Apache-2.0
// Errors. The library reports every failure as an exception that carries one clear sentence: what, where, what to do.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace swarr {

// Any failure of the library; the program exits with status 1. The sentence is one line of UTF-8 (Printable in utf8.h)
// and has at most 280 bytes beside its paths, whatever the names in it hold: the middle of a longer one is left out.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& sentence);
};

// A request that makes no sense whatever the data, such as a bad flag value; the program exits with status 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Joins its arguments with operator<<.
template <class... Parts>
std::string Concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace swarr

// Throws Error with the remaining arguments joined into one sentence unless `condition` holds. The sentence is built
// only on failure.
#define SWARR_CHECK(condition, ...)                                       \
  do {                                                                    \
    if (!(condition)) throw ::swarr::Error(::swarr::Concat(__VA_ARGS__)); \
  } while (false)
