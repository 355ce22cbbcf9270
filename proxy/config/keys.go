package config

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config/json5"
	"nearside/upstream"
)

// cooldownFields are the keys of proxy.cooldown.
func cooldownFields() []field {
	d := proxy.Defaults().Cooldown
	c := d.Cooldown
	count := &shape{kind: whole, zero: true}
	dur, durOrZero := &shape{kind: span}, &shape{kind: span, zero: true}
	hours, minutes := &shape{kind: span, unit: "Hours"}, &shape{kind: span, unit: "Minutes"}
	of := strconv.Itoa
	return []field{
		ours("first", dur, inSeconds(c.First), "How long a key is left alone that was limited, overloaded or refused. A window that stands is never made longer; once it is over the next failure is the first again."),
		ours("second", dur, inSeconds(c.Second), "The same at its second failure in a row."),
		ours("further", dur, inSeconds(c.Further), "And from the third on."),
		ours("refused", durOrZero, inSeconds(c.Refused), "The least for a key that the provider did not accept (401, 403): some lock out who goes on. 0 for the three above."),
		ours("billingBackoff", hours, inUnit(c.Billing, time.Hour), "How long a key is not used whose account has no credit; doubled at each further failure. proxy.providers.<id>.billingBackoffHours says it for one provider."),
		ours("billingMax", hours, inUnit(c.BillingMax, time.Hour), "The longest that becomes."),
		ours("authPermanentBackoff", minutes, inUnit(c.Permanent, time.Minute), "How long a key is not used that was revoked or disabled; doubled as well."),
		ours("authPermanentMax", minutes, inUnit(c.PermanentMax, time.Minute), "The longest that becomes."),
		ours("disabledMin", durOrZero, inSeconds(c.DisabledMin), "The least of the two."),
		ours("failureWindow", hours, inUnit(c.FailureWindow, time.Hour), "Failures further apart do not count as in a row."),
		ours("probeWithin", durOrZero, inSeconds(c.ProbeWithin), "So close to the end of its window the primary target is tried all the same, unless the provider itself asked to be left alone (Retry-After)."),
		ours("probeEvery", dur, inSeconds(c.ProbeEvery), "At most so often for each provider."),
		ours("overloadedRotations", count, of(d.OverloadedRotations), "How many further keys of a provider an exchange tries that is overloaded, before the next target. 0 for none."),
		ours("rateLimitedRotations", count, of(d.RateLimitedRotations), "The same where a key is limited."),
		ours("rotations", count, of(d.Rotations), "How many further keys an exchange tries of one target in all, those without credit and the refused ones among them."),
	}
}

// affinityFields are the keys of proxy.affinity.
func affinityFields() []field {
	d := proxy.Defaults().Affinity
	return []field{
		ours("sessions", &shape{kind: whole, zero: true}, strconv.Itoa(d.Sessions), "Of how many conversations it is remembered where they were served, so that they stay where their prompt is cached: at a key, a box of a provider, a target. The one that was quiet longest makes room. 0 for none."),
		ours("for", &shape{kind: span}, inSeconds(d.For), "How long after its last answer a conversation is remembered."),
		ours("targets", &shape{kind: boolean}, strconv.FormatBool(d.Targets), "Keep it at its target, too: it is tried before others that are as near or far as it, never before a nearer one that stands earlier."),
	}
}

// keySettings reads proxy.cooldown and proxy.affinity.
func (l *loader) keySettings(own node, c *proxy.Config) {
	at, k := own.get("cooldown"), &c.Cooldown
	w := &k.Cooldown
	for name, to := range map[string]*time.Duration{"first": &w.First, "second": &w.Second, "further": &w.Further, "refused": &w.Refused,
		"billingBackoff": &w.Billing, "billingMax": &w.BillingMax, "authPermanentBackoff": &w.Permanent, "authPermanentMax": &w.PermanentMax,
		"disabledMin": &w.DisabledMin, "failureWindow": &w.FailureWindow, "probeWithin": &w.ProbeWithin, "probeEvery": &w.ProbeEvery} {
		at.setSpan(name, to)
	}
	at.setWhole("overloadedRotations", &k.OverloadedRotations)
	at.setWhole("rateLimitedRotations", &k.RateLimitedRotations)
	at.setWhole("rotations", &k.Rotations)
	if w.Billing > w.BillingMax {
		l.at(at.pos(), at.path, "billingBackoff (%s) is longer than billingMax (%s)", w.Billing, w.BillingMax)
	}
	if w.Permanent > w.PermanentMax {
		l.at(at.pos(), at.path, "authPermanentBackoff (%s) is longer than authPermanentMax (%s)", w.Permanent, w.PermanentMax)
	}
	at, a := own.get("affinity"), &c.Affinity
	at.setWhole("sessions", &a.Sessions)
	at.setSpan("for", &a.For)
	at.setFlag("targets", &a.Targets)
}

// cooldown returns the windows of a provider's keys.
func (c *Config) cooldown(own node) upstream.Cooldown {
	w := c.Proxy.Cooldown.Cooldown
	own.setSpan("billingBackoff", &w.Billing)
	w.BillingMax = max(w.BillingMax, w.Billing)
	return w
}

// further adds the keys of proxy.providers.<id>.apiKeys to those that a provider
// has.
func (l *loader) further(own node, b *upstream.Config) {
	for _, at := range own.get("apiKeys").items() {
		switch key, ok := l.keyText(at); {
		case !ok:
		case key == "":
			l.at(at.pos(), at.path, "is no key")
		default:
			b.More = append(b.More, upstream.NewSecret(key))
		}
	}
	if at := own.get("apiKeys"); len(b.More) >= upstream.KeysMax {
		l.at(at.orElse(own).pos(), at.path, "a provider has at most %d keys", upstream.KeysMax)
	}
	if at := own.get("apiKeys"); b.Auth.Mode == "" && b.Key.IsZero() && b.Auth.Secret.IsZero() && len(b.More) > 0 {
		b.Key, b.More = b.More[0], b.More[1:] // none was given elsewhere
	} else if at.there() && b.Auth.Mode == "none" {
		l.at(at.pos(), at.path, "is not used: no credential is sent with this auth")
	}
}

// keyText returns the key at a place; empty for one that stands for none. ok is
// false when a problem was reported.
func (l *loader) keyText(at node) (key string, ok bool) {
	key, ok = l.secret(at)
	switch {
	case !ok || key == "" || catalog.IsKeyMarker(key):
		return "", ok
	case at.v.Kind == json5.String && l.isKeyVariable(key):
		value, set := l.lookup(key)
		if value == "" {
			l.unset(at.pos(), at.path, key, set)
			return "", false
		}
		return value, true
	case strings.ContainsAny(key, "\r\n\x00"):
		l.at(at.pos(), at.path, "must be one line")
		return "", false
	}
	return key, true
}

// keyPrefix is what the variables of a provider's keys begin with.
func keyPrefix(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, id)
}

// environmentKeys returns the keys that the environment has for a provider, each
// once: OPENCLAW_LIVE_<P>_KEY alone, where it is set; else <P>_API_KEYS (separated
// by commas, semicolons or white space), <P>_API_KEY and <P>_API_KEY_*. names are
// the variables that the provider's own documentation has; of several the first
// that is set counts, with what belongs to it.
func (l *loader) environmentKeys(id string, names []string) []string {
	if v, _ := l.lookup("OPENCLAW_LIVE_" + keyPrefix(id) + "_KEY"); strings.TrimSpace(v) != "" {
		return []string{strings.TrimSpace(v)}
	}
	own := keyPrefix(id) + "_API_KEY"
	if !slices.Contains(names, own) {
		names = append(slices.Clone(names), own)
	}
	for _, name := range names {
		var all []string
		if prefix, ok := strings.CutSuffix(name, "_API_KEY"); ok {
			all = l.keysOf(prefix)
		} else if v, _ := l.lookup(name); strings.TrimSpace(v) != "" {
			all = []string{strings.TrimSpace(v)}
		}
		if len(all) > 0 {
			return all[:min(len(all), upstream.KeysMax)]
		}
	}
	return nil
}

// keysOf returns the keys of the variables with a prefix.
func (l *loader) keysOf(prefix string) []string {
	many, _ := l.lookup(prefix + "_API_KEYS")
	all := keysIn(many)
	add := func(v string) {
		if v = strings.TrimSpace(v); v != "" && !strings.ContainsAny(v, "\r\n\x00") && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	one, _ := l.lookup(prefix + "_API_KEY")
	add(one)
	numbered := prefix + "_API_KEY_"
	var names []string
	for _, name := range l.variableNames() {
		// What names a file holds no key.
		if strings.HasPrefix(name, numbered) && !strings.HasSuffix(name, "_FILE") && !strings.HasSuffix(name, "_PATH") {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { // _2 before _10
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		v, _ := l.lookup(name)
		add(v)
	}
	return all
}

// keysIn splits a list of keys.
func keysIn(text string) []string {
	var all []string
	for _, key := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\r' || r == '\n' }) {
		if !slices.Contains(all, key) {
			all = append(all, key)
		}
	}
	return all
}

// variableNames lists the variables of the environment and of the file.
func (l *loader) variableNames() []string {
	var names []string
	if l.opt.Environ != nil {
		for _, pair := range l.opt.Environ() {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
	}
	for name := range l.vars {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// environ is os.Environ where the process's own environment is read.
func (o *Options) environ() {
	if o.LookupEnv == nil && o.Environ == nil {
		o.Environ = os.Environ
	}
}

// secretsOf wraps keys.
func secretsOf(keys []string) (first upstream.Secret, more []upstream.Secret) {
	for i, k := range keys {
		if i == 0 {
			first = upstream.NewSecret(k)
		} else {
			more = append(more, upstream.NewSecret(k))
		}
	}
	return first, more
}
