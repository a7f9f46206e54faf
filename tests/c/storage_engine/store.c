#include "store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)

struct store {
    disk *disk;
    keylatch_manager *locks;
    store_options options;
};

/* What a lock that was not to be had means for the store's caller. */
static result without_lock(int32_t status)
{
    return status == KEYLATCH_ETIMEOUT || status == KEYLATCH_EWOULDBLOCK ? STORE_BUSY : STORE_LOCKS;
}

/* What is left to say when a lock comes back. A lease that ran out meanwhile did no harm: the disk has judged. */
static result after(result done, int32_t released)
{
    if (done || released == KEYLATCH_OK || released == KEYLATCH_ELEASELOST)
        return done;
    return STORE_LOCKS;
}

static keylatch_request_options asked_by(const char *owner)
{
    keylatch_request_options request = KEYLATCH_REQUEST_OPTIONS_INIT;
    request.owner_name = owner;
    request.owner_name_len = strlen(owner);
    return request;
}

result store_open(const char *root, const store_options *options, store **opened)
{
    store *store = calloc(1, sizeof *store);
    if (!store)
        return STORE_MEMORY;
    if (options)
        store->options = *options;
    if (!store->options.lease_ns)
        store->options.lease_ns = 10 * SECOND;
    if (!store->options.timeout_ns)
        store->options.timeout_ns = 30 * SECOND;
    result done = keylatch_manager_new(NULL, &store->locks) ? STORE_LOCKS : disk_open(root, &store->disk);
    if (done) {
        keylatch_manager_free(store->locks);
        free(store);
        return done;
    }
    *opened = store;
    return STORE_OK;
}

void store_close(store *store)
{
    keylatch_manager_free(store->locks);
    disk_close(store->disk);
    free(store);
}

keylatch_manager *store_locks(store *store)
{
    return store->locks;
}

disk *store_disk(store *store)
{
    return store->disk;
}

/* The key of one version of an object. */
static keylatch_key key_of_version(const object_name *name, version version, char text[40])
{
    snprintf(text, 40, "%" PRIu64 ".%" PRIu64, version.epoch, version.fence);
    return keylatch_key_of_version(name->bucket, name->object, text);
}

/* Forgets what is older than the versions that are kept, unless it is being read. */
static void forget_old(store *store, const char *owner, const object_name *name)
{
    version all[4 * VERSIONS_KEPT];
    size_t count;
    if (disk_list(store->disk, name, all, sizeof all / sizeof *all, &count))
        return;
    for (size_t i = VERSIONS_KEPT; i < count; i++) {
        char text[40];
        keylatch_key key = key_of_version(name, all[i], text);
        keylatch_request_options request = asked_by(owner);
        uint64_t grant;
        if (keylatch_try(store->locks, &key, KEYLATCH_EXCLUSIVE, &request, &grant))
            continue; /* it is being read: the next write sees to it */
        disk_forget(store->disk, name, all[i]);
        keylatch_release(store->locks, grant);
    }
}

result store_put(store *store, const char *owner, const object_name *name, const void *bytes, size_t length, version *written)
{
    result done = disk_check(name);
    if (done)
        return done;
    keylatch_key key = keylatch_key_of(name->bucket, name->object);
    keylatch_request_options request = asked_by(owner);
    uint64_t grant, fence;
    request.ttl_ns = store->options.lease_ns;
    int32_t status =
        keylatch_acquire(store->locks, &key, KEYLATCH_EXCLUSIVE, store->options.timeout_ns, &request, &grant);
    if (status)
        return without_lock(status);
    status = keylatch_fence(store->locks, grant, &fence);
    if (status)
        return status == KEYLATCH_ELEASELOST ? STORE_STALE : STORE_LOCKS;
    if (store->options.witness.see)
        store->options.witness.see(store->options.witness.data, AT_LOCKED);
    version version = { disk_epoch(store->disk), fence };
    done = disk_write(store->disk, name, version, bytes, length, store->options.witness);
    if (!done) {
        forget_old(store, owner, name);
        if (written)
            *written = version;
    }
    return after(done, keylatch_release(store->locks, grant));
}

result store_get(store *store, const char *owner, const object_name *name, void **bytes, size_t *length, version *read)
{
    result done = disk_check(name);
    if (done)
        return done;
    keylatch_key key = keylatch_key_of(name->bucket, name->object);
    keylatch_request_options request = asked_by(owner);
    uint64_t grant;
    version newest;
    int32_t status = keylatch_acquire(store->locks, &key, KEYLATCH_SHARED, store->options.timeout_ns, &request, &grant);
    if (status)
        return without_lock(status);
    done = disk_newest(store->disk, name, &newest);
    if (!done)
        done = disk_read(store->disk, name, newest, bytes, length);
    if (!done && read)
        *read = newest;
    return after(done, keylatch_release(store->locks, grant));
}

result store_get_version(
    store *store, const char *owner, const object_name *name, version version, void **bytes, size_t *length)
{
    char text[40];
    result done = disk_check(name);
    if (done)
        return done;
    keylatch_key key = key_of_version(name, version, text);
    keylatch_request_options request = asked_by(owner);
    uint64_t grant;
    int32_t status = keylatch_acquire(store->locks, &key, KEYLATCH_SHARED, store->options.timeout_ns, &request, &grant);
    if (status)
        return without_lock(status);
    done = disk_read(store->disk, name, version, bytes, length);
    return after(done, keylatch_release(store->locks, grant));
}

result store_remove(store *store, const char *owner, const object_name *names, size_t count)
{
    keylatch_batch_item items[REMOVED_TOGETHER];
    object_name removed[REMOVED_TOGETHER];
    version versions[REMOVED_TOGETHER];
    uint64_t grants[REMOVED_TOGETHER];
    if (count == 0)
        return STORE_OK;
    if (count > REMOVED_TOGETHER)
        return STORE_NAME;
    for (size_t i = 0; i < count; i++) {
        result done = disk_check(&names[i]);
        if (done)
            return done;
        items[i] = (keylatch_batch_item){ .mode = KEYLATCH_EXCLUSIVE };
        items[i].key = keylatch_key_of(names[i].bucket, names[i].object);
    }
    /* Without a lease: half of a removal must not be overtaken. All locks or none, and no order to think about. */
    keylatch_request_options request = asked_by(owner);
    int32_t status =
        keylatch_acquire_batch(store->locks, items, count, store->options.timeout_ns, &request, grants, NULL);
    if (status)
        return without_lock(status);
    result done = STORE_OK;
    size_t there = 0;
    for (size_t i = 0; i < count && !done; i++) {
        version newest;
        if (!grants[i])
            continue; /* named before */
        done = disk_newest(store->disk, &names[i], &newest);
        if (done == STORE_NOT_FOUND) {
            done = STORE_OK;
            continue;
        }
        removed[there] = names[i];
        versions[there].epoch = disk_epoch(store->disk);
        if (!done && keylatch_fence(store->locks, grants[i], &versions[there++].fence))
            done = STORE_LOCKS;
    }
    if (!done)
        done = disk_remove(store->disk, removed, versions, there, store->options.witness);
    return after(done, keylatch_release_many(store->locks, grants, count, NULL));
}

const char *result_text(result result)
{
    switch (result) {
    case STORE_OK: return "done";
    case STORE_NOT_FOUND: return "there is no such object, or that version of it is not kept any more";
    case STORE_STALE: return "the lease ran out and another has written since; read the object and try again";
    case STORE_BUSY: return "others had the object for longer than the time given; try again";
    case STORE_NAME: return "a name is empty, or longer than 100 bytes, or too many objects are to be removed together";
    case STORE_IN_USE: return "another process has this store open";
    case STORE_CORRUPT: return "a file of the store is not what was written";
    case STORE_IO: return "the operating system refused to read or write";
    case STORE_MEMORY: return "no memory";
    case STORE_LOCKS: return keylatch_last_error();
    }
    return "unknown";
}
