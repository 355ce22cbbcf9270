package upstream

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

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// sign returns a certificate and its key as PEM texts.
func (a *authority) sign(t *testing.T, notAfter time.Time, names ...string) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kd}))
}

// handshake runs one between the two configurations and returns the client's
// view of it.
func handshake(t *testing.T, client, server *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		if s.Handshake() == nil {
			s.Write([]byte("."))
		}
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { raw.Close(); <-done }()
	c := tls.Client(raw, client)
	if err := c.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	// With TLS 1.3 a refused client certificate shows in the first read.
	_, err = c.Read(make([]byte, 1))
	return c.ConnectionState(), err
}

func TestTLSConfigVerifiesTheHost(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	pair := func(a *authority, notAfter time.Time, names ...string) *tls.Config {
		cert, key := a.sign(t, notAfter, names...)
		p, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{p}, NextProtos: []string{"h2", "http/1.1"}}
	}
	soon := time.Now().Add(time.Hour)
	f := func(name string, host string, set TLS, server *tls.Config, want string) {
		t.Helper()
		cfg, err := set.Config(host)
		if err != nil {
			t.Fatal(err)
		}
		state, err := handshake(t, cfg, server)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: got %v, want a connection", name, err)
		case want == "" && (state.NegotiatedProtocol != "http/1.1" || state.Version < tls.VersionTLS12):
			t.Errorf("%s: got protocol %q and version %x", name, state.NegotiatedProtocol, state.Version)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want an error with %q", name, err, want)
		}
	}
	good := pair(ca, soon, "box.lan", "127.0.0.1", "::1")
	f("own authority", "box.lan", TLS{CA: ca.pem}, good, "")
	f("trailing dot", "box.lan.", TLS{CA: ca.pem}, good, "")
	f("address", "127.0.0.1", TLS{CA: ca.pem}, good, "")
	f("IPv6 address", "[::1]", TLS{CA: ca.pem}, good, "")
	f("server name", "10.0.0.1", TLS{CA: ca.pem, ServerName: "box.lan"}, good, "")
	f("system authorities", "box.lan", TLS{}, good, "unknown authority")
	f("other authority", "box.lan", TLS{CA: other.pem}, good, "unknown authority")
	f("wrong name", "evil.lan", TLS{CA: ca.pem}, good, "not evil.lan")
	f("expired", "box.lan", TLS{CA: ca.pem}, pair(ca, time.Now().Add(-time.Hour), "box.lan"), "expired")
	old := pair(ca, soon, "box.lan")
	old.MaxVersion = tls.VersionTLS11
	f("TLS 1.1", "box.lan", TLS{CA: ca.pem}, old, "protocol version")
}

func TestTLSConfigSendsTheClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.sign(t, time.Now().Add(time.Hour), "box.lan")
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	server := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, set := range map[string]TLS{
		"texts": {CA: ca.pem, Cert: cert, Key: key},
		"files": {CA: file("ca.pem", ca.pem), Cert: file("cert.pem", cert), Key: "file:" + file("key.pem", key)},
	} {
		cfg, err := set.Config("box.lan")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := handshake(t, cfg, server); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg, err := TLS{CA: ca.pem}.Config("box.lan")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(t, cfg, server); err == nil {
		t.Error("the server took a connection without a client certificate")
	}
}

// testdata/tls was made with openssl 3.0: pkcs8.pem is its default form
// (PBES2), traditional.pem the older one; the passphrase is "correct".
func TestTLSConfigOpensEncryptedKeys(t *testing.T) {
	for _, name := range []string{"testdata/tls/pkcs8.pem", "testdata/tls/traditional.pem"} {
		set := TLS{Cert: "testdata/tls/cert.pem", Key: name, Passphrase: NewSecret("correct")}
		if cfg, err := set.Config("box.lan"); err != nil || len(cfg.Certificates) != 1 {
			t.Errorf("%s: %v", name, err)
		}
		set.Passphrase = NewSecret("wrong-horse")
		if _, err := set.Config("box.lan"); err == nil || strings.Contains(err.Error(), "wrong-horse") {
			t.Errorf("%s with a wrong passphrase: got %v", name, err)
		}
		set.Passphrase = Secret{}
		if _, err := set.Config("box.lan"); err == nil || !strings.Contains(err.Error(), "request.tls.passphrase") {
			t.Errorf("%s without a passphrase: got %v, want the setting named", name, err)
		}
	}
}

func TestTLSConfigErrorsNameTheSettingAndNoKey(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.sign(t, time.Now().Add(time.Hour), "box.lan")
	_, otherKey := ca.sign(t, time.Now().Add(time.Hour), "box.lan")
	const pasted = "MHcCAQEEIOnePastedKeyWithoutItsFirstLine"
	big := filepath.Join(t.TempDir(), "big.pem")
	if err := os.WriteFile(big, make([]byte, tlsFileBytesMax+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(set TLS, want string) {
		t.Helper()
		_, err := set.Config("box.lan")
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "PRIVATE") || strings.Contains(err.Error(), pasted) {
			t.Fatalf("got %v, want an error that begins with %s and shows no key", err, want)
		}
	}
	f(TLS{CA: "/nonexistent/ca.pem"}, "request.tls.ca")
	f(TLS{CA: key}, "request.tls.ca")
	f(TLS{CA: big}, "request.tls.ca")
	f(TLS{Key: key}, "request.tls.cert")
	f(TLS{Cert: cert}, "request.tls.key")
	f(TLS{Cert: cert, Key: pasted}, "request.tls.key")
	f(TLS{Cert: cert, Key: "-----BEGIN PRIVATE KEY-----\nAAAA"}, "request.tls.key")
	f(TLS{Cert: cert, Key: otherKey}, "request.tls.cert and request.tls.key")
	if _, err := (TLS{CA: "/nonexistent/ca.pem"}).Config("h"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v, want the file named as missing", err)
	}
}

func FuzzEncryptedKey(f *testing.F) {
	text, err := os.ReadFile("testdata/tls/pkcs8.pem")
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(text)
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		if plain, err := openPKCS8(der, NewSecret("correct"), 4096); err == nil && len(plain) == 0 {
			t.Fatal("an empty key was opened")
		}
	})
}
