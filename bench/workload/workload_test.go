package workload

import (
	"bytes"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nearside/bench/measure"
)

// Lengths are what plans and reports rest on: a range has to give every length of it, a
// normal one its mean and spread, and what is neither has to be refused.
func TestLengths(t *testing.T) {
	f := func(text string, mean, low, high float64) {
		t.Helper()
		l, err := ParseLength(text)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseLength(l.String()); err != nil || again != l {
			t.Errorf("%s is written as %s, which is read as %v, %v", text, l, again, err)
		}
		sum, least, most := 0, math.MaxInt, 0
		rnd := random(7, 1)
		const n = 20000
		for range n {
			v := l.draw(rnd)
			sum, least, most = sum+v, min(least, v), max(most, v)
		}
		if got := float64(sum) / n; math.Abs(got-mean) > mean/100 || float64(least) < low || float64(most) > high || l.Spread+l.High > 0 && least == most {
			t.Errorf("%s: mean %g, from %d to %d, want %g, from %g to %g", text, got, least, most, mean, low, high)
		}
		if l.High > 0 && (least != l.Low || most != l.High) {
			t.Errorf("%s: never as short or long as may be: %d to %d", text, least, most)
		}
	}
	f("512", 512, 512, 512)
	f("128..1024", 576, 128, 1024)
	f("~512±128", 512, 128, 896)
	f("~512+-128", 512, 128, 896)
	for _, bad := range []string{"", "0", "-3", "x", "10..5", "0..5", "~5", "~0±3", "~a±3", "5±1", "99999999999"} {
		if l, err := ParseLength(bad); err == nil {
			t.Errorf("%q is read as %v", bad, l)
		} else if !strings.Contains(err.Error(), "128..1024") {
			t.Errorf("%q: the error does not say how it is written: %v", bad, err)
		}
	}
}

func prompts(t *testing.T, src Source, n int, salt string) []*Request {
	t.Helper()
	var all []*Request
	for i := range n {
		r, ok := src.Session(i, salt).Next(nil)
		if !ok || r.Wrong != nil {
			t.Fatalf("%s: session %d: %v, %v", src.Name(), i, ok, r)
		}
		all = append(all, r)
	}
	return all
}

func body(t *testing.T, r *Request) []byte {
	t.Helper()
	p, err := r.Prompt.Body(&measure.Target{Name: "t", Model: "m", Dialect: measure.Chat})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The same seed and salt must ask the same, byte by byte; another salt must share no
// beginning with it, or a cache would answer for the second target.
func TestSourcesFollowFromTheirSeed(t *testing.T) {
	make := func(seed uint64) []Source {
		return []Source{
			&Synthetic{Input: Length{Low: 100, High: 200}, Output: Length{Mean: 50, Spread: 10}, Seed: seed},
			&Prefix{Prefixes: 3, Share: 75, Input: Fixed(200), Output: Fixed(20), Seed: seed},
			&Agent{Turns: 3, Result: Fixed(50), Output: Fixed(20), Seed: seed},
			&Vision{Images: 2, Side: 64, Output: Fixed(20), Seed: seed},
		}
	}
	again, other := make(1), make(2)
	for i, src := range make(1) {
		a, b := prompts(t, src, 6, "s"), prompts(t, again[i], 6, "s")
		salted, seeded := prompts(t, src, 6, "s2"), prompts(t, other[i], 6, "s")
		differ := false
		for n := range a {
			if !bytes.Equal(body(t, a[n]), body(t, b[n])) {
				t.Errorf("%s: prompt %d differs with the same seed", src.Name(), n)
			}
			if bytes.Equal(body(t, a[n]), body(t, salted[n])) || a[n].Prefix == salted[n].Prefix {
				t.Errorf("%s: prompt %d is the same with another salt", src.Name(), n)
			}
			differ = differ || !bytes.Equal(body(t, a[n]), body(t, seeded[n])) || src.Name()[:3] == "vis"
		}
		if !differ {
			t.Errorf("%s: the seed changes nothing", src.Name())
		}
	}
}

// Requests of one beginning must begin alike to the byte, and only those.
func TestPrefixIsShared(t *testing.T) {
	const prefixes = 3
	all := prompts(t, &Prefix{Prefixes: prefixes, Suffixes: 2, Share: 75, Input: Fixed(400), Output: Fixed(20), Seed: 1}, 12, "s")
	for i, r := range all {
		for j, other := range all {
			same := r.Prompt.Messages[0].Text == other.Prompt.Messages[0].Text
			if want := i%prefixes == j%prefixes; same != want || (r.Prefix == other.Prefix) != want {
				t.Errorf("prompts %d and %d: the same beginning is %v, the same name of it %v, want %v", i, j, same, r.Prefix == other.Prefix, want)
			}
		}
		if n := len(strings.Fields(r.Prompt.Messages[0].Text)); n != 300 {
			t.Errorf("prompt %d begins with %d words, want 300", i, n)
		}
		if n := len(strings.Fields(r.Prompt.Messages[1].Text)); n != 100 {
			t.Errorf("prompt %d ends with %d words, want 100", i, n)
		}
	}
	if string(body(t, all[0])) != string(body(t, all[6])) || string(body(t, all[0])) == string(body(t, all[3])) {
		t.Error("two ends of each beginning: the first and the third request of one must be the same, the second another")
	}
}

// An agent's conversation must be one that servers take: results behind their calls, no
// empty message, arguments that are JSON; and each turn must begin with the one before.
func TestAgentGoesOnWithWhatWasAnswered(t *testing.T) {
	src := &Agent{Turns: 4, Result: Fixed(30), Output: Fixed(20), Seed: 1}
	s := src.Session(0, "s")
	first, _ := s.Next(nil)
	if n := len(body(t, first)); n < 44_000 || n > 60_000 {
		t.Errorf("an agent's first body has %d bytes, recorded ones 44 to 60 thousand", n)
	}
	if len(first.Prompt.Tools) < 15 {
		t.Errorf("%d tools", len(first.Prompt.Tools))
	}
	second, _ := s.Next(&measure.Answer{Text: "I look.", Calls: []measure.Call{{ID: "a", Name: "read_file", Arguments: `{"path":"x"}`}, {Name: "search", Arguments: `{"patt`}}})
	m := second.Prompt.Messages
	if len(m) != 5 || m[2].Role != "assistant" || m[2].Calls[1].Arguments != "{}" || m[2].Calls[1].ID == "" || m[3].CallID != "a" || m[4].CallID != m[2].Calls[1].ID || second.Prefix != first.Prefix || second.Turn != 2 {
		t.Fatalf("second turn: %+v", m[2:])
	}
	if len(strings.Fields(m[3].Text)) < 15 {
		t.Errorf("a result of %q, want about 15 words", m[3].Text)
	}
	third, _ := s.Next(&measure.Answer{})
	m = third.Prompt.Messages
	if len(m) != 7 || m[5].Text == "" || m[6].Role != "user" {
		t.Fatalf("third turn: %+v", m[5:])
	}
	for i := range second.Prompt.Messages {
		if fmt.Sprint(second.Prompt.Messages[i]) != fmt.Sprint(third.Prompt.Messages[i]) {
			t.Errorf("message %d changed between turns", i)
		}
	}
	if _, ok := s.Next(nil); ok {
		t.Error("it goes on after a turn that failed")
	}
	for _, d := range measure.Dialects() {
		if _, err := third.Prompt.Body(&measure.Target{Model: "m", Dialect: d}); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// Pictures must be PNG files of their size, and small enough to send many.
func TestPicturesAreSmallPNGs(t *testing.T) {
	for _, r := range prompts(t, &Vision{Images: 3, Side: 256, Output: Fixed(10)}, 3, "s") {
		seen := map[string]bool{}
		for _, p := range r.Prompt.Messages[0].Images {
			img, err := png.Decode(bytes.NewReader(p))
			if err != nil || img.Bounds().Dx() != 256 || img.Bounds().Dy() != 256 || len(p) > 60_000 || seen[string(p)] {
				t.Fatalf("%d bytes, %v, seen before %v", len(p), err, seen[string(p)])
			}
			seen[string(p)] = true
		}
		if len(seen) != 3 {
			t.Errorf("%d pictures", len(seen))
		}
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Traces come in several spellings, and a wrong line must be named.
func TestTraces(t *testing.T) {
	f := func(text string, want ...[2]int32) {
		t.Helper()
		tr, err := ReadTrace(write(t, "trace", text))
		if err != nil || fmt.Sprint(tr.pairs) != fmt.Sprint(want) {
			t.Errorf("%q: %v, %v, want %v", text, tr, err, want)
		}
	}
	f("512 128\n# a remark\n\n64\t8\n", [2]int32{512, 128}, [2]int32{64, 8})
	f("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,374,44\n2023-11-16 18:17:04,396,109\n", [2]int32{374, 44}, [2]int32{396, 109})
	f(`{"timestamp":0,"input_length":6755,"output_length":500,"hash_ids":[1]}`+"\n"+`{"input":5,"output":6}`, [2]int32{6755, 500}, [2]int32{5, 6})
	g := func(text, want string) {
		t.Helper()
		if tr, err := ReadTrace(write(t, "trace", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want an error with %q", text, tr, err, want)
		}
	}
	g("1 2\n3\n", "trace:2: ")
	g("1 2\n\n3 x\n", "trace:3: ")
	g("1 2\n{\"input\":1}\n", "trace:2: no input and output")
	g("", "no pairs")
	s := &Synthetic{Trace: &Trace{pairs: [][2]int32{{40, 4}, {20, 2}}}}
	all := prompts(t, s, 3, "s")
	if all[0].Input != 40 || all[1].Input != 20 || all[2].Input != 40 || all[1].Prompt.Output != 2 || len(strings.Fields(all[1].Prompt.Messages[0].Text)) != 20 {
		t.Errorf("lengths of the trace: %d, %d, %d", all[0].Input, all[1].Input, all[2].Input)
	}
}
