package keylatch

import (
	"context"
	"log/slog"
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

// attributes are about, whom it happened to, and others, as texts.
func (e Event) attributes() []slog.Attr {
	if len(e.About) == 0 {
		return nil
	}
	attributes := []slog.Attr{slog.Any("about", e.About[0])}
	if len(e.About) > 1 {
		others := make([]string, 0, len(e.About)-1)
		for _, party := range e.About[1:] {
			others = append(others, party.String())
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

// LogValue has whom an event is about logged in attributes.
func (p Party) LogValue() slog.Value {
	attributes := []slog.Attr{
		slog.String("role", p.Role.String()), slog.String("key", p.Key.String()), slog.String("mode", p.Mode.String()),
		slog.String("owner", p.Owner), slog.Duration("for", p.For),
	}
	if p.Source != "" {
		attributes = append(attributes, slog.String("source", p.Source))
	}
	if p.Grant != 0 {
		attributes = append(attributes, slog.Uint64("grant", uint64(p.Grant)))
	}
	if p.HasLease {
		attributes = append(attributes, slog.Duration("lease", p.Lease))
	}
	return slog.GroupValue(attributes...)
}
