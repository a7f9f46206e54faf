// What C and C++ programs have without keylatch: a bare lock, and two ways to have one for each key.
#include <pthread.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>

namespace {

std::string bucket, object;

void must(int status)
{
    if (status != 0)
        std::abort();
}

// A lock without a key.
pthread_rwlock_t bare = PTHREAD_RWLOCK_INITIALIZER;

// Locks by key as a C program writes it: chains of entries behind one mutex, each counting who uses it. Like keylatch
// it compares bytes without joining them, and like keylatch's warm entries the last entry of a key stays.
struct entry {
    struct entry *next;
    std::uint64_t hash;
    std::size_t bucket_len, object_len;
    std::uint64_t users;
    pthread_rwlock_t lock;
    char bytes[];
};

pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
entry *table[1024];

std::uint64_t hash_of(const char *bytes, std::size_t length, std::uint64_t hash)
{
    for (std::size_t i = 0; i < length; i++)
        hash = (hash ^ static_cast<unsigned char>(bytes[i])) * 1099511628211u;
    return hash;
}

entry *enter(const char *b, std::size_t b_len, const char *o, std::size_t o_len)
{
    std::uint64_t hash = hash_of(o, o_len, hash_of(b, b_len, 14695981039346656037u) + b_len);
    entry **place = &table[hash % 1024], *found;
    must(pthread_mutex_lock(&table_lock));
    for (found = *place; found != nullptr; found = found->next)
        if (found->hash == hash && found->bucket_len == b_len && found->object_len == o_len &&
            std::memcmp(found->bytes, b, b_len) == 0 && std::memcmp(found->bytes + b_len, o, o_len) == 0)
            break;
    if (found == nullptr) {
        found = static_cast<entry *>(std::malloc(sizeof(entry) + b_len + o_len));
        if (found == nullptr)
            std::abort();
        found->next = *place;
        found->hash = hash;
        found->bucket_len = b_len;
        found->object_len = o_len;
        found->users = 0;
        must(pthread_rwlock_init(&found->lock, nullptr));
        std::memcpy(found->bytes, b, b_len);
        std::memcpy(found->bytes + b_len, o, o_len);
        *place = found;
    }
    found->users++;
    must(pthread_mutex_unlock(&table_lock));
    must(pthread_rwlock_wrlock(&found->lock));
    return found;
}

void leave(entry *held)
{
    must(pthread_rwlock_unlock(&held->lock));
    must(pthread_mutex_lock(&table_lock));
    held->users--;
    must(pthread_mutex_unlock(&table_lock));
}

// Locks by key as a C++ program writes it: a map behind a std::shared_mutex, of std::shared_mutex that are shared.
std::shared_mutex map_lock;
std::unordered_map<std::string, std::shared_ptr<std::shared_mutex>> map;

std::shared_ptr<std::shared_mutex> lock_of(const std::string &name)
{
    {
        std::shared_lock<std::shared_mutex> reading(map_lock);
        auto found = map.find(name);
        if (found != map.end())
            return found->second;
    }
    std::unique_lock<std::shared_mutex> writing(map_lock);
    auto &lock = map[name];
    if (!lock)
        lock = std::make_shared<std::shared_mutex>();
    return lock;
}

} // namespace

extern "C" {

void bench_peers_open(const char *b, const char *o)
{
    bucket = b;
    object = o;
}

void bench_pthread_rwlock(std::uint64_t count)
{
    for (std::uint64_t i = 0; i < count; i++) {
        must(pthread_rwlock_wrlock(&bare));
        must(pthread_rwlock_unlock(&bare));
    }
}

void bench_pthread_map(std::uint64_t count)
{
    for (std::uint64_t i = 0; i < count; i++)
        leave(enter(bucket.data(), bucket.size(), object.data(), object.size()));
}

void bench_shared_mutex_map(std::uint64_t count)
{
    for (std::uint64_t i = 0; i < count; i++) {
        auto lock = lock_of(bucket + "/" + object);
        std::unique_lock<std::shared_mutex> held(*lock);
    }
}
}
