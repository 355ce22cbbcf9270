package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// certificate returns a certificate and its key as PEM.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(365 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, &tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder})
}

// A renewed certificate is a changed configuration: its files are watched, and
// what they hold reaches the backend.
func TestCertificatesAreRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json5")
	cert, key := certificate(t)
	_, other := certificate(t)
	for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": key, "other.pem": other, "config.json5": []byte(`{
		models: {providers: {local: {baseUrl: 'https://127.0.0.1:1/v1', request: {tls: {ca: 'cert.pem', cert: 'cert.pem', key: 'key.pem'}}}}},
		proxy: {tls: {cert: 'cert.pem', key: 'key.pem'}}}`)} {
		write(t, filepath.Join(dir, name), string(text))
	}
	read := func() *Config {
		t.Helper()
		c, problems := Load(path, Options{LookupEnv: testEnv})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return c
	}
	c := read()
	if c.Certificate == nil || c.backend(t, "local").TLS.CA != string(cert) {
		t.Errorf("certificate %v, ca %q", c.Certificate, c.backend(t, "local").TLS.CA)
	}
	for _, name := range []string{"cert.pem", "key.pem"} {
		if !slices.Contains(c.Files, filepath.Join(dir, name)) {
			t.Errorf("%s is not watched: %v", name, c.Files)
		}
	}
	if c.Stale() {
		t.Error("stale as soon as it was read")
	}
	cert, key = certificate(t)
	write(t, filepath.Join(dir, "cert.pem"), string(cert))
	write(t, filepath.Join(dir, "key.pem"), string(key))
	if !c.Stale() {
		t.Error("another certificate is not noticed")
	}
	if again := read(); again.Digest == c.Digest {
		t.Error("another certificate, the same digest")
	}

	// A key that is another's.
	write(t, filepath.Join(dir, "key.pem"), string(other))
	_, problems := Load(path, Options{LookupEnv: testEnv})
	got := strings.ReplaceAll(problems.String(), path, "c")
	for _, want := range []string{"c:2:82: models.providers.local.request.tls: ", "c:3:16: proxy.tls: cert and key cannot be used: "} {
		if !strings.Contains(got, want) {
			t.Errorf("a key of another certificate: no %q in\n%s", want, got)
		}
	}
	if err := os.Remove(filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	c, problems = Load(path, Options{LookupEnv: testEnv})
	if n := len(problems.Errors()); n != 2 || !slices.Contains(c.Files, filepath.Join(dir, "key.pem")) {
		t.Errorf("a key that is gone: %d problems, watched %v", n, fmt.Sprint(c.Files))
	}
}

// A certificate that ends makes every client fail at once, on a day that nobody
// has in mind.
func TestCertificatesThatEndAreTold(t *testing.T) {
	f := func(left time.Duration, want string) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(left)}
		der, err := x509.CreateCertificate(rand.Reader, &tmpl, &tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		kder, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{"config.json5": []byte(`{proxy: {tls: {cert: "cert.pem", key: "key.pem"}}}`),
			"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder})}
		_, problems := Load("config.json5", Options{LookupEnv: testEnv, Home: "/home/someone", ReadFile: func(path string, _ int) ([]byte, error) {
			if text, ok := files[path]; ok {
				return text, nil
			}
			return nil, os.ErrNotExist
		}})
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		if text := strings.Join(got, "\n"); want == "" && text != "" || !strings.Contains(text, want) || len(problems.Errors()) > 0 {
			t.Errorf("%v left\n got %s\nwant %q", left, text, want)
		}
	}
	f(expiresSoon+time.Hour, "")
	f(expiresSoon-time.Hour, "the certificate expires on")
	f(-time.Hour, "the certificate has expired on")
}
