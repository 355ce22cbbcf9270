package card

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"nearside/bench/measure"
	"nearside/upstream/sim"
)

func points(t *testing.T, c *Card, section string) (float64, *Section) {
	t.Helper()
	s := c.Section(section)
	if s == nil {
		t.Fatalf("no section %q: %+v", section, c)
	}
	return s.Points / s.Of, s
}

// A server that does everything rightly must get full marks, or the card would blame
// servers for its own mistakes.
func TestGoodServerGetsFullMarks(t *testing.T) {
	c := look(t, serve(t), Options{Seed: 1})
	for _, s := range c.Sections {
		if s.Of == 0 || s.Points != s.Of || s.Mark() != "good" {
			t.Errorf("%s: %s, %g of %g: %+v", s.Name, s.Mark(), s.Points, s.Of, s.Checks)
		}
		for _, ch := range s.Checks {
			if ch.Unknown {
				t.Errorf("%s, %s: unknown: %s", s.Name, ch.Name, ch.Note)
			}
		}
	}
	if len(c.Sections) != 7 || c.Window != fakeWindow || c.Server != "fake" || c.Simulated || c.Section(ToolCalls).Of != float64(len(toolCases)) || c.Requests < 40 || c.Input == 0 || c.Output == 0 {
		t.Errorf("%+v", c)
	}
	if n := len(toolCases); n < 20 || n > 30 {
		t.Errorf("%d cases of tool calls", n)
	}
}

// What a server breaks must cost it points, in the section where it belongs, and be
// said; and nothing else may suffer for it.
func TestBrokenServersAreSeen(t *testing.T) {
	f := func(breaks, section, mark, check, note string) {
		t.Run(breaks, func(t *testing.T) {
			t.Parallel()
			c := look(t, serve(t, breaks), Options{Seed: 1})
			_, s := points(t, c, section)
			if s.Mark() != mark {
				t.Errorf("%s of a server with broken %s is %s (%g of %g), want %s", section, breaks, s.Mark(), s.Points, s.Of, mark)
			}
			said := false
			for _, ch := range s.Checks {
				said = said || strings.Contains(ch.Name, check) && strings.Contains(ch.Note, note) && ch.Points < 1
			}
			if !said {
				t.Errorf("nothing says %q of %q: %+v", note, check, s.Checks)
			}
			for _, other := range c.Sections {
				if other.Name != section && other.Points != other.Of && !(section == ToolCalls && other.Name == Stream || section == Errors && other.Name == Context) {
					t.Errorf("%s suffers too: %+v", other.Name, other.Checks)
				}
			}
		})
	}
	f("calls-as-text", ToolCalls, "bad", "an integer", "no call, but")
	f("calls-misnamed", ToolCalls, "bad", "an integer", "set_timer was not called")
	f("calls-stringly", ToolCalls, "fair", "an integer", "set_timer: ")
	f("calls-cut", ToolCalls, "bad", "an integer", "no JSON")
	f("calls-one", ToolCalls, "fair", "three lamps", "set_light was not called")
	f("calls-always", ToolCalls, "fair", "no call for thanks", "called though it was not to")
	f("schema", Schemas, "bad", "enums", "no JSON")
	f("role", Stream, "fair", "text: the role comes first", `""`)
	f("finishes", Stream, "fair", "text: one finish_reason", "2 of them")
	f("finish-stop", Stream, "good", "call: the finish is tool_calls", `"stop"`)
	f("usage", Stream, "fair", "text: usage", "there is none")
	f("done", Stream, "bad", "text: [DONE] once", "0 times")
	f("behind", Stream, "fair", "text: nothing behind [DONE]", "1 events")
	f("ids", Stream, "fair", "text: one id", "ids")
	f("max_tokens", Limits, "bad", "max_tokens", "16 were allowed")
	f("stop", Limits, "bad", "stop", "it goes on behind the word")
	f("seed", Limits, "bad", "seed", "the same seed says")
	f("errors", Errors, "bad", "no JSON", "not the dialect's shape")
	f("cuts", Context, "fair", "is refused", "cut without a word: it counted 4096 tokens")
	f("cuts-early", Context, "bad", "90 %", "cut without a word: it counted 2048 tokens")
	f("cancel", Cancel, "bad", "a client that leaves", "as its /metrics says")
}

// Where a server shows nothing of itself, the next request tells, as long as one waits
// for the other; else the card must say that it does not know.
func TestCancelIsSeenFromOutside(t *testing.T) {
	t.Parallel()
	f := func(want string, of float64, breaks ...string) {
		t.Helper()
		c := measure.New(measure.Options{Timeout: 30 * time.Second})
		defer c.Close()
		r := &run{ctx: context.Background(), client: c, target: serve(t, breaks...), card: &Card{}}
		s := &section{}
		r.cancel(s)
		if s.Of != of || len(s.Checks) != 1 || !strings.Contains(s.Checks[0].Note, want) {
			t.Errorf("%v: %+v, want %q", breaks, s, want)
		}
		if slow := strings.Join(breaks, " ") == "one-slot cancel"; of == 1 && (s.Points == 1) == slow {
			t.Errorf("%v: %+v", breaks, s)
		}
	}
	f("as the next request's answer shows", 1, "one-slot")
	f("as the next request's answer shows", 1, "one-slot", "cancel")
	f("cannot be seen from here", 0, "no-state")
}

func simulated(t *testing.T, opt sim.Options) (*sim.Server, *measure.Target) {
	t.Helper()
	opt.Mark = true
	s := sim.New(opt)
	url, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	d := measure.Chat
	if opt.Profile == sim.Anthropic {
		d = measure.Messages
	}
	return s, &measure.Target{Name: "sim", BaseURL: url + "/v1", Model: "m", Dialect: d, Headers: map[string]string{"x-api-key": "k"}}
}

// section looks at one section only.
func sectionOf(t *testing.T, target *measure.Target, opt Options, look func(*run, *section)) *section {
	t.Helper()
	c := measure.New(measure.Options{Timeout: 30 * time.Second})
	defer c.Close()
	r := &run{ctx: context.Background(), client: c, target: target, opt: opt, card: &Card{Window: opt.Window}}
	s := &section{}
	look(r, s)
	if !r.card.Simulated {
		t.Error("the answers of a simulated server are not marked")
	}
	return s
}

// Streams of the simulated servers have the recorded shapes: in each dialect a sound one
// must pass, and each quirk must be seen.
func TestStreamsOfEachDialect(t *testing.T) {
	f := func(d measure.Dialect, opt sim.Options, steps []sim.Step, fails ...string) {
		t.Helper()
		if d == measure.Messages {
			opt.Profile = sim.Anthropic
		}
		s, target := simulated(t, opt)
		target.Dialect = d
		if steps != nil {
			s.Push(sim.Script{Steps: steps, Times: -1})
		}
		sec := sectionOf(t, target, Options{}, (*run).stream)
		var failed []string
		for _, ch := range sec.Checks {
			if ch.Points < 1 {
				failed = append(failed, ch.Name+": "+ch.Note)
			}
		}
		if len(fails) == 0 && (len(failed) > 0 || sec.Of < 15) {
			t.Errorf("%s, %v: %q of %g checks fail", d, opt.Quirks, failed, sec.Of)
		}
		for _, want := range fails {
			if !strings.Contains(strings.Join(failed, "\n"), want) {
				t.Errorf("%s, %v: %q is not among what fails: %q", d, opt.Quirks, want, failed)
			}
		}
	}
	for _, d := range measure.Dialects() {
		f(d, sim.Options{}, nil)
		f(d, sim.Options{Reasoning: "let me think"}, nil)
		f(d, sim.Options{}, []sim.Step{sim.Begin(), sim.Rest("done", "finish"), sim.End()}, "text: reads to its end")
	}
	f(measure.Chat, sim.Options{Quirks: []string{"+no-usage"}}, nil, "text: usage, since it was asked for")
	f(measure.Chat, sim.Options{Quirks: []string{"+no-finish"}}, nil, "call: one finish_reason: 0 of them")
	f(measure.Chat, sim.Options{Quirks: []string{"+usage-object"}}, nil, "text: object is chat.completion.chunk")
	f(measure.Chat, sim.Options{}, []sim.Step{sim.Begin(), sim.Rest(), sim.Piece("more"), sim.End()}, "text: nothing behind [DONE]: 1 events")
	f(measure.Responses, sim.Options{Quirks: []string{"+bare-responses"}}, nil, "text: sequence numbers rise")
	f(measure.Messages, sim.Options{}, []sim.Step{sim.Begin(), sim.Rest("finish"), sim.End()}, "text: one stop_reason: 0 of them")
}

// Servers were recorded doing these; the card has to tell them from sound ones.
func TestQuirksOfServersCost(t *testing.T) {
	f := func(look func(*run, *section), opt sim.Options, o Options, want string, check string) {
		t.Helper()
		_, target := simulated(t, opt)
		s := sectionOf(t, target, o, look)
		for _, ch := range s.Checks {
			if strings.Contains(ch.Name, check) {
				if got := map[bool]string{true: "right", false: "wrong"}[ch.Points == 1]; got != want {
					t.Errorf("%s %v, %s: %s (%s), want %s", opt.Profile, opt.Quirks, ch.Name, got, ch.Note, want)
				}
				return
			}
		}
		t.Errorf("no check %q: %+v", check, s.Checks)
	}
	// The simulated model calls the first tool of a question about the weather.
	f((*run).tools, sim.Options{}, Options{}, "right", "tool_choice none")
	f((*run).tools, sim.Options{Quirks: []string{"+tool-choice-ignored"}}, Options{}, "wrong", "tool_choice none")
	f((*run).schemas, sim.Options{}, Options{}, "right", "texts, numbers, truth")
	f((*run).schemas, sim.Options{Quirks: []string{"+json-schema-ignored"}}, Options{}, "wrong", "texts, numbers, truth")
	f((*run).context, sim.Options{Context: 8192}, Options{Window: 8192}, "right", "is refused")
	f((*run).context, sim.Options{Context: 8192}, Options{Window: 8192}, "right", "90 %")
	f((*run).context, sim.Options{Context: 8192, Quirks: []string{"+context-truncates"}}, Options{Window: 8192}, "wrong", "is refused")
	f((*run).context, sim.Options{Context: 4096, Quirks: []string{"+context-truncates"}}, Options{Window: 8192}, "wrong", "90 %")
	f((*run).context, sim.Options{Context: 4096, Quirks: []string{"+context-truncates"}}, Options{Window: 8192}, "right", "25 %")
	f((*run).context, sim.Options{Context: 4096}, Options{Window: 8192}, "wrong", "90 %") // refused, though claimed
	slow := sim.Timing{PerToken: 2 * time.Millisecond, Tokens: 4000}
	for _, p := range []sim.Profile{sim.VLLM, sim.LlamaCPP} { // each by its own metrics
		f((*run).cancel, sim.Options{Profile: p, Models: []string{"m"}, Timing: slow}, Options{}, "right", "a client that leaves")
	}
	f((*run).errors, sim.Options{}, Options{}, "right", "no JSON")
	f((*run).errors, sim.Options{Quirks: []string{"+bad-json-500"}}, Options{}, "wrong", "no JSON")
	f((*run).errors, sim.Options{Quirks: []string{"+error-string"}}, Options{}, "wrong", "messages that is a number")
	f((*run).errors, sim.Options{Profile: sim.Anthropic}, Options{}, "right", "no messages")
}

// The claim is read where each server has it, also once the model is loaded.
func TestClaimsAreFound(t *testing.T) {
	for _, p := range []sim.Profile{sim.VLLM, sim.SGLang, sim.LlamaCPP, sim.Ollama, sim.LMStudio} {
		_, target := simulated(t, sim.Options{Profile: p, Models: []string{"m"}, Context: 5000})
		c := measure.New(measure.Options{})
		r := &run{ctx: context.Background(), client: c, target: target, card: &Card{}}
		r.send(target, measure.Prompt{Messages: user("Hi"), Output: limitOut}, measure.Watch{})
		if got := r.claim(c.Look(r.ctx, target)); got != 5000 {
			t.Errorf("%s claims %d, want 5000", p, got)
		}
		c.Close()
	}
}

// The text fits a terminal of 100 columns, says that a server is simulated, and names
// what is wrong.
func TestCardIsWritten(t *testing.T) {
	_, target := simulated(t, sim.Options{Context: 4096})
	c := look(t, target, Options{Window: 4096})
	var b strings.Builder
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"sim  SIMULATED: a scripted server", "claims 4096 tokens", "tool calls   bad", "an integer: no call, but", "more (--json)", "stream       good"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// Words of a server must not move the terminal of whoever reads its card.
func TestCardIsPlain(t *testing.T) {
	c := &Card{Target: "t\x1b[2J", Server: "s\x07", Sections: []Section{{Name: Errors, Of: 1, Checks: []Check{{Name: "no JSON", Note: "\x1b]0;owned\x07 a\u202eb\nc"}}}}}
	var b strings.Builder
	if err := c.Write(&b); err != nil || strings.ContainsAny(b.String(), "\x1b\x07\u202e") || !strings.Contains(b.String(), "owned ab c") {
		t.Errorf("%v: %q", err, b.String())
	}
}

// Where tokens cost money, a window's worth of them is only sent when somebody says so.
func TestPricedWindowIsAskedFor(t *testing.T) {
	s, target := simulated(t, sim.Options{Profile: sim.VLLM, Models: []string{"m"}, Context: 4096})
	target.Prices = &measure.Prices{Input: 1, Output: 2}
	sec := sectionOf(t, target, Options{Window: 4096}, (*run).context)
	if sec.Of != 4 {
		t.Errorf("asked for: %+v", sec)
	}
	before := s.Count()
	c := measure.New(measure.Options{})
	defer c.Close()
	r := &run{ctx: context.Background(), client: c, target: target, card: &Card{Window: 4096}}
	sec = &section{}
	r.context(sec)
	if sec.Of != 0 || len(sec.Checks) != 1 || !strings.Contains(sec.Checks[0].Note, "cost money") || s.Count() != before {
		t.Errorf("not asked for: %+v, %d requests", sec, s.Count()-before)
	}
}

// An interrupted card keeps the sections that are whole, and says so.
func TestInterruptKeepsSections(t *testing.T) {
	target := serve(t)
	c := measure.New(measure.Options{})
	defer c.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	got := Run(ctx, c, target, Options{Progress: func(s string) {
		if s == Stream {
			stop()
		}
	}})
	if !got.Cut || len(got.Sections) != 2 || got.Section(Schemas).Mark() != "good" {
		t.Errorf("%+v", got)
	}
}
