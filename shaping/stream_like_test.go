package shaping

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"nearside/shaping/wire"
)

// pair is a decoder and an encoder; a forgetful one reads every event whole.
type pair struct {
	dec       *CopyDecoder
	enc       *CopyEncoder
	forgetful bool
}

func newPair(opt EncoderOptions, forgetful bool) *pair {
	return &pair{NewDecoder(opt.Dialect), newCopyEncoder(opt), forgetful}
}

// event returns what is said and written of one event.
func (p *pair) event(ev wire.Event) (said, out string) {
	if p.forgetful {
		p.dec.like.forget()
		p.enc.like.forget()
	}
	d, err := p.dec.Event(ev)
	u, has := p.dec.Usage()
	said = fmt.Sprint(d.Content, d.Finish, d.Usage, d.Done, d.Text, err, u, has, p.dec.Empty(), p.dec.End())
	if err == nil {
		out = string(p.enc.Delta(nil, d))
	}
	return said, out
}

// sameOf says where a remembering pair differs from a forgetful one.
func sameOf(opt EncoderOptions, events []string) error {
	remembering, forgetful := newPair(opt, false), newPair(opt, true)
	for i, ev := range events {
		gotSaid, got := remembering.event(wire.Event{Data: []byte(ev)})
		wantSaid, want := forgetful.event(wire.Event{Data: []byte(ev)})
		if gotSaid != wantSaid || got != want {
			return fmt.Errorf("event %d %q\n got %s %q\nwant %s %q", i, ev, gotSaid, got, wantSaid, want)
		}
	}
	got, want := remembering.enc.Finish(nil, nil, nil), forgetful.enc.Finish(nil, nil, nil)
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the end\n got %q\nwant %q", got, want)
	}
	return nil
}

func storyEvents(s streamStory) []string {
	var scan wire.Scanner
	scan.Reset(0)
	r := &cuts{p: []byte(s.answer), size: 1 << 20}
	var all []string
	for {
		ev, ok, err := scan.Next()
		if err == nil && !ok {
			if _, err = scan.Fill(r); err == nil {
				continue
			}
			if ev, ok = scan.End(); !ok {
				return all
			}
		}
		all = append(all, string(ev.Data))
	}
}

// An event that is like the one before it must mean and become what it would
// have had it been read whole: with texts of every kind, and with events that
// only look alike.
func TestLikeEventsAreReadAsIfWhole(t *testing.T) {
	texts := []string{"", "a", `\"`, `\\`, `\u00e9`, `\ud83d\ude00`, "é", `x","finish_reason":"stop`, `","role":"user`, `\`, `\x`, `\u12`, "\x01", "a\tb", `"`, `a"`, "\xff", strings.Repeat("long ", 1000)}
	learned := 0
	for _, file := range stories(t) {
		s, _ := readStreamStory(t, file)
		if s.dialect() == wire.Responses {
			continue
		}
		events := storyEvents(s)
		if err := sameOf(s.options(), events); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			var many []string
			for _, ev := range events {
				many = append(many, ev)
				var d Delta
				var at wire.Span
				dec := CopyDecoder{dialect: s.dialect()}
				if dec.Reset(s.dialect()); dec.chunk(&d) == nil {
					t.Fatal("an empty event is no chunk")
				}
				d.Data = []byte(ev)
				if dec.Reset(s.dialect()); dec.chunk(&d) == nil {
					at = d.Text
				}
				for n := rnd.IntN(4); n > 0; n-- {
					switch {
					case at.Present():
						learned++
						many = append(many, ev[:at.Start]+texts[rnd.IntN(len(texts))]+ev[at.End:])
					case rnd.IntN(8) == 0 && len(ev) > 0:
						cut := rnd.IntN(len(ev))
						many = append(many, ev[:cut]+string(rune(rnd.IntN(128)))+ev[cut:])
					}
				}
			}
			if err := sameOf(s.options(), many); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
	if learned == 0 {
		t.Fatal("no story has a text")
	}
}

func FuzzLike(f *testing.F) {
	const ev = `{"id":"a","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":null}],"usage":null}`
	f.Add(ev, ev, strings.Replace(ev, `"x"`, `"y\n"`, 1), false)
	f.Add(ev, strings.Replace(ev, `"x"`, `""`, 1), ev, true)
	f.Add(ev, ev, strings.Replace(ev, `null`, `"stop"`, 1), true)
	f.Fuzz(func(t *testing.T, a, b, c string, hide bool) {
		opt := EncoderOptions{Dialect: wire.Chat, Model: "p/m", HideUsage: hide, ID: "i", Created: 7}
		if err := sameOf(opt, []string{a, b, a, c, b, a, c}); err != nil {
			t.Fatal(err)
		}
	})
}

// The relay's work on a token must not allocate, nor on a target's change of
// heart about what an event looks like.
func TestLikeEventsDoNotAllocate(t *testing.T) {
	dec, enc := NewDecoder(wire.Chat), newCopyEncoder(EncoderOptions{Dialect: wire.Chat, Model: "near/m", ID: "x"})
	var out []byte
	i := 0
	step := func() {
		d, err := dec.Event(wire.Event{Data: tokenEvents[i%len(tokenEvents)]})
		if err != nil {
			t.Fatal(err)
		}
		out = enc.Delta(out[:0], d)
		i++
	}
	for range 2 * len(tokenEvents) {
		step()
	}
	if n := testing.AllocsPerRun(100, step); n > 0 {
		t.Errorf("%v allocations an event", n)
	}
}

var tokenEvents = func() (all [][]byte) {
	for _, w := range strings.Fields(`Simulated words follow one another so that something can be measured.`) {
		all = append(all, fmt.Appendf(nil, `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795615883,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" %s"},"logprobs":null,"finish_reason":null}],"usage":null}`, w))
	}
	return all
}()

func BenchmarkToken(b *testing.B) {
	for _, c := range []struct {
		name   string
		differ bool
	}{{"like", false}, {"unlike", true}} {
		b.Run(c.name, func(b *testing.B) {
			dec, enc := NewDecoder(wire.Chat), newCopyEncoder(EncoderOptions{Dialect: wire.Chat, Model: "near/m", ID: "x"})
			var out []byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ev := tokenEvents[i%len(tokenEvents)]
				if c.differ {
					ev[bytes.Index(ev, []byte("1795"))+9] = '0' + byte(i%10) // the last digit of created
				}
				d, err := dec.Event(wire.Event{Data: ev})
				if err != nil {
					b.Fatal(err)
				}
				out = enc.Delta(out[:0], d)
			}
		})
	}
}
