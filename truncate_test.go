package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// fits answers requests whose body is below a size, and refuses the others as a
// context that is too long.
func fits(size int, then step) step {
	return func(b *backend, c net.Conn, a asked) bool {
		if len(a.body) > size {
			return whole(400, `{"error":{"message":"This model's maximum context length is 4096 tokens.","type":"invalid_request_error","code":"context_length_exceeded"}}`)(b, c, a)
		}
		return then(b, c, a)
	}
}

// With truncation: "auto" the oldest items go until the context fits, calls with
// their outputs; what is said of the system and what is asked last stay. It is
// noted, and the stored response has all that was asked.
func TestTruncationDropsTheOldest(t *testing.T) {
	var items []string
	items = append(items, `{"role":"developer","content":"the order"}`)
	for i := range 10 {
		items = append(items, fmt.Sprintf(`{"role":"user","content":"question %d"}`, i),
			fmt.Sprintf(`{"type":"function_call","call_id":"call_%d","name":"f","arguments":"{}"}`, i),
			fmt.Sprintf(`{"type":"function_call_output","call_id":"call_%d","output":"%s"}`, i, strings.Repeat("x", 300)),
			fmt.Sprintf(`{"role":"assistant","content":"answer %d"}`, i))
	}
	items = append(items, `{"role":"user","content":"the last"}`)
	input := `"input":[` + strings.Join(items, ",") + `],"tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{}}}]`
	p, b := service(t, "", fits(2500, chat("it fits")))
	for _, stream := range []string{"", `"stream":true,`} {
		before := b.count()
		got := p.post("/v1/responses", `{"model":"default",`+stream+`"truncation":"auto",`+input+`}`)
		if got.status != 200 || !strings.Contains(got.body, "it fits") {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		var last asked
		for b.count() > before {
			last = b.next()
			before++
		}
		sent := turns(t, last.body)
		if !strings.HasPrefix(sent, "system: the order\n") || !strings.HasSuffix(sent, "user: the last") || strings.Contains(sent, "question 0") || !strings.Contains(sent, "answer 9") {
			t.Errorf("sent\n%s", sent)
		}
		for i := range 10 {
			if id := fmt.Sprintf("call_%d", i); strings.Contains(sent, "["+id+" ") != strings.Contains(sent, "[for "+id+"]") {
				t.Errorf("%s was parted from its output\n%s", id, sent)
			}
		}
		r := p.receipt(got)
		if n, _ := r["truncated"].(float64); n < 10 || got.header.Get("X-Nearside-Truncated") != fmt.Sprint(n) || !strings.Contains(got.header.Get("X-Nearside-Dropped"), "input") {
			t.Errorf("noted %v, header %q, dropped %q", r["truncated"], got.header.Get("X-Nearside-Truncated"), got.header.Get("X-Nearside-Dropped"))
		}
		if !strings.Contains(fmt.Sprint(r["attempts"]), "context_length_exceeded") {
			t.Errorf("attempts %v", r["attempts"])
		}
		_, after, _ := strings.Cut(got.body, `"id":"resp_`)
		id, _, _ := strings.Cut(after, `"`)
		if l := object(t, p.get("/v1/responses/resp_"+id+"/input_items?limit=100")); len(list(l["data"])) != len(items) {
			t.Errorf("stored %d items of %d", len(list(l["data"])), len(items))
		}
	}
}

// Without it, or where nothing may go, the refusal is passed on; the tries are
// bounded.
func TestTruncationIsAskedForAndBounded(t *testing.T) {
	p, b := service(t, "", fits(1, chat("never")))
	long := `"input":[` + strings.Repeat(`{"role":"user","content":"some words"},`, 200) + `{"role":"user","content":"the last"}]`
	refuses(t, "by default", p.post("/v1/responses", `{"model":"default",`+long+`}`), 400, "", "context_length_exceeded")
	refuses(t, "disabled", p.post("/v1/responses", `{"model":"default","truncation":"disabled",`+long+`}`), 400, "", "context_length_exceeded")
	refuses(t, "a single text", p.post("/v1/responses", `{"model":"default","truncation":"auto","input":"hi"}`), 400, "", "context_length_exceeded")
	if b.count() != 3 {
		t.Errorf("the backend was asked %d times", b.count())
	}
	refuses(t, "too long whatever goes", p.post("/v1/responses", `{"model":"default","truncation":"auto",`+long+`}`), 400, "", "context_length_exceeded")
	if n := b.count() - 3; n < 2 || n > 20 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// A window that is known is kept to before any backend is asked.
func TestTruncationKeepsToAKnownWindow(t *testing.T) {
	p, b := service(t, "", chat("it fits")) // its window is 100000 tokens
	long := `"input":[` + strings.Repeat(`{"role":"user","content":"`+strings.Repeat("word ", 2000)+`"},`, 100) + `{"role":"user","content":"the last"}]`
	refuses(t, "by default", p.post("/v1/responses", `{"model":"default",`+long+`}`), 400, "input", "context_length_exceeded")
	got := p.post("/v1/responses", `{"model":"default","truncation":"auto",`+long+`}`)
	if got.status != 200 || b.count() != 1 || got.header.Get("X-Nearside-Truncated") == "" {
		t.Errorf("got %d %s, asked %d times", got.status, got.body, b.count())
	}
	if sent := turns(t, b.next().body); !strings.HasSuffix(sent, "the last") || len(sent) < 100000 {
		t.Errorf("sent %d bytes", len(sent))
	}
}
