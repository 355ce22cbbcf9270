package wire

import "testing"

// What the scan says of the messages, and that a conversation in order has none
// of what rules look for.
func TestTalk(t *testing.T) {
	const (
		system = `{"role":"system","content":"be brief"}`
		user   = `{"role":"user","content":"hi"}`
		said   = `{"role":"assistant","content":"ho"}`
		call   = `{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"id\":\"z\"}"}},{"function":{"id":"q"},"id":"b"}]}`
		a, b   = `{"role":"tool","tool_call_id":"a","content":"1"}`, `{"tool_call_id":"b","role":"tool","content":""}`
	)
	for _, c := range []struct {
		name, messages string
		want           Talk
	}{
		{"in order", system + "," + user + "," + said + "," + user, 0},
		{"calls in order", user + "," + call + "," + b + " , " + a + "," + said, TalkTools},
		{"a result is missing", user + "," + call + "," + a + "," + user, TalkTools | TalkUnpaired},
		{"a result is last", user + "," + call + "," + a, TalkTools | TalkUnpaired},
		{"a result of nothing", user + "," + a, TalkTools | TalkUnpaired},
		{"answered twice", user + "," + call + "," + a + "," + b + "," + a, TalkTools | TalkUnpaired},
		{"a call without an id", user + `,{"role":"assistant","tool_calls":[{"function":{}}]}`, TalkTools | TalkUnpaired},
		{"developer", `{"role":"developer","content":"x"},` + user, TalkDeveloper},
		{"system later", user + "," + system, TalkSystemLater},
		{"developer later", user + `,{"content":"x","role":"developer"}`, TalkDeveloper | TalkSystemLater},
		{"user twice", user + "," + user, TalkRepeats},
		{"assistant twice", user + "," + said + "," + said, TalkRepeats},
		{"system twice", system + "," + system, TalkSystemLater},
		{"parts", `{"role":"user","content":[{"type":"text","text":"x"}]}`, TalkParts},
		{"a part that is an image", `{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}`, TalkParts},
		{"no parts", `{"role":"user","content":[]}`, TalkParts | TalkSilent},
		{"empty parts", `{"role":"user","content":[{"type":"text","text":""}]}`, TalkParts | TalkSilent},
		{"empty", `{"role":"user","content":""}`, TalkSilent},
		{"blank", `{"role":"user","content":" \n"}`, TalkSilent},
		{"no content", `{"role":"user"}`, TalkSilent},
		{"null", `{"role":"assistant","content":null,"tool_calls":[]}`, TalkSilent},
		{"reasoning", user + `,{"role":"assistant","content":"x","reasoning_content":""}`, TalkReasons},
		{"details", user + `,{"role":"assistant","content":"x","reasoning_details":[{"text":"y"}]}`, TalkReasons},
		{"reasoning is null", user + `,{"role":"assistant","content":"x","reasoning":null}`, 0},
		{"no message", `"hi"`, TalkAny},
		{"no object", `[]`, TalkAny},
		{"null message", `null`, TalkAny},
		{"role twice", `{"role":"user","content":"x","role":"developer"}`, TalkAny},
		{"an escaped key", `{"ro\u006ce":"developer","content":"x"}`, TalkAny},
		{"an escaped role", `{"role":"de\u0076eloper","content":"x"}`, TalkAny},
	} {
		var env Envelope
		body := []byte(`{"tools":[{"role":"developer"}],"messages":[` + c.messages + `],"user":"developer"}`)
		if err := Scan(body, ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		if env.Talk != c.want {
			t.Errorf("%s: %08b, want %08b", c.name, env.Talk, c.want)
		}
	}
}
