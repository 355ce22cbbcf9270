package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"nearside/upstream"
)

func TestPromptShare(t *testing.T) {
	f := func(text string, done, total int, ok bool) {
		t.Helper()
		if d, n, is := promptShare([]byte(text)); d != done && ok || n != total && ok || is != ok {
			t.Errorf("promptShare(%q) = %d, %d, %v; want %d, %d, %v", text, d, n, is, done, total, ok)
		}
	}
	f("keepalive 20/40", 20, 40, true)
	f("keepalive 2048/60000 ", 2048, 60000, true)
	f("keepalive", 0, 0, false)
	f("ping", 0, 0, false)
	f("", 0, 0, false)
	f("keepalive 20/0", 0, 0, false)
	f("keepalive -1/40", 0, 0, false)
	f("see http://example.com/", 0, 0, false)
	f("99999999999999999999/1", 0, 0, false)
}

// What a backend says of its prefill keeps it alive, what says nothing does not.
func TestProgressKeepsALongPrefillAlive(t *testing.T) {
	const step, steps = 150 * time.Millisecond, 14 // twice the patience
	ask := func(said func(i int) string) (int, http.Header, string) {
		backend := rawBackend(t, func(c net.Conn, _ string) bool {
			io.WriteString(c, okStream)
			pace := time.NewTicker(step)
			defer pace.Stop()
			for i := range steps {
				<-pace.C
				text := said(i)
				if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", len(text), text); err != nil {
					return false
				}
			}
			io.WriteString(c, framed(roleEvent, wordEvent, stopEvent, doneEvent))
			return false
		})
		_, base := testServer(t, func(_ *Config, all []upstream.Config) {
			d := &all[0].Deadlines
			d.FirstContentMin, d.FirstContentMax, d.FirstContentCold = time.Second, time.Second, 0
		}, backend)
		return post(t, base+"/v1/chat/completions", streamBody)
	}
	f := func(name string, lives bool, said func(i int) string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, h, body := ask(said)
			if lives && (status != 200 || !strings.Contains(body, "hello") || strings.Contains(body, "prompt_progress")) || !lives && status != 504 {
				t.Errorf("got %d, attempts %q\n%s", status, h.Get("X-Nearside-Attempts"), body)
			}
		})
	}
	f("comments that get ahead", true, func(i int) string { return fmt.Sprintf(": keepalive %d/%d\n\n", 100*i+1, 100*steps) })
	f("comments that stand still", false, func(int) string { return ": keepalive 100/1400\n\n" })
	f("comments that say nothing", false, func(int) string { return ": keepalive\n\n" })
	event := func(done int) string {
		return fmt.Sprintf("data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"object\":\"chat.completion.chunk\",\"prompt_progress\":{\"total\":1400,\"cache\":0,\"processed\":%d,\"time_ms\":9}}\n\n", done)
	}
	f("events that get ahead", true, func(i int) string { return event(100*i + 1) })
	f("events that stand still", false, func(int) string { return event(100) })
	// However many they are, the client sees none and nothing overflows.
	f("more events than are held back", true, func(i int) string {
		var b strings.Builder
		for k := range heldMax / 4 {
			b.WriteString(event(i*heldMax/4 + k + 1))
		}
		return b.String()
	})
}
