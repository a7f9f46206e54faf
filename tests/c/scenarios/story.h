/* What one scenario has at the moment: its manager, and what its steps gave names to. */
#ifndef STORY_H
#define STORY_H

#include "fields.h"
#include "report.h"

#include <pthread.h>

/* How requests wait in the background. */
enum way { BY_QUEUE, BY_CALLBACK };

/* What a name of the scenario stands for. */
enum thing { A_GRANT, A_FENCE, A_SESSION };

struct named {
    enum thing thing;
    const char *name;
    uint64_t number;
    keylatch_owner *session;
    struct named *next;
};

/* A request that waits in the background. It lives as long as the story. */
struct waiting {
    const char *name;
    uint64_t ticket;
    /* Its result arrives in the queue; otherwise its callback or thread reports it. */
    bool in_queue;
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t over;
    bool ended;
    struct report report;
    uint64_t grant;
    keylatch_manager *locks;
    uint64_t timeout;
    struct waiting *next;
};

struct loss;

struct owned {
    keylatch_owner *owner;
    struct owned *next;
};

struct story {
    enum way way;
    keylatch_manager *locks;
    keylatch_queue *queue;
    struct named *names;
    struct waiting *waits;
    struct owned *owners;
    keylatch_events *events;
    struct loss *losses;
};

extern struct story now;

void name_number(enum thing thing, const char *name, uint64_t number);
struct named *named(enum thing thing, const char *name);
uint64_t figure(const char *name);

/* A request that begins to wait; the latest of a name is found by it. */
struct waiting *begin_wait(const char *name);
struct waiting *wait_named(const char *name);
/* Wakes the step that waits for it; for callbacks and threads. */
void end_wait(struct waiting *wait, int32_t status, uint64_t grant);
/* Whether it ends within the time. */
bool ends_within(struct waiting *wait, uint64_t nanoseconds);
void *upgrades(void *wait);

uint64_t monotonic(void);
void nap(uint64_t nanoseconds);
/* How long a runner waits for what has to happen. */
#define PATIENCE (UINT64_C(60) * 1000000000)

/* Carries out one step. */
void carry_out(struct json *step);
/* Carries out steps in a forked child and ends it: with 0 if each went as it was expected to. */
#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void carry_out_and_exit(struct json *steps);
/* Whether this runner can do what a scenario says that it needs. */
bool has_feature(const char *name);

#endif
