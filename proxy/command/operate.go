package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-json"

	"nearside/proxy"
)

// operation is what Pause, Drain, Resume and Reset have in common.
type operation struct {
	Health
	Ref string `arg:"" help:"A provider (lmstudio), one of its models (lmstudio/qwen3), or one of its endpoints (lmstudio@left)."`
	Key string `placeholder:"KEY" help:"An operator's key, where the proxy asks for keys. Without it $$NEARSIDE_KEY."`
}

// Pause has a backend get no new requests.
type Pause struct{ operation }

// Help teaches what pause does.
func (Pause) Help() string {
	return `A running proxy sends no new requests there; those that it has, or that wait for it, are
finished. Requests go on to the next target of their chain. It lasts until "nearside resume"
or a restart.

	nearside pause lmstudio
	nearside pause lmstudio/qwen3-4b

Exit codes: 0 done; 1 there is no such backend, or the proxy cannot be reached; 2 bad flags.`
}

// Run pauses.
func (c *Pause) Run(env *Env) error { return c.run(env, "pause", 0) }

// Drain is Pause for somebody who wants to stop the backend.
type Drain struct {
	operation
	Wait time.Duration `placeholder:"TIME" help:"Wait until nothing is under way there, so long at the most; then the backend can be stopped."`
}

// Help teaches what drain does.
func (Drain) Help() string {
	return `As pause, for a backend that is to be stopped: with --wait it returns once nothing is under
way there any more.

	nearside drain lmstudio --wait 5m && systemctl --user stop lmstudio

Exit codes: 0 done, and nothing is under way with --wait; 1 something still is, there is no
such backend, or the proxy cannot be reached; 2 bad flags.`
}

// Run drains.
func (c *Drain) Run(env *Env) error { return c.run(env, "drain", c.Wait) }

// Resume ends Pause and Drain.
type Resume struct{ operation }

// Help teaches what resume does.
func (Resume) Help() string {
	return `Ends "nearside pause" and "nearside drain".

	nearside resume lmstudio

Exit codes: 0 done; 1 there is no such backend, or the proxy cannot be reached; 2 bad flags.`
}

// Run resumes.
func (c *Resume) Run(env *Env) error { return c.run(env, "resume", 0) }

// Reset has the proxy forget how a backend failed.
type Reset struct{ operation }

// Help teaches what reset does.
func (Reset) Help() string {
	return `For a backend that was mended: its breakers close, and keys and models that were left alone
are asked again at once.

	nearside reset lmstudio

Exit codes: 0 done; 1 there is no such backend, or the proxy cannot be reached; 2 bad flags.`
}

// Run resets.
func (c *Reset) Run(env *Env) error { return c.run(env, "reset", 0) }

// drainEvery is how often Drain looks whether something is under way.
const drainEvery = 200 * time.Millisecond

func (c *operation) run(env *Env, action string, wait time.Duration) error {
	c.operator = true
	base, insecure, err := c.base(env)
	if err != nil {
		return err
	}
	if c.Key == "" {
		c.Key = strings.TrimSpace(env.Getenv("NEARSIDE_KEY"))
	}
	ctx, stop := env.context()
	defer stop()
	client := directClient(insecure, c.pair)
	defer client.CloseIdleConnections()
	at := base + "/proxy/targets/" + strings.ReplaceAll(url.PathEscape(c.Ref), "%2F", "/") + "/" + action
	end := time.Now().Add(wait)
	for {
		name, under, err := c.ask(ctx, client, at)
		switch {
		case err != nil:
			return err
		case under == 0 || wait == 0:
			fmt.Fprintln(env.Stdout, name+operatedText(action, under, wait > 0))
			return nil
		case !time.Now().Before(end):
			return fmt.Errorf("%s: %d requests are still under way after %v", name, under, wait)
		}
		select {
		case <-time.After(drainEvery):
		case <-ctx.Done():
			return errStopped
		}
	}
}

func operatedText(action string, under int, waited bool) string {
	text := map[string]string{"pause": " is paused", "drain": " is drained", "resume": " takes requests again", "reset": " was reset"}[action]
	switch {
	case under > 0:
		text += fmt.Sprintf("; %d requests are under way there", under)
	case waited:
		text += ": nothing is under way there"
	}
	return text
}

// ask sends an operation, and returns what it was about and how many requests are
// under way there.
func (c *operation) ask(ctx context.Context, client *http.Client, at string) (name string, under int, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader("{}"))
	if err != nil {
		return "", 0, usageError{fmt.Errorf("--url: %w", err)}
	}
	req.Header.Set("Content-Type", "application/json")
	if c.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.Key)
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return "", 0, fmt.Errorf("%s: no answer within %v", at, c.Timeout)
		}
		return "", 0, fmt.Errorf("%s: %w (is nearside running there?)", at, inner(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, statusBytesMax))
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", at, err)
	}
	var said struct {
		Target string
		Paused *proxy.Pause
		Error  struct{ Message string }
	}
	err = json.Unmarshal(raw, &said)
	switch {
	case resp.StatusCode != http.StatusOK && said.Error.Message != "":
		return "", 0, fmt.Errorf("%s", strings.Map(shown, said.Error.Message))
	case resp.StatusCode != http.StatusOK:
		return "", 0, fmt.Errorf("%s answers %s", at, resp.Status)
	case err != nil:
		return "", 0, fmt.Errorf("%s: what came is no answer of this version: %w", at, err)
	}
	if said.Paused != nil {
		under = said.Paused.InFlight
	}
	return said.Target, under, nil
}

// shown keeps what a proxy says from steering the terminal.
func shown(r rune) rune {
	if unicode.IsControl(r) {
		return '_'
	}
	return r
}
