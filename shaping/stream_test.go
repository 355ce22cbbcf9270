package shaping

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nearside/shaping/wire"
)

var updateStreams = flag.Bool("update-streams", false, "rewrite the client parts of testdata/streams")

// streamStory is one file of testdata/streams. Its comment holds prose and settings:
//
//	dialect: chat, completions or responses
//	model, late: what the encoder is told
//	hide: usage is hidden
//	before, after: heartbeats before the first and after the second event
//	lines: crlf, cr or bom, how the answer's lines end or begin
//	cause: the error code at the end, "regular" when absent
type streamStory struct {
	set    map[string]string
	answer string
	client string
}

func readStreamStory(t testing.TB, file string) (streamStory, *txtar.Archive) {
	t.Helper()
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := streamStory{set: map[string]string{}}
	for line := range strings.Lines(string(ar.Comment)) {
		if key, value, ok := strings.Cut(line, ":"); ok && !strings.Contains(key, " ") {
			s.set[key] = strings.TrimSpace(value)
		}
	}
	for _, f := range ar.Files {
		switch f.Name {
		case "answer":
			s.answer = string(f.Data)
		case "client":
			s.client = string(f.Data)
		}
	}
	switch s.set["lines"] {
	case "crlf":
		s.answer = strings.ReplaceAll(s.answer, "\n", "\r\n")
	case "cr":
		s.answer = strings.ReplaceAll(s.answer, "\n", "\r")
	case "bom":
		s.answer = "\ufeff" + s.answer
	}
	return s, ar
}

func (s streamStory) dialect() wire.Dialect {
	switch s.set["dialect"] {
	case "responses":
		return wire.Responses
	case "completions":
		return wire.Completions
	}
	return wire.Chat
}

func (s streamStory) options() EncoderOptions {
	return EncoderOptions{Dialect: s.dialect(), Model: s.set["model"], HideUsage: s.set["hide"] != "", ID: "ours", Created: 7}
}

func (s streamStory) count(key string) int {
	n, _ := strconv.Atoi(s.set[key])
	return n
}

// cuts reads p in pieces: a size of 0 cuts at random.
type cuts struct {
	p    []byte
	size int
	rand *rand.Rand
}

func (c *cuts) Read(dst []byte) (int, error) {
	if len(c.p) == 0 {
		return 0, io.EOF
	}
	n := c.size
	if n == 0 {
		n = 1 + c.rand.IntN(40)
	}
	n = copy(dst, c.p[:min(n, len(c.p))])
	c.p = c.p[n:]
	return n, nil
}

// play relays one stream as the proxy does and returns what the client gets,
// frame by frame, and the error that ended it.
func play(t testing.TB, s streamStory, r io.Reader, dec *CopyDecoder, enc *CopyEncoder) (out []byte, cause *wire.Error) {
	t.Helper()
	var scan wire.Scanner
	scan.Reset(0)
	fail := func(err error) ([]byte, *wire.Error) {
		if !errors.As(err, &cause) {
			t.Fatalf("got an error that is no *wire.Error: %v", err)
		}
		return enc.Finish(out, cause, []byte(s.set["late"])), cause
	}
	for range s.count("before") {
		out = enc.Heartbeat(out)
	}
	for n := 0; ; {
		ev, ok, err := scan.Next()
		if err == nil && !ok {
			if _, err = scan.Fill(r); err == nil {
				continue
			}
			if err == io.EOF {
				if ev, ok = scan.End(); !ok {
					break
				}
				err = nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := dec.Event(ev)
		if err != nil {
			return fail(err)
		}
		if d.Done {
			break
		}
		out = enc.Delta(out, d)
		if n++; n == 2 {
			for range s.count("after") {
				out = enc.Heartbeat(out)
			}
		}
	}
	if err := dec.End(); err != nil {
		return fail(err)
	}
	return enc.Finish(out, nil, []byte(s.set["late"])), nil
}

func stories(t testing.TB) []string {
	files, err := filepath.Glob("testdata/streams/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("got %d stories, %v", len(files), err)
	}
	return files
}

// What the client sees must not depend on how the network cut the answer, nor
// on what a pooled decoder or encoder did before.
func TestStreamStories(t *testing.T) {
	dec, enc := NewDecoder(wire.Chat), newCopyEncoder(EncoderOptions{})
	for _, file := range stories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			s, ar := readStreamStory(t, file)
			run := func(name string, r io.Reader) string {
				dec.Reset(s.dialect())
				enc.Reset(s.options())
				out, cause := play(t, s, r, dec, enc)
				got := ""
				if cause != nil {
					got = strings.TrimSpace(fmt.Sprint(cause.Status, " ", cause.Code))
				}
				if want := s.set["cause"]; got != want {
					t.Fatalf("%s: ended with %q, want %q (%v)", name, got, want, cause)
				}
				if err := lawful(s.dialect(), out, cause != nil); err != nil {
					t.Fatalf("%s: %v\n%s", name, err, out)
				}
				return string(out)
			}
			whole := run("whole", &cuts{p: []byte(s.answer), size: 1 << 20})
			if *updateStreams {
				for i := range ar.Files {
					if ar.Files[i].Name == "client" {
						ar.Files[i].Data = []byte(whole)
					}
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(s.client, whole); d != "" {
				t.Fatalf("client (-want +got):\n%s", d)
			}
			if got := run("byte by byte", &cuts{p: []byte(s.answer), size: 1}); got != whole {
				t.Fatalf("byte by byte (-whole +got):\n%s", cmp.Diff(whole, got))
			}
			for seed := range uint64(5) {
				r := &cuts{p: []byte(s.answer), rand: rand.New(rand.NewPCG(seed, 1))}
				if got := run("cut at random", r); got != whole {
					t.Fatalf("cut at random, seed %d (-whole +got):\n%s", seed, cmp.Diff(whole, got))
				}
			}
		})
	}
}

// lawful checks what strict clients check of every stream.
func lawful(d wire.Dialect, out []byte, failed bool) error {
	frames := strings.Split(string(out), "\n\n")
	if frames[len(frames)-1] != "" || bytes.ContainsRune(out, '\r') {
		return errors.New("the output does not consist of whole frames with LF")
	}
	frames = frames[:len(frames)-1]
	if d == wire.Messages {
		return lawfulMessages(frames, failed)
	}
	if n := len(frames); !failed && (n == 0 || frames[n-1] != "data: [DONE]") {
		return errors.New("a regular end without [DONE]")
	} else if !failed {
		frames = frames[:n-1]
	}
	if d == wire.Responses {
		return lawfulResponse(frames, failed)
	}
	return lawfulChat(d, frames, failed)
}

func lawfulChat(d wire.Dialect, frames []string, failed bool) error {
	var id, created, model any
	finishes, roles := map[float64]int{}, map[float64]bool{}
	for i, f := range frames {
		data, ok := strings.CutPrefix(f, "data: ")
		if !ok || strings.Contains(data, "\n") {
			return fmt.Errorf("frame %d is not one data line: %q", i, f)
		}
		var c struct {
			ID, Created, Model, Error any
			Choices                   []struct {
				Index        float64
				Delta        map[string]any
				FinishReason any `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			return fmt.Errorf("frame %d: %w: %s", i, err, data)
		}
		if c.Error != nil {
			if !failed || i != len(frames)-1 {
				return fmt.Errorf("frame %d is an error that is not the end", i)
			}
			return nil
		}
		if i == 0 {
			id, created, model = c.ID, c.Created, c.Model
		}
		if id == nil || id == "" || c.ID != id || created == nil || c.Created != created || c.Model != model {
			return fmt.Errorf("frame %d: id, created, model are %v %v %v, were %v %v %v", i, c.ID, c.Created, c.Model, id, created, model)
		}
		if c.Choices == nil {
			return fmt.Errorf("frame %d: no choices", i)
		}
		for _, ch := range c.Choices {
			if _, ok := ch.Delta["role"].(string); !ok && !roles[ch.Index] && d == wire.Chat {
				return fmt.Errorf("frame %d: the first delta of choice %v has no role", i, ch.Index)
			}
			roles[ch.Index] = true
			if ch.FinishReason != nil {
				finishes[ch.Index]++
			}
		}
	}
	if failed {
		return errors.New("a failure without an error chunk")
	}
	for i := range roles {
		if finishes[i] != 1 {
			return fmt.Errorf("choice %v has %d finish reasons", i, finishes[i])
		}
	}
	return nil
}

func lawfulResponse(frames []string, failed bool) error {
	var id, created, model any
	terminals := 0
	for i, f := range frames {
		name, data, _ := strings.Cut(f, "\ndata: ")
		name, ok := strings.CutPrefix(name, "event: ")
		var ev struct {
			Type     string
			Sequence *int `json:"sequence_number"`
			Response map[string]any
		}
		if err := json.Unmarshal([]byte(data), &ev); err != nil || !ok {
			return fmt.Errorf("frame %d: %w: %q", i, err, f)
		}
		if ev.Type != name || ev.Sequence == nil || *ev.Sequence != i {
			return fmt.Errorf("frame %d: event %q, type %q, sequence_number %v", i, name, ev.Type, ev.Sequence)
		}
		if i == 0 && ev.Type != "response.created" && ev.Type != "error" {
			return fmt.Errorf("the stream opens with %s", ev.Type)
		}
		if terminals > 0 {
			return fmt.Errorf("frame %d (%s) follows the terminal event", i, name)
		}
		if r := ev.Response; r != nil {
			if id == nil {
				id, created, model = r["id"], r["created_at"], r["model"]
			}
			if r["id"] != id || id == nil || r["created_at"] != created || created == nil || r["model"] != model {
				return fmt.Errorf("frame %d: id, created_at, model are %v %v %v, were %v %v %v", i, r["id"], r["created_at"], r["model"], id, created, model)
			}
			for _, f := range resourceFields {
				if _, ok := r[f.key]; !ok {
					return fmt.Errorf("frame %d: the resource lacks %s", i, f.key)
				}
			}
			if status := r["status"]; strings.HasSuffix(name, ".completed") && status != "completed" || strings.HasSuffix(name, ".failed") && status != "failed" {
				return fmt.Errorf("frame %d: %s with status %v", i, name, status)
			}
		}
		switch name {
		case "response.completed", "response.incomplete":
			if failed {
				return errors.New("a failure with a regular terminal event")
			}
			terminals++
		case "response.failed":
			terminals++
		}
	}
	if terminals != 1 {
		return fmt.Errorf("%d terminal events", terminals)
	}
	return nil
}

// newCopyEncoder returns an encoder for one exchange's stream.
func newCopyEncoder(opt EncoderOptions) *CopyEncoder {
	e := &CopyEncoder{}
	e.Reset(opt)
	return e
}
