package remote

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// identity is a certificate and its key.
type identity struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// issued is a certificate signed by another, or by itself: then it may sign others.
func issued(t *testing.T, name string, by *identity) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: by == nil,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signer := by
	if signer == nil {
		signer = &identity{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.certificate, &key.PublicKey, signer.key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return &identity{certificate, key}
}

// files are the identity's certificate and key as PEM.
func (i *identity) files(t *testing.T, folder string) (certificate, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	must(t, err)
	certificate = filepath.Join(folder, i.certificate.Subject.CommonName+".pem")
	key = certificate + ".key"
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: i.certificate.Raw}, key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	return certificate, key
}

// settings trust an issuer, and show a certificate if there is one.
func settings(issuer, shown *identity) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(issuer.certificate)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if shown != nil {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{shown.certificate.Raw}, PrivateKey: shown.key}}
	}
	return config
}

func TestTLSAndClientCertificates(t *testing.T) {
	folder := t.TempDir()
	issuer, stranger := issued(t, "issuer", nil), issued(t, "stranger", nil)
	certificate, key := issued(t, "server", issuer).files(t, folder)
	roots, _ := issuer.files(t, folder)
	s := serve(t, "--tls-certificate", certificate, "--tls-key", key, "--tls-client-roots", roots)
	url := strings.Replace(s.url, "http:", "https:", 1)
	connect := func(config *tls.Config) *Client {
		client, err := New(Options{Server: url, TLS: config, Owner: "client"})
		must(t, err)
		t.Cleanup(func() { client.Close() })
		return client
	}
	client := connect(settings(issuer, issued(t, "client", issuer)))
	guard := taken(t, client, cat)
	other := connect(settings(issuer, issued(t, "other", issuer)))
	if _, err := other.TryLock(limited(t, patience), cat); !errors.Is(err, ErrLocked) {
		t.Errorf("%v came to another certificate", err)
	}
	must(t, guard.Unlock())
	for what, config := range map[string]*tls.Config{
		"no certificate":              settings(issuer, nil),
		"a certificate of a stranger": settings(issuer, issued(t, "impostor", stranger)),
		"a server that is a stranger": settings(stranger, issued(t, "client", issuer)),
	} {
		if _, err := connect(config).TryLock(limited(t, time.Second), cat); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%v came of %s", err, what)
		}
	}
}
