/*
 * Locks between processes: modes, death, revocation, fork, files that are none, and processes that are killed at random
 * while they count under a lock. Folder of the tables: /dev/shm.
 */
#define _DEFAULT_SOURCE

#include "check.h"
#include "keylatch.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static char path[64];

static keylatch_shared_table *opened(const char *label)
{
    keylatch_shared_table *table;
    keylatch_shared_options options = KEYLATCH_SHARED_OPTIONS_INIT;
    options.keys = 64;
    options.members = 32;
    options.label = label;
    options.label_len = strlen(label);
    OK(keylatch_shared_open(path, &options, &table));
    return table;
}

static keylatch_shared_hold info_of(keylatch_shared_table *table, uint64_t grant)
{
    keylatch_shared_hold hold = KEYLATCH_SHARED_HOLD_INIT;
    OK(keylatch_shared_hold_info(table, grant, &hold));
    return hold;
}

static keylatch_shared_holder found;

static int32_t note(void *count, const keylatch_shared_holder *holder)
{
    found = *holder;
    CHECK(holder->owner_len < 33 && holder->struct_size == sizeof found);
    ++*(int *)count;
    return 0;
}

static void verbs(void)
{
    keylatch_shared_table *table = opened("main");
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    keylatch_request_options mine = KEYLATCH_REQUEST_OPTIONS_INIT;
    uint64_t grant, other;
    int count = 0;
    mine.owner_name = "indexer";
    mine.owner_name_len = 7;
    OK(keylatch_shared_acquire(table, &cat, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_DEFAULT, &mine, &grant));
    CHECK(grant != 0);
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_shared_try(table, &cat, KEYLATCH_SHARED, NULL, &other));
    CHECK(strstr(keylatch_last_error(), "indexer"));
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_shared_acquire(table, &cat, KEYLATCH_SHARED, 1000000, NULL, &other));
    CHECK(strstr(keylatch_last_error(), "main") && keylatch_status_is_transient(KEYLATCH_ETIMEOUT));
    keylatch_shared_hold hold = info_of(table, grant);
    CHECK(hold.mode == KEYLATCH_EXCLUSIVE && hold.is_valid == 1 && hold.previous_holder_died == 0);
    OK(keylatch_shared_holders(table, NULL, note, &count));
    CHECK(count == 1 && found.pid == (uint32_t)getpid() && found.mode == KEYLATCH_EXCLUSIVE && found.hold == grant);
    OK(keylatch_shared_downgrade(table, grant));
    OK(keylatch_shared_try(table, &cat, KEYLATCH_SHARED, NULL, &other));
    CHECK_STATUS(KEYLATCH_EUPGRADE, keylatch_shared_try_upgrade(table, grant));
    OK(keylatch_shared_release(table, other));
    OK(keylatch_shared_release(table, grant));
    OK(keylatch_shared_try(table, &cat, KEYLATCH_SHARED, NULL, &grant));
    OK(keylatch_shared_try_upgrade(table, grant));
    CHECK(info_of(table, grant).fence > hold.fence);
    count = 0;
    OK(keylatch_shared_holders(table, &cat, note, &count));
    CHECK(count == 1 && found.hold == grant);
    OK(keylatch_shared_revoke(table, found.hold, found.member));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_shared_revoke(table, found.hold, found.member));
    CHECK(info_of(table, grant).is_valid == 0);
    OK(keylatch_shared_try(table, &cat, KEYLATCH_EXCLUSIVE, NULL, &other));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_shared_release(table, grant));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_shared_release(table, grant));
    OK(keylatch_shared_release(table, other));
    count = 0;
    OK(keylatch_shared_holders(table, &cat, note, &count));
    CHECK(count == 0);
    OK(keylatch_shared_free(table));
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_shared_open(NULL, NULL, &table));
}

static void *wait_for_it(void *table)
{
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant;
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_shared_acquire(table, &cat, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    return NULL;
}

static _Atomic uint32_t is_cancelled;

static void *wait_until_cancelled(void *table)
{
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant = 7;
    CHECK_STATUS(KEYLATCH_ECANCELLED, keylatch_shared_acquire_cancellable(table, &cat, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, (const uint32_t *)&is_cancelled, &grant));
    CHECK(grant == 7);
    return NULL;
}

static void cancelled_while_waiting(void)
{
    keylatch_shared_table *holds = opened("holds"), *waits = opened("waits");
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant;
    pthread_t thread;
    size_t waiting = 0;
    OK(keylatch_shared_try(holds, &cat, KEYLATCH_EXCLUSIVE, NULL, &grant));
    CHECK(pthread_create(&thread, NULL, wait_until_cancelled, waits) == 0);
    while (waiting == 0)
        OK(keylatch_shared_waiting(holds, &cat, &waiting));
    is_cancelled = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    OK(keylatch_shared_waiting(holds, &cat, &waiting));
    CHECK(waiting == 0);
    OK(keylatch_shared_release(holds, grant));
    OK(keylatch_shared_acquire_cancellable(holds, &cat, KEYLATCH_SHARED, 0, NULL, NULL, &grant));
    OK(keylatch_shared_release(holds, grant));
    OK(keylatch_shared_free(waits));
    OK(keylatch_shared_free(holds));
}

static void freed_while_waiting(void)
{
    keylatch_shared_table *holds = opened("holds"), *waits = opened("waits");
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant;
    pthread_t thread;
    OK(keylatch_shared_try(holds, &cat, KEYLATCH_EXCLUSIVE, NULL, &grant));
    CHECK(pthread_create(&thread, NULL, wait_for_it, waits) == 0);
    size_t waiting = 0;
    while (waiting == 0)
        OK(keylatch_shared_waiting(holds, &cat, &waiting));
    CHECK(waiting == 1);
    OK(keylatch_shared_free(waits));
    CHECK(pthread_join(thread, NULL) == 0);
    /* What a handle holds goes with it. */
    OK(keylatch_shared_free(holds));
    holds = opened("again");
    OK(keylatch_shared_try(holds, &cat, KEYLATCH_EXCLUSIVE, NULL, &grant));
    CHECK(info_of(holds, grant).previous_holder_died == 0);
    OK(keylatch_shared_free(holds));
}

static void forked(void)
{
    keylatch_shared_table *table = opened("parent"), *again;
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant, other;
    OK(keylatch_shared_try(table, &cat, KEYLATCH_EXCLUSIVE, NULL, &grant));
    pid_t child = fork();
    if (child == 0) {
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_shared_release(table, grant));
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_shared_try(table, &cat, KEYLATCH_SHARED, NULL, &other));
        again = opened("child");
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_shared_try(again, &cat, KEYLATCH_SHARED, NULL, &other));
        CHECK(strstr(keylatch_last_error(), "parent"));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    OK(keylatch_shared_release(table, grant));
    OK(keylatch_shared_free(table));
}

static keylatch_manager *sharing(const char *file)
{
    keylatch_manager *locks;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    options.shared_memory = file;
    OK(keylatch_manager_new(&options, &locks));
    return locks;
}

static int32_t died(keylatch_manager *locks, uint64_t grant)
{
    int32_t answer = 7;
    OK(keylatch_previous_holder_died(locks, grant, &answer));
    return answer;
}

/* Managers that share their keys through the file. */
static void managers(void)
{
    char file[80];
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant, other;
    int ends[2];
    char byte;
    snprintf(file, sizeof file, "%s-managers", path);
    keylatch_manager *one = sharing(file), *two = sharing(file), *none;
    OK(keylatch_acquire(one, &cat, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_DEFAULT, NULL, &grant));
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire(two, &cat, KEYLATCH_SHARED, 1000000, NULL, &other));
    CHECK(died(one, grant) == 0);
    OK(keylatch_release(one, grant));
    OK(keylatch_acquire(two, &cat, KEYLATCH_EXCLUSIVE, 60 * SECOND, NULL, &other));
    OK(keylatch_release(two, other));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_previous_holder_died(two, other, &(int32_t){0}));
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        keylatch_manager *own = sharing(file);
        OK(keylatch_acquire(own, &cat, KEYLATCH_EXCLUSIVE, 60 * SECOND, NULL, &grant));
        CHECK(write(ends[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    CHECK(read(ends[0], &byte, 1) == 1);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    for (int32_t informed = 1; informed >= 0; informed--) {
        OK(keylatch_acquire(one, &cat, KEYLATCH_EXCLUSIVE, 60 * SECOND, NULL, &grant));
        CHECK(died(one, grant) == informed);
        OK(keylatch_release(one, grant));
    }
    close(ends[0]);
    close(ends[1]);
    OK(keylatch_manager_free(one));
    OK(keylatch_manager_free(two));
    CHECK(unlink(file) == 0);
    keylatch_manager_options missing = KEYLATCH_MANAGER_OPTIONS_INIT;
    missing.shared_memory = "/dev/shm/keylatch-no-such-folder/locks";
    CHECK_STATUS(KEYLATCH_ETIER, keylatch_manager_new(&missing, &none));
    CHECK(strstr(keylatch_last_error(), "keylatch-no-such-folder"));
}

/* What the processes share beside the table. */
struct counter {
    _Atomic pid_t inside;
    _Atomic uint64_t count, rounds, deaths;
};

/* Counts under the lock until it is killed. A count that a killed process left half-done is known by its death. */
static void count(struct counter *counter, unsigned seed)
{
    keylatch_shared_table *table = opened("counts");
    keylatch_key number = keylatch_key_of("chaos", "number");
    for (;;) {
        uint64_t grant;
        int32_t mode = rand_r(&seed) % 4 == 0 ? KEYLATCH_SHARED : KEYLATCH_EXCLUSIVE;
        uint64_t patience = rand_r(&seed) % 8 == 0 ? 100000 : 60 * SECOND;
        int32_t status = keylatch_shared_acquire(table, &number, mode, patience, NULL, &grant);
        if (status == KEYLATCH_ETIMEOUT && patience < SECOND)
            continue;
        OK(status);
        pid_t before = counter->inside;
        int died = info_of(table, grant).previous_holder_died == 1;
        CHECK(before == 0 || died);
        if (mode == KEYLATCH_EXCLUSIVE) {
            counter->deaths += (uint64_t)died;
            counter->inside = getpid();
            uint64_t seen = counter->count;
            for (int i = rand_r(&seed) % 5000; i > 0; i--)
                __asm__ volatile("" ::: "memory");
            CHECK(counter->count == seen && counter->inside == getpid());
            counter->count = seen + 1;
            counter->inside = 0;
        }
        counter->rounds++;
        OK(keylatch_shared_release(table, grant));
    }
}

static pid_t counting(struct counter *counter, unsigned seed)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        count(counter, seed);
    return child;
}

/* Kills one of several processes again and again: exclusion holds, deaths are reported, and all goes on. */
static void chaos(int kills)
{
    enum { CHILDREN = 6 };
    struct counter *counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counter != MAP_FAILED);
    pid_t children[CHILDREN];
    unsigned seed = 1;
    for (int i = 0; i < CHILDREN; i++)
        children[i] = counting(counter, seed++);
    for (int kill_number = 0; kill_number < kills; kill_number++) {
        int victim = rand_r(&seed) % CHILDREN, status;
        uint64_t before = counter->rounds;
        usleep((useconds_t)(rand_r(&seed) % 3000));
        CHECK(kill(children[victim], SIGKILL) == 0 && waitpid(children[victim], &status, 0) == children[victim]);
        /* A child whose check has failed has ended by itself. */
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        children[victim] = counting(counter, seed++);
        /* Those that are left go on, or a minute is over. */
        for (int tries = 0; counter->rounds < before + 20; tries++) {
            CHECK(tries < 60000);
            usleep(1000);
        }
    }
    for (int i = 0; i < CHILDREN; i++)
        CHECK(kill(children[i], SIGKILL) == 0 && waitpid(children[i], NULL, 0) == children[i]);
    keylatch_shared_table *table = opened("after");
    keylatch_key number = keylatch_key_of("chaos", "number");
    uint64_t grant;
    int count_of_holders = 0;
    OK(keylatch_shared_acquire(table, &number, KEYLATCH_EXCLUSIVE, 60 * SECOND, NULL, &grant));
    CHECK(counter->inside == 0 || info_of(table, grant).previous_holder_died == 1);
    OK(keylatch_shared_release(table, grant));
    OK(keylatch_shared_holders(table, NULL, note, &count_of_holders));
    CHECK(count_of_holders == 0);
    OK(keylatch_shared_free(table));
    printf("%d kills, %llu counts, %llu deaths reported\n", kills, (unsigned long long)counter->count,
           (unsigned long long)counter->deaths);
}

int main(int count, char **arguments)
{
    snprintf(path, sizeof path, "/dev/shm/keylatch-test-c-%d", (int)getpid());
    verbs();
    freed_while_waiting();
    cancelled_while_waiting();
    forked();
    managers();
    chaos(count > 1 ? atoi(arguments[1]) : 200);
    CHECK(unlink(path) == 0);
    keylatch_last_error_clear();
    puts("processes have had locks together");
    return 0;
}
