#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE /* flock */

#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* EPOCH-FENCE and its end. */
#define VERSION_TEXT 34
#define FOLDER_TEXT (4 * NAME_BYTES + 2)
#define WRITING "writing-"
#define STRIPES 64
#define MAGIC UINT64_C(0x31656c636a626f6b)

struct disk {
    int root, objects, removals, in_use;
    uint64_t epoch;
    uint64_t announced; /* removals, so far; counted in a step of its own */
    pthread_mutex_t counting;
    /* Comparing a version with those that are there, and giving it its name, is one step for everybody. */
    pthread_mutex_t step[STRIPES];
};

/* In front of every version's bytes. */
typedef struct header {
    uint64_t magic, epoch, fence, length, sum;
    uint32_t removed, reserved;
} header;

static result io(int failed)
{
    return failed ? STORE_IO : STORE_OK;
}

static void see(witness witness, moment moment)
{
    if (witness.see)
        witness.see(witness.data, moment);
}

int version_is_newer(version one, version other)
{
    return one.epoch != other.epoch ? one.epoch > other.epoch : one.fence > other.fence;
}

/* FNV-1a, 64 bits. */
static uint64_t sum_of(const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    uint64_t sum = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ at[i]) * UINT64_C(1099511628211);
    return sum;
}

/* ---- names of files */

result disk_check(const object_name *name)
{
    const char *parts[] = { name->bucket, name->object };
    for (int i = 0; i < 2; i++)
        if (!parts[i] || !*parts[i] || strlen(parts[i]) > NAME_BYTES)
            return STORE_NAME;
    return STORE_OK;
}

static char *in_hex(char *to, const char *from)
{
    for (; *from; from++)
        to += sprintf(to, "%02x", (unsigned char)*from);
    return to;
}

static void folder_of(char folder[FOLDER_TEXT], const object_name *name)
{
    char *end = in_hex(folder, name->bucket);
    *end++ = '.';
    *in_hex(end, name->object) = '\0';
}

static void version_text(char text[VERSION_TEXT], version version)
{
    snprintf(text, VERSION_TEXT, "%016" PRIx64 "-%016" PRIx64, version.epoch, version.fence);
}

static int version_from(const char *text, version *version)
{
    char again[VERSION_TEXT];
    if (sscanf(text, "%16" SCNx64 "-%16" SCNx64, &version->epoch, &version->fence) != 2)
        return 0;
    version_text(again, *version);
    return strcmp(text, again) == 0;
}

static pthread_mutex_t *step_of(disk *disk, const char *folder)
{
    return &disk->step[sum_of(folder, strlen(folder)) % STRIPES];
}

/* ---- whole files */

static result write_all(int file, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = write(file, at, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return STORE_IO;
        at += written;
        length -= (size_t)written;
    }
    return STORE_OK;
}

static result read_all(int file, void *bytes, size_t length)
{
    char *at = bytes;
    while (length > 0) {
        ssize_t got = read(file, at, length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return STORE_IO;
        if (got == 0)
            return STORE_CORRUPT;
        at += got;
        length -= (size_t)got;
    }
    return STORE_OK;
}

/* Writes a small file so that it is there whole or not at all, and on the disk. */
static result put_file(int folder, const char *name, const void *bytes, size_t length)
{
    char temporary[VERSION_TEXT + sizeof WRITING];
    snprintf(temporary, sizeof temporary, WRITING "%s", name);
    int file = openat(folder, temporary, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0)
        return STORE_IO;
    result done = write_all(file, bytes, length);
    if (!done)
        done = io(fsync(file));
    if (close(file) && !done)
        done = STORE_IO;
    if (!done)
        done = io(renameat(folder, temporary, folder, name));
    return done ? done : io(fsync(folder));
}

/* Calls `visit` for every file of a folder; one that returns something else than STORE_OK ends that. */
static result each_file(int folder, result (*visit)(int folder, const char *name, void *data), void *data)
{
    int again = openat(folder, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    DIR *listing = again < 0 ? NULL : fdopendir(again);
    if (!listing) {
        if (again >= 0)
            close(again);
        return STORE_IO;
    }
    result done = STORE_OK;
    struct dirent *file;
    while (!done && (errno = 0, file = readdir(listing)))
        if (file->d_name[0] != '.')
            done = visit(folder, file->d_name, data);
    if (!done && errno)
        done = STORE_IO;
    closedir(listing);
    return done;
}

static int is_being_written(const char *name)
{
    return strncmp(name, WRITING, sizeof WRITING - 1) == 0;
}

/* ---- versions */

typedef struct list {
    version *versions;
    size_t capacity, count;
} list;

/* Keeps the newest, in order. */
static result note_version(int folder, const char *name, void *data)
{
    list *list = data;
    version found;
    (void)folder;
    if (!version_from(name, &found))
        return is_being_written(name) ? STORE_OK : STORE_CORRUPT;
    size_t at = list->count;
    while (at > 0 && version_is_newer(found, list->versions[at - 1]))
        at--;
    if (at == list->capacity)
        return STORE_OK;
    if (list->count < list->capacity)
        list->count++;
    memmove(&list->versions[at + 1], &list->versions[at], (list->count - at - 1) * sizeof(version));
    list->versions[at] = found;
    return STORE_OK;
}

/* Only the holder of an object's lock makes its folder, so no other relies on one that is not on the disk. */
static result open_folder(disk *disk, const char *name, int make, int *folder)
{
    if (make && mkdirat(disk->objects, name, 0700) == 0 && fsync(disk->objects))
        return STORE_IO;
    *folder = openat(disk->objects, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (*folder >= 0)
        return STORE_OK;
    return errno == ENOENT ? STORE_NOT_FOUND : STORE_IO;
}

static result newest_in(int folder, version *newest)
{
    list list = { newest, 1, 0 };
    result done = each_file(folder, note_version, &list);
    return done ? done : list.count ? STORE_OK : STORE_NOT_FOUND;
}

static result read_header(int folder, version version, int *file, header *header)
{
    char text[VERSION_TEXT];
    version_text(text, version);
    *file = openat(folder, text, O_RDONLY | O_CLOEXEC);
    if (*file < 0)
        return errno == ENOENT ? STORE_NOT_FOUND : STORE_IO;
    result done = read_all(*file, header, sizeof *header);
    if (!done && (header->magic != MAGIC || header->epoch != version.epoch || header->fence != version.fence))
        done = STORE_CORRUPT;
    if (done)
        close(*file);
    return done;
}

result disk_list(disk *disk, const object_name *name, version *versions, size_t capacity, size_t *count)
{
    char text[FOLDER_TEXT];
    int folder;
    list list = { versions, capacity, 0 };
    folder_of(text, name);
    *count = 0;
    result done = open_folder(disk, text, 0, &folder);
    if (done)
        return done;
    done = each_file(folder, note_version, &list);
    close(folder);
    *count = list.count;
    return done;
}

result disk_newest(disk *disk, const object_name *name, version *version)
{
    size_t count;
    char text[FOLDER_TEXT];
    int folder, file;
    header header;
    result done = disk_list(disk, name, version, 1, &count);
    if (done)
        return done;
    if (count == 0)
        return STORE_NOT_FOUND;
    folder_of(text, name);
    if ((done = open_folder(disk, text, 0, &folder)))
        return done;
    done = read_header(folder, *version, &file, &header);
    close(folder);
    if (done)
        return done;
    close(file);
    return header.removed ? STORE_NOT_FOUND : STORE_OK;
}

result disk_read(disk *disk, const object_name *name, version version, void **bytes, size_t *length)
{
    char text[FOLDER_TEXT];
    int folder, file;
    header header;
    struct stat about;
    folder_of(text, name);
    result done = open_folder(disk, text, 0, &folder);
    if (done)
        return done;
    done = read_header(folder, version, &file, &header);
    close(folder);
    if (done)
        return done;
    void *read = NULL;
    if (header.removed)
        done = STORE_NOT_FOUND;
    else if (fstat(file, &about))
        done = STORE_IO;
    else if ((uint64_t)about.st_size != sizeof header + header.length)
        done = STORE_CORRUPT; /* before as much memory is asked for as it says */
    else if (!(read = malloc(header.length ? (size_t)header.length : 1)))
        done = STORE_MEMORY;
    if (!done)
        done = read_all(file, read, (size_t)header.length);
    if (!done && sum_of(read, (size_t)header.length) != header.sum)
        done = STORE_CORRUPT;
    close(file);
    if (done) {
        free(read);
        return done;
    }
    *bytes = read;
    *length = (size_t)header.length;
    return STORE_OK;
}

/* Writes header and bytes to a new file. */
static result write_file(int folder, const char *name, const header *header, const void *bytes, witness witness)
{
    int file = openat(folder, name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0)
        return STORE_IO;
    size_t length = (size_t)header->length, half = length / 2;
    result done = write_all(file, header, sizeof *header);
    if (!done)
        done = write_all(file, bytes, half);
    see(witness, AT_HALF_WRITTEN);
    if (!done)
        done = write_all(file, (const char *)bytes + half, length - half);
    if (!done)
        done = io(fsync(file));
    if (close(file) && !done)
        done = STORE_IO;
    return done;
}

result disk_write(disk *disk, const object_name *name, version version, const void *bytes, size_t length, witness witness)
{
    char text[FOLDER_TEXT], final[VERSION_TEXT], writing[VERSION_TEXT + sizeof WRITING];
    int folder;
    struct version newest;
    header header = { MAGIC, version.epoch, version.fence, bytes ? length : 0, 0, !bytes, 0 };
    if (bytes)
        header.sum = sum_of(bytes, length);
    else
        bytes = "", header.sum = sum_of(bytes, 0);
    folder_of(text, name);
    version_text(final, version);
    snprintf(writing, sizeof writing, WRITING "%s", final);
    result done = open_folder(disk, text, 1, &folder);
    if (done)
        return done;
    done = write_file(folder, writing, &header, bytes, witness);
    if (!done) {
        see(witness, AT_WRITTEN);
        pthread_mutex_t *step = step_of(disk, text);
        pthread_mutex_lock(step);
        done = newest_in(folder, &newest);
        if (done == STORE_NOT_FOUND)
            done = STORE_OK;
        else if (!done && !version_is_newer(version, newest))
            done = STORE_STALE;
        if (!done)
            done = io(renameat(folder, writing, folder, final));
        pthread_mutex_unlock(step);
    }
    if (done) {
        unlinkat(folder, writing, 0);
    } else {
        see(witness, AT_COMMITTED);
        done = io(fsync(folder));
    }
    close(folder);
    return done;
}

result disk_forget(disk *disk, const object_name *name, version version)
{
    char text[FOLDER_TEXT], file[VERSION_TEXT];
    int folder;
    folder_of(text, name);
    version_text(file, version);
    result done = open_folder(disk, text, 0, &folder);
    if (done)
        return done;
    if (unlinkat(folder, file, 0))
        done = errno == ENOENT ? STORE_NOT_FOUND : STORE_IO;
    close(folder);
    return done;
}

/* ---- removing several together */

/* One line of an announced removal. */
typedef struct announced {
    char bucket[NAME_BYTES + 1], object[NAME_BYTES + 1];
    version version;
} announced;

static result remove_all(disk *disk, const announced *all, size_t count, witness witness)
{
    static const struct witness no_witness;
    for (size_t i = 0; i < count; i++) {
        object_name name = { all[i].bucket, all[i].object };
        result done = disk_write(disk, &name, all[i].version, NULL, 0, no_witness);
        /*
         * Done again after a crash, what is newest may be this removal. And if the lock was revoked and the
         * object written since, it was removed before that.
         */
        if (done && done != STORE_STALE)
            return done;
        if (i == 0)
            see(witness, AT_FIRST_REMOVED);
    }
    return STORE_OK;
}

result disk_remove(disk *disk, const object_name *names, const version *versions, size_t count, witness witness)
{
    announced all[REMOVED_TOGETHER];
    char text[VERSION_TEXT];
    if (count == 0)
        return STORE_OK;
    if (count > REMOVED_TOGETHER)
        return STORE_NAME;
    memset(all, 0, sizeof all);
    for (size_t i = 0; i < count; i++) {
        snprintf(all[i].bucket, sizeof all[i].bucket, "%s", names[i].bucket);
        snprintf(all[i].object, sizeof all[i].object, "%s", names[i].object);
        all[i].version = versions[i];
    }
    pthread_mutex_lock(&disk->counting);
    version_text(text, (version){ disk->epoch, ++disk->announced });
    pthread_mutex_unlock(&disk->counting);
    result done = put_file(disk->removals, text, all, count * sizeof all[0]);
    if (done)
        return done;
    see(witness, AT_ANNOUNCED);
    done = remove_all(disk, all, count, witness);
    if (!done)
        done = io(unlinkat(disk->removals, text, 0));
    return done;
}

/* ---- opening and closing */

static result finish_removal(int folder, const char *name, void *data)
{
    static const witness no_witness;
    announced all[REMOVED_TOGETHER];
    struct stat about;
    if (is_being_written(name))
        return io(unlinkat(folder, name, 0)); /* not announced */
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &about)) {
        if (file >= 0)
            close(file);
        return STORE_IO;
    }
    size_t length = (size_t)about.st_size;
    result done = length > sizeof all || length % sizeof all[0] ? STORE_CORRUPT : read_all(file, all, length);
    close(file);
    for (size_t i = 0; !done && i < length / sizeof all[0]; i++) {
        all[i].bucket[NAME_BYTES] = all[i].object[NAME_BYTES] = '\0';
        done = disk_check(&(object_name){ all[i].bucket, all[i].object });
    }
    if (!done)
        done = remove_all(data, all, length / sizeof all[0], no_witness);
    return done ? done : io(unlinkat(folder, name, 0));
}

typedef struct sweep {
    size_t found;
    int removes;
} sweep;

static result sweep_file(int folder, const char *name, void *data)
{
    sweep *sweep = data;
    if (!is_being_written(name))
        return STORE_OK;
    sweep->found++;
    return sweep->removes ? io(unlinkat(folder, name, 0)) : STORE_OK;
}

static result sweep_folder(int objects, const char *name, void *data)
{
    int folder = openat(objects, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (folder < 0)
        return STORE_IO;
    result done = each_file(folder, sweep_file, data);
    close(folder);
    return done;
}

result disk_leftovers(disk *disk, size_t *count)
{
    sweep sweep = { 0, 0 };
    result done = each_file(disk->objects, sweep_folder, &sweep);
    if (!done)
        done = each_file(disk->removals, sweep_file, &sweep);
    *count = sweep.found;
    return done;
}

static result next_epoch(disk *disk)
{
    char digits[17] = "";
    int file = openat(disk->root, "epoch", O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno != ENOENT)
        return STORE_IO;
    if (file >= 0) {
        result done = read_all(file, digits, 16);
        close(file);
        if (done)
            return done;
        if (strspn(digits, "0123456789abcdef") != 16)
            return STORE_CORRUPT;
        disk->epoch = strtoull(digits, NULL, 16);
    }
    disk->epoch++;
    snprintf(digits, sizeof digits, "%016" PRIx64, disk->epoch);
    return put_file(disk->root, "epoch", digits, 16);
}

static result make_folder(int root, const char *name, int *folder)
{
    if (mkdirat(root, name, 0700) && errno != EEXIST)
        return STORE_IO;
    *folder = openat(root, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    return io(*folder < 0);
}

result disk_open(const char *root, disk **opened)
{
    disk *disk = calloc(1, sizeof *disk);
    if (!disk)
        return STORE_MEMORY;
    disk->root = disk->objects = disk->removals = disk->in_use = -1;
    pthread_mutex_init(&disk->counting, NULL);
    for (int i = 0; i < STRIPES; i++)
        pthread_mutex_init(&disk->step[i], NULL);
    result done = make_folder(AT_FDCWD, root, &disk->root);
    if (!done)
        done = io((disk->in_use = openat(disk->root, "in-use", O_CREAT | O_RDWR | O_CLOEXEC, 0600)) < 0);
    if (!done && flock(disk->in_use, LOCK_EX | LOCK_NB))
        done = errno == EWOULDBLOCK ? STORE_IN_USE : STORE_IO;
    if (!done)
        done = make_folder(disk->root, "objects", &disk->objects);
    if (!done)
        done = make_folder(disk->root, "removals", &disk->removals);
    if (!done)
        done = next_epoch(disk);
    if (!done)
        done = each_file(disk->removals, finish_removal, disk);
    sweep sweep = { 0, 1 };
    if (!done)
        done = each_file(disk->objects, sweep_folder, &sweep);
    if (done) {
        int error = errno;
        disk_close(disk);
        errno = error;
        return done;
    }
    *opened = disk;
    return STORE_OK;
}

void disk_close(disk *disk)
{
    int files[] = { disk->root, disk->objects, disk->removals, disk->in_use };
    for (int i = 0; i < 4; i++)
        if (files[i] >= 0)
            close(files[i]);
    pthread_mutex_destroy(&disk->counting);
    for (int i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&disk->step[i]);
    free(disk);
}

uint64_t disk_epoch(const disk *disk)
{
    return disk->epoch;
}
