// Package prometheus serves the figures of a lock manager to Prometheus, and to whatever else reads OpenMetrics, without
// depending on its client library.
package prometheus

import (
	"net/http"

	"example.org/keylatch"
)

// Handler serves the figures as they are when it is asked.
//
//	http.Handle("GET /metrics", prometheus.Handler(locks))
func Handler(locks *keylatch.Manager) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text, err := locks.OpenMetrics()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", keylatch.OpenMetricsType)
		// A client that went away meanwhile needs no answer.
		_, _ = w.Write([]byte(text))
	})
}
