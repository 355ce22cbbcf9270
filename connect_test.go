package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What connect prints is what a client is run with here, unmodified: a setting
// that a client does not read, or reads otherwise, is found by the client.

// connected is a client that was pointed at a proxy.
type connected struct {
	text string   // what goes to the client's file, or is the program
	env  []string // what connect says is to be exported, with the key
}

// connect runs "nearside connect" for a running proxy.
func connect(t *testing.T, p *running, client string, args ...string) connected {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"connect", client, "--config", p.config, "--url", p.base}, args...)...)
	cmd.Env = append(cleanEnv(), "GORACE=atexit_sleep_ms=20")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("connect %s: %v\n%s", client, err, errs.String())
	}
	c := connected{text: out.String()}
	for _, m := range regexp.MustCompile(`export ([A-Z_]+)=(\S+)`).FindAllStringSubmatch(errs.String(), -1) {
		if value := m[2]; value != "…" {
			c.env = append(c.env, m[1]+"="+value)
		}
	}
	c.env = append(c.env, "NEARSIDE_API_KEY="+clientKey)
	return c
}

// rig is a proxy that clients connect to.
type connectRig struct {
	name    string
	proxy   *running
	backend *backend
}

// connectRigs are a proxy that is open on loopback, and one behind TLS of its own
// authority where clients have keys.
func connectRigs(t *testing.T, steps ...step) []connectRig {
	t.Helper()
	open := newBackend(t, steps...)
	locked := newBackend(t, steps...)
	cert, key := authorityFiles(t)
	near := func(b *backend) string {
		return fmt.Sprintf(`near: {baseUrl: %q, models: [{id: "m", contextWindow: 100000, maxTokens: 4000}, {id: "org/other.7b", contextWindow: 32768, input: ["text", "image"]}]}`, b.url)
	}
	return []connectRig{
		{"open", start(t, configOf(`answerModel: "requested"`, near(open))), open},
		{"TLS and a key", start(t, configOf(fmt.Sprintf(`tls: {cert: %q, key: %q}, keys: {laptop: {sha256: %q}}`, cert, key, hexSum(clientKey)), near(locked))), locked},
	}
}

// authorityFiles writes a certificate for 127.0.0.1 with its key, and beside it
// the authority that it is of: clients in Rust take none that is its own.
func authorityFiles(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	made := func(tmpl, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) []byte {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	file("ca.pem", "CERTIFICATE", made(ca, ca, &caKey.PublicKey, caKey))
	cert = file("cert.pem", "CERTIFICATE", made(leaf, ca, &leafKey.PublicKey, caKey))
	der, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return cert, file("key.pem", "EC PRIVATE KEY", der)
}

func TestConnectSettingsWorkWithCurlAndGo(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("this test wants curl (Debian: apt-get install curl)")
	}
	for _, rig := range connectRigs(t, chat("Hel", "lo.")) {
		t.Run(rig.name+", curl", func(t *testing.T) {
			c := connect(t, rig.proxy, "curl")
			cmd := exec.Command("sh", "-c", c.text)
			cmd.Env = append(cleanEnv(), c.env...)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), `"content":"Hello."`) {
				t.Fatalf("%v\n%s\n%s", err, c.text, out)
			}
			rig.backend.next()
		})
		t.Run(rig.name+", Go", func(t *testing.T) {
			c := connect(t, rig.proxy, "sdk-go", "--model", "near/org/other.7b")
			program := filepath.Join(t.TempDir(), "hello.go")
			if err := os.WriteFile(program, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("gofmt", "-l", program).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("gofmt (%v): %s\n%s", err, out, c.text)
			}
			cmd := exec.Command("go", "run", program)
			cmd.Env = append(cleanEnv(), c.env...)
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != "Hello.\n" {
				t.Fatalf("%v\n%s\n%s", err, c.text, out)
			}
			if body := string(rig.backend.next().body); !strings.Contains(body, `"org/other.7b"`) {
				t.Errorf("the backend got %s", body)
			}
		})
		t.Run(rig.name+", Python", func(t *testing.T) {
			// The package is not to be had here; that the program is one is.
			c := connect(t, rig.proxy, "sdk-python")
			cmd := exec.Command("python3", "-c", "import ast, sys; ast.parse(sys.stdin.read())")
			cmd.Stdin = strings.NewReader(c.text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, c.text, out)
			}
		})
	}
}
