package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// events reads a whole stream and says what it holds, one string an event.
func events(t testing.TB, r io.Reader, max int) []string {
	t.Helper()
	var s Scanner
	s.Reset(max)
	var got []string
	for {
		ev, ok, err := s.Next()
		if err != nil {
			return append(got, err.Error())
		}
		if ok {
			got = append(got, fmt.Sprintf("%s|%s", ev.Name, ev.Data))
			continue
		}
		if _, err = s.Fill(r); err != nil {
			break
		}
	}
	for ev, ok := s.End(); ok; ev, ok = s.End() {
		got = append(got, fmt.Sprintf("%s|%s", ev.Name, ev.Data))
	}
	return append(got, fmt.Sprint(s.Comments(), " comments"))
}

var streams = []struct {
	name, in string
	want     []string
}{
	{"plain", "data: a\n\ndata: b\n\n", []string{"|a", "|b", "0 comments"}},
	{"no space", "data:a\n\ndata:  b\n\n", []string{"|a", "| b", "0 comments"}},
	{"crlf", "event: x\r\ndata: a\r\n\r\ndata: b\r\n\r\n", []string{"x|a", "|b", "0 comments"}},
	{"cr", "event: x\rdata: a\r\rdata: b\r\r", []string{"x|a", "|b", "0 comments"}},
	{"mixed", "data: a\r\ndata: b\n\r\ndata: c\r\n\ndata: d\r\r\n", []string{"|a\nb", "|c", "|d", "0 comments"}},
	{"several lines", "data: a\nid: 1\ndata:b\nretry: 3\ndata\ndata: c\n\n", []string{"|a\nb\n\nc", "0 comments"}},
	{"late name", "data: 1\nevent: one\ndata: 2\nevent: the-last\ndata: 3\n\n", []string{"the-last|1\n2\n3", "0 comments"}},
	{"name again", "event: one\ndata: 1\nevent:\n\ndata: 2\n\n", []string{"|1", "|2", "0 comments"}},
	{"comments", ": hi\n\n:\n: two\n\ndata: a\n: in between\n\n", []string{"|a", "2 comments"}},
	{"no data", "event: ping\n\nid: 3\n\ndata: a\n\n", []string{"|a", "0 comments"}},
	{"empty data", "data:\n\ndata\n\n", []string{"|", "|", "0 comments"}},
	{"unknown fields", "foo: bar\ndatax: 1\ndatum\ndata: a\n\n", []string{"|a", "0 comments"}},
	{"bom", "\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", []string{"|a", "0 comments"}},
	{"bom alone", "\xef\xbb\xbf\n\ndata: a\n\n", []string{"|a", "0 comments"}},
	{"blank lines", "\n\n\r\n\ndata: a\n\n\n\n", []string{"|a", "0 comments"}},
	{"no end", "data: a\n\ndata: [DONE]", []string{"|a", "|[DONE]", "0 comments"}},
	{"one line end", "data: a\n\ndata: b\ndata: c\n", []string{"|a", "|b\nc", "0 comments"}},
	{"utf-8", "data: é😀\n\n", []string{"|é😀", "0 comments"}},
	{"empty", "", []string{"0 comments"}},
	{"too long", "data: a\n\ndata: " + strings.Repeat("x", 200) + "\n\ndata: b\n\n", []string{"|a", ErrEventTooLong.Error()}},
	{"too long without end", "data: a\n\n" + strings.Repeat("x", 200), []string{"|a", ErrEventTooLong.Error()}},
	{"just short enough", "data: " + strings.Repeat("x", 88) + "\r\n\r\n", []string{"|" + strings.Repeat("x", 88), "0 comments"}},
}

const testEventMax = 97 // 88 bytes, "data: ", CR LF CR

func TestScannerFindsEventsHoweverCut(t *testing.T) {
	for _, c := range streams {
		for _, r := range []struct {
			how string
			io.Reader
		}{
			{"whole", strings.NewReader(c.in)},
			{"byte by byte", iotest.OneByteReader(strings.NewReader(c.in))},
			{"end with data", iotest.DataErrReader(strings.NewReader(c.in))},
			{"halves", iotest.HalfReader(strings.NewReader(c.in))},
		} {
			if d := cmp.Diff(c.want, events(t, r, testEventMax)); d != "" {
				t.Errorf("%s, %s: %q (-want +got)\n%s", c.name, r.how, c.in, d)
			}
		}
		for at := range len(c.in) {
			r := io.MultiReader(strings.NewReader(c.in[:at]), strings.NewReader(c.in[at:]))
			if d := cmp.Diff(c.want, events(t, r, testEventMax)); d != "" {
				t.Errorf("%s, cut at %d: %q (-want +got)\n%s", c.name, at, c.in, d)
			}
		}
	}
}

// A CR alone ends an event at once: waiting for the LF would hold the last
// token back until the next one.
func TestScannerGivesEventAtCR(t *testing.T) {
	var s Scanner
	s.Reset(0)
	s.Fill(strings.NewReader("data: a\r\n\r"))
	if ev, ok, err := s.Next(); !ok || string(ev.Data) != "a" || err != nil {
		t.Fatalf("got %q %v %v, want a", ev.Data, ok, err)
	}
}

func TestScannerSurvivesTemporaryErrors(t *testing.T) {
	wait := errors.New("wake-up")
	reads := []struct {
		part string
		err  error
	}{{"data: a", nil}, {"", wait}, {"b\n", wait}, {"\nda", nil}, {"", wait}, {"ta: c\n\n", io.EOF}}
	var s Scanner
	s.Reset(0)
	var got []string
	for _, rd := range reads {
		r := readerFunc(func(p []byte) (int, error) { return copy(p, rd.part), rd.err })
		n, err := s.Fill(r)
		if n > 0 && err == nil && rd.err != nil {
			_, err = s.Fill(nil) // told after the bytes, without another read
		}
		if n != len(rd.part) || err != rd.err {
			t.Fatalf("Fill: got %d %v, want %d %v", n, err, len(rd.part), rd.err)
		}
		for ev, ok, _ := s.Next(); ok; ev, ok, _ = s.Next() {
			got = append(got, string(ev.Data))
		}
	}
	if d := cmp.Diff([]string{"ab", "c"}, got); d != "" {
		t.Fatal(d)
	}
	if len(s.Buffer()) != 0 {
		t.Fatalf("left over: %q", s.Buffer())
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Ten thousand held streams must not each keep what one large event needed.
func TestScannerShrinksAfterLargeEvents(t *testing.T) {
	var s Scanner
	s.Reset(0)
	r := strings.NewReader("data: " + strings.Repeat("x", 1<<20) + "\n\n" + strings.Repeat("data: token\n\n", 40))
	for {
		_, ok, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			continue
		}
		if _, err = s.Fill(io.LimitReader(r, max(13, int64(r.Len()-40*13)))); err != nil {
			break
		}
	}
	if len(s.buf) > 16<<10 {
		t.Fatalf("the buffer keeps %d bytes", len(s.buf))
	}
}

// The cost of a large event that comes in small pieces must grow with its size,
// not with its square: bytes are copied when the buffer grows and not else.
func TestScannerMovesBytesRarely(t *testing.T) {
	const size = 1 << 20
	var s Scanner
	s.Reset(0)
	r := iotest.OneByteReader(io.MultiReader(strings.NewReader("data: "), io.LimitReader(readerFunc(func(p []byte) (int, error) {
		for i := range p {
			p[i] = 'x'
		}
		return len(p), nil
	}), size), strings.NewReader("\n\n")))
	bufs := 0
	last := 0
	for {
		_, ok, err := s.Next()
		if ok || err != nil {
			break
		}
		if _, err = s.Fill(r); err != nil {
			t.Fatal(err)
		}
		if len(s.buf) != last {
			last = len(s.buf)
			bufs++
		}
	}
	if bufs > 12 || len(s.buf) > 4*size {
		t.Fatalf("got %d buffers, the last of %d bytes", bufs, len(s.buf))
	}
}

func TestAppendEvent(t *testing.T) {
	f := func(name, data, want string) {
		t.Helper()
		if got := string(AppendEvent(nil, []byte(name), []byte(data))); got != want {
			t.Fatalf("AppendEvent(%q, %q)\n got %q\nwant %q", name, data, got, want)
		}
	}
	f("", "a", "data: a\n\n")
	f("x", "a", "event: x\ndata: a\n\n")
	f("x\ndata: forged", "a", "event: x\ndata: a\n\n")
	f("", "a\nb\r\nc\rd", "data: a\ndata: b\ndata: c\ndata: d\n\n")
	f("", "", "data: \n\n")
	f("", "a\n", "data: a\ndata: \n\n")
}

func FuzzScannerIgnoresCuts(f *testing.F) {
	for _, c := range streams {
		f.Add([]byte(c.in), 3)
	}
	files, _ := filepath.Glob("testdata/stream-*.txt")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 7)
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		whole := events(t, bytes.NewReader(in), testEventMax)
		step = max(1, step&63)
		cut := events(t, readerFunc(func() func(p []byte) (int, error) {
			r := bytes.NewReader(in)
			return func(p []byte) (int, error) { return r.Read(p[:min(len(p), step)]) }
		}()), testEventMax)
		if d := cmp.Diff(whole, cut); d != "" {
			t.Fatalf("%q in steps of %d (-whole +cut)\n%s", in, step, d)
		}
		if one := events(t, iotest.OneByteReader(bytes.NewReader(in)), testEventMax); !cmp.Equal(whole, one) {
			t.Fatalf("%q byte by byte: got %q, want %q", in, one, whole)
		}
	})
}

func FuzzAppendEventRoundTrips(f *testing.F) {
	f.Add([]byte("x"), []byte("a\nb"))
	f.Fuzz(func(t *testing.T, name, data []byte) {
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
		n, _, _ := bytes.Cut(bytes.ReplaceAll(name, []byte("\r"), []byte("\n")), []byte("\n"))
		got := events(t, bytes.NewReader(AppendEvent(nil, name, data)), 0)
		if d := cmp.Diff([]string{string(n) + "|" + want, "0 comments"}, got); d != "" {
			t.Fatal(d)
		}
	})
}

var token = []byte(`data: {"id":"chatcmpl-148","object":"chat.completion.chunk","created":1795325919,"model":"tiny","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}` + "\n\n")

type endless struct {
	p  []byte
	at int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], e.p[e.at:])
		n += k
		e.at = (e.at + k) % len(e.p)
	}
	return n, nil
}

func nextEvent(t testing.TB, s *Scanner, r io.Reader) Event {
	for {
		ev, ok, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return ev
		}
		if _, err = s.Fill(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScannerDoesNotAllocate(t *testing.T) {
	var s Scanner
	s.Reset(0)
	r := &endless{p: token}
	for range 1000 { // let the buffer find its size
		nextEvent(t, &s, r)
	}
	if n := testing.AllocsPerRun(1000, func() { nextEvent(t, &s, r) }); n != 0 {
		t.Fatalf("got %v allocations an event, want 0", n)
	}
}

func BenchmarkScanner(b *testing.B) {
	b.Run("flooded", func(b *testing.B) {
		var s Scanner
		s.Reset(0)
		r := &endless{p: token}
		b.SetBytes(int64(len(token)))
		b.ReportAllocs()
		for b.Loop() {
			nextEvent(b, &s, r)
		}
	})
	b.Run("paced", func(b *testing.B) {
		var s Scanner
		s.Reset(0)
		var r bytes.Reader
		b.SetBytes(int64(len(token)))
		b.ReportAllocs()
		for b.Loop() {
			r.Reset(token)
			nextEvent(b, &s, &r)
		}
	})
}

// Servers say in comments how far they are with a prompt: the last one is there,
// once, until more is read.
func TestScannerKeepsTheLastComment(t *testing.T) {
	var s Scanner
	read := func(text string) {
		t.Helper()
		if _, err := s.Fill(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		for {
			if _, ok, err := s.Next(); err != nil || !ok {
				return
			}
		}
	}
	f := func(text, want string) {
		t.Helper()
		read(text)
		if got := string(s.Comment()); got != want {
			t.Errorf("after %q: %q, want %q", text, got, want)
		}
		if got := s.Comment(); got != nil {
			t.Errorf("after %q: %q again", text, got)
		}
	}
	f(": keepalive 1/9\n\n", "keepalive 1/9")
	f(":a\n\n:b\r\n\r\ndata: x\n\n", "b")
	f(": keepalive 2", "")
	f("/9\n\n", "keepalive 2/9")
	f("data: : not\n\n", "")
	read(": forgotten\n\n")
	f("data: x\n\n", "")
}
