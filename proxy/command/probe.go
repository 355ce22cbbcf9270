package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// Probe asks one model for one tiny completion.
type Probe struct {
	ConfigFlag
	Ref       string        `arg:"" help:"Model to ask: provider/model-id, an alias, or default for the first of its chain."`
	Prompt    string        `default:"Reply with exactly: pong" help:"What to ask."`
	Gateway   string        `placeholder:"URL" help:"Ask through a running proxy (http://127.0.0.1:4141) instead of the backend itself."`
	MaxTokens int           `default:"16" help:"Tokens the answer may have. A model that thinks first needs more."`
	Timeout   time.Duration `default:"60s" help:"How long all of it may take."`
	Endpoint  string        `placeholder:"NAME" help:"Which endpoint to ask, of a provider that has several. Without it the first that is not drained."`
	Stream    bool          `help:"Ask for a stream, to see when the first token comes."`
	JSON      bool          `help:"As JSON, in the envelope of OpenClaw's infer model run."`

	file *config.Config // of a command that has one that is not written yet
	// Of doctor: further members of the request, and its text as a list of parts.
	more  func(wire.Dialect) string
	parts bool
}

// Help teaches what probe does.
func (Probe) Help() string {
	return `Sends one request without a system prompt and without tools, straight to the model's
backend, and shows the text, how long it took and what was counted. Breakers, fallbacks
and a running proxy have no part in it, unless --gateway names one.

	nearside probe lmstudio/qwen3-4b
	nearside probe default --stream --max-tokens 200
	nearside probe openai/gpt-5.4 --gateway http://127.0.0.1:4141 --json

Exit codes: 0 text came; 1 it could not be reached or failed; 2 bad flags or configuration;
3 it answered without text.`
}

// answered is what came of a probe, as far as it got.
type answered struct {
	provider, model string
	endpoint        string // of a provider that has several
	served          string // the model that the answer names
	text            string
	thought         bool
	simulated       bool
	finish          string
	asked           time.Time // when the request was sent, as far as it is known
	first, total    time.Duration
	usage           wire.Usage
	hasUsage        bool
	attempts        []probeAttempt
	whole           []byte // an answer that is not streamed
	taught          string // the setting that what it refused points to; empty for none
	kind            string // what the backend is and where that is known from
}

// probeAttempt is one row of the envelope's attempts.
type probeAttempt struct {
	Provider string `json:"provider"`
	Model    string `json:"model"`
	Endpoint string `json:"endpoint,omitempty"`
	Outcome  string `json:"outcome"`
	Error    string `json:"error,omitempty"`
}

// errNoText makes a probe exit with ExitTrouble.
type errNoText struct{ message string }

func (e errNoText) Error() string { return e.message }

// Run asks.
func (c *Probe) Run(env *Env) error {
	switch {
	case strings.TrimSpace(c.Prompt) == "":
		return usageError{errors.New("--prompt is empty")}
	case c.MaxTokens < 1:
		return usageError{errors.New("--max-tokens must be at least 1")}
	case c.Endpoint != "" && c.Gateway != "":
		return usageError{errors.New("--endpoint and --gateway exclude each other: a proxy chooses itself")}
	case c.Timeout <= 0:
		return usageError{errors.New("--timeout must be longer than 0")}
	}
	ctx, stop := env.context()
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	a := &answered{asked: time.Now()}
	var err error
	if c.Gateway != "" {
		err = c.through(ctx, env, a)
	} else {
		err = c.local(ctx, env, a)
	}
	a.total = time.Since(a.asked)
	var usage usageError
	if errors.As(err, &usage) {
		return err
	}
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		err = errStopped
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("no answer within %v (--timeout)", c.Timeout)
	case err == nil && strings.TrimSpace(a.text) == "":
		err = c.noText(a)
	}
	return c.tell(env, a, err)
}

// noText is the error of an answer that says nothing.
func (c *Probe) noText(a *answered) error {
	e := errNoText{fmt.Sprintf("No text output returned for provider %q model %q.", a.provider, a.model)}
	switch {
	case a.thought && a.finish == "length":
		e.message += " It was still thinking: raise --max-tokens."
	case a.thought:
		e.message += " It only thought."
	case a.finish != "" && a.finish != "stop" && a.finish != "completed" && a.finish != "end_turn":
		e.message += " It finished with " + a.finish + "."
	}
	return e
}

// tell prints the result and returns the error that carries the exit code.
func (c *Probe) tell(env *Env, a *answered, err error) error {
	code := ExitFailed
	var silent errNoText
	if errors.As(err, &silent) {
		code = ExitTrouble
	}
	if c.JSON {
		if werr := env.json(c.envelope(a, err)); werr != nil {
			return werr
		}
		if err != nil {
			return exitError{code: code}
		}
		return nil
	}
	if err != nil {
		return exitError{code, err}
	}
	fmt.Fprintln(env.Stdout, strings.TrimRight(a.text, "\n"))
	line := a.provider + "/" + a.model
	if a.endpoint != "" {
		line += " at " + a.endpoint
	}
	if a.served != "" && a.served != a.model && a.served != a.provider+"/"+a.model {
		line += " (answers as " + a.served + ")"
	}
	if c.Stream {
		line += fmt.Sprintf(", first content after %s", took(a.first))
	}
	line += ", all after " + took(a.total)
	if a.hasUsage {
		line += fmt.Sprintf(", %d tokens in, %d out", a.usage.Input, a.usage.Output)
	}
	if a.simulated {
		line += ", SIMULATED"
	}
	line += a.kind
	fmt.Fprintln(env.Stderr, line)
	return nil
}

func took(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return d.Round(100 * time.Millisecond).String()
}

// envelope is what --json prints.
func (c *Probe) envelope(a *answered, err error) any {
	type output struct {
		Text     string  `json:"text"`
		MediaURL *string `json:"mediaUrl"`
	}
	type counts struct {
		Input     int64 `json:"input"`
		Output    int64 `json:"output"`
		Cached    int64 `json:"cached,omitempty"`
		Reasoning int64 `json:"reasoning,omitempty"`
	}
	out := struct {
		OK             bool           `json:"ok"`
		Capability     string         `json:"capability"`
		Transport      string         `json:"transport"`
		Provider       string         `json:"provider"`
		Model          string         `json:"model"`
		Served         string         `json:"served,omitempty"`
		Simulated      bool           `json:"simulated,omitempty"`
		Attempts       []probeAttempt `json:"attempts"`
		Outputs        []output       `json:"outputs"`
		Usage          *counts        `json:"usage,omitempty"`
		FirstContentMS int64          `json:"firstContentMs,omitempty"`
		TotalMS        int64          `json:"totalMs"`
		Error          string         `json:"error,omitempty"`
	}{OK: err == nil, Capability: "model.run", Transport: "local", Provider: a.provider, Model: a.model, Served: a.served, Simulated: a.simulated,
		Attempts: a.attempts, Outputs: []output{}, FirstContentMS: a.first.Milliseconds(), TotalMS: a.total.Milliseconds()}
	if c.Gateway != "" {
		out.Transport = "gateway"
	}
	if out.Attempts == nil {
		out.Attempts = []probeAttempt{}
	}
	if a.hasUsage {
		out.Usage = &counts{a.usage.Input, a.usage.Output, a.usage.Cached, a.usage.Reasoning}
	}
	if err == nil {
		out.Outputs = append(out.Outputs, output{Text: a.text})
	} else {
		out.Error = err.Error()
	}
	return out
}

// request is the body of a probe.
func (c *Probe) request(d wire.Dialect, model, maxField string) []byte {
	b := wire.AppendString([]byte(`{"model":`), model)
	switch d {
	case wire.Responses:
		b = wire.AppendString(append(b, `,"input":`...), c.Prompt)
		maxField = "max_output_tokens"
	default:
		b = append(b, `,"messages":[{"role":"user","content":`...)
		if c.parts {
			b = append(wire.AppendString(append(b, `[{"type":"text","text":`...), c.Prompt), `}]`...)
		} else {
			b = wire.AppendString(b, c.Prompt)
		}
		b = append(b, `}]`...)
	}
	if d == wire.Messages {
		maxField = "max_tokens"
	}
	b = fmt.Appendf(b, `,%q:%d`, maxField, c.MaxTokens)
	if c.Stream {
		b = append(b, `,"stream":true`...)
	}
	if c.Stream && c.Gateway != "" && d == wire.Chat {
		b = append(b, `,"stream_options":{"include_usage":true}`...) // a proxy hides what was not asked for
	}
	if c.more != nil {
		b = append(b, c.more(d)...)
	}
	return append(b, '}')
}

// local asks the model's own backend.
func (c *Probe) local(ctx context.Context, env *Env, a *answered) error {
	snap, m, err := c.find(ctx, env)
	if err != nil {
		return err
	}
	return c.ask(ctx, env, snap, m, a)
}

// ask asks a model's own backend.
func (c *Probe) ask(ctx context.Context, env *Env, snap *proxy.Snapshot, m *catalog.Model, a *answered) error {
	a.provider, a.model, a.kind = m.Provider.ID, m.ID, kindText(m.Provider)
	outcome := func(name string, err error) error {
		at := probeAttempt{Provider: a.provider, Model: a.model, Endpoint: a.endpoint, Outcome: name}
		if err != nil {
			at.Error = err.Error()
		}
		a.attempts = append(a.attempts, at)
		return err
	}
	for _, why := range []string{m.Provider.Unavailable, m.Unavailable} {
		if why != "" {
			return outcome("unavailable", fmt.Errorf("%s is unavailable: %s", m.Ref(), why))
		}
	}
	d := m.Dialect()
	s, err := shaping.New(m, d, snap.Shaping(shaping.Options{}))
	if err != nil {
		return outcome("unavailable", err)
	}
	maxField := m.Compat.MaxTokensField
	if maxField == "" {
		maxField = "max_tokens"
		if catalog.IsOpenAI(m.BaseURL) {
			maxField = "max_completion_tokens"
		}
	}
	body := c.request(d, m.Ref(), maxField)
	var e wire.Envelope
	if err := wire.Scan(body, wire.ScanLimits{}, &e); err != nil {
		return fmt.Errorf("BUG: scan our own request: %w", err)
	}
	var r shaping.Request
	if err := s.Request(body, &e, &r); err != nil {
		return outcome("cannot_be_said", err)
	}
	pool := upstream.NewPool(upstream.Options{Dialer: env.Dialer, Agent: "nearside/" + env.Version})
	pool.Apply(snap.Backends)
	defer pool.Close()
	b, err := c.backend(pool, m, a)
	if err != nil {
		return outcome("unavailable", err)
	}
	req := upstream.Request{Path: r.Path, Body: wire.Segments(nil, body, r.Edits), Length: wire.SplicedLen(body, r.Edits), Stream: c.Stream,
		ModelLines: upstream.ModelLines(m.Headers), Prompt: catalog.EstimateTokens(e.TextBytes, 0)}
	if !c.Stream {
		req.Whole = c.MaxTokens
	}
	if d == wire.Messages && !b.Sends(versionHeader) && !sends(m.Headers, versionHeader) {
		req.Headers = []byte(versionHeader + ": " + wire.AnthropicVersion + "\r\n")
	}
	var at upstream.Attempt
	at.Start(b, req, patient{})
	left := context.AfterFunc(ctx, at.Cancel)
	defer func() {
		left()
		at.Close()
	}()
	if err := at.ReadHead(); err != nil {
		return outcome(kindOf(err), c.hint(m, err))
	}
	a.simulated = string(at.Head.Get("x-nearside-simulated")) == "1"
	defer func() {
		var said *saidError
		if errors.As(err, &said) && said.said != nil {
			if taught, ok := s.Learn(said.said, body, &e, &r); ok {
				a.taught = taught.Flag + " " + taught.Value
			}
		}
	}()
	var name string
	name, err = c.hear(a, d, at.Head.Status, string(at.Head.Get("content-type")), string(at.Head.Get("location")), &at, b.Limits(), func() {
		a.first = time.Since(a.asked)
		at.Progress(time.Now())
	})
	return outcome(name, c.hint(m, err))
}

// backend returns where to ask a model: at one of its endpoints, where it has
// several.
func (c *Probe) backend(pool *upstream.Pool, m *catalog.Model, a *answered) (*upstream.Backend, error) {
	endpoints := pool.Endpoints(m)
	if len(endpoints) == 0 {
		if c.Endpoint != "" {
			return nil, fmt.Errorf("%s has no endpoints (proxy.providers.%s.endpoints): --endpoint has no meaning", m.Ref(), m.Provider.ID)
		}
		return pool.Backend(m)
	}
	at, names := endpoints[0], make([]string, len(endpoints))
	for i := len(endpoints) - 1; i >= 0; i-- {
		e := endpoints[i]
		names[i] = e.Name
		if c.Endpoint == e.Name || c.Endpoint == "" && !e.Drain {
			at = e
		}
	}
	if c.Endpoint != "" && at.Name != c.Endpoint {
		return nil, fmt.Errorf("%s has no endpoint called %q; it has %s", m.Provider.ID, c.Endpoint, strings.Join(names, ", "))
	}
	a.endpoint = at.Name
	return pool.BackendAt(m, at)
}

// versionHeader must come with every request to Anthropic's api.
const versionHeader = "Anthropic-Version"

func sends(headers []catalog.Header, name string) bool {
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}

// find returns the model to ask. Servers on this machine are looked at only
// when the configuration alone does not know it.
func (c *Probe) find(ctx context.Context, env *Env) (*proxy.Snapshot, *catalog.Model, error) {
	file := c.file
	if file == nil {
		var err error
		if file, _, err = env.load(c.Config); err != nil {
			return nil, nil, err
		}
	}
	comp := env.composer(ctx, file, true)
	defer comp.close()
	for looked := false; ; looked = true {
		snap, err := comp.snapshot()
		if err != nil {
			return nil, nil, err
		}
		res, err := snap.Catalog.Resolve(c.Ref, catalog.ResolveOptions{Fallback: "none"})
		if err == nil && len(res.Models) > 0 {
			m := res.Models[0]
			// What its server is decides how the request is written.
			if p := m.Provider; looked || !p.Near || p.KindFrom != "" && p.KindFrom != catalog.KindFromName {
				return snap, m, nil
			}
			comp.look(ctx)
			continue
		}
		if looked || !file.Discovery.Enabled || ctx.Err() != nil {
			if err == nil {
				err = errors.New("no model is configured or found; see nearside models")
			}
			return nil, nil, err
		}
		comp.look(ctx)
	}
}

// patient waits as long as the attempt's own deadlines allow; the command's
// timeout cancels it from outside.
type patient struct{}

func (patient) Flush() error         { return nil }
func (patient) Wake() time.Time      { return time.Time{} }
func (patient) Tick(time.Time) error { return nil }

// through asks a running proxy, for this model only, in the dialect that the
// proxy says its backend speaks.
func (c *Probe) through(ctx context.Context, env *Env, a *answered) error {
	base, err := gatewayURL(c.Gateway)
	if err != nil {
		return err
	}
	a.provider, a.model, _ = strings.Cut(c.Ref, "/")
	if a.model == "" {
		a.provider, a.model = "", c.Ref
	}
	client := directClient(false)
	defer client.CloseIdleConnections()
	d, err := c.spoken(ctx, env, client, base)
	if err != nil {
		return err
	}
	at := base + "/v1/chat/completions"
	if d == wire.Responses {
		at = base + "/v1/responses"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(c.request(d, c.Ref, "max_tokens")))
	if err != nil {
		return usageError{err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "nearside/"+env.Version)
	req.Header.Set("X-Nearside-Fallback", "none")
	a.asked = time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return unreachable(at, err)
	}
	defer resp.Body.Close()
	a.simulated = resp.Header.Get("X-Nearside-Simulated") == "1"
	for _, one := range strings.Split(resp.Header.Get("X-Nearside-Attempts"), ",") {
		if ref, name, ok := strings.Cut(strings.TrimSpace(one), "="); ok {
			provider, id, _ := strings.Cut(ref, "/")
			a.attempts = append(a.attempts, probeAttempt{Provider: provider, Model: id, Outcome: name})
		}
	}
	if provider, id, ok := strings.Cut(resp.Header.Get("X-Nearside-Model"), "/"); ok {
		a.provider, a.model = provider, id
	}
	_, err = c.hear(a, d, resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Location"), resp.Body, upstream.DefaultLimits(false), func() {
		a.first = time.Since(a.asked)
	})
	return err
}

func unreachable(at string, err error) error {
	return fmt.Errorf("%s: %w (is the proxy running there?)", at, inner(err))
}

// spoken asks a proxy which dialect the model is spoken to in. One that does
// not say (another proxy, a name that it does not know) is asked in chat, and
// its answer to that is the one that counts.
func (c *Probe) spoken(ctx context.Context, env *Env, client *http.Client, base string) (wire.Dialect, error) {
	parts := strings.Split(c.Ref, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	at := base + "/v1/models/" + strings.Join(parts, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return 0, usageError{err}
	}
	req.Header.Set("User-Agent", "nearside/"+env.Version)
	resp, err := client.Do(req)
	if err != nil {
		return 0, unreachable(at, err)
	}
	defer resp.Body.Close()
	var model struct {
		Nearside struct {
			API catalog.API `json:"api"`
		} `json:"nearside"`
	}
	p, err := io.ReadAll(io.LimitReader(resp.Body, modelBytesMax))
	if err == nil && resp.StatusCode == http.StatusOK && json.Unmarshal(p, &model) == nil && model.Nearside.API == catalog.Responses {
		return wire.Responses, nil
	}
	return wire.Chat, ctx.Err()
}

// modelBytesMax bounds what is read of a model's description.
const modelBytesMax = 256 << 10

// saidError is what a backend said instead of an answer.
type saidError struct {
	status   int
	html     bool
	redirect string
	said     *wire.Error
}

func (e *saidError) Error() string {
	switch {
	case e.redirect != "":
		return fmt.Sprintf("status %d: a redirect to %s, and none is followed", e.status, e.redirect)
	case e.html:
		return fmt.Sprintf("status %d with a web page in place of an answer", e.status)
	}
	return fmt.Sprintf("status %d: %s", e.status, e.said.Message)
}

// errorBytesMax bounds what is read of an error answer.
const errorBytesMax = 64 << 10

// hear reads an answer and says how it went, in one word for the envelope.
func (c *Probe) hear(a *answered, d wire.Dialect, status int, contentType, location string, body io.Reader, lim upstream.Limits, first func()) (string, error) {
	if status != http.StatusOK {
		p, _ := io.ReadAll(io.LimitReader(body, errorBytesMax))
		e := &saidError{status: status, html: strings.Contains(contentType, "html"), said: wire.ParseError(status, contentType, p)}
		if status >= 300 && status < 400 {
			e.redirect = location
		}
		return "status_" + decimal(status), e
	}
	var err error
	if c.Stream && strings.Contains(contentType, "event-stream") {
		err = hearStream(a, d, body, lim, first)
	} else {
		err = hearWhole(a, d, contentType, body, lim, first)
	}
	var said *wire.Error
	switch {
	case err == nil:
		return "ok", nil
	case errors.As(err, &said) && said.Code == shaping.CodeEmpty:
		return said.Code, nil // no text: told as such
	case errors.As(err, &said):
		return "error_in_answer", err
	}
	return kindOf(err), err
}

func hearWhole(a *answered, d wire.Dialect, contentType string, body io.Reader, lim upstream.Limits, first func()) error {
	p, err := io.ReadAll(io.LimitReader(body, int64(lim.AnswerBytes)+1))
	if err != nil {
		return err
	}
	if len(p) > lim.AnswerBytes {
		return fmt.Errorf("the answer is larger than %d bytes", lim.AnswerBytes)
	}
	if t := bytes.TrimSpace(p); strings.Contains(contentType, "html") || bytes.HasPrefix(t, []byte("<")) {
		return &saidError{status: http.StatusOK, html: true}
	}
	info, _, err := shaping.Answer(d, p, shaping.Name{}, nil)
	a.usage, a.hasUsage, a.finish = info.Usage, info.HasUsage, info.Finish
	if err != nil {
		return err
	}
	first()
	a.whole = p
	a.read(p)
	return nil
}

func hearStream(a *answered, d wire.Dialect, body io.Reader, lim upstream.Limits, first func()) error {
	dec := shaping.NewDecoder(d)
	var scan wire.Scanner
	scan.Reset(lim.EventBytes)
	begun := false
	total := 0
	for {
		ev, ok, err := scan.Next()
		if err != nil {
			return err
		}
		if !ok {
			if _, err = scan.Fill(body); err == nil {
				continue
			}
			if err != io.EOF {
				return err
			}
			if ev, ok = scan.End(); !ok {
				break
			}
		}
		delta, err := dec.Event(ev)
		if err != nil {
			return err
		}
		if delta.Content && !begun {
			begun = true
			first()
		}
		if total += len(delta.Data); total > lim.AnswerBytes {
			return fmt.Errorf("the answer is larger than %d bytes", lim.AnswerBytes)
		}
		if delta.Done {
			break
		}
		a.read(delta.Data)
	}
	a.usage, a.hasUsage = dec.Usage()
	return dec.End()
}

// said is what is read of a whole answer or an event of a stream, of all
// dialects.
type said struct {
	Model   string `json:"model"`
	Choices []struct {
		Message, Delta struct {
			Content          json.RawMessage `json:"content"`
			Refusal          string          `json:"refusal"`
			ReasoningContent string          `json:"reasoning_content"`
			Reasoning        json.RawMessage `json:"reasoning"`
		}
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Type     string          `json:"type"`
	Delta    json.RawMessage `json:"delta"`
	Status   string          `json:"status"`
	Response *said           `json:"response"`
	Output   []struct {
		Type    string `json:"type"`
		Content []struct {
			Type, Text, Refusal string
		} `json:"content"`
	} `json:"output"`
	Incomplete struct {
		Reason string `json:"reason"`
	} `json:"incomplete_details"`
	// Of Anthropic Messages.
	Content    []block `json:"content"`
	StopReason string  `json:"stop_reason"`
	Message    *said   `json:"message"`
}

// block is one of a message's content, or what a delta adds to it.
type block struct {
	Type       string `json:"type"`
	Text       string `json:"text"`
	StopReason string `json:"stop_reason"`
}

// read takes what one answer, or one event, says. What is not JSON was refused
// before.
func (a *answered) read(p []byte) {
	var s said
	if json.Unmarshal(p, &s) != nil {
		return
	}
	if s.Model != "" {
		a.served = s.Model
	}
	for _, ch := range s.Choices[:min(1, len(s.Choices))] {
		for _, m := range [...]struct {
			content, thought json.RawMessage
			refusal, reason  string
		}{{ch.Message.Content, ch.Message.Reasoning, ch.Message.Refusal, ch.Message.ReasoningContent},
			{ch.Delta.Content, ch.Delta.Reasoning, ch.Delta.Refusal, ch.Delta.ReasoningContent}} {
			a.text += contentText(m.content) + m.refusal
			a.thought = a.thought || m.reason != "" || len(m.thought) > 4
		}
		if ch.FinishReason != "" {
			a.finish = ch.FinishReason
		}
	}
	switch {
	case s.Type == "response.output_text.delta" || s.Type == "response.refusal.delta":
		a.text += contentText(s.Delta)
	case strings.HasPrefix(s.Type, "response.reasoning"):
		a.thought = true
	case s.Type == "message_start" && s.Message != nil && s.Message.Model != "":
		a.served = s.Message.Model
	case s.Type == "content_block_delta", s.Type == "message_delta":
		var b block
		_ = json.Unmarshal(s.Delta, &b) // the decoder has looked at it
		a.block(b)
		s.StopReason = b.StopReason
	}
	for _, b := range s.Content {
		a.block(b)
	}
	if s.StopReason == "max_tokens" || s.StopReason == "model_context_window_exceeded" {
		a.finish = "length"
	}
	for _, item := range s.Output {
		a.thought = a.thought || item.Type == "reasoning"
		for _, part := range item.Content {
			if item.Type == "message" {
				a.text += part.Text + part.Refusal
			}
		}
	}
	if s.Incomplete.Reason == "max_output_tokens" {
		a.finish = "length"
	}
	if r := s.Response; r != nil {
		if r.Model != "" {
			a.served = r.Model
		}
		if r.Incomplete.Reason == "max_output_tokens" {
			a.finish = "length"
		}
	}
}

// block takes what a block of a message says, or a delta adds to it.
func (a *answered) block(b block) {
	a.text += b.Text
	a.thought = a.thought || strings.Contains(b.Type, "thinking") || b.Type == "signature_delta"
}

// contentText is a string, or the texts of parts.
func contentText(raw json.RawMessage) string {
	var text string
	if len(raw) == 0 || json.Unmarshal(raw, &text) == nil {
		return text
	}
	var parts []struct{ Text string }
	if json.Unmarshal(raw, &parts) == nil {
		for _, p := range parts {
			text += p.Text
		}
	}
	return text
}

// kindOf names a failure for the envelope.
func kindOf(err error) string {
	var up *upstream.Error
	if errors.As(err, &up) {
		return string(up.Kind)
	}
	return "failed"
}

// hint adds the setting that is likely to change a failure.
func (c *Probe) hint(m *catalog.Model, err error) error {
	if err == nil {
		return nil
	}
	at := "models.providers." + m.Provider.ID
	if m.Provider.Source == catalog.FromDiscovery {
		at = "the server at " + m.BaseURL
	}
	var what string
	var up *upstream.Error
	var said *saidError
	switch {
	case errors.As(err, &up) && up.Setting == "" && up.Kind.Connect():
		what = fmt.Sprintf("is the server running at %s? see %s", m.BaseURL, at+".baseUrl")
		if m.Provider.Source == catalog.FromDiscovery {
			what = "is the server still running at " + m.BaseURL + "?"
		}
	case errors.As(err, &said):
		switch {
		case said.redirect != "", said.html:
			what = "set " + at + ".baseUrl to the address of the API itself; a /v1 may be missing"
		case said.status == http.StatusUnauthorized, said.status == http.StatusForbidden:
			what = "see " + at + ".apiKey"
		case said.status == http.StatusNotFound:
			what = fmt.Sprintf("see the model's id (%q) and %s.baseUrl", m.ID, at)
		}
		err = fmt.Errorf("%s: %w", m.Provider.ID, err)
	}
	if what != "" {
		return fmt.Errorf("%w; %s", err, what)
	}
	return err
}
