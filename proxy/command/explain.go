package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/meter"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// Explain shows what would happen to a request.
type Explain struct {
	ConfigFlag
	File     string `arg:"" help:"File with a request's JSON body, or a capture {\"path\": …, \"body\": {…}}; - for standard input."`
	Path     string `placeholder:"PATH" help:"Endpoint the request is for (/v1/chat/completions, /v1/responses, /v1/messages, …). Without it: the capture's, else what the body looks like."`
	Model    string `placeholder:"NAME" help:"Ask for this model instead of the body's."`
	Fallback string `placeholder:"REFS" help:"As the header x-nearside-fallback: refs separated by commas, or none."`
	NearOnly bool   `help:"As the header x-nearside-near-only: the request must not leave this machine and its network."`
	Regions  string `placeholder:"LABELS" help:"As the header x-nearside-regions: the regions that may be asked, separated by commas."`
	Key      string `placeholder:"ID" help:"As a client with the key of this id or name (nearside keys list)."`
	Flags    bool   `help:"Also every compat flag in effect, its value and where it was said."`
	JSON     bool   `help:"As JSON."`
	Offline  bool   `help:"Do not look for servers on this machine."`
}

// Help teaches what explain does.
func (Explain) Help() string {
	return `Prints the plan of a request (which targets, in which order, and why others are
skipped) and, for each target that can be tried, every difference between what came and
what would be sent, with the rule, where its setting was said, where servers are known
to want it and the line of the configuration that turns it off; then what would be done
to the answer, and the headers. A request in another dialect than the backend's is
translated: what is said in other words and what is dropped stands there. Flags that the
proxy which runs with this configuration learned are counted in. The request is not sent.

	nearside explain request.json
	nearside explain request.json --model fast --fallback none
	nearside explain request.json --near-only    what is left when nothing may leave
	nearside explain request.json --flags        also the compat flags in effect
	echo '{"model":"default","messages":[]}' | nearside explain -

Exit codes: 0 a target would be tried; 1 none would; 2 bad flags, configuration or request.`
}

// explained is one target that would be tried, or not.
type explained struct {
	Ref     string   `json:"ref"`
	Route   string   `json:"route"`
	Skip    bool     `json:"skip"`
	Reason  string   `json:"reason"`
	URL     string   `json:"url,omitempty"`
	Dialect string   `json:"dialect,omitempty"` // in which the backend is asked
	Error   string   `json:"error,omitempty"`
	Changes rawLines `json:"changes,omitempty"`
	Dropped []string `json:"dropped,omitempty"`
	Bytes   int      `json:"bytes,omitempty"`
	// Size is what the prompt is estimated at there, and what that leaves.
	Size proxy.Size `json:"size,omitzero"`
	// Queue is how many are sent there at once, and how many wait.
	Queue string `json:"queue,omitempty"`
	// Answer is what would be done to the answer; Flags are those in effect.
	Answer []answerRule `json:"answer,omitempty"`
	Flags  []flagRow    `json:"flags,omitempty"`
	// Headers are those that would be sent; HeadersNotSent names those of a
	// capture that would not.
	Headers        []header `json:"headers,omitempty"`
	HeadersNotSent []string `json:"headersNotSent,omitempty"`
	warn           string
	textual        []shaping.Line
}

// flagRow is a compat flag in effect.
type flagRow struct {
	Name   string          `json:"name"`
	Value  json.RawMessage `json:"value"`
	Source string          `json:"source"`
	Off    string          `json:"off,omitempty"`
}

// answerRule is one thing that would be done to an answer.
type answerRule struct {
	flagRow
	Does string `json:"does"`
}

func rowOf(f shaping.Flag) flagRow {
	return flagRow{Name: f.Name, Value: json.RawMessage(f.Value), Source: f.From, Off: f.Off}
}

func flagRows(s *shaping.Shape) []flagRow {
	var rows []flagRow
	for _, f := range s.Flags() {
		rows = append(rows, rowOf(f))
	}
	return rows
}

// header is one that would be sent. One that the configuration gave is shown
// without its value, which may be a key.
type header struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// rawLines are lines as shaping.AppendJSON writes them.
type rawLines = json.RawMessage

// Run explains.
func (c *Explain) Run(env *Env) error {
	ctx, stop := env.context()
	defer stop()
	raw, err := c.read(ctx, env)
	if err != nil {
		return err
	}
	file, _, err := env.load(c.Config)
	if err != nil {
		return err
	}
	path, body, came, err := c.request(raw)
	if err != nil {
		return err
	}
	dialect, below := dialectOf(path)
	if dialect == 0 {
		return usageError{fmt.Errorf("%s is not an endpoint whose body can be explained (--path)", path)}
	}
	var e wire.Envelope
	lim := wire.ScanLimits{Depth: file.Proxy.Limits.Depth, Fields: file.Proxy.Limits.Fields}
	if err := wire.Scan(body, lim, &e); err != nil {
		return usageError{fmt.Errorf("the request would be refused: %w", err)}
	}
	if err := valid(dialect, body, &e); err != nil {
		return usageError{fmt.Errorf("the request would be refused: %w", err)}
	}
	opt, err := shapingOf(&file.Proxy)
	if err != nil {
		return err
	}
	var kept []string
	if dialect == wire.Responses {
		if body, kept = alone(body, &e); len(kept) > 0 {
			if err := wire.Scan(body, lim, &e); err != nil {
				return fmt.Errorf("BUG: scan the request that stands alone: %w", err)
			}
		}
	}
	if c.Model != "" {
		body = named(body, &e, c.Model)
		if err := wire.Scan(body, lim, &e); err != nil {
			return fmt.Errorf("BUG: scan the renamed request: %w", err)
		}
	}
	comp := env.composer(ctx, file, c.Offline)
	defer comp.close()
	snap, err := comp.snapshot()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errStopped
	}
	srv := proxy.New(snap, proxy.Options{Log: zerolog.Nop(), Meter: meter.New(meter.Options{Version: env.Version}), Dialer: env.Dialer, Version: env.Version})
	var media shaping.Media
	if dialect != wire.Plain && dialect != wire.Completions {
		media = shaping.MediaOf(body, &e)
	}
	var header fasthttp.RequestHeader
	for _, h := range came {
		header.Add(h.Name, h.Value)
	}
	fallback := c.Fallback
	if fallback == "" {
		fallback = string(header.Peek("X-Nearside-Fallback"))
	}
	plan, err := srv.Explain(e.ModelName, fallback, proxy.ExplainRequest{Dialect: dialect, Body: body, Env: &e, Media: media, Header: &header,
		NearOnly: c.NearOnly, Regions: c.Regions, Key: c.Key})
	if wrong := new(wire.Error); errors.As(err, &wrong) {
		return usageError{err} // what the flags or the capture say
	}
	if err != nil {
		return err // 404: the error names the nearest names
	}
	pool := upstream.NewPool(upstream.Options{Agent: "nearside/" + env.Version})
	pool.Apply(snap.Backends)
	defer pool.Close()
	var taught []proxy.Learned
	if !c.Offline {
		taught = learnedBy(ctx, env, file)
	}
	all := make([]explained, 0, len(plan.Steps))
	tried := 0
	for _, st := range plan.Steps {
		x := explained{Ref: st.Ref, Route: st.Route, Skip: st.Skip, Reason: st.Reason, Size: st.Size, Queue: st.Queue}
		if !st.Skip {
			tried++
			opt.Learned = learnedFlags(taught, st.Ref)
			shape(&x, snap, opt, pool, body, &e, dialect, below)
			x.notSent(came)
			if !c.Flags {
				x.Flags = nil
			}
		}
		all = append(all, x)
	}
	if c.JSON {
		err = c.writeJSON(env, plan, path, dialect, &e, media, kept, all)
	} else {
		c.writeText(env.Stdout, plan, path, dialect, &e, media, kept, all)
	}
	if err == nil && tried == 0 {
		why := "no target would be tried"
		if len(plan.Steps) == 0 && simulates(file, snap) {
			why = "nothing is configured or found to try; " + wouldSimulate
		}
		return exitError{ExitFailed, errors.New(why)}
	}
	return err
}

// explainBytesMax bounds what is read; no proxy is configured to take more.
const explainBytesMax = 256 << 20

// read returns the file. Reading a terminal cannot be interrupted, so a stop
// leaves the reader behind: the process ends right after.
func (c *Explain) read(ctx context.Context, env *Env) ([]byte, error) {
	if c.File != "-" {
		info, err := os.Stat(c.File)
		if err != nil {
			return nil, usageError{err}
		}
		if info.Size() > explainBytesMax {
			return nil, usageError{fmt.Errorf("%s is larger than %d bytes", c.File, explainBytesMax)}
		}
		p, err := os.ReadFile(c.File)
		if err != nil {
			return nil, usageError{err}
		}
		return p, nil
	}
	type result struct {
		p   []byte
		err error
	}
	ch := make(chan result, 1)
	go func() {
		p, err := io.ReadAll(io.LimitReader(env.Stdin, explainBytesMax+1))
		ch <- result{p, err}
	}()
	select {
	case r := <-ch:
		switch {
		case r.err != nil:
			return nil, fmt.Errorf("read standard input: %w", r.err)
		case len(r.p) > explainBytesMax:
			return nil, usageError{fmt.Errorf("standard input is larger than %d bytes", explainBytesMax)}
		}
		return r.p, nil
	case <-ctx.Done():
		return nil, errStopped
	}
}

// request tells a capture from a body and finds the endpoint, and the headers that
// a capture came with.
func (c *Explain) request(raw []byte) (path string, body []byte, came []header, err error) {
	var shown struct {
		Path     string          `json:"path"`
		Headers  json.RawMessage `json:"headers"`
		Body     json.RawMessage `json:"body"`
		Messages json.RawMessage `json:"messages"`
		Input    json.RawMessage `json:"input"`
		Prompt   json.RawMessage `json:"prompt"`
		Previous json.RawMessage `json:"previous_response_id"`
		anthropic
	}
	body = bytes.TrimSpace(raw)
	if err := json.Unmarshal(body, &shown); err != nil {
		return "", nil, nil, usageError{fmt.Errorf("%s is no JSON object: %w", c.File, err)}
	}
	path = c.Path
	if inner := bytes.TrimSpace(shown.Body); len(inner) > 0 && inner[0] == '{' && shown.Messages == nil && shown.Input == nil {
		body = inner
		if path == "" {
			path = shown.Path
		}
		if came, err = headersOf(shown.Headers); err != nil {
			return "", nil, nil, usageError{err}
		}
		if err := json.Unmarshal(body, &shown); err != nil {
			return "", nil, nil, usageError{fmt.Errorf("the capture's body is no JSON object: %w", err)}
		}
	}
	if path == "" {
		switch {
		case shown.Messages != nil && shown.anthropic.told(shown.Messages):
			path = "/v1/messages"
		case shown.Messages != nil:
			path = "/v1/chat/completions"
		case shown.Input != nil, shown.Previous != nil:
			path = "/v1/responses"
		case shown.Prompt != nil:
			path = "/v1/completions"
		default:
			return "", nil, nil, usageError{errors.New("the body has neither messages nor input: name its endpoint with --path")}
		}
	}
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	return path, body, came, nil
}

// headersOf reads a capture's headers: an object, whose values may be lists, or a
// list of pairs.
func headersOf(raw []byte) ([]header, error) {
	var all []header
	var pairs [][]string
	var object map[string]any
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case json.Unmarshal(raw, &object) == nil:
		for name, value := range object {
			values, many := value.([]any)
			if !many {
				values = []any{value}
			}
			for _, v := range values {
				text, _ := v.(string) // nothing else says anything of ours
				all = append(all, header{strings.ToLower(name), text})
			}
		}
		slices.SortStableFunc(all, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
	case json.Unmarshal(raw, &pairs) == nil:
		for _, p := range pairs {
			if len(p) > 0 {
				all = append(all, header{strings.ToLower(p[0]), strings.Join(p[1:], ", ")})
			}
		}
	default:
		return nil, errors.New("the capture's headers are neither an object nor a list of pairs")
	}
	return all, nil
}

// anthropic is what tells a request of Anthropic Messages from a chat: members
// that only it has, and how it writes tools and contents.
type anthropic struct {
	System       json.RawMessage `json:"system"`
	Stops        json.RawMessage `json:"stop_sequences"`
	OutputConfig json.RawMessage `json:"output_config"`
	Tools        []struct {
		Schema json.RawMessage `json:"input_schema"`
	} `json:"tools"`
}

func (a *anthropic) told(messages json.RawMessage) bool {
	if a.System != nil || a.Stops != nil || a.OutputConfig != nil {
		return true
	}
	for _, t := range a.Tools {
		if t.Schema != nil {
			return true
		}
	}
	var said []struct {
		Content json.RawMessage `json:"content"`
	}
	_ = json.Unmarshal(messages, &said) // what is wrong with them is said later
	for _, m := range said {
		var blocks []struct {
			Type string `json:"type"`
		}
		_ = json.Unmarshal(m.Content, &blocks)
		for _, b := range blocks {
			switch b.Type {
			case "tool_use", "tool_result", "thinking", "redacted_thinking", "image", "document":
				return true
			}
		}
	}
	return false
}

// valid says what the proxy would refuse of a request before it is planned.
func valid(d wire.Dialect, body []byte, e *wire.Envelope) error {
	var wrong *wire.Error
	switch d {
	case wire.Responses:
		wrong = shaping.ValidateResponses(body, e)
	case wire.Messages:
		wrong = shaping.ValidateMessages(body, e)
	}
	switch {
	case wrong == nil:
		return nil
	case wrong.Param == "":
		return wrong
	}
	return fmt.Errorf("%s: %w", wrong.Param, wrong)
}

// alone returns a Responses request without what the running proxy itself makes
// of it before it is planned, and the names of that: earlier turns are put in
// their place, and a response in the background is no business of a backend.
func alone(body []byte, e *wire.Envelope) (rest []byte, names []string) {
	var edits wire.Edits
	edits.Reset(body, e)
	for _, name := range [...]string{"previous_response_id", "conversation", "background"} {
		if _, ok := e.Field(body, name); ok {
			edits.Remove(name)
			names = append(names, name)
		}
	}
	if input, ok := e.Field(body, "input"); ok {
		i := 0
		for it := wire.Elements(body, input); it.Next(); i++ {
			typ, _ := wire.Get(body, it.Value, "type")
			if wire.EqualString(typ.Of(body), "item_reference") {
				edits.RemoveElement(input, it.Value)
				names = append(names, fmt.Sprintf("input[%d]", i))
			}
		}
	}
	if len(names) == 0 {
		return body, nil
	}
	return wire.Splice(nil, body, edits.List()), names
}

// dialectOf returns the dialect of an endpoint, and its path below the base
// URL. It is 0 for one that is not served or takes no JSON.
func dialectOf(path string) (wire.Dialect, string) {
	below := "/" + strings.Trim(strings.TrimPrefix(path, "/v1"), "/")
	switch below {
	case "/chat/completions":
		return wire.Chat, below
	case "/responses":
		return wire.Responses, below
	case "/messages":
		return wire.Messages, below
	case "/completions":
		return wire.Completions, below
	case "/embeddings", "/rerank", "/moderations", "/audio/speech", "/images/generations":
		return wire.Plain, below
	}
	return 0, ""
}

// named returns the body with another model in it.
func named(body []byte, e *wire.Envelope, model string) []byte {
	value := wire.AppendString(nil, model)
	if e.Model.Present() {
		return wire.Splice(nil, body, []wire.Edit{{Span: e.Model, With: value}})
	}
	at := bytes.IndexByte(body, '{') + 1
	with := append([]byte(`"model":`), value...)
	if len(e.Fields) > 0 {
		with = append(with, ',')
	}
	return wire.Splice(nil, body, []wire.Edit{{Span: wire.Span{Start: at, End: at}, With: with}})
}

// shape says what would be sent to one target.
func shape(x *explained, snap *proxy.Snapshot, opt shaping.Options, pool *upstream.Pool, body []byte, e *wire.Envelope, d wire.Dialect, below string) {
	res, err := snap.Catalog.Resolve(x.Ref, catalog.ResolveOptions{})
	if err != nil || len(res.Models) == 0 || res.Models[0].Ref() != x.Ref {
		x.Error = "BUG: the target is no longer known"
		return
	}
	m := res.Models[0]
	x.warn, _ = m.Window().Verdict()
	s, err := shaping.New(m, d, snap.Shaping(opt))
	if err != nil {
		x.Error = err.Error()
		return
	}
	r := shaping.Request{Room: x.Size.ForAnswer()}
	if err := s.Request(body, e, &r); err != nil {
		x.Error = err.Error()
		return
	}
	if r.Path != "" {
		below = r.Path
	}
	x.URL = m.BaseURL + below
	x.textual = s.Explain(body, &r)
	for _, a := range s.AnswerRules() {
		x.Answer = append(x.Answer, answerRule{rowOf(a.Flag), a.Does})
	}
	x.Flags = flagRows(s)
	x.Changes = shaping.AppendJSON(nil, x.textual)
	x.Dropped = append(x.Dropped, r.Dropped...)
	x.Dialect = s.Backend().String()
	if len(r.Body) > 0 {
		body = r.Body
	}
	x.Bytes = wire.SplicedLen(body, r.Edits)
	b, err := pool.Backend(m)
	if err != nil {
		x.Error = err.Error()
		return
	}
	req := upstream.Request{Path: below, Length: x.Bytes, Stream: e.Stream && d != wire.Plain, ModelLines: upstream.ModelLines(m.Headers)}
	for line := range bytes.Lines(r.Headers) {
		name, _, _ := strings.Cut(string(line), ":")
		own := func(h catalog.Header) bool { return strings.EqualFold(h.Name, name) }
		if !b.Sends(name) && !slices.ContainsFunc(m.Headers, own) {
			req.Headers = append(req.Headers, line...)
		}
	}
	for _, h := range b.HeaderLines(&req) {
		x.Headers = append(x.Headers, header{h.Name, h.Value})
	}
}

// notSent fills in which headers of the client would not reach the backend,
// not even with a value of ours.
func (x *explained) notSent(came []header) {
	for _, is := range came {
		name := is.Name
		if !slices.Contains(x.HeadersNotSent, name) && !slices.ContainsFunc(x.Headers, func(h header) bool { return strings.EqualFold(h.Name, name) }) {
			x.HeadersNotSent = append(x.HeadersNotSent, name)
		}
	}
}

func (c *Explain) writeText(w io.Writer, plan *proxy.Plan, path string, d wire.Dialect, e *wire.Envelope, media shaping.Media, kept []string, all []explained) {
	fmt.Fprintf(w, "request  %s (%s), %d bytes, about %d prompt tokens", path, d, e.Size, catalog.EstimateTokens(e.TextBytes, media.Images))
	if e.MaxTokens > 0 {
		fmt.Fprintf(w, ", at most %d for the answer", e.MaxTokens)
	}
	if e.Stream {
		fmt.Fprint(w, ", streamed")
	}
	if e.ToolCount > 0 {
		fmt.Fprintf(w, ", %s", count(e.ToolCount, "tool"))
	}
	for _, has := range []struct {
		n    int
		name string
	}{{media.Images, "image"}, {media.Audio, "audio part"}, {media.Video, "video"}} {
		if has.n > 0 {
			fmt.Fprintf(w, ", %s", count(has.n, has.name))
		}
	}
	if media.Remote > 0 {
		fmt.Fprintf(w, " (%d at an address)", media.Remote)
	}
	fmt.Fprintf(w, "\nasked    %q → %s", plan.Requested, plan.Name)
	if plan.Strict {
		fmt.Fprint(w, " (nothing else is tried)")
	}
	fmt.Fprintln(w)
	for _, v := range plan.Via {
		fmt.Fprintf(w, "         %s\n", v)
	}
	if len(kept) > 0 {
		fmt.Fprintf(w, "kept     %s: the running proxy's own; earlier turns and items that it would put in place are not shown\n", strings.Join(kept, ", "))
	}
	fmt.Fprintf(w, "policy   %s\n", plan.Policy())
	fmt.Fprintln(w, "plan")
	rows := make([][]string, 0, len(all))
	n := 0
	for _, x := range all {
		mark, why := "skip", x.Reason
		if !x.Skip {
			n++
			mark = decimal(n) + "."
			if x.warn != "" {
				why += "; " + x.warn
			}
		}
		rows = append(rows, []string{mark, x.Ref, x.Route, why})
	}
	table(w, "  ", rows)
	n = 0
	for _, x := range all {
		if x.Skip {
			continue
		}
		n++
		fmt.Fprintf(w, "\n%d. %s", n, x.Ref)
		if x.Error != "" {
			fmt.Fprintf(w, "\n   cannot be said to it: %s\n", x.Error)
			continue
		}
		fmt.Fprintf(w, "  POST %s", x.URL)
		if x.Dialect != d.String() {
			fmt.Fprintf(w, "  (translated to %s)", x.Dialect)
		}
		fmt.Fprintln(w)
		text := strings.TrimSuffix(string(shaping.AppendText(nil, x.textual)), "\n")
		fmt.Fprintf(w, "   %s\n", strings.ReplaceAll(text, "\n", "\n   "))
		if len(x.Dropped) > 0 {
			fmt.Fprintf(w, "   not sent: %s\n", strings.Join(x.Dropped, ", "))
		}
		fmt.Fprintf(w, "   %d bytes came, %d would be sent\n", e.Size, x.Bytes)
		if z := x.Size; z.Prompt > 0 {
			fmt.Fprintf(w, "   about %d prompt tokens, %d at the least", z.Prompt, z.Least)
			if z.Seen > 0 {
				fmt.Fprintf(w, " (%.2f for four bytes, learned from %s of usage)", z.Ratio, count(z.Seen, "report"))
			}
			switch {
			case z.Window > 0:
				fmt.Fprintf(w, "; the window of %d (%s) leaves %d for the answer", z.Window, z.From, z.Room)
			default:
				fmt.Fprint(w, "; the context window is not known")
			}
			fmt.Fprintln(w)
		}
		if x.Queue != "" {
			fmt.Fprintf(w, "   queue: %s\n", x.Queue)
		}
		if len(x.Answer) > 0 {
			fmt.Fprintln(w, "   of the answer:")
		}
		for _, a := range x.Answer {
			fmt.Fprintf(w, "      %s\n         %s: %s (%s)\n", a.Does, a.Name, a.Value, a.Source)
			if a.Off != "" {
				fmt.Fprintf(w, "         off: %s\n", a.Off)
			}
		}
		if len(x.Flags) > 0 {
			fmt.Fprintln(w, "   compat flags in effect:")
			table(w, "      ", flagCells(x.Flags))
		}
		fmt.Fprintln(w, "   headers, of which none is the client's:")
		for _, h := range x.Headers {
			if h.Value == "" {
				h.Value = "(from the configuration)"
			}
			fmt.Fprintf(w, "      %s: %s\n", h.Name, h.Value)
		}
		if len(x.HeadersNotSent) > 0 {
			fmt.Fprintf(w, "   headers not sent: %s\n", strings.Join(x.HeadersNotSent, ", "))
		}
	}
	fmt.Fprintln(w, "\nthe request was not sent")
}

func flagCells(flags []flagRow) [][]string {
	cells := make([][]string, 0, len(flags))
	for _, f := range flags {
		cells = append(cells, []string{f.Name, string(f.Value), f.Source})
	}
	return cells
}

func (c *Explain) writeJSON(env *Env, plan *proxy.Plan, path string, d wire.Dialect, e *wire.Envelope, media shaping.Media, kept []string, all []explained) error {
	return env.json(struct {
		Path         string           `json:"path"`
		Dialect      string           `json:"dialect"`
		Bytes        int              `json:"bytes"`
		PromptTokens int              `json:"promptTokens"`
		MaxTokens    int64            `json:"maxTokens,omitempty"`
		Stream       bool             `json:"stream"`
		Tools        int              `json:"tools,omitempty"`
		Requested    string           `json:"requested"`
		Name         string           `json:"name"`
		Via          []string         `json:"via,omitempty"`
		Strict       bool             `json:"strict"`
		Kept         []string         `json:"kept,omitempty"`
		Policy       proxy.PlanPolicy `json:"policy"`
		Targets      []explained      `json:"targets"`
	}{path, d.String(), e.Size, catalog.EstimateTokens(e.TextBytes, media.Images), e.MaxTokens, e.Stream, e.ToolCount, plan.Requested, plan.Name, plan.Via, plan.Strict, kept, plan.Policy(), all})
}
