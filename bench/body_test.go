package bench

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"
)

// The sizes are what the budget is about, and a body that a decoder refuses
// would measure how fast a proxy says no.
func TestBodyIsAChatRequestOfItsSize(t *testing.T) {
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		for _, stream := range []bool{false, true} {
			p := []byte(body("quick/m", size, stream))
			if over := len(p) - size; over < -64 || over > 64 {
				t.Errorf("body of %d has %d bytes", size, len(p))
			}
			var v struct {
				Model    string
				Stream   bool
				Messages []struct{ Role, Content string }
				Tools    []any
			}
			if err := json.Unmarshal(p, &v); err != nil {
				t.Fatalf("body of %d: %v", size, err)
			}
			if v.Model != "quick/m" || v.Stream != stream || len(v.Messages) < 2 || size > 16<<10 && len(v.Tools) != 10 {
				t.Errorf("body of %d: model %q, stream %v, %d messages, %d tools", size, v.Model, v.Stream, len(v.Messages), len(v.Tools))
			}
		}
	}
	head, rest, ok := bytes.Cut(request("quick/m", 1<<10, false), []byte("\r\n\r\n"))
	if want := []byte(body("quick/m", 1<<10, false)); !ok || !bytes.Equal(rest, want) || !bytes.HasPrefix(head, []byte("POST /v1/chat/completions HTTP/1.1\r\n")) {
		t.Errorf("request: %q", head)
	}
}

// How often a string is interrupted decides what scanning it costs: neither
// easier than recorded prompts nor nothing but code.
func TestBodyIsAsDenseAsRecordedOnes(t *testing.T) {
	p := []byte(body("quick/m", 1<<20, false))
	every := len(p) / len(regexp.MustCompile(`(\\.)+`).FindAll(p, -1))
	if every < 30 || every > 64 {
		t.Errorf("an escape every %d bytes, want 30 to 64", every)
	}
}
