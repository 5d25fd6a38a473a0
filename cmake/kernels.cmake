# SPDX-License-Identifier: Apache-2.0
# The CPU kernels: the same sources once for each set of instructions (src/tensor/kernels.h), and the files that are
# written for one instruction. The program chooses when it starts (src/tensor/cpu.h).
#   in: sources (a list, from which the kernel files are taken out)   out: kernel_objects, SWARR_X86_KERNELS
set(kernel_files
  src/tensor/adamw.cc src/tensor/add.cc src/tensor/cast.cc src/tensor/embedding.cc src/tensor/gemm.cc
  src/tensor/linear.cc src/tensor/log_softmax.cc src/tensor/rmsnorm.cc src/tensor/rope.cc src/tensor/sample.cc
  src/tensor/swiglu.cc src/attn/attention_kernel.cc)
set(fused_files src/tensor/tile_kernel.cc src/tensor/peak_kernel.cc)
set(instruction_files src/tensor/tile_dot.cc src/tensor/tile_amx.cc)
foreach(file IN LISTS kernel_files fused_files instruction_files)
  list(REMOVE_ITEM sources ${PROJECT_SOURCE_DIR}/${file})
endforeach()

string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
set(SWARR_X86_KERNELS OFF)
if(processor MATCHES "^(x86_64|amd64)$")
  set(SWARR_X86_KERNELS ON)
endif()

set(kernel_objects)
# Objects of `files` for the set with this tag, compiled with these options.
function(add_kernel_set name tag files)
  add_library(${name} OBJECT ${files})
  target_include_directories(${name} PRIVATE src)
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_link_libraries(${name} PRIVATE OpenMP::OpenMP_CXX swarr-flags Eigen3::Eigen)
  # Neither option changes a value. Without them, loops with a square root or a comparison are not vectorised: the first
  # would have to set errno, the second to raise floating-point exceptions in order.
  target_compile_options(${name} PRIVATE -ffp-contract=off -fno-math-errno -fno-trapping-math ${ARGN})
  target_compile_definitions(${name} PRIVATE SWARR_SET=${tag} $<$<BOOL:${SWARR_X86_KERNELS}>:SWARR_X86_KERNELS>)
  set(kernel_objects ${kernel_objects} $<TARGET_OBJECTS:${name}> PARENT_SCOPE)
endfunction()

# Every product in fused_files is one fused multiply-add, where the set has one, into one accumulator.
set(fused -ffp-contract=fast)
add_kernel_set(swarr-portable Portable "${kernel_files}")
add_kernel_set(swarr-portable-tile Portable "${fused_files}" ${fused})
if(SWARR_X86_KERNELS)
  set(avx2 -march=x86-64-v3)
  set(avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  add_kernel_set(swarr-avx2 Avx2 "${kernel_files}" ${avx2})
  add_kernel_set(swarr-avx2-tile Avx2 "${fused_files}" ${avx2} ${fused})
  add_kernel_set(swarr-avx512 Avx512 "${kernel_files}" ${avx512})
  add_kernel_set(swarr-avx512-tile Avx512 "${fused_files}" ${avx512} ${fused})
  add_kernel_set(swarr-dot-tile Avx512 src/tensor/tile_dot.cc ${avx512} -mavx512bf16)
  add_kernel_set(swarr-amx-tile Avx512 src/tensor/tile_amx.cc ${avx512} -mamx-tile -mamx-bf16)
endif()
