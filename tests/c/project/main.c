/* A foreign program. */
#include <keylatch.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    keylatch_manager *locks;
    keylatch_key key = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant;
    if (strcmp(keylatch_version(), KEYLATCH_VERSION) != 0 || keylatch_manager_new(NULL, &locks) != KEYLATCH_OK)
        return 1;
    if (keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant) != KEYLATCH_OK || keylatch_release(locks, grant) != KEYLATCH_OK)
        return 1;
    printf("keylatch %s\n", keylatch_version());
    return keylatch_manager_free(locks) != KEYLATCH_OK;
}
