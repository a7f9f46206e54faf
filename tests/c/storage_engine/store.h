/*
 * A small storage engine: versioned objects in files, many threads, one process. Who may read or write what, at every
 * moment, is for keylatch to say; this file and store.c show how.
 *
 *   - A write takes the object's lock exclusively, as a lease: a writer that hangs stops the others for that long and no
 *     longer. Its version carries the lock's fence number, so that when it comes back late the disk refuses it.
 *   - A read takes the lock shared and reads the newest version, or locks one version, which has a key of its own, and
 *     reads it while newer ones are written.
 *   - A version is forgotten once there are VERSIONS_KEPT newer ones and it is not being read: its lock was free.
 *   - A removal of several objects takes all of their locks in one batch and is done as a whole, even if the process dies
 *     half way.
 */
#ifndef STORAGE_ENGINE_STORE_H
#define STORAGE_ENGINE_STORE_H

#include "disk.h"
#include <keylatch.h>

#define VERSIONS_KEPT 3

typedef struct store store;

typedef struct store_options {
    uint64_t lease_ns;   /* how long a writer that hangs keeps others out; 0: 10 s */
    uint64_t timeout_ns; /* how long anything waits for a lock; 0: 30 s */
    witness witness;
} store_options;

/* Opens or makes a store in a folder. `options` may be NULL. */
result store_open(const char *root, const store_options *options, store **store);

/* No thread may be in a call. */
void store_close(store *store);

/* Writes a new version; *written (or NULL) says which. */
result store_put(store *store, const char *owner, const object_name *name, const void *bytes, size_t length, version *written);

/* Reads the newest version, which *read (or NULL) names. The bytes are the caller's, to be freed. */
result store_get(store *store, const char *owner, const object_name *name, void **bytes, size_t *length, version *read);

/* Reads one version, if it is kept still. */
result store_get_version(
    store *store, const char *owner, const object_name *name, version version, void **bytes, size_t *length);

/* Removes objects, all or none; those that are not there do not matter. */
result store_remove(store *store, const char *owner, const object_name *names, size_t count);

/* The locks, for figures and questions. */
keylatch_manager *store_locks(store *store);
disk *store_disk(store *store);

const char *result_text(result result);

#endif
