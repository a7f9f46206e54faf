package keylatch

import (
	"context"
	"errors"
	"time"
)

// Grant is a lock that is held, as a number that is never 0. No number is used twice.
type Grant uint64

// noCopy has go vet report copies: one that outlives what it was copied from would look like a leak.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// Guard is a lock that is held. It may be handed to other goroutines; Any of them may end it, once, with Unlock. The
// zero Guard and a nil one hold nothing: [ErrNotHeld] is their answer to everything.
//
// A guard that becomes garbage while it is held is a bug of the program, which [Options.OnLeak] reports: not
// immediately, and not while one of those made beside it is reachable, which are up to 31.
type Guard struct {
	_       noCopy
	manager *Manager
	grant   Grant
	// unlocked is written by the one call of Unlock that succeeds, and read when the guard is garbage.
	unlocked bool
}

// Unlock ends the hold. It fails with [ErrNotHeld] if it ended before, and with [ErrLeaseLost] if its lease ran out and
// the lock was taken away; in either case no other hold is touched, so it is fine to defer it, and to look at the
// error only where that matters.
func (g *Guard) Unlock() error {
	if err := g.of().Release(g.Grant()); err != nil {
		return err
	}
	g.unlocked = true
	return nil
}

// of is the manager of a guard.
func (g *Guard) of() *Manager {
	if g == nil {
		return none
	}
	return orNone(g.manager)
}

// orNone is a manager, and in place of none one that is closed and has no locks.
func orNone(m *Manager) *Manager {
	if m == nil {
		return none
	}
	return m
}

var none = func() *Manager {
	m := new(Manager)
	m.closed.Store(true)
	m.freed.Store(true)
	return m
}()

// Grant is the number of the hold, for listings and for [Manager.Release]. It is 0 if there is none.
func (g *Guard) Grant() Grant {
	if g == nil {
		return 0
	}
	return g.grant
}

// Key tells what is held.
func (g *Guard) Key() (Key, error) { return g.of().Key(g.Grant()) }

// Mode tells how it is held now.
func (g *Guard) Mode() (Mode, error) { return g.of().Mode(g.Grant()) }

// Fence is the number of an exclusive hold: greater than that of every exclusive hold of the same key before it, so that
// a store can refuse a writer whose number is lower than one it has seen. Of a shared hold it is the number of the
// latest exclusive one.
func (g *Guard) Fence() (uint64, error) { return g.of().Fence(g.Grant()) }

// PreviousHolderDied says whether another process died while it had the key exclusively: what the key protects may be half
// written. The first holder after the death is informed. With [Options.SharedMemory]; otherwise false.
func (g *Guard) PreviousHolderDied() (bool, error) { return g.of().PreviousHolderDied(g.Grant()) }

// Downgrade goes from exclusive to shared, with no moment in between in which anybody else could have it exclusively. It
// does nothing to a shared hold, nor to one of several that a session has of the lock ([Count]).
func (g *Guard) Downgrade() error { return g.of().Downgrade(g.Grant()) }

// TryUpgrade goes from shared to exclusive if there is no other holder now, and fails with [ErrWouldBlock] if there
// is. After an error the hold is as it was.
func (g *Guard) TryUpgrade() error { return g.of().TryUpgrade(g.Grant()) }

// Upgrade goes from shared to exclusive as soon as the other readers are gone, ahead of all others who wait. It fails
// with [ErrUpgradeConflict] without waiting if another reader already waits to upgrade: neither could go first. After
// an error the hold is shared as before. Of options only timeouts say something to it; the owner is that of the hold.
func (g *Guard) Upgrade(ctx context.Context, options ...Option) error {
	return g.of().Upgrade(ctx, g.Grant(), options...)
}

// Renew begins the lease anew, to last ttl from now; or begins one for a hold that had none.
func (g *Guard) Renew(ttl time.Duration) error { return g.of().Renew(g.Grant(), ttl) }

// Remaining tells how long the hold is safe from now on: 0 once its lease has run out, although it stays held until
// another caller takes the lock away. leased is false for a hold without a lease, which never runs out.
func (g *Guard) Remaining() (left time.Duration, leased bool, err error) {
	return g.of().Remaining(g.Grant())
}

// Valid tells whether it is held and, if it is a lease, safe at this moment.
func (g *Guard) Valid() bool { return g.of().Valid(g.Grant()) }

// The same by grant.

// Key tells what a grant holds.
func (m *Manager) Key(grant Grant) (Key, error) {
	if m.freed.Load() {
		return Key{}, ErrNotHeld
	}
	return m.keyOf(grant)
}

// Mode tells how a grant is held now.
func (m *Manager) Mode(grant Grant) (Mode, error) {
	if m.freed.Load() {
		return 0, ErrNotHeld
	}
	return m.modeOf(grant)
}

// Fence is as [Guard.Fence].
func (m *Manager) Fence(grant Grant) (uint64, error) {
	if m.freed.Load() {
		return 0, ErrNotHeld
	}
	return m.fence(grant)
}

// PreviousHolderDied is as [Guard.PreviousHolderDied].
func (m *Manager) PreviousHolderDied(grant Grant) (bool, error) {
	if m.freed.Load() {
		return false, ErrNotHeld
	}
	return m.previousHolderDied(grant)
}

// IsCurrent tells whether the exclusive hold with this fence number still has the key: what a store asks before it lets a
// late write through.
func (m *Manager) IsCurrent(key Key, fence uint64) (bool, error) {
	if m.freed.Load() {
		return false, ErrClosed
	}
	return m.isCurrent(&key, fence)
}

// Downgrade is as [Guard.Downgrade].
func (m *Manager) Downgrade(grant Grant) error {
	if m.freed.Load() {
		return ErrNotHeld
	}
	m.raceBeforeRelease(grant)
	if err := m.downgrade(grant); err != nil {
		return err
	}
	if m.parked.Load() != 0 {
		m.deliver()
	}
	return nil
}

// TryUpgrade is as [Guard.TryUpgrade].
func (m *Manager) TryUpgrade(grant Grant) error {
	if m.freed.Load() {
		return ErrNotHeld
	}
	if err := m.tryUpgrade(grant); err != nil {
		return err
	}
	m.raceAfterUpgrade(grant)
	return nil
}

// Upgrade is as [Guard.Upgrade].
func (m *Manager) Upgrade(ctx context.Context, grant Grant, options ...Option) error {
	if m.freed.Load() {
		return ErrNotHeld
	}
	if err := ended(ctx); err != nil {
		return err
	}
	if m.closed.Load() {
		return ErrClosed
	}
	r := read(options)
	if _, err := r.by(upgrade); err != nil {
		return err
	}
	gated := m.enter()
	came := m.upgrade(grant, r.timeout)
	m.leave(gated)
	if came.ticket != 0 {
		came = m.await(ctx, came.ticket, m.downgrade)
	}
	if came.err != nil {
		return came.err
	}
	m.raceAfterUpgrade(grant)
	return nil
}

// Renew is as [Guard.Renew].
func (m *Manager) Renew(grant Grant, ttl time.Duration) error {
	if m.freed.Load() {
		return ErrNotHeld
	}
	return m.renew(grant, ttl)
}

// Remaining is as [Guard.Remaining].
func (m *Manager) Remaining(grant Grant) (left time.Duration, leased bool, err error) {
	if m.freed.Load() {
		return 0, false, ErrNotHeld
	}
	number, err := m.remaining(grant)
	return duration(number), err == nil && number != never, err
}

// Valid is as [Guard.Valid].
func (m *Manager) Valid(grant Grant) bool { return !m.freed.Load() && m.isValid(grant) }

// Is reports whether err has the code.
func Is(err error, code Code) bool { return errors.Is(err, code) }
