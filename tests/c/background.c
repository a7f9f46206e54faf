/* What happens in the background, through the header alone: results that arrive later, and the threads that bring them. */
#define _GNU_SOURCE

#include "fresh.h"
#include "keylatch.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        ;
}

/* A failure of this thread, with copies of its details. */
struct failure {
    const char *text;
    char copy[512];
    keylatch_key key;
};

static struct failure refused(keylatch_manager *locks)
{
    struct failure failure = { 0 };
    keylatch_key key = keylatch_key_of("bucket", "an object that is held");
    uint64_t held, grant;
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &grant));
    OK(keylatch_release(locks, held));
    failure.text = keylatch_last_error();
    CHECK(strlen(failure.text) > 0 && strlen(failure.text) < sizeof failure.copy);
    strcpy(failure.copy, failure.text);
    OK(keylatch_last_key(&failure.key));
    return failure;
}

static void is_as_it_was(const struct failure *failure)
{
    CHECK(strcmp(failure->text, failure->copy) == 0 && keylatch_last_error() == failure->text);
    CHECK(failure->key.object_len == 22 && memcmp(failure->key.object, "an object that is held", 22) == 0);
    CHECK(keylatch_last_status() == KEYLATCH_EWOULDBLOCK);
}

static void a_success_leaves_the_last_failure_alone(void)
{
    keylatch_manager *locks = fresh();
    keylatch_queue *queue;
    keylatch_key key = keylatch_key_of("b", "o");
    keylatch_completion result;
    uint64_t held, grant, ticket;
    size_t count;
    OK(keylatch_queue_new(locks, &queue));
    for (int drained = 0; drained <= 1; drained++) {
        OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
        OK(keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, queue, 7, &grant, &ticket));
        struct failure failure = refused(locks);
        OK(keylatch_release(locks, held));
        if (drained) {
            OK(keylatch_queue_drain(queue, &result, 1, &count));
            CHECK(count == 1);
        } else {
            OK(keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &result));
        }
        CHECK(result.status == KEYLATCH_OK && result.token == 7);
        is_as_it_was(&failure);
        OK(keylatch_release(locks, result.grant));
        is_as_it_was(&failure);
    }
    OK(keylatch_queue_free(queue));
    OK(keylatch_manager_free(locks));
}

static void posts(void *to, int32_t status, uint64_t grant)
{
    (void)grant;
    CHECK(status == KEYLATCH_ETIMEOUT);
    CHECK(sem_post(to) == 0);
}

static void handled_elsewhere(int signal)
{
    (void)signal;
    static const char text[] = "a handler ran in a thread of the library's\n";
    CHECK(write(2, text, sizeof text - 1) > 0);
    _exit(1);
}

/* Signals that the threads of this process block which the library has named; how many threads these are. */
static int blocked_by_the_library(unsigned long long *blocked)
{
    int found = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    *blocked = ~0ULL;
    for (struct dirent *task; (task = readdir(tasks));) {
        char path[600], line[200], name[32] = "";
        unsigned long long mask = 0;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = fopen(path, "r");
        if (!status)
            continue;
        while (fgets(line, sizeof line, status)) {
            if (sscanf(line, "Name: %31s", name) != 1)
                sscanf(line, "SigBlk: %llx", &mask);
        }
        fclose(status);
        if (strncmp(name, "keylatch-", 9) == 0) {
            *blocked &= mask;
            found++;
        }
    }
    closedir(tasks);
    return found;
}

/* A program that blocks a signal in all its threads, to fetch it, gets it. */
static void signals_are_left_to_the_program(void)
{
    keylatch_manager *locks = fresh();
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t held, grant, ticket;
    sigset_t awaited, before, now;
    sem_t called;
    CHECK(sem_init(&called, 0, 0) == 0);
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGUSR1);
    CHECK(signal(SIGUSR1, handled_elsewhere) != SIG_ERR);
    /* Not blocked yet where the library's threads are made. */
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &before) == 0 && !sigismember(&before, SIGUSR1));
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
    OK(keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, MS, NULL, posts, &called, NULL, &grant, &ticket));
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0 && !sigismember(&now, SIGUSR1));
    wait_for(&called);
    CHECK(pthread_sigmask(SIG_BLOCK, &awaited, NULL) == 0);
    if (!getenv("KEYLATCH_TEST_UNDER_VALGRIND")) { /* which keeps masks to itself */
        unsigned long long blocked;
        CHECK(blocked_by_the_library(&blocked) == 2);
        for (int number = 1; number <= SIGRTMAX; number++) {
            bool fault = number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP || number == SIGSYS;
            bool never = number == SIGKILL || number == SIGSTOP || (number >= __SIGRTMIN && number < SIGRTMIN);
            CHECK(never || (blocked >> (number - 1) & 1) == !fault);
        }
    }
    CHECK(kill(getpid(), SIGUSR1) == 0);
    int arrived;
    CHECK(sigwait(&awaited, &arrived) == 0 && arrived == SIGUSR1);
    CHECK(signal(SIGUSR1, SIG_DFL) != SIG_ERR && pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    OK(keylatch_manager_free(locks));
    sem_destroy(&called);
}

struct frees {
    keylatch_manager *other;
    sem_t inside, go_on, seen;
    atomic_bool other_is_done, waited;
};

/* In the manager that is freed: takes its time. */
static void is_waited_for(void *user_data, int32_t status, uint64_t grant)
{
    struct frees *frees = user_data;
    CHECK(status == KEYLATCH_OK && grant);
    CHECK(sem_post(&frees->inside) == 0);
    wait_for(&frees->go_on);
    atomic_store(&frees->other_is_done, true);
}

static void frees_the_other(void *user_data, int32_t status, uint64_t grant)
{
    struct frees *frees = user_data;
    CHECK(status == KEYLATCH_OK && grant);
    wait_for(&frees->inside);
    OK(keylatch_manager_free(frees->other));
    atomic_store(&frees->waited, atomic_load(&frees->other_is_done));
    CHECK(sem_post(&frees->seen) == 0);
}

/* Until the handle is none any more: then the one who frees it has come as far as waiting for callbacks. */
static void until_freed(keylatch_manager *locks)
{
    int32_t closed;
    while (keylatch_manager_is_closed(locks, &closed) == KEYLATCH_OK)
        sched_yield();
    /* And a little for it to go on, where it would not wait. */
    nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
}

/* A callback of one manager that frees another waits for the other's callbacks. */
static void freeing_waits_for_callbacks_also_from_a_callback(void)
{
    keylatch_manager *one = fresh(), *other = fresh();
    struct frees frees = { .other = other };
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t held_of_one, held_of_other, grant, ticket;
    CHECK(sem_init(&frees.inside, 0, 0) == 0 && sem_init(&frees.go_on, 0, 0) == 0 && sem_init(&frees.seen, 0, 0) == 0);
    OK(keylatch_try(one, &key, KEYLATCH_EXCLUSIVE, NULL, &held_of_one));
    OK(keylatch_try(other, &key, KEYLATCH_EXCLUSIVE, NULL, &held_of_other));
    OK(keylatch_acquire_callback(one, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, frees_the_other, &frees, NULL, &grant, &ticket));
    OK(keylatch_acquire_callback(other, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, is_waited_for, &frees, NULL, &grant, &ticket));
    OK(keylatch_release(other, held_of_other));
    OK(keylatch_release(one, held_of_one));
    until_freed(other);
    CHECK(sem_post(&frees.go_on) == 0);
    wait_for(&frees.seen);
    CHECK(atomic_load(&frees.waited));
    OK(keylatch_manager_free(one));
}

/* A callback frees its own manager, in the middle of one of another manager's. */
struct nested {
    keylatch_manager *outer, *inner;
    sem_t freed;
};

static void frees_both(void *user_data)
{
    struct nested *nested = user_data;
    OK(keylatch_manager_free(nested->inner));
    OK(keylatch_manager_free(nested->outer));
    CHECK(sem_post(&nested->freed) == 0);
}

static void is_not_called(void *user_data, int32_t status, uint64_t grant)
{
    (void)user_data, (void)status, (void)grant;
    CHECK(!"the lock was free");
}

static void takes_one_of_another(void *user_data, int32_t status, uint64_t grant)
{
    struct nested *nested = user_data;
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t ticket;
    CHECK(status == KEYLATCH_OK && grant);
    OK(keylatch_acquire_callback(nested->inner, &key, KEYLATCH_EXCLUSIVE, 0, NULL, is_not_called, nested, frees_both, &grant, &ticket));
}

static void a_callback_frees_all_managers_that_it_is_called_for(void)
{
    struct nested nested = { fresh(), fresh(), { { 0 } } };
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t held, grant, ticket;
    CHECK(sem_init(&nested.freed, 0, 0) == 0);
    OK(keylatch_try(nested.outer, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
    OK(keylatch_acquire_callback(nested.outer, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, takes_one_of_another, &nested, NULL, &grant, &ticket));
    OK(keylatch_release(nested.outer, held));
    wait_for(&nested.freed);
}

static void is_not_lost(void *user_data, uint64_t grant, int32_t why)
{
    (void)user_data, (void)grant, (void)why;
    CHECK(!"it ends with its manager");
}

static void counts(void *user_data)
{
    atomic_fetch_add((atomic_int *)user_data, 1);
}

/* What a hold that is never released was given along is freed with the manager, though a queue of the manager's stays. */
static void freeing_frees_what_holds_were_given(void)
{
    keylatch_manager *locks = fresh();
    keylatch_queue *queue;
    keylatch_key key = keylatch_key_of("b", "o");
    atomic_int freed = 0;
    uint64_t grant;
    OK(keylatch_queue_new(locks, &queue));
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &grant));
    OK(keylatch_on_lost(locks, grant, is_not_lost, &freed, counts));
    CHECK(atomic_load(&freed) == 0);
    OK(keylatch_manager_free(locks));
    CHECK(atomic_load(&freed) == 1);
    OK(keylatch_queue_free(queue));
    CHECK(atomic_load(&freed) == 1);
}

static void *waits_for_the_end(void *queue)
{
    keylatch_completion result;
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &result));
    return NULL;
}

static bool is_readable(int fd)
{
    struct pollfd asked = { fd, POLLIN, 0 };
    return poll(&asked, 1, 0) == 1;
}

/* A queue whose manager is closed or freed hands out what is to come, and then says so, also to those who sleep. */
static void a_queue_ends_with_its_manager(void)
{
    for (int how = 0; how < 3; how++) {
        keylatch_manager *locks = fresh();
        keylatch_queue *queue, *idle;
        keylatch_key key = keylatch_key_of("b", "o");
        keylatch_completion result;
        pthread_t thread;
        uint64_t held, grant, ticket;
        size_t count = 7;
        int fd;
        OK(keylatch_queue_new(locks, &queue));
        OK(keylatch_queue_new(locks, &idle));
        OK(keylatch_queue_fd(queue, &fd));
        CHECK(pthread_create(&thread, NULL, waits_for_the_end, idle) == 0);
        /* So that it sleeps, in all likelihood; if not, it must end all the same. */
        nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
        OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
        OK(keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, queue, 7, &grant, &ticket));
        CHECK(!is_readable(fd));
        if (how == 0)
            OK(keylatch_manager_free(locks));
        else
            OK(keylatch_manager_close(locks));
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(is_readable(fd));
        if (how == 2) {
            OK(keylatch_queue_drain(queue, &result, 1, &count));
            CHECK(count == 1);
        } else {
            OK(keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &result));
        }
        CHECK(result.status == KEYLATCH_ECLOSED && result.token == 7 && result.ticket == ticket);
        CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_queue_next(queue, 0, &result));
        CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &result));
        count = 7;
        CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_queue_drain(queue, &result, 1, &count));
        CHECK(count == 7);
        CHECK(is_readable(fd));
        if (how > 0) {
            keylatch_queue *late;
            OK(keylatch_queue_new(locks, &late));
            OK(keylatch_queue_fd(late, &fd));
            CHECK(is_readable(fd));
            CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_queue_next(late, KEYLATCH_WAIT_FOREVER, &result));
            CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, late, 8, &grant, &ticket));
            CHECK(is_readable(fd));
            OK(keylatch_queue_free(late));
            OK(keylatch_manager_free(locks));
        }
        OK(keylatch_queue_free(idle));
        OK(keylatch_queue_free(queue));
    }
}

struct repeats {
    keylatch_manager *locks;
    const keylatch_request_options *options;
    uint64_t grant;
};

static void *repeats_and_waits(void *with)
{
    struct repeats *repeats = with;
    keylatch_key key = keylatch_key_of("b", "o");
    OK(keylatch_acquire(repeats->locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, repeats->options, &repeats->grant));
    return NULL;
}

struct answered {
    sem_t called;
    uint64_t grant;
};

static void takes_the_answer(void *user_data, int32_t status, uint64_t grant)
{
    struct answered *answered = user_data;
    OK(status);
    answered->grant = grant;
    CHECK(sem_post(&answered->called) == 0);
}

/* A numbered request by queue or callback is one request with those that repeat it. */
static void a_repeated_request_is_one_hold(void)
{
    keylatch_manager *locks = fresh();
    keylatch_queue *queue;
    keylatch_owner *session;
    keylatch_owner_options made = KEYLATCH_OWNER_OPTIONS_INIT;
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_key key = keylatch_key_of("b", "o");
    struct answered answered = { .grant = 0 };
    keylatch_completion result;
    uint64_t held, grant, again, ticket, none;
    made.flags = KEYLATCH_OWNER_SESSION;
    CHECK(sem_init(&answered.called, 0, 0) == 0);
    OK(keylatch_queue_new(locks, &queue));
    OK(keylatch_owner_new(locks, "txn", 3, &made, &session));
    options.owner = session;
    for (options.request_id = 1; options.request_id <= 20; options.request_id++) {
        bool by_queue = options.request_id % 2 == 0;
        struct repeats repeats = { locks, &options, 0 };
        pthread_t thread;
        OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
        if (by_queue)
            OK(keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, queue, 1, &grant, &ticket));
        else
            OK(keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, takes_the_answer, &answered, NULL, &grant, &ticket));
        CHECK(grant == 0 && ticket != 0);
        /* Its answer goes to the first; no request stands in line behind itself. */
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, queue, 2, &again, &none));
        CHECK(strstr(keylatch_last_error(), "waits already"));
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, is_not_called, NULL, NULL, &again, &none));
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, &options, &again));
        CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, 0, &options, queue, 2, &again, &none));
        CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, MS, &options, &again));
        /* In a thread it waits for the same answer. */
        CHECK(pthread_create(&thread, NULL, repeats_and_waits, &repeats) == 0);
        OK(keylatch_release(locks, held));
        if (by_queue) {
            OK(keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &result));
            CHECK(result.status == KEYLATCH_OK && result.token == 1);
        } else {
            wait_for(&answered.called);
        }
        grant = by_queue ? result.grant : answered.grant;
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(grant != 0 && repeats.grant == grant);
        /* And from now on it is answered immediately, in every way of waiting. */
        OK(keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, queue, 3, &again, &ticket));
        CHECK(again == grant && ticket == 0);
        OK(keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, is_not_called, NULL, NULL, &again, &ticket));
        CHECK(again == grant && ticket == 0);
        OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, &options, &again));
        CHECK(again == grant);
        OK(keylatch_release(locks, grant));
        CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release(locks, grant));
    }
    /* One that ends without a lock leaves its number to the next. */
    int32_t cancelled;
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
    OK(keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, queue, 1, &grant, &ticket));
    OK(keylatch_cancel(locks, ticket, &cancelled));
    OK(keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &result));
    CHECK(cancelled == 1 && result.status == KEYLATCH_ECANCELLED);
    OK(keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, queue, 2, &grant, &ticket));
    OK(keylatch_queue_free(queue));
    OK(keylatch_release(locks, held));
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, &options, &grant));
    OK(keylatch_release(locks, grant));
    OK(keylatch_owner_free(session));
    OK(keylatch_manager_free(locks));
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
#define TEST(name) { #name, name }
    TEST(a_success_leaves_the_last_failure_alone),
    TEST(signals_are_left_to_the_program),
    TEST(freeing_waits_for_callbacks_also_from_a_callback),
    TEST(a_callback_frees_all_managers_that_it_is_called_for),
    TEST(freeing_frees_what_holds_were_given),
    TEST(a_queue_ends_with_its_manager),
    TEST(a_repeated_request_is_one_hold),
};

/* All of them, or the one that is named. */
int main(int count, char **arguments)
{
    int passed = 0;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (count > 1 && strcmp(arguments[1], tests[i].name) != 0)
            continue;
        tests[i].run();
        passed++;
    }
    CHECK(passed > 0);
    printf("%d passed, 0 failed\n", passed);
    return 0;
}
