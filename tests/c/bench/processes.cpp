/* What `make bench-processes` measures through C++ and C: Boost's lock with a name, and keylatch through its C functions. */

#include <keylatch.h>

#include <cstdlib>
#include <string>
#if __has_include(<boost/interprocess/sync/named_sharable_mutex.hpp>)
#define HAS_BOOST 1
#include <boost/interprocess/sync/named_sharable_mutex.hpp>
#endif

namespace {

const keylatch_key hot = keylatch_key_of("bench", "hot through C");
keylatch_shared_table *table = nullptr;

void pair_of(std::int32_t mode)
{
    std::uint64_t grant = 0;
    if (keylatch_shared_acquire(table, &hot, mode, KEYLATCH_WAIT_FOREVER, nullptr, &grant) != KEYLATCH_OK ||
        keylatch_shared_release(table, grant) != KEYLATCH_OK)
        std::abort();
}

#ifdef HAS_BOOST
namespace ipc = boost::interprocess;
std::string name;
ipc::named_sharable_mutex *named = nullptr;
#endif

} // namespace

extern "C" {

/* Says whether Boost is there. */
int bench_open(const char *path, int number)
{
    if (keylatch_shared_open(path, nullptr, &table) != KEYLATCH_OK)
        std::abort();
#ifdef HAS_BOOST
    name = "keylatch-boost-" + std::to_string(number);
    named = new ipc::named_sharable_mutex(ipc::create_only, name.c_str());
    return 1;
#else
    (void)number;
    return 0;
#endif
}

void bench_close(void)
{
    keylatch_shared_free(table);
#ifdef HAS_BOOST
    delete named;
    ipc::named_sharable_mutex::remove(name.c_str());
#endif
}

void bench_c_exclusive(void) { pair_of(KEYLATCH_EXCLUSIVE); }
void bench_c_shared(void) { pair_of(KEYLATCH_SHARED); }

void bench_boost_exclusive(void)
{
#ifdef HAS_BOOST
    named->lock();
    named->unlock();
#endif
}

void bench_boost_shared(void)
{
#ifdef HAS_BOOST
    named->lock_sharable();
    named->unlock_sharable();
#endif
}
}
