// SPDX-License-Identifier: Apache-2.0
#include "dist/launch.h"

#include <array>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/check.h"

namespace swarr {
namespace {

struct Launcher {
  const char *rank, *size, *local_rank;
};
constexpr std::array kLaunchers = {
    Launcher{"SWARR_RANK", "SWARR_RANKS", "SWARR_LOCAL_RANK"},
    Launcher{"RANK", "WORLD_SIZE", "LOCAL_RANK"},
    Launcher{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    Launcher{"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"},
};

int Number(const char* name, std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  SWARR_CHECK(error == std::errc() && end == text.data() + text.size() && number >= 0, "the environment's ", name,
              " is '", text, "'; it must be a whole number, 0 or more");
  return number;
}

std::string Port(const char* name, int port) {
  constexpr int kMost = 65'535;
  SWARR_CHECK(port >= 1 && port <= kMost, "the environment's ", name, " leads to port ", port, "; ports are 1 to ",
              kMost);
  return Concat(port);
}

}  // namespace

Launch LaunchOf(const std::function<const char*(const char*)>& environment) {
  Launch launch;
  const auto number = [&](const char* name) {
    const char* text = environment(name);
    SWARR_CHECK(text != nullptr, "the environment says that there are several ranks, but lacks ", name);
    return Number(name, text);
  };
  // Others' names may be there for other reasons: Slurm gives a batch script a rank.
  SWARR_CHECK(environment("SWARR_RANK") == nullptr || environment("SWARR_RANKS") != nullptr,
              "the environment has SWARR_RANK, but lacks SWARR_RANKS, the number of ranks");
  const char* rank_name = nullptr;
  for (const Launcher& l : kLaunchers) {
    if (environment(l.size) == nullptr) continue;
    launch.size = number(l.size);
    SWARR_CHECK(launch.size > 0, "the environment's ", l.size, " is 0; there is at least one rank");
    if (launch.size == 1) return {};
    rank_name = l.rank;
    launch.rank = number(l.rank);
    launch.local_rank = number(l.local_rank);
    break;
  }
  if (launch.size == 1) return launch;
  SWARR_CHECK(launch.rank < launch.size, "the environment's ", rank_name, " is ", launch.rank, ", but there are ",
              launch.size, " ranks, counted from 0");
  if (const char* place = environment("SWARR_RENDEZVOUS")) {
    const char* colon = std::strrchr(place, ':');
    SWARR_CHECK(colon != nullptr && colon != place && colon[1] != '\0', "the environment's SWARR_RENDEZVOUS is '",
                place, "'; it must be HOST:PORT");
    const bool brackets = place[0] == '[' && colon[-1] == ']';  // of an IPv6 address
    launch.host.assign(place + brackets, colon - brackets);
    launch.port = Port("SWARR_RENDEZVOUS", Number("SWARR_RENDEZVOUS", colon + 1));
  } else if (const char* master = environment("MASTER_ADDR")) {
    launch.host = master;
    launch.port = Port("MASTER_PORT", number("MASTER_PORT") + 1);
  } else {
    throw Error(
        Concat("there are ", launch.size,
               " ranks, but no place to meet: set SWARR_RENDEZVOUS to HOST:PORT, where rank 0 can listen, for all"));
  }
  return launch;
}

}  // namespace swarr
