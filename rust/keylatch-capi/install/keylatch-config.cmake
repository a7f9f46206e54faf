# keylatch::keylatch, which is keylatch::shared, and keylatch::static, beside this file's prefix wherever that was moved to.
get_filename_component(_keylatch_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET keylatch::shared)
  add_library(keylatch::shared SHARED IMPORTED)
  set_target_properties(keylatch::shared PROPERTIES
    IMPORTED_LOCATION "${_keylatch_prefix}/lib/libkeylatch.so"
    INTERFACE_INCLUDE_DIRECTORIES "${_keylatch_prefix}/include")
  add_library(keylatch::static STATIC IMPORTED)
  set_target_properties(keylatch::static PROPERTIES
    IMPORTED_LOCATION "${_keylatch_prefix}/lib/libkeylatch.a"
    INTERFACE_LINK_LIBRARIES "pthread;dl;m"
    INTERFACE_INCLUDE_DIRECTORIES "${_keylatch_prefix}/include")
  add_library(keylatch::keylatch INTERFACE IMPORTED)
  set_target_properties(keylatch::keylatch PROPERTIES INTERFACE_LINK_LIBRARIES keylatch::shared)
endif()
unset(_keylatch_prefix)
