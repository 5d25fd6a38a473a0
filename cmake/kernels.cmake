# SPDX-License-Identifier: Apache-2.0
# The CPU kernels: every source of a folder named kernels/, once for each set of instructions; *_dot.cc and *_amx.cc,
# which are written for one instruction, once. The program chooses when it starts (src/tensor/cpu.h).
#   in: sources (from which the kernel files are taken out)   out: kernel_objects, SWARR_X86_KERNELS
set(kernel_files ${sources})
list(FILTER kernel_files INCLUDE REGEX /kernels/)
list(FILTER sources EXCLUDE REGEX /kernels/)
set(instruction_files ${kernel_files})
list(FILTER instruction_files INCLUDE REGEX "_(dot|amx)\\.cc$")
list(FILTER kernel_files EXCLUDE REGEX "_(dot|amx)\\.cc$")
# Here every product is one fused multiply-add, where the set has one, into one accumulator.
set_source_files_properties(src/tensor/kernels/tile_kernel.cc src/bench/kernels/peak_kernel.cc
                            PROPERTIES COMPILE_OPTIONS -ffp-contract=fast)
# The others can be compiled as one (cmake/build_time.cmake).
set(unity_files ${kernel_files})
list(FILTER unity_files EXCLUDE REGEX "/(tile|peak)_kernel\\.cc$")
set_source_files_properties(${unity_files} PROPERTIES UNITY_GROUP kernels)

string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
set(SWARR_X86_KERNELS OFF)
if(processor MATCHES "^(x86_64|amd64)$" AND NOT SWARR_FUZZ)
  set(SWARR_X86_KERNELS ON)
endif()

set(kernel_objects)
# Objects of `files` for the set with this tag, compiled with these options.
function(add_kernel_set name tag files)
  add_library(${name} OBJECT ${files})
  target_include_directories(${name} PRIVATE src)
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_link_libraries(${name} PRIVATE swarr-flags Eigen3::Eigen)
  # The last two options change no value. Without them, loops with a square root or a comparison are not vectorised: the
  # first would have to set errno, the second to raise floating-point exceptions in order.
  target_compile_options(${name} PRIVATE -ffp-contract=off -fno-math-errno -fno-trapping-math ${ARGN})
  target_compile_definitions(${name} PRIVATE SWARR_SET=${tag} $<$<BOOL:${SWARR_X86_KERNELS}>:SWARR_X86_KERNELS>)
  set_target_properties(${name} PROPERTIES UNITY_BUILD ${SWARR_UNITY} UNITY_BUILD_MODE GROUP)
  set(kernel_objects ${kernel_objects} $<TARGET_OBJECTS:${name}> PARENT_SCOPE)
endfunction()

add_kernel_set(swarr-portable Portable "${kernel_files}")
if(SWARR_X86_KERNELS)
  set(avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  add_kernel_set(swarr-avx2 Avx2 "${kernel_files}" -march=x86-64-v3)
  add_kernel_set(swarr-avx512 Avx512 "${kernel_files}" ${avx512})
  foreach(file IN LISTS instruction_files)
    cmake_path(GET file STEM name)
    add_kernel_set(swarr-${name} Avx512 ${file} ${avx512}
                   $<IF:$<STREQUAL:${name},tile_amx>,-mamx-tile$<SEMICOLON>-mamx-bf16,-mavx512bf16>
                   $<$<STREQUAL:${name},short_panels_amx>:-mavx512vbmi$<SEMICOLON>-mavx512vbmi2>)
  endforeach()
endif()
