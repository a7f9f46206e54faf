package keylatch

import (
	"context"
	"log/slog"
	"time"
)

// LogEvents logs what happens to the manager from now on until ctx ends or the manager is closed, and then returns. Waits and
// holds that took long are logged as information, deadlocks as errors, and the rest as warnings.
//
//	go locks.LogEvents(ctx, slog.Default(), keylatch.EventOptions{WaitAbove: time.Second})
func (m *Manager) LogEvents(ctx context.Context, logger *slog.Logger, options EventOptions) error {
	events, err := m.Events(ctx, options)
	if err != nil {
		return err
	}
	var dropped uint64
	for event := range events {
		logger.LogAttrs(ctx, event.level(), event.Kind.String(), event.attributes()...)
		if event.Dropped > dropped {
			logger.LogAttrs(ctx, slog.LevelWarn, "events were dropped", slog.Uint64("events", event.Dropped-dropped))
			dropped = event.Dropped
		}
	}
	return nil
}

// attributes are "about", the first that the event is about, and "others", the rest as texts.
func (e Event) attributes() []slog.Attr {
	about := e.about()
	if len(about) == 0 {
		return nil
	}
	attributes := []slog.Attr{slog.Any("about", about[0])}
	if len(about) > 1 {
		others := make([]string, 0, len(about)-1)
		for _, other := range about[1:] {
			others = append(others, other.String())
		}
		attributes = append(attributes, slog.Any("others", others))
	}
	return attributes
}

func (e Event) level() slog.Level {
	switch e.Kind {
	case SlowWait, SlowHold:
		return slog.LevelInfo
	case Deadlocked:
		return slog.LevelError
	}
	return slog.LevelWarn
}

// LogValue has a key logged as a text.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// logged has the attributes of an owner and its key.
func logged(role Role, key Key, mode Mode, owner, source string, took time.Duration) []slog.Attr {
	attributes := []slog.Attr{
		slog.String("role", role.String()), slog.String("key", key.String()), slog.String("mode", mode.String()),
		slog.String("owner", owner), slog.Duration("for", took),
	}
	if source != "" {
		attributes = append(attributes, slog.String("source", source))
	}
	return attributes
}

// LogValue has a holder logged in attributes.
func (h Holder) LogValue() slog.Value {
	attributes := logged(Holds, h.Key, h.Mode, h.Owner, h.Source, h.For)
	if h.Grant != 0 {
		attributes = append(attributes, slog.Uint64("grant", uint64(h.Grant)))
	}
	if h.HasLease {
		attributes = append(attributes, slog.Duration("lease", h.Lease))
	}
	return slog.GroupValue(attributes...)
}

// LogValue has a waiter logged in attributes.
func (w Waiter) LogValue() slog.Value {
	return slog.GroupValue(logged(Waits, w.Key, w.Mode, w.Owner, w.Source, w.For)...)
}

// LogValue has a link logged in attributes.
func (l ChainLink) LogValue() slog.Value {
	return slog.GroupValue(logged(l.Role, l.Key, l.Mode, l.Owner, l.Source, l.For)...)
}
