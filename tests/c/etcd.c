/*
 * Locks between machines: two managers and two processes on a real etcd, which scripts/with_etcd.py has started; wrong
 * settings, servers that do not answer, certificates, logins, and a process that is killed.
 *
 *     etcd          everything; what needs a server only if KEYLATCH_ETCD names one
 *     etcd without  with a library that was built without etcd
 */
#define _DEFAULT_SOURCE

#include "check.h"
#include "keylatch.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static const keylatch_etcd_options defaults = KEYLATCH_ETCD_OPTIONS_INIT;

/* The status of making a manager that is not to be had. */
static int32_t refused(const char *etcd, const keylatch_etcd_options *how)
{
    keylatch_manager *none = (keylatch_manager *)&none;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    options.etcd = etcd;
    options.etcd_options = how;
    int32_t status = keylatch_manager_new(&options, &none);
    CHECK(status != KEYLATCH_OK && none == (keylatch_manager *)&none);
    return status;
}

#define REFUSED(status, word, etcd, how)                                                           \
    do {                                                                                           \
        CHECK_STATUS(status, refused(etcd, how));                                                  \
        if (!strstr(keylatch_last_error(), word)) {                                                \
            fprintf(stderr, "%s:%d: %s is not in: %s\n", __FILE__, __LINE__, word, keylatch_last_error()); \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static void without(void)
{
    REFUSED(KEYLATCH_ECONFIG, "libkeylatch_etcd", "127.0.0.1:1", NULL);
    REFUSED(KEYLATCH_ECONFIG, "libkeylatch_etcd", "", &defaults);
    REFUSED(KEYLATCH_ECONFIG, "give both", NULL, &defaults);
}

static void wrong_settings(void)
{
    static char huge[3000000];
    keylatch_etcd_options how;
    keylatch_manager *none;
    keylatch_manager_options both = KEYLATCH_MANAGER_OPTIONS_INIT;
    memset(huge, 'x', sizeof huge - 1);
    REFUSED(KEYLATCH_ECONFIG, "an address is empty", "", NULL);
    REFUSED(KEYLATCH_ECONFIG, "an address is empty", "a:1,,b:1", NULL);
    REFUSED(KEYLATCH_ECONFIG, "usually a:2379", "a", NULL);
    REFUSED(KEYLATCH_ECONFIG, "bytes; at most", huge, NULL);
    REFUSED(KEYLATCH_ECONFIG, "not UTF-8", "\xff\xfe:1", NULL);
    REFUSED(KEYLATCH_ECONFIG, "http://", "ftp://a:1", NULL);
    REFUSED(KEYLATCH_ECONFIG, "setting etcd ", "a b:1", NULL);
    REFUSED(KEYLATCH_ECONFIG, "ca_file", "https://a:1", NULL);
    REFUSED(KEYLATCH_ECONFIG, "give both", NULL, &defaults);
#define WRONG(word, field, value)                                                                  \
    how = defaults;                                                                                \
    how.field = value;                                                                             \
    REFUSED(KEYLATCH_ECONFIG, word, "127.0.0.1:1", &how)
    WRONG("namespace", namespace_name, "a/b");
    WRONG("namespace", namespace_name, huge);
    WRONG("not UTF-8", namespace_name, "\xff");
    WRONG("ttl", ttl_ns, 1500000000);
    WRONG("ttl", ttl_ns, 1);
    WRONG("ttl", ttl_ns, UINT64_MAX);
    WRONG("connect_timeout", connect_timeout_ns, UINT64_MAX);
    WRONG("/no/such/file", ca_file, "/no/such/file");
    WRONG("ca_file", ca_file, huge);
    WRONG("PEM", ca_file, "/dev/zero");
    WRONG("PEM", ca_file, "/etc/hostname");
    WRONG("key_file", certificate_file, "/no/such/file");
    WRONG("certificate_file", key_file, "/no/such/file");
    WRONG("password", user, "locks");
    WRONG("user", password, "secret");
    WRONG("label", label, huge);
    WRONG("server_name", server_name, huge);
    WRONG("user", user, huge);
    how = defaults;
    how.struct_size = 80;
    REFUSED(KEYLATCH_ESTRUCT, "struct_size", "127.0.0.1:1", &how);
    both.etcd = "127.0.0.1:1";
    both.shared_memory = "/dev/shm/keylatch-never-made";
    CHECK_STATUS(KEYLATCH_ECONFIG, keylatch_manager_new(&both, &none));
    CHECK(strstr(keylatch_last_error(), "shared_memory") && access(both.shared_memory, F_OK) != 0);
    both.shared_memory = NULL;
    both.shards = 3;
    CHECK_STATUS(KEYLATCH_ECONFIG, keylatch_manager_new(&both, &none));
    CHECK(strstr(keylatch_last_error(), "shards"));
}

/* A server that takes connections and says nothing, and none at all. */
static void no_answer(void)
{
    keylatch_etcd_options how = KEYLATCH_ETCD_OPTIONS_INIT;
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof place;
    char silent[40];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&place, sizeof place) == 0 && listen(listener, 8) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&place, &length) == 0);
    snprintf(silent, sizeof silent, "127.0.0.1:%d", ntohs(place.sin_port));
    how.connect_timeout_ns = SECOND / 5;
    how.ttl_ns = 2 * SECOND;
    REFUSED(KEYLATCH_ETIER, "check addresses, network and servers", silent, &how);
    CHECK(strstr(keylatch_last_error(), silent));
    close(listener);
    REFUSED(KEYLATCH_ETIER, "refused", silent, &how);
    REFUSED(KEYLATCH_ETIER, "no member of the etcd cluster answers", "no-such-host.invalid:2379", &how);
    CHECK(strcmp(keylatch_status_name(keylatch_last_status()), "KEYLATCH_ETIER") == 0);
}

static const char *plain;

static keylatch_manager *manager(const char *etcd, const keylatch_etcd_options *how)
{
    keylatch_manager *locks;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    options.etcd = etcd;
    options.etcd_options = how;
    OK(keylatch_manager_new(&options, &locks));
    return locks;
}

static keylatch_manager *in(const char *space, uint64_t ttl)
{
    keylatch_etcd_options how = KEYLATCH_ETCD_OPTIONS_INIT;
    how.namespace_name = space;
    how.ttl_ns = ttl * SECOND;
    how.label = "tests/c/etcd.c";
    return manager(plain, &how);
}

static uint64_t held(keylatch_manager *locks, int32_t mode)
{
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant;
    OK(keylatch_acquire(locks, &cat, mode, 120 * SECOND, NULL, &grant));
    return grant;
}

static uint64_t fence_of(keylatch_manager *locks, uint64_t grant)
{
    uint64_t fence = 0;
    OK(keylatch_fence(locks, grant, &fence));
    return fence;
}

static void *wait_until_closed(void *locks)
{
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant;
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_acquire(locks, &cat, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    return NULL;
}

static void two_managers(void)
{
    keylatch_manager *one = in("c-two", 60), *two = in("c-two", 60), *apart = in("c-apart", 60);
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    keylatch_queue *queue;
    keylatch_completion result;
    uint64_t grant = held(one, KEYLATCH_EXCLUSIVE), other, ticket, fence = fence_of(one, grant);
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(two, &cat, KEYLATCH_SHARED, NULL, &other));
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire(two, &cat, KEYLATCH_SHARED, SECOND / 100, NULL, &other));
    CHECK(strstr(keylatch_last_error(), "another process"));
    /* Another namespace is another space of locks. */
    OK(keylatch_release(apart, held(apart, KEYLATCH_EXCLUSIVE)));
    OK(keylatch_queue_new(two, &queue));
    OK(keylatch_acquire_queue(two, &cat, KEYLATCH_EXCLUSIVE, 60 * SECOND, NULL, queue, 7, &other, &ticket));
    CHECK(ticket != 0);
    OK(keylatch_release(one, grant));
    OK(keylatch_queue_next(queue, 60 * SECOND, &result));
    CHECK(result.status == KEYLATCH_OK && result.token == 7 && fence_of(two, result.grant) > fence);
    OK(keylatch_downgrade(two, result.grant));
    grant = held(one, KEYLATCH_SHARED);
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_upgrade(one, grant, SECOND / 10));
    OK(keylatch_release(two, result.grant));
    OK(keylatch_upgrade(one, grant, 60 * SECOND));
    OK(keylatch_release(one, grant));
    keylatch_batch_item items[3] = {{keylatch_key_of("photos", "a"), KEYLATCH_EXCLUSIVE, 0},
                                    {keylatch_key_of("photos", "b"), KEYLATCH_SHARED, 0},
                                    {cat, KEYLATCH_EXCLUSIVE, 0}};
    uint64_t grants[3];
    /* A batch without time waits for the servers' answer, not for a lock. */
    OK(keylatch_acquire_batch(two, items, 2, 0, NULL, grants, NULL));
    OK(keylatch_release(two, grants[0]));
    OK(keylatch_release(two, grants[1]));
    grant = held(one, KEYLATCH_EXCLUSIVE);
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire_batch(two, items, 3, 0, NULL, grants, NULL));
    OK(keylatch_release(one, grant));
    OK(keylatch_acquire_batch(two, items, 3, 60 * SECOND, NULL, grants, NULL));
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(one, &cat, KEYLATCH_SHARED, NULL, &other));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_until_closed, one) == 0);
    OK(keylatch_manager_close(one));
    CHECK(pthread_join(thread, NULL) == 0);
    OK(keylatch_manager_free(one));
    for (int i = 0; i < 3; i++)
        OK(keylatch_release(two, grants[i]));
    OK(keylatch_queue_free(queue));
    OK(keylatch_manager_free(two));
    OK(keylatch_manager_free(apart));
}

/* Each lists what both hold and wait for; without a cluster, there is none to ask. */
static void holds_of_both(void)
{
    keylatch_manager *one = in("c-listed", 60), *two = in("c-listed", 60), *alone;
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg"), dog = keylatch_key_of("photos", "dog.jpg");
    keylatch_request_options named = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_tier_hold hold = KEYLATCH_TIER_HOLD_INIT;
    keylatch_holder holder = KEYLATCH_HOLDER_INIT;
    keylatch_listing *listing;
    keylatch_queue *queue;
    uint64_t grant, other, ticket;
    size_t count, waits = 0;
    char *text;
    named.owner_name = "indexer";
    named.owner_name_len = strlen(named.owner_name);
    OK(keylatch_acquire(one, &cat, KEYLATCH_EXCLUSIVE, 120 * SECOND, &named, &grant));
    OK(keylatch_tier_holds(two, &cat, &listing));
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_listing_next_holder(listing, &holder));
    CHECK(strstr(keylatch_last_error(), "keylatch_listing_next_tier_hold()"));
    OK(keylatch_listing_next_tier_hold(listing, &hold));
    CHECK(hold.mode == KEYLATCH_EXCLUSIVE && hold.flags == 0 && hold.since_ns == 0);
    CHECK(hold.owner_len == 7 && memcmp(hold.owner, "indexer", 7) == 0 && hold.process_len > 0);
    CHECK(hold.key.object_len == 7 && memcmp(hold.key.object, "cat.jpg", 7) == 0 && hold.key.version == NULL);
    CHECK_STATUS(KEYLATCH_EEND, keylatch_listing_next_tier_hold(listing, &hold));
    OK(keylatch_listing_text(listing, &text));
    CHECK(strstr(text, "\"indexer\" of ") && strstr(text, "tests/c/etcd.c") && strstr(text, "holds \"photos\"/\"cat.jpg\" (exclusive)"));
    keylatch_text_free(text);
    OK(keylatch_listing_free(listing));
    OK(keylatch_tier_holds(one, NULL, &listing));
    OK(keylatch_listing_count(listing, &count));
    OK(keylatch_listing_next_tier_hold(listing, &hold));
    CHECK(count == 1 && hold.flags == KEYLATCH_TIER_HOLD_OWN);
    OK(keylatch_listing_free(listing));
    OK(keylatch_tier_holds(two, &dog, &listing));
    OK(keylatch_listing_count(listing, &count));
    CHECK(count == 0);
    OK(keylatch_listing_free(listing));
    OK(keylatch_queue_new(two, &queue));
    OK(keylatch_acquire_queue(two, &cat, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, queue, 0, &other, &ticket));
    /* Until the cluster has its request. */
    for (count = 0; count < 2;) {
        OK(keylatch_tier_holds(one, &cat, &listing));
        OK(keylatch_listing_count(listing, &count));
        for (waits = 0; keylatch_listing_next_tier_hold(listing, &hold) == KEYLATCH_OK;)
            waits += hold.flags == KEYLATCH_TIER_HOLD_WAITS && hold.mode == KEYLATCH_SHARED;
        OK(keylatch_listing_free(listing));
    }
    CHECK(count == 2 && waits == 1);
    OK(keylatch_queue_free(queue));
    OK(keylatch_release(one, grant));
    OK(keylatch_manager_free(one));
    OK(keylatch_manager_free(two));
    OK(keylatch_manager_new(NULL, &alone));
    CHECK_STATUS(KEYLATCH_ETIER, keylatch_tier_holds(alone, NULL, &listing));
    CHECK(strstr(keylatch_last_error(), "no other process"));
    OK(keylatch_manager_free(alone));
}

/* The network's threads leave signals to the program's. */
static void signals_are_left(void)
{
    keylatch_manager *locks = in("c-signals", 60);
    DIR *tasks = opendir("/proc/self/task");
    int found = 0;
    CHECK(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char name[300], line[200];
        unsigned long long blocked = 0;
        snprintf(name, sizeof name, "/proc/self/task/%s/status", task->d_name);
        FILE *status = task->d_name[0] == '.' ? NULL : fopen(name, "r");
        int is_of_network = 0;
        while (status && fgets(line, sizeof line, status)) {
            is_of_network |= strncmp(line, "Name:\tkeylatch-etcd", 19) == 0;
            (void)sscanf(line, "SigBlk: %llx", &blocked);
        }
        if (status)
            fclose(status);
        if (is_of_network) {
            found++;
            CHECK(blocked >> (SIGUSR1 - 1) & 1 && blocked >> (SIGTERM - 1) & 1 && !(blocked >> (SIGSEGV - 1) & 1));
        }
    }
    closedir(tasks);
    CHECK(found > 0);
    OK(keylatch_manager_free(locks));
}

/* What the processes share beside the cluster. */
struct counter {
    _Atomic pid_t inside;
    _Atomic uint64_t count, fence, released;
};

static struct counter *counter;

static void read_byte(int from)
{
    char byte;
    CHECK(read(from, &byte, 1) == 1);
}

static void ended_well(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A waiter of another process gets the lock after its release, and not before; a child has no right to the parent's. */
static void handed_over(void)
{
    int ends[2];
    keylatch_manager *locks = in("c-handed", 600);
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant = held(locks, KEYLATCH_EXCLUSIVE), fence = fence_of(locks, grant);
    CHECK(pipe(ends) == 0);
    counter->released = 0;
    pid_t child = fork();
    if (child == 0) {
        uint64_t other;
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_release(locks, grant));
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_manager_free(locks));
        keylatch_manager *own = in("c-handed", 60);
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(own, &cat, KEYLATCH_SHARED, NULL, &other));
        CHECK(write(ends[1], "x", 1) == 1);
        other = held(own, KEYLATCH_EXCLUSIVE);
        CHECK(counter->released == 1 && fence_of(own, other) > fence);
        OK(keylatch_release(own, other));
        OK(keylatch_manager_free(own));
        _exit(0);
    }
    read_byte(ends[0]);
    counter->released = 1;
    OK(keylatch_release(locks, grant));
    ended_well(child);
    OK(keylatch_manager_free(locks));
    close(ends[0]);
    close(ends[1]);
}

/* A holder that is killed keeps the lock for its lease, and no longer. */
static void killed(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        keylatch_manager *own = in("c-killed", 5);
        counter->fence = fence_of(own, held(own, KEYLATCH_EXCLUSIVE));
        CHECK(write(ends[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    keylatch_manager *locks = in("c-killed", 60);
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg");
    uint64_t other;
    read_byte(ends[0]);
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &cat, KEYLATCH_SHARED, NULL, &other));
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    uint64_t grant = held(locks, KEYLATCH_EXCLUSIVE);
    CHECK(fence_of(locks, grant) > counter->fence);
    OK(keylatch_manager_free(locks));
    close(ends[0]);
    close(ends[1]);
}

/* Processes count under the lock. Each count has a greater fence than the one before. */
static void counted(void)
{
    enum { CHILDREN = 4, ROUNDS = 60 };
    pid_t children[CHILDREN];
    counter->inside = 0;
    counter->count = counter->fence = 0;
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            keylatch_manager *own = in("c-counted", 600);
            for (int round = 0; round < ROUNDS; round++) {
                uint64_t grant = held(own, KEYLATCH_EXCLUSIVE), fence = fence_of(own, grant), before = counter->count;
                CHECK(counter->inside == 0 && fence > counter->fence);
                counter->inside = getpid();
                counter->fence = fence;
                counter->count = before + 1;
                CHECK(counter->inside == getpid());
                counter->inside = 0;
                OK(keylatch_release(own, grant));
            }
            OK(keylatch_manager_free(own));
            _exit(0);
        }
    }
    for (int i = 0; i < CHILDREN; i++)
        ended_well(children[i]);
    CHECK(counter->count == CHILDREN * ROUNDS);
}

static void login(const char *address)
{
    keylatch_etcd_options how = KEYLATCH_ETCD_OPTIONS_INIT;
    REFUSED(KEYLATCH_ETIER, "give a user and a password", address, &how);
    how.user = "locks";
    how.password = "wrong";
    REFUSED(KEYLATCH_ETIER, "the password of the user", address, &how);
    how.password = "secret";
    keylatch_manager *locks = manager(address, &how);
    OK(keylatch_release(locks, held(locks, KEYLATCH_EXCLUSIVE)));
    OK(keylatch_manager_free(locks));
}

static void certificates(const char *address, const char *folder)
{
    char ca[200], other[200], mine[200], key[200], strange[200], strange_key[200];
    keylatch_etcd_options how = KEYLATCH_ETCD_OPTIONS_INIT;
    snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    snprintf(other, sizeof other, "%s/other-ca.pem", folder);
    snprintf(mine, sizeof mine, "%s/mine.pem", folder);
    snprintf(key, sizeof key, "%s/mine.key", folder);
    snprintf(strange, sizeof strange, "%s/strange.pem", folder);
    snprintf(strange_key, sizeof strange_key, "%s/strange.key", folder);
    how.ca_file = ca;
    REFUSED(KEYLATCH_ETIER, "certificates do not fit", address, &how);
    how.certificate_file = strange;
    how.key_file = strange_key;
    REFUSED(KEYLATCH_ETIER, "certificates do not fit", address, &how);
    how.certificate_file = mine;
    REFUSED(KEYLATCH_ECONFIG, "ca_file, certificate_file or key_file", address, &how);
    how.key_file = key;
    how.server_name = "elsewhere.example";
    REFUSED(KEYLATCH_ETIER, "certificates do not fit", address, &how);
    how.server_name = NULL;
    how.ca_file = other;
    REFUSED(KEYLATCH_ETIER, "certificates do not fit", address, &how);
    how.ca_file = ca;
    keylatch_manager *locks = manager(address, &how);
    OK(keylatch_release(locks, held(locks, KEYLATCH_EXCLUSIVE)));
    OK(keylatch_manager_free(locks));
}

int main(int count, char **arguments)
{
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counter != MAP_FAILED);
    if (count > 1 && strcmp(arguments[1], "without") == 0) {
        without();
        return 0;
    }
    wrong_settings();
    no_answer();
    plain = getenv("KEYLATCH_ETCD");
    if (plain == NULL) {
        printf("no server: the rest is skipped\n");
        return 0;
    }
    two_managers();
    holds_of_both();
    signals_are_left();
    handed_over();
    killed();
    counted();
    login(getenv("KEYLATCH_ETCD_LOGIN"));
    certificates(getenv("KEYLATCH_ETCD_TLS"), getenv("KEYLATCH_ETCD_FILES"));
    return 0;
}
