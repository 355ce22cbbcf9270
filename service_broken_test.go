package main

import (
	"fmt"
	"testing"
)

// A stream that breaks ends as failed, and what it says of being stored is true:
// the failed response can be read, and cannot be continued.
func TestBrokenStreamIsStoredAsFailed(t *testing.T) {
	p, _ := service(t, "", rawClose(sseHead+chunked(chatRole, said("half "))), rawClose(sseHead+chunked(chatRole, said("half "))), chat("x"))
	for _, store := range []bool{true, false} {
		got := p.post("/v1/responses", fmt.Sprintf(`{"model":"default","input":"hi","stream":true,"store":%v}`, store))
		var end map[string]any
		got.each(func(v map[string]any) {
			if r, ok := v["response"].(map[string]any); ok {
				end = r
			}
		})
		if end["status"] != "failed" || end["store"] != store || resourceShape(end) != "" {
			t.Fatalf("got %v %s\n%s", end, resourceShape(end), got.body)
		}
		id := fmt.Sprint(end["id"])
		if !store {
			refuses(t, "read it", p.get("/v1/responses/"+id), 404, "response_id", "")
			continue
		}
		if again, flaw := resourceOf(p.get("/v1/responses/" + id).body); flaw != "" || fmt.Sprint(again) != fmt.Sprint(end) {
			t.Errorf("read again: %s %v\nwant %v", flaw, again, end)
		}
		refuses(t, "continue it", p.post("/v1/responses", `{"model":"default","input":"x","previous_response_id":"`+id+`"}`), 400, "previous_response_id", "invalid_value")
	}
}

// A failed turn is not added to its conversation.
func TestBrokenStreamLeavesTheConversation(t *testing.T) {
	p, _ := service(t, "", rawClose(sseHead+chunked(chatRole, said("half "))))
	id := fmt.Sprint(object(t, p.post("/v1/conversations", `{"items":[{"id":"msg_1","type":"message","role":"user","content":"before"}]}`))["id"])
	p.post("/v1/responses", `{"model":"default","input":"hi","stream":true,"conversation":"`+id+`"}`)
	if l := object(t, p.get("/v1/conversations/"+id+"/items")); ids(l) != "msg_1" {
		t.Errorf("the conversation has %s", ids(l))
	}
}
