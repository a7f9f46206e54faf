#include <keylatch.hpp>

#include <cstdio>

int main()
{
    keylatch::manager locks;
    const keylatch::guard guard = locks.lock({"photos", "cat.jpg"});
    std::printf("fence %llu\n", static_cast<unsigned long long>(guard.fence()));
}
