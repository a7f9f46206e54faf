//go:build !linux

package remote

import "time"

// now is the time since the program began.
func now() time.Duration { return time.Since(began) }

var began = time.Now()
