package upstream

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-json"
	"github.com/rs/zerolog"
)

// What is at stake: a key in a log, an error or a dashboard is a key lost.
func TestSecretNeverPrints(t *testing.T) {
	const text = "sk-live-0123456789"
	s := NewSecret(text)
	if s.Reveal() != text || s.IsZero() {
		t.Fatalf("Reveal gave %q, IsZero %v", s.Reveal(), s.IsZero())
	}
	cfg := Config{ID: "p", Key: s, Auth: Auth{Secret: s}, TLS: TLS{Passphrase: s}}
	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s", "%t"} {
		for _, v := range []any{s, &s, cfg, &cfg, []Secret{s}, map[string]Secret{"a": s}, struct{ S any }{s}} {
			out = append(out, fmt.Sprintf(verb, v))
		}
	}
	out = append(out, s.String(), s.GoString(), fmt.Errorf("key %v: %w", s, errors.New("refused")).Error())
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, stdjson.Marshal} {
		for _, v := range []any{s, &s, cfg, &cfg, map[string]any{"key": s}} {
			b, err := marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(b))
		}
	}
	var log bytes.Buffer
	logger := zerolog.New(&log)
	logger.Info().Interface("cfg", cfg).Any("key", s).Stringer("s", s).Msg("m")
	out = append(out, log.String())
	hex := fmt.Sprintf("%x", text)
	for _, o := range out {
		if strings.Contains(o, "0123456789") || strings.Contains(strings.ToLower(o), hex[:12]) {
			t.Errorf("printed the credential: %s", o)
		}
		if !strings.Contains(o, secretMask) && !strings.Contains(o, "0x") {
			t.Errorf("no %s in %s", secretMask, o)
		}
	}
	if got := (Secret{}).String(); got != secretMask {
		t.Errorf("zero Secret: got %q, want %q", got, secretMask)
	}
}
