/*
 * Locks between the processes of one machine. Included by keylatch.hpp.
 */

#ifndef KEYLATCH_SHARED_HPP
#define KEYLATCH_SHARED_HPP

#include <keylatch/manager.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keylatch {

/// A lock of a shared table that is held, and is released when the guard is destroyed. A default-constructed,
/// moved-from or unlocked guard holds nothing; its functions throw errc::not_held.
class shared_guard {
  public:
    shared_guard() noexcept = default;
    /// Adopts a grant that a function of keylatch.h gave.
    shared_guard(keylatch_shared_table *table, std::uint64_t grant) noexcept : table_(table), grant_(grant) {}
    shared_guard(shared_guard &&other) noexcept
        : table_(std::exchange(other.table_, nullptr)), grant_(std::exchange(other.grant_, 0))
    {
    }
    shared_guard &operator=(shared_guard &&other) noexcept
    {
        shared_guard taken(std::move(other));
        std::swap(table_, taken.table_);
        std::swap(grant_, taken.grant_);
        return *this;
    }
    ~shared_guard() { release(); }

    explicit operator bool() const noexcept { return grant_ != 0; }
    std::uint64_t grant() const noexcept { return grant_; }
    /// Releases the lock. errc::not_held says that it had been revoked.
    void unlock()
    {
        held();
        detail::check(release());
    }
    void unlock(std::error_code &code) noexcept { code = detail::code_of(release()); }
    /// From exclusive to shared, without a moment in which another could have it exclusively.
    void downgrade() { detail::check(keylatch_shared_downgrade(held(), grant_)); }
    /// From shared to exclusive, if no other holds the lock or waits for it; returns whether it is.
    bool try_upgrade()
    {
        const std::int32_t status = keylatch_shared_try_upgrade(held(), grant_);
        if (status != KEYLATCH_OK && status != KEYLATCH_EUPGRADE)
            detail::fail(detail::code_of(status));
        return status == KEYLATCH_OK;
    }
    keylatch::mode mode() const { return static_cast<keylatch::mode>(info().mode); }
    /// Greater than the fence of every exclusive hold of the key before, in any process.
    std::uint64_t fence() const { return info().fence; }
    /// Whether a process died while it held the key exclusively, and none has held it exclusively since. What the lock
    /// protects may be half-written.
    bool previous_holder_died() const { return info().previous_holder_died != 0; }
    /// Whether the lock is held: not revoked, and the table is sound.
    bool is_valid() const noexcept
    {
        keylatch_shared_hold hold = KEYLATCH_SHARED_HOLD_INIT;
        return grant_ != 0 && keylatch_shared_hold_info(table_, grant_, &hold) == KEYLATCH_OK && hold.is_valid != 0;
    }

  private:
    keylatch_shared_table *held() const
    {
        if (grant_ == 0)
            detail::fail_empty("this guard holds no lock");
        return table_;
    }
    keylatch_shared_hold info() const
    {
        keylatch_shared_hold hold = KEYLATCH_SHARED_HOLD_INIT;
        detail::check(keylatch_shared_hold_info(held(), grant_, &hold));
        return hold;
    }
    std::int32_t release() noexcept
    {
        keylatch_shared_table *const table = std::exchange(table_, nullptr);
        const std::uint64_t grant = std::exchange(grant_, 0);
        return grant != 0 ? keylatch_shared_release(table, grant) : KEYLATCH_ENOTHELD;
    }

    keylatch_shared_table *table_ = nullptr;
    std::uint64_t grant_ = 0;
};

/// A hold of a process, as it was when it was listed.
struct shared_holder {
    std::string bucket, object;
    std::optional<std::string> version;
    std::uint32_t pid = 0;
    /// The process's name, and the label with which it opened the table.
    std::string program, label;
    /// What the request called itself.
    std::string owner;
    keylatch::mode mode = keylatch::mode::exclusive;
    std::chrono::nanoseconds held_for{0};
    /// Names the hold for shared_table::revoke().
    std::uint64_t hold = 0;
    std::uint32_t member = 0;
};

/// The settings of a shared table. Zeros are the defaults of keylatch_shared_options.
struct shared_options {
    /// What listings call this process.
    std::string_view label{};
    /// How long requests without a time of their own wait; zero for as long as it takes.
    std::chrono::nanoseconds default_timeout{0};
    std::uint32_t keys = 0, members = 0, holds = 0;
    /// Permissions of a new file.
    std::uint32_t mode = 0;
};

/// Locks between the processes of one machine, in a file that they map. What a process held that was killed is free as
/// soon as another process notices. The table outlives its guards; destroying it releases what it holds.
class shared_table {
  public:
    /// Creates the table, or attaches to it.
    explicit shared_table(const std::string &path, const shared_options &options = {})
    {
        if (options.default_timeout.count() < 0)
            detail::fail(errc::bad_setting, "a default_timeout of " + std::to_string(options.default_timeout.count()) +
                                                " ns is in the past: zero is for as long as it takes");
        keylatch_shared_options native = KEYLATCH_SHARED_OPTIONS_INIT;
        native.label = options.label.data();
        native.label_len = options.label.size();
        native.default_timeout_ns = detail::nanoseconds_of(options.default_timeout);
        native.keys = options.keys;
        native.members = options.members;
        native.holds = options.holds;
        native.mode = options.mode;
        detail::check(keylatch_shared_open(path.c_str(), &native, &handle_));
    }
    shared_table(shared_table &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    shared_table &operator=(shared_table &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~shared_table() { keylatch_shared_free(handle_); }
    keylatch_shared_table *native_handle() const noexcept { return handle_; }

    /// Waits to hold the key alone. `owner` is for listings and errors.
    shared_guard lock(const key &what, std::string_view owner = {})
    {
        return must(acquire(what, mode::exclusive, KEYLATCH_WAIT_DEFAULT, owner));
    }
    /// Waits to share the key.
    shared_guard lock_shared(const key &what, std::string_view owner = {})
    {
        return must(acquire(what, mode::shared, KEYLATCH_WAIT_DEFAULT, owner));
    }
    std::optional<shared_guard> try_lock(const key &what, std::string_view owner = {})
    {
        return may(acquire(what, mode::exclusive, 0, owner));
    }
    std::optional<shared_guard> try_lock_shared(const key &what, std::string_view owner = {})
    {
        return may(acquire(what, mode::shared, 0, owner));
    }
    template <class Rep, class Period>
    std::optional<shared_guard> try_lock_for(const key &what, std::chrono::duration<Rep, Period> timeout,
                                             std::string_view owner = {})
    {
        return may(acquire(what, mode::exclusive, detail::nanoseconds_of(timeout), owner));
    }
    template <class Rep, class Period>
    std::optional<shared_guard> try_lock_shared_for(const key &what, std::chrono::duration<Rep, Period> timeout,
                                                    std::string_view owner = {})
    {
        return may(acquire(what, mode::shared, detail::nanoseconds_of(timeout), owner));
    }

    /// All holds of all processes.
    std::vector<shared_holder> holders() const { return listed(nullptr); }
    /// The holds of one key.
    std::vector<shared_holder> holders(const key &what) const
    {
        const keylatch_key native = what.native();
        return listed(&native);
    }
    /// How many processes wait for the key at this moment.
    std::size_t waiting(const key &what) const
    {
        const keylatch_key native = what.native();
        std::size_t count = 0;
        detail::check(keylatch_shared_waiting(handle_, &native, &count));
        return count;
    }
    /// Takes a hold away from its process; returns whether it was held still.
    bool revoke(const shared_holder &holder)
    {
        const std::int32_t status = keylatch_shared_revoke(handle_, holder.hold, holder.member);
        if (status != KEYLATCH_OK && status != KEYLATCH_ENOTHELD)
            detail::fail(detail::code_of(status));
        return status == KEYLATCH_OK;
    }

  private:
    struct answer {
        std::int32_t status;
        shared_guard guard;
    };
    answer acquire(const key &what, keylatch::mode how, std::uint64_t timeout, std::string_view owner)
    {
        const keylatch_key native = what.native();
        keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
        options.owner_name = owner.data();
        options.owner_name_len = owner.size();
        std::uint64_t grant = 0;
        const auto number = static_cast<std::int32_t>(how);
        const std::int32_t status = timeout == 0
                                        ? keylatch_shared_try(handle_, &native, number, &options, &grant)
                                        : keylatch_shared_acquire(handle_, &native, number, timeout, &options, &grant);
        return {status, status == KEYLATCH_OK ? shared_guard(handle_, grant) : shared_guard()};
    }
    static shared_guard must(answer came)
    {
        detail::check(came.status);
        return std::move(came.guard);
    }
    static std::optional<shared_guard> may(answer came)
    {
        if (detail::is_refusal(came.status))
            return std::nullopt;
        return must(std::move(came));
    }
    static std::string text(const void *bytes, std::size_t length)
    {
        return length == 0 ? std::string() : std::string(static_cast<const char *>(bytes), length);
    }
    static std::int32_t note(void *found, const keylatch_shared_holder *from) noexcept
    {
        shared_holder holder;
        holder.bucket = text(from->key.bucket, from->key.bucket_len);
        holder.object = text(from->key.object, from->key.object_len);
        if (from->key.version != nullptr)
            holder.version = text(from->key.version, from->key.version_len);
        holder.pid = from->pid;
        holder.program = text(from->program, from->program_len);
        holder.label = text(from->label, from->label_len);
        holder.owner = text(from->owner, from->owner_len);
        holder.mode = static_cast<keylatch::mode>(from->mode);
        holder.held_for = detail::duration_of(from->held_ns);
        holder.hold = from->hold;
        holder.member = from->member;
        static_cast<std::vector<shared_holder> *>(found)->push_back(std::move(holder));
        return 0;
    }
    std::vector<shared_holder> listed(const keylatch_key *what) const
    {
        std::vector<shared_holder> found;
        detail::check(keylatch_shared_holders(handle_, what, note, &found));
        return found;
    }

    keylatch_shared_table *handle_ = nullptr;
};

} // namespace keylatch

#endif /* KEYLATCH_SHARED_HPP */
