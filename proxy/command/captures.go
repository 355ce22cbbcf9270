package command

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-json"

	"nearside/proxy/capture"
	"nearside/proxy/ledger"
)

// Captures looks at the bodies that were kept.
type Captures struct {
	List  CapturesList  `cmd:"" group:"Commands:" help:"List what was kept, the newest first."`
	Show  CapturesShow  `cmd:"" group:"Commands:" help:"Print the request and the answer of one exchange."`
	Clear CapturesClear `cmd:"" group:"Commands:" help:"Remove what was kept."`
}

// Help teaches what captures does.
func (Captures) Help() string {
	return `Requests and answers of the keys that proxy.capture.keys names, redacted, as files in the
folder captures of the data folder. Nothing is kept unless it names any.

	nearside captures list --key laptop
	nearside captures show req_0a1b2c3d4e5f60718293a4b5
	nearside captures show --answer req_0a1b2c3d4e5f60718293a4b5
	nearside captures clear --older 24h

Exit codes: 0; 1 there is none, or it cannot be read; 2 bad flags.`
}

// CapturesFlags say where captures are.
type CapturesFlags struct {
	ConfigFlag
	Dir string `placeholder:"FOLDER" help:"Where they are. Without it: captures in the data folder of the configuration."`
}

func (c *CapturesFlags) dir(env *Env) (string, error) {
	if c.Dir != "" {
		return c.Dir, nil
	}
	file, _, err := env.load(c.Config)
	if err != nil {
		return "", err
	}
	return filepath.Join(file.Proxy.DataDir, captureDir), nil
}

// CapturesList lists captures.
type CapturesList struct {
	CapturesFlags
	Key   string `placeholder:"ID" help:"Of one key only."`
	Limit int    `short:"n" default:"20" help:"At most so many; 0 for all."`
	JSON  bool   `help:"One object a line."`
}

// Run lists.
func (c *CapturesList) Run(env *Env) error {
	dir, err := c.dir(env)
	if err != nil {
		return err
	}
	rows := [][]string{{"at", "request", "key", "path", "model", "status", "request bytes", "answer bytes", "masked"}}
	n := 0
	var failed error
	err = capture.List(dir, func(r *capture.Record) bool {
		if c.Key != "" && r.Key != c.Key {
			return true
		}
		n++
		if c.JSON {
			var line []byte
			if line, failed = json.MarshalWithOption(r, json.DisableHTMLEscape()); failed == nil {
				_, failed = env.Stdout.Write(append(line, '\n'))
			}
		} else {
			rows = append(rows, []string{r.At.Local().Format(time.DateTime), r.ID, orDash(printableText(r.Key)), printableText(r.Path), orDash(printableText(r.Ref)), strconv.Itoa(r.Status),
				number(int64(r.RequestBytes)), number(int64(r.AnswerBytes)), strconv.Itoa(r.Masked)})
		}
		return failed == nil && (c.Limit <= 0 || n < c.Limit)
	})
	if err = errors.Join(err, failed); err != nil || c.JSON {
		return err
	}
	if n == 0 {
		fmt.Fprintf(env.Stdout, "nothing was kept in %s: proxy.capture.keys names whose bodies are\n", dir)
		return nil
	}
	table(env.Stdout, "", rows)
	return nil
}

// CapturesShow prints one capture.
type CapturesShow struct {
	CapturesFlags
	ID      string `arg:"" help:"The request's id, as x-request-id and captures list say it."`
	Request bool   `xor:"part" help:"The request's body alone, as it is."`
	Answer  bool   `xor:"part" help:"The answer alone, as it is."`
	JSON    bool   `xor:"part" help:"All of it as one object."`
}

// Run prints.
func (c *CapturesShow) Run(env *Env) error {
	dir, err := c.dir(env)
	if err != nil {
		return err
	}
	r, err := capture.Read(dir, c.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has no capture of %s", dir, c.ID)
	}
	if err != nil {
		return err
	}
	switch {
	case c.Request:
		_, err = env.Stdout.Write(r.Request)
	case c.Answer:
		_, err = env.Stdout.Write(r.Answer)
	case c.JSON:
		err = env.json(struct {
			*capture.Record
			Request string `json:"request"`
			Answer  string `json:"answer"`
		}{r, string(r.Request), string(r.Answer)})
	default:
		_, err = fmt.Fprint(env.Stdout, c.text(r))
	}
	return err
}

// text is a capture for people: what others wrote must not steer their terminal.
func (c *CapturesShow) text(r *capture.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s   %s   key %s\n%s of %q, answered by %s (%s) with %d, %s\n", r.ID, r.At.Local().Format(time.DateTime), orDash(r.Key), r.Path, r.Requested, orDash(r.Ref), orDash(r.Route), r.Status, r.Outcome)
	fmt.Fprintf(&b, "%d bytes asked, %d answered, masked in %s\n\n", r.RequestBytes, r.AnswerBytes, count(r.Masked, "place"))
	names := make([]string, 0, len(r.Headers))
	for name := range r.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %s\n", name, r.Headers[name])
	}
	fmt.Fprintf(&b, "\n%s\n\n%s\n", cutNote(r.Request, r.RequestBytes), cutNote(r.Answer, r.AnswerBytes))
	return strings.Map(func(c rune) rune {
		if c != '\n' && c != '\t' && unicode.IsControl(c) {
			return '?'
		}
		return c
	}, b.String())
}

func cutNote(body []byte, whole int) string {
	text := string(body)
	if len(body) == 0 && whole > 0 {
		return fmt.Sprintf("[%d bytes that are no text]", whole)
	}
	return text
}

// CapturesClear removes captures.
type CapturesClear struct {
	CapturesFlags
	IDs   []string `arg:"" optional:"" name:"id" help:"Of these requests."`
	Key   string   `placeholder:"ID" help:"Of this key."`
	Older string   `placeholder:"TIME" help:"Of before then: a date, or how long ago (24h, 7d)."`
	All   bool     `help:"All of them."`
}

// Run removes.
func (c *CapturesClear) Run(env *Env) error {
	if len(c.IDs) == 0 && c.Key == "" && c.Older == "" && !c.All {
		return usageError{errors.New("say which: ids, --key, --older or --all")}
	}
	before, err := ledger.Moment(c.Older, time.Now())
	if err != nil {
		return usageError{fmt.Errorf("--older: %w", err)}
	}
	dir, err := c.dir(env)
	if err != nil {
		return err
	}
	n, err := capture.Clear(dir, func(r *capture.Record) bool {
		return (len(c.IDs) == 0 || slices.Contains(c.IDs, r.ID)) && (c.Key == "" || r.Key == c.Key) && (before.IsZero() || r.At.Before(before))
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "%s removed\n", count(n, "capture"))
	if n < len(c.IDs) {
		return fmt.Errorf("of %s some were not there", strings.Join(c.IDs, ", "))
	}
	return nil
}
