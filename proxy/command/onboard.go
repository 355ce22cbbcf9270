package command

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// Onboard looks at one model server and writes the configuration for it.
type Onboard struct {
	URL              string        `arg:"" name:"url" help:"Where the server listens: 127.0.0.1:8000, http://gpubox:8000/v1, https://api.example.com/v1."`
	Model            []string      `placeholder:"ID" help:"Only this model, as the server names it; also one that it does not list. Can be repeated."`
	ID               string        `placeholder:"NAME" help:"What the provider is called. Without it: custom-<host>-<port>, as OpenClaw has it."`
	KeyEnv           string        `placeholder:"NAME" help:"Environment variable that holds the server's key."`
	CustomImageInput bool          `xor:"input" help:"The models read images, whatever the server and their names say."`
	CustomTextInput  bool          `xor:"input" help:"The models read text only."`
	Write            string        `placeholder:"FILE" help:"Write the configuration into this file, which must not exist yet."`
	Timeout          time.Duration `default:"5s" help:"How long the look may take."`
}

// Help teaches what onboard does.
func (Onboard) Help() string {
	return `For one more server in a configuration that is there already; "nearside init" writes the
first one. Asks a model server what it is and which models it has, and prints the block of
config.json5 for it: addresses, context windows, and whether the models read images. What
the server does not say of images is inferred from a model's name; where that says nothing
either, the model is taken for a text model and the block says so. No completion is asked for.

	nearside onboard 127.0.0.1:8000
	nearside onboard http://192.168.1.20:8000/v1 --model qwen3-vl-8b --custom-image-input
	nearside onboard https://api.example.com/v1 --key-env EXAMPLE_API_KEY --write config.json5

Exit codes: 0 there is a block; 1 no model server answers there; 2 bad flags, or the file exists.`
}

// onboardMax bounds the models of one block; a marketplace lists thousands.
const onboardMax = 50

var (
	environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	providerName    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	notInAName      = regexp.MustCompile(`[^a-z0-9]+`)
)

// Run looks and prints.
func (c *Onboard) Run(env *Env) error {
	base, id, err := c.place()
	if err != nil {
		return usageError{err}
	}
	cfg := upstream.Config{ID: id, BaseURL: base, API: catalog.Completions, Near: catalog.PlaceOf(base).Near()}
	private := catalog.PlaceOf(base) == catalog.PlacePrivate
	if private { // whoever writes the address down trusts it
		cfg.AllowPrivate = &private
	}
	if c.KeyEnv != "" {
		key, ok := env.Lookup(c.KeyEnv)
		if !ok || !environmentName.MatchString(c.KeyEnv) {
			return usageError{fmt.Errorf("--key-env: %s is not set", c.KeyEnv)}
		}
		cfg.Key = upstream.NewSecret(key)
	}
	if c.Write != "" {
		if _, err := os.Lstat(c.Write); err == nil {
			return usageError{fmt.Errorf("%s exists: without --write the block is printed, to be put into it", c.Write)}
		}
	}
	ctx, stop := env.context()
	defer stop()
	found := upstream.Inspect(ctx, cfg, upstream.InspectOptions{Timeout: c.Timeout, Dialer: env.Dialer})
	switch {
	case ctx.Err() != nil:
		return errStopped
	case found.Err != nil:
		return exitError{ExitFailed, fmt.Errorf("no model server can be asked at %s: %w", base, found.Err)}
	case found.State == upstream.StateMisconfigured, found.State == upstream.StateFailing:
		return exitError{ExitFailed, fmt.Errorf("%s is not ready to be configured: %s", base, inFlags(found.Detail, id, "--key-env", "the URL"))}
	}
	models, notes, err := c.models(&found)
	if err != nil {
		return exitError{ExitFailed, err}
	}
	block := c.block(id, base, private, &found, models)
	for _, n := range notes {
		fmt.Fprintln(env.Stderr, "nearside:", n)
	}
	if c.Write == "" {
		_, err = env.Stdout.Write(block)
		return err
	}
	f, err := os.OpenFile(c.Write, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usageError{fmt.Errorf("write the configuration: %w", err)}
	}
	_, err = f.Write(block)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", c.Write, err)
	}
	fmt.Fprintf(env.Stdout, "%s has %s of %s\n", c.Write, count(len(models), "model"), id)
	return nil
}

// place returns the server's base URL and the provider's id.
func (c *Onboard) place() (base, id string, err error) {
	raw := strings.TrimSpace(c.URL)
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", "", errors.New("the address must be host:port or start with http:// or https://")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", errors.New("the address must have no user, query or fragment; a key goes into --key-env")
	}
	if u.Path = strings.TrimRight(u.Path, "/"); u.Path == "" {
		u.Path = "/v1"
	}
	id = strings.TrimSpace(c.ID)
	if id == "" {
		id = "custom-" + strings.Trim(notInAName.ReplaceAllString(strings.ToLower(u.Hostname()), "-"), "-")
		if p := u.Port(); p != "" {
			id += "-" + p
		}
	}
	if !providerName.MatchString(id) {
		return "", "", fmt.Errorf("--id: %q must be of lower-case letters, digits, dots and dashes", id)
	}
	return u.String(), id, nil
}

// models returns those that the block is to have, and what people should know.
func (c *Onboard) models(found *upstream.Found) (models []upstream.FoundModel, notes []string, err error) {
	for _, id := range c.Model {
		m := found.Model(id)
		if m == nil {
			m = &upstream.FoundModel{ID: id}
			if len(found.Models) > 0 {
				notes = append(notes, fmt.Sprintf("the server does not list %q", id))
			}
		}
		one := *m
		one.ID = id
		models = append(models, one)
	}
	if len(c.Model) > 0 {
		return models, notes, nil
	}
	for _, m := range found.Models {
		if m.Type == "embeddings" || m.Type == "embedding" {
			continue
		}
		models = append(models, m)
	}
	if len(models) == 0 {
		return nil, nil, fmt.Errorf("%s lists no models: name one with --model", found.URL)
	}
	if more := len(models) - onboardMax; more > 0 {
		notes = append(notes, fmt.Sprintf("%d more models are left out: name those you want with --model", more))
		models = models[:onboardMax]
	}
	return models, notes, nil
}

// input decides what a model reads, and says by whom.
func (c *Onboard) input(m *upstream.FoundModel) (input []string, why string) {
	image, known := catalog.InfersImages(m.ID)
	switch {
	case c.CustomImageInput:
		return []string{catalog.InputText, catalog.InputImage}, "as you say"
	case c.CustomTextInput:
		return []string{catalog.InputText}, "as you say"
	case len(m.Input) > 0:
		return m.Input, "as the server says"
	case image:
		return []string{catalog.InputText, catalog.InputImage}, "as its name suggests"
	case known:
		return []string{catalog.InputText}, "as its name suggests; add \"image\" if it reads them"
	}
	return []string{catalog.InputText}, "nothing says whether it reads images; add \"image\" if it does"
}

// block writes the configuration.
func (c *Onboard) block(id, base string, private bool, found *upstream.Found, models []upstream.FoundModel) []byte {
	quote := func(s string) string { return string(wire.AppendString(nil, s)) }
	var b strings.Builder
	fmt.Fprintf(&b, "{\n  models: {\n    providers: {\n      %s: {\n        baseUrl: %s,\n        api: %s,\n", quote(id), quote(base), quote(string(catalog.Completions)))
	if c.KeyEnv != "" {
		fmt.Fprintf(&b, "        apiKey: \"${%s}\",\n", c.KeyEnv)
	}
	if private {
		b.WriteString("        request: { allowPrivateNetwork: true },\n")
	}
	b.WriteString("        models: [\n")
	for i := range models {
		m := &models[i]
		input, why := c.input(m)
		quoted := make([]string, len(input))
		for k := range input {
			quoted[k] = quote(input[k])
		}
		fmt.Fprintf(&b, "          {\n            id: %s,\n            name: %[1]s,\n            input: [%s], // %s\n", quote(m.ID), strings.Join(quoted, ", "), why)
		if m.Reasoning {
			b.WriteString("            reasoning: true,\n")
		}
		if m.ContextWindow > 0 {
			fmt.Fprintf(&b, "            contextWindow: %d,\n", m.ContextWindow)
		} else {
			b.WriteString("            // contextWindow: 32768, // the server does not say it: what it was started with\n")
		}
		if found.Kind == catalog.KindMLX {
			b.WriteString("            maxTokens: 8192, // mlx_lm.server ends answers after 512 unless it is told\n")
		}
		if m.Tools != nil && !*m.Tools {
			b.WriteString("            compat: { supportsTools: false }, // as the server says\n")
		}
		b.WriteString("          },\n")
	}
	b.WriteString("        ],\n      },\n    },\n  },\n}\n")
	return []byte(b.String())
}
