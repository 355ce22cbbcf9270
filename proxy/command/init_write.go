package command

import (
	"fmt"
	"net/url"
	"strings"

	"nearside/catalog"
)

// initPlan is what init writes down.
type initPlan struct {
	all       []*candidate
	primary   string
	fallbacks []string
}

// plan decides what default means.
func (c *Init) plan(p *prompts, all []*candidate) (*initPlan, error) {
	plan := &initPlan{all: all}
	var refs []string
	for _, one := range all {
		// What is loaded answers at once: it comes first.
		first := len(refs)
		for i := range one.models {
			ref := one.id + "/" + one.models[i].ID
			if one.models[i].Loaded && (len(refs) == first || !one.loaded(refs[first])) {
				refs = append(refs[:first], append([]string{ref}, refs[first:]...)...)
				continue
			}
			refs = append(refs, ref)
		}
	}
	n, err := p.choose("Which model is to answer a client that asks for \"default\"?", refs)
	if err != nil {
		return nil, err
	}
	plan.primary = refs[n]
	home := plan.provider(plan.primary)
	for _, one := range all {
		if one != home {
			plan.fallbacks = append(plan.fallbacks, one.first(refs))
		}
	}
	if len(plan.fallbacks) > 0 {
		use, err := p.yes("When it fails, go on to "+strings.Join(plan.fallbacks, ", then ")+"?", true)
		if err != nil {
			return nil, err
		}
		if !use {
			plan.fallbacks = nil
		}
	}
	return plan, nil
}

// loaded says whether a model of the server is in memory.
func (one *candidate) loaded(ref string) bool {
	for i := range one.models {
		if one.id+"/"+one.models[i].ID == ref {
			return one.models[i].Loaded
		}
	}
	return false
}

// first is the first of refs that the server has.
func (one *candidate) first(refs []string) string {
	for _, ref := range refs {
		if strings.HasPrefix(ref, one.id+"/") {
			return ref
		}
	}
	return ""
}

// provider is the one that a ref names.
func (plan *initPlan) provider(ref string) *candidate {
	id, _, _ := strings.Cut(ref, "/")
	for _, one := range plan.all {
		if one.id == id {
			return one
		}
	}
	return nil
}

// firsts are the refs to probe: of each server the one that will be asked.
func (plan *initPlan) firsts() []string {
	refs := append([]string{plan.primary}, plan.fallbacks...)
	for _, one := range plan.all {
		if one.first(refs) == "" && len(one.models) > 0 {
			refs = append(refs, one.id+"/"+one.models[0].ID)
		}
	}
	return refs
}

// write returns the configuration's text.
func (plan *initPlan) write() []byte {
	var b strings.Builder
	b.WriteString(`// Nearside's configuration, in OpenClaw's shape (JSON5). "nearside check" says what it
// means, "nearside config set" changes a line of it, and a running proxy takes a change
// over by itself. Whatever is not said here has its default.
{
  models: {
    // Hosted providers that Nearside knows (OpenAI, Anthropic, …) need no entry: each can be
    // asked once its key is in the environment, and is asked where a chain below names it.
    providers: {
`)
	for i, one := range plan.all {
		if i > 0 {
			b.WriteByte('\n')
		}
		one.write(&b)
	}
	b.WriteString(`    },
  },

  agents: {
    defaults: {
      model: {
        // What a client gets that asks for "default": provider/model, split at the first slash.
`)
	fmt.Fprintf(&b, "        primary: %s,\n", js(plan.primary))
	if len(plan.fallbacks) > 0 {
		quotes := make([]string, len(plan.fallbacks))
		for i, ref := range plan.fallbacks {
			quotes[i] = js(ref)
		}
		b.WriteString("        // Asked in this order when the one before is down, busy or failing. A hosted model may\n        // stand at the end, such as \"anthropic/claude-sonnet-4-6\".\n")
		fmt.Fprintf(&b, "        fallbacks: [%s],\n", strings.Join(quotes, ", "))
	} else {
		b.WriteString("        // Asked when that one is down, busy or failing; a hosted model needs its key in the\n        // environment. Without fallbacks nothing leaves your machines.\n        // fallbacks: [\"anthropic/claude-sonnet-4-6\"],\n")
	}
	b.WriteString("      },\n    },\n  },\n}\n")
	return []byte(b.String())
}

// write writes one provider.
func (one *candidate) write(b *strings.Builder) {
	where := "on this machine"
	host := one.base
	if u, err := url.Parse(one.base); err == nil {
		host = u.Hostname()
	}
	switch {
	case one.private:
		where = "on " + host
	case !catalog.PlaceOf(one.base).Near():
		where = "at " + host + ", on the internet"
	}
	name := kindName(one.found.Kind)
	if one.custom && one.found.Kind == catalog.KindUnknown {
		name = "An OpenAI-compatible endpoint"
	}
	fmt.Fprintf(b, "      // %s %s.\n      %s: {\n        baseUrl: %s,\n        api: %s,\n", name, where, js(one.id), js(one.base), js(string(catalog.Completions)))
	switch {
	case one.plain:
		fmt.Fprintf(b, "        apiKey: %s, // the key itself: \"${NAME}\" would read it from the environment instead\n", js(one.key))
	case one.key != "":
		fmt.Fprintf(b, "        apiKey: %s, // read from the environment\n", js(one.key))
	}
	if one.private {
		fmt.Fprintf(b, "        // %s is another machine of your network: addresses there are refused unless you say\n        // so, since whoever can write an address here makes this proxy call it.\n        request: { allowPrivateNetwork: true },\n", host)
	}
	b.WriteString("        models: [\n")
	for i := range one.models {
		m := &one.models[i]
		input, why := one.input(m)
		for k := range input {
			input[k] = js(input[k])
		}
		fmt.Fprintf(b, "          {\n            id: %s, // as its server names it\n            name: %[1]s,\n            input: [%s], // %s\n", js(m.ID), strings.Join(input, ", "), why)
		if m.Reasoning {
			b.WriteString("            reasoning: true,\n")
		}
		if m.ContextWindow > 0 {
			fmt.Fprintf(b, "            contextWindow: %d,\n", m.ContextWindow)
		} else {
			b.WriteString("            // contextWindow: 32768, // its server does not say it: what it was started with\n")
		}
		if one.found.Kind == catalog.KindMLX {
			b.WriteString("            maxTokens: 8192, // mlx_lm.server ends answers after 512 unless it is told\n")
		}
		if m.Tools != nil && !*m.Tools {
			b.WriteString("            compat: { supportsTools: false }, // as its server says\n")
		}
		b.WriteString("          },\n")
	}
	b.WriteString("        ],\n      },\n")
}
