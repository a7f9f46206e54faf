package keylatch

import "time"

// Metrics are the figures of a manager, or of one shard of it. Those that count only grow.
type Metrics struct {
	// Acquisitions are locks taken: Fast with one compare-and-swap, Inserted under the mutex of the shard, Slow
	// after a wait.
	Acquisitions, Fast, Inserted, Slow uint64
	Releases                           uint64
	// Waits are requests that had to wait in line. Timeouts and Cancelled are waits that ended without the lock.
	Waits, Timeouts, Cancelled uint64
	// Deadlocks are those that were found and broken.
	Deadlocks uint64
	// Refused are attempts without waiting that found the lock held.
	Refused uint64
	// Waited is the time waited altogether, LongestWait the longest, of requests whose wait is over.
	Waited, LongestWait time.Duration
	// Bounds below which that percentage of the waits stayed.
	WaitP50, WaitP90, WaitP99 time.Duration
	// Now: locks held, each reader counted; requests that wait; keys in the table, a few idle ones included.
	Holders, Waiters, Entries uint64
	// Of the whole manager: memory that it uses, and how long it has existed.
	Bytes  uint64
	Uptime time.Duration
}

// WaitBucket is how many waits were about equally long.
type WaitBucket struct {
	// Below is what they stayed below, and not below that of the bucket before; the largest duration for the last one,
	// which has no bound.
	Below time.Duration
	Waits uint64
}

// WaitTimes tells how long the waits of all shards together were: how many there were of each of a fixed row of lengths,
// the shortest first.
func (m *Manager) WaitTimes() ([]WaitBucket, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	return m.waitTimes(allShards)
}

// Health is how a manager has been doing in the last minute.
type Health struct {
	// Healthy is true if more than 80 % of locks were had without a wait, fewer than 5 % of requests timed out, and waits
	// were shorter than 10 ms on average. A manager that did nothing is healthy.
	Healthy bool
	// Problems has a line for each thing that is wrong.
	Problems []string
	// FastPathRate is the share of locks that were had without a wait, TimeoutRate that of requests that timed out, 0 to 1.
	FastPathRate, TimeoutRate float64
	AverageWait               time.Duration
}

const allShards = 1<<32 - 1

// Metrics tells the figures of all shards together. Counting costs the locks nothing; reading takes the mutex of each
// shard for a moment.
func (m *Manager) Metrics() (Metrics, error) { return m.ShardMetrics(allShards) }

// ShardMetrics tells the figures of one shard.
func (m *Manager) ShardMetrics(shard uint32) (Metrics, error) {
	if m.freed.Load() {
		return Metrics{}, ErrClosed
	}
	return m.figures(shard)
}

// Health tells whether the manager has been doing well of late, and what is wrong if it has not: in the last minute, or
// in [Options].HealthWindow.
func (m *Manager) Health() (Health, error) {
	if m.freed.Load() {
		return Health{}, ErrClosed
	}
	return m.verdict()
}

// OpenMetricsType is the content type of what [Manager.OpenMetrics] tells.
const OpenMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// OpenMetrics tells the figures as text that monitoring systems read, to be served as [OpenMetricsType].
func (m *Manager) OpenMetrics() (string, error) {
	if m.freed.Load() {
		return "", ErrClosed
	}
	return m.openMetrics(false)
}

// OpenMetricsWithKeys tells the figures as [Manager.OpenMetrics] does, and the keys that most requests wait for, ten at
// most. Each of these keys is a label, and so a time series of its own in the monitoring system.
func (m *Manager) OpenMetricsWithKeys() (string, error) {
	if m.freed.Load() {
		return "", ErrClosed
	}
	return m.openMetrics(true)
}

// Report tells the figures as a report for people.
func (m *Manager) Report() (string, error) {
	if m.freed.Load() {
		return "", ErrClosed
	}
	return m.report()
}

// Adaptive is what a manager has learned about how long waits take.
type Adaptive struct {
	// Timeout is how long a request waits now that names none.
	Timeout time.Duration
	// Quantile is what the given share of the latest waits stayed below; 0 before 32 of them were observed.
	Quantile time.Duration
	// Samples are waits that were learned from, Timeouts those of them that ended because their time was over.
	Samples, Timeouts uint64
	// Floor and Ceiling are the shortest and the longest that the timeout may be, and how often each served in place of
	// what was learned.
	Floor, Ceiling               time.Duration
	TimesAtFloor, TimesAtCeiling uint64
}

// Adaptive tells what the manager has learned; learning is false if it was made without [Options.Adaptive].
func (m *Manager) Adaptive() (learned Adaptive, learning bool, err error) {
	if m.freed.Load() {
		return Adaptive{}, false, ErrClosed
	}
	return m.adaptive()
}
