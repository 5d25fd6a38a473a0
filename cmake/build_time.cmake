# SPDX-License-Identifier: Apache-2.0
# Most of the time that a source takes to compile goes into the headers of nlohmann/json, CLI11 and doctest and into
# their templates. Two ways to pay for them less often:
#   SWARR_UNITY=ON   the sources of a folder are compiled as one. Quickest from nothing: what `make` does. Two sources of
#                    a folder can't then use one name for different things, not even in unnamed namespaces.
#   SWARR_UNITY=OFF  source by source, with precompiled headers. Quickest after a small change: the preset dev.
option(SWARR_UNITY "compile the sources of a folder as one" ON)

# Compiles `target` in one of these ways; `headers` are those to precompile. ARGN: regular expressions of the sources
# that stay on their own. Sources that have a UNITY_GROUP already keep it. The program is a single source with
# SWARR_UNITY=ON and gains nothing from precompiled headers; the other targets do either way.
function(save_build_time target headers)
  if(NOT SWARR_UNITY OR target MATCHES "^swarr(-cold|-tests)?$")
    target_precompile_headers(${target} PRIVATE ${headers})
  endif()
  if(NOT SWARR_UNITY)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  get_target_property(files ${target} SOURCES)
  foreach(file IN LISTS files)
    set(single OFF)
    foreach(expression IN LISTS ARGN)
      if(file MATCHES "${expression}")
        set(single ON)
      endif()
    endforeach()
    if(single OR NOT file MATCHES "\\.cc$" OR NOT file MATCHES "^${PROJECT_SOURCE_DIR}/((src|tests).*)/[^/]+$")
      continue()
    endif()
    string(MAKE_C_IDENTIFIER ${CMAKE_MATCH_1} folder)
    get_source_file_property(group ${file} UNITY_GROUP)
    if(NOT group)
      set_source_files_properties(${file} PROPERTIES UNITY_GROUP ${folder})
    endif()
  endforeach()
endfunction()
