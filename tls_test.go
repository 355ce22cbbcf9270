package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tlsCommand runs "nearside tls" with a data folder.
func tlsCommand(t *testing.T, data string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"tls"}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(cleanEnv(), "NEARSIDE_DATA="+data, "GORACE=atexit_sleep_ms=20")
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s: %q", path, text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// trusting is a client that trusts what the file holds and nothing else.
func trusting(t *testing.T, ca string, pairs ...tls.Certificate) *http.Client {
	t.Helper()
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s holds no certificate", ca)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: pairs}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// A client that trusts the authority verifies the proxy by the addresses and the
// names that it has, before and after a renewal, and a stream that runs across it
// is not cut.
func TestOwnAuthority(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dir := filepath.Join(data, "tls")
	out, code := tlsCommand(t, data, "init", "--host", "llm.example.com")
	if code != 0 || !strings.Contains(out, "NODE_EXTRA_CA_CERTS") || !strings.Contains(out, "llm.example.com") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is for others, too: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, first := readCertificate(t, file("ca.pem")), readCertificate(t, file("cert.pem"))
	if !ca.IsCA || !ca.MaxPathLenZero || !ca.PermittedDNSDomainsCritical || first.IsCA || first.VerifyHostname("llm.example.com") != nil || first.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("authority %+v\ncertificate %+v", ca, first)
	}

	more := make(chan struct{})
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if strings.Contains(string(a.body), "long") {
			io.WriteString(c, sseHead+chunked(chatRole, said("some ")))
			<-more
			io.WriteString(c, chunked(said("words"), chunk(`{}`, "stop"), chatDone)+lastChunk)
			return true
		}
		return chat("ok")(b, c, a)
	})
	settings := fmt.Sprintf(`tls: {cert: %q, key: %q}`, file("cert.pem"), file("key.pem"))
	p := start(t, configOf(settings, provider("near", b.url, "openai-completions")))
	_, port, _ := strings.Cut(p.addr, ":")
	c := trusting(t, file("ca.pem"))
	serial := func() string {
		c := trusting(t, file("ca.pem"))
		resp, err := c.Get("https://localhost:" + port + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 || resp.TLS.Version < tls.VersionTLS12 {
			t.Errorf("%d over %x", resp.StatusCode, resp.TLS.Version)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	if serial() != first.SerialNumber.String() {
		t.Error("another certificate is served")
	}
	resp, err := c.Post("https://127.0.0.1:"+port+"/v1/chat/completions", jsonMedia, strings.NewReader(`{"stream":true,"messages":[{"role":"user","content":"long"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b.next()
	if out, code := tlsCommand(t, data, "init", "--host", "llm.example.com"); code != 0 || !strings.Contains(out, "that was there") {
		t.Fatalf("renewal: exit %d\n%s", code, out)
	}
	if !readCertificate(t, file("ca.pem")).Equal(ca) {
		t.Error("the renewal made another authority")
	}
	renewed := readCertificate(t, file("cert.pem")).SerialNumber.String()
	p.until("the renewed certificate is served", func() bool { return serial() == renewed })
	close(more)
	body, err := io.ReadAll(resp.Body)
	if got := (reply{body: string(body)}); err != nil || got.text() != "some words" || !strings.Contains(got.body, "[DONE]") {
		t.Errorf("the stream across the renewal: %v %s", err, body)
	}
	if _, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}

	// Names beyond those that the authority was made for need another one.
	if out, code := tlsCommand(t, data, "init", "--host", "bank.example"); code != 1 || !strings.Contains(out, "--new-ca") {
		t.Errorf("another name: exit %d\n%s", code, out)
	}
	if out, code := tlsCommand(t, data, "init", "--host", "bank.example", "--new-ca"); code != 0 || readCertificate(t, file("ca.pem")).Equal(ca) {
		t.Errorf("another authority: exit %d\n%s", code, out)
	}
	if err := os.Remove(file("ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	if out, code := tlsCommand(t, data, "init"); code != 1 || !strings.Contains(out, "--new-ca") {
		t.Errorf("an authority without its key: exit %d\n%s", code, out)
	}
}

// With clientCA nobody says a word without a certificate of that authority, and
// the proxy's own commands have one.
func TestClientCertificates(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dir := filepath.Join(data, "tls")
	if out, code := tlsCommand(t, data, "client", "laptop"); code != 1 || !strings.Contains(out, "tls init") {
		t.Errorf("a client of no authority: exit %d\n%s", code, out)
	}
	for _, args := range [][]string{{"init"}, {"client", "laptop"}} {
		if out, code := tlsCommand(t, data, args...); code != 0 {
			t.Fatalf("%v: exit %d\n%s", args, code, out)
		}
	}
	if out, code := tlsCommand(t, data, "client", "../up"); code != 2 {
		t.Errorf("a name that leads out: exit %d\n%s", code, out)
	}
	b := newBackend(t, chat("ok"))
	file := func(name string) string { return filepath.Join(dir, name) }
	p := start(t, configOf(fmt.Sprintf(`tls: {cert: %q, key: %q, clientCA: %q}`, file("cert.pem"), file("key.pem"), file("ca.pem")), provider("near", b.url, "openai-completions")))
	ask := func(c *http.Client) error {
		resp, err := c.Post(p.base+"/v1/chat/completions", jsonMedia, strings.NewReader(hello))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	}
	if err := ask(trusting(t, file("ca.pem"))); err == nil || b.count() != 0 {
		t.Errorf("without a certificate: %v", err)
	}
	strangerCert, strangerKey := certificateFiles(t)
	stranger, err := tls.LoadX509KeyPair(strangerCert, strangerKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(trusting(t, file("ca.pem"), stranger)); err == nil || b.count() != 0 {
		t.Errorf("with a certificate of another authority: %v", err)
	}
	laptop, err := tls.LoadX509KeyPair(file("clients/laptop.pem"), file("clients/laptop-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(trusting(t, file("ca.pem"), laptop)); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	// The commands that ask the proxy read its configuration, listen included.
	text, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "c.json5")
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "proxy: {", fmt.Sprintf("proxy: {listen: %q, ", p.addr), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"health", "status"} {
		if out, code := runBinary(name, "--config", path); code != 0 {
			t.Errorf("%s: exit %d\n%s", name, code, out)
		}
	}
}
