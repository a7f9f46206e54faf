package prometheus_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.org/keylatch"
	"example.org/keylatch/prometheus"
)

func TestHandlerServesTheFigures(t *testing.T) {
	locks, err := keylatch.New(keylatch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	guard, err := locks.TryLock(keylatch.Key{Bucket: "photos", Object: "cat.jpg"})
	if err != nil {
		t.Fatal(err)
	}
	handler := prometheus.Handler(locks)
	ask := func() *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return answer
	}
	answer := ask()
	if answer.Code != http.StatusOK || answer.Header().Get("Content-Type") != keylatch.OpenMetricsType {
		t.Fatalf("%d %v", answer.Code, answer.Header())
	}
	if text := answer.Body.String(); !strings.Contains(text, "keylatch_") || !strings.HasSuffix(text, "# EOF\n") {
		t.Fatal(text)
	}
	locks.Close()
	if err := guard.Unlock(); err != nil {
		t.Fatal(err)
	}
	if answer := ask(); answer.Code != http.StatusServiceUnavailable {
		t.Fatalf("a closed manager: %d", answer.Code)
	}
}
