package proxy

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"nearside/upstream"
)

// postAs sends a body with one header more and returns the status.
func postAs(t *testing.T, url, header, value string, body []byte) int {
	t.Helper()
	req, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(header, value)
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func gzipped(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The budget of bodies in flight is given back whole, however a request was
// encoded and however it ended: a leak ends in 503 for everybody.
func TestBodiesInFlightAreGivenBack(t *testing.T) {
	s, base := testServer(t, func(c *Config, _ []upstream.Config) {
		c.Limits.BodyBytes, c.Limits.InFlightBytes = 64<<10, 100<<10
	}, rawBackend(t, sayHello))
	url := base + "/v1/chat/completions"
	big := strings.Replace(chatBody, `"hi"`, `"`+strings.Repeat("x", 40<<10)+`"`, 1)
	f := func(name, encoding string, body []byte, want int) {
		t.Helper()
		for range 5 {
			if got := postAs(t, url, "Content-Encoding", encoding, body); got != want {
				t.Errorf("%s: %d, want %d", name, got, want)
			}
		}
		for end := time.Now().Add(10 * time.Second); s.inFlight.Load() != 0; { // given back right after the answer
			if time.Now().After(end) {
				t.Fatalf("%s: %d bytes are left in flight", name, s.inFlight.Load())
			}
		}
	}
	f("plain", "identity", []byte(big), 200)
	f("gzip", "gzip", gzipped(t, big), 200)
	f("too large once decompressed", "gzip", gzipped(t, strings.Repeat(" ", 70<<10)), 413)
	f("unknown encoding", "snappy", []byte(big), 415)
	f("no gzip", "gzip", []byte(big), 400)
	f("no JSON", "gzip", gzipped(t, big[:len(big)-1]), 400)
}

// A request that the backend does not take ends with the deadline that its
// configuration names, whichever of two goroutines notices first.
func TestWriteDeadlineNamesItsSetting(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: the kernel does, and takes what its buffers hold
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, base := testServer(t, func(_ *Config, all []upstream.Config) {
		d := &all[0].Deadlines
		d.Write, d.WritePerMB, d.Headers = 200*time.Millisecond, 0, 10*time.Second
	}, "http://"+ln.Addr().String()+"/v1")
	long := strings.Replace(chatBody, `"hi"`, `"`+strings.Repeat("x", 16<<20)+`"`, 1)
	for range 2 {
		status, _, body := post(t, base+"/v1/chat/completions", long)
		if status != 504 || !strings.Contains(body, "upstream_write_timeout") || !strings.Contains(body, "within 200ms (proxy.providers.p0.deadlines.writeSeconds)") {
			t.Errorf("%d %s", status, body)
		}
	}
}
