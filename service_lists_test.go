package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The input of a response is a list that can be read in pages, either way.
func TestInputItemsArePaged(t *testing.T) {
	p, _ := service(t, "", chat("ok"))
	var items []string
	for i := range 5 {
		items = append(items, fmt.Sprintf(`{"id":"msg_%d","type":"message","role":"user","content":"n%d"}`, i, i))
	}
	id := fmt.Sprint(p.respond(`"input":[` + strings.Join(items, ",") + `]`)["id"])
	f := func(query, want string, more bool) {
		t.Helper()
		got := object(t, p.get("/v1/responses/"+id+"/input_items"+query))
		if ids(got) != want || got["has_more"] != more || got["object"] != "list" {
			t.Errorf("%s: got %v", query, got)
			return
		}
		if all := strings.Fields(want); len(all) > 0 && (got["first_id"] != all[0] || got["last_id"] != all[len(all)-1]) {
			t.Errorf("%s: first %v, last %v", query, got["first_id"], got["last_id"])
		}
	}
	f("", "msg_4 msg_3 msg_2 msg_1 msg_0", false)
	f("?order=asc", "msg_0 msg_1 msg_2 msg_3 msg_4", false)
	f("?limit=2", "msg_4 msg_3", true)
	f("?limit=2&after=msg_3", "msg_2 msg_1", true)
	f("?limit=2&after=msg_1&order=asc", "msg_2 msg_3", true)
	f("?limit=2&after=msg_3&order=asc", "msg_4", false)
	f("?after=msg_0", "", false)
	for query, param := range map[string]string{"?limit=0": "limit", "?limit=101": "limit", "?limit=x": "limit", "?order=up": "order", "?after=msg_9": "after"} {
		refuses(t, query, p.get("/v1/responses/"+id+"/input_items"+query), 400, param, "invalid_value")
	}
	refuses(t, "of none", p.get("/v1/responses/resp_none/input_items"), 404, "response_id", "")
	refuses(t, "starting_after", p.get("/v1/responses/"+id+"?stream=true&starting_after=x"), 400, "starting_after", "invalid_type")
}

// A conversation is made, changed, filled, read in pages and deleted; responses
// in it know what was said and are added to it.
func TestConversations(t *testing.T) {
	p, b := service(t, "", chat("first answer"), chat("second answer"), chat("third answer"))
	c := object(t, p.post("/v1/conversations", `{"metadata":{"topic":"whales"},"items":[{"type":"message","role":"user","content":"hello"}]}`))
	id := fmt.Sprint(c["id"])
	if c["object"] != "conversation" || !strings.HasPrefix(id, "conv_") || fmt.Sprint(c["metadata"]) != "map[topic:whales]" || wholeShape(c["created_at"]) != "" {
		t.Errorf("created %v", c)
	}
	if empty := object(t, p.post("/v1/conversations", "")); empty["object"] != "conversation" || fmt.Sprint(empty["metadata"]) != "map[]" {
		t.Errorf("an empty one: %v", empty)
	}
	at := "/v1/conversations/" + id
	if got := object(t, p.get(at)); fmt.Sprint(got) != fmt.Sprint(c) {
		t.Errorf("read: %v", got)
	}
	if got := object(t, p.post(at, `{"metadata":{"topic":"orcas"}}`)); fmt.Sprint(got["metadata"]) != "map[topic:orcas]" || got["id"] != id {
		t.Errorf("updated: %v", got)
	}
	one := p.respond(`"conversation":"` + id + `","input":"one"`)
	if got, want := turns(t, b.next().body), "user: hello\nuser: one"; got != want && got != "user: hello\n\none" {
		t.Errorf("the first turn sent\n%s\nwant\n%s", got, want)
	}
	if v, _ := one["conversation"].(map[string]any); v["id"] != id {
		t.Errorf("the response says conversation %v", one["conversation"])
	}
	streamed := p.post("/v1/responses", `{"model":"default","stream":true,"conversation":{"id":"`+id+`"},"input":"two"}`)
	if end, flaw := eventsOf(streamed.body, 0); flaw != "" || outputText(end) != "second answer" {
		t.Errorf("streamed: %s\n%s", flaw, streamed.body)
	}
	if got := turns(t, b.next().body); !strings.HasSuffix(got, "one\nassistant: first answer\nuser: two") {
		t.Errorf("the second turn sent\n%s", got)
	}
	all := object(t, p.get(at+"/items?order=asc"))
	var said []string
	for _, it := range list(all["data"]) {
		for _, part := range list(it["content"]) {
			said = append(said, fmt.Sprint(it["role"], " ", part["text"]))
		}
		if s, ok := it["content"].(string); ok {
			said = append(said, fmt.Sprint(it["role"], " ", s))
		}
	}
	if got, want := strings.Join(said, ", "), "user hello, user one, assistant first answer, user two, assistant second answer"; got != want {
		t.Errorf("the conversation has %s\nwant %s", got, want)
	}
	each := strings.Fields(ids(all))
	if got := object(t, p.get(at+"/items?limit=2&order=asc&after="+each[0])); ids(got) != strings.Join(each[1:3], " ") || got["has_more"] != true {
		t.Errorf("a page: %v", got)
	}
	added := object(t, p.post(at+"/items", `{"items":[{"type":"message","role":"user","content":[{"type":"input_text","text":"by hand"}]},{"id":"msg_own","type":"message","role":"assistant","content":[{"type":"output_text","text":"noted"}]}]}`))
	if len(list(added["data"])) != 2 || !strings.HasSuffix(ids(added), " msg_own") {
		t.Errorf("added: %v", added)
	}
	if got := object(t, p.get(at+"/items/msg_own")); got["id"] != "msg_own" || got["role"] != "assistant" {
		t.Errorf("one item: %v", got)
	}
	if got := object(t, p.call("DELETE", at+"/items/"+each[0], "")); got["id"] != id {
		t.Errorf("an item deleted: %v", got)
	}
	refuses(t, "the deleted item", p.get(at+"/items/"+each[0]), 404, "item_id", "")
	p.respond(`"conversation":"` + id + `","input":"three"`)
	if got := turns(t, b.next().body); strings.Contains(got, "hello") || !strings.Contains(got, "by hand") || !strings.HasSuffix(got, "assistant: noted\nuser: three") {
		t.Errorf("the third turn sent\n%s", got)
	}
	// A response that is not to be stored is not added either.
	count := func() int { return len(list(object(t, p.get(at+"/items?limit=100"))["data"])) }
	before := count()
	p.respond(`"conversation":"` + id + `","input":"four","store":false`)
	if n := count(); n != before {
		t.Errorf("a response with store: false was added: %d items, before %d", n, before)
	}
	if got := object(t, p.call("DELETE", at, "")); got["deleted"] != true || got["object"] != "conversation.deleted" {
		t.Errorf("deleted: %v", got)
	}
	for _, got := range []reply{p.get(at), p.post(at, `{"metadata":{}}`), p.call("DELETE", at, ""), p.get(at + "/items"), p.post(at+"/items", `{"items":[{"role":"user","content":"x"}]}`)} {
		refuses(t, "a deleted conversation", got, 404, "conversation_id", "conversation_not_found")
	}
	refuses(t, "an item of it", p.get(at+"/items/msg_own"), 404, "item_id", "")
	refuses(t, "a response in it", p.post("/v1/responses", `{"model":"default","conversation":"`+id+`","input":"x"}`), 404, "conversation", "conversation_not_found")
	for body, want := range map[string][2]string{
		`{"metadata":7}`:                             {"metadata", "invalid_type"},
		`{"metadata":{"a":1}}`:                       {"metadata.a", "invalid_type"},
		`{"items":{}}`:                               {"items", "invalid_type"},
		`{"items":[7]}`:                              {"items[0]", "invalid_type"},
		`{"items":[{"type":"x","id":"y"}]}`:          {"items[0].type", "invalid_value"},
		`{"items":[{"role":"owner","content":"x"}]}`: {"items[0].role", "invalid_value"},
		`{"items":[{"type":"item_reference","id":"msg_nowhere"}]}`:                                              {"items[0].id", ""},
		`{"items":[` + strings.Repeat(`{"role":"user","content":"x"},`, 20) + `{"role":"user","content":"x"}]}`: {"items", "array_above_max_length"},
	} {
		status := 400
		if want[1] == "" {
			status = 404
		}
		refuses(t, body, p.post("/v1/conversations", body), status, want[0], want[1])
	}
	refuses(t, "no JSON", p.post("/v1/conversations", `{"metadata"`), 400, "", "")
}

// Another key sees nothing of what a key made, and without a key one sees only
// what was made without.
func TestStoredResponsesBelongToTheirKey(t *testing.T) {
	p, _ := service(t, "", chat("mine"))
	id := fmt.Sprint(p.respond(`"input":[{"id":"msg_mine","role":"user","content":"hi"}]`, as("sk-a")...)["id"])
	conv := fmt.Sprint(object(t, p.post("/v1/conversations", `{"items":[{"id":"msg_c","type":"message","role":"user","content":"x"}]}`, as("sk-a")...))["id"])
	open := fmt.Sprint(p.respond(`"input":"anybody"`)["id"])
	// The same key in its other header is the same owner.
	for _, mine := range [][]string{as("sk-a"), {"X-Api-Key", "sk-a"}} {
		if got := p.call("GET", "/v1/responses/"+id, "", mine...); got.status != 200 {
			t.Errorf("with %v: %d %s", mine, got.status, got.body)
		}
		if got := p.call("GET", "/v1/conversations/"+conv, "", mine...); got.status != 200 {
			t.Errorf("with %v: %d %s", mine, got.status, got.body)
		}
	}
	for _, other := range [][]string{as("sk-b"), {"X-Api-Key", "sk-b"}, nil} {
		for _, c := range []struct{ method, path, body string }{
			{"GET", "/v1/responses/" + id, ""}, {"GET", "/v1/responses/" + id + "?stream=true", ""}, {"GET", "/v1/responses/" + id + "/input_items", ""},
			{"POST", "/v1/responses/" + id + "/cancel", ""}, {"DELETE", "/v1/responses/" + id, ""},
			{"GET", "/v1/conversations/" + conv, ""}, {"POST", "/v1/conversations/" + conv, `{"metadata":{}}`}, {"GET", "/v1/conversations/" + conv + "/items", ""},
			{"POST", "/v1/conversations/" + conv + "/items", `{"items":[{"role":"user","content":"x"}]}`}, {"GET", "/v1/conversations/" + conv + "/items/msg_c", ""},
			{"DELETE", "/v1/conversations/" + conv + "/items/msg_c", ""}, {"DELETE", "/v1/conversations/" + conv, ""},
			{"POST", "/v1/responses", `{"model":"default","input":"x","conversation":"` + conv + `"}`},
			{"POST", "/v1/responses", `{"model":"default","input":[{"type":"item_reference","id":"msg_mine"}]}`},
		} {
			if got := p.call(c.method, c.path, c.body, other...); got.status != 404 {
				t.Errorf("%s %s with %v: %d %s", c.method, c.path, other, got.status, got.body)
			}
		}
		refuses(t, "continue another's", p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"`+id+`"}`, other...), 400, "previous_response_id", "previous_response_not_found")
	}
	if got := p.call("GET", "/v1/responses/"+open, "", as("sk-a")...); got.status != 404 {
		t.Errorf("what was made without a key, with one: %d", got.status)
	}
	if got := p.call("GET", "/v1/responses/"+id, "", as("sk-a")...); got.status != 200 {
		t.Errorf("it survived the others: %d", got.status)
	}
}

// What a request would cost is estimated without a backend, and says so.
func TestInputTokens(t *testing.T) {
	p, b := service(t, "", chat("x"))
	f := func(path, body string) float64 {
		t.Helper()
		got := p.post(path, body)
		v := object(t, got)
		n, _ := v["input_tokens"].(float64)
		if got.status != 200 || got.header.Get("X-Nearside-Estimated") != "1" || path == "/v1/responses/input_tokens" && v["object"] != "response.input_tokens" {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
		return n
	}
	few := f("/v1/responses/input_tokens", `{"model":"default","input":"hi"}`)
	many := f("/v1/responses/input_tokens", `{"model":"default","input":"`+strings.Repeat("word ", 1000)+`"}`)
	if few < 1 || many < 500 || many > 5000 {
		t.Errorf("few words are %v, a thousand %v", few, many)
	}
	id := fmt.Sprint(p.respond(`"input":"` + strings.Repeat("word ", 1000) + `"`)["id"])
	b.next()
	if chained := f("/v1/responses/input_tokens", `{"model":"default","previous_response_id":"`+id+`","input":"hi"}`); chained < 500 {
		t.Errorf("with a thousand words before: %v", chained)
	}
	f("/v1/messages/count_tokens", `{"model":"default","messages":[{"role":"user","content":"hi"}]}`)
	refuses(t, "a wrong input", p.post("/v1/responses/input_tokens", `{"model":"default","input":7}`), 400, "input", "invalid_type")
	refuses(t, "an unknown model", p.post("/v1/responses/input_tokens", `{"model":"nope/none","input":"hi"}`), 404, "model", "model_not_found")
	if b.count() != 1 {
		t.Errorf("the backend was asked %d times", b.count())
	}
}

// Without a store nothing is said to be stored, and what needs one says so.
func TestResponsesWithoutAStore(t *testing.T) {
	p, _ := service(t, `store: "off"`, chat("x"))
	one := p.respond(`"input":"hi"`)
	id := fmt.Sprint(one["id"])
	if one["store"] != false {
		t.Errorf("it says store %v", one["store"])
	}
	for _, got := range []reply{p.get("/v1/responses/" + id), p.call("DELETE", "/v1/responses/"+id, ""), p.get("/v1/responses/" + id + "/input_items"),
		p.post("/v1/responses/"+id+"/cancel", ""), p.post("/v1/conversations", "{}"), p.get("/v1/conversations/conv_x")} {
		refuses(t, "without a store", got, 404, "", "store_off")
	}
	refuses(t, "continue", p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"`+id+`"}`), 400, "previous_response_id", "previous_response_not_found")
	refuses(t, "background", p.post("/v1/responses", `{"model":"default","input":"x","background":true}`), 400, "background", "invalid_value")
	refuses(t, "conversation", p.post("/v1/responses", `{"model":"default","input":"x","conversation":"conv_x"}`), 400, "conversation", "unsupported_parameter")
	if _, err := os.Stat(filepath.Join(p.dataDir(), "responses.db")); err == nil {
		t.Error("there is a database all the same")
	}
}

// A store in memory serves as well, and writes nothing down.
func TestResponsesInMemory(t *testing.T) {
	p, b := service(t, `store: "memory"`, chat("remembered words"))
	one := p.respond(`"input":"hi"`)
	b.next()
	p.respond(`"input":"again","previous_response_id":"` + fmt.Sprint(one["id"]) + `"`)
	if got := turns(t, b.next().body); got != "user: hi\nassistant: remembered words\nuser: again" || one["store"] != true {
		t.Errorf("store %v, sent\n%s", one["store"], got)
	}
	if _, err := os.Stat(filepath.Join(p.dataDir(), "responses.db")); err == nil || strings.Contains(dataOf(t, p.dataDir()), "remembered words") {
		t.Error("it was written down")
	}
}
