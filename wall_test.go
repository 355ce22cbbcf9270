package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-json"

	"nearside/breaker"
	"nearside/upstream/sim"
)

// wallNote says what the scorecard is, wherever it is shown.
const wallNote = "Our own reconstruction of failoverbench's 16 scenarios from its published description; not run by its authors."

// The answers of the wall have sixty words, so that a part of one is known as such.
var wallWords = strings.Fields(`A wall is built of stones that were each tried by hand before they were laid and whoever leans on it
	later does not ask which of them was the last to hold so we throw at ours what weather throws and write down
	for every stone whether it stayed where it was put or moved and let rain in`)

var wallText = strings.Join(wallWords, " ")

// What became of a cell or a scenario, worst last.
const (
	wallPass    = "pass"    // what is right happened, and everybody behaved
	wallPartial = "partial" // it happened, and somebody might have behaved better
	wallSafe    = "safe"    // it did not, and the client was told plainly
	wallFail    = "fail"    // a hang, a part shown as the whole, or a broken rule
)

var wallOrder = []string{wallPass, wallPartial, wallSafe, wallFail}

func worse(a, b string) string {
	if slices.Index(wallOrder, a) > slices.Index(wallOrder, b) {
		return a
	}
	return b
}

// scenario is one of the sixteen.
type scenario struct {
	id, title string
	fault     string // what the primary does
	right     string // what we hold to be right
	streams   bool   // it is about streams only
	variants  []string
	play      func(c *wallCell)
}

// wallCell is a scenario for a client of one dialect, streamed or whole, in one
// variant. Its primary and its fallback speak the client's dialect.
type wallCell struct {
	w        *wall
	scene    *scenario
	dialect  string
	stream   bool
	variant  string
	model    string // what the client asks for: ref, or a chain of the two
	ref      string // of the primary
	next     string // of the fallback
	primary  *wallModel
	fallback *wallModel

	got      reply
	end      ending
	took     time.Duration
	receipt  obj
	rescued  bool
	verdict  string
	byRule   string // the verdict by the published rule
	notes    []string
	advisory bool   // the published rule has something to say
	asked    [2]int // requests at the primary and the fallback, once counted
}

// wall is the proxy and the backends of the scenarios.
type wall struct {
	*running
	t     *testing.T
	scale time.Duration
	sides map[string]*wallSide // by provider
}

// of scales a duration of the published description.
func (w *wall) of(d time.Duration) time.Duration { return d / w.scale }

// must holds the cell to a rule; a broken one is a failure.
func (c *wallCell) must(rule string, ok bool, format string, args ...any) {
	if !ok {
		c.verdict, c.byRule = wallFail, wallFail
		c.notes = append(c.notes, rule+": "+fmt.Sprintf(format, args...))
	}
}

// published notes an advisory check of the published description that we do not
// hold to be right for a proxy: it moves the second verdict only.
func (c *wallCell) published(check string, ok bool) {
	if !ok {
		c.advisory = true
		c.notes = append(c.notes, "published advisory check: "+check)
	}
}

// ask sends the cell's request and reads what became of it.
func (c *wallCell) ask() {
	q := question{model: c.model, user: "tell me about walls", stream: c.stream}
	began := time.Now()
	var headers []string
	if c.model == c.ref {
		headers = []string{"X-Nearside-Fallback", c.next}
	}
	got, err := c.w.tries(pathOf(c.dialect), q.in(c.dialect), c.w.of(200*time.Second)+patience, headers...)
	c.took = time.Since(began)
	c.got, c.receipt = got, nil
	if err != nil {
		c.must("no hang", false, "%v", err)
		return
	}
	c.end = got.ended(c.dialect, c.stream)
	c.rescued = c.end.kind == endWhole && c.end.text == wallText
	if where := got.leaks(); where != "" {
		c.must("no secret", false, "a key is in %s", where)
	}
	c.must("one end", c.end.kind != endMuddled && c.end.kind != endTruncated && c.end.ends == 1, "%s with %d ends: %.2000s", c.end.kind, c.end.ends, got.body)
	c.must("no part as the whole", c.end.kind != endWhole || c.rescued, "a whole answer says %q", c.end.text)
	id := got.header.Get("X-Request-Id")
	if c.receipt = c.w.noted(id); c.receipt == nil {
		c.must("a receipt", false, "none of %s", id)
		return
	}
	want := "error"
	if c.end.kind == endWhole {
		want = "ok"
	}
	c.must("the receipt's outcome", str(c.receipt["outcome"]) == want, "%v, want %s", c.receipt["outcome"], want)
	// Accounting: who answered, and each token once.
	if c.end.kind == endWhole {
		usage := sub(c.receipt["usage"])
		all := c.end.output == len(wallWords)
		if c.receipt["usage_partial"] == true { // the stream that broke has counted none of its own
			all = c.variant == "continued" && c.end.output > 0 && c.end.output < len(wallWords)
		}
		c.must("usage", all && c.end.input > 0 && num(usage["output"]) == c.end.output && num(usage["input"]) == c.end.input,
			"the client was told %d, %d, the receipt has %v", c.end.input, c.end.output, usage)
	}
}

// wants says what is right here: an answer, or a plain error.
func (c *wallCell) wants(answer bool) {
	if answer && !c.rescued || !answer && c.end.kind != endStatus && c.end.kind != endError {
		c.verdict = worse(c.verdict, wallSafe)
		c.notes = append(c.notes, fmt.Sprintf("ended with %s %d %s", c.end.kind, c.got.status, c.end.code))
	}
}

// served holds who answered, and all that was tried, against what is told.
func (c *wallCell) served(by, attempts string) {
	told := c.got.header.Get("X-Nearside-Attempts")
	if told == "" { // the heartbeats took the headers' place
		told = attemptsOf(c.receipt)
	}
	c.must("the attempts", matches(told, attempts) && matches(attemptsOf(c.receipt), attempts), "told %q, noted %q, want %q", told, attemptsOf(c.receipt), attempts)
	if by != "" {
		c.must("the model", c.end.model == by && str(c.receipt["model"]) == by, "the answer names %q, the receipt %q, want %q", c.end.model, c.receipt["model"], by)
	}
}

// matches takes alternatives, separated by |, and * for any text.
func matches(got, want string) bool {
	for one := range strings.SplitSeq(want, "|") {
		if regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(one), `\*`, ".*") + "$").MatchString(got) {
			return true
		}
	}
	return false
}

// tried bounds what the backends may have been asked.
func (c *wallCell) tried(primary, fallback int) {
	c.must("requests at the backends", c.primary.count() == primary && c.fallback.count() == fallback, "%d at the primary and %d at the fallback, want %d and %d",
		c.primary.count(), c.fallback.count(), primary, fallback)
}

// counted keeps how often the backends were asked, for the scorecard.
func (c *wallCell) counted() {
	if c.asked == [2]int{} {
		c.asked = [2]int{c.primary.count(), c.fallback.count()}
	}
}

// left waits until the primary's connection was closed by the proxy.
func (c *wallCell) left() {
	select {
	case <-c.primary.gone:
	case <-time.After(patience):
		c.must("the primary is left", false, "its connection is still open")
	}
}

// within bounds how long the call took where durations are the published ones.
// Where they are scaled a slow machine would be what is measured.
func (c *wallCell) within(d time.Duration) {
	c.must("bounded", c.w.scale > 1 || c.took < d, "it took %v", c.took)
}

// held says whether the client was told that the stream lives, so that the
// status is gone: on a machine that is slow, or where the backend was.
func (c *wallCell) held() bool {
	return c.stream && c.end.kind == endError && c.took >= c.w.of(20*time.Second)
}

// alive asks for a good answer of the same providers.
func (c *wallCell) alive() {
	provider, _, _ := strings.Cut(c.ref, "/")
	q := question{model: provider + "/ok", user: "are you well?", stream: c.stream}
	got, err := c.w.tries(pathOf(c.dialect), q.in(c.dialect), patience, "X-Nearside-Fallback", "none")
	c.must("alive afterwards", err == nil && got.ended(c.dialect, c.stream).kind == endWhole, "%v %d %s", err, got.status, got.body)
}

func (c *wallCell) name() string {
	name := c.scene.id + " " + c.dialect
	if c.stream {
		name += " stream"
	} else {
		name += " whole"
	}
	if c.variant != "" {
		name += " " + c.variant
	}
	return name
}

// startWall starts the proxy of the scenarios: the published parameters (30 s,
// one fallback), and the defaults for everything else, all durations scaled but that
// of heartbeats: a busy machine takes two seconds for a refusal now and then, and
// what a client is told behind a heartbeat is another thing than a refusal.
func startWall(t *testing.T, cells []*wallCell) *wall {
	w := &wall{t: t, scale: 10, sides: map[string]*wallSide{}}
	if os.Getenv("NEARSIDE_WALL") == "full" {
		w.scale = 1
	}
	ms := func(d time.Duration) int { return int(w.of(d) / time.Millisecond) }
	var providers, settings []string
	for _, d := range wireDialects {
		opt := wallOptions(d.name)
		opt.Reply = wallText
		near, far := newWallSide(t, opt), newWallSide(t, opt)
		var models []string
		for _, c := range cells {
			if c.dialect == d.name {
				models = append(models, strings.ReplaceAll(c.name(), " ", "-"))
			}
		}
		models = append(models, "ok")
		timeout := fmt.Sprintf("timeoutSeconds: %d,", int(w.of(30*time.Second)/time.Second))
		for _, p := range []struct {
			id       string
			side     *wallSide
			more     string
			settings string
		}{
			{"near-" + d.name, near, timeout, fmt.Sprintf("breaker: {openForMs: %d, openMaxMs: %d}", ms(breaker.Near().OpenFor), ms(breaker.Near().OpenMax))},
			{"far-" + d.name, far, timeout, fmt.Sprintf("near: false, breaker: {openForMs: %d, openMaxMs: %d}", ms(breaker.Far().OpenFor), ms(breaker.Far().OpenMax))},
			// A near backend that nobody gave a limit, and a far one with one for its first token.
			{"patient-" + d.name, near, "", fmt.Sprintf("deadlines: {firstContentMinMs: %d, firstContentMaxMs: %d, firstContentColdMs: %d}", ms(30*time.Second), ms(300*time.Second), ms(180*time.Second))},
			{"limited-" + d.name, near, "", fmt.Sprintf("near: false, deadlines: {firstContentMs: %d}", ms(10*time.Second))},
			{"large-" + d.name, far, timeout, "near: false"},
		} {
			window := "100000"
			if strings.HasPrefix(p.id, "large") {
				window = "200000"
			}
			providers = append(providers, strings.ReplaceAll(wallProvider(p.id, p.side.url, d.name, p.more, models), "100000", window))
			settings = append(settings, fmt.Sprintf("%q: {%s}", p.id, p.settings))
			w.sides[p.id] = p.side
		}
	}
	// What goes on from a part of an answer does so as chat, whoever broke.
	var tails []string
	opt := wallOptions("chat")
	opt.Reply = wallText
	w.sides["tail"] = newWallSide(t, opt)
	var chains []string
	for _, c := range cells {
		c.w, c.verdict = w, wallPass
		id := strings.ReplaceAll(c.name(), " ", "-")
		near, far, chain := "near-"+c.dialect, "far-"+c.dialect, ""
		switch c.variant {
		case "near":
			near = "patient-" + c.dialect
		case "far":
			near = "limited-" + c.dialect
		case "continued":
			far, chain = "tail", "continueStreams: true"
			tails = append(tails, id)
		case "books":
			near, far = "broke-"+strings.ToLower(id), "booked-"+strings.ToLower(id)
			for p, side := range map[string]*wallSide{near: w.sides["near-"+c.dialect], far: w.sides["far-"+c.dialect]} {
				w.sides[p] = side
				providers = append(providers, wallProvider(p, side.url, c.dialect, "", []string{id, "ok"}))
			}
			settings = append(settings, fmt.Sprintf("%q: {near: false}", far))
		case "larger":
			far, chain = "large-"+c.dialect, "overflow: {largerContext: true}"
		}
		c.ref, c.next = near+"/"+id, far+"/"+id
		c.primary, c.fallback = w.sides[near].model(id), w.sides[far].model(id)
		if c.model = c.ref; chain != "" {
			c.model = id
			chains = append(chains, fmt.Sprintf(`%q: {models: [%q, %q], %s}`, id, c.ref, c.next, chain))
		}
	}
	providers = append(providers, wallProvider("tail", w.sides["tail"].url, "chat", "", tails))
	settings = append(settings, `tail: {near: false, compat: {assistantPrefill: "last"}}`)
	w.running = start(t, fmt.Sprintf(`{
  models: {mode: "replace", providers: {%s}},
  agents: {defaults: {model: {primary: "near-chat/ok"}}},
  proxy: {discovery: {enabled: false}, log: {level: "info"}, exchangesKept: 4096, heartbeat: {firstMs: %d, everyMs: %d},
    providers: {%s},
    chains: {%s}},
}`, strings.Join(providers, ",\n"), 20_000, 15_000, strings.Join(settings, ",\n"), strings.Join(chains, ",\n")))
	return w
}

// The sixteen scenarios, for clients of every dialect, streamed and whole: all
// must pass by the criteria that stand in wall_scenarios_test.go. With
// NEARSIDE_WALL=full the durations are the published ones. The scorecard goes to
// NEARSIDE_WALL_OUT (a folder) when that is set.
func TestWall(t *testing.T) {
	if len(wallWords) != 60 {
		t.Fatalf("%d words", len(wallWords))
	}
	var cells []*wallCell
	for i := range scenarios {
		s := &scenarios[i]
		variants := s.variants
		if variants == nil {
			variants = []string{""}
		}
		for _, d := range wireDialects {
			for _, stream := range []bool{true, false} {
				for _, v := range variants {
					if stream || !s.streams {
						cells = append(cells, &wallCell{scene: s, dialect: d.name, stream: stream, variant: v})
					}
				}
			}
		}
	}
	w := startWall(t, cells)
	var all sync.WaitGroup
	for _, c := range cells {
		all.Go(func() {
			c.scene.play(c)
			c.counted()
			c.alive()
			switch {
			case c.byRule == wallFail:
			case !c.rescued && !(c.scene.id == "S13" && c.end.kind == endStatus):
				c.byRule = wallSafe
			case c.advisory:
				c.byRule = wallPartial
			default:
				c.byRule = wallPass
			}
		})
	}
	all.Wait()
	for _, c := range cells {
		if c.verdict != wallPass {
			t.Errorf("%s: %s\n  %s", c.name(), c.verdict, strings.Join(c.notes, "\n  "))
		}
		if n := w.exchangesOf(c.model); n != 1 && c.scene.id != "S01" && c.scene.id != "S15" {
			t.Errorf("%s: %d lines for one exchange", c.name(), n)
		}
	}
	card := scoreOf(cells, w.scale)
	t.Logf("\n%s", card.table())
	if dir := os.Getenv("NEARSIDE_WALL_OUT"); dir != "" {
		card.write(t, dir)
	}
	// What the README says is what was found.
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("%d of %d", card.Ours[wallPass], len(scenarios)), "make wall", "reconstruction", counted(card.Published), counted(card.Optional)} {
		if !strings.Contains(string(readme), want) {
			t.Errorf("the README does not say %q", want)
		}
	}
}

// scorecard is what the wall found.
type scorecard struct {
	Note      string         `json:"note"`
	Date      string         `json:"date"`
	Durations string         `json:"durations"` // full, or divided by what
	Ours      map[string]int `json:"verdicts"`
	Published map[string]int `json:"verdicts_by_published_rule"`
	Optional  map[string]int `json:"verdicts_by_published_rule_with_options"`
	Scenarios []scoredScene  `json:"scenarios"`
	Others    obj            `json:"others"`
}

type scoredScene struct {
	ID        string       `json:"id"`
	Title     string       `json:"title"`
	Fault     string       `json:"fault"`
	Right     string       `json:"right"`
	Verdict   string       `json:"verdict"`
	Published string       `json:"by_published_rule"`
	Optional  string       `json:"by_published_rule_with_options"` // continueStreams, overflow.largerContext
	Why       []string     `json:"why,omitempty"`
	Cells     []scoredCell `json:"cells"`
}

type scoredCell struct {
	Dialect   string   `json:"dialect"`
	Stream    bool     `json:"stream"`
	Variant   string   `json:"variant,omitempty"`
	Verdict   string   `json:"verdict"`
	Ended     string   `json:"ended"`
	Status    int      `json:"status"`
	Code      string   `json:"code,omitempty"`
	Primary   int      `json:"primary_requests"`
	Fallback  int      `json:"fallback_requests"`
	Attempts  string   `json:"attempts"`
	Took      float64  `json:"took_ms"`
	Published string   `json:"by_published_rule"`
	Notes     []string `json:"notes,omitempty"`
}

// wallOthers are figures that others measured, quoted.
var wallOthers = []struct {
	name                      string
	pass, partial, safe, fail int
}{
	{"Reference httpx client", 16, 0, 0, 0},
	{"DeepSeek Harness", 12, 3, 1, 0},
	{"Portkey OSS", 11, 2, 0, 3},
	{"Bifrost 2.1.1", 9, 3, 3, 1},
	{"LiteLLM proxy", 9, 3, 4, 0},
	{"LangChain", 9, 3, 4, 0},
	{"openai-python", 6, 0, 10, 0},
	{"no gateway", 4, 0, 12, 0},
}

const wallOthersNote = "Published by failoverbench on 2026-09-12 (methodology v0.1), quoted: measured by its authors, with their harness, and not beside ours."

func scoreOf(cells []*wallCell, scale time.Duration) *scorecard {
	card := &scorecard{Note: wallNote, Date: time.Now().UTC().Format(time.DateOnly), Durations: "full", Ours: map[string]int{}, Published: map[string]int{}, Optional: map[string]int{}}
	if scale != 1 {
		card.Durations = fmt.Sprintf("divided by %d", scale)
	}
	for i := range scenarios {
		s := &scenarios[i]
		one := scoredScene{ID: s.id, Title: s.title, Fault: s.fault, Right: s.right, Verdict: wallPass, Published: wallPass, Optional: wallPass}
		for _, c := range cells {
			if c.scene != s {
				continue
			}
			one.Verdict = worse(one.Verdict, c.verdict)
			// The published harness asks as a chat client, streamed, of a proxy as it
			// comes.
			if c.dialect == "chat" && c.stream && c.variant != "near" {
				if c.variant != "continued" && c.variant != "larger" {
					one.Published, one.Why = c.byRule, c.notes
				}
				one.Optional = c.byRule // the last variant has the option
			}
			one.Cells = append(one.Cells, scoredCell{c.dialect, c.stream, c.variant, c.verdict, c.end.kind, c.got.status, c.end.code, c.asked[0], c.asked[1],
				attemptsOf(c.receipt), float64(c.took.Microseconds()) / 1000, c.byRule, c.notes})
		}
		card.Ours[one.Verdict]++
		card.Published[one.Published]++
		card.Optional[one.Optional]++
		card.Scenarios = append(card.Scenarios, one)
	}
	var others []obj
	for _, o := range wallOthers {
		others = append(others, obj{"name": o.name, "pass": o.pass, "partial": o.partial, "safe": o.safe, "fail": o.fail})
	}
	card.Others = obj{"note": wallOthersNote, "date": "2026-09-12", "figures": others}
	return card
}

func counted(v map[string]int) string {
	return fmt.Sprintf("%d pass, %d partial, %d safe, %d fail", v[wallPass], v[wallPartial], v[wallSafe], v[wallFail])
}

func (s *scorecard) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nDurations: %s. %s.\n\n", s.Note, s.Durations, s.Date)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "scenario\t\tverdict\tcells\tprimary/fallback\tchat stream ended\tpublished rule\twith options")
	for _, one := range s.Scenarios {
		good, shown := 0, scoredCell{}
		for _, c := range one.Cells {
			if c.Verdict == wallPass {
				good++
			}
			if c.Dialect == "chat" && c.Stream && (shown.Ended == "" || c.Variant == "far") {
				shown = c
			}
		}
		ended := shown.Ended
		if shown.Ended != endWhole {
			ended += " " + shown.Code
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d/%d\t%d/%d\t%s\t%s\t%s\n", one.ID, one.Title, one.Verdict, good, len(one.Cells), shown.Primary, shown.Fallback, ended, one.Published, one.Optional)
	}
	tw.Flush()
	fmt.Fprintf(&b, "\nNearside: %s.\n", counted(s.Ours))
	fmt.Fprintf(&b, "By the published rule (a plain error where an answer was possible is safe, failing over where a retry was asked for is partial): %s;\nwith continueStreams and overflow.largerContext: %s.\n", counted(s.Published), counted(s.Optional))
	fmt.Fprintf(&b, "\n%s\n\n", wallOthersNote)
	fmt.Fprintln(tw, "subject\tpass\tpartial\tsafe\tfail")
	for _, o := range wallOthers {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\n", o.name, o.pass, o.partial, o.safe, o.fail)
	}
	tw.Flush()
	return b.String()
}

func (s *scorecard) write(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"wall.json": string(b) + "\n", "wall.txt": s.table()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// scripted is a script with steps.
func scripted(steps ...sim.Step) sim.Script { return sim.Script{Steps: steps} }

// The page has each scenario as it is played.
func TestWallPageTellsTheScenarios(t *testing.T) {
	page, err := os.ReadFile("docs/failover.md")
	if err != nil {
		t.Fatal(err)
	}
	for i := range scenarios {
		s := &scenarios[i]
		if row := fmt.Sprintf("| %s | %s | %s | %s |\n", s.id, s.title, s.fault, s.right); !strings.Contains(string(page), row) {
			t.Errorf("docs/failover.md has no row\n%s", row)
		}
	}
	if !strings.Contains(string(page), wallNote) {
		t.Errorf("docs/failover.md does not say %q", wallNote)
	}
}
