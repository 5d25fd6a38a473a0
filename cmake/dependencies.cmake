# SPDX-License-Identifier: Apache-2.0
# Libraries that are headers alone: the system's packages or, where there are none, a folder that tools/pack-deps.sh has
# filled on another machine. cmake/unicode.cmake finds the two others.
set(SWARR_DEPS_DIR "" CACHE PATH "folder of libraries that tools/pack-deps.sh has filled, instead of packages")

# Finds `package` or, under SWARR_DEPS_DIR, the file `header`, as the target `target`. A further argument is the folder
# to include from.
function(find_headers package version target header)
  if(NOT SWARR_DEPS_DIR)
    find_package(${package} ${version} REQUIRED)
    return()
  endif()
  if(NOT EXISTS ${SWARR_DEPS_DIR}/${header})
    message(FATAL_ERROR "There is no ${header} in SWARR_DEPS_DIR, ${SWARR_DEPS_DIR}; fill it with tools/pack-deps.sh.")
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE ${SWARR_DEPS_DIR}/${ARGN})
endfunction()
