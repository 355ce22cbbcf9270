package measure

import (
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// What servers say of their own work is in the units that each has.
func TestServerTimesAreRead(t *testing.T) {
	f := func(chunk, queue string, want ServerTimes) {
		t.Helper()
		r := &reading{s: &Sample{}}
		var a chatAnswer
		if err := json.Unmarshal([]byte(chunk), &a); err != nil {
			t.Fatal(err)
		}
		r.timings(&a.serverSays)
		r.queued(queue)
		if got := r.s.Server; got == nil || *got != want {
			t.Errorf("%s, %q: got %+v, want %+v", chunk, queue, got, want)
		}
	}
	ms := time.Millisecond
	f(`{"choices":[],"timings":{"prompt_n":9,"prompt_ms":12.5,"predicted_ms":250}}`, "", ServerTimes{Prefill: 12500 * time.Microsecond, Decode: 250 * ms})
	f(`{"choices":[],"stats":{"tokens_per_second":51.4,"time_to_first_token":0.111,"generation_time":0.954}}`, "", ServerTimes{Prefill: 111 * ms, Decode: 954 * ms})
	f(`{"choices":[],"total_duration":5000000000,"load_duration":1000000,"prompt_eval_duration":2000000,"eval_duration":3000000}`, "", ServerTimes{Load: ms, Prefill: 2 * ms, Decode: 3 * ms})
	f(`{"choices":[],"usage":{"queue_time":0.02,"prompt_time":0.003,"completion_time":0.4,"prompt_tokens":5}}`, "", ServerTimes{Queue: 20 * ms, Prefill: 3 * ms, Decode: 400 * ms})
	f(`{"choices":[]}`, "position=2; waited=1.25", ServerTimes{Proxy: 1250 * ms})
}

// An address may have a query, which stands behind the path.
func TestAddressKeepsItsQuery(t *testing.T) {
	f := func(target Target, want string) {
		t.Helper()
		if got := target.address(); got != want {
			t.Errorf("%+v: %s, want %s", target, got, want)
		}
	}
	f(Target{BaseURL: "http://h/v1/", Dialect: Chat}, "http://h/v1/chat/completions")
	f(Target{BaseURL: "https://h/openai?api-version=2", Dialect: Responses}, "https://h/openai/responses?api-version=2")
	f(Target{BaseURL: "https://h", Dialect: Messages, Path: "/v1/messages"}, "https://h/v1/messages")
}
