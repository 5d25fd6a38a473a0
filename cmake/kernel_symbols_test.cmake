# SPDX-License-Identifier: Apache-2.0
# The same sources are compiled once for each set of instructions (src/tensor/kernels/kernels.h). A weak symbol, such as an
# inline function that was not inlined, is kept once in the program, from any of the objects that define it: one of the
# same name in several sets could be called where its instructions do not exist. So every weak symbol of these objects
# must carry its set in its name, or be of an unnamed namespace. Run by ctest with cmake -P.
#   NM   OBJECTS: entries set=object, joined by |
string(REPLACE "|" ";" objects "${OBJECTS}")
set(offenders "")
set(seen 0)
foreach(entry IN LISTS objects)
  string(REGEX REPLACE "^([^=]*)=.*" "\\1" tag "${entry}")
  string(REGEX REPLACE "^[^=]*=" "" object "${entry}")
  execute_process(COMMAND ${NM} --defined-only --demangle --format=posix ${object}
                  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," symbols "${symbols}")
  string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
  foreach(line IN LISTS lines)
    # name, type, value, size: W, w, V, v are weak, u is unique in the program.
    if(NOT line MATCHES "^(.*) ([A-Za-z]) [0-9a-f]+ ?[0-9a-f]*$")
      continue()
    endif()
    set(name "${CMAKE_MATCH_1}")
    if(CMAKE_MATCH_2 MATCHES "^[WwVvu]$")
      math(EXPR seen "${seen} + 1")
      # The compilers' own: a pointer, and the end of the program.
      if(name MATCHES "swarr::${tag}[>,]" OR name MATCHES "\\(anonymous namespace\\)" OR
         name MATCHES "^(DW.ref.__gxx_personality_v0|__clang_call_terminate)$")
        continue()
      endif()
      string(APPEND offenders "  ${object}: ${name}\n")
    endif()
  endforeach()
endforeach()
list(LENGTH objects count)
if(count EQUAL 0)
  message(FATAL_ERROR "no objects of kernel sets are given")
endif()
if(offenders)
  message(FATAL_ERROR "weak symbols without the name of their set:\n${offenders}")
endif()
message(STATUS "${count} objects, ${seen} weak symbols, none that another set could link to")
