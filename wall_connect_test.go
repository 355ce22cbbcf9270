package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What cannot be reached is passed over within its own short time, for clients of
// each dialect, and no request is sent into a connection that is not what it
// should be. When it was the last the client hears 502 or 504 with the reason.
func TestWallUnreachable(t *testing.T) {
	t.Parallel()
	blackhole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer blackhole.Close()
	defer fillBacklog(t, blackhole)()
	ca, trusted := authorityFile(t)
	var leaked sync.Map // which listeners got plain text that was a request
	secure := func(name string, cfg *tls.Config) string {
		ln := serving(t, func(c net.Conn) {
			defer c.Close()
			s := tls.Server(c, cfg)
			if s.Handshake() == nil {
				if _, err := bufio.NewReader(s).ReadString('\n'); err == nil {
					leaked.Store(name, true)
				}
			}
		})
		return "https://" + ln
	}
	signed := func(from, to time.Time, host net.IP) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{trusted(from, to, host)}}
	}
	now, here := time.Now(), net.IPv4(127, 0, 0, 1)
	self := selfSigned(t)
	faults := []struct{ name, url, outcome, reason string }{
		{"refused", strings.TrimSuffix(refusingAddress(t), "/v1"), "connect_refused", "refused"},
		{"blackhole", "http://" + blackhole.Addr().String(), "connect_timeout", "no connection within"},
		{"nxdomain", "http://nothing.invalid:80", "dns|connect_timeout", "nothing.invalid|no connection within"},
		{"expired", secure("expired", signed(now.Add(-2*time.Hour), now.Add(-time.Hour), here)), "tls", "expired"},
		{"wrong-name", secure("wrong-name", signed(now.Add(-time.Hour), now.Add(time.Hour), net.IPv4(127, 0, 0, 9))), "tls", "certificate"},
		{"self-signed", secure("self-signed", &tls.Config{Certificates: []tls.Certificate{self}}), "tls", "certificate"},
		{"tls-1-0", secure("tls-1-0", &tls.Config{Certificates: signed(now.Add(-time.Hour), now.Add(time.Hour), here).Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}), "tls", "version"},
		{"plain-http", "https://" + serving(t, func(c net.Conn) {
			defer c.Close()
			line, _ := bufio.NewReader(c).ReadString('\n')
			if strings.HasPrefix(line, "POST") {
				leaked.Store("plain-http", true)
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		}), "tls", "TLS|tls"},
		{"reset-in-handshake", "https://" + serving(t, func(c net.Conn) {
			c.Read(make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}), "tls|connection_reset|connection_closed", "reset|EOF"},
	}
	var providers, settings []string
	good := map[string]*wallSide{}
	for _, d := range wireDialects {
		opt := wallOptions(d.name)
		opt.Reply = matrixFar
		good[d.name] = newWallSide(t, opt)
		providers = append(providers, wallProvider("far-"+d.name, good[d.name].url, d.name, "", []string{"m"}))
		for _, f := range faults {
			id := f.name + "-" + d.name
			more := ""
			if strings.HasPrefix(f.url, "https") {
				more = fmt.Sprintf("request: {tls: {ca: %q}},", ca)
			}
			if f.name == "nxdomain" {
				more = "request: {allowPrivateNetwork: true},"
			}
			providers = append(providers, wallProvider(id, f.url+"/v1", d.name, more, []string{"m"}))
			settings = append(settings, fmt.Sprintf(`%q: {deadlines: {connectMs: 2000, tlsMs: 2000}, breaker: {disabled: true}}`, id))
			if f.name == "blackhole" {
				settings[len(settings)-1] = fmt.Sprintf(`%q: {deadlines: {connectMs: 300}, breaker: {disabled: true}}`, id)
			}
		}
	}
	p := start(t, fmt.Sprintf(`{
  models: {mode: "replace", providers: {%s}},
  agents: {defaults: {model: {primary: "far-chat/m"}}},
  proxy: {discovery: {enabled: false}, exchangesKept: 4096, providers: {%s}},
}`, strings.Join(providers, ",\n"), strings.Join(settings, ",\n")))
	var all sync.WaitGroup
	for _, f := range faults {
		for _, d := range wireDialects {
			for _, stream := range []bool{true, false} {
				all.Go(func() {
					ref, far := f.name+"-"+d.name+"/m", "far-"+d.name+"/m"
					q := question{model: ref, user: "hi", stream: stream}.in(d.name)
					got, err := p.tries(pathOf(d.name), q, patience, "X-Nearside-Fallback", far)
					var moved, lost []string
					for one := range strings.SplitSeq(f.outcome, "|") {
						moved = append(moved, ref+"="+one+", "+far+"=ok")
						if one == "connect_refused" { // nothing was sent and no other is left: it is asked once more
							one += ", " + ref + "=" + one
						}
						lost = append(lost, ref+"="+one)
					}
					if e := got.ended(d.name, stream); err != nil || e.kind != endWhole || e.text != matrixFar || !matches(got.header.Get("X-Nearside-Attempts"), strings.Join(moved, "|")) || got.leaks() != "" {
						t.Errorf("%s, %s, stream %v: %v %d %q %.300s", f.name, d.name, stream, err, got.status, got.header.Get("X-Nearside-Attempts"), got.body)
					}
					got, err = p.tries(pathOf(d.name), q, patience, "X-Nearside-Fallback", "none")
					e := got.ended(d.name, stream)
					if err != nil || e.kind != endStatus || got.status != 502 && got.status != 504 || !matches(got.header.Get("X-Nearside-Attempts"), strings.Join(lost, "|")) ||
						!slices.ContainsFunc(strings.Split(f.reason, "|"), func(r string) bool { return strings.Contains(e.message, r) }) || got.leaks() != "" {
						t.Errorf("%s, %s, stream %v, alone: %v %d %q %s", f.name, d.name, stream, err, got.status, got.header.Get("X-Nearside-Attempts"), got.body)
					}
				})
			}
		}
	}
	all.Wait()
	leaked.Range(func(name, _ any) bool {
		t.Errorf("%v got a request", name)
		return true
	})
	if strings.Contains(p.output(), wallKey) || strings.Contains(p.get("/metrics").body, wallKey) {
		t.Error("a key shows")
	}
	if m := p.get("/metrics").body; !strings.Contains(m, `outcome="connect_refused"`) {
		t.Error("refused connections are not counted")
	}
}

// A backend that answers before it has read the request is heard, and its
// connection is not used again.
func TestWallEarlyAnswers(t *testing.T) {
	t.Parallel()
	heads := make(chan net.Conn, 64)
	address := serving(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		line, err := br.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "GET") {
			c.Close()
			return
		}
		for line != "\r\n" && err == nil {
			line, err = br.ReadString('\n')
		}
		io.WriteString(c, answer(503, "application/json", `{"error":{"message":"no room for this","type":"server_error"}}`))
		heads <- c // open, and not read on
	})
	far := newBackend(t, chat("far"))
	p := start(t, configOf(`providers: {near: {breaker: {disabled: true}}}`, strings.Replace(provider("near", "http://"+address+"/v1", "openai-completions"), "100000", "100000000", 1),
		strings.Replace(provider("far", far.url, "openai-completions"), "100000", "100000000", 1)))
	large := `{"model":"default","messages":[{"role":"user","content":"` + strings.Repeat("x", 8<<20) + `"}]}`
	for _, body := range []string{large, strings.Replace(large, "{", `{"stream":true,`, 1)} {
		got := p.post("/v1/chat/completions", body)
		if a := got.header.Get("X-Nearside-Attempts"); got.text() != "far" || !matches(a, "near/m=status_503, far/m=ok|near/m=overloaded, far/m=ok|near/m=server_error, far/m=ok") {
			t.Errorf("got %d, attempts %q %.300s", got.status, a, got.body)
		}
		c := <-heads
		c.SetReadDeadline(time.Now().Add(patience))
		if n, err := io.Copy(io.Discard, c); n >= 8<<20 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%d bytes came behind the answer, %v: the connection was not closed", n, err)
		}
		c.Close()
	}
}

// serving runs f on each connection and returns the address.
func serving(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// authorityFile makes an authority, writes its certificate to a file and returns
// a function that signs.
func authorityFile(t *testing.T) (string, func(from, to time.Time, host net.IP) tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func(from, to time.Time, host net.IP) tls.Certificate {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: from, NotAfter: to, IPAddresses: []net.IP{host},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		der, err := x509.CreateCertificate(rand.Reader, leaf, root, &k.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
	}
}

// selfSigned is a certificate that nobody vouches for.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	cert, key := certificateFiles(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
