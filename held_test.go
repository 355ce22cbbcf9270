package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// soon sends the first heartbeat early and ends silent targets later.
const soon = `heartbeat: {firstMs: 150, everyMs: 100},
  providers: {near: {deadlines: {firstContentMs: 600, headersMs: 600, gapMs: 600}, breaker: {disabled: true}}}`

// While the backend is silent the client gets data events; a target may still
// change, and what headers could not say any more comes with the last event.
func TestHeldStreamsFailOverAndSayWhere(t *testing.T) {
	for name, near := range map[string]step{
		"silent before its head": stall(""),
		"silent after its head":  stall(sseHead),
		"silent after its role":  stall(sseHead + chunked(chatRole)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, far := newBackend(t, near), newBackend(t, chat("from ", "far"))
			p := start(t, configOf(soon, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
			got := p.post("/v1/chat/completions", helloStream)
			if got.status != 200 || got.text() != "from far" || strings.Count(got.body, "data: [DONE]") != 1 || got.header.Get("X-Nearside-Model") != "" {
				t.Fatalf("got %d %q\n%s", got.status, got.text(), got.body)
			}
			ids, roles, beats := map[string]bool{}, 0, 0
			var late map[string]any
			got.each(func(v map[string]any) {
				ids[fmt.Sprint(v["id"])] = true
				for _, c := range list(v["choices"]) {
					d, _ := c["delta"].(map[string]any)
					if d["role"] != nil {
						roles++
					}
					if len(d) == 0 && c["finish_reason"] == nil {
						beats++
					}
				}
				if l, ok := v["nearside"].(map[string]any); ok {
					late = l
				}
			})
			if len(ids) != 1 || roles == 0 || beats == 0 {
				t.Errorf("%d ids, %d roles, %d further heartbeats; want one id, a role, some heartbeats\n%s", len(ids), roles, beats, got.body)
			}
			if late["model"] != "far/m" || !strings.Contains(fmt.Sprint(late["attempts"]), "near/m=") {
				t.Errorf("late facts %v", late)
			}
		})
	}
}

// After heartbeats the status is gone: a failure of all targets is an error
// event, with no finish that nobody said.
func TestHeldStreamsFailInBand(t *testing.T) {
	b := newBackend(t, stall(""))
	p := start(t, configOf(soon, provider("near", b.url, "openai-completions")))
	got := p.post("/v1/chat/completions", helloStream)
	e := got.failure()
	if got.status != 200 || e == nil || e["code"] != "upstream_headers_timeout" || strings.Contains(got.body, "[DONE]") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	var late map[string]any
	got.each(func(v map[string]any) {
		if l, ok := v["nearside"].(map[string]any); ok {
			late = l
		}
	})
	if r := p.receipt(got); late["provider"] != "near" || late["model"] != "near/m" || late["route"] != "near" || r["model"] != "near/m" || r["route"] != "near" {
		t.Errorf("late facts %v, noted %v\n%s", late, r, got.body)
	}
}

// The Responses dialect hears response.created and response.in_progress while
// it waits, numbered on without gaps, under one id.
func TestHeldResponsesStream(t *testing.T) {
	events := []string{
		`{"type":"response.created","sequence_number":0,"response":{"id":"resp_b","object":"response","created_at":7,"status":"in_progress","model":"m","output":[]}}`,
		`{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_b","object":"response","created_at":7,"status":"in_progress","model":"m","output":[]}}`,
		`{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}}`,
		`{"type":"response.content_part.added","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}`,
		`{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"hi","logprobs":[]}`,
		`{"type":"response.output_text.done","sequence_number":5,"item_id":"msg_1","output_index":0,"content_index":0,"text":"hi","logprobs":[]}`,
		`{"type":"response.content_part.done","sequence_number":6,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"hi","annotations":[]}}`,
		`{"type":"response.output_item.done","sequence_number":7,"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}}`,
		`{"type":"response.completed","sequence_number":8,"response":{"id":"resp_b","object":"response","created_at":7,"status":"completed","model":"m","output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}}`,
	}
	var frames []string
	for _, e := range events {
		kind := strings.Split(strings.TrimPrefix(e, `{"type":"`), `"`)[0]
		frames = append(frames, "event: "+kind+"\ndata: "+e+"\n\n")
	}
	b, far := newBackend(t, stall("")), newBackend(t, raw(sseHead+chunked(frames...)+lastChunk))
	p := start(t, configOf(soon, provider("near", b.url, "openai-responses"), provider("far", far.url, "openai-responses")))
	got := p.post("/v1/responses", `{"model":"default","input":"hi","stream":true}`)
	n, created, ids, completed := 0, 0, map[string]bool{}, false
	got.each(func(v map[string]any) {
		if fmt.Sprint(v["sequence_number"]) != fmt.Sprint(n) {
			t.Errorf("event %d is numbered %v", n, v["sequence_number"])
		}
		n++
		if v["type"] == "response.created" {
			created++
		}
		if r, ok := v["response"].(map[string]any); ok {
			ids[fmt.Sprint(r["id"])] = true
			completed = r["status"] == "completed" && r["model"] == "far/m"
		}
	})
	if got.status != 200 || created != 1 || len(ids) != 1 || !completed || n < len(events) || !strings.Contains(got.body, `"delta":"hi"`) {
		t.Errorf("got %d, %d events, %d created, ids %v, completed %v\n%s", got.status, n, created, ids, completed, got.body)
	}
	failing := start(t, configOf(soon, provider("near", b.url, "openai-responses")))
	got = failing.post("/v1/responses", `{"model":"default","input":"hi","stream":true}`)
	if !strings.Contains(got.body, "event: error\n") || !strings.Contains(got.body, "event: response.failed\n") || strings.Contains(got.body, "response.completed") {
		t.Errorf("a failed response:\n%s", got.body)
	}
}

// Usage is asked for where the backend can, recorded, and hidden from a client
// that did not ask.
func TestUsageIsRecordedAndShownToWhoAsked(t *testing.T) {
	b := newBackend(t, chatStream("hi"))
	p := start(t, configOf(`providers: {}`, provider("near", b.url, "openai-completions")))
	got := p.post("/v1/chat/completions", helloStream)
	if strings.Contains(got.body, "prompt_tokens") {
		t.Errorf("usage was not asked for:\n%s", got.body)
	}
	if sent := string(b.next().body); !strings.Contains(sent, `"include_usage":true`) {
		t.Errorf("sent %s", sent)
	}
	if u, _ := p.receipt(got)["usage"].(map[string]any); fmt.Sprint(u["input"]) != "9" || fmt.Sprint(u["output"]) != "2" {
		t.Errorf("recorded usage %v", u)
	}
	got = p.post("/v1/chat/completions", strings.Replace(helloStream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1))
	if !strings.Contains(got.body, `"prompt_tokens":9`) {
		t.Errorf("usage was asked for:\n%s", got.body)
	}
}

// Each deadline has its own code, and its message names the setting.
func TestDeadlinesNameTheirSetting(t *testing.T) {
	f := func(name, settings, model string, near step, body, code, setting string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, near)
			p := start(t, configOf(settings, strings.Replace(provider("near", b.url, "openai-completions"), "models:", model+" models:", 1)))
			e := p.post("/v1/chat/completions", body).failure()
			if e == nil || e["code"] != code || !strings.Contains(fmt.Sprint(e["message"]), setting) {
				t.Errorf("got %v, want code %s and %q in the message", e, code, setting)
			}
		})
	}
	words := sseHead + chunked(chatRole, said("some "))
	one := func(d string) string { return `providers: {near: {deadlines: {` + d + `}, breaker: {disabled: true}}}` }
	f("headers", one("headersMs: 100"), "", stall(""), hello, "upstream_headers_timeout", "proxy.providers.near.deadlines.headers")
	f("first content", one("firstContentMs: 100"), "", stall(sseHead), helloStream, "upstream_first_content_timeout", "proxy.providers.near.deadlines.firstContent")
	f("gap", one("gapMs: 100"), "", stall(words), helloStream, "upstream_gap_timeout", "proxy.providers.near.deadlines.gap")
	f("total", `providers: {near: {totalMs: 100}}`, "", stall(words), helloStream, "upstream_total_timeout", "proxy.providers.near.total")
	f("timeoutSeconds before content", `providers: {}`, "timeoutSeconds: 1,", stall(""), hello, "upstream_headers_timeout", "models.providers.near.timeoutSeconds")
	f("timeoutSeconds between events", `providers: {}`, "timeoutSeconds: 1,", stall(words), helloStream, "upstream_gap_timeout", "models.providers.near.timeoutSeconds")
	t.Run("connect", func(t *testing.T) {
		t.Parallel()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		defer fillBacklog(t, ln)()
		p := start(t, configOf(one("connectMs: 100"), provider("near", "http://"+ln.Addr().String()+"/v1", "openai-completions")))
		for range 5 { // which of two timers fires first must not matter
			e := p.post("/v1/chat/completions", hello).failure()
			if e == nil || e["code"] != "upstream_connect_timeout" || !strings.Contains(fmt.Sprint(e["message"]), "within 100ms (proxy.providers.near.deadlines.connect") {
				t.Errorf("got %v", e)
			}
		}
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		ln := unread(t)
		p := start(t, configOf(one("tlsMs: 100"), provider("near", "https://"+ln.Addr().String()+"/v1", "openai-completions")))
		e := p.post("/v1/chat/completions", hello).failure()
		if e == nil || e["code"] != "upstream_connect_timeout" || !strings.Contains(fmt.Sprint(e["message"]), "within 100ms (proxy.providers.near.deadlines.tlsMs)") {
			t.Errorf("got %v", e)
		}
	})
}

// unread is a listener whose connections are accepted and never read.
func unread(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln
}
