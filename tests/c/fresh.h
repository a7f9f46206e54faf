/* A manager of a test's own, with room for no more than tests need. */
#ifndef FRESH_H
#define FRESH_H

#include "check.h"

#include <keylatch.h>

static keylatch_manager *fresh(void)
{
    keylatch_manager *locks;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    options.shards = 16;
    options.max_locks = 100000;
    OK(keylatch_manager_new(&options, &locks));
    return locks;
}

#endif
