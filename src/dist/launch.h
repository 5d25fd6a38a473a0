// SPDX-License-Identifier: Apache-2.0
// Which rank a process is, and where the ranks meet: by flags, or by what a launcher put into the environment.
//
//   launcher   rank                  ranks                  of this machine              meeting place
//   torchrun   RANK                  WORLD_SIZE             LOCAL_RANK                   MASTER_ADDR, MASTER_PORT + 1
//   mpirun     OMPI_COMM_WORLD_RANK  OMPI_COMM_WORLD_SIZE   OMPI_COMM_WORLD_LOCAL_RANK   SWARR_RENDEZVOUS
//   srun       SLURM_PROCID          SLURM_STEP_NUM_TASKS   SLURM_LOCALID                SWARR_RENDEZVOUS
//   any        SWARR_RANK            SWARR_RANKS            SWARR_LOCAL_RANK             SWARR_RENDEZVOUS
//
// At MASTER_PORT itself torchrun listens. SWARR_RENDEZVOUS wins over torchrun's place, and SWARR_RANK over all
// launchers.
#pragma once

#include <functional>
#include <string>

namespace swarr {

struct Launch {
  int rank = 0, size = 1;
  int local_rank = 0;      // among the ranks of this machine: the number of its device
  std::string host, port;  // where rank 0 listens; empty if there is one rank
  bool operator==(const Launch&) const = default;
};

// `environment` gives the value of a variable, or null. Throws Error, naming the variable, where one is missing or is
// no number, where a rank is not below the number of ranks, where there are none, or where several have no meeting
// place.
Launch LaunchOf(const std::function<const char*(const char*)>& environment);

}  // namespace swarr
