package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFindUsageReadsEveryDialect(t *testing.T) {
	f := func(p string, ok bool, want Usage) {
		t.Helper()
		var got Usage
		if found := FindUsage([]byte(p), Whole([]byte(p)), &got); found != ok || got != want {
			t.Errorf("FindUsage(%s)\n got %v %+v\nwant %v %+v", p, found, got, ok, want)
		}
	}
	f(`{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}`, true, Usage{10, 5, 4, 0, 2, 15})
	f(`{"type":"response.completed","response":{"usage":{"input_tokens":10,"output_tokens":5,"input_tokens_details":{"cached_tokens":3,"cache_write_tokens":2},"output_tokens_details":{"reasoning_tokens":1}}}}`, true, Usage{10, 5, 3, 2, 1, 15})
	f(`{"type":"message","usage":{"input_tokens":1,"cache_read_input_tokens":9,"cache_creation_input_tokens":5,"output_tokens":13}}`, true, Usage{15, 13, 9, 5, 0, 28})
	f(`{"type":"message_delta","usage":{"input_tokens":null,"output_tokens":13,"output_tokens_details":{"thinking_tokens":7}}}`, true, Usage{0, 13, 0, 0, 7, 13})
	f(`{"choices":[{"usage":{"prompt_tokens":3,"completion_tokens":4}}]}`, true, Usage{3, 4, 0, 0, 0, 7})
	f(`{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":9,"reasoning_tokens":2}}`, true, Usage{3, 4, 0, 0, 2, 9})
	f(`{"usage":null,"timings":{"cache_n":9,"prompt_n":1,"predicted_n":13,"prompt_ms":1.2}}`, true, Usage{10, 13, 9, 0, 0, 23})
	f(`{"prompt_tokens":1,"completion_tokens":2}`, true, Usage{1, 2, 0, 0, 0, 3})
	f(`{"usage":{"prompt_tokens":-3,"completion_tokens":4.9,"total_tokens":"x"}}`, true, Usage{0, 4, 0, 0, 0, 4})
	f(`{"usage":null,"choices":[]}`, false, Usage{})
	f(`{"usage":{}}`, false, Usage{})
	f(`{"message":"text","response":"text"}`, false, Usage{})
	f(`[]`, false, Usage{})
	f(``, false, Usage{})
}

// The events of a recorded stream, read one after the other into one Usage,
// must give what the backend counted.
func TestFindUsageInRecordedStreams(t *testing.T) {
	f := func(name string, want Usage) {
		t.Helper()
		_, _, body := capture(t, name)
		var s Scanner
		var got Usage
		s.Reset(0)
		r := strings.NewReader(string(body))
		for {
			ev, ok, err := s.Next()
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				FindUsage(ev.Data, Whole(ev.Data), &got)
				continue
			}
			if _, err := s.Fill(r); err != nil {
				break
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
	f("stream-llama.cpp-chat-stream-usage", Usage{Input: 10, Output: 13, Cached: 9, Total: 23})
	f("stream-llama.cpp-messages-stream", Usage{Input: 10, Output: 13, Cached: 9, Total: 23})
	f("stream-ollama-chat-stream-usage", Usage{Input: 10, Output: 13, Total: 23})
	f("stream-ollama-resp-stream", Usage{Input: 10, Output: 13, Total: 23})
	f("stream-mlx-chat-stream-usage", Usage{Input: 40, Output: 8, Cached: 3, Total: 48})
}

func TestFindUsageInRecordedAnswers(t *testing.T) {
	f := func(name string, want Usage) {
		t.Helper()
		_, _, body := capture(t, name)
		var got Usage
		if !FindUsage(body, Whole(body), &got) || got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	f("answer-llama.cpp-chat", Usage{Input: 10, Output: 13, Total: 23})
	f("answer-llama.cpp-messages", Usage{Input: 10, Output: 13, Cached: 9, Total: 23})
	f("answer-ollama-resp", Usage{Input: 10, Output: 13, Total: 23})
	f("answer-ollama-completions", Usage{Input: 10, Output: 5, Total: 15})
}

func TestFindUsageDoesNotAllocate(t *testing.T) {
	p := []byte(`{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4}}}`)
	var u Usage
	if n := testing.AllocsPerRun(20, func() { FindUsage(p, Span{0, len(p)}, &u) }); n != 0 {
		t.Fatalf("got %v allocations, want 0", n)
	}
}

func BenchmarkFindUsage(b *testing.B) {
	data := token[len("data: ") : len(token)-2]
	var u Usage
	b.ReportAllocs()
	for b.Loop() {
		FindUsage(data, Span{0, len(data)}, &u)
	}
}
