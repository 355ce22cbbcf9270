package shaping

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nearside/shaping/wire"
)

// copyMessages relays the answer of a story as it comes, whatever a decoder
// would say of it.
func copyMessages(t testing.TB, s streamStory, e *CopyEncoder) []byte {
	opt := s.options()
	opt.Dialect = wire.Messages
	e.Reset(opt)
	var out []byte
	for range s.count("before") {
		out = e.Heartbeat(out)
	}
	var scan wire.Scanner
	scan.Reset(0)
	r := strings.NewReader(s.answer)
	for {
		ev, ok, err := scan.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			out = e.Delta(out, Delta{Name: ev.Name, Data: ev.Data})
			continue
		}
		if _, err := scan.Fill(r); err != nil {
			break
		}
	}
	var cause *wire.Error
	if s.set["cause"] != "" {
		cause = &wire.Error{Status: 529, Message: "Overloaded"}
	}
	out = e.Finish(out, cause, []byte(s.set["late"]))
	return e.Finish(e.Heartbeat(out), nil, nil)
}

func TestCopyMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/copies/*.txtar")
	if err != nil || len(files) < 5 {
		t.Fatalf("got %d stories, %v", len(files), err)
	}
	e := newCopyEncoder(EncoderOptions{})
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			s, ar := readStreamStory(t, file)
			got := string(copyMessages(t, s, e))
			if err := lawful(wire.Messages, []byte(got), s.set["cause"] != ""); err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			if *updatePieces {
				ar.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(s.client, got); d != "" {
				t.Fatalf("client (-want +got):\n%s", d)
			}
		})
	}
}

func TestAppendMessagesError(t *testing.T) {
	f := func(e wire.Error, want string) {
		t.Helper()
		if got := string(AppendMessagesError(nil, &e, "req_1")); got != want {
			t.Fatalf("%+v\n got %s\nwant %s", e, got, want)
		}
	}
	body := func(kind, message string) string {
		return `{"type":"error","error":{"type":"` + kind + `","message":"` + message + `"},"request_id":"req_1"}`
	}
	for status, kind := range map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
		413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error", 500: "api_error",
		502: "api_error", 503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error", 0: "api_error",
	} {
		f(wire.Error{Status: status, Message: `a "b"`}, body(kind, `a \"b\"`))
	}
	// pydantic names the field beside its words.
	f(wire.Error{Status: 422, Message: "Extra inputs are not permitted", Param: "seed"}, body("invalid_request_error", "seed: Extra inputs are not permitted"))
	f(wire.Error{Status: 400, Message: "seed is unknown", Param: "seed"}, body("invalid_request_error", "seed is unknown"))
	// What clients look for before they compact and try again.
	f(wire.Error{Status: 400, Code: "context_length_exceeded", Message: "too much"}, body("invalid_request_error", "prompt is too long: too much"))
	f(wire.Error{Status: 400, Code: "context_length_exceeded", Message: "prompt is too long: 5 > 4"}, body("invalid_request_error", "prompt is too long: 5 > 4"))
	if got := string(AppendMessagesError(nil, &wire.Error{Message: "x"}, "")); !strings.HasSuffix(got, `"request_id":null}`) {
		t.Fatalf("got %s", got)
	}
}
