# SPDX-License-Identifier: Apache-2.0
# Keeps version.cc up to date: asks git at every build, rewrites the file only when the answer has changed, and so
# recompiles one small file after a commit. In a release archive the file REVISION answers in git's place
# (tools/release.sh writes it). Included by CMakeLists.txt and, for the asking, run as a script (cmake -P).
if(CMAKE_SCRIPT_MODE_FILE)
  set(SWARR_REVISION unknown)
  if(EXISTS ${SOURCE_DIR}/REVISION)
    file(STRINGS ${SOURCE_DIR}/REVISION SWARR_REVISION)
  elseif(EXISTS ${SOURCE_DIR}/.git)  # an archive unpacked inside another repository is not that repository's revision
    execute_process(COMMAND git describe --always --dirty WORKING_DIRECTORY ${SOURCE_DIR}
                    OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
    if(status EQUAL 0)
      set(SWARR_REVISION ${revision})
    endif()
  endif()
  configure_file(${SOURCE_DIR}/cmake/version.cc.in ${OUTPUT} @ONLY)
  return()
endif()

set(SWARR_VERSION_SOURCE ${PROJECT_BINARY_DIR}/version.cc)
add_custom_target(swarr-version
  COMMAND ${CMAKE_COMMAND} -D SOURCE_DIR=${PROJECT_SOURCE_DIR} -D OUTPUT=${SWARR_VERSION_SOURCE}
          -D SWARR_VERSION=${PROJECT_VERSION} -P ${PROJECT_SOURCE_DIR}/cmake/version.cmake
  BYPRODUCTS ${SWARR_VERSION_SOURCE} VERBATIM COMMENT "Asking git for the revision")
