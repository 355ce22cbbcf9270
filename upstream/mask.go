package upstream

import (
	"regexp"
	"strings"
)

// maskMin is the least length of a secret that is looked for: a shorter one is
// a marker, and a word that texts may hold.
const maskMin = 6

// keyLike finds what looks like a key of anybody's.
var keyLike = regexp.MustCompile(`(\bsk-|(?i:\bbearer )\s*)[A-Za-z0-9._~+/=-]{6,}`)

// keyMin is the length from which what begins like a key is taken for one even
// without a digit: no word is that long.
const keyMin = 20

// Mask takes credentials out of a text that the backend said: those we sent,
// which some servers repeat, and what looks like one.
func (b *Backend) Mask(text string) string {
	for _, secret := range b.secrets {
		text = strings.ReplaceAll(text, secret, secretMask)
	}
	return keyLike.ReplaceAllStringFunc(text, func(s string) string {
		kept := keyLike.FindStringSubmatch(s)[1]
		if !strings.ContainsAny(s[len(kept):], "0123456789") && (kept != "sk-" || len(s) < keyMin) {
			return s // "Bearer authentication"
		}
		return kept + secretMask
	})
}

// secretsOf lists what must not be repeated of a configuration.
func secretsOf(c Config) []string {
	var all []string
	add := func(s string) {
		// A key that is its provider's name is a marker, too: without the name no
		// message would say which backend it is about.
		if len(s) >= maskMin && !strings.EqualFold(s, c.ID) {
			all = append(all, s)
		}
	}
	add(c.Key.Reveal())
	add(c.Auth.Secret.Reveal())
	for _, k := range c.More {
		add(k.Reveal())
	}
	headers, _ := c.headerSecrets()
	for _, s := range headers {
		add(s)
	}
	return all
}

// Mask does as Backend.Mask does, for texts about a provider that is not asked.
func (c *Config) Mask(text string) string { return (&Backend{secrets: secretsOf(*c)}).Mask(text) }
