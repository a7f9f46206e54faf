/*
 * The disk: versions of objects in files. It knows nothing of locks. What it promises is what a storage device
 * can: a version is there whole or not at all, whatever dies in between, and a version that is older than
 * one it has is refused.
 *
 * A version's number is a pair: the store's epoch, which grows with every opening, and the fence number of the lock under
 * which it was written, which grows with every writer. Together they never repeat and always grow.
 *
 *     ROOT/in-use                           locked by the process that has the store open
 *     ROOT/epoch                            the epoch, as 16 digits
 *     ROOT/objects/BUCKET.OBJECT/EPOCH-FENCE    a version: a header, then its bytes (names are in hexadecimal)
 *     ROOT/objects/BUCKET.OBJECT/writing-...    one that is being written
 *     ROOT/removals/EPOCH-NUMBER            objects that are being removed together, and the versions that say so
 */
#ifndef STORAGE_ENGINE_DISK_H
#define STORAGE_ENGINE_DISK_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a bucket's or object's name at most. */
#define NAME_BYTES 100
/* Objects that are removed together at most. */
#define REMOVED_TOGETHER 64

typedef enum result {
    STORE_OK,
    STORE_NOT_FOUND,
    STORE_STALE,   /* a newer version is there: the writer of this one had lost the lock */
    STORE_BUSY,    /* the lock could not be had in time */
    STORE_NAME,    /* a name is empty or too long */
    STORE_IN_USE,  /* another process has the store open */
    STORE_CORRUPT, /* a file is not what was written */
    STORE_IO,      /* the operating system refused something: see errno */
    STORE_MEMORY,
    STORE_LOCKS    /* the lock manager refused something: see keylatch_last_error() */
} result;

typedef struct object_name {
    const char *bucket, *object;
} object_name;

typedef struct version {
    uint64_t epoch, fence;
} version;

/* Where something can go wrong: a test stops or ends the program there. */
typedef enum moment {
    AT_LOCKED,        /* has the lock, has done nothing */
    AT_HALF_WRITTEN,  /* half of the bytes are in the file */
    AT_WRITTEN,       /* all are, under a name that is never read */
    AT_COMMITTED,     /* they have their name, which may not have reached the disk */
    AT_ANNOUNCED,     /* a removal is announced, nothing is removed */
    AT_FIRST_REMOVED, /* the first of several is */
    MOMENTS
} moment;

typedef struct witness {
    void (*see)(void *data, moment moment);
    void *data;
} witness;

typedef struct disk disk;

/* Opens or makes a store's files and finishes what a process that died had begun. */
result disk_open(const char *root, disk **disk);
void disk_close(disk *disk);
uint64_t disk_epoch(const disk *disk);

result disk_check(const object_name *name);
int version_is_newer(version one, version other);

/* Writes a version, or a mark that the object is removed if `bytes` is NULL. STORE_STALE if a newer one is there. */
result disk_write(disk *disk, const object_name *name, version version, const void *bytes, size_t length, witness witness);

/* The newest version; STORE_NOT_FOUND if there is none or it is a removal, whose version is written all the same. */
result disk_newest(disk *disk, const object_name *name, version *version);

/* All of a version's bytes, to be freed. */
result disk_read(disk *disk, const object_name *name, version version, void **bytes, size_t *length);

/* Marks objects as removed, all of them or, if the process dies first, all of them when the store is opened again. */
result disk_remove(disk *disk, const object_name *names, const version *versions, size_t count, witness witness);

/* Versions of an object, the newest first. */
result disk_list(disk *disk, const object_name *name, version *versions, size_t capacity, size_t *count);
result disk_forget(disk *disk, const object_name *name, version version);

/* Files that only a writer that died can have left. 0 after opening. */
result disk_leftovers(disk *disk, size_t *count);

#endif
