# SPDX-License-Identifier: Apache-2.0
# PCRE2 and utf8proc, on which byte-level tokenizers stand (docs/tokenizers.md): the system's shared libraries or, under
# SWARR_DEPS_DIR, the static ones that tools/pack-deps.sh has put there.
#   out: SWARR_HAS_UNICODE, unicode_includes, unicode_libraries; unicode_names: what a linker calls these
set(SWARR_UNICODE AUTO CACHE STRING "byte-level tokenizers: ON, OFF, or AUTO: where there are PCRE2 and utf8proc")
set_property(CACHE SWARR_UNICODE PROPERTY STRINGS AUTO ON OFF)

set(SWARR_HAS_UNICODE OFF)
set(unicode_includes)
set(unicode_libraries)
set(unicode_names)
if(SWARR_UNICODE)
  set(places)
  if(SWARR_DEPS_DIR)
    set(places PATHS ${SWARR_DEPS_DIR} ${SWARR_DEPS_DIR}/lib NO_DEFAULT_PATH)
  endif()
  find_path(SWARR_PCRE2_INCLUDE pcre2.h ${places})
  find_library(SWARR_PCRE2 pcre2-8 ${places})
  find_path(SWARR_UTF8PROC_INCLUDE utf8proc.h ${places})
  find_library(SWARR_UTF8PROC utf8proc ${places})
  mark_as_advanced(SWARR_PCRE2_INCLUDE SWARR_PCRE2 SWARR_UTF8PROC_INCLUDE SWARR_UTF8PROC)
  if(SWARR_PCRE2_INCLUDE AND SWARR_PCRE2 AND SWARR_UTF8PROC_INCLUDE AND SWARR_UTF8PROC)
    file(STRINGS ${SWARR_PCRE2_INCLUDE}/pcre2.h version REGEX "^#define PCRE2_M(AJOR|INOR) ")
    string(REGEX REPLACE "[^0-9]*2_M[A-Z]+ +([0-9]+)[^0-9]*" "\\1." version "${version}")
    if(version VERSION_GREATER_EQUAL 10.40)  # knows the property White_Space
      set(SWARR_HAS_UNICODE ON)
      set(unicode_includes ${SWARR_PCRE2_INCLUDE} ${SWARR_UTF8PROC_INCLUDE})
      set(unicode_libraries ${SWARR_PCRE2} ${SWARR_UTF8PROC})
      set(unicode_names pcre2-8 utf8proc)
      set_source_files_properties(src/text/pre_tokenizer.cc src/text/unicode.cc PROPERTIES
        COMPILE_DEFINITIONS SWARR_UNICODE SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endif()
  if(NOT SWARR_HAS_UNICODE AND NOT SWARR_UNICODE STREQUAL AUTO)
    message(FATAL_ERROR "SWARR_UNICODE is ON, but PCRE2 (10.40 or later) or utf8proc is missing; install libpcre2-dev "
                        "and libutf8proc-dev, or fill SWARR_DEPS_DIR with tools/pack-deps.sh.")
  endif()
endif()
message(STATUS "PCRE2 and utf8proc: ${SWARR_HAS_UNICODE}")
