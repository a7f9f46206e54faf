/* Locks between machines, on a real etcd that scripts/with_etcd.py has started. */

#include <keylatch.hpp>

#include "check.hpp"

#include <cstdlib>
#include <future>
#include <string>

using namespace std::chrono_literals;

static keylatch::manager manager(const char *etcd, const keylatch::etcd_options &how)
{
    keylatch::manager_options options;
    options.etcd = etcd;
    options.etcd_options = &how;
    return keylatch::manager{options};
}

int main()
{
    keylatch::etcd_options how;
    how.namespace_name = "a/b";
    try {
        manager("127.0.0.1:1", how);
        CHECK(false);
    } catch (const std::system_error &error) {
        CHECK(error.code() == keylatch::errc::bad_setting);
        CHECK(std::string{error.what()}.find("namespace") != std::string::npos);
    }
    how.namespace_name = "cpp";
    how.connect_timeout_ns = 200000000;
    try {
        manager("127.0.0.1:1", how);
        CHECK(false);
    } catch (const std::system_error &error) {
        CHECK(error.code() == keylatch::errc::tier);
        CHECK(std::string{error.what()}.find("check addresses") != std::string::npos);
    }
    const char *plain = std::getenv("KEYLATCH_ETCD");
    if (plain == nullptr)
        return 0;
    how.connect_timeout_ns = 0;
    keylatch::manager one = manager(plain, how), two = manager(plain, how);
    keylatch::guard held = one.lock({"photos", "cat.jpg"});
    const std::uint64_t fence = held.fence();
    CHECK(!two.try_lock({"photos", "cat.jpg"}));
    auto waiting = std::async(std::launch::async, [&] { return two.lock({"photos", "cat.jpg"}).fence(); });
    CHECK(waiting.wait_for(20ms) == std::future_status::timeout);
    held.unlock();
    CHECK(waiting.get() > fence);
    std::puts("two managers exclude each other");
}
