// SPDX-License-Identifier: Apache-2.0
#include "tensor/gemm.h"

namespace swarr {

std::string Name(GemmKind kind) {
  switch (kind) {
    case GemmKind::kOwn:
      return "own";
    case GemmKind::kEigen:
      return "eigen";
    case GemmKind::kCublas:
      return "cublas";
  }
  throw Error("no such product");
}

GemmKind ParseGemm(const std::string& name, Device device) {
  for (const GemmKind kind : {GemmKind::kOwn, GemmKind::kEigen, GemmKind::kCublas}) {
    if (Name(kind) != name) continue;
    const GemmKind library = device == Device::kCuda ? GemmKind::kCublas : GemmKind::kEigen;
    if (kind == GemmKind::kOwn || kind == library) return kind;
    const Device other = device == Device::kCuda ? Device::kCpu : Device::kCuda;
    throw UsageError(
        Concat("--gemm ", name, " is for --device ", Name(other), "; use own or ", Name(library), " here"));
  }
  throw UsageError(Concat("unknown --gemm '", name, "'; use own, eigen or cublas"));
}

}  // namespace swarr
