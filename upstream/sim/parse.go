package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// fillMax bounds what one step of a script may write.
const fillMax = 1 << 30

// ParseScripts reads scripts as text: one step a line, or several with ";"
// between them; "#" begins a comment; a line of "---" begins the next script.
// Arguments with spaces are quoted as in Go, with " or `.
//
//	name TEXT · path PATH · times N · reused · early · accept
//	answer · begin [HEADER]... · next N · upto KIND · rest [-KIND]... · end
//	head STATUS [HEADER]... · stream [HEADER]...
//	reply STATUS BODY [HEADER]... · fail STATUS MESSAGE [HEADER]...
//	raw BYTES · body BYTES · fill N [BYTE] · data TEXT · event NAME TEXT · error MESSAGE
//	piece TEXT · flood N · bulk N · torn · done
//	wait DURATION · hold · rst · close
//	split N · lines crlf|cr|lf · comments N · gzip · eof · untyped · length N
//
// The words do what the functions of the same name do. times is negative for
// every request. Errors begin with the line.
func ParseScripts(text string) ([]Script, error) {
	var all []Script
	var sc Script
	used := false
	for i, l := range strings.Split(text, "\n") {
		if strings.TrimSpace(l) == "---" {
			all = append(all, sc)
			sc, used = Script{}, true
			continue
		}
		commands, err := tokens(l)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		for _, words := range commands {
			used = true
			if err := sc.word(words); err != nil {
				return nil, fmt.Errorf("line %d: %s: %w", i+1, words[0], err)
			}
		}
	}
	if used {
		all = append(all, sc)
	}
	return all, nil
}

// tokens cuts a line into commands and these into words.
func tokens(l string) ([][]string, error) {
	var all [][]string
	var words []string
	for {
		l = strings.TrimLeft(l, " \t\r")
		switch {
		case l == "" || l[0] == '#' || l[0] == ';':
			if len(words) > 0 {
				all = append(all, words)
				words = nil
			}
			if l == "" || l[0] == '#' {
				return all, nil
			}
			l = l[1:]
			continue
		case l[0] == '"' || l[0] == '`':
			q, err := strconv.QuotedPrefix(l)
			if err != nil {
				return nil, fmt.Errorf("a quoted text does not end: %s", l)
			}
			w, err := strconv.Unquote(q)
			if err != nil {
				return nil, fmt.Errorf("cannot read %s: %w", q, err)
			}
			words, l = append(words, w), l[len(q):]
			continue
		}
		end := strings.IndexAny(l, " \t\r;")
		if end < 0 {
			end = len(l)
		}
		words, l = append(words, l[:end]), l[end:]
	}
}

// word adds what one command says to a script.
func (sc *Script) word(w []string) error {
	args := w[1:]
	need := func(min, max int) error {
		if len(args) < min || max >= 0 && len(args) > max {
			return fmt.Errorf("wrong number of arguments: %d", len(args))
		}
		return nil
	}
	number := func(i, low, high int) (int, error) {
		n, err := strconv.Atoi(args[i])
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("%q is not a number from %d to %d", args[i], low, high)
		}
		return n, nil
	}
	kinds := func(names ...string) error {
		for _, n := range names {
			if kindOf(n) == 0 {
				return fmt.Errorf("no kind of event called %q (there are role, reasoning, content, finish, usage, done)", n)
			}
		}
		return nil
	}
	var st Step
	var err error
	n := 0
	switch w[0] {
	case "reused", "early", "accept", "answer", "end", "hold", "rst", "close", "gzip", "eof", "untyped", "torn", "done":
		if err = need(0, 0); err != nil {
			return err
		}
		switch w[0] {
		case "reused":
			sc.Reused = true
			return nil
		case "early":
			sc.Early = true
			return nil
		case "accept":
			sc.Accept = true
			return nil
		}
		st = Step{op: w[0]}
	case "name", "path":
		if err = need(1, 1); err != nil {
			return err
		}
		if w[0] == "name" {
			sc.Name = args[0]
		} else {
			sc.Path = args[0]
		}
		return nil
	case "raw", "body", "data", "error", "piece":
		if err = need(1, 1); err == nil {
			st = Step{op: w[0], text: args[0]}
		}
	case "event":
		if err = need(2, 2); err == nil {
			st = Event(args[0], args[1])
		}
	case "begin", "stream":
		if st = Begin(args...); w[0] == "stream" {
			st = Stream(args...)
		}
	case "times", "next", "split", "comments", "length", "flood":
		if err = need(1, 1); err != nil {
			return err
		}
		low := 1
		if w[0] == "times" || w[0] == "length" {
			low = -1 << 20
		}
		if n, err = number(0, low, 1<<20); err != nil {
			return err
		}
		if w[0] == "times" {
			sc.Times = n
			return nil
		}
		st = Step{op: w[0], n: n}
	case "head", "reply", "fail":
		least := 2
		if w[0] == "head" {
			least = 1
		}
		if err = need(least, -1); err != nil {
			return err
		}
		if n, err = number(0, 100, 999); err != nil {
			return err
		}
		switch w[0] {
		case "head":
			st = Head(n, args[1:]...)
		case "reply":
			st = Reply(n, args[1], args[2:]...)
		default:
			st = Fail(n, args[1], args[2:]...)
		}
	case "bulk":
		if err = need(1, 1); err == nil {
			n, err = number(0, 1, fillMax)
			st = Bulk(n)
		}
	case "fill":
		if err = need(1, 2); err != nil {
			return err
		}
		if n, err = number(0, 1, fillMax); err != nil {
			return err
		}
		b := byte('x')
		if len(args) == 2 {
			if len(args[1]) != 1 {
				return fmt.Errorf("%q is not one byte", args[1])
			}
			b = args[1][0]
		}
		st = Fill(n, b)
	case "upto":
		if err = need(1, 1); err == nil {
			if err = kinds(args[0]); err == nil {
				st = UpTo(args[0])
			}
		}
	case "rest":
		names := make([]string, len(args))
		for i, a := range args {
			name, ok := strings.CutPrefix(a, "-")
			if !ok {
				return fmt.Errorf("%q: write -%s to leave events out", a, a)
			}
			names[i] = name
		}
		if err = kinds(names...); err == nil {
			st = Rest(names...)
		}
	case "wait":
		if err = need(1, 1); err == nil {
			var d time.Duration
			if d, err = time.ParseDuration(args[0]); err == nil && d < 0 {
				err = fmt.Errorf("%v is negative", d)
			}
			st = Wait(d)
		}
	case "lines":
		if err = need(1, 1); err == nil {
			if args[0] != "crlf" && args[0] != "cr" && args[0] != "lf" {
				err = fmt.Errorf("%q is none of crlf, cr, lf", args[0])
			}
			st = Lines(args[0])
		}
	default:
		return fmt.Errorf("no such step")
	}
	if err != nil {
		return err
	}
	sc.Steps = append(sc.Steps, st)
	return nil
}

// String returns the script as ParseScripts reads it, one step a line. A channel
// to wait for cannot be written and shows as a comment.
func (sc Script) String() string {
	var b strings.Builder
	put := func(words ...string) {
		for i, w := range words {
			if i > 0 {
				b.WriteByte(' ')
			}
			if plainWord(w) {
				b.WriteString(w)
			} else {
				b.WriteString(strconv.Quote(w))
			}
		}
		b.WriteByte('\n')
	}
	if sc.Name != "" {
		put("name", sc.Name)
	}
	if sc.Path != "" {
		put("path", sc.Path)
	}
	if sc.Times != 0 {
		put("times", strconv.Itoa(sc.Times))
	}
	for _, f := range []struct {
		on   bool
		word string
	}{{sc.Reused, "reused"}, {sc.Early, "early"}, {sc.Accept, "accept"}} {
		if f.on {
			put(f.word)
		}
	}
	for _, st := range sc.Steps {
		n := strconv.Itoa(st.n)
		switch st.op {
		case "until":
			b.WriteString("# until a channel is closed\n")
		case "next", "split", "comments", "length", "flood", "bulk":
			put(st.op, n)
		case "upto", "raw", "body", "data", "error", "lines", "piece":
			put(st.op, st.text)
		case "event":
			put(st.op, st.name, st.text)
		case "begin":
			put(append([]string{st.op}, st.headers...)...)
		case "head":
			put(append([]string{st.op, n}, st.headers...)...)
		case "reply", "fail":
			put(append([]string{st.op, n, st.text}, st.headers...)...)
		case "fill":
			put(st.op, n, st.text)
		case "wait":
			put(st.op, st.d.String())
		case "rest":
			words := []string{st.op}
			for _, k := range []string{"role", "reasoning", "content", "finish", "usage", "done"} {
				if st.skip&(1<<kindOf(k)) != 0 {
					words = append(words, "-"+k)
				}
			}
			put(words...)
		default:
			put(st.op)
		}
	}
	return b.String()
}

// plainWord says whether a word needs no quotes.
func plainWord(w string) bool {
	if w == "" || w == "---" {
		return false
	}
	for i := range len(w) {
		if w[i] <= ' ' || w[i] >= 0x7f || strings.IndexByte("\"`;#", w[i]) >= 0 {
			return false
		}
	}
	return true
}
