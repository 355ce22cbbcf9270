package proxy

import (
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/upstream"
)

// tableOf makes a table of an operator and two clients, whose keys are their ids.
func tableOf(ids ...string) *access.Table {
	var all []access.Key
	for _, id := range ids {
		all = append(all, access.Key{Sum: sha256.Sum256([]byte(id)), Grant: access.Grant{ID: id, Operator: id == "boss", Policy: catalog.Widest()}})
	}
	return access.NewTable(all, true)
}

func watchAs(t *testing.T, base, key string) *feedOf {
	t.Helper()
	req, _ := http.NewRequest("GET", base+"/proxy/live", nil)
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 {
		t.Fatalf("%s watches: %d", key, res.StatusCode)
	}
	return newFeed(t, res)
}

// TestLiveTellsAKeyItsOwn: a key that may not see what others use is told of its own
// requests, and of no address, failure or figure of others; and no more at all once
// it is revoked.
func TestLiveTellsAKeyItsOwn(t *testing.T) {
	const answer = `{"id":"x","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
	url := rawBackend(t, func(c net.Conn, _ string) bool {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(answer))+"\r\n\r\n"+answer)
		return err == nil
	})
	s, base := testServer(t, func(c *Config, _ []upstream.Config) {
		c.Dashboard.Every = 20 * time.Millisecond
		c.Keys = tableOf("boss", "ann", "bob")
	}, url)
	ask := func(key string) {
		t.Helper()
		req, _ := http.NewRequest("POST", base+"/v1/chat/completions", strings.NewReader(`{"model":"default","messages":[{"role":"user","content":"hi"}]}`))
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatalf("%s: %d %s", key, res.StatusCode, text)
		}
	}
	ann, boss := watchAs(t, base, "ann"), watchAs(t, base, "boss")
	ann.until("now", func(data []byte) bool {
		if text := string(data); strings.Contains(text, url) || strings.Contains(text, "tokens_per_second\":{") || strings.Contains(text, "bob") {
			t.Errorf("it is told %s", text)
		}
		return true
	})
	ask("bob")
	ask("ann")
	key := func(data []byte) string {
		var r Receipt
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatal(err)
		}
		return r.Key
	}
	ann.until("exchange", func(data []byte) bool {
		if got := key(data); got != "ann" {
			t.Errorf("ann is told of an exchange of %s", got)
		}
		return true
	})
	boss.until("exchange", func(data []byte) bool { return key(data) == "bob" })
	boss.until("exchange", func(data []byte) bool { return key(data) == "ann" })

	next := *s.Snapshot()
	config := next.Config
	config.Keys = tableOf("boss", "bob")
	s.Apply(&Snapshot{Config: config, Catalog: next.Catalog, Backends: next.Backends, States: next.States})
	ann.until("over", func(data []byte) bool { return strings.Contains(string(data), `"signed_out":true`) })
	boss.until("now", func([]byte) bool { return true })
}

// TestSessionCookieIsOfTLS: the cookie goes over TLS alone where it came so, also
// where TLS ends before us.
func TestSessionCookieIsOfTLS(t *testing.T) {
	_, base := testServer(t, func(c *Config, _ []upstream.Config) { c.Keys = tableOf("boss") }, "http://127.0.0.1:1/v1")
	sign := func(origin, body string) *http.Response {
		t.Helper()
		req, _ := http.NewRequest("POST", base+"/dashboard/login", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", origin)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	host := strings.TrimPrefix(base, "http://")
	for origin, secure := range map[string]bool{"http://" + host: false, "https://" + host: true} {
		res := sign(origin, `{"key":"boss"}`)
		if c := res.Cookies(); res.StatusCode != 200 || len(c) != 1 || c[0].Secure != secure || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("from %s: %d %v", origin, res.StatusCode, c)
		}
	}
	if res := sign("http://elsewhere.example", `{"key":"boss"}`); res.StatusCode != 403 || len(res.Cookies()) > 0 {
		t.Errorf("a page of elsewhere signs in: %d", res.StatusCode)
	}
	if res := sign("http://"+host, `{"key":"other"}`); res.StatusCode != 401 || len(res.Cookies()) > 0 {
		t.Errorf("with no valid key: %d", res.StatusCode)
	}
}
