//go:build !keylatch_etcd

package keylatch

import (
	"strings"
	"testing"
)

func TestEtcdWithoutTheTag(t *testing.T) {
	_, err := New(Options{Etcd: "127.0.0.1:1"})
	wants(t, err, ErrInvalidConfig)
	if !strings.Contains(err.Error(), "-tags keylatch_etcd") {
		t.Fatal(err)
	}
}
