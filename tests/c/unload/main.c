/*
 * Loads and unloads a plug-in that contains the library, many times. The threads that use the plug-in end before it goes.
 * A thread of the library that still ran would run in memory that is gone.
 */
#include "../check.h"

#include <dlfcn.h>
#include <pthread.h>

static void *use(void *plugin)
{
    void (*use_everything)(void);

    *(void **)&use_everything = dlsym(plugin, "use_everything");
    CHECK(use_everything != NULL);
    use_everything();
    return NULL;
}

int main(int count, char **arguments)
{
    int unloaded = 0, rounds = getenv("KEYLATCH_ETCD") ? 30 : 300;

    CHECK(count == 2);
    for (int round = 0; round < rounds; round++) {
        void *plugin = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
        pthread_t user;

        if (plugin == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        CHECK(pthread_create(&user, NULL, use, plugin) == 0);
        CHECK(pthread_join(user, NULL) == 0);
        CHECK(dlclose(plugin) == 0);
        plugin = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
        unloaded += plugin == NULL;
        CHECK(plugin == NULL || dlclose(plugin) == 0);
    }
    /* Otherwise this shows nothing. */
    CHECK(unloaded > 0);
    printf("unloaded %d of %d times\n", unloaded, rounds);
    return 0;
}
